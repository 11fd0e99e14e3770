//! The binary `nanboku`: controller, agent, lab and command line in one.
//!
//! Everything that reads or changes the cluster goes through the controller's HTTP API, as any Neutron client
//! would; only `port plug` and the local part of `status` talk to the agent of this host. Exit codes: 0 done,
//! 1 failed, 2 wrong usage.

mod answers;
mod body;
mod cli;
mod client;
mod clouds;
mod command;
mod login;
mod nearest;
mod output;
mod resource;

use clap::Parser as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// The command line itself was wrong in a way that only shows after parsing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    start_tracing(cli.command.is_daemon());
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was installed already");
    }
    match command::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("nanboku: {}", sentence(&error));
            if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

/// Logs go to standard error; `NANBOKU_LOG` (or `RUST_LOG`) chooses what, daemons say more by default.
fn start_tracing(daemon: bool) {
    let default = if daemon { "info" } else { "warn" };
    let chosen = std::env::var("NANBOKU_LOG").or_else(|_| std::env::var("RUST_LOG"));
    let filter =
        EnvFilter::try_new(chosen.as_deref().unwrap_or(default)).unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

/// The whole chain of causes in one line, without repeating what a cause says again.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
