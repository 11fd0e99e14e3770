//! The API on its listeners: TLS, where a request came from, and who is asked who the caller is.

use crate::agents;
use crate::config::{Auth, TlsFiles};
use crate::keystone::Keystone;
use crate::server::{ServerError, StoreFile, open_store};
use api::{Authenticate, AuthenticationError, Backend, Caller, Rank};
use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::serve::IncomingStream;
use identity::{Identity, Scope, Source};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Somebody who connects and does not finish the handshake is cut off.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes under way; more wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 256;

/// Who knows whose a token is.
pub(crate) enum Authentication {
    Builtin(Arc<Identity>),
    Keystone(Box<Keystone>),
}

impl Authenticate for Authentication {
    async fn authenticate(&self, token: &str) -> Result<Caller, AuthenticationError> {
        let identity = match self {
            Self::Builtin(identity) => identity,
            Self::Keystone(keystone) => return keystone.caller(token).await,
        };
        let session = identity.session(token).ok_or(AuthenticationError::Unauthorized)?;
        let project_id = match &session.scope {
            Scope::Project { project, .. } => project.id.to_string(),
            Scope::Unscoped | Scope::Domain(_) | Scope::System => String::new(),
        };
        let rank = Rank::of(session.roles.iter().map(|role| role.name.as_str()));
        Ok(Caller { project_id, rank })
    }
}

/// The router for `api_listen`, whose callers are authenticated as configured.
///
/// # Errors
/// The identity store or the authorities of Keystone cannot be opened.
pub(crate) fn listener_router<B: Backend>(
    auth: &Auth,
    data_dir: Option<&Path>,
    service: Arc<B>,
) -> Result<Router, ServerError> {
    match auth {
        Auth::None => Ok(api::router(service)),
        Auth::Builtin(settings) => {
            let store = Arc::new(open_store(data_dir, StoreFile::Identity)?);
            if store.snapshot().users.is_empty() {
                tracing::warn!(
                    "there are no users yet: `nanboku server bootstrap` makes the first administrator"
                );
            }
            let identity = Arc::new(Identity::new(store, settings.clone(), agents::now_us));
            let authentication = Arc::new(Authentication::Builtin(Arc::clone(&identity)));
            Ok(api::authenticated(service, authentication).merge(identity::router(identity)))
        }
        Auth::Keystone(settings) => {
            let keystone = Keystone::new(settings.clone(), agents::now_s);
            let keystone = keystone.map_err(ServerError::Keystone)?;
            Ok(api::authenticated(service, Arc::new(Authentication::Keystone(Box::new(keystone)))))
        }
    }
}

/// Where a connection came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(Source);

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self(Source::Address(stream.remote_addr().ip()))
    }
}

impl Connected<IncomingStream<'_, TlsListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TlsListener>) -> Self {
        Self(Source::Address(stream.remote_addr().ip()))
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(_stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(Source::Local)
    }
}

/// Tells the handlers where a request came from and, over TLS, that the client's URLs begin with `https`.
pub(crate) fn with_origin(router: Router, https: bool) -> Router {
    router.layer(middleware::from_fn_with_state(https, origin))
}

async fn origin(
    State(https): State<bool>,
    ConnectInfo(Peer(source)): ConnectInfo<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(source);
    if https && let Some(uri) = absolute(&request) {
        *request.uri_mut() = uri;
    }
    next.run(request).await
}

/// `https://HOST/PATH`; `None` without a usable Host header.
fn absolute(request: &Request) -> Option<Uri> {
    let host: Authority = request.headers().get(header::HOST)?.to_str().ok()?.parse().ok()?;
    let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    Uri::builder().scheme(Scheme::HTTPS).authority(host).path_and_query(path).build().ok()
}

/// A listener whose handshakes wait for nobody: each is a task of its own.
pub(crate) struct TlsListener {
    address: SocketAddr,
    accepted: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
}

impl TlsListener {
    /// # Errors
    /// The certificate or its key cannot be used, or the listener is dead.
    pub(crate) fn new(listener: TcpListener, files: &TlsFiles) -> Result<Self, ServerError> {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(files)?));
        let address = listener.local_addr();
        let address = address.map_err(|source| ServerError::Listen {
            field: "api_listen",
            address: "any".to_owned(),
            source,
        })?;
        let (sender, accepted) = mpsc::channel(1);
        tokio::spawn(accept_all(listener, acceptor, sender));
        Ok(Self { address, accepted })
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // The acceptor ends after the server only.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// Ends when nobody takes connections any more.
async fn accept_all(
    mut listener: TcpListener,
    acceptor: TlsAcceptor,
    sender: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let (stream, address) = tokio::select! {
            // The one of axum goes on after errors such as too many open files.
            accepted = axum::serve::Listener::accept(&mut listener) => accepted,
            () = sender.closed() => return,
        };
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        tokio::spawn(async move {
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
            drop(permit);
            match handshake {
                Ok(Ok(stream)) => drop(sender.send((stream, address)).await),
                Ok(Err(error)) => tracing::debug!(%address, %error, "TLS handshake failed"),
                Err(_) => tracing::debug!(%address, "TLS handshake took too long"),
            }
        });
    }
}

fn server_config(files: &TlsFiles) -> Result<ServerConfig, ServerError> {
    let read = |path: &Path| {
        fs::read(path).map_err(|source| ServerError::Certificates { path: path.to_owned(), source })
    };
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source: Box<dyn std::error::Error + Send + Sync>| ServerError::ApiTls { path, source }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(&files.certificate)?).collect();
    let chain = chain.map_err(|error| unusable(&files.certificate)(error.into()))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?);
    let key = key.map_err(|error| unusable(&files.key)(error.into()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| unusable(&files.certificate)(error.into()))?;
    let config = builder.with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(|error| unusable(&files.certificate)(error.into()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
