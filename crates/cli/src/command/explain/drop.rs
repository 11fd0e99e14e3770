//! `nanboku explain drop REASON`: what a drop reason means, and where it happened how often.

use crate::nearest;
use crate::output::{Format, table};
use crate::resource::{Context, HOST};
use anyhow::bail;
use clap::Args;
use pipeline::{Reason, Stage};
use serde_json::{Value, json};

#[derive(Args, Debug)]
pub(crate) struct DropArgs {
    /// As counters and traces name it, for example snat-disabled.
    reason: String,
}

pub(crate) async fn run(args: DropArgs, cx: &Context) -> anyhow::Result<String> {
    let wanted = args.reason.rsplit('.').next().unwrap_or_default();
    let Some(reason) = Reason::ALL.iter().find(|reason| reason.name() == wanted) else {
        let names: Vec<String> = Reason::ALL.iter().map(|reason| reason.name().to_owned()).collect();
        bail!(
            "there is no drop reason '{wanted}'.{} See docs/drop-reasons.md.",
            nearest::hint(wanted, &names)
        );
    };
    let hosts = cx.client.list(&HOST, &[]).await?;
    let rows: Vec<(String, Stage, u64)> = hosts.iter().flat_map(|host| counted(host, *reason)).collect();
    if cx.output.format != Format::Table {
        let counters = rows
            .iter()
            .map(|(host, stage, drops)| json!({"host": host, "stage": stage.name(), "drops": drops}));
        let counters: Vec<Value> = counters.collect();
        let answer = json!({"reason": wanted, "sentence": reason.sentence(), "counters": counters});
        return Ok(cx.output.show(&answer));
    }
    let mut page = format!("{wanted}: {}\n", reason.sentence());
    if rows.is_empty() {
        page += "No host has dropped a packet for it.\n";
    } else {
        let cells = rows.iter().map(|(host, stage, drops)| {
            vec![host.clone(), stage.name().to_owned(), drops.to_string(), stage.sentence().to_owned()]
        });
        page = format!("{page}\n{}", table(&["host", "stage", "drops", "what the stage does"], cells));
    }
    Ok(page)
}

/// The stages of a host that dropped for a reason.
fn counted(host: &Value, reason: Reason) -> Vec<(String, Stage, u64)> {
    let name = host.get("name").and_then(Value::as_str).unwrap_or_default();
    let drops = |stage: &Stage| {
        let counter = format!("drop.{}.{}", stage.name(), reason.name());
        let drops = host.get("counters")?.get(&counter)?.as_u64()?;
        Some((name.to_owned(), *stage, drops))
    };
    Stage::ALL.iter().filter_map(drops).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_counted_by_host_and_stage() {
        let host = json!({"name": "ahv01", "counters": {
            "drop.snat.snat-disabled": 3, "drop.route.no-route": 7, "in-port": 10,
        }});
        assert_eq!(counted(&host, Reason::SnatDisabled), [("ahv01".to_owned(), Stage::Snat, 3)]);
        assert_eq!(counted(&host, Reason::TooBig), []);
    }
}
