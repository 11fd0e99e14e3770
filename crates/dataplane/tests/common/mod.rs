//! Namespaces, pin directories and small table sets for the tests that need root.
#![expect(unreachable_pub, reason = "a module of several test binaries")]

use netlink::Netns;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

fn unique(title: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("nbk-dptest-{}-{}-{title}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A namespace that is deleted when the test ends, however it ends.
pub struct Scratch(pub Netns);

impl Scratch {
    pub fn new(title: &str) -> Self {
        let netns = Netns::create(&unique(title)).expect("create a namespace (root needed)");
        // No packets but the test's: IPv6 would announce itself on every new link.
        for scope in ["all", "default"] {
            netns.sysctl(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "1").unwrap();
        }
        Self(netns)
    }

    /// Runs `ip` inside; the arguments are separated by spaces.
    pub fn ip(&self, arguments: &str) {
        let status = self.0.run(|| Command::new("ip").args(arguments.split(' ')).status()).unwrap().unwrap();
        assert!(status.success(), "ip {arguments}");
    }

    pub fn index(&self, link: &str) -> u32 {
        self.0.run(|| nix::net::if_::if_nametoindex(link)).unwrap().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(Netns::delete(self.0.name()));
    }
}

/// A directory of pins that is removed when the test ends.
pub struct Pins(pub PathBuf);

impl Pins {
    pub fn new(title: &str) -> Self {
        Self(PathBuf::from("/sys/fs/bpf").join(unique(title)))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
