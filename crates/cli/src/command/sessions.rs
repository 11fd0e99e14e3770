//! `nanboku sessions`: connections as the hosts see them now, and ending them.
//!
//! Rows are printed as they come and not kept, except to sort them: then only as many as are shown.

use crate::Usage;
use crate::answers::Answers;
use crate::client::Query;
use crate::output::{Column, RowWriter};
use crate::resource::{Context, NETWORK, PORT, ROUTER};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::cmp::Ordering;
use std::time::Duration;

/// Rows shown of a sorted list unless `--limit` says otherwise.
const SORTED_ROWS: usize = 1000;
const PATH: &str = "/nanboku/v1/sessions";

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct SessionsArgs {
    #[command(subcommand)]
    command: Option<SessionsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// End connections: by id, or all that match. Their next packet is judged as the first of a new one.
    Delete(DeleteArgs),
}

#[derive(Args, Debug)]
struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Rows shown at most.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Sort by this column, the largest first; `:asc` behind it: the smallest first.
    #[arg(long, value_name = "COLUMN[:asc]")]
    sort: Option<String>,
    /// Show it again every so many seconds until interrupted.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

#[derive(Args, Debug)]
struct DeleteArgs {
    /// Ids, as the list shows them.
    ids: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Needed: what is cut, is cut.
    #[arg(long, short)]
    yes: bool,
}

/// Which sessions.
#[derive(Args, Debug, Default)]
struct FilterArgs {
    /// Only what this host sees.
    #[arg(long)]
    host: Option<String>,
    /// A port (name or id) at either end.
    #[arg(long)]
    port: Option<String>,
    /// Through this router.
    #[arg(long)]
    router: Option<String>,
    /// On this network.
    #[arg(long)]
    network: Option<String>,
    /// At either end, before or after translation: an address, a prefix, or ADDRESS:PORT
    /// ([ADDRESS]:PORT of IPv6).
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// icmp, icmpv6, tcp, udp or a number.
    #[arg(long)]
    protocol: Option<String>,
    /// transitory, established or closed (TCP); active (others).
    #[arg(long)]
    state: Option<String>,
    /// any, none, snat, floating or dnat.
    #[arg(long)]
    nat: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column::plain("host", "host"),
    Column::plain("peer", "peer_host"),
    Column::plain("network", "network"),
    Column::plain("router", "router"),
    Column::plain("proto", "protocol"),
    Column::plain("source", "src"),
    Column::plain("destination", "dst"),
    Column::plain("nat", "nat"),
    Column::plain("source outside", "translated_src"),
    Column::plain("destination inside", "translated_dst"),
    Column::plain("state", "state"),
    Column { header: "age", key: "age_ms", text: Some(seconds) },
    Column { header: "idle", key: "idle_ms", text: Some(seconds) },
    Column { header: "timeout", key: "timeout_ms", text: Some(seconds) },
    Column::plain("packets", "forward_packets"),
    Column::plain("bytes", "forward_bytes"),
    Column::plain("reply packets", "reply_packets"),
    Column::plain("reply bytes", "reply_bytes"),
    Column::plain("out", "forward_output"),
    Column::plain("reply out", "reply_output"),
    Column::plain("id", "id"),
];

/// Milliseconds as seconds with one decimal.
pub(crate) fn seconds(value: &Value) -> String {
    let Some(ms) = value.as_u64() else { return "-".to_owned() };
    // Without `format!`: there are three of these in each of a million rows.
    let mut text = (ms / 1000).to_string();
    text.push('.');
    text.push(char::from(b'0' + (ms % 1000 / 100) as u8));
    text.push_str(" s");
    text
}

pub(crate) async fn run(args: SessionsArgs, cx: &Context) -> anyhow::Result<String> {
    if let Some(SessionsCommand::Delete(args)) = args.command {
        return delete(&args, cx).await;
    }
    let list = args.list;
    let mut query = list.filter.query(cx).await?;
    let order = list.sort.as_deref().map(Order::parse).transpose()?;
    if let (Some(limit), None) = (list.limit, &order) {
        query.push(("limit", limit.to_string()));
    }
    loop {
        if list.watch.is_some() {
            // Home, and clear to the end: less flicker than clearing first.
            super::print("\x1b[H\x1b[J");
        }
        show(cx, &query, order.as_ref(), list.limit).await?;
        let Some(pause) = list.watch else { return Ok(String::new()) };
        tokio::time::sleep(Duration::from_secs(pause)).await;
    }
}

impl FilterArgs {
    /// As the API wants it: names become ids.
    async fn query(&self, cx: &Context) -> anyhow::Result<Query> {
        let mut query = Query::new();
        let plain = [
            ("host", &self.host),
            ("address", &self.address),
            ("protocol", &self.protocol),
            ("state", &self.state),
            ("nat", &self.nat),
        ];
        for (key, value) in plain {
            query.extend(value.clone().map(|value| (key, value)));
        }
        let named = cx.client.ids_of([
            ("port_id", &PORT, &self.port),
            ("router_id", &ROUTER, &self.router),
            ("network_id", &NETWORK, &self.network),
        ]);
        query.extend(named.await?);
        Ok(query)
    }
}

fn lent<'a>(query: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    query.iter().map(|(key, value)| (*key, value.as_str())).collect()
}

/// One listing.
async fn show(
    cx: &Context,
    query: &[(&'static str, String)],
    order: Option<&Order>,
    limit: Option<u64>,
) -> anyhow::Result<()> {
    let mut answers = cx.client.answers(PATH, &lent(query)).await?;
    let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut writer = RowWriter::new(&cx.output, COLUMNS, std::io::stdout().lock());
    match order {
        None => pass_on(&mut answers, &mut writer, limit.unwrap_or(usize::MAX)).await?,
        Some(order) => {
            for row in sorted(&mut answers, order, limit.unwrap_or(SORTED_ROWS)).await? {
                // A reader that went away (`| head`) is no error, but the end.
                if writer.row(&row)?.is_break() {
                    break;
                }
            }
        }
    }
    if writer.finish().is_err() {
        tracing::debug!("standard output is closed");
    }
    answers.warn();
    Ok(())
}

async fn pass_on(
    answers: &mut Answers,
    writer: &mut RowWriter<'_, impl std::io::Write>,
    limit: usize,
) -> anyhow::Result<()> {
    let mut shown = 0;
    while shown < limit
        && let Some(row) = answers.next().await?
    {
        shown += 1;
        // As above.
        if writer.text_row(row)?.is_break() {
            break;
        }
    }
    Ok(())
}

/// The first `most` rows in that order.
async fn sorted(answers: &mut Answers, order: &Order, most: usize) -> anyhow::Result<Vec<Value>> {
    let mut rows: Vec<Value> = Vec::new();
    while let Some(row) = answers.next().await? {
        rows.push(serde_json::from_slice(row)?);
        if rows.len() >= most.saturating_mul(2).max(1024) {
            rows.sort_by(|a, b| order.compare(a, b));
            rows.truncate(most);
        }
    }
    rows.sort_by(|a, b| order.compare(a, b));
    rows.truncate(most);
    Ok(rows)
}

async fn delete(args: &DeleteArgs, cx: &Context) -> anyhow::Result<String> {
    let filter = args.filter.query(cx).await?;
    if args.ids.is_empty() && filter.is_empty() {
        return Err(
            Usage("which sessions to end is not said: give ids, or filters such as --port".into()).into()
        );
    }
    let mut queries = Vec::new();
    for id in &args.ids {
        queries.push([filter.clone(), vec![("id", id.clone())]].concat());
    }
    if queries.is_empty() {
        queries.push(filter);
    }
    let mut ended = 0_u64;
    for query in &queries {
        let mut answers = if args.yes {
            cx.client.delete_answers(PATH, &lent(query)).await?
        } else {
            cx.client.answers(PATH, &lent(query)).await?
        };
        let mut matching = 0;
        while answers.next().await?.is_some() {
            matching += 1;
        }
        answers.warn();
        if matching == 0 && !args.ids.is_empty() && answers.silent().is_empty() {
            anyhow::bail!("there is no such session: {}", lent(query).last().map_or("", |(_, id)| *id));
        }
        ended += matching;
    }
    if !args.yes {
        return Err(Usage(format!("this ends {ended} sessions; repeat the command with --yes")).into());
    }
    Ok(format!("{ended} sessions ended\n"))
}

/// By which column, and in which direction.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    key: &'static str,
    ascending: bool,
}

impl Order {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (name, direction) = text.split_once(':').unwrap_or((text, "desc"));
        let ascending = match direction {
            "asc" => true,
            "desc" => false,
            _ => return Err(Usage(format!("'{direction}' is no direction to sort in: asc or desc")).into()),
        };
        let column = COLUMNS.iter().find(|column| column.is_named(name));
        let column = column.ok_or_else(|| {
            let names: Vec<&str> = COLUMNS.iter().map(|column| column.key).collect();
            Usage(format!("there is no column '{name}' to sort by; there are {}", names.join(", ")))
        })?;
        Ok(Self { key: column.key, ascending })
    }

    fn compare(&self, a: &Value, b: &Value) -> Ordering {
        let (a, b) = (a.get(self.key), b.get(self.key));
        let numbers = (a.and_then(Value::as_u64), b.and_then(Value::as_u64));
        let order = match numbers {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.and_then(Value::as_str).cmp(&b.and_then(Value::as_str)),
        };
        if self.ascending { order } else { order.reverse() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_are_sorted_by_number_or_text() {
        let rows = [json!({"age_ms": 9, "src": "b"}), json!({"age_ms": 10, "src": "a"})];
        let first = |text: &str| {
            let order = Order::parse(text).unwrap();
            let mut rows = rows.to_vec();
            rows.sort_by(|a, b| order.compare(a, b));
            rows[0]["age_ms"].as_u64().unwrap()
        };
        assert_eq!((first("age"), first("age_ms:asc"), first("source:asc")), (10, 9, 10));
        assert!(Order::parse("colour").unwrap_err().to_string().contains("forward_bytes"));
        assert!(Order::parse("age:up").unwrap_err().to_string().contains("asc or desc"));
    }
}
