//! `nanboku fdb` and `nanboku neighbors`: the MACs and the addresses that hosts know, and where they are.

use super::sessions::seconds;
use crate::answers;
use crate::output::Column;
use crate::resource::{Context, NETWORK};
use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct KnownArgs {
    /// Only what this host knows.
    #[arg(long)]
    host: Option<String>,
    /// Only this network.
    #[arg(long)]
    network: Option<String>,
}

const WHERE_ON: [Column; 4] = [
    Column::plain("host", "host"),
    Column::plain("network", "network"),
    Column::plain("physical network", "physical_network"),
    Column::plain("vlan", "vlan"),
];
const HOW: [Column; 4] = [
    Column::plain("mac", "mac"),
    Column::plain("where", "location"),
    Column { header: "age", key: "age_ms", text: Some(seconds) },
    Column::plain("known", "known"),
];

pub(crate) async fn fdb(args: KnownArgs, cx: &Context) -> anyhow::Result<String> {
    list(args, cx, "/nanboku/v1/fdb", &[]).await
}

pub(crate) async fn neighbors(args: KnownArgs, cx: &Context) -> anyhow::Result<String> {
    list(args, cx, "/nanboku/v1/neighbors", &[Column::plain("address", "address")]).await
}

/// `own`: the columns that only this list has.
async fn list(args: KnownArgs, cx: &Context, path: &str, own: &[Column]) -> anyhow::Result<String> {
    let network = cx.client.find_id_of(&NETWORK, args.network.as_deref()).await?;
    let mut query = Vec::new();
    query.extend(args.host.as_deref().map(|host| ("host", host)));
    query.extend(network.as_deref().map(|network| ("network_id", network)));
    let rows = answers::all(&cx.client, path, &query).await?;
    Ok(cx.output.list(&[&WHERE_ON, own, &HOW].concat(), &rows))
}
