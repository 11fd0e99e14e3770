//! `nanboku sessions`.

use crate::output::Column;
use crate::resource::Context;
use clap::Args;
use serde_json::Value;

#[derive(Args, Debug)]
pub(crate) struct SessionsArgs {
    /// Only sessions on this host.
    #[arg(long)]
    host: Option<String>,
    /// Rows per host at most.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: Option<u32>,
}

const COLUMNS: &[Column] = &[
    Column::plain("host", "host"),
    Column::plain("network", "network"),
    Column::plain("proto", "protocol"),
    Column::plain("source", "src"),
    Column::plain("destination", "dst"),
    Column::plain("nat", "nat"),
    Column::plain("source outside", "translated_src"),
    Column::plain("destination inside", "translated_dst"),
    Column::plain("state", "state"),
    Column { header: "age", key: "age_ms", text: seconds },
    Column { header: "idle", key: "idle_ms", text: seconds },
    Column::plain("packets", "forward_packets"),
    Column::plain("bytes", "forward_bytes"),
    Column::plain("reply packets", "reply_packets"),
    Column::plain("reply bytes", "reply_bytes"),
    Column::plain("out", "forward_output"),
    Column::plain("reply out", "reply_output"),
];

fn seconds(value: &Value) -> String {
    value.as_u64().map_or("-".to_owned(), |ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100))
}

pub(crate) async fn run(args: SessionsArgs, cx: &Context) -> anyhow::Result<String> {
    let limit = args.limit.map(|limit| limit.to_string());
    let mut query = Vec::new();
    query.extend(args.host.as_deref().map(|host| ("host", host)));
    query.extend(limit.as_deref().map(|limit| ("limit", limit)));
    let answer = cx.client.get("/nanboku/v1/sessions", &query).await?;
    let rows = answer.get("sessions").and_then(Value::as_array).cloned().unwrap_or_default();
    Ok(cx.output.list(COLUMNS, &rows))
}
