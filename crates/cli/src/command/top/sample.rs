//! The numbers of one moment.

use super::state::Page;
use crate::client::Client;
use crate::resource::{BLOCK, HOST};
use serde_json::Value;
use std::collections::BTreeMap;

/// Connections looked at: the busiest are among them only if there are fewer.
const SESSIONS_MAX: &str = "20000";

/// Objects of the API by what names them, and their counters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    /// By page.
    pub(crate) rows: BTreeMap<Page, Vec<Row>>,
    /// Hosts that did not answer.
    pub(crate) silent: Vec<String>,
}

/// One line of a page.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// What it is, the same at the next look.
    pub(crate) key: String,
    /// Columns that are words.
    pub(crate) words: Vec<String>,
    /// Counters that only grow; shown as rates.
    pub(crate) counters: Vec<u64>,
    /// Numbers shown as they are.
    pub(crate) levels: Vec<u64>,
}

impl Sample {
    pub(crate) async fn fetch(client: &Client, page: Page) -> anyhow::Result<Self> {
        let mut sample = Self::default();
        match page {
            Page::Hosts | Page::Drops => {
                let hosts = client.list(&HOST, &[]).await?;
                sample.rows.insert(Page::Hosts, hosts.iter().map(host).collect());
                sample.rows.insert(Page::Drops, hosts.iter().flat_map(drops).collect());
            }
            Page::Ports => {
                let rows = sample.ask(client, "/nanboku/v1/port-counters", &[]).await?;
                sample.rows.insert(page, rows.iter().map(port).collect());
            }
            Page::Flows => {
                let limit = [("limit", SESSIONS_MAX)];
                let rows = sample.ask(client, "/nanboku/v1/sessions", &limit).await?;
                sample.rows.insert(page, rows.iter().map(flow).collect());
            }
            Page::Blocks => {
                let blocks = client.list(&BLOCK, &[]).await?;
                let hosts = client.list(&HOST, &[]).await?;
                sample.rows.insert(page, self::blocks(&blocks, &hosts));
            }
        }
        Ok(sample)
    }

    async fn ask(
        &mut self,
        client: &Client,
        path: &str,
        query: &[(&str, &str)],
    ) -> anyhow::Result<Vec<Value>> {
        let mut answers = client.answers(path, query).await?;
        let mut rows = Vec::new();
        while let Some(row) = answers.next().await? {
            rows.push(serde_json::from_slice(row)?);
        }
        self.silent = answers.silent().iter().map(ToString::to_string).collect();
        Ok(rows)
    }
}

fn text(row: &Value, key: &str) -> String {
    match row.get(key) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

fn number(row: &Value, key: &str) -> u64 {
    row.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn counter(host: &Value, name: &str) -> u64 {
    host.get("counters").map_or(0, |counters| number(counters, name))
}

fn host(host: &Value) -> Row {
    let sum = |names: &[&str]| names.iter().map(|name| counter(host, name)).sum();
    Row {
        key: text(host, "name"),
        words: vec![text(host, "name"), text(host, "live"), text(host, "vtep")],
        counters: vec![
            sum(&["in-port"]),
            sum(&["out-port"]),
            sum(&["in-tunnel-lone", "in-tunnel-device"]),
            sum(&["out-tunnel"]),
            sum(&["in-uplink"]),
            sum(&["out-uplink"]),
            sum(&["dropped"]),
            sum(&["punted"]),
        ],
        levels: vec![number(host, "nat_ports_used")],
    }
}

fn drops(host: &Value) -> Vec<Row> {
    let counters = host.get("counters").and_then(Value::as_object).into_iter().flatten();
    counters
        .filter_map(|(name, value)| {
            let (stage, reason) = name.strip_prefix("drop.")?.split_once('.')?;
            let all = pipeline::Reason::ALL;
            let sentence =
                all.iter().find(|known| known.name() == reason).map_or("", |known| known.sentence());
            Some(Row {
                key: format!("{} {name}", text(host, "name")),
                words: vec![text(host, "name"), stage.to_owned(), reason.to_owned(), sentence.to_owned()],
                counters: vec![value.as_u64()?],
                levels: vec![value.as_u64()?],
            })
        })
        .collect()
}

fn port(port: &Value) -> Row {
    Row {
        key: format!("{} {}", text(port, "host"), text(port, "link")),
        words: vec![text(port, "host"), text(port, "link"), text(port, "network"), text(port, "address")],
        counters: ["sent_packets", "sent_bytes", "delivered_packets", "delivered_bytes"]
            .map(|key| number(port, key))
            .to_vec(),
        levels: Vec::new(),
    }
}

fn flow(session: &Value) -> Row {
    let words = ["host", "network", "protocol", "src", "dst", "nat", "translated_src", "state"];
    Row {
        key: format!("{} {}", text(session, "host"), text(session, "id")),
        words: words.map(|key| text(session, key)).to_vec(),
        counters: ["forward_packets", "forward_bytes", "reply_packets", "reply_bytes"]
            .map(|key| number(session, key))
            .to_vec(),
        levels: Vec::new(),
    }
}

/// By host: blocks, their ports, and how many of those are used.
fn blocks(blocks: &[Value], hosts: &[Value]) -> Vec<Row> {
    let row = |host: &Value| {
        let name = text(host, "name");
        let own: Vec<&Value> = blocks.iter().filter(|block| text(block, "host") == name).collect();
        let ports: u64 = own.iter().map(|block| number(block, "ports")).sum();
        let used = number(host, "nat_ports_used");
        let retiring = own.iter().filter(|block| block.get("retiring") == Some(&Value::Bool(true))).count();
        Row {
            key: name.clone(),
            words: vec![name],
            counters: Vec::new(),
            levels: vec![
                own.len() as u64,
                retiring as u64,
                ports,
                used,
                (used * 100).checked_div(ports).unwrap_or(0),
            ],
        }
    };
    hosts.iter().map(row).filter(|row| row.levels.first() != Some(&0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_host_with_its_drops_and_blocks() {
        let host_1 = json!({
            "name": "ahv01", "live": true, "vtep": "10.1.0.1", "nat_ports_used": 512,
            "counters": {"in-port": 10, "in-tunnel-lone": 1, "in-tunnel-device": 2, "drop.route.no-route": 3}
        });
        let row = host(&host_1);
        assert_eq!((row.counters[0], row.counters[2], row.levels[0]), (10, 3, 512));
        let dropped = drops(&host_1);
        assert_eq!(dropped.len(), 1);
        assert_eq!(dropped[0].words[1..3], ["route", "no-route"]);
        assert!(dropped[0].words[3].contains("route"), "{:?}", dropped[0]);
        let granted = [
            json!({"host": "ahv01", "ports": 1024, "retiring": false}),
            json!({"host": "ahv01", "ports": 1024, "retiring": true}),
        ];
        let rows = blocks(&granted, &[host_1, json!({"name": "ahv02"})]);
        assert_eq!(rows.len(), 1, "hosts without blocks are left out");
        assert_eq!(rows[0].levels, [2, 1, 2048, 512, 25]);
    }
}
