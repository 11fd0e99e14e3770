//! `nanboku trace`: what would happen to a packet, on every host it touches.

use crate::Usage;
use crate::output::Format;
use crate::resource::{Context, NETWORK, PORT};
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use model::Mac;
use model::trace::{Description, Hex, Trace};
use serde_json::Value;
use std::net::IpAddr;
use std::path::PathBuf;

mod live;
pub(crate) mod words;

#[derive(Args, Debug)]
pub(crate) struct TraceArgs {
    #[command(flatten)]
    pub(crate) sender: Sender,
    /// Where to: an address, or the name or id of a port.
    #[arg(long, value_name = "ADDRESS|PORT", conflicts_with = "pcap")]
    to: Option<String>,
    /// Of a port named by --to take the first IPv6 address, not the first of all.
    #[arg(long, short = '6', requires = "to")]
    ipv6: bool,
    /// Follow real packets through all hosts as they pass, until interrupted. Of the description only `--from`,
    /// `--to` and the protocol count.
    #[arg(long, conflicts_with_all = ["pcap", "fresh", "no_answer"])]
    live: bool,
    #[command(flatten)]
    following: live::Following,
    #[command(flatten)]
    kind: Kind,
    #[command(flatten)]
    fields: Fields,
    /// Take the frame from this file (pcap or pcapng) instead.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["icmp", "tcp", "udp", "protocol"])]
    pcap: Option<PathBuf>,
    /// Which frame of the file, from 1.
    #[arg(long, value_name = "N", requires = "pcap", default_value_t = 1)]
    number: usize,
    /// As if there were no sessions yet.
    #[arg(long)]
    fresh: bool,
    /// Only there, not back.
    #[arg(long)]
    no_answer: bool,
    /// Every entry that was looked up, and the object that made it.
    #[arg(long, short)]
    verbose: bool,
}

/// Who sends it.
#[derive(Args, Debug)]
#[group(multiple = false)]
pub(crate) struct Sender {
    /// Sent by the VM of this port: name or id.
    #[arg(long, value_name = "PORT", visible_alias = "port")]
    from: Option<String>,
    /// Sent from outside, on this external network.
    #[arg(long, value_name = "NETWORK")]
    from_external: Option<String>,
}

/// What it is.
#[derive(Args, Clone, Copy, Debug, Default)]
#[group(multiple = false)]
pub(crate) struct Kind {
    /// An echo request; the default.
    #[arg(long)]
    icmp: bool,
    /// TCP to this port.
    #[arg(long, value_name = "PORT")]
    tcp: Option<u16>,
    /// UDP to this port.
    #[arg(long, value_name = "PORT")]
    udp: Option<u16>,
    /// Another protocol, by number.
    #[arg(long, value_name = "NUMBER")]
    protocol: Option<u8>,
}

/// What else may be said of it.
#[derive(Args, Debug, Default)]
pub(crate) struct Fields {
    /// The sender's address; from outside it is needed.
    #[arg(long, value_name = "ADDRESS", visible_alias = "source-ip")]
    from_ip: Option<IpAddr>,
    /// The sender's MAC, instead of the port's.
    #[arg(long, value_name = "MAC")]
    source_mac: Option<Mac>,
    /// The receiver's MAC, instead of what ARP or neighbour discovery says.
    #[arg(long, value_name = "MAC")]
    destination_mac: Option<Mac>,
    /// The sender's port, or the identifier of an echo.
    #[arg(long, value_name = "PORT")]
    source_port: Option<u16>,
    /// As syn,ack; syn if not given.
    #[arg(long, value_name = "FLAGS", requires = "tcp")]
    tcp_flags: Option<String>,
    /// Time to live, or hop limit; 64 if not given.
    #[arg(long)]
    ttl: Option<u8>,
    /// Must not be fragmented; IPv4 only.
    #[arg(long)]
    df: bool,
    /// Bytes of the IP packet.
    #[arg(long, value_name = "BYTES")]
    length: Option<u16>,
}

impl Kind {
    fn describe(self, description: &mut Description) {
        let (protocol, port) = match self {
            Self { tcp: Some(port), .. } => ("tcp".to_owned(), Some(port)),
            Self { udp: Some(port), .. } => ("udp".to_owned(), Some(port)),
            Self { protocol: Some(number), .. } => (number.to_string(), None),
            Self { .. } => ("icmp".to_owned(), None),
        };
        description.protocol = Some(protocol);
        description.destination_port = port;
    }
}

pub(crate) async fn run(args: TraceArgs, cx: &Context) -> anyhow::Result<String> {
    if args.live {
        return live::run(args, cx).await;
    }
    if args.following.is_given() {
        return Err(Usage("a filter, --count, --rate and --router are for --live".to_owned()).into());
    }
    if args.sender.from.is_none() && args.sender.from_external.is_none() {
        return Err(Usage(
            "who sends it is not said: --from PORT, or --from-external NETWORK; or --live".to_owned(),
        )
        .into());
    }
    let (verbose, description) = (args.verbose, describe(args, cx).await?);
    let (raw, trace) = ask(&description, cx).await?;
    Ok(match cx.output.format {
        Format::Table => words::page(&trace, verbose),
        _ => cx.output.show(&raw),
    })
}

/// The answer as it came, and read.
pub(crate) async fn ask(description: &Description, cx: &Context) -> anyhow::Result<(Value, Trace)> {
    let body = serde_json::to_value(description)?;
    let mut answer = cx.client.post("/nanboku/v1/trace", &body).await?;
    let raw = answer.get_mut("trace").map(Value::take).unwrap_or(answer);
    let trace =
        serde_json::from_value(raw.clone()).context("the API's answer is not that of this version")?;
    Ok((raw, trace))
}

async fn describe(args: TraceArgs, cx: &Context) -> anyhow::Result<Description> {
    let TraceArgs { sender, to, ipv6, kind, fields, pcap, number, fresh, no_answer, .. } = args;
    let mut description = Description {
        source_ip: fields.from_ip,
        source_mac: fields.source_mac.map(|mac| mac.to_string()),
        destination_mac: fields.destination_mac.map(|mac| mac.to_string()),
        source_port: fields.source_port,
        tcp_flags: fields.tcp_flags,
        ttl: fields.ttl,
        dont_fragment: fields.df,
        length: fields.length,
        fresh,
        answer: Some(!no_answer),
        ..Description::default()
    };
    if let Some(port) = &sender.from {
        let id = cx.client.find_id(&PORT, port).await?;
        description.from_port = Some(id.parse().context("the API gave the port an id that is no UUID")?);
    }
    if let Some(network) = &sender.from_external {
        description.from_external = Some(cx.client.find_id(&NETWORK, network).await?);
        if fields.from_ip.is_none() && pcap.is_none() {
            return Err(Usage("--from-external needs --from-ip ADDRESS".to_owned()).into());
        }
    }
    match (&pcap, &to) {
        (Some(path), _) => {
            let file = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            let frame = trace::pcap::frame(&file, number);
            let frame = frame.with_context(|| format!("{} cannot be used", path.display()))?;
            description.frame = Some(Hex(frame));
        }
        (None, Some(to)) => {
            kind.describe(&mut description);
            description.destination_ip = Some(address_of((to, ipv6), cx).await?);
        }
        (None, None) => return Err(Usage("--to is needed".to_owned()).into()),
    }
    Ok(description)
}

/// An address, or the first one of the port of that name; `ipv6`: the first of IPv6.
pub(crate) async fn address_of((to, ipv6): (&str, bool), cx: &Context) -> anyhow::Result<IpAddr> {
    if let Ok(address) = to.parse::<IpAddr>() {
        ensure!(!ipv6 || address.is_ipv6(), "--ipv6 is given, but {to} is an IPv4 address");
        return Ok(address);
    }
    let looks_like_ipv4 = to.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let looks_like_ipv6 = to.contains(':') && to.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
    ensure!(!looks_like_ipv4 && !looks_like_ipv6, "'{to}' is no IP address");
    let port = cx.client.find(&PORT, to).await?;
    let ips = port.get("fixed_ips").and_then(Value::as_array).into_iter().flatten();
    let addresses = ips.filter_map(|ip| ip.get("ip_address")?.as_str()?.parse().ok());
    let mut wanted = addresses.filter(|address: &IpAddr| !ipv6 || address.is_ipv6());
    match wanted.next() {
        Some(address) => Ok(address),
        None if ipv6 => bail!("port '{to}' has no IPv6 address"),
        None => bail!("port '{to}' has no address"),
    }
}
