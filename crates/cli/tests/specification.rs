//! `SPECIFICATION.md` names the test behind each promise; every named test exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Names of all functions in the Rust files below a directory.
fn functions(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

/// Rows of the tables, as (promise, last column).
fn rows(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .filter(|line| {
            line.starts_with("| ") && !["| promise", "| # |"].iter().any(|head| line.starts_with(head))
        })
        .filter_map(|line| {
            let mut columns = line.trim_matches('|').split('|').map(str::trim);
            Some((columns.next()?, columns.next_back()?))
        })
        .collect()
}

#[test]
fn every_promise_names_tests_that_exist() {
    let text = fs::read_to_string(Path::new(ROOT).join("SPECIFICATION.md")).unwrap();
    let mut known = BTreeSet::new();
    functions(&Path::new(ROOT).join("crates"), &mut known);
    let rows = rows(&text);
    assert!(rows.len() > 20, "the tables were not read: {} rows", rows.len());
    for (promise, proof) in rows {
        let names: Vec<&str> =
            proof.split('`').skip(1).step_by(2).filter(|name| !name.contains([' ', '/'])).collect();
        let commands = ["`make ", "`lab check`", "`scripts/"].iter().any(|command| proof.contains(command));
        assert!(!names.is_empty() || commands, "nothing proves '{promise}'");
        for name in names {
            assert!(known.contains(name), "'{promise}' names a test that does not exist: {name}");
        }
    }
}
