//! `nanboku fdb`.

use super::sessions::seconds;
use crate::answers;
use crate::output::Column;
use crate::resource::{Context, NETWORK};
use clap::Args;

#[derive(Args, Debug)]
pub(crate) struct FdbArgs {
    /// Only what this host knows.
    #[arg(long)]
    host: Option<String>,
    /// Only this network.
    #[arg(long)]
    network: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column::plain("host", "host"),
    Column::plain("network", "network"),
    Column::plain("physical network", "physical_network"),
    Column::plain("vlan", "vlan"),
    Column::plain("mac", "mac"),
    Column::plain("where", "location"),
    Column { header: "age", key: "age_ms", text: seconds },
    Column::plain("known", "known"),
];

pub(crate) async fn run(args: FdbArgs, cx: &Context) -> anyhow::Result<String> {
    let network = cx.client.find_id_of(&NETWORK, args.network.as_deref()).await?;
    let mut query = Vec::new();
    query.extend(args.host.as_deref().map(|host| ("host", host)));
    query.extend(network.as_deref().map(|network| ("network_id", network)));
    let rows = answers::all(&cx.client, "/nanboku/v1/fdb", &query).await?;
    Ok(cx.output.list(COLUMNS, &rows))
}
