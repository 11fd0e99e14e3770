//! Inputs of the pipeline's fuzz target that once found something, and a few that reach far, run for ever:
//! `resources/pipeline-NAME.bin`.

mod fuzz {
    pub(crate) mod pipeline;
}

use std::fs;
use std::path::Path;

#[test]
fn pipeline() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/resources");
    let mut replayed = 0;
    for entry in fs::read_dir(&folder).expect("tests/resources") {
        let path = entry.expect("an entry of tests/resources").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8").to_owned();
        if name.starts_with("pipeline-") && name.ends_with(".bin") {
            let input = fs::read(&path).expect("a resource");
            println!("{name}: {} bytes", input.len());
            fuzz::pipeline::run(&input);
            replayed += 1;
        }
    }
    assert!(replayed > 0, "no resource of the pipeline");
}
