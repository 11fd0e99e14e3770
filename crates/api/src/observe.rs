//! What hosts see now, under `/nanboku/v1`: sessions, MACs, neighbours, rules.
//!
//! Answers are streamed as the hosts tell them. `Accept: application/x-ndjson` gives one JSON object per line and,
//! as the last line, `{"hosts": […]}`; anything else one JSON document with the rows and the same `hosts`: who was
//! asked, and whether and why not each answered.

use crate::Error;
use crate::backend::{Admin, Part, Parts};
use crate::handlers::Answer;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use model::question::{FlowFilter, MeteringFilter, NetworkFilter, Question, SessionFilter, protocol};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::str::FromStr;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Chunks that wait for the client.
const CHUNKS_MAX: usize = 4;
const NDJSON: &str = "application/x-ndjson";

pub(crate) type Pairs = Query<Vec<(String, String)>>;

/// See [`session_filter`].
pub(crate) async fn sessions<B: Admin>(
    State(backend): State<Arc<B>>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Answer {
    let (host, filter) = session_filter(pairs)?;
    let inquiry = backend.ask(Question::Sessions(filter), host.as_deref())?;
    Ok(streamed("sessions", inquiry, &headers, false))
}

/// The same filters; at least one is needed.
pub(crate) async fn end_sessions<B: Admin>(
    State(backend): State<Arc<B>>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Answer {
    if pairs.is_empty() {
        return Err(Error::bad_request("which sessions to end is not said: give a filter, or host"));
    }
    let (host, filter) = session_filter(pairs)?;
    let inquiry = backend.ask(Question::EndSessions(filter), host.as_deref())?;
    Ok(streamed("sessions", inquiry, &headers, false))
}

/// `?host=&network_id=`.
pub(crate) async fn fdb<B: Admin>(
    State(backend): State<Arc<B>>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Answer {
    let (host, filter) = network_filter(pairs)?;
    Ok(streamed("fdb", backend.ask(Question::Fdb(filter), host.as_deref())?, &headers, false))
}

/// `?host=&network_id=`.
pub(crate) async fn neighbors<B: Admin>(
    State(backend): State<Arc<B>>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Answer {
    let (host, filter) = network_filter(pairs)?;
    Ok(streamed("neighbors", backend.ask(Question::Neighbors(filter), host.as_deref())?, &headers, false))
}

/// `?host=&stage=`.
pub(crate) async fn flows<B: Admin>(
    State(backend): State<Arc<B>>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Answer {
    let mut host = None;
    let mut filter = FlowFilter::default();
    for (key, value) in pairs {
        match key.as_str() {
            "host" => host = Some(value),
            "stage" => filter.stage = Some(value),
            _ => return Err(unknown(&key)),
        }
    }
    Ok(streamed("flows", backend.ask(Question::Flows(filter), host.as_deref())?, &headers, false))
}

/// `?host=&label_id=`.
pub(crate) async fn metering<B: Admin>(
    State(backend): State<Arc<B>>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Answer {
    let mut host = None;
    let mut filter = MeteringFilter::default();
    for (key, value) in pairs {
        match key.as_str() {
            "host" => host = Some(value),
            "label_id" => filter.label = Some(parsed(&key, &value)?),
            _ => return Err(unknown(&key)),
        }
    }
    Ok(streamed("metering", backend.ask(Question::Metering(filter), host.as_deref())?, &headers, false))
}

/// `?host=`.
pub(crate) async fn ports<B: Admin>(
    State(backend): State<Arc<B>>,
    Query(pairs): Pairs,
    headers: HeaderMap,
) -> Answer {
    let mut host = None;
    for (key, value) in pairs {
        match key.as_str() {
            "host" => host = Some(value),
            _ => return Err(unknown(&key)),
        }
    }
    Ok(streamed("ports", backend.ask(Question::Ports, host.as_deref())?, &headers, false))
}

/// `?host=&limit=ROWS_PER_HOST&id=&port_id=&router_id=&network_id=&address=&protocol=&state=&nat=`.
fn session_filter(pairs: Vec<(String, String)>) -> Result<(Option<String>, SessionFilter), Error> {
    let mut host = None;
    let mut filter = SessionFilter::default();
    for (key, value) in pairs {
        match key.as_str() {
            "host" => host = Some(value),
            "limit" => filter.limit = Some(parsed(&key, &value)?),
            "id" => filter.id = Some(value),
            "port_id" => filter.port = Some(parsed(&key, &value)?),
            "router_id" => filter.router = Some(parsed(&key, &value)?),
            "network_id" => filter.network = Some(parsed(&key, &value)?),
            "address" => filter.address = Some(parsed(&key, &value)?),
            "protocol" => filter.protocol = Some(protocol(&value).map_err(|error| bad(&key, error))?),
            "state" => filter.state = Some(parsed(&key, &value)?),
            "nat" => filter.nat = Some(parsed(&key, &value)?),
            _ => return Err(unknown(&key)),
        }
    }
    Ok((host, filter))
}

fn network_filter(pairs: Vec<(String, String)>) -> Result<(Option<String>, NetworkFilter), Error> {
    let mut host = None;
    let mut filter = NetworkFilter::default();
    for (key, value) in pairs {
        match key.as_str() {
            "host" => host = Some(value),
            "network_id" => filter.network = Some(parsed(&key, &value)?),
            _ => return Err(unknown(&key)),
        }
    }
    Ok((host, filter))
}

pub(crate) fn parsed<T: FromStr<Err: std::fmt::Display>>(key: &str, value: &str) -> Result<T, Error> {
    value.parse().map_err(|error| bad(key, error))
}

fn bad(key: &str, error: impl std::fmt::Display) -> Error {
    Error::bad_request(format!("{key}: {error}"))
}

pub(crate) fn unknown(key: &str) -> Error {
    Error::bad_request(format!("['{key}'] is invalid attribute for filtering"))
}

/// An answer that is sent as it comes; `nameless`: without the hosts' names. When the client leaves, the inquiry is dropped, and agents stop.
pub(crate) fn streamed(
    name: &'static str,
    mut inquiry: impl Parts,
    headers: &HeaderMap,
    nameless: bool,
) -> Response {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let lines = accepted.is_some_and(|accepted| accepted.contains(NDJSON));
    let (sender, chunks) = mpsc::channel::<Result<Vec<u8>, Infallible>>(CHUNKS_MAX);
    tokio::spawn(async move {
        let mut format = Format::new(name, lines);
        format.nameless = nameless;
        while let Some(part) = inquiry.next().await {
            let chunk = format.part(part);
            if !chunk.is_empty() && sender.send(Ok(chunk)).await.is_err() {
                return;
            }
        }
        // The client may have left.
        let _ = sender.send(Ok(format.end())).await;
    });
    let kind = if lines { NDJSON } else { "application/json" };
    ([(header::CONTENT_TYPE, kind)], Body::from_stream(ReceiverStream::new(chunks))).into_response()
}

/// Turns parts into the bytes of the one or the other form.
struct Format {
    name: &'static str,
    lines: bool,
    begun: bool,
    nameless: bool,
    hosts: Vec<Value>,
}

impl Format {
    fn new(name: &'static str, lines: bool) -> Self {
        Self { name, lines, begun: false, nameless: false, hosts: Vec::new() }
    }

    fn part(&mut self, part: Part) -> Vec<u8> {
        match part {
            Part::Rows(rows) if self.lines => rows,
            Part::Rows(rows) => self.elements(&rows),
            Part::End { host, result } => {
                let host = if self.nameless { String::new() } else { host };
                self.hosts.push(json!({
                    "host": host, "answered": result.is_ok(), "reason": result.err(),
                }));
                Vec::new()
            }
        }
    }

    /// Lines as elements of an array. Text in JSON has no line ends of its own.
    fn elements(&mut self, rows: &[u8]) -> Vec<u8> {
        let mut chunk = Vec::with_capacity(rows.len() + 64);
        for row in rows.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()) {
            chunk.extend_from_slice(&self.separator());
            chunk.extend_from_slice(row);
        }
        chunk
    }

    fn separator(&mut self) -> Vec<u8> {
        if std::mem::replace(&mut self.begun, true) {
            b",\n".to_vec()
        } else {
            format!("{{\"{}\": [\n", self.name).into_bytes()
        }
    }

    fn end(mut self) -> Vec<u8> {
        self.hosts.sort_by_key(|host| host["host"].to_string());
        let hosts = Value::from(std::mem::take(&mut self.hosts));
        if self.lines {
            return format!("{}\n", json!({"hosts": hosts})).into_bytes();
        }
        let begin = if self.begun { Vec::new() } else { self.separator() };
        [begin, format!("],\n\"hosts\": {hosts}}}\n").into_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(lines: bool, parts: Vec<Part>) -> String {
        let mut format = Format::new("fdb", lines);
        let mut bytes: Vec<u8> = parts.into_iter().flat_map(|part| format.part(part)).collect();
        bytes.extend(format.end());
        String::from_utf8(bytes).unwrap()
    }

    fn parts() -> Vec<Part> {
        vec![
            Part::Rows(b"{\"n\":1}\n{\"n\":2}\n".to_vec()),
            Part::End { host: "ahv02".into(), result: Err("it is not connected".into()) },
            Part::Rows(b"{\"n\":3}\n".to_vec()),
            Part::End { host: "ahv01".into(), result: Ok(()) },
        ]
    }

    #[test]
    fn rows_and_who_did_not_answer_are_one_document_or_lines() {
        let document: Value = serde_json::from_str(&formatted(false, parts())).unwrap();
        assert_eq!(document["fdb"], json!([{"n": 1}, {"n": 2}, {"n": 3}]));
        let hosts = json!([
            {"host": "ahv01", "answered": true, "reason": null},
            {"host": "ahv02", "answered": false, "reason": "it is not connected"},
        ]);
        assert_eq!(document["hosts"], hosts);
        let text = formatted(true, parts());
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, [json!({"n": 1}), json!({"n": 2}), json!({"n": 3}), json!({"hosts": hosts})]);
    }

    #[test]
    fn nothing_at_all_is_a_document_too() {
        let document: Value = serde_json::from_str(&formatted(false, vec![])).unwrap();
        assert_eq!(document, json!({"fdb": [], "hosts": []}));
    }

    #[test]
    fn a_filter_that_does_not_parse_is_named_with_the_reason() {
        let filter = |key: &str, value: &str| session_filter(vec![(key.into(), value.into())]);
        for (key, value, says) in [
            ("address", "vm1", "address: 'vm1' is no IP address"),
            ("state", "open", "state: 'open' is no state"),
            ("nat", "x", "nat: 'x' is no kind of NAT"),
            ("protocol", "sctp", "protocol: 'sctp' is no protocol"),
            ("port_id", "vm1", "port_id: "),
            ("limit", "-1", "limit: "),
            ("colour", "red", "['colour'] is invalid attribute"),
        ] {
            let error = filter(key, value).unwrap_err().to_string();
            assert!(error.starts_with(says), "{key}={value}: {error}");
        }
        assert_eq!(filter("host", "ahv01").unwrap().0.as_deref(), Some("ahv01"));
    }
}
