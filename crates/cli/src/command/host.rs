//! `nanboku host`.

use crate::output::Column;
use crate::resource::{AGENT, Context, HOST, OneArgs};
use clap::Subcommand;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// List hosts: tunnel address, DVR MAC, physical networks, liveness.
    List,
    /// Show one host.
    Show(OneArgs),
    /// Take a host out of service as a gateway, without losing a packet; its VMs stay.
    Drain(OneArgs),
    /// Put a drained host back into service.
    Undrain(OneArgs),
}

const COLUMNS: &[Column] = &[
    Column::plain("name", "name"),
    Column::plain("vtep", "vtep"),
    Column::plain("dvr mac", "dvr_mac"),
    Column { header: "physical networks", key: "physical_networks", text: Some(words) },
    Column::plain("live", "live"),
    Column::plain("drained", "drained"),
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
        HostCommand::Drain(args) => drain(cx, &args, true).await,
        HostCommand::Undrain(args) => drain(cx, &args, false).await,
    }
}

/// A drained host is what Neutron calls an agent with `admin_state_up` false.
async fn drain(cx: &Context, args: &OneArgs, drained: bool) -> anyhow::Result<String> {
    let id = cx.client.find_id(&HOST, args.name()).await?;
    let body = json!({"agent": {"admin_state_up": !drained}});
    cx.client.update(&AGENT, &id, &body).await?;
    cx.show(&HOST, args).await
}
