//! `nanboku completion SHELL`.

use crate::cli::Cli;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

#[derive(Args, Debug)]
pub(crate) struct CompletionArgs {
    /// For bash: `source <(nanboku completion bash)`.
    shell: Shell,
}

pub(crate) fn run(args: CompletionArgs) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "nanboku", &mut script);
    super::print(&String::from_utf8_lossy(&script));
}
