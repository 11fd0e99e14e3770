//! Requests of guests, one connection after the other: who asks, the headers that say so, the answer back.
//!
//! Bounds: connections in all and of one guest, the time of a header and of a whole exchange, the size of a body. A
//! guest that uses up its own has no more; the others are served.

use super::settings::Signer;
use super::{Counters, Guest, WhoIs};
use http::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error as StdError;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Connections at a time, in all.
const CONNECTIONS_MAX: usize = 512;
/// Likewise of one guest.
const CONNECTIONS_PER_GUEST_MAX: usize = 16;
/// A request's header comes within this time.
const HEADER_WAIT: Duration = Duration::from_secs(10);
/// A whole exchange takes no longer.
const EXCHANGE_WAIT: Duration = Duration::from_secs(60);
/// Requests are small: the largest is an encrypted password.
const BODY_MAX: usize = 64 << 10;

type Body = BoxBody<Bytes, Box<dyn StdError + Send + Sync>>;

pub(super) struct Proxy {
    signer: Signer,
    questions: mpsc::Sender<WhoIs>,
    counters: Arc<Counters>,
    connections: Semaphore,
    /// By guest; those that have none are not there.
    by_guest: Mutex<BTreeMap<Ipv4Addr, usize>>,
}

/// A guest's place, given back when it is dropped.
struct Place<'a> {
    proxy: &'a Proxy,
    guest: Ipv4Addr,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut by_guest = self.proxy.by_guest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_guest.get_mut(&self.guest) {
            *count -= 1;
            if *count == 0 {
                by_guest.remove(&self.guest);
            }
        }
    }
}

impl Proxy {
    pub(super) fn new(signer: Signer, questions: mpsc::Sender<WhoIs>, counters: Arc<Counters>) -> Arc<Self> {
        let connections = Semaphore::new(CONNECTIONS_MAX);
        Arc::new(Self { signer, questions, counters, connections, by_guest: Mutex::default() })
    }

    /// Serves until the listener fails.
    pub(super) async fn run(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    let IpAddr::V4(guest) = from.ip() else { continue };
                    let proxy = Arc::clone(&self);
                    tokio::spawn(async move { proxy.connection(stream, guest).await });
                }
                Err(error) => {
                    // Of one connection, or of too many open files: both pass.
                    tracing::warn!(
                        error = crate::chain(&error),
                        "a connection to the metadata service failed"
                    );
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connection(&self, stream: TcpStream, guest: Ipv4Addr) {
        let (Ok(_permit), Some(_place)) = (self.connections.try_acquire(), self.place(guest)) else {
            Counters::note(&self.counters.refused);
            return;
        };
        let service =
            service_fn(|request| async move { Ok::<_, Infallible>(self.answer(request, guest).await) });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_WAIT)
            .keep_alive(false)
            // Simple clients say that they are done before they read.
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        // A guest may go at any time.
        drop(tokio::time::timeout(EXCHANGE_WAIT, connection).await);
    }

    fn place(&self, guest: Ipv4Addr) -> Option<Place<'_>> {
        let mut by_guest = self.by_guest.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_guest.entry(guest).or_default();
        if *count >= CONNECTIONS_PER_GUEST_MAX {
            return None;
        }
        *count += 1;
        Some(Place { proxy: self, guest })
    }

    async fn answer(&self, request: Request<Incoming>, guest: Ipv4Addr) -> Response<Body> {
        let Some(guest) = self.who_is(guest).await else {
            Counters::note(&self.counters.unknown_guest);
            return said(StatusCode::NOT_FOUND, "this address belongs to no port of this host\n");
        };
        match self.pass_on(request, &guest).await {
            Ok(response) => {
                Counters::note(&self.counters.answered);
                response
            }
            Err(error) => {
                Counters::note(&self.counters.endpoint_failed);
                tracing::debug!(error = crate::chain(error.as_ref()), "the metadata endpoint did not answer");
                said(StatusCode::BAD_GATEWAY, "the metadata endpoint of this host does not answer\n")
            }
        }
    }

    async fn who_is(&self, address: Ipv4Addr) -> Option<Guest> {
        let (answer, wait) = oneshot::channel();
        self.questions.send(WhoIs { address, answer }).await.ok()?;
        wait.await.ok()?
    }

    async fn pass_on(
        &self,
        request: Request<Incoming>,
        guest: &Guest,
    ) -> Result<Response<Body>, Box<dyn StdError + Send + Sync>> {
        let authority = self.signer.endpoint.authority();
        let (mut parts, body) = request.into_parts();
        parts.uri = path_of(&parts.uri)?;
        strip(&mut parts.headers);
        parts.headers.insert(HOST, HeaderValue::from_str(&authority)?);
        for (name, value) in self.identity(guest) {
            parts.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&value)?);
        }
        let stream = TcpStream::connect(&authority).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let response = sender.send_request(Request::from_parts(parts, Limited::new(body, BODY_MAX))).await?;
        let (mut parts, body) = response.into_parts();
        strip_hops(&mut parts.headers);
        Ok(Response::from_parts(parts, body.map_err(Into::into).boxed()))
    }

    /// As Neutron's metadata agent says it.
    fn identity(&self, guest: &Guest) -> [(&'static str, String); 5] {
        [
            ("x-forwarded-for", guest.address.to_string()),
            ("x-instance-id", guest.instance_id.clone()),
            ("x-tenant-id", guest.project_id.clone()),
            ("x-instance-id-signature", self.signer.sign(&guest.instance_id)),
            ("x-neutron-network-id", guest.network_id.clone()),
        ]
    }
}

/// Path and query alone: whatever host a guest names, it is the endpoint that is asked.
fn path_of(uri: &Uri) -> Result<Uri, http::uri::InvalidUri> {
    uri.path_and_query().map_or("/", |path| path.as_str()).parse()
}

/// Takes away what guests must not say of themselves, and what concerns their own connection only.
fn strip(headers: &mut HeaderMap) {
    const IDENTITY: [&str; 6] =
        ["x-forwarded", "x-instance-", "x-tenant-", "x-neutron-", "x-ovn-", "x-metadata-provider"];
    let of_identity = |name: &HeaderName| {
        let name = name.as_str();
        name == "forwarded" || IDENTITY.iter().any(|prefix| name.starts_with(prefix))
    };
    let names: Vec<HeaderName> = headers.keys().filter(|name| of_identity(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
    strip_hops(headers);
}

/// RFC 9110 §7.6.1.
fn strip_hops(headers: &mut HeaderMap) {
    const HOPS: [&str; 7] = [
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for name in named.iter().map(String::as_str).chain(HOPS).chain(["connection"]) {
        headers.remove(name);
    }
}

fn said(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::from(text).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Another tenant's metadata for the asking (OSSA-2013-033): no header of a guest's gets through.
    #[test]
    fn what_a_guest_says_of_itself_is_taken_away() {
        let mut headers = HeaderMap::new();
        for name in [
            "X-Instance-ID",
            "x-instance-id-signature",
            "X-Tenant-ID",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "Forwarded",
            "X-Neutron-Router-ID",
            "X-OVN-Network-ID",
            "X-Metadata-Provider",
            "X-Metadata-Provider-Signature",
            "Keep-Alive",
            "X-Mine",
        ] {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("1"));
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("2"));
        }
        headers.append(CONNECTION, HeaderValue::from_static("close, X-Mine"));
        headers.append("x-aws-ec2-metadata-token", HeaderValue::from_static("token"));
        strip(&mut headers);
        let left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-aws-ec2-metadata-token"]);
    }

    #[test]
    fn only_the_path_of_a_request_counts() {
        for (uri, want) in [
            ("/openstack/latest?a=b", "/openstack/latest?a=b"),
            ("http://elsewhere/x", "/x"),
            ("http://elsewhere", "/"),
        ] {
            assert_eq!(path_of(&uri.parse().unwrap()).unwrap().to_string(), want);
        }
    }
}
