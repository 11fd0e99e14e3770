//! The stream to the controller: connects, says Hello, passes messages on, and connects again for ever.
//!
//! Runs as a task of its own beside the main loop. Both channels are bounded: a main loop that is behind
//! slows the stream down; a stream that is behind is given up by the main loop, which starts over with a
//! snapshot.

use crate::backoff::Backoff;
use crate::config::Config;
use proto::controller_client::ControllerClient;
use proto::{AgentMessage, agent_message, controller_message};
use rand::Rng;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// Messages under way in each direction.
const QUEUE: usize = 64;
/// For the connection, and again for the stream.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A controller that vanished without a word is noticed after these two.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The way to the controller. Dropping it ends the connection; another one is made.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) messages: mpsc::Sender<AgentMessage>,
    /// For answers, which are streams of their own.
    pub(crate) client: ControllerClient<Channel>,
    /// Its end is what the connection waits for.
    _alive: oneshot::Sender<()>,
}

/// What the main loop hears.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Hello is said.
    Connected(Outgoing),
    Message(controller_message::Message),
    Disconnected,
}

#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("cannot read {path}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the controller's address or the certificates are not usable")]
    Setup(#[source] tonic::transport::Error),
    #[error("cannot reach the controller at {address}")]
    Connect { address: String, source: tonic::transport::Error },
    #[error("the controller at {address} does not answer")]
    Silent { address: String },
    #[error("the controller refused: {}", .0.message())]
    Refused(#[source] tonic::Status),
    #[error("the stream broke: {}", .0.message())]
    Broken(#[source] tonic::Status),
    #[error("the agent gave the stream up")]
    GivenUp,
    #[error("the controller closed the stream")]
    Closed,
}

/// The files that make a host known to the controller.
pub(crate) fn certificate_files(config: &Config) -> [PathBuf; 3] {
    let directory = &config.certificates;
    [
        directory.join("ca.pem"),
        directory.join(format!("{}.pem", config.host)),
        directory.join(format!("{}.key", config.host)),
    ]
}

/// Runs until the main loop is gone.
pub(crate) async fn run(config: Config, incoming: mpsc::Sender<Incoming>) {
    let mut backoff = Backoff::new();
    let mut last_error = String::new();
    loop {
        let Err(error) = converse(&config, &incoming, &mut backoff).await;
        let text = crate::chain(&error);
        // The same error again is no news.
        if text != last_error {
            tracing::warn!(controller = config.controller, error = text, "not connected");
            last_error = text;
        }
        if incoming.send(Incoming::Disconnected).await.is_err() {
            return;
        }
        let wait = backoff.failed(rand::rng().random());
        tokio::time::sleep(wait).await;
    }
}

/// One connection, until it ends.
async fn converse(
    config: &Config,
    incoming: &mpsc::Sender<Incoming>,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, ConnectionError> {
    let silent = |_| ConnectionError::Silent { address: config.controller.clone() };
    let channel = tokio::time::timeout(CONNECT_TIMEOUT, connect(config)).await.map_err(silent)??;
    let (messages, queue) = mpsc::channel(QUEUE);
    let (alive, mut given_up) = oneshot::channel();
    let hello = AgentMessage { message: Some(agent_message::Message::Hello(hello(config))) };
    // The queue is new and its other end is held below.
    messages.try_send(hello).map_err(|_| ConnectionError::Closed)?;
    let mut client = ControllerClient::new(channel)
        .max_decoding_message_size(proto::MESSAGE_SIZE_MAX)
        .max_encoding_message_size(proto::MESSAGE_SIZE_MAX);
    let mut outgoing = Some(Outgoing { messages: messages.clone(), client: client.clone(), _alive: alive });
    let answer = tokio::time::timeout(CONNECT_TIMEOUT, client.connect(ReceiverStream::new(queue))).await;
    let mut stream = answer.map_err(silent)?.map_err(ConnectionError::Refused)?.into_inner();
    drop(messages);
    loop {
        let message = tokio::select! {
            message = stream.message() => message.map_err(ConnectionError::Broken)?,
            _ = &mut given_up => return Err(ConnectionError::GivenUp),
        };
        let message = message.ok_or(ConnectionError::Closed)?;
        let Some(message) = message.message else { continue };
        // The first word of the controller is what makes a connection.
        if let Some(outgoing) = outgoing.take() {
            backoff.succeeded();
            pass_on(incoming, Incoming::Connected(outgoing)).await?;
        }
        pass_on(incoming, Incoming::Message(message)).await?;
    }
}

async fn pass_on(incoming: &mpsc::Sender<Incoming>, message: Incoming) -> Result<(), ConnectionError> {
    incoming.send(message).await.map_err(|_| ConnectionError::Closed)
}

fn hello(config: &Config) -> proto::Hello {
    proto::Hello {
        host_name: config.host.clone(),
        vtep: config.vtep.to_string(),
        physical_networks: config.physical_networks.keys().cloned().collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ipv6: true,
    }
}

/// Reads the certificates each time: they may have been renewed.
async fn connect(config: &Config) -> Result<Channel, ConnectionError> {
    let [ca, certificate, key] = certificate_files(config);
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&ca)?))
        .identity(Identity::from_pem(read(&certificate)?, read(&key)?))
        .domain_name(config.controller_name.clone());
    let endpoint = Endpoint::from_shared(format!("https://{}", config.controller))
        .and_then(|endpoint| endpoint.tls_config(tls))
        .map_err(ConnectionError::Setup)?
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let connected = endpoint.connect().await;
    connected.map_err(|source| ConnectionError::Connect { address: config.controller.clone(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, ConnectionError> {
    std::fs::read(path).map_err(|source| ConnectionError::File { path: path.to_owned(), source })
}
