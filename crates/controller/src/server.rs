//! From a configuration to a running controller, and down again.
//!
//! [`Server::start`] either has everything (store, certificates, sockets) or nothing; what it lacks it says in
//! one sentence. Port 0 takes any free port, for tests: [`Server::api_address`] says which.

use crate::agents::{self, Hub};
use crate::api_server;
use crate::config::{Config, Protocol, TUNNEL_OVERHEAD};
use crate::connections;
use crate::meters::{self, ApiMeters};
use crate::nat_log::NatLog;
use crate::service;
use api::resources::NetworkType;
use axum::serve::ListenerExt as _;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::{Store, StoreError};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// An agent whose machine vanished is noticed after interval and timeout.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Somebody who connects and says nothing is cut off.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Streams of one connection: an agent needs one, and one for each question it answers; those are at most 8, and 32
/// captures.
const STREAMS_MAX: u32 = 64;
/// Bytes of one stream that nobody has read yet. The connection has room for those of all streams, so that an answer
/// whose asker is slow holds up no other, nor what the agent says by itself.
const STREAM_WINDOW: u32 = 256 << 10;
/// Requests under way get this long at the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot make the data directory {path}")]
    DataDir { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot read {path}; `nanboku ca init` and `nanboku ca issue` make the certificates")]
    Certificates { path: PathBuf, source: io::Error },
    #[error("the certificates in {dir} are not usable")]
    Tls { dir: PathBuf, source: tonic::transport::Error },
    #[error("{address} is taken by another process: stop it, or choose another `{field}`")]
    Taken { field: &'static str, address: String },
    #[error("cannot listen on {address} (`{field}`)")]
    Listen { field: &'static str, address: String, source: io::Error },
    #[error("cannot bring what an older version stored to this one")]
    Upgrade(#[source] api::Error),
    #[error("cannot keep the NAT log {path} (`nat_log`)")]
    NatLog { path: PathBuf, source: io::Error },
    #[error("the certificate or key {path} of the API is not usable")]
    ApiTls { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot read the authorities that Keystone's certificate is checked with (`keystone.ca`)")]
    Keystone(#[source] io::Error),
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
    #[error("a part of the controller stopped by itself; its log says why")]
    Died,
}

/// A running controller.
pub struct Server {
    pub store: Arc<Store>,
    pub hub: Arc<Hub>,
    pub api_address: Option<SocketAddr>,
    pub agents_address: SocketAddr,
    pub metrics_address: Option<SocketAddr>,
    api_socket: Option<PathBuf>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// Starts the controller and runs it until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, or that a part of it died.
pub async fn run(config: Config) -> Result<(), ServerError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Signals)?;
    let mut server = Server::start(config).await?;
    let result = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = server.died() => Err(ServerError::Died),
    };
    server.shutdown().await;
    result
}

impl Server {
    /// # Errors
    /// What is missing or taken. Nothing is left running then.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        let store = Arc::new(open_store(config.data_dir.as_deref(), StoreFile::Network)?);
        let tls = tls(&config)?;
        let stop = CancellationToken::new();
        let nat_log = open_nat_log(&config, &store)?;
        let settings = agent_settings(&config);
        let (service, control) =
            agents::Service::new(Arc::clone(&store), settings, nat_log.clone(), stop.clone());
        let hub = service.hub();
        let agents = listen("agents_listen", config.agents_listen).await?;
        let agents_address = local_address("agents_listen", &agents)?;
        let api = match config.api_listen {
            Some(address) => Some(listen("api_listen", address).await?),
            None => None,
        };
        let metrics = match config.metrics_listen {
            Some(address) => Some(listen("metrics_listen", address).await?),
            None => None,
        };
        let metrics_address =
            metrics.as_ref().map(|metrics| local_address("metrics_listen", metrics)).transpose()?;
        let api_address = api.as_ref().map(|api| local_address("api_listen", api)).transpose()?;
        let mut grpc = tonic::transport::Server::builder()
            .tls_config(tls)
            .map_err(|source| ServerError::Tls { dir: config.certificates.clone(), source })?
            .max_concurrent_streams(Some(STREAMS_MAX))
            .initial_stream_window_size(Some(STREAM_WINDOW))
            .initial_connection_window_size(Some(STREAM_WINDOW * (STREAMS_MAX + 1)))
            .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT));
        let socket = config.api_socket.as_deref().map(listen_unix).transpose()?;

        let mut tasks = JoinSet::new();
        tasks.spawn(control.run(stop.clone()));
        let grpc = grpc.add_service(service.grpc());
        let ended = stop.clone().cancelled_owned();
        tasks.spawn(async move {
            // Without Nagle: a delta is small and waits for nobody.
            let incoming = tokio_stream::StreamExt::map(TcpListenerStream::new(agents), |stream| {
                stream.inspect(|stream| drop(stream.set_nodelay(true)))
            });
            logged("agents", grpc.serve_with_incoming_shutdown(incoming, ended).await);
        });
        let meters = Arc::new(ApiMeters::default());
        if let Some(metrics) = metrics {
            let (store, hub) = (Arc::clone(&store), Arc::clone(&hub));
            tasks.spawn(meters::serve(metrics, store, hub, Arc::clone(&meters), stop.clone()));
        }
        let service = api_service(&config, &store, &hub, nat_log)?;
        let counted = |router: axum::Router| {
            let meters = Arc::clone(&meters);
            router.layer(axum::middleware::from_fn_with_state(meters, meters::count_requests))
        };
        if let Some(api) = api {
            let data_dir = config.data_dir.as_deref();
            let router = api_server::listener_router(&config.auth, data_dir, Arc::clone(&service))?;
            let tls = config.api_tls.as_ref().map(api_server::acceptor).transpose()?;
            // Without Nagle: an answer is one write, and waits for nobody.
            let api = api.tap_io(|stream| drop(stream.set_nodelay(true)));
            tasks.spawn(connections::serve(api, tls, counted(router), config.limits, stop.clone()));
        }
        if let Some(socket) = socket {
            let router = counted(api::router(service));
            tasks.spawn(connections::serve(socket, None, router, config.limits, stop.clone()));
        }
        tracing::info!(api = ?api_address, agents = %agents_address, "controller started");
        let api_socket = config.api_socket;
        Ok(Self { store, hub, api_address, agents_address, metrics_address, api_socket, stop, tasks })
    }

    /// Returns when a part ended though nobody asked it to.
    pub async fn died(&mut self) {
        self.tasks.join_next().await;
    }

    /// Lets requests under way finish, ends the streams, closes the store.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, all_ended).await.is_err() {
            tracing::warn!("requests were still under way after {SHUTDOWN_TIMEOUT:?}; cut");
        }
        if let Some(path) = &self.api_socket {
            // A socket file that stays is replaced at the next start.
            let _ = fs::remove_file(path);
        }
        tracing::info!("controller stopped");
    }
}

/// What is kept in a file of its own. Logging in changes nothing that agents wait for, so identity is apart.
#[derive(Clone, Copy, Debug)]
pub enum StoreFile {
    Network,
    Identity,
}

/// Opens a store in the data directory, which is made if missing.
///
/// # Errors
/// The directory cannot be made, or the store not opened.
pub fn open_store(data_dir: Option<&Path>, file: StoreFile) -> Result<Store, ServerError> {
    let Some(dir) = data_dir else { return Ok(Store::open(None)?) };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(dir).map_err(|source| ServerError::DataDir { path: dir.to_owned(), source })?;
    let name = match file {
        StoreFile::Network => "store.redb",
        StoreFile::Identity => "identity.redb",
    };
    Ok(Store::open(Some(&dir.join(name)))?)
}

/// What agents are told, and how they are judged.
fn agent_settings(config: &Config) -> agents::Settings {
    agents::Settings {
        tunnel: config.tunnel.to_string(),
        dvr_base_mac: config.dvr_base_mac,
        liveness_grace: config.liveness_grace,
        block_hold: config.nat.block_hold,
        block_reassign_after: config.nat.block_reassign_after,
        nat_timeouts: config.nat.timeouts,
    }
}

fn open_nat_log(config: &Config, store: &Store) -> Result<Option<Arc<NatLog>>, ServerError> {
    let Some(settings) = config.nat.log.clone() else { return Ok(None) };
    let path = settings.path.clone();
    let log = NatLog::open(settings, &store.snapshot(), agents::now_ms());
    Ok(Some(Arc::new(log.map_err(|source| ServerError::NatLog { path, source })?)))
}

fn tls(config: &Config) -> Result<ServerTlsConfig, ServerError> {
    let read = |name: String| {
        let path = config.certificates.join(name);
        fs::read(&path).map_err(|source| ServerError::Certificates { path, source })
    };
    let authority = read("ca.pem".to_owned())?;
    let certificate = read(format!("{}.pem", config.certificate))?;
    let key = read(format!("{}.key", config.certificate))?;
    Ok(ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate, key))
        .client_ca_root(Certificate::from_pem(authority))
        .client_auth_optional(false)
        .timeout(HANDSHAKE_TIMEOUT))
}

async fn listen(field: &'static str, address: SocketAddr) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| listen_error(field, address.to_string(), source))
}

fn listen_error(field: &'static str, address: String, source: io::Error) -> ServerError {
    match source.kind() {
        ErrorKind::AddrInUse => ServerError::Taken { field, address },
        _ => ServerError::Listen { field, address, source },
    }
}

fn local_address(field: &'static str, listener: &TcpListener) -> Result<SocketAddr, ServerError> {
    let error = |source| ServerError::Listen { field, address: "any".to_owned(), source };
    listener.local_addr().map_err(error)
}

/// A socket that only the owner can connect to. One that a dead process left is replaced.
fn listen_unix(path: &Path) -> Result<UnixListener, ServerError> {
    let failed = |source| listen_error("api_socket", path.display().to_string(), source);
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(failed(ErrorKind::AddrInUse.into()));
    }
    // Bound under another name until its mode is right.
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(format!(".{}", std::process::id()));
    let hidden = PathBuf::from(hidden);
    let bind = || {
        let listener = UnixListener::bind(&hidden)?;
        fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600))?;
        fs::rename(&hidden, path)?;
        Ok(listener)
    };
    bind().map_err(|source| {
        // Not there if binding itself failed.
        let _ = fs::remove_file(&hidden);
        failed(source)
    })
}

fn logged(part: &str, result: Result<(), impl std::error::Error>) {
    if let Err(error) = result {
        tracing::error!(part, error = %agents::control::chain(&error), "stopped");
    }
}

fn api_service(
    config: &Config,
    store: &Arc<Store>,
    hub: &Arc<Hub>,
    nat_log: Option<Arc<NatLog>>,
) -> Result<Arc<service::Service>, ServerError> {
    let settings = service::Settings {
        tenant_mtu: config.underlay_mtu.saturating_sub(TUNNEL_OVERHEAD),
        overlay: match config.tunnel.protocol {
            Protocol::Geneve => NetworkType::Geneve,
            Protocol::Vxlan => NetworkType::Vxlan,
        },
        quotas: config.quotas,
        nat: service::NatSettings { timeouts: config.nat.timeouts, block_hold: config.nat.block_hold },
        ..service::Settings::default()
    };
    let service = service::Service::new(Arc::clone(store), Arc::clone(hub), settings, agents::now_s);
    let service = service.with_nat_log(nat_log);
    service.upgrade().map_err(ServerError::Upgrade)?;
    Ok(Arc::new(service))
}
