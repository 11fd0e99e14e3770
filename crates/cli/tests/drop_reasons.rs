//! `docs/drop-reasons.md` says what the code says: it is written from the pipeline's own lists.
//!
//! `NANBOKU_BLESS=1 cargo test -p nanboku --test drop_reasons` writes it anew; look at the difference before
//! committing it.

use pipeline::verdict::{Punt, Reason, Stage, Total};
use std::fmt::Write as _;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/drop-reasons.md");

fn section<T: Copy>(
    text: &mut String,
    title: &str,
    about: &str,
    rows: &[T],
    row: fn(T) -> (u8, &'static str, &'static str),
) {
    writeln!(text, "\n## {title}\n\n{about}\n\n| number | name | meaning |\n|---|---|---|").unwrap();
    for each in rows {
        let (number, name, sentence) = row(*each);
        writeln!(text, "| {number} | `{name}` | {sentence} |").unwrap();
    }
}

fn document() -> String {
    let mut text = String::from(
        "# Stages, drop reasons, punts and totals\n\n\
         Written by `cargo test -p nanboku --test drop_reasons` from `crates/pipeline/src/verdict.rs`; do not edit.\n\n\
         Every packet that Nanboku takes is counted once where it came in and once where it ended. For a host that is\n\
         not being reprogrammed the totals add up exactly:\n\n\
         ```\n\
         in-port + in-tunnel-lone + in-tunnel-device + in-uplink + in-service\n\
         \x20   = out-port + out-tunnel + out-uplink + out-host + punted + dropped\n\
         ```\n\n\
         and `dropped` is the sum of the drop counters, each named by the stage that decided and its reason.\n\
         `nanboku status` shows them. Numbers are never reused.\n",
    );
    section(&mut text, "Stages", "In the order of the walk.", Stage::ALL, |s| {
        (s as u8, s.name(), s.sentence())
    });
    section(&mut text, "Drop reasons", "Why a packet went no further.", Reason::ALL, |r| {
        (r as u8, r.name(), r.sentence())
    });
    section(
        &mut text,
        "Punts",
        "What the agent is asked to do with a packet that the kernel does not finish itself.",
        Punt::ALL,
        |p| (p as u8, p.name(), p.sentence()),
    );
    section(&mut text, "Totals", "Where packets came in and how they ended.", Total::ALL, |t| {
        (t as u8, t.name(), t.sentence())
    });
    text
}

#[test]
fn the_document_is_what_the_code_says() {
    let want = document();
    if std::env::var_os("NANBOKU_BLESS").is_some() {
        std::fs::write(PATH, &want).unwrap();
    }
    let have = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        have == want,
        "docs/drop-reasons.md is stale; write it anew with NANBOKU_BLESS=1 and review the difference"
    );
}

/// A reason that nobody can tell from another is of no use.
#[test]
fn names_and_sentences_are_unique() {
    fn unique(mut words: Vec<&str>) {
        let count = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), count, "{words:?}");
    }
    unique(Reason::ALL.iter().map(|reason| reason.name()).collect());
    unique(Reason::ALL.iter().map(|reason| reason.sentence()).collect());
    unique(Stage::ALL.iter().map(|stage| stage.name()).collect());
    unique(Punt::ALL.iter().map(|punt| punt.name()).collect());
    unique(Total::ALL.iter().map(|total| total.name()).collect());
}
