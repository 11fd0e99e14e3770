//! Tools of other authors, run inside a namespace.

use netlink::Netns;
use std::process::{Command, Stdio};

/// What the tool printed, also if it exits with another code than 0. Blocks.
///
/// # Errors
/// It is not installed; a sentence.
pub(super) fn run(netns: &Netns, tool: &str, args: &[&str]) -> Result<String, String> {
    let work = || Command::new(tool).args(args).stdin(Stdio::null()).env("LC_ALL", "C").output();
    let output = netns.run(work).map_err(|error| error.to_string())?;
    let output = output.map_err(|error| format!("cannot run {tool} ({error}); scripts/setup installs it"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
