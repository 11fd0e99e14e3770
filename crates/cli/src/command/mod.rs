//! The commands: one file per noun, all with the same skeleton: arguments, then `run`.

pub(crate) mod addressgroup;
pub(crate) mod agent;
pub(crate) mod block;
pub(crate) mod ca;
pub(crate) mod capture;
pub(crate) mod completion;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod floatingip;
pub(crate) mod flows;
pub(crate) mod host;
pub(crate) mod known;
pub(crate) mod lab;
pub(crate) mod meteringlabel;
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod rbac;
pub(crate) mod router;
pub(crate) mod securitygroup;
pub(crate) mod server;
pub(crate) mod sessions;
pub(crate) mod status;
pub(crate) mod subnet;
pub(crate) mod top;
pub(crate) mod trace;

use crate::cli::{Cli, Command, Global};
use crate::client::Client;
use crate::resource::Context;
use anyhow::Context as _;
use std::process::ExitCode;

/// Runs a command to its end and prints what it answers.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let global = &cli.global;
    match cli.command {
        Command::Completion(args) => completion::run(args),
        Command::Lab(command) => return lab::run(command, global),
        Command::Demo(args) => return demo::run(args),
        Command::Server(args) => block_on(server::run(args))?,
        Command::Agent(args) => block_on(agent::run(args))?,
        Command::Ca(command) => ca::run(command)?,
        Command::Status(args) => print(&block_on(status::run(args, global))?),
        Command::Network(command) => api(global, |cx| async move { network::run(command, &cx).await })?,
        Command::Subnet(command) => api(global, |cx| async move { subnet::run(command, &cx).await })?,
        Command::Port(command) => api(global, |cx| async move { port::run(command, &cx).await })?,
        Command::Router(command) => api(global, |cx| async move { router::run(command, &cx).await })?,
        Command::FloatingIp(command) => api(global, |cx| async move { floatingip::run(command, &cx).await })?,
        Command::SecurityGroup(command) => {
            api(global, |cx| async move { securitygroup::run(command, &cx).await })?;
        }
        Command::AddressGroup(command) => {
            api(global, |cx| async move { addressgroup::run(command, &cx).await })?;
        }
        Command::MeteringLabel(command) => {
            api(global, |cx| async move { meteringlabel::run(command, &cx).await })?;
        }
        Command::Rbac(command) => api(global, |cx| async move { rbac::run(command, &cx).await })?,
        Command::Host(command) => api(global, |cx| async move { host::run(command, &cx).await })?,
        Command::Block(command) => api(global, |cx| async move { block::run(command, &cx).await })?,
        Command::Trace(args) => api(global, |cx| async move { trace::run(args, &cx).await })?,
        Command::Capture(args) => api(global, |cx| async move { capture::run(args, &cx).await })?,
        Command::Explain(command) => api(global, |cx| async move { explain::run(command, &cx).await })?,
        Command::Fdb(args) => api(global, |cx| async move { known::fdb(args, &cx).await })?,
        Command::Flows(args) => api(global, |cx| async move { flows::run(args, &cx).await })?,
        Command::Top(args) => api(global, |cx| async move { top::run(args, &cx).await })?,
        Command::Neighbors(args) => api(global, |cx| async move { known::neighbors(args, &cx).await })?,
        Command::Sessions(args) => api(global, |cx| async move { sessions::run(args, &cx).await })?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command of the API and prints its answer.
fn api<F>(global: &Global, command: impl FnOnce(Context) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<String>>,
{
    let context = Context { client: client(global)?, output: global.output() };
    print(&block_on(command(context))?);
    Ok(())
}

/// The client of the lab or endpoint that was named.
pub(crate) fn client(global: &Global) -> anyhow::Result<Client> {
    match &global.lab_name {
        Some(name) => Client::of_lab(name),
        None => Client::new(global.access()?),
    }
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(future)
}

/// Prints to standard output; a reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
        tracing::debug!("standard output is closed");
    }
}
