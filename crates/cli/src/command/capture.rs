//! `nanboku capture`: packets as they pass, at the edges of stages, on one host or all, as pcapng or lines.

use crate::Usage;
use crate::client::Query;
use crate::nearest;
use crate::resource::{Context, HOST, NETWORK, PORT, ROUTER};
use anyhow::{Context as _, ensure};
use clap::Args;
use model::capture::SNAP_LEN_MAX;
use serde_json::Value;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;
use trace::filter::Filter;

mod file;
pub(crate) mod line;
pub(crate) mod stream;

use file::{Files, Rotation};
use stream::{Item, Stream};

/// Everything that comes by is shown; points and the filter say what.
#[derive(Args, Debug)]
pub(crate) struct CaptureArgs {
    #[command(flatten)]
    points: Points,
    /// Where in a host's walk, more than once for more: `in`, `out`, or before a stage, as `snat`. In and out if not
    /// given.
    #[arg(long = "at", value_name = "EDGE")]
    edges: Vec<String>,
    /// Only at the port or uplink itself, as tcpdump would; otherwise its packets are shown at both ends of their walk.
    #[arg(long)]
    here: bool,
    /// Write pcapng here; `-`: to standard output. Without it, lines on a terminal and pcapng otherwise.
    #[arg(long, short, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Lines of text, also if standard output is no terminal.
    #[arg(long, conflicts_with = "write")]
    text: bool,
    /// Bytes kept of each frame.
    #[arg(long, short, value_name = "BYTES", default_value_t = SNAP_LEN_MAX, value_parser = clap::value_parser!(u32).range(1..=i64::from(SNAP_LEN_MAX)))]
    snaplen: u32,
    /// End after so many packets.
    #[arg(long, value_name = "PACKETS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    duration: Option<u64>,
    /// A new file after so many millions of bytes.
    #[arg(short = 'C', value_name = "MEGABYTES", requires = "write", value_parser = clap::value_parser!(u64).range(1..))]
    megabytes: Option<u64>,
    /// A new file after so many seconds.
    #[arg(short = 'G', value_name = "SECONDS", requires = "write", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// Keep so many files; then the first is written anew.
    #[arg(short = 'W', value_name = "FILES", requires = "write", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    files: Option<u32>,
    /// Which packets, in tcpdump's words: `host 8.8.8.8 and tcp port 443`.
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
}

/// Whose packets.
#[derive(Args, Debug, Default)]
pub(crate) struct Points {
    /// From or to this port: name or id.
    #[arg(long)]
    pub(crate) port: Option<String>,
    /// Forwarded or answered by this router.
    #[arg(long)]
    pub(crate) router: Option<String>,
    /// From or to this network, a tenant's or an external one.
    #[arg(long)]
    pub(crate) network: Option<String>,
    /// From or to the uplinks of this physical network.
    #[arg(long, value_name = "PHYSICAL_NETWORK")]
    pub(crate) uplink: Option<String>,
    /// On this host only.
    #[arg(long)]
    pub(crate) host: Option<String>,
}

impl Points {
    /// As the API wants it: names become ids.
    pub(crate) async fn query(&self, cx: &Context) -> anyhow::Result<Query> {
        let named = cx.client.ids_of([
            ("port_id", &PORT, &self.port),
            ("router_id", &ROUTER, &self.router),
            ("network_id", &NETWORK, &self.network),
        ]);
        let mut query = named.await?;
        if let Some(name) = &self.uplink {
            is_known(name, &cx.client.list(&HOST, &[]).await?)?;
            query.push(("physical_network", name.clone()));
        }
        query.extend(self.host.clone().map(|host| ("host", host)));
        Ok(query)
    }
}

/// # Errors
/// None of the hosts has this physical network.
fn is_known(physical_network: &str, hosts: &[Value]) -> anyhow::Result<()> {
    let names = hosts.iter().filter_map(|host| host.get("physical_networks")?.as_array()).flatten();
    let names: Vec<String> = names.filter_map(|name| Some(name.as_str()?.to_owned())).collect();
    ensure!(
        names.iter().any(|name| name == physical_network),
        "no host has the physical network '{physical_network}'.{} See `nanboku host list`.",
        nearest::hint(physical_network, &names)
    );
    Ok(())
}

/// The filter, once it is known to be one.
pub(crate) fn filter(words: &[String]) -> anyhow::Result<Option<(&'static str, String)>> {
    let text = words.join(" ");
    text.parse::<Filter>().map_err(|error| Usage(format!("the filter: {error}")))?;
    Ok((!text.is_empty()).then_some(("filter", text)))
}

pub(crate) async fn run(args: CaptureArgs, cx: &Context) -> anyhow::Result<String> {
    let mut query = args.points.query(cx).await?;
    query.extend(filter(&args.filter)?);
    query.extend(args.edges.iter().map(|edge| ("edge", edge.clone())));
    if args.here {
        query.push(("here", "true".to_owned()));
    }
    query.push(("snap_len", args.snaplen.to_string()));
    let stream = Stream::open(cx, &query, args.duration.map(Duration::from_secs)).await?;
    let rotation = Rotation {
        bytes: args.megabytes.map(|megabytes| megabytes * 1_000_000),
        every: args.seconds.map(Duration::from_secs),
        files: args.files,
    };
    let sink = match args.write {
        Some(path) if path.as_os_str() != "-" => {
            Sink::Files(Box::new(Files::new(path, rotation, args.snaplen)?))
        }
        None if args.text || std::io::stdout().is_terminal() => Sink::Lines,
        _ => Sink::Files(Box::new(Files::standard_output(args.snaplen)?)),
    };
    take(stream, sink, args.count.unwrap_or(u64::MAX)).await
}

enum Sink {
    Files(Box<Files>),
    Lines,
}

/// Until the count is full, the time is over, the reader has gone or somebody interrupts.
async fn take(mut stream: Stream, mut sink: Sink, count: u64) -> anyhow::Result<String> {
    let mut taken = 0;
    let live = std::io::stderr().is_terminal() && matches!(sink, Sink::Files(_));
    while taken < count
        && let Some(item) = stream.next().await?
    {
        let going_on = match (item, &mut sink) {
            (Item::Seen(seen), Sink::Files(files)) => {
                taken += 1;
                files.write(&seen)?
            }
            (Item::Seen(seen), Sink::Lines) => {
                taken += 1;
                writeln!(std::io::stdout(), "{}", line::of(&seen)).is_ok()
            }
            (Item::Idle, Sink::Files(files)) => files.flush()?,
            (Item::Idle, Sink::Lines) => true,
        };
        if live && stream.counted_anew() {
            eprint!("\r{taken} packets, {} lost on {} hosts ", stream.lost(), stream.hosts());
        }
        if !going_on {
            break;
        }
    }
    if let Sink::Files(files) = &mut sink {
        files.flush().context("the capture cannot be written")?;
    }
    if live {
        eprintln!();
    }
    eprintln!("nanboku: {taken} packets captured, {} lost, on {} hosts", stream.lost(), stream.hosts());
    stream.warn();
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_physical_network_that_no_host_has_is_answered_with_near_ones() {
        let hosts = [json!({"physical_networks": ["physnet1"]}), json!({"physical_networks": []})];
        assert!(is_known("physnet1", &hosts).is_ok());
        let said = is_known("physnet9", &hosts).unwrap_err().to_string();
        assert_eq!(
            said,
            "no host has the physical network 'physnet9'. Did you mean 'physnet1'? See `nanboku host list`."
        );
    }
}
