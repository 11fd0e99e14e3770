//! Keeps the processors awake while figures are measured.
//!
//! A virtual processor that sleeps is woken by its hypervisor, which takes longer than a packet's whole way:
//! whoever lets the receiver sleep more often, for being done sooner, would seem slower. So each processor has
//! a process that runs when nothing else wants to.

use anyhow::Context as _;
use std::process::{Child, Command};
use std::thread;

/// Processors stay awake until this is dropped.
#[derive(Debug)]
pub(crate) struct Awake(Vec<Child>);

impl Awake {
    pub(crate) fn keep() -> anyhow::Result<Self> {
        let processors = thread::available_parallelism()?.get();
        let mut awake = Self(Vec::new());
        for processor in 0..processors {
            let child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "chrt", "--idle", "0", "taskset", "--cpu-list"])
                .arg(processor.to_string())
                .args(["sh", "-c", "while :; do :; done"])
                .spawn()
                .context("cannot run setpriv, chrt and taskset of util-linux")?;
            awake.0.push(child);
        }
        Ok(awake)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
