//! The API's connections: bounded in number, and in the time that every part of a request may take.
//!
//! A client that is slow, or pretends to be, has a place among the connections of its address until it is cut off;
//! others do not wait for it. Handshakes, heads, bodies and answers have their own limits, because each can be
//! stretched by itself. An answer that is a stream may last, as long as the client takes what there is.

use api::Error;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{Uri, header};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use identity::Source;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Bytes of a request's head, and of what is read ahead.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Header fields of a request.
const HEADERS_MAX: usize = 100;

/// What one client, and all of them, may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of one listener; more wait in the kernel's queue. With the agents' they stay below the 1024 file
    /// descriptors that a process has as a rule.
    pub connections: usize,
    /// Connections of one address; more are closed at once.
    pub connections_per_address: usize,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// Until the head of a request has come, from the connection's start or from the last answer on.
    pub head: Duration,
    /// From the head to the end of the body.
    pub body: Duration,
    /// From the head of the request to the head of the answer.
    pub answer: Duration,
    /// How long a client may take nothing of an answer.
    pub unread: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            connections_per_address: 256,
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(30),
            body: Duration::from_secs(30),
            answer: Duration::from_secs(60),
            unread: Duration::from_secs(30),
        }
    }
}

/// Where a connection comes from, of what a listener says.
pub(crate) trait Peer {
    fn source(&self) -> Source;
}

impl Peer for SocketAddr {
    fn source(&self) -> Source {
        Source::Address(self.ip())
    }
}

impl Peer for tokio::net::unix::SocketAddr {
    fn source(&self) -> Source {
        Source::Local
    }
}

/// Serves until `stop`; then requests under way are finished.
pub(crate) async fn serve<L>(
    mut listener: L,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) where
    L: Listener,
    L::Addr: Peer,
{
    let places = Arc::new(Semaphore::new(limits.connections));
    let guests = Arc::new(Guests::default());
    let graceful = GracefulShutdown::new();
    let accept = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (io, address) = listener.accept().await;
            let source = address.source();
            let Some(guest) = guests.enter(source, limits.connections_per_address) else {
                tracing::debug!(?source, "too many connections of one address");
                continue;
            };
            let connection = Connection { source, limits, router: router.clone(), https: tls.is_some() };
            let (tls, watcher, stop) = (tls.clone(), graceful.watcher(), stop.clone());
            tokio::spawn(async move {
                connection.run(io, tls, watcher, stop).await;
                drop((place, guest));
            });
        }
    };
    stop.run_until_cancelled(accept).await;
    drop(listener);
    graceful.shutdown().await;
}

/// Connections by address.
#[derive(Default)]
struct Guests(Mutex<HashMap<IpAddr, usize>>);

/// A place that is given back when dropped.
struct Guest {
    guests: Arc<Guests>,
    address: IpAddr,
}

impl Guests {
    /// None: its address has enough. Whoever reaches the socket of this machine is the operator.
    fn enter(self: &Arc<Self>, source: Source, max: usize) -> Option<Option<Guest>> {
        let Source::Address(address) = source else { return Some(None) };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Some(Guest { guests: Arc::clone(self), address }))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[derive(Clone)]
struct Connection {
    source: Source,
    limits: Limits,
    router: Router,
    https: bool,
}

impl Connection {
    async fn run(
        self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        tls: Option<TlsAcceptor>,
        watcher: Watcher,
        stop: CancellationToken,
    ) {
        let source = self.source;
        let Some(tls) = tls else { return self.talk(io, watcher).await };
        let handshake = timeout(self.limits.handshake, tls.accept(io));
        match stop.run_until_cancelled(handshake).await {
            Some(Ok(Ok(io))) => self.talk(io, watcher).await,
            Some(Ok(Err(error))) => tracing::debug!(?source, %error, "TLS handshake failed"),
            Some(Err(_)) => tracing::debug!(?source, "TLS handshake took too long"),
            // Nothing was asked yet: nobody waits for it.
            None => {}
        }
    }

    async fn talk(self, io: impl AsyncRead + AsyncWrite + Send + 'static, watcher: Watcher) {
        let source = self.source;
        let mut io = TimeoutStream::new(io);
        io.set_write_timeout(Some(self.limits.unread));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX);
        let service = service_fn(move |request| self.clone().answer(request));
        let connection = http.serve_connection(TokioIo::new(Box::pin(io)), service);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(?source, error = %crate::agents::control::chain(&error), "connection cut");
        }
    }

    /// One request. What takes too long is told, and the connection ends with it.
    async fn answer(self, request: Request<Incoming>) -> Result<Response, Infallible> {
        let late = Arc::new(AtomicBool::new(false));
        let end = Box::pin(tokio::time::sleep(self.limits.body));
        let mut request = request.map(|body| Body::new(Timely { body, end, late: Arc::clone(&late) }));
        request.extensions_mut().insert(self.source);
        if self.https
            && let Some(uri) = absolute(&request)
        {
            *request.uri_mut() = uri;
        }
        match timeout(self.limits.answer, self.router.oneshot(request)).await {
            Ok(_) if late.load(Ordering::Relaxed) => Ok(Error::HTTPRequestTimeout {}.into_response()),
            Ok(answer) => answer,
            Err(_) => Ok(Error::HTTPServiceUnavailable {}.into_response()),
        }
    }
}

/// `https://HOST/PATH`; `None` without a usable Host header. The URLs in answers begin like it.
fn absolute(request: &Request) -> Option<Uri> {
    let host: Authority = request.headers().get(header::HOST)?.to_str().ok()?.parse().ok()?;
    let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    Uri::builder().scheme(Scheme::HTTPS).authority(host).path_and_query(path).build().ok()
}

/// A body that fails when its time is over, and says so in `late`.
struct Timely {
    body: Incoming,
    end: Pin<Box<Sleep>>,
    late: Arc<AtomicBool>,
}

impl hyper::body::Body for Timely {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(axum::Error::new)));
        }
        match self.end.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                self.late.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(axum::Error::new(Error::HTTPRequestTimeout {}))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
