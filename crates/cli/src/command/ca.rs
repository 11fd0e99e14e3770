//! `nanboku ca`: the certificates that controller and agents know one another by.

use clap::{Args, Subcommand};
use controller::ca::Issued;
use std::path::PathBuf;
use time::OffsetDateTime;

#[derive(Debug, Subcommand)]
pub(crate) enum CaCommand {
    /// Make a certificate authority in a directory.
    Init(InitArgs),
    /// Issue a certificate for the controller or for a host.
    Issue(IssueArgs),
}

#[derive(Args, Debug)]
pub(crate) struct InitArgs {
    /// Made if missing.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct IssueArgs {
    /// The host's name as its agent is configured, or any name for the controller.
    name: String,
    /// Further DNS names or addresses that clients reach it by; may be repeated. The controller needs the one
    /// that agents connect to.
    #[arg(long = "san", value_name = "NAME")]
    subject_names: Vec<String>,
    /// Where the authority is.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

pub(crate) fn run(command: CaCommand) -> anyhow::Result<()> {
    let now = OffsetDateTime::now_utc();
    let issued = match command {
        CaCommand::Init(args) => controller::ca::init(&args.dir, now)?,
        CaCommand::Issue(args) => controller::ca::issue(&args.dir, &args.name, &args.subject_names, now)?,
    };
    super::print(&said(&issued));
    Ok(())
}

fn said(Issued { certificate, key }: &Issued) -> String {
    format!("{}\n{}\n", certificate.display(), key.display())
}
