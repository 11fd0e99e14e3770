//! `nanboku status`: hosts and what they counted, by way of the controller, or of this host's agent alone.
//!
//! Counters come with the pipeline's names (`in-port`, `drop.route.no-route`, `punt.ttl-exceeded`). Whether in =
//! out + dropped + punted is computed here, from the same numbers that are shown.

use crate::cli::Global;
use crate::output::{Format, Output, table, text_of};
use crate::resource::HOST;
use anyhow::ensure;
use clap::Args;
use pipeline::verdict::{Punt, Reason, Stage, Total};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Ways in; every other total is a way out.
const WAYS_IN: &[Total] =
    &[Total::InPort, Total::InTunnelLone, Total::InTunnelDevice, Total::InUplink, Total::InService];

#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Ask the agent of this host instead of the controller; also works without one.
    #[arg(long)]
    local: bool,
    /// Control socket of this host's agent.
    #[arg(long = "agent-socket", value_name = "PATH", env = "NANBOKU_AGENT_SOCKET", default_value = super::port::AGENT_SOCKET_DEFAULT)]
    agent_socket: PathBuf,
    /// Only this host.
    #[arg(long, conflicts_with = "local")]
    host: Option<String>,
}

/// Why an agent refuses BFD that came to its tunnel address; what the program refused before is among the drops.
const REFUSALS: [(&str, &str); 4] = [
    ("unknown-sender", "From no host that this one watches."),
    ("ttl", "From more than one hop away."),
    ("malformed", "Not a control packet."),
    ("other-session", "For another session: a peer that has not noticed a restart, or a forgery."),
];

type Counters = BTreeMap<String, u64>;

pub(crate) async fn run(args: StatusArgs, global: &Global) -> anyhow::Result<String> {
    let output = global.output();
    if args.local {
        let status = super::port::local_status(&args.agent_socket)?;
        return Ok(local(&status, &output));
    }
    let client = super::client(global)?;
    let mut hosts = client.list(&HOST, &[]).await?;
    if let Some(wanted) = &args.host {
        hosts.retain(|host| text(host, "name") == wanted || text(host, "id") == wanted);
        ensure!(!hosts.is_empty(), "there is no host '{wanted}'. See `nanboku host list`.");
    }
    let mut answer = client.get("/nanboku/v1/status", &[]).await?;
    let cluster = answer.get_mut("status").map(Value::take).unwrap_or(answer);
    Ok(cluster_status(&cluster, hosts, &output))
}

/// The controller's view: the cluster, and its hosts with their counters.
fn cluster_status(cluster: &Value, mut hosts: Vec<Value>, output: &Output) -> String {
    for host in &mut hosts {
        let balanced = balance(&counters_of(host)).is_some_and(|balance| balance.holds());
        if let Value::Object(fields) = host {
            fields.insert("balanced".to_owned(), json!(balanced));
        }
    }
    if output.format != Format::Table {
        let all = !hosts.is_empty() && hosts.iter().all(|host| host.get("balanced") == Some(&json!(true)));
        return output.show(&json!({"cluster": cluster, "hosts": hosts, "balanced": all}));
    }
    let mut page = scalars(cluster);
    let headers = ["host", "live", "programmed", "in", "out", "dropped", "punted", "balanced"];
    page = format!("{page}\n{}", table(&headers, hosts.iter().map(host_row)));
    let mut sum = Counters::new();
    for (name, value) in hosts.iter().flat_map(counters_of) {
        *sum.entry(name).or_default() += value;
    }
    page + &details(&sum)
}

/// The agent's view.
fn local(status: &Value, output: &Output) -> String {
    let counters = counters_of(status);
    let balanced = balance(&counters).is_some_and(|balance| balance.holds());
    let mut status = status.clone();
    if let Value::Object(fields) = &mut status {
        fields.insert("balanced".to_owned(), json!(balanced));
    }
    if output.format != Format::Table {
        return output.show(&status);
    }
    let mut page = scalars(&status);
    for (title, key) in [("warnings", "warnings"), ("problems", "problems")] {
        for line in status.get(key).and_then(Value::as_array).into_iter().flatten() {
            writeln_to(&mut page, &format!("{title}: {}", text_of(line)));
        }
    }
    for key in ["ports", "uplinks", "peers", "neighbors"] {
        page += &objects(status.get(key).unwrap_or(&Value::Null));
    }
    page + &details(&counters)
}

/// A list of like objects as a table; nothing if there are none.
fn objects(list: &Value) -> String {
    let rows: Vec<&Map<String, Value>> =
        list.as_array().into_iter().flatten().filter_map(Value::as_object).collect();
    let Some(first) = rows.first() else { return String::new() };
    let headers: Vec<&str> = first.keys().map(String::as_str).collect();
    let cell = |row: &Map<String, Value>, key: &str| text_of(row.get(key).unwrap_or(&Value::Null));
    let cells = rows.iter().map(|row| headers.iter().map(|key| cell(row, key)).collect());
    format!("\n{}", table(&headers, cells))
}

/// Attributes that are one word, as a table.
fn scalars(status: &Value) -> String {
    let empty = Map::new();
    let fields = status.as_object().unwrap_or(&empty);
    let single = fields.iter().filter(|(_, value)| !value.is_array() && !value.is_object());
    table(&["field", "value"], single.map(|(key, value)| vec![key.clone(), text_of(value)]))
}

fn host_row(host: &Value) -> Vec<String> {
    let sums = balance(&counters_of(host));
    let number =
        |pick: fn(&Balance) -> u64| sums.as_ref().map_or("-".to_owned(), |sums| pick(sums).to_string());
    let shown = |key| text_of(host.get(key).unwrap_or(&Value::Null));
    vec![
        shown("name"),
        shown("live"),
        shown("programmed_revision"),
        number(|sums| sums.came_in),
        number(|sums| sums.went_out),
        number(|sums| sums.dropped),
        number(|sums| sums.punted),
        shown("balanced"),
    ]
}

/// Totals, drops by reason and punts, those that are not 0, with the sentence of each.
fn details(counters: &Counters) -> String {
    let count = |name: &str| counters.get(name).copied().unwrap_or(0);
    let totals = Total::ALL.iter().map(|total| (count(total.name()), total.name(), total.sentence()));
    let mut page = section("packets", totals);
    let mut drops: Vec<(u64, String, &str)> = Vec::new();
    for stage in Stage::ALL {
        for reason in Reason::ALL {
            let name = format!("{}.{}", stage.name(), reason.name());
            drops.push((count(&format!("drop.{name}")), name, reason.sentence()));
        }
    }
    drops.sort_by_key(|drop| std::cmp::Reverse(drop.0));
    page += &section(
        "drops (stage.reason)",
        drops.iter().map(|(count, name, says)| (*count, name.as_str(), *says)),
    );
    let punts =
        Punt::ALL.iter().map(|punt| (count(&format!("punt.{}", punt.name())), punt.name(), punt.sentence()));
    page += &section("punts", punts);
    let refused =
        REFUSALS.iter().map(|(name, sentence)| (count(&format!("bfd.refused.{name}")), *name, *sentence));
    page + &section("BFD packets refused", refused)
}

fn section<'a>(title: &str, rows: impl Iterator<Item = (u64, &'a str, &'a str)>) -> String {
    let rows: Vec<Vec<String>> = rows
        .filter(|(count, ..)| *count != 0)
        .map(|(count, name, sentence)| vec![name.to_owned(), count.to_string(), sentence.to_owned()])
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!("\n{}", table(&[title, "count", "meaning"], rows.into_iter()))
}

fn writeln_to(page: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _infallible = writeln!(page, "{line}");
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn counters_of(host: &Value) -> Counters {
    let fields = host.get("counters").and_then(Value::as_object).into_iter().flatten();
    fields.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?))).collect()
}

/// The sums that must agree.
#[derive(Debug, PartialEq, Eq)]
struct Balance {
    came_in: u64,
    went_out: u64,
    dropped: u64,
    punted: u64,
    /// Sum of the drop counters: must be `dropped`.
    drop_reasons: u64,
}

impl Balance {
    fn holds(&self) -> bool {
        self.came_in == self.went_out + self.dropped + self.punted && self.dropped == self.drop_reasons
    }
}

/// `None` if the host has not reported yet.
fn balance(counters: &Counters) -> Option<Balance> {
    let total = |total: &Total| counters.get(total.name()).copied();
    let mut sums = Balance { came_in: 0, went_out: 0, dropped: 0, punted: 0, drop_reasons: 0 };
    for each in Total::ALL {
        let count = total(each)?;
        let sum = match each {
            Total::Dropped => &mut sums.dropped,
            Total::Punted => &mut sums.punted,
            _ if WAYS_IN.contains(each) => &mut sums.came_in,
            _ => &mut sums.went_out,
        };
        *sum += count;
    }
    sums.drop_reasons =
        counters.iter().filter(|(name, _)| name.starts_with("drop.")).map(|(_, value)| value).sum();
    Some(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(dropped: u64) -> Value {
        json!({
            "name": "ahv01", "live": true, "programmed_revision": 12,
            "counters": {
                "in-port": 10, "in-tunnel-lone": 3, "in-tunnel-device": 0, "in-uplink": 2, "in-service": 0,
                "out-port": 4, "out-tunnel": 5, "out-uplink": 1, "out-host": 1,
                "punted": 2, "dropped": dropped,
                "drop.snat.ports-exhausted": 2, "punt.prohibited": 2,
            }
        })
    }

    fn output(format: Format) -> Output {
        Output { format, columns: Vec::new() }
    }

    #[test]
    fn conservation_is_computed_from_what_is_shown() {
        let balance = balance(&counters_of(&host(2))).unwrap();
        assert_eq!(balance, Balance { came_in: 15, went_out: 11, dropped: 2, punted: 2, drop_reasons: 2 });
        assert!(balance.holds());
        assert!(!super::balance(&counters_of(&host(3))).unwrap().holds(), "a packet too many");
        assert_eq!(super::balance(&counters_of(&json!({"counters": {}}))), None, "not reported");
    }

    #[test]
    fn the_local_view_lists_ports_and_what_is_wrong() {
        let mut status = host(2);
        status["ports"] = json!([{"link": "tap1", "programmed": true}]);
        status["warnings"] = json!(["no uplink"]);
        let page = local(&status, &output(Format::Table));
        for want in [
            "balanced             true",
            "warnings: no uplink",
            "LINK  PROGRAMMED\ntap1  true",
            "ports-exhausted",
        ] {
            assert!(page.contains(want), "want '{want}' in\n{page}");
        }
    }

    #[test]
    fn a_cluster_is_balanced_if_every_host_is() {
        for (hosts, want) in [(vec![host(2)], true), (vec![host(2), host(3)], false), (vec![], false)] {
            let text = cluster_status(&json!({"revision": 12}), hosts, &output(Format::Json));
            let status: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(status["balanced"], json!(want));
        }
    }

    #[test]
    fn drops_are_shown_with_their_sentence() {
        let page = cluster_status(&json!({"revision": 12}), vec![host(2)], &output(Format::Table));
        for want in [
            "revision  12",
            "ahv01  true  12          15  11   2        2       true",
            "snat.ports-exhausted  2      No free external port was found in this host's blocks.",
            "prohibited  2      Tell the sender that no resource or rule lets it out (ICMP 3/13, ICMPv6 1/1).",
        ] {
            assert!(page.contains(want), "want '{want}' in\n{page}");
        }
        assert!(!page.contains("no-route"), "a counter of 0 is not shown:\n{page}");
    }
}
