//! `make demo` keeps its word: every claim of both scenarios is proved, and nothing is left.

use std::path::Path;
use std::process::Command;

const NANBOKU: &str = env!("CARGO_BIN_EXE_nanboku");
const LABS: &[&str] = &["demo-fvn", "demo-dvr"];

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

#[test]
fn root_the_demo_proves_every_claim_and_leaves_nothing() {
    assert!(is_root(), "needs root: network namespaces and eBPF");
    let output = Command::new(NANBOKU).arg("demo").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("NOT PROVED"), "{said}\n{complained}");
    for claim in [
        "the outside sees blue-3 as 172.22.7.27",
        "frames to the outside are tagged VLAN 2207",
        "VMs on two hosts talk through the tunnel",
        "a floating IP works at once when attached",
        "two VPCs with equal addresses never meet",
        "the router is on every host",
        "Three commands to try:",
    ] {
        assert!(said.contains(claim), "'{claim}' is missing in\n{said}");
    }
    for lab in LABS {
        assert!(!Path::new("/run/nanboku/lab").join(lab).exists(), "{lab} is left");
        assert!(!Path::new("/sys/fs/bpf/nanboku/lab").join(lab).exists(), "pins of {lab} are left");
        let spaces = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let left =
            spaces.filter(|space| space.file_name().to_string_lossy().starts_with(&format!("nbk-{lab}.")));
        assert_eq!(left.count(), 0, "namespaces of {lab} are left");
    }
}
