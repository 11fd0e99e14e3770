//! Inputs that reach far, and those that once found something, run for ever: `resources/exchange-NAME.bin`.

mod fuzz {
    pub(crate) mod exchange;
}

use proptest::prelude::*;
use std::fs;
use std::path::Path;

#[test]
fn exchange() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/resources");
    let mut replayed = 0;
    for entry in fs::read_dir(&folder).expect("tests/resources") {
        let path = entry.expect("an entry of tests/resources").path();
        let input = fs::read(&path).expect("a resource");
        println!("{}: {} bytes", path.display(), input.len());
        for len in 0..=input.len() {
            fuzz::exchange::run(&input[..len]);
        }
        replayed += 1;
    }
    assert!(replayed > 0, "no resource");
}

proptest! {
    #[test]
    fn arbitrary_bytes(choice: u8, bytes in prop::collection::vec(any::<u8>(), 0..800)) {
        fuzz::exchange::run(&[&[choice][..], &bytes].concat());
    }

    /// Options of any kind behind a sound fixed part.
    #[test]
    fn arbitrary_options(rich: bool, options in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..20)), 0..20), kind in 0u8..10) {
        let mut bytes = vec![1 | if rich { 2 } else { 0 }];
        bytes.resize(1 + packet::dhcp::LEN, 0);
        bytes.extend([53, 1, kind]);
        for (code, value) in options {
            bytes.extend([code, value.len() as u8]);
            bytes.extend(value);
        }
        fuzz::exchange::run(&bytes);
    }
}
