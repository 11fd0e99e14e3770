//! `nanboku addressgroup`.

use crate::Usage;
use crate::body::Body;
use crate::output::Column;
use crate::resource::{ADDRESS_GROUP, Context, DeleteArgs, OneArgs};
use clap::{Args, Subcommand};
use ipnet::IpNet;
use serde_json::Value;
use std::net::IpAddr;

#[derive(Debug, Subcommand)]
pub(crate) enum AddressGroupCommand {
    /// Make a group.
    Create(CreateArgs),
    /// List groups.
    List(ListArgs),
    /// Show one group.
    Show(OneArgs),
    /// Change a group, or add addresses to it.
    Set(SetArgs),
    /// Take addresses out of a group.
    Unset(UnsetArgs),
    /// Delete groups that no rule names.
    Delete(DeleteArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Its name; need not be unique.
    name: String,
    /// An address or prefix of it; may be repeated.
    #[arg(long = "address", value_name = "CIDR", value_parser = prefix)]
    addresses: Vec<IpNet>,
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
    /// An address or prefix to add; may be repeated.
    #[arg(long = "address", value_name = "CIDR", value_parser = prefix)]
    addresses: Vec<IpNet>,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct UnsetArgs {
    /// Name or id.
    group: String,
    /// An address or prefix to take out; may be repeated.
    #[arg(long = "address", value_name = "CIDR", value_parser = prefix, required = true)]
    addresses: Vec<IpNet>,
}

/// An address alone stands for itself.
fn prefix(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    parsed.map_err(|_| format!("'{text}' is not an address or a prefix"))
}

const COLUMNS: &[Column] = &[
    Column::plain("id", "id"),
    Column::plain("name", "name"),
    Column { header: "addresses", key: "addresses", text: Some(lines) },
    Column::plain("shared", "shared"),
    Column::plain("description", "description"),
];

fn lines(value: &Value) -> String {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join("\n") }
}

pub(crate) async fn run(command: AddressGroupCommand, cx: &Context) -> anyhow::Result<String> {
    match command {
        AddressGroupCommand::Create(args) => create(&args, cx).await,
        AddressGroupCommand::List(args) => list(&args, cx).await,
        AddressGroupCommand::Show(args) => cx.show(&ADDRESS_GROUP, &args).await,
        AddressGroupCommand::Set(args) => set(&args, cx).await,
        AddressGroupCommand::Unset(args) => unset(&args, cx).await,
        AddressGroupCommand::Delete(args) => cx.delete(&ADDRESS_GROUP, &args).await,
    }
}

async fn create(args: &CreateArgs, cx: &Context) -> anyhow::Result<String> {
    let body = Body::default()
        .with("name", &args.name)
        .with_any("addresses", &args.addresses)
        .with_some("description", args.description.as_ref())
        .with_some("project_id", args.project.as_ref());
    cx.create(&ADDRESS_GROUP, body).await
}

async fn list(args: &ListArgs, cx: &Context) -> anyhow::Result<String> {
    let mut query = Vec::new();
    query.extend(args.name.as_deref().map(|name| ("name", name)));
    query.extend(args.project.as_deref().map(|id| ("project_id", id)));
    Ok(cx.output.list(COLUMNS, &cx.client.list(&ADDRESS_GROUP, &query).await?))
}

async fn set(args: &SetArgs, cx: &Context) -> anyhow::Result<String> {
    let id = cx.client.find_id(&ADDRESS_GROUP, &args.group).await?;
    let body = Body::default()
        .with_some("name", args.name.as_ref())
        .with_some("description", args.description.as_ref());
    match (args.addresses.is_empty(), body.is_empty()) {
        (true, _) => return cx.set(&ADDRESS_GROUP, &id, body).await,
        (false, true) => {}
        (false, false) => {
            let text = "a change and new addresses are two requests: give --address in a command of its own";
            return Err(Usage(text.to_owned()).into());
        }
    }
    change_addresses(cx, &id, "add_addresses", &args.addresses).await
}

async fn unset(args: &UnsetArgs, cx: &Context) -> anyhow::Result<String> {
    let id = cx.client.find_id(&ADDRESS_GROUP, &args.group).await?;
    change_addresses(cx, &id, "remove_addresses", &args.addresses).await
}

async fn change_addresses(
    cx: &Context,
    id: &str,
    action: &str,
    addresses: &[IpNet],
) -> anyhow::Result<String> {
    let body = Body::default().with("addresses", addresses).into_value();
    let mut answer = cx.client.put(&format!("{}/{action}", ADDRESS_GROUP.path_of(id)), &body).await?;
    let group = answer.get_mut(ADDRESS_GROUP.singular).map(Value::take);
    Ok(cx.output.show(&group.unwrap_or(answer)))
}
