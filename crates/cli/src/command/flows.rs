//! `nanboku flows`: the entries of every stage with what they did, and what made them.

use super::sessions::seconds;
use crate::answers;
use crate::output::Column;
use crate::resource::Context;
use clap::{Args, builder::PossibleValuesParser};
use pipeline::verdict::Stage;
use serde_json::Value;

/// Packets and bytes are those of connections that an entry decided, alive and ended, as their host sees them; what is
/// forwarded without a connection (by gateways, for others) is in no entry's numbers: `not counted`.
#[derive(Args, Debug)]
pub(crate) struct FlowsArgs {
    /// Only what this host has.
    #[arg(long)]
    host: Option<String>,
    /// Only this stage.
    #[arg(long, value_parser = PossibleValuesParser::new(Stage::ALL.iter().map(|stage| stage.name())))]
    stage: Option<String>,
    /// Only entries of this table.
    #[arg(long)]
    table: Option<String>,
    /// Only entries that never hit.
    #[arg(long, conflicts_with = "hit")]
    never: bool,
    /// Only entries that hit.
    #[arg(long)]
    hit: bool,
}

const COLUMNS: &[Column] = &[
    Column::plain("host", "host"),
    Column::plain("stage", "stage"),
    Column::plain("table", "table"),
    Column::plain("rule", "rule"),
    Column::plain("action", "action"),
    Column::plain("hits", "hits"),
    Column::plain("sessions", "sessions"),
    Column::plain("packets", "packets"),
    Column::plain("bytes", "bytes"),
    Column { header: "idle", key: "idle_ms", text: Some(seconds) },
    Column::plain("made by", "object_kind"),
    Column::plain("object", "object"),
    Column::plain("why", "why"),
];

pub(crate) async fn run(args: FlowsArgs, cx: &Context) -> anyhow::Result<String> {
    let mut query = Vec::new();
    query.extend(args.host.as_deref().map(|host| ("host", host)));
    query.extend(args.stage.as_deref().map(|stage| ("stage", stage)));
    let mut rows = answers::all(&cx.client, "/nanboku/v1/flows", &query).await?;
    let is = |row: &Value, key: &str, wanted: &str| row.get(key).and_then(Value::as_str) == Some(wanted);
    rows.retain(|row| {
        args.table.as_deref().is_none_or(|table| is(row, "table", table))
            && (!args.never || is(row, "hits", "never"))
            && (!args.hit || is(row, "hits", "hit"))
    });
    Ok(cx.output.list(COLUMNS, &rows))
}
