//! `nanboku lab`.

mod fault;
mod hostile;

use crate::cli::Global;
use crate::output::{Column, Format, Output};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum LabCommand {
    /// Bring a lab up: its hosts, controller, agents, networks and VMs.
    Up(UpArgs),
    /// Take labs down; nothing of them is left.
    Down(DownArgs),
    /// Prove what follows from the lab's file: who reaches whom, and who must not.
    Check(CheckArgs),
    /// Let something happen to a gateway while sessions and probes pass, and tell what it cost.
    Fault(fault::FaultArgs),
    /// Let a VM flood its host in several ways while another one works, and tell whether that was hurt.
    Hostile(hostile::HostileArgs),
    /// Run a command on a machine of the lab: a VM, a host, a machine outside, or the controller's.
    Exec(ExecArgs),
    /// List the labs that are up.
    List,
    /// The network card of a tap VM.
    #[command(hide = true)]
    Guest(GuestArgs),
}

#[derive(Args, Debug)]
pub(crate) struct UpArgs {
    /// A lab file, or one of fvn, dvr, four, faults.
    file: String,
    /// Another name than the file's, so that one file can be up several times.
    #[arg(long)]
    name: Option<String>,
    /// Another encapsulation than the file's: geneve or vxlan.
    #[arg(long, value_name = "PROTOCOL")]
    tunnel: Option<::lab::Tunnel>,
    /// Without checksum and segmentation offloads on any link.
    #[arg(long)]
    no_offloads: bool,
    /// Machines alone, and a controller with users: networks, ports and all else are yours to make. `lab exec` logs in.
    #[arg(long)]
    bare: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DownArgs {
    /// Names or files; the only lab that is up if not given.
    names: Vec<String>,
    /// Every lab of this machine.
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// Name or file; the only lab that is up if not given.
    name: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ExecArgs {
    /// The machine; of which lab is said by --lab if several are up.
    machine: String,
    /// The command with its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// See `lab::GuestArgs`, which makes this command line.
#[derive(Args, Debug)]
pub(crate) struct GuestArgs {
    #[arg(long)]
    host_netns: String,
    #[arg(long)]
    host_link: String,
    #[arg(long)]
    guest_link: String,
    #[arg(long)]
    no_offloads: bool,
}

const COLUMNS: &[Column] = &[
    Column::plain("name", "name"),
    Column::plain("status", "status"),
    Column::plain("hosts", "hosts"),
    Column::plain("vms", "vms"),
    Column::plain("processes", "processes"),
];

const CHECK_COLUMNS: &[Column] = &[
    Column { header: "result", key: "ok", text: Some(verdict) },
    Column::plain("check", "name"),
    Column::plain("detail", "detail"),
];

fn verdict(ok: &Value) -> String {
    if ok.as_bool() == Some(true) { "ok" } else { "FAILED" }.to_owned()
}

pub(crate) fn run(command: LabCommand, global: &Global) -> anyhow::Result<ExitCode> {
    match command {
        LabCommand::Up(args) => up(&args)?,
        LabCommand::Down(args) => down(&args, global)?,
        LabCommand::Check(args) => return check(&args, global),
        LabCommand::Fault(args) => return fault::run(&args, global),
        LabCommand::Hostile(args) => return hostile::run(&args, global),
        LabCommand::Exec(args) => {
            match ::lab::exec(global.lab_name.as_deref(), &args.machine, &args.command)? {}
        }
        LabCommand::List => super::print(&list(&global.output())?),
        LabCommand::Guest(args) => guest(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn up(args: &UpArgs) -> anyhow::Result<()> {
    let overrides = ::lab::Overrides {
        name: args.name.clone(),
        tunnel: args.tunnel,
        offloads: args.no_offloads.then_some(false),
        bare: args.bare,
    };
    let summary = super::block_on(::lab::up(&args.file, &overrides))?;
    super::print(&format!(
        "lab {} is up: {} hosts, {} VMs, {} floating IPs\n",
        summary.name, summary.hosts, summary.vms, summary.floating_ips
    ));
    Ok(())
}

fn down(args: &DownArgs, global: &Global) -> anyhow::Result<()> {
    let names = match (args.all, args.names.as_slice()) {
        (true, _) => ::lab::down_all()?,
        (false, []) => vec![only(global)?],
        (false, given) => given.iter().map(|name| lab_name(name)).collect::<anyhow::Result<_>>()?,
    };
    for name in names {
        let found = ::lab::down(&name)? || args.all;
        super::print(&if found {
            format!("lab {name} is down\n")
        } else {
            format!("there was nothing of a lab {name}\n")
        });
    }
    Ok(())
}

fn list(output: &Output) -> anyhow::Result<String> {
    let rows: Vec<Value> = ::lab::list().iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
    Ok(output.list(COLUMNS, &rows))
}

fn guest(args: GuestArgs) -> anyhow::Result<()> {
    let GuestArgs { host_netns, host_link, guest_link, no_offloads } = args;
    ::lab::guest(&::lab::GuestArgs { host_netns, host_link, guest_link, offloads: !no_offloads })
}

/// The lab named by `--lab`, or the only one.
fn only(global: &Global) -> anyhow::Result<String> {
    if let Some(name) = &global.lab_name {
        return Ok(name.clone());
    }
    let mut labs: Vec<String> = ::lab::list().into_iter().map(|lab| lab.name).collect();
    match labs.len() {
        0 => bail!("no lab is up; start one with `nanboku lab up FILE|fvn|dvr`"),
        1 => Ok(labs.remove(0)),
        _ => bail!("several labs are up ({}); say which one", labs.join(", ")),
    }
}

/// The name of a lab that is given by its name or by its file.
fn lab_name(given: &str) -> anyhow::Result<String> {
    if !Path::new(given).is_file() {
        return Ok(given.to_owned());
    }
    let text = std::fs::read_to_string(given).with_context(|| format!("cannot read {given}"))?;
    Ok(::lab::plan::Plan::parse(&text, &::lab::Overrides::default())?.name)
}

/// The lab named by an argument, or by `--lab`.
fn given(name: Option<&str>, global: &Global) -> anyhow::Result<Option<String>> {
    name.map_or_else(|| Ok(global.lab_name.clone()), |name| lab_name(name).map(Some))
}

fn check(args: &CheckArgs, global: &Global) -> anyhow::Result<ExitCode> {
    let name = given(args.name.as_deref(), global)?;
    let checks = super::block_on(::lab::check(name.as_deref()))?;
    let rows: Vec<Value> = checks.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
    super::print(&global.output().list(CHECK_COLUMNS, &rows));
    let failed = checks.iter().filter(|check| !check.ok).count();
    if global.output == Format::Table {
        super::print(&format!("{} checks, {failed} failed\n", checks.len()));
    }
    // A file from which nothing follows proves nothing.
    Ok(if failed == 0 && !checks.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
