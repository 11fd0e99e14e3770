//! Security groups of a lab: the plan's, and one that allows everything.

use crate::api::{Api, text};
use crate::plan::rule::Rule;
use crate::plan::{Plan, Vm};
use anyhow::Context as _;
use serde_json::json;

const EVERYTHING: &str = "everything";

/// Ids of groups.
pub(crate) struct Groups {
    everything: String,
    /// In the order of the plan's.
    own: Vec<String>,
}

impl Groups {
    /// Of a VM's port.
    pub(crate) fn of(&self, vm: &Vm) -> Vec<&String> {
        match &vm.security_groups {
            Some(groups) => groups.iter().map(|index| &self.own[*index]).collect(),
            None => vec![&self.everything],
        }
    }
}

pub(crate) async fn create(plan: &Plan, api: &Api) -> anyhow::Result<Groups> {
    let everything = group(api, EVERYTHING, true).await?;
    for words in ["egress any to any", "ingress any from any"] {
        let rule: Rule = words.parse().map_err(anyhow::Error::msg)?;
        let mut body = rule.body(&everything, |_| None);
        add(api, &body).await?;
        body["ethertype"] = json!("IPv6");
        add(api, &body).await?;
    }
    let mut own = Vec::new();
    for planned in &plan.security_groups {
        own.push(group(api, &planned.name, planned.stateful).await?);
    }
    let id_of = |name: &str| {
        let index = plan.security_groups.iter().position(|group| group.name == name)?;
        own.get(index).cloned()
    };
    for (planned, id) in plan.security_groups.iter().zip(&own) {
        for rule in &planned.rules {
            let added = add(api, &rule.body(id, id_of)).await;
            added.with_context(|| format!("adding a rule to security group {}", planned.name))?;
        }
    }
    Ok(Groups { everything, own })
}

/// A group without the rules that every new one has.
pub(crate) async fn group(api: &Api, name: &str, stateful: bool) -> anyhow::Result<String> {
    let body = json!({ "name": name, "stateful": stateful });
    let mut made = api.post("/v2.0/security-groups", &json!({ "security_group": body })).await?;
    let made = made["security_group"].take();
    for rule in made["security_group_rules"].as_array().into_iter().flatten() {
        api.delete(&format!("/v2.0/security-group-rules/{}", text(rule, "id")?)).await?;
    }
    text(&made, "id")
}

/// Adds a rule; its id.
pub(crate) async fn add(api: &Api, rule: &serde_json::Value) -> anyhow::Result<String> {
    let made = api.post("/v2.0/security-group-rules", &json!({ "security_group_rule": rule })).await?;
    text(&made["security_group_rule"], "id")
}
