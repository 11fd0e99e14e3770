//! `nanboku explain reach A B`: the first thing that keeps A from reaching B, and the command that would change it.
//!
//! The packet and its answer are traced as if no connection were open; what stopped them is looked up in the
//! model.

mod cause;
pub(crate) mod facts;

use crate::command::trace::{address_of, ask};
use crate::output::Format;
use crate::resource::{Context, NETWORK, PORT};
use anyhow::Context as _;
use cause::Finding;
use clap::Args;
use facts::Facts;
use model::trace::{Description, Trace};
use serde_json::{Value, json};
use std::net::IpAddr;

#[derive(Args, Debug)]
pub(crate) struct ReachArgs {
    /// The sender: name or id of a port, or NETWORK/ADDRESS for somebody outside on that external network.
    from: String,
    /// The receiver: an address, or name or id of a port.
    to: String,
    /// Of a port as the receiver take the first IPv6 address, not the first of all.
    #[arg(long, short = '6')]
    ipv6: bool,
    /// An echo request; the default.
    #[arg(long, conflicts_with_all = ["tcp", "udp"])]
    icmp: bool,
    /// TCP to this port.
    #[arg(long, value_name = "PORT", conflicts_with = "udp")]
    tcp: Option<u16>,
    /// UDP to this port.
    #[arg(long, value_name = "PORT")]
    udp: Option<u16>,
    /// The sender's address, if not the first of its port.
    #[arg(long, value_name = "ADDRESS")]
    from_ip: Option<IpAddr>,
    /// Time to live, or hop limit; 64 if not given.
    #[arg(long)]
    ttl: Option<u8>,
    /// Bytes of the IP packet; one of IPv4 must not be fragmented.
    #[arg(long, value_name = "BYTES")]
    length: Option<u16>,
}

impl ReachArgs {
    async fn describe(&self, cx: &Context) -> anyhow::Result<Description> {
        let mut description = Description {
            source_ip: self.from_ip,
            ttl: self.ttl,
            length: self.length,
            fresh: true,
            ..Description::default()
        };
        let (protocol, port) = match (self.tcp, self.udp) {
            (Some(port), _) => ("tcp", Some(port)),
            (None, Some(port)) => ("udp", Some(port)),
            (None, None) => ("icmp", None),
        };
        description.protocol = Some(protocol.to_owned());
        description.destination_port = port;
        match self.from.split_once('/') {
            Some((network, address)) => {
                description.from_external = Some(cx.client.find_id(&NETWORK, network).await?);
                let address = address
                    .parse()
                    .with_context(|| format!("'{address}' in '{}' is no address", self.from))?;
                description.source_ip = Some(address);
            }
            None => {
                let id = cx.client.find_id(&PORT, &self.from).await?;
                description.from_port = Some(id.parse().context("the API gave an id that is no UUID")?);
            }
        }
        let destination = address_of((&self.to, self.ipv6), cx).await?;
        description.destination_ip = Some(destination);
        description.dont_fragment = self.length.is_some() && destination.is_ipv4();
        Ok(description)
    }
}

pub(crate) async fn run(args: ReachArgs, cx: &Context) -> anyhow::Result<String> {
    let description = args.describe(cx).await?;
    let (raw, trace) = ask(&description, cx).await?;
    let named = args.to.parse::<IpAddr>().is_err();
    let finding = if named || !trace.complete {
        let facts = Facts::load(&description, cx).await?;
        let to = if named { Some(cx.client.find(&PORT, &args.to).await?) } else { None };
        let elsewhere = to.and_then(|to| cause::elsewhere(&facts, &to));
        elsewhere.or_else(|| (!trace.complete).then(|| cause::find(&trace, &facts)))
    } else {
        None
    };
    if cx.output.format == Format::Table {
        return Ok(told(&args, &trace, finding.as_ref()));
    }
    let mut answer = json!({"from": args.from, "to": args.to, "reachable": finding.is_none(), "trace": raw});
    if let (Some(finding), Value::Object(answer)) = (&finding, &mut answer) {
        answer.extend(finding.fields());
    }
    Ok(cx.output.show(&answer))
}

fn told(args: &ReachArgs, trace: &Trace, finding: Option<&Finding>) -> String {
    let (from, to) = (&args.from, &args.to);
    let Some(finding) = finding else {
        let path: Vec<&str> = trace.forward.hops.iter().map(|hop| hop.host.as_str()).collect();
        return format!("{from} can reach {to}, by {}: {}\n", path.join(", "), trace.forward.text);
    };
    let back = if trace.forward.arrived { " gets no answer from" } else { " cannot reach" };
    let mut page = format!("{from}{back} {to}\n  cause   {}\n", finding.cause);
    let place: Vec<&str> = [finding.host.as_str(), finding.stage.as_str(), finding.reason.as_str()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    if !place.is_empty() {
        page += &format!("  seen    {}\n", place.join(", "));
    }
    for (place, command) in finding.commands.iter().enumerate() {
        page += &format!("  {}{command}\n", if place == 0 { "change  " } else { "or      " });
    }
    page
}
