//! `nanboku host`.

use crate::output::Column;
use crate::resource::{Context, HOST, OneArgs};
use clap::Subcommand;
use serde_json::Value;

#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// List hosts: tunnel address, DVR MAC, physical networks, liveness.
    List,
    /// Show one host.
    Show(OneArgs),
}

const COLUMNS: &[Column] = &[
    Column::plain("name", "name"),
    Column::plain("vtep", "vtep"),
    Column::plain("dvr mac", "dvr_mac"),
    Column { header: "physical networks", key: "physical_networks", text: words },
    Column::plain("live", "live"),
    Column::plain("revision", "programmed_revision"),
    Column::plain("version", "version"),
];

fn words(value: &Value) -> String {
    crate::output::text_of(value).replace('\n', " ")
}

pub(crate) async fn run(command: HostCommand, cx: &Context) -> anyhow::Result<String> {
    match command {
        HostCommand::List => Ok(cx.output.list(COLUMNS, &cx.client.list(&HOST, &[]).await?)),
        HostCommand::Show(args) => cx.show(&HOST, &args).await,
    }
}
