//! Inputs that reach far, and those that once found something, run for ever: `resources/exchange-NAME.bin`, of DHCPv6
//! `resources/v6-NAME.bin`.

mod fuzz {
    pub(crate) mod exchange;
    pub(crate) mod v6;
}

use proptest::prelude::*;
use std::fs;
use std::path::Path;

#[test]
fn exchange() {
    replay("exchange-", fuzz::exchange::run);
}

#[test]
fn exchange_v6() {
    replay("v6-", fuzz::v6::run);
}

fn replay(prefix: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/resources");
    let mut replayed = 0;
    for entry in fs::read_dir(&folder).expect("tests/resources") {
        let path = entry.expect("an entry of tests/resources").path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)) {
            continue;
        }
        let input = fs::read(&path).expect("a resource");
        println!("{}: {} bytes", path.display(), input.len());
        for len in 0..=input.len() {
            run(&input[..len]);
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

    #[test]
    fn arbitrary_bytes_v6(choice: u8, bytes in prop::collection::vec(any::<u8>(), 0..800)) {
        fuzz::v6::run(&[&[choice][..], &bytes].concat());
    }

    #[test]
    fn arbitrary_options_v6(choice: u8, kind in 0u8..14, options in prop::collection::vec((0u16..40, prop::collection::vec(any::<u8>(), 0..40)), 0..12)) {
        let mut bytes = vec![choice | 1, kind, 1, 2, 3];
        for (code, value) in options {
            bytes.extend(code.to_be_bytes());
            bytes.extend((value.len() as u16).to_be_bytes());
            bytes.extend(value);
        }
        fuzz::v6::run(&bytes);
    }
}
