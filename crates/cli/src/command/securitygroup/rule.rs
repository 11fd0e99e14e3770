//! `nanboku securitygroup rule`.

use crate::body::Body;
use crate::output::Column;
use crate::resource::{ADDRESS_GROUP, Context, DeleteArgs, OneArgs, SECURITY_GROUP, SECURITY_GROUP_RULE};
use clap::{Args, Subcommand};
use ipnet::IpNet;
use std::net::IpAddr;

#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// Allow something.
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
    /// Name or id of the group.
    group: String,
    /// What the VM sends, instead of what it receives.
    #[arg(long)]
    egress: bool,
    /// IPv4 or IPv6; as the remote prefix, and else IPv4.
    #[arg(long, value_name = "FAMILY", value_parser = ["IPv4", "IPv6"], ignore_case = true)]
    ethertype: Option<String>,
    /// Name or number, such as tcp or 112; without it every protocol.
    #[arg(long)]
    protocol: Option<String>,
    /// Destination port, or FIRST:LAST.
    #[arg(long, value_name = "PORTS", value_parser = ports, requires = "protocol", conflicts_with_all = ["icmp_type", "icmp_code"])]
    dst_port: Option<(u16, u16)>,
    /// Type of ICMP messages.
    #[arg(long, value_name = "NUMBER", requires = "protocol")]
    icmp_type: Option<u8>,
    /// Code of ICMP messages.
    #[arg(long, value_name = "NUMBER", requires = "icmp_type")]
    icmp_code: Option<u8>,
    #[command(flatten)]
    remote: RemoteArgs,
    /// Free text.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Project that owns it.
    #[arg(long, value_name = "ID")]
    project: Option<String>,
}

/// The other end; none: anyone.
#[derive(Args, Debug)]
#[group(multiple = false)]
struct RemoteArgs {
    /// Only from, or to, this prefix or address.
    #[arg(long, value_name = "CIDR", value_parser = prefix)]
    remote_ip: Option<IpNet>,
    /// Only from, or to, the ports of this group.
    #[arg(long, value_name = "GROUP")]
    remote_group: Option<String>,
    /// Only from, or to, the prefixes of this address group.
    #[arg(long, value_name = "GROUP")]
    remote_address_group: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    /// Name or id of the group; without it the rules of all.
    group: Option<String>,
    /// Only what VMs receive.
    #[arg(long, conflicts_with = "egress")]
    ingress: bool,
    /// Only what VMs send.
    #[arg(long)]
    egress: bool,
}

const COLUMNS: &[Column] = &[
    Column::plain("id", "id"),
    Column::plain("direction", "direction"),
    Column::plain("ethertype", "ethertype"),
    Column::plain("protocol", "protocol"),
    Column::plain("from port", "port_range_min"),
    Column::plain("to port", "port_range_max"),
    Column::plain("remote prefix", "remote_ip_prefix"),
    Column::plain("remote group", "remote_group_id"),
    Column::plain("remote addresses", "remote_address_group_id"),
    Column::plain("group", "security_group_id"),
];

fn ports(text: &str) -> Result<(u16, u16), String> {
    let port = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| format!("'{text}' is not a port, 1 to 65535"))
    };
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("{first} is behind {last}; write FIRST:LAST"));
    }
    Ok((first, last))
}

fn prefix(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    parsed.map_err(|_| format!("'{text}' is neither an address nor a CIDR"))
}

pub(crate) async fn run(command: RuleCommand, cx: &Context) -> anyhow::Result<String> {
    match command {
        RuleCommand::Create(args) => create(&args, cx).await,
        RuleCommand::List(args) => list(&args, cx).await,
        RuleCommand::Show(args) => cx.show(&SECURITY_GROUP_RULE, &args).await,
        RuleCommand::Delete(args) => cx.delete(&SECURITY_GROUP_RULE, &args).await,
    }
}

async fn create(args: &CreateArgs, cx: &Context) -> anyhow::Result<String> {
    let group = cx.client.find_id(&SECURITY_GROUP, &args.group).await?;
    let remote_group = cx.client.find_id_of(&SECURITY_GROUP, args.remote.remote_group.as_deref()).await?;
    let addresses = cx.client.find_id_of(&ADDRESS_GROUP, args.remote.remote_address_group.as_deref()).await?;
    let of_prefix = args.remote.remote_ip.map(|prefix| match prefix {
        IpNet::V4(_) => "IPv4".to_owned(),
        IpNet::V6(_) => "IPv6".to_owned(),
    });
    let first = args.dst_port.map(|(first, _)| first).or(args.icmp_type.map(u16::from));
    let last = args.dst_port.map(|(_, last)| last).or(args.icmp_code.map(u16::from));
    let body = Body::default()
        .with("security_group_id", group)
        .with("direction", if args.egress { "egress" } else { "ingress" })
        .with_some("ethertype", args.ethertype.clone().or(of_prefix))
        .with_some("protocol", args.protocol.as_ref())
        .with_some("port_range_min", first)
        .with_some("port_range_max", last)
        .with_some("remote_ip_prefix", args.remote.remote_ip)
        .with_some("remote_group_id", remote_group)
        .with_some("remote_address_group_id", addresses)
        .with_some("description", args.description.as_ref())
        .with_some("project_id", args.project.as_ref());
    cx.create(&SECURITY_GROUP_RULE, body).await
}

async fn list(args: &ListArgs, cx: &Context) -> anyhow::Result<String> {
    let group = cx.client.find_id_of(&SECURITY_GROUP, args.group.as_deref()).await?;
    let mut query = Vec::new();
    query.extend(group.as_deref().map(|id| ("security_group_id", id)));
    if args.ingress || args.egress {
        query.push(("direction", if args.egress { "egress" } else { "ingress" }));
    }
    Ok(cx.output.list(COLUMNS, &cx.client.list(&SECURITY_GROUP_RULE, &query).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_one_or_a_range() {
        assert_eq!(ports("80"), Ok((80, 80)));
        assert_eq!(ports("8000:8080"), Ok((8000, 8080)));
        for wrong in ["0", "http", "80:", "81:80", "65536", "1:2:3"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
    }
}
