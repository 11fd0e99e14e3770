//! `nanboku explain`: answers to questions about what was or is on the wire.

mod drop;
mod gateway;
mod reach;

use crate::output::{Column, Format, Output};
use crate::resource::Context;
use clap::{Args, Subcommand};
use serde_json::Value;
use std::net::SocketAddrV4;

#[derive(Debug, Subcommand)]
pub(crate) enum ExplainCommand {
    /// Who is behind an external address and port, or was at a time in the past.
    Who(WhoArgs),
    /// What keeps A from reaching B, and the command that would change it.
    Reach(reach::ReachArgs),
    /// Which host answers for an external address, why that one, and what would change it.
    Gateway(gateway::GatewayArgs),
    /// What a drop reason means, and where it happened how often.
    Drop(drop::DropArgs),
}

#[derive(Args, Debug)]
pub(crate) struct WhoArgs {
    /// The endpoint as the outside saw it.
    #[arg(value_name = "IP:PORT")]
    outside: SocketAddrV4,
    /// When, as RFC 3339 (2026-11-22T07:00:00Z): asks the NAT log. Without it: now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

const HOLDERS: &[Column] = &[
    Column::plain("external network", "external_network"),
    Column::plain("first port", "first_port"),
    Column::plain("last port", "last_port"),
    Column::plain("router", "router"),
    Column::plain("project", "project_id"),
    Column::plain("host", "host"),
    Column::plain("since", "since"),
    Column { header: "until", key: "until", text: Some(until) },
];

const SESSIONS: &[Column] = &[
    Column::plain("port", "port"),
    Column::plain("device", "device_id"),
    Column::plain("proto", "protocol"),
    Column::plain("source", "src"),
    Column::plain("destination", "translated_dst"),
    Column::plain("state", "state"),
];

const FLOATING_IPS: &[Column] = &[
    Column::plain("floating ip", "id"),
    Column::plain("project", "project_id"),
    Column::plain("port id", "port_id"),
    Column::plain("fixed address", "fixed_address"),
    Column::plain("host", "host"),
];

fn until(value: &Value) -> String {
    value.as_str().unwrap_or("now").to_owned()
}

pub(crate) async fn run(command: ExplainCommand, cx: &Context) -> anyhow::Result<String> {
    match command {
        ExplainCommand::Who(args) => who(args, cx).await,
        ExplainCommand::Reach(args) => reach::run(args, cx).await,
        ExplainCommand::Gateway(args) => gateway::run(args, cx).await,
        ExplainCommand::Drop(args) => drop::run(args, cx).await,
    }
}

async fn who(WhoArgs { outside: endpoint, at }: WhoArgs, cx: &Context) -> anyhow::Result<String> {
    let (address, port) = (endpoint.ip().to_string(), endpoint.port().to_string());
    let mut query = vec![("address", address.as_str()), ("port", port.as_str())];
    query.extend(at.as_deref().map(|at| ("at", at)));
    let mut answer = cx.client.get("/nanboku/v1/who", &query).await?;
    let who = answer.get_mut("who").map(Value::take).unwrap_or(answer);
    Ok(told(endpoint, &who, &cx.output))
}

fn told(endpoint: SocketAddrV4, who: &Value, output: &Output) -> String {
    if output.format != Format::Table {
        return output.show(who);
    }
    let rows = |key: &str| who.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let parts = [("holders", HOLDERS), ("sessions", SESSIONS), ("floating_ips", FLOATING_IPS)];
    let parts = parts.map(|(key, columns)| (rows(key), columns));
    let tables = parts.iter().filter(|(rows, _)| !rows.is_empty());
    let page: Vec<String> = tables.map(|(rows, columns)| output.list(columns, rows)).collect();
    match (page.as_slice(), who.get("at").and_then(Value::as_str)) {
        ([], Some(at)) => format!("nobody had {endpoint} at {at}, as far as the NAT log goes back\n"),
        ([], None) => format!("nobody has {endpoint}\n"),
        _ => page.join("\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn holders_and_their_sessions_are_told_and_nobody_is_said_so() {
        let endpoint = "172.22.7.27:2050".parse().unwrap();
        let holder = json!({"external_network": "ext", "first_port": 2048, "last_port": 3071, "router": "blue",
            "project_id": "demo", "host": "ahv01", "since": "2026-11-22T07:00:00.000Z", "until": null});
        let session = json!({"port": "vm1", "device_id": "", "protocol": "tcp", "src": "192.168.10.11:4000",
            "translated_dst": "8.8.8.8:53", "state": "established"});
        let who = json!({"at": null, "holders": [holder], "sessions": [session], "floating_ips": []});
        let page = told(endpoint, &who, &Output::default());
        for word in ["ahv01", "blue", "demo", "2026-11-22T07:00:00.000Z", "now", "vm1", "192.168.10.11:4000"]
        {
            assert!(page.contains(word), "{word} is not in\n{page}");
        }
        assert!(!page.contains("floating"), "{page}");
        let nobody = |at: Value| told(endpoint, &json!({"at": at, "holders": []}), &Output::default());
        assert_eq!(nobody(Value::Null), "nobody has 172.22.7.27:2050\n");
        let said = nobody(json!("2026-11-22T07:00:00.000Z"));
        assert_eq!(
            said,
            "nobody had 172.22.7.27:2050 at 2026-11-22T07:00:00.000Z, as far as the NAT log goes back\n"
        );
    }
}
