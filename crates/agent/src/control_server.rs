//! The serving end of the control socket ([`crate::control`]).

use crate::Error;
use crate::control::{REQUEST_LEN_MAX, Request, Response, Status};
use crate::plug::{self, Order, Views};
use netlink::Links;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Requests served at a time; further ones wait.
const CONNECTIONS_MAX: usize = 16;
/// A client that says nothing for so long is hung up on.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// A question to the main loop.
pub(crate) type StatusQuestion = oneshot::Sender<Status>;

/// What serving needs.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) links: Links,
    pub(crate) views: watch::Receiver<Views>,
    pub(crate) status: mpsc::Sender<StatusQuestion>,
}

/// Binds the socket; whoever holds the state directory's lock may replace a stale one.
pub(crate) fn bind(path: &Path) -> Result<UnixListener, Error> {
    let fail = |source| Error::ControlSocket { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(fail)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fail(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(fail)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    Ok(listener)
}

/// Serves until the main loop ends.
pub(crate) async fn run(listener: UnixListener, server: Server) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let server = server.clone();
                tokio::spawn(async move {
                    if let Err(error) = server.serve(stream).await {
                        tracing::debug!(error = crate::chain(&error), "control connection broke");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(error = crate::chain(&error), "control socket");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

impl Server {
    async fn serve(self, mut stream: UnixStream) -> std::io::Result<()> {
        let started = Instant::now();
        let (reader, mut writer) = stream.split();
        let mut line = String::new();
        let mut reader = BufReader::new(reader).take(REQUEST_LEN_MAX);
        tokio::time::timeout(READ_TIMEOUT, reader.read_line(&mut line)).await??;
        let response = match serde_json::from_str(&line) {
            Ok(request) => self.answer(request, started).await,
            Err(error) => Response::Error { message: format!("not a request: {error}") },
        };
        let mut text = serde_json::to_vec(&response)?;
        text.push(b'\n');
        writer.write_all(&text).await
    }

    async fn answer(self, request: Request, started: Instant) -> Response {
        match request {
            Request::Plug { port_id, netns, ifname } => {
                let order = Order { port_id, netns, ifname };
                match plug::plug(&self.links, &order, self.views, started).await {
                    Ok(plugged) => {
                        tracing::info!(port = %port_id, netns = order.netns, elapsed_ms = plugged.elapsed_ms, "plugged");
                        Response::Plugged(plugged)
                    }
                    Err(error) => Response::Error { message: crate::chain(&error) },
                }
            }
            Request::Unplug { port_id } => match plug::unplug(&self.links, port_id).await {
                Ok(()) => Response::Unplugged,
                Err(error) => Response::Error { message: crate::chain(&error) },
            },
            Request::Status => match self.status().await {
                Some(status) => Response::Status(Box::new(status)),
                None => Response::Error { message: "the agent is about to end".to_owned() },
            },
        }
    }

    async fn status(&self) -> Option<Status> {
        let (answer, wait) = oneshot::channel();
        self.status.send(answer).await.ok()?;
        wait.await.ok()
    }
}
