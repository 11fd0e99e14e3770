//! The NAT log: which host, router and project had which ports of an external address, and when (RFC 6888 §4
//! REQ-12 with blocks, RFC 7422 §2).
//!
//! One JSON line per event of a block ([`event`]), appended to a file that is synced before the hosts are told of
//! the change: a host never uses a block that the log does not know. Each file begins with a checkpoint, all
//! blocks of that moment, and so does each start of the controller; therefore a file can be read without those
//! before it, and what a crash kept out of the log comes in late instead of never. A file that has grown to its
//! bound becomes `<path>.1`, `.1` becomes `.2`, the oldest goes.
//!
//! A log that cannot be written (disk full) stops nothing: it is an error in the controller's own log, and the next
//! write begins with a checkpoint.
//!
//! Not here: who used a port *within* a block; the host of the mapping knows that while it lives.

mod event;
mod index;
mod search;
mod syslog;

pub use event::{Event, Holding, Kind, parse_time, time_text};

use event::CheckpointLine;
use index::Record;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use store::Snapshot;
use syslog::Syslog;

/// What the operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub path: PathBuf,
    /// A file is closed when it has grown beyond.
    pub bytes_max: u64,
    /// Closed files kept.
    pub files: u32,
    /// Socket of the local syslog, to write there as well.
    pub syslog: Option<PathBuf>,
}

/// Who had a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub holding: Holding,
    pub from_ms: i64,
    /// None: until now.
    pub until_ms: Option<i64>,
}

/// The log of a running controller. One process at a time writes it: the one that has the store.
pub struct NatLog {
    settings: Settings,
    writer: Mutex<Writer>,
}

/// A line: the number of its file, and its offset there.
type Place = (usize, u64);

struct Writer {
    log: File,
    index: File,
    length: u64,
    /// The last write failed: file and index may end anywhere.
    torn: bool,
    syslog: Option<Syslog>,
}

impl NatLog {
    /// Opens or creates the log and writes down what is held now.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn open(settings: Settings, now: &Snapshot, now_ms: i64) -> io::Result<Self> {
        for number in 1..=settings.files {
            let path = closed(&settings.path, number);
            if path.exists() {
                index::open(&path)?;
            }
        }
        let syslog = settings.syslog.clone().map(Syslog::new).transpose()?;
        let mut writer = Writer::open(&settings.path, syslog)?;
        writer.checkpoint(&Holding::all(now), now_ms)?;
        Ok(Self { settings, writer: Mutex::new(writer) })
    }

    /// Writes down what became of blocks from one snapshot to the next. Durable when it returns `Ok`.
    ///
    /// # Errors
    /// Not all of it may be in the log; the next call repairs that.
    pub fn record(&self, before: &Snapshot, after: &Snapshot, time_ms: i64) -> io::Result<()> {
        let events = event::between(before, after, time_ms);
        if events.is_empty() {
            return Ok(());
        }
        self.append(&events, time_ms, || Holding::all(after))
    }

    /// Appends events; `held` is asked for what is held after them, if a checkpoint is due.
    ///
    /// # Errors
    /// As [`NatLog::record`].
    pub fn append(&self, events: &[Event], now_ms: i64, held: impl Fn() -> Vec<Holding>) -> io::Result<()> {
        let mut writer = self.lock();
        let torn = writer.torn;
        if torn {
            let syslog = writer.syslog.take();
            *writer = Writer { torn: true, ..Writer::open(&self.settings.path, syslog)? };
        }
        writer.append(events)?;
        if torn {
            writer.checkpoint(&held(), now_ms)?;
        }
        if writer.length >= self.settings.bytes_max {
            writer.torn = true;
            rotate(&self.settings)?;
            let syslog = writer.syslog.take();
            *writer = Writer::open(&self.settings.path, syslog)?;
            writer.checkpoint(&held(), now_ms)?;
        }
        writer.torn = false;
        Ok(())
    }

    /// Who had that port of that address at that time: at most one of each external network. Reads the indexes
    /// and one line per answer: tens of milliseconds for a million events.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn who(&self, address: Ipv4Addr, port: u16, at_ms: i64) -> io::Result<Vec<Answer>> {
        let mut files = self.files()?;
        let mut networks: BTreeMap<u32, Vec<(Record, Place)>> = BTreeMap::new();
        let mut records = Vec::new();
        for (number, (_, index)) in files.iter_mut().enumerate() {
            let found = index::matching(index, address, port)?;
            records.extend(found.into_iter().map(|record| (record, (number, record.offset))));
        }
        for (record, _) in records.iter().filter(|(record, _)| record.kind != Kind::Checkpoint) {
            networks.entry(record.network).or_default();
        }
        for (network, own) in &mut networks {
            let concerns = |record: &Record| record.kind == Kind::Checkpoint || record.network == *network;
            own.extend(records.iter().copied().filter(|(record, _)| concerns(record)));
        }
        let spans = networks.into_values().flat_map(search::spans);
        let mut answers = Vec::new();
        for span in spans.filter(|span| span.covers(at_ms)) {
            let (number, offset) = span.line;
            let Some((log, _)) = files.get(number) else { continue };
            if let Some(event) = read_line(log, offset)? {
                let (from_ms, until_ms) = (span.from_ms, span.until_ms);
                answers.push(Answer { holding: event.holding, from_ms, until_ms });
            }
        }
        Ok(answers)
    }

    /// All files with their indexes, oldest first. Taken under the lock, so that none is rotated away meanwhile.
    fn files(&self) -> io::Result<Vec<(File, File)>> {
        let writer = self.lock();
        let paths = (1..=self.settings.files).rev().map(|number| closed(&self.settings.path, number));
        let mut files = Vec::new();
        for path in paths.chain([self.settings.path.clone()]).filter(|path| path.exists()) {
            files.push((File::open(&path)?, File::open(index::path_of(&path))?));
        }
        drop(writer);
        Ok(files)
    }

    /// After a panic the writer is as after a failed write: it looks again where it is.
    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            let mut writer: MutexGuard<'_, Writer> = poisoned.into_inner();
            writer.torn = true;
            writer
        })
    }
}

impl Writer {
    fn open(path: &Path, syslog: Option<Syslog>) -> io::Result<Self> {
        let mut log = File::options().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut length = log.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            log.read_exact_at(&mut last, length - 1)?;
        }
        if last != [b'\n'] {
            // A line that broke off stays as it is, for whoever wants to see it.
            log.write_all(b"\n")?;
            length += 1;
        }
        Ok(Self { index: index::open(path)?, log, length, torn: false, syslog })
    }

    fn append(&mut self, events: &[Event]) -> io::Result<()> {
        let mut text = String::new();
        let mut records = Vec::new();
        for event in events {
            let record = Record::of(event, self.length + text.len() as u64);
            let line = event.to_line().map_err(io::Error::other)?;
            if let Some(syslog) = self.syslog.as_mut().filter(|_| event.kind != Kind::Held) {
                syslog.send(event.time_ms, &line);
            }
            text.push_str(&line);
            text.push('\n');
            records.extend_from_slice(&record.to_bytes());
        }
        self.write(&text, &records)
    }

    fn checkpoint(&mut self, held: &[Holding], time_ms: i64) -> io::Result<()> {
        let record = Record::checkpoint(time_ms, self.length);
        let line = CheckpointLine { time: time_text(time_ms), event: Kind::Checkpoint, blocks: held.len() };
        let line = serde_json::to_string(&line).map_err(io::Error::other)?;
        self.write(&format!("{line}\n"), &record.to_bytes())?;
        let event = |holding: &Holding| Event { time_ms, kind: Kind::Held, holding: holding.clone() };
        self.append(&held.iter().map(event).collect::<Vec<_>>())
    }

    fn write(&mut self, text: &str, records: &[u8]) -> io::Result<()> {
        self.torn = true;
        self.log.write_all(text.as_bytes())?;
        self.log.sync_data()?;
        // Not synced: it is made again from the log.
        self.index.write_all(records)?;
        self.length += text.len() as u64;
        self.torn = false;
        Ok(())
    }
}

/// Where a closed file is; 1 is the youngest.
fn closed(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Every file gets the next number; the oldest goes. A crash in between leaves a gap in the numbers, no more.
fn rotate(settings: &Settings) -> io::Result<()> {
    let name = |number| match number {
        0 => settings.path.clone(),
        number => closed(&settings.path, number),
    };
    for number in (0..settings.files).rev() {
        let (from, to) = (name(number), name(number + 1));
        if from.exists() {
            fs::rename(&from, &to)?;
            match fs::rename(index::path_of(&from), index::path_of(&to)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

fn read_line(log: &File, offset: u64) -> io::Result<Option<Event>> {
    let mut reader = BufReader::new(log);
    reader.seek(SeekFrom::Start(offset))?;
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    Ok(Event::from_line(&line))
}

#[cfg(test)]
mod tests;
