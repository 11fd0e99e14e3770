//! Flow logs: a line of JSON when a connection of a chosen network begins and when it ends.
//!
//! The sweep sees every session once a second and longer than any lives unused, so it finds begins and ends; lines are
//! therefore up to a second late. A thread of its own writes: a slow disk loses lines, which are counted and said,
//! and holds nobody up. Files are rotated by size.

use crate::scene::Scene;
use crate::sessions::{self, Ends, Id};
use dataplane::{Fate, SessionRow};
use serde::Serialize;
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Chunks that wait for the disk, and bytes of a chunk.
const CHUNKS_MAX: usize = 64;
const CHUNK_LEN: usize = 64 << 10;
/// Closed files that are kept.
const FILES: u32 = 4;

/// What the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub path: PathBuf,
    /// Names or ids of the networks whose connections are logged.
    pub networks: Vec<String>,
    /// Size at which a file is closed.
    pub bytes_max: u64,
}

/// A line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    time: &'a str,
    event: &'static str,
    #[serde(flatten)]
    session: sessions::Row<'a>,
}

/// A connection that is gone without having been idle: ended by a change or by an operator.
#[derive(Debug, Serialize)]
struct Removed<'a> {
    time: &'a str,
    event: &'static str,
    id: Id,
    host: &'a str,
    reason: &'static str,
}

/// The log, and what it knows of the sessions there are.
pub(crate) struct FlowLog {
    settings: Settings,
    chunks: SyncSender<Vec<u8>>,
    /// Sessions that were said to have begun.
    begun: HashSet<Id>,
    /// The first look at the sessions: they began before.
    first: bool,
    /// Lines that did not reach the disk.
    lost: u64,
}

impl FlowLog {
    /// Opens the file and starts the writer.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn start(settings: Settings) -> io::Result<Self> {
        let file = Rotated::open(&settings.path, settings.bytes_max)?;
        let (chunks, queue) = sync_channel(CHUNKS_MAX);
        std::thread::Builder::new().name("flow-log".to_owned()).spawn(move || file.write_all(&queue))?;
        Ok(Self { settings, chunks, begun: HashSet::new(), first: true, lost: 0 })
    }

    /// Begins a look at all sessions.
    pub(crate) fn look<'a>(&'a mut self, scene: &'a Scene, clock_ns: u64, now: OffsetDateTime) -> Look<'a> {
        // A time of this millennium always has that form.
        let time = now.format(&Rfc3339).unwrap_or_default();
        let alive = HashSet::with_capacity(self.begun.len());
        Look { log: self, scene, clock_ns, time, alive, chunk: Vec::new() }
    }

    fn is_logged(&self, session: &SessionRow, scene: &Scene) -> bool {
        let wanted = |vni: u32| {
            vni != 0
                && (self.settings.networks.iter().any(|wanted| wanted == scene.network(vni))
                    || scene.network_id(vni).is_some_and(|id| {
                        self.settings.networks.iter().any(|wanted| *wanted == id.to_string())
                    }))
        };
        wanted(session.key.vni) || wanted(session.reply.vni)
    }
}

/// One look at all sessions.
pub(crate) struct Look<'a> {
    log: &'a mut FlowLog,
    scene: &'a Scene,
    clock_ns: u64,
    time: String,
    /// Logged sessions that are still there.
    alive: HashSet<Id>,
    chunk: Vec<u8>,
}

impl Look<'_> {
    pub(crate) fn seen(&mut self, session: &SessionRow, fate: Fate) {
        if !self.log.is_logged(session, self.scene) {
            return;
        }
        let id = Id::of(session);
        let known = self.log.begun.remove(&id);
        if !known && !self.log.first {
            self.session("begin", session);
        }
        match fate {
            Fate::Alive => drop(self.alive.insert(id)),
            Fate::Ended => self.session("end", session),
        }
    }

    fn session(&mut self, event: &'static str, session: &SessionRow) {
        let ends = Ends::of(session, self.scene);
        let time = std::mem::take(&mut self.time);
        let row = sessions::row(session, &ends, self.scene, self.clock_ns);
        self.line(&Line { time: &time, event, session: row });
        self.time = time;
    }

    fn line(&mut self, line: &impl Serialize) {
        // Plain data always has a JSON.
        if serde_json::to_writer(&mut self.chunk, line).is_ok() {
            self.chunk.push(b'\n');
        }
        if self.chunk.len() >= CHUNK_LEN {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let chunk = std::mem::take(&mut self.chunk);
        if let Err(refused) = self.log.chunks.try_send(chunk) {
            let (std::sync::mpsc::TrySendError::Full(chunk)
            | std::sync::mpsc::TrySendError::Disconnected(chunk)) = refused;
            self.log.lost += chunk.iter().filter(|byte| **byte == b'\n').count() as u64;
            tracing::warn!(
                lines = self.log.lost,
                "flow log lines lost since the start: the disk is too slow"
            );
        }
    }

    /// All sessions were seen; what was not is gone.
    pub(crate) fn finish(mut self) {
        let gone: Vec<Id> = self.log.begun.drain().collect();
        let time = std::mem::take(&mut self.time);
        for id in gone {
            let reason = "removed";
            self.line(&Removed { time: &time, event: "end", id, host: &self.scene.host, reason });
        }
        if !self.chunk.is_empty() {
            self.flush();
        }
        self.log.begun = std::mem::take(&mut self.alive);
        self.log.first = false;
    }
}

/// A file that is closed when it is large enough.
struct Rotated {
    path: PathBuf,
    bytes_max: u64,
    file: File,
    len: u64,
}

impl Rotated {
    fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let len = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), bytes_max, file, len })
    }

    /// Until the log is dropped.
    fn write_all(mut self, queue: &Receiver<Vec<u8>>) {
        while let Ok(chunk) = queue.recv() {
            if let Err(error) = self.write(&chunk) {
                tracing::error!(%error, path = %self.path.display(), "flow log not written");
            }
        }
    }

    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        if self.len >= self.bytes_max {
            self.rotate()?;
        }
        self.file.write_all(chunk)?;
        self.len += chunk.len() as u64;
        Ok(())
    }

    /// `flows.log` becomes `flows.log.1`, that `flows.log.2`, and so on; the last is gone.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..FILES).rev() {
            match fs::rename(numbered(number), numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, numbered(1))?;
        *self = Self::open(&self.path, self.bytes_max)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::fixture;
    use crate::sessions::tests::{dns, east_west};
    use serde_json::Value;
    use std::time::{Duration, Instant};

    fn lines(path: &Path, wanted: usize) -> Vec<Value> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let text = fs::read_to_string(path).unwrap();
            let lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            if lines.len() >= wanted {
                return lines;
            }
            assert!(Instant::now() < deadline, "last seen: {text}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn begins_and_ends_of_chosen_networks_are_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flows.log");
        let networks = vec!["blue".to_owned()];
        let mut log = FlowLog::start(Settings { path: path.clone(), networks, bytes_max: 1 << 20 }).unwrap();
        let scene = fixture::scene(Instant::now());
        let now = OffsetDateTime::from_unix_timestamp(1_795_680_000).unwrap();
        let older = SessionRow { created_ns: 7, ..dns() };
        let other = east_west(fixture::GREEN, (fixture::VM_C, fixture::VM_A), false);
        let mut sweep = |seen: &[(SessionRow, Fate)]| {
            let mut look = log.look(&scene, 4_000_000_000, now);
            seen.iter().for_each(|(session, fate)| look.seen(session, *fate));
            look.finish();
        };
        sweep(&[(older, Fate::Alive)]);
        sweep(&[(older, Fate::Alive), (dns(), Fate::Alive), (other, Fate::Alive)]);
        sweep(&[(dns(), Fate::Ended)]);
        sweep(&[]);
        let told = lines(&path, 3);
        let events: Vec<_> =
            told.iter().map(|line| (line["event"].as_str().unwrap(), line["id"].clone())).collect();
        let id = |session: &SessionRow| Value::from(Id::of(session).to_string());
        let mut want = vec![("begin", id(&dns())), ("end", id(&dns())), ("end", id(&older))];
        // Both of one sweep.
        want[1..].sort_by_key(|(_, id)| id.to_string());
        let mut events = events;
        events[1..].sort_by_key(|(_, id)| id.to_string());
        assert_eq!(events, want);
        let end = told.iter().find(|line| line["event"] == "end" && line["src"] != Value::Null).unwrap();
        assert_eq!(end["time"], "2026-11-26T08:00:00Z");
        assert_eq!(
            (end["src"].as_str(), end["forward_bytes"].as_u64()),
            (Some("192.168.10.11:40000"), Some(120))
        );
        assert_eq!(told.iter().find(|line| line["reason"] == "removed").unwrap()["id"], id(&older));
    }

    #[test]
    fn files_are_closed_by_size_and_few_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flows.log");
        let mut file = Rotated::open(&path, 10).unwrap();
        for number in 0..8 {
            file.write(format!("line {number} is long\n").as_bytes()).unwrap();
        }
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).ok();
        assert_eq!(read("flows.log").as_deref(), Some("line 7 is long\n"));
        assert_eq!(read("flows.log.1").as_deref(), Some("line 6 is long\n"));
        assert_eq!(read("flows.log.4").as_deref(), Some("line 3 is long\n"));
        assert_eq!(read("flows.log.5"), None);
    }
}
