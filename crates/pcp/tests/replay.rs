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
    fn arbitrary_bytes(choice: u8, bytes in prop::collection::vec(any::<u8>(), 0..1300)) {
        fuzz::exchange::run(&[&[choice][..], &bytes].concat());
    }

    /// Behind a sound header of this client's, anything.
    #[test]
    fn arbitrary_bodies(opcode in 0u8..4, lifetime: u32, body in prop::collection::vec(any::<u8>(), 0..120)) {
        let mut bytes = vec![0, 2, opcode, 0, 0];
        bytes.extend(lifetime.to_be_bytes());
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 5]);
        bytes.extend(&body);
        fuzz::exchange::run(&bytes);
    }
}
