//! The index beside each file of the log: one record of fixed size per line, so that a question reads tens of
//! megabytes of numbers instead of hundreds of text. It can always be made again from the log, and is if it does
//! not fit.

use super::event::{CheckpointLine, Event, Kind, parse_time};
use model::NetworkId;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Begins an index; another number is another format.
const MAGIC: &[u8; 8] = b"nbknat\x00\x01";
const RECORD_BYTES: usize = 40;

/// A line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) time_ms: i64,
    pub(super) granted_at_ms: i64,
    /// Of the line in its file.
    pub(super) offset: u64,
    pub(super) address: Ipv4Addr,
    pub(super) first_port: u16,
    pub(super) last_port: u16,
    /// Tells external networks apart; two may share it.
    pub(super) network: u32,
    pub(super) kind: Kind,
}

impl Record {
    pub(super) fn of(event: &Event, offset: u64) -> Self {
        let holding = &event.holding;
        Self {
            time_ms: event.time_ms,
            granted_at_ms: holding.granted_at_ms,
            offset,
            address: holding.address,
            first_port: holding.first_port,
            last_port: holding.last_port,
            network: fold(holding.external_network),
            kind: event.kind,
        }
    }

    pub(super) fn checkpoint(time_ms: i64, offset: u64) -> Self {
        let (address, kind) = (Ipv4Addr::UNSPECIFIED, Kind::Checkpoint);
        Self { time_ms, granted_at_ms: 0, offset, address, first_port: 0, last_port: 0, network: 0, kind }
    }

    pub(super) fn to_bytes(self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let fields: [&[u8]; 8] = [
            &self.address.octets(),
            &self.first_port.to_le_bytes(),
            &self.last_port.to_le_bytes(),
            &self.network.to_le_bytes(),
            &[self.kind as u8, 0, 0, 0],
            &self.time_ms.to_le_bytes(),
            &self.granted_at_ms.to_le_bytes(),
            &self.offset.to_le_bytes(),
        ];
        for (place, byte) in bytes.iter_mut().zip(fields.concat()) {
            *place = byte;
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (address, rest) = bytes.split_first_chunk::<4>()?;
        let (first_port, rest) = rest.split_first_chunk()?;
        let (last_port, rest) = rest.split_first_chunk()?;
        let (network, rest) = rest.split_first_chunk()?;
        let ([kind, _, _, _], rest) = rest.split_first_chunk::<4>()?;
        let (time_ms, rest) = rest.split_first_chunk()?;
        let (granted_at_ms, rest) = rest.split_first_chunk()?;
        let (offset, _) = rest.split_first_chunk()?;
        Some(Self {
            address: (*address).into(),
            first_port: u16::from_le_bytes(*first_port),
            last_port: u16::from_le_bytes(*last_port),
            network: u32::from_le_bytes(*network),
            kind: Kind::from_number(*kind)?,
            time_ms: i64::from_le_bytes(*time_ms),
            granted_at_ms: i64::from_le_bytes(*granted_at_ms),
            offset: u64::from_le_bytes(*offset),
        })
    }
}

fn fold(network: NetworkId) -> u32 {
    let (high, low) = network.uuid().as_u64_pair();
    let mixed = high ^ low;
    (mixed ^ (mixed >> 32)) as u32
}

/// The index of a file of the log.
pub(super) fn path_of(log: &Path) -> PathBuf {
    let mut path = log.as_os_str().to_owned();
    path.push(".index");
    path.into()
}

/// The records about that address and port, and all checkpoints, in the order of the log.
pub(super) fn matching(index: &mut File, address: Ipv4Addr, port: u16) -> io::Result<Vec<Record>> {
    let mut bytes = Vec::new();
    index.seek(SeekFrom::Start(0))?;
    index.read_to_end(&mut bytes)?;
    let records = bytes.get(MAGIC.len()..).unwrap_or_default().chunks_exact(RECORD_BYTES);
    let (wanted, checkpoint) = (address.octets(), Ipv4Addr::UNSPECIFIED.octets());
    let candidates = records.filter(|record| record.starts_with(&wanted) || record.starts_with(&checkpoint));
    let records = candidates.filter_map(Record::from_bytes);
    let concerns = |record: &Record| {
        record.kind == Kind::Checkpoint
            || record.address == address && (record.first_port..=record.last_port).contains(&port)
    };
    Ok(records.filter(concerns).collect())
}

/// The index of `log`, made anew if it does not fit it.
pub(super) fn open(log: &Path) -> io::Result<File> {
    let path = path_of(log);
    let mut index = File::options().read(true).append(true).create(true).open(&path)?;
    if !fits(&mut index, log)? {
        tracing::info!(log = %log.display(), "index of the NAT log is made anew");
        index.set_len(0)?;
        index.write_all(&from_log(log)?)?;
    }
    Ok(index)
}

/// Does its last record stand for the last line?
fn fits(index: &mut File, log: &Path) -> io::Result<bool> {
    let length = index.metadata()?.len();
    let log_length = std::fs::metadata(log).map(|metadata| metadata.len()).unwrap_or(0);
    let mut magic = [0; MAGIC.len()];
    index.seek(SeekFrom::Start(0))?;
    let records = length.checked_sub(magic.len() as u64);
    if records.is_none_or(|bytes| !bytes.is_multiple_of(RECORD_BYTES as u64)) {
        return Ok(false);
    }
    index.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Ok(false);
    }
    if length == magic.len() as u64 {
        return Ok(log_length == 0);
    }
    let mut last = [0; RECORD_BYTES];
    index.seek(SeekFrom::Start(length - RECORD_BYTES as u64))?;
    index.read_exact(&mut last)?;
    let Some(last) = Record::from_bytes(&last) else { return Ok(false) };
    let mut line = Vec::new();
    let mut reader = BufReader::new(File::open(log)?);
    reader.seek(SeekFrom::Start(last.offset))?;
    reader.read_until(b'\n', &mut line)?;
    Ok(line.ends_with(b"\n") && last.offset + line.len() as u64 == log_length)
}

/// All of an index. A line that is not one of ours has no record.
fn from_log(log: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = MAGIC.to_vec();
    let file = match File::open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(bytes),
        file => file?,
    };
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let (mut line, mut offset) = (Vec::new(), 0);
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(bytes);
        }
        if let Some(record) = record_of(&line, offset) {
            bytes.extend_from_slice(&record.to_bytes());
        }
        offset += length as u64;
    }
}

fn record_of(line: &[u8], offset: u64) -> Option<Record> {
    if let Some(event) = Event::from_line(line) {
        return Some(Record::of(&event, offset));
    }
    let checkpoint: CheckpointLine = serde_json::from_slice(line).ok()?;
    Some(Record::checkpoint(parse_time(&checkpoint.time)?, offset))
}
