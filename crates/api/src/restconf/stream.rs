//! The data with mappings in it, written as hosts tell them: one instance after the other, a chunk at a time.

use super::MEDIA_TYPE;
use super::failure::Failure;
use super::instance::NatInstance;
use super::target::Segment;
use crate::backend::{Backend, Nat, Part, Parts};
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use model::RouterId;
use model::question::MappingRow;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Chunks that wait for the client.
const CHUNKS_MAX: usize = 4;
/// A chunk leaves when it is longer.
const CHUNK_LEN: usize = 48 << 10;

/// The query parameter `content` (RFC 8040 §4.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    All,
    Config,
    Nonconfig,
}

impl Content {
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        match text {
            "all" => Ok(Self::All),
            "config" => Ok(Self::Config),
            "nonconfig" => Ok(Self::Nonconfig),
            _ => {
                let message = format!("content is 'all', 'config' or 'nonconfig' and not '{text}'");
                Err(Failure::invalid(message))
            }
        }
    }

    /// Whether a child of an instance is of it. Keys always are.
    pub(super) fn has(self, child: &str) -> bool {
        let state = matches!(child, "capabilities" | "statistics");
        match self {
            Self::All => true,
            Self::Config => !state,
            Self::Nonconfig => state || child == "id",
        }
    }
}

/// What is written as a whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Whole {
    /// With what else there is.
    Datastore(Map<String, Value>),
    Nat,
    Instances,
    Instance(RouterId),
    /// Its mapping table.
    Table(RouterId),
}

impl Whole {
    /// What comes before the entries, and after.
    fn frame(&self, content: Content) -> (String, &'static str) {
        match self {
            Self::Datastore(others) => {
                let all = others.iter().filter(|_| content != Content::Config);
                let others: String = all.map(|(name, tree)| format!("\"{name}\":{tree},")).collect();
                let begin = "\"ietf-nat:nat\":{\"instances\":{\"instance\":[";
                (format!("{{\"ietf-restconf:data\":{{{others}{begin}"), "]}}}}")
            }
            Self::Nat => ("{\"ietf-nat:nat\":{\"instances\":{\"instance\":[".to_owned(), "]}}}"),
            Self::Instances => ("{\"ietf-nat:instances\":{\"instance\":[".to_owned(), "]}}"),
            Self::Instance(_) => ("{\"ietf-nat:instance\":[".to_owned(), "]}"),
            Self::Table(_) => ("{\"ietf-nat:mapping-table\":{\"mapping-entry\":[".to_owned(), "]}}"),
        }
    }
}

/// An answer that is sent as it is made. When the client leaves, hosts are asked no further.
pub(super) fn whole<B: Backend>(backend: Arc<B>, whole: Whole, content: Content) -> Response {
    let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
    tokio::spawn(async move {
        // Whoever has left needs no end.
        let _ = write(&*backend, &whole, content, &mut Out { sender, chunk: Vec::new() }).await;
    });
    let head = [(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-cache")];
    (head, Body::from_stream(ReceiverStream::new(chunks))).into_response()
}

/// The client has left.
#[derive(Debug)]
struct Gone;

/// Where the answer goes.
struct Out {
    sender: mpsc::Sender<Result<Vec<u8>, Infallible>>,
    chunk: Vec<u8>,
}

impl Out {
    async fn push(&mut self, text: &str) -> Result<(), Gone> {
        self.chunk.extend_from_slice(text.as_bytes());
        if self.chunk.len() < CHUNK_LEN { Ok(()) } else { self.flush().await }
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        self.sender.send(Ok(std::mem::take(&mut self.chunk))).await.map_err(|_| Gone)
    }
}

async fn write<B: Nat>(backend: &B, whole: &Whole, content: Content, out: &mut Out) -> Result<(), Gone> {
    let (begin, end) = whole.frame(content);
    out.push(&begin).await?;
    match whole {
        Whole::Table(router) => {
            if let Some(nat) = backend.nat(*router) {
                write_table(backend, &nat, Some(out)).await?;
            }
        }
        Whole::Instance(router) => {
            if let Some(nat) = backend.nat(*router) {
                write_instance(backend, &nat, content, out).await?;
            }
        }
        Whole::Datastore(_) | Whole::Nat | Whole::Instances => {
            let mut separator = "";
            for (_, router) in backend.nats() {
                // One that went away meanwhile is not there.
                let Some(nat) = backend.nat(router) else { continue };
                out.push(separator).await?;
                write_instance(backend, &nat, content, out).await?;
                separator = ",";
            }
        }
    }
    out.push(end).await?;
    out.flush().await
}

async fn write_instance<B: Nat>(
    backend: &B,
    nat: &NatInstance,
    content: Content,
    out: &mut Out,
) -> Result<(), Gone> {
    let head: Map<String, Value> = nat.head().into_iter().filter(|(name, _)| content.has(name)).collect();
    let head = Value::from(head).to_string();
    out.push(head.strip_suffix('}').unwrap_or(&head)).await?;
    let tally = if content.has("mapping-table") {
        out.push(",\"mapping-table\":{\"mapping-entry\":[").await?;
        let tally = write_table(backend, nat, Some(out)).await?;
        out.push("]}").await?;
        tally
    } else {
        write_table(backend, nat, None).await?
    };
    if content.has("statistics") {
        out.push(&format!(",\"statistics\":{}", statistics(nat, &tally))).await?;
    }
    out.push("}").await
}

/// The entries of the mapping table, to `out` if there is one.
async fn write_table<B: Nat>(
    backend: &B,
    nat: &NatInstance,
    mut out: Option<&mut Out>,
) -> Result<Tally, Gone> {
    let mut tally = Tally::of(nat);
    let mut separator = "";
    for entry in nat.static_entries() {
        if let Some(out) = &mut out {
            out.push(&format!("{separator}{entry}")).await?;
            separator = ",";
        }
    }
    let mut rows = Mappings::new(backend, nat);
    while let Some((entry, row)) = rows.next().await {
        tally.add(&row);
        if let Some(out) = &mut out {
            out.push(&format!("{separator}{entry}")).await?;
            separator = ",";
        }
    }
    tally.silent = rows.silent;
    Ok(tally)
}

/// The mappings of hosts as they tell them.
struct Mappings<'a, I> {
    inquiry: I,
    nat: &'a NatInstance,
    rows: std::vec::IntoIter<MappingRow>,
    /// Hosts that did not tell all.
    silent: Vec<String>,
}

impl<'a, I: Parts> Mappings<'a, I> {
    fn new<B: Nat<Inquiry = I>>(backend: &B, nat: &'a NatInstance) -> Self {
        Self { inquiry: backend.mappings(nat), nat, rows: Vec::new().into_iter(), silent: Vec::new() }
    }

    async fn next(&mut self) -> Option<(Value, MappingRow)> {
        loop {
            for row in self.rows.by_ref() {
                if let Some(entry) = self.nat.entry(&row) {
                    return Some((entry, row));
                }
            }
            match self.inquiry.next().await? {
                Part::End { result: Ok(()), .. } => {}
                Part::End { host, result: Err(_) } => self.silent.push(host),
                Part::Rows(lines) => {
                    let rows = serde_json::Deserializer::from_slice(&lines).into_iter();
                    match rows.collect::<Result<Vec<MappingRow>, _>>() {
                        Ok(rows) => self.rows = rows.into_iter(),
                        Err(error) => {
                            tracing::warn!(%error, "mappings that do not parse");
                            self.silent.push("one whose mappings do not parse".to_owned());
                        }
                    }
                }
            }
        }
    }
}

/// What is counted while mappings pass. Grows with the VMs of a router, not with their mappings.
#[derive(Debug, Default)]
struct Tally {
    per_protocol: BTreeMap<u8, u32>,
    /// Internal addresses with the external ones that they have.
    pairs: BTreeSet<(Ipv4Addr, Ipv4Addr)>,
    ports: u32,
    silent: Vec<String>,
}

impl Tally {
    fn of(nat: &NatInstance) -> Self {
        use super::instance::StaticMapping;
        let mut tally = Self::default();
        for mapping in &nat.static_mappings {
            match mapping {
                StaticMapping::Address { internal, external } => {
                    tally.pairs.insert((*internal, *external));
                }
                StaticMapping::Port { protocol, internal, external } => {
                    tally.count(*protocol, (*internal.ip(), *external.ip()));
                }
            }
        }
        tally
    }

    fn add(&mut self, row: &MappingRow) {
        self.count(row.protocol, (*row.internal.ip(), *row.external.ip()));
    }

    fn count(&mut self, protocol: u8, pair: (Ipv4Addr, Ipv4Addr)) {
        *self.per_protocol.entry(protocol).or_default() += 1;
        self.ports += 1;
        self.pairs.insert(pair);
    }

    fn told(&self) -> Value {
        let subscribers: BTreeSet<Ipv4Addr> = self.pairs.iter().map(|(internal, _)| *internal).collect();
        let each = self.per_protocol.iter();
        let each: Value = each.map(|(id, total)| json!({"protocol-id": id, "total": total})).collect();
        json!({
            "total-active-subscribers": subscribers.len(),
            "total-address-mappings": self.pairs.len(),
            "total-port-mappings": self.ports,
            "total-per-protocol": each,
        })
    }
}

/// Totals are those of all hosts, or not there.
fn statistics(nat: &NatInstance, tally: &Tally) -> Value {
    let mut statistics = nat.statistics();
    if tally.silent.is_empty() {
        statistics.insert("mappings-statistics".to_owned(), tally.told());
    }
    statistics.into()
}

/// As much of an instance as `path` needs: nothing is asked of hosts for what the controller knows.
///
/// # Errors
/// Hosts that know it do not answer.
pub(super) async fn part<B: Nat>(backend: &B, nat: &NatInstance, path: &[Segment]) -> Result<Value, Failure> {
    let step = |number: usize| path.get(number).map(|step: &Segment| step.name.as_str());
    let mut tree = nat.head();
    match (step(0), step(1)) {
        (Some("statistics"), None | Some("mappings-statistics")) => {
            let Ok(tally) = write_table(backend, nat, None).await else { return Ok(tree.into()) };
            if !tally.silent.is_empty() && step(1).is_some() {
                return Err(Failure::silent(&tally.silent));
            }
            tree.insert("statistics".to_owned(), statistics(nat, &tally));
        }
        (Some("statistics"), Some(_)) => {
            tree.insert("statistics".to_owned(), nat.statistics().into());
        }
        (Some("mapping-table"), Some("mapping-entry")) => {
            let index = path.get(1).and_then(|step| step.keys.first()).and_then(|key| key.parse().ok());
            let entry = match index {
                Some(index) => one_entry(backend, nat, index).await?,
                None => None,
            };
            tree.insert("mapping-table".to_owned(), json!({"mapping-entry": Vec::from_iter(entry)}));
        }
        _ => {}
    }
    Ok(tree.into())
}

async fn one_entry<B: Nat>(backend: &B, nat: &NatInstance, index: u32) -> Result<Option<Value>, Failure> {
    let is_it = |entry: &Value| entry["index"] == index;
    if let Some(entry) = nat.static_entries().find(is_it) {
        return Ok(Some(entry));
    }
    let mut rows = Mappings::new(backend, nat);
    while let Some((entry, _)) = rows.next().await {
        if is_it(&entry) {
            return Ok(Some(entry));
        }
    }
    if rows.silent.is_empty() { Ok(None) } else { Err(Failure::silent(&rows.silent)) }
}
