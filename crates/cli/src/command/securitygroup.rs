//! `nanboku securitygroup`.

use crate::body::Body;
use crate::output::Column;
use crate::resource::{Context, DeleteArgs, OneArgs, SECURITY_GROUP};
use clap::{Args, Subcommand};
use serde_json::Value;

mod rule;

#[derive(Debug, Subcommand)]
pub(crate) enum SecurityGroupCommand {
    /// Make a group: its ports may send everything and receive nothing until a rule says so.
    Create(CreateArgs),
    /// List groups.
    List(ListArgs),
    /// Show one group.
    Show(OneArgs),
    /// Change a group.
    Set(SetArgs),
    /// Delete groups that no port has.
    Delete(DeleteArgs),
    /// Rules: what a group allows.
    #[command(subcommand)]
    Rule(rule::RuleCommand),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name; need not be unique.
    name: String,
    /// Ask the rules for every packet, answers too.
    #[arg(long)]
    stateless: bool,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Project that owns it.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Only groups of this name.
    #[arg(long)]
    name: Option<String>,
    /// Only groups of this project.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct SetArgs {
    /// Name or id.
    group: String,
    /// New name.
    #[arg(long)]
    name: Option<String>,
    /// Ask the rules for every packet, answers too. No port may have the group.
    #[arg(long, conflicts_with = "stateful")]
    stateless: bool,
    /// Answers to what was allowed pass by themselves. No port may have the group.
    #[arg(long)]
    stateful: bool,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column::plain("id", "id"),
    Column::plain("name", "name"),
    Column { header: "rules", key: "security_group_rules", text: Some(count) },
    Column::plain("stateful", "stateful"),
    Column::plain("shared", "shared"),
    Column::plain("description", "description"),
];

fn count(value: &Value) -> String {
    value.as_array().map_or(0, Vec::len).to_string()
}

pub(crate) async fn run(command: SecurityGroupCommand, cx: &Context) -> anyhow::Result<String> {
    match command {
        SecurityGroupCommand::Create(args) => create(&args, cx).await,
        SecurityGroupCommand::List(args) => list(&args, cx).await,
        SecurityGroupCommand::Show(args) => cx.show(&SECURITY_GROUP, &args).await,
        SecurityGroupCommand::Set(args) => set(&args, cx).await,
        SecurityGroupCommand::Delete(args) => cx.delete(&SECURITY_GROUP, &args).await,
        SecurityGroupCommand::Rule(command) => rule::run(command, cx).await,
    }
}

async fn create(args: &CreateArgs, cx: &Context) -> anyhow::Result<String> {
    let body = Body::default()
        .with("name", &args.name)
        .with_flag("stateful", args.stateless, false)
        .with_some("description", args.description.as_ref())
        .with_some("project_id", args.project.as_ref());
    cx.create(&SECURITY_GROUP, body).await
}

async fn list(args: &ListArgs, cx: &Context) -> anyhow::Result<String> {
    let mut query = Vec::new();
    query.extend(args.name.as_deref().map(|name| ("name", name)));
    query.extend(args.project.as_deref().map(|id| ("project_id", id)));
    Ok(cx.output.list(COLUMNS, &cx.client.list(&SECURITY_GROUP, &query).await?))
}

async fn set(args: &SetArgs, cx: &Context) -> anyhow::Result<String> {
    let id = cx.client.find_id(&SECURITY_GROUP, &args.group).await?;
    let body = Body::default()
        .with_some("name", args.name.as_ref())
        .with_flag("stateful", args.stateless || args.stateful, args.stateful)
        .with_some("description", args.description.as_ref());
    cx.set(&SECURITY_GROUP, &id, body).await
}
