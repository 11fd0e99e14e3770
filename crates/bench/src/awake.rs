//! Keeps the processors awake while figures are measured.
//!
//! A virtual processor that sleeps is woken by its hypervisor, which takes longer than a packet's whole way:
//! whoever lets the receiver sleep more often, for being done sooner, would seem slower. Where the kernel can, a
//! processor with nothing to do polls for work (`haltpoll`), as bare metal waits for a store to memory; elsewhere
//! each processor has a process that runs when nothing else wants to, and waking it costs an interrupt.

use anyhow::Context as _;
use std::fs;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

/// Parameters of the idle governor, and what they are while processors stay awake: at once, for up to a
/// millisecond (nanoseconds), and without becoming shorter. Documentation/virt/guest-halt-polling.rst of Linux.
const HALTPOLL: &str = "/sys/module/haltpoll/parameters";
const POLLING: [(&str, &str); 3] = [
    ("guest_halt_poll_allow_shrink", "N"),
    ("guest_halt_poll_grow_start", "1000000"),
    ("guest_halt_poll_ns", "1000000"),
];

/// Processors stay awake until this is dropped, or its process ends.
#[derive(Debug)]
pub(crate) struct Awake {
    /// With input: puts things back when that ends, which no death of this process prevents.
    keepers: Vec<(Child, Option<ChildStdin>)>,
}

impl Awake {
    pub(crate) fn keep() -> anyhow::Result<Self> {
        let keepers = if Path::new(HALTPOLL).exists() { vec![polling()?] } else { busy()? };
        Ok(Self { keepers })
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        for (child, input) in &mut self.keepers {
            match input.take() {
                Some(input) => drop(input),
                None => drop(child.kill()),
            }
            drop(child.wait());
        }
    }
}

/// Lets idle processors poll; the child puts the parameters back.
fn polling() -> anyhow::Result<(Child, Option<ChildStdin>)> {
    let mut restore = "trap '' INT TERM HUP; cat >/dev/null".to_owned();
    for (name, _) in POLLING {
        let path = format!("{HALTPOLL}/{name}");
        let before = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        restore.push_str(&format!("; echo {} >{path}", before.trim()));
    }
    let mut child = Command::new("sh")
        .args(["-c", &restore])
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run sh, which puts the parameters of haltpoll back")?;
    let input = child.stdin.take();
    for (name, value) in POLLING {
        let path = format!("{HALTPOLL}/{name}");
        fs::write(&path, value).with_context(|| format!("cannot write {path}"))?;
    }
    Ok((child, input))
}

/// Something to do for every processor.
fn busy() -> anyhow::Result<Vec<(Child, Option<ChildStdin>)>> {
    let processors = thread::available_parallelism()?.get();
    (0..processors)
        .map(|processor| {
            let child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "chrt", "--idle", "0", "taskset", "--cpu-list"])
                .arg(processor.to_string())
                .args(["sh", "-c", "while :; do :; done"])
                .spawn()
                .context("cannot run setpriv, chrt and taskset of util-linux")?;
            Ok((child, None))
        })
        .collect()
}
