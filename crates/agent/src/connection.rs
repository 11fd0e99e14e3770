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
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// Messages under way in each direction.
const QUEUE: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A controller that vanished without a word is noticed after these two.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the main loop hears.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Hello is said; what is sent here goes to the controller.
    Connected(mpsc::Sender<AgentMessage>),
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
    #[error("the controller refused: {}", .0.message())]
    Refused(#[source] tonic::Status),
    #[error("the stream broke: {}", .0.message())]
    Broken(#[source] tonic::Status),
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
    let channel = connect(config).await?;
    let (outgoing, queue) = mpsc::channel(QUEUE);
    let hello = AgentMessage { message: Some(agent_message::Message::Hello(hello(config))) };
    // The queue is new and its other end is held below.
    outgoing.try_send(hello).map_err(|_| ConnectionError::Closed)?;
    let mut client = ControllerClient::new(channel)
        .max_decoding_message_size(proto::MESSAGE_SIZE_MAX)
        .max_encoding_message_size(proto::MESSAGE_SIZE_MAX);
    let answer = client.connect(ReceiverStream::new(queue)).await;
    let mut stream = answer.map_err(ConnectionError::Refused)?.into_inner();
    let mut outgoing = Some(outgoing);
    while let Some(message) = stream.message().await.map_err(ConnectionError::Broken)? {
        let Some(message) = message.message else { continue };
        // The first word of the controller is what makes a connection.
        if let Some(outgoing) = outgoing.take() {
            backoff.succeeded();
            pass_on(incoming, Incoming::Connected(outgoing)).await?;
        }
        pass_on(incoming, Incoming::Message(message)).await?;
    }
    Err(ConnectionError::Closed)
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
        .connect_timeout(CONNECT_TIMEOUT)
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
