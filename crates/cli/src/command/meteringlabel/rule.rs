//! `nanboku meteringlabel rule`.

use crate::body::Body;
use crate::output::Column;
use crate::resource::{Context, DeleteArgs, METERING_LABEL, METERING_LABEL_RULE, OneArgs};
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// Count something, or leave it out.
    Create(CreateArgs),
    /// List rules.
    List(ListArgs),
    /// Show one rule.
    Show(OneArgs),
    /// Delete rules.
    Delete(DeleteArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Name or id of the label.
    label: String,
    /// What VMs send to the outside, instead of what comes to them from there.
    #[arg(long)]
    egress: bool,
    /// Never count it, whatever the label's other rules say.
    #[arg(long)]
    exclude: bool,
    #[command(flatten)]
    prefixes: PrefixArgs,
}

/// Addresses as they are inside the gateway: a VM's is its fixed one.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
struct PrefixArgs {
    /// Source addresses.
    #[arg(long, value_name = "CIDR", conflicts_with = "remote_ip")]
    source_ip: Option<String>,
    /// Destination addresses.
    #[arg(long, value_name = "CIDR", conflicts_with = "remote_ip")]
    destination_ip: Option<String>,
    /// Addresses of VMs: the source of egress, the destination of ingress. Rules of a label that say so do not overlap.
    #[arg(long, value_name = "CIDR")]
    remote_ip: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Name or id of the label; without it the rules of all.
    label: Option<String>,
}

const COLUMNS: &[Column] = &[
    Column::plain("id", "id"),
    Column::plain("direction", "direction"),
    Column::plain("excluded", "excluded"),
    Column::plain("source", "source_ip_prefix"),
    Column::plain("destination", "destination_ip_prefix"),
    Column::plain("remote prefix", "remote_ip_prefix"),
    Column::plain("label", "metering_label_id"),
];

pub(crate) async fn run(command: RuleCommand, cx: &Context) -> anyhow::Result<String> {
    match command {
        RuleCommand::Create(args) => create(&args, cx).await,
        RuleCommand::List(args) => list(&args, cx).await,
        RuleCommand::Show(args) => cx.show(&METERING_LABEL_RULE, &args).await,
        RuleCommand::Delete(args) => cx.delete(&METERING_LABEL_RULE, &args).await,
    }
}

async fn create(args: &CreateArgs, cx: &Context) -> anyhow::Result<String> {
    let label = cx.client.find_id(&METERING_LABEL, &args.label).await?;
    let body = Body::default()
        .with("metering_label_id", label)
        .with("direction", if args.egress { "egress" } else { "ingress" })
        .with_flag("excluded", args.exclude, true)
        .with_some("source_ip_prefix", args.prefixes.source_ip.as_ref())
        .with_some("destination_ip_prefix", args.prefixes.destination_ip.as_ref())
        .with_some("remote_ip_prefix", args.prefixes.remote_ip.as_ref());
    cx.create(&METERING_LABEL_RULE, body).await
}

async fn list(args: &ListArgs, cx: &Context) -> anyhow::Result<String> {
    let label = cx.client.find_id_of(&METERING_LABEL, args.label.as_deref()).await?;
    let query: Vec<_> = label.as_deref().map(|id| ("metering_label_id", id)).into_iter().collect();
    Ok(cx.output.list(COLUMNS, &cx.client.list(&METERING_LABEL_RULE, &query).await?))
}
