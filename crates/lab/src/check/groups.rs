//! Security groups at work: one VM gets groups of its own for a while, and what its rules do not allow stays outside
//! from one moment to the next. Runs alone, because everything else expects that VM to be open.

use super::probe::{REACH, SILENCE, nonce, tcp, udp};
use super::station::{ECHO_PORT, Station};
use super::{Bench, Check};
use crate::api::{Api, text};
use crate::plan::Index;
use crate::plan::rule::Rule;
use crate::resources::groups;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::time::Instant;

/// One check, if there are two VMs that reach one another; on two hosts if there are such.
pub(super) fn checks(bench: &Arc<Bench>) -> Vec<Check> {
    let vms = &bench.plan.vms;
    let all = (0..vms.len()).flat_map(|a| (0..vms.len()).map(move |b| (a, b)));
    let pairs = all.filter(|(a, b)| a != b && bench.plan.same_vpc(&vms[*a], &vms[*b]));
    let Some((a, b)) = pairs.max_by_key(|(a, b)| vms[*a].host != vms[*b].host) else { return Vec::new() };
    let name = format!("security groups of {}: what {} may send", vms[b].name, vms[a].name);
    let bench = Arc::clone(bench);
    vec![Check::new(name, async move {
        let api = Api::new(&bench.names).map_err(display)?;
        let path =
            |vm: Index| Some(format!("/v2.0/ports/{}", bench.state.ports.get(&bench.plan.vms[vm].name)?.id));
        let (Some(from), Some(to)) = (path(a), path(b)) else { return Err("a VM has no port".to_owned()) };
        let before = [groups_of(&api, &from).await?, groups_of(&api, &to).await?];
        let mut made = Vec::new();
        let seen = filtered(&api, [&from, &to], [&bench.vms[a], &bench.vms[b]], &mut made).await;
        for (port, groups) in [from, to].iter().zip(&before) {
            set_groups(&api, port, groups).await?;
        }
        for group in made {
            api.delete(&format!("/v2.0/security-groups/{group}")).await.map_err(display)?;
        }
        seen?;
        udp(&bench.vms[a], bench.vms[b].address, &nonce(), REACH).await?;
        Ok("nothing without a rule; UDP by its port, TCP by the sender's group, until the rule is gone"
            .to_owned())
    })]
}

/// The course of the check; `made`: groups to delete afterwards.
async fn filtered(
    api: &Api,
    [from_port, to_port]: [&str; 2],
    [from, to]: [&Station; 2],
    made: &mut Vec<String>,
) -> Result<(), String> {
    for (name, port) in [("lab-check-receiver", to_port), ("lab-check-sender", from_port)] {
        let group = groups::group(api, name, true).await.map_err(display)?;
        made.push(group.clone());
        if port == to_port {
            set_groups(api, port, &json!([group])).await?;
        }
    }
    let [receiver, sender] = &made[..] else { return Err("two groups were made".to_owned()) };
    refused(from, to, "without a rule").await?;
    let by_port =
        rule(api, receiver, &format!("ingress udp {ECHO_PORT} from {}/32", from.address), sender).await?;
    udp(from, to.address, &nonce(), REACH).await.map_err(|e| format!("with a rule for its port: {e}"))?;
    if tcp(from, to.address, &nonce(), SILENCE).await.is_ok() {
        return Err("TCP arrives by a rule for UDP".to_owned());
    }
    api.delete(&format!("/v2.0/security-group-rules/{by_port}")).await.map_err(display)?;
    refused(from, to, "after its rule is gone").await?;
    rule(api, receiver, &format!("ingress tcp {ECHO_PORT} from group sender"), sender).await?;
    if tcp(from, to.address, &nonce(), SILENCE).await.is_ok() {
        return Err("TCP arrives from a VM that is not in the rule's group".to_owned());
    }
    rule(api, sender, "egress any to any", sender).await?;
    set_groups(api, from_port, &json!([sender])).await?;
    tcp(from, to.address, &nonce(), REACH).await.map_err(|e| format!("from a member of the group: {e}"))?;
    Ok(())
}

/// Nothing arrives, a moment after the change at the latest.
async fn refused(from: &Station, to: &Station, when: &str) -> Result<(), String> {
    let deadline = Instant::now() + REACH;
    while udp(from, to.address, &nonce(), SILENCE).await.is_ok() {
        if Instant::now() > deadline {
            return Err(format!("UDP still arrives {when}"));
        }
    }
    match tcp(from, to.address, &nonce(), SILENCE).await {
        Ok(_) => Err(format!("TCP arrives {when}")),
        Err(_) => Ok(()),
    }
}

async fn rule(api: &Api, group: &str, words: &str, remote: &str) -> Result<String, String> {
    let rule: Rule = words.parse()?;
    groups::add(api, &rule.body(group, |_| Some(remote.to_owned()))).await.map_err(display)
}

async fn groups_of(api: &Api, port: &str) -> Result<Value, String> {
    let answer = api.get(port).await.map_err(display)?;
    text(&answer["port"], "id").map_err(display)?;
    Ok(answer["port"]["security_groups"].clone())
}

async fn set_groups(api: &Api, port: &str, groups: &Value) -> Result<(), String> {
    let body = json!({ "port": { "security_groups": groups } });
    api.put(port, &body).await.map(drop).map_err(display)
}

fn display(error: anyhow::Error) -> String {
    format!("{error:#}")
}
