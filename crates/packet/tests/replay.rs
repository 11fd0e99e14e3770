//! Inputs that once found something, and a few that reach far, run for ever: `resources/TARGET-NAME.bin`.

mod fuzz {
    pub(crate) mod compose;
    pub(crate) mod headers;
}

use std::fs;
use std::path::Path;

/// Runs `body` on every resource of a fuzz target, and on each of their beginnings.
fn replay(target: &str, body: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/resources");
    let mut replayed = 0;
    for entry in fs::read_dir(&folder).expect("tests/resources") {
        let path = entry.expect("an entry of tests/resources").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8").to_owned();
        if name.starts_with(&format!("{target}-")) && name.ends_with(".bin") {
            let input = fs::read(&path).expect("a resource");
            println!("{name}: {} bytes", input.len());
            for len in 0..=input.len() {
                body(&input[..len]);
            }
            replayed += 1;
        }
    }
    assert!(replayed > 0, "no resource of {target}");
}

#[test]
fn headers() {
    replay("headers", fuzz::headers::run);
}

#[test]
fn compose() {
    replay("compose", fuzz::compose::run);
}
