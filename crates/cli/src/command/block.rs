//! `nanboku block`.

use crate::output::{Column, text_of};
use crate::resource::{BLOCK, Context};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::net::Ipv4Addr;

#[derive(Debug, Subcommand)]
pub(crate) enum BlockCommand {
    /// List port blocks: which host translates a router's VMs to which ports.
    List(ListArgs),
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only blocks of this router (name or id).
    #[arg(long)]
    router: Option<String>,
    /// Only blocks of this host (name or id).
    #[arg(long)]
    host: Option<String>,
    /// Only blocks of this external address.
    #[arg(long, value_name = "IP")]
    address: Option<Ipv4Addr>,
}

const COLUMNS: &[Column] = &[
    Column::plain("address", "address"),
    Column::plain("first port", "first_port"),
    Column::plain("last port", "last_port"),
    Column::plain("router", "router"),
    Column::plain("host", "host"),
    Column { header: "age", key: "age_seconds", text: Some(age) },
    Column { header: "retiring", key: "retiring", text: Some(yes) },
];

fn yes(value: &Value) -> String {
    if value.as_bool() == Some(true) { "yes".to_owned() } else { String::new() }
}

/// The two largest units.
fn age(value: &Value) -> String {
    let Some(seconds) = value.as_u64() else { return "-".to_owned() };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

pub(crate) async fn run(command: BlockCommand, cx: &Context) -> anyhow::Result<String> {
    let BlockCommand::List(args) = command;
    let mut rows = cx.client.list(&BLOCK, &[]).await?;
    rows.retain(|row| args.keeps(row));
    Ok(cx.output.list(COLUMNS, &rows))
}

impl ListArgs {
    fn keeps(&self, row: &Value) -> bool {
        let is = |key: &str, wanted: &str| row.get(key).is_some_and(|value| text_of(value) == wanted);
        let named = |wanted: &Option<String>, name: &str, id: &str| {
            wanted.as_ref().is_none_or(|wanted| is(name, wanted) || is(id, wanted))
        };
        named(&self.router, "router", "router_id")
            && named(&self.host, "host", "host_id")
            && self.address.is_none_or(|address| is("address", &address.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_age_has_two_units() {
        let cases = [(59, "59 s"), (61, "1 min 1 s"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")];
        for (seconds, want) in cases {
            assert_eq!(age(&json!(seconds)), want);
        }
        assert_eq!(age(&Value::Null), "-");
    }

    #[test]
    fn blocks_are_chosen_by_name_id_and_address() {
        let row = json!({"router": "blue", "router_id": "r1", "host": "ahv01", "host_id": "h1", "address": "172.22.7.27"});
        let args = |router: Option<&str>, host: Option<&str>, address: Option<&str>| ListArgs {
            router: router.map(str::to_owned),
            host: host.map(str::to_owned),
            address: address.map(|address| address.parse().unwrap()),
        };
        assert!(args(None, None, None).keeps(&row));
        assert!(args(Some("blue"), Some("h1"), Some("172.22.7.27")).keeps(&row));
        assert!(!args(Some("red"), None, None).keeps(&row));
        assert!(!args(None, Some("ahv02"), None).keeps(&row));
        assert!(!args(None, None, Some("172.22.7.28")).keeps(&row));
    }
}
