//! `nanboku meteringlabel`: labels, their rules, and what they counted.

use crate::answers;
use crate::body::Body;
use crate::output::Column;
use crate::resource::{Context, DeleteArgs, METERING_LABEL, OneArgs};
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

mod rule;

#[derive(Debug, Subcommand)]
pub(crate) enum MeteringLabelCommand {
    /// Make a label: it counts nothing until a rule says so.
    Create(CreateArgs),
    /// List labels with what they counted.
    List(ListArgs),
    /// Show one label with what it counted since the agents' starts, summed over all hosts.
    Show(OneArgs),
    /// Delete labels with their rules.
    Delete(DeleteArgs),
    /// Rules: what a label counts.
    #[command(subcommand)]
    Rule(rule::RuleCommand),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name; need not be unique.
    name: String,
    /// Count at the routers of all projects.
    #[arg(long)]
    share: bool,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Project at whose routers it counts.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only labels of this name.
    #[arg(long)]
    name: Option<String>,
    /// Only labels of this project.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column::plain("id", "id"),
    Column::plain("name", "name"),
    Column::plain("project", "project_id"),
    Column::plain("shared", "shared"),
    Column::plain("packets", "packets"),
    Column::plain("bytes", "bytes"),
    Column::plain("description", "description"),
];

pub(crate) async fn run(command: MeteringLabelCommand, cx: &Context) -> anyhow::Result<String> {
    match command {
        MeteringLabelCommand::Create(args) => create(&args, cx).await,
        MeteringLabelCommand::List(args) => list(&args, cx).await,
        MeteringLabelCommand::Show(args) => show(&args, cx).await,
        MeteringLabelCommand::Delete(args) => cx.delete(&METERING_LABEL, &args).await,
        MeteringLabelCommand::Rule(command) => rule::run(command, cx).await,
    }
}

async fn create(args: &CreateArgs, cx: &Context) -> anyhow::Result<String> {
    let body = Body::default()
        .with("name", &args.name)
        .with_flag("shared", args.share, true)
        .with_some("description", args.description.as_ref())
        .with_some("project_id", args.project.as_ref());
    cx.create(&METERING_LABEL, body).await
}

async fn list(args: &ListArgs, cx: &Context) -> anyhow::Result<String> {
    let mut query = Vec::new();
    query.extend(args.name.as_deref().map(|name| ("name", name)));
    query.extend(args.project.as_deref().map(|id| ("project_id", id)));
    let mut labels = cx.client.list(&METERING_LABEL, &query).await?;
    let counted = counted(cx, &[]).await?;
    labels.iter_mut().for_each(|label| tell(label, &counted));
    Ok(cx.output.list(COLUMNS, &labels))
}

async fn show(args: &OneArgs, cx: &Context) -> anyhow::Result<String> {
    let mut label = cx.client.find(&METERING_LABEL, args.name()).await?;
    let id = label.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    tell(&mut label, &counted(cx, &[("label_id", &id)]).await?);
    Ok(cx.output.show(&label))
}

/// What each host counted, by label.
async fn counted(cx: &Context, query: &[(&str, &str)]) -> anyhow::Result<Vec<Value>> {
    answers::all(&cx.client, "/nanboku/v1/metering", query).await
}

/// Adds what all hosts counted together.
fn tell(label: &mut Value, counted: &[Value]) {
    let id = label.get("id").cloned();
    let own = || counted.iter().filter(|row| row.get("label_id") == id.as_ref());
    let sum = |key: &str| -> u64 { own().filter_map(|row| row.get(key)?.as_u64()).sum() };
    let sums = Map::from_iter(["packets", "bytes"].map(|key| (key.to_owned(), sum(key).into())));
    if let Some(label) = label.as_object_mut() {
        label.extend(sums);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_label_counted_what_all_hosts_counted() {
        let rows = [("a", 2, 120), ("b", 7, 700), ("a", 1, 60)]
            .map(|(label, packets, bytes)| json!({"label_id": label, "packets": packets, "bytes": bytes}));
        let mut label = json!({"id": "a"});
        tell(&mut label, &rows);
        assert_eq!(label, json!({"id": "a", "packets": 3, "bytes": 180}));
        let mut label = json!({"id": "c"});
        tell(&mut label, &rows);
        assert_eq!(label, json!({"id": "c", "packets": 0, "bytes": 0}));
    }
}
