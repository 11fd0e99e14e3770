//! TCP sessions that are to live through everything: a server outside, clients in VMs, half of them busy with small
//! requests, half of them idle until they are asked to prove that they live.

use netlink::Netns;
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// The server's port.
pub(crate) const PORT: u16 = 7000;
/// Bytes of a request, which is its own answer.
const REQUEST_LEN: usize = 32;
/// Between two requests of a busy session.
const BUSY_INTERVAL: Duration = Duration::from_secs(1);
/// Connections that are being made at the same time.
const CONNECTING: usize = 64;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A session that takes longer to prove that it lives is told about: its packets are lost and sent again.
const SLOW: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The kernel's queue of connections that wait for the server.
const BACKLOG: u32 = 1024;

/// What is known of a session.
#[derive(Debug, Default)]
struct State {
    /// The last round of proof that it passed.
    passed: AtomicU64,
    /// Why it ended.
    end: Mutex<Option<String>>,
}

impl State {
    fn end(&self) -> Option<String> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// All sessions. Dropping it ends them.
pub(super) struct Sessions {
    /// With what each of them is: `blue-1 by SNAT`.
    states: Vec<(String, Arc<State>)>,
    round: watch::Sender<u64>,
    tasks: Vec<JoinHandle<()>>,
}

/// A VM that sessions come from.
pub(super) struct Client<'a> {
    pub(super) name: String,
    pub(super) netns: &'a Netns,
    pub(super) count: usize,
}

impl Sessions {
    /// Starts the server and opens every session. Needs a tokio runtime.
    pub(super) async fn open(
        server: &Netns,
        address: Ipv4Addr,
        clients: &[Client<'_>],
    ) -> anyhow::Result<Self> {
        let (round, _) = watch::channel(0);
        let tasks = vec![tokio::spawn(serve(listener(server)?))];
        let mut all = Self { states: Vec::new(), round, tasks };
        for client in clients {
            let sockets = client.netns.run(|| -> io::Result<Vec<TcpSocket>> {
                (0..client.count).map(|_| TcpSocket::new_v4()).collect()
            })??;
            let streams = connect(sockets, address).await;
            let streams = streams.map_err(|error| error.context(format!("sessions of {}", client.name)))?;
            streams.into_iter().for_each(|stream| all.add(client.name.clone(), stream));
        }
        Ok(all)
    }

    fn add(&mut self, name: String, stream: TcpStream) {
        let state = Arc::new(State::default());
        let (index, round) = (self.states.len(), self.round.subscribe());
        self.states.push((name, Arc::clone(&state)));
        self.tasks.push(tokio::spawn(async move {
            if let Err(error) = live(stream, index, round, &state).await {
                *state.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
            }
        }));
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// Makes every session prove that it lives: a request sent after this call and its answer. Answers those that
    /// did not within `limit`, each with what it is and what is known of its end.
    pub(super) async fn dead(&self, limit: Duration) -> Vec<String> {
        let round = *self.round.borrow() + 1;
        self.round.send_replace(round);
        let deadline = Instant::now() + limit;
        let waits = |state: &State| state.passed.load(Ordering::Relaxed) < round;
        let mut slow = Some(Instant::now() + SLOW);
        while Instant::now() < deadline
            && self.states.iter().any(|(_, state)| waits(state) && state.end().is_none())
        {
            tokio::time::sleep(POLL_INTERVAL).await;
            if slow.take_if(|slow| Instant::now() >= *slow).is_some() {
                let late = self.states.iter().filter(|(_, state)| waits(state));
                let late: BTreeSet<&str> = late.map(|(name, _)| name.as_str()).collect();
                tracing::info!(?late, "sessions that are slow to prove that they live");
            }
        }
        let dead = self.states.iter().filter(|(_, state)| waits(state));
        dead.map(|(name, state)| format!("{name}: {}", state.end().unwrap_or("no answer".to_owned())))
            .collect()
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// The server's socket in a namespace.
pub(crate) fn listener(netns: &Netns) -> anyhow::Result<TcpListener> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    Ok(netns.run(|| -> io::Result<TcpListener> {
        let listener = TcpListener::bind(any)?;
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(BACKLOG as i32)?)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    })??)
}

/// Opens the sockets' connections, some at a time.
async fn connect(sockets: Vec<TcpSocket>, address: Ipv4Addr) -> anyhow::Result<Vec<TcpStream>> {
    use futures::StreamExt as _;
    let count = sockets.len();
    let connecting = sockets.into_iter().map(|socket| async move {
        let stream = timeout(CONNECT_TIMEOUT, socket.connect((address, PORT).into())).await??;
        stream.set_nodelay(true)?;
        anyhow::Ok(stream)
    });
    let outcomes: Vec<anyhow::Result<TcpStream>> =
        futures::stream::iter(connecting).buffer_unordered(CONNECTING).collect().await;
    let (mut streams, mut last) = (Vec::new(), None);
    for outcome in outcomes {
        match outcome {
            Ok(stream) => streams.push(stream),
            Err(error) => last = Some(error),
        }
    }
    match last {
        None => Ok(streams),
        Some(error) => Err(error.context(format!("only {} of {count} could be opened", streams.len()))),
    }
}

/// One session, until it breaks. Every second one is busy.
async fn live(
    mut stream: TcpStream,
    index: usize,
    mut round: watch::Receiver<u64>,
    state: &State,
) -> io::Result<()> {
    // Spread over the interval, so that the load is even.
    let first = Instant::now() + BUSY_INTERVAL.mul_f64((index % 1000) as f64 / 1000.0);
    let mut ticks = interval_at(first, BUSY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0u64;
    loop {
        let asked = tokio::select! {
            changed = round.changed() => match changed {
                Ok(()) => Some(*round.borrow_and_update()),
                Err(_) => return Ok(()),
            },
            _ = ticks.tick(), if index % 2 == 1 => None,
        };
        count += 1;
        exchange(&mut stream, index, count).await?;
        if let Some(round) = asked {
            state.passed.store(round, Ordering::Relaxed);
        }
    }
}

/// A request and its answer, byte for byte.
pub(crate) async fn exchange(stream: &mut TcpStream, index: usize, count: u64) -> io::Result<()> {
    let mut request = [0x5a; REQUEST_LEN];
    request[..8].copy_from_slice(&(index as u64).to_be_bytes());
    request[8..16].copy_from_slice(&count.to_be_bytes());
    stream.write_all(&request).await?;
    let mut answer = [0; REQUEST_LEN];
    stream.read_exact(&mut answer).await?;
    if answer == request { Ok(()) } else { Err(io::Error::other("the answer is not that to the request")) }
}

/// Sends everything back, on every connection.
pub(crate) async fn serve(listener: TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "no server for the sessions"),
    };
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // One that was gone before it was accepted shows at its client.
                if let Ok((stream, _)) = accepted {
                    sessions.spawn(answer(stream));
                }
            }
            Some(_) = sessions.join_next() => {}
        }
    }
}

async fn answer(mut stream: TcpStream) {
    let mut request = [0; REQUEST_LEN];
    drop(stream.set_nodelay(true));
    while stream.read_exact(&mut request).await.is_ok() {
        if stream.write_all(&request).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_that_broke_is_dead_and_the_others_prove_that_they_live() {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(any).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let mut all = Sessions {
            states: Vec::new(),
            round: watch::channel(0).0,
            tasks: vec![tokio::spawn(serve(listener))],
        };
        for name in ["a", "b", "c"] {
            all.add(name.to_owned(), TcpStream::connect(address).await.unwrap());
        }
        assert_eq!(all.dead(Duration::from_secs(10)).await, Vec::<String>::new());
        // A machine that answers something else.
        let strange = TcpListener::bind(any).unwrap();
        let stream = TcpStream::connect(strange.local_addr().unwrap()).await.unwrap();
        all.add("strange".to_owned(), stream);
        let (mut far, _) = strange.accept().unwrap();
        io::Write::write_all(&mut far, &[0; REQUEST_LEN]).unwrap();
        let dead = all.dead(Duration::from_secs(10)).await;
        assert_eq!(dead, ["strange: the answer is not that to the request"]);
        drop(far);
        assert_eq!(all.dead(Duration::from_secs(10)).await, dead, "the dead stay dead");
    }
}
