//! Taking a lab away: processes, namespaces (and with them links), pins, files. Works from what is found, not from
//! what was remembered, so a run that was killed at any point leaves nothing behind.

use crate::names::{self, Names};
use crate::process;
use crate::state::State;
use anyhow::Context as _;
use netlink::Netns;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::path::Path;

/// Removes everything of one lab. A lab that is not there is no error: the answer says whether there was anything.
///
/// # Errors
/// The first thing that can't be removed; what could be removed is.
pub fn down(lab: &str) -> anyhow::Result<bool> {
    let names = Names::new(lab);
    let spaces = names.existing_netns();
    let found = !spaces.is_empty() || names.dir().exists() || names.pins().exists();
    kill_remembered(&names);
    let mut outcome = process::kill_inside(&spaces);
    for space in &spaces {
        outcome = outcome.and(Netns::delete(space).map_err(Into::into));
    }
    outcome = outcome.and(remove(&names.pins()));
    outcome.and(remove(&names.dir()))?;
    for parent in [names::PINS, names::LABS] {
        // Fails, as it should, while another lab is there.
        let _ = fs::remove_dir(parent);
    }
    Ok(found)
}

/// Removes every lab of this machine. Answers their names.
///
/// # Errors
/// As [`down`], after trying all of them.
pub fn down_all() -> anyhow::Result<Vec<String>> {
    let labs = names::labs();
    let mut outcome = Ok(());
    for lab in &labs {
        outcome = outcome.and(down(lab).map(drop));
    }
    outcome.map(|()| labs)
}

/// A process that was started for the lab may have left its namespaces; its start time proves that it is ours.
fn kill_remembered(names: &Names) {
    let Ok(state) = State::load(names) else { return };
    for process in state.processes.iter().filter(|process| process.is_running()) {
        // Gone in between is what we want.
        let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
