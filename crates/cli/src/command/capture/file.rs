//! pcapng: one interface per point, what is known of a packet as its comment; files that follow one another.

use super::line;
use anyhow::Context as _;
use model::capture::Seen;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{PcapNgBlock as _, PcapNgWriter};
use pcap_file::{DataLink, PcapError};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Timestamps in units of 10^-9 seconds.
const NANOSECONDS: u8 = 9;

/// When a new file begins.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rotation {
    pub(super) bytes: Option<u64>,
    pub(super) every: Option<Duration>,
    pub(super) files: Option<u32>,
}

pub(super) struct Files {
    /// None: standard output.
    path: Option<PathBuf>,
    rotation: Rotation,
    snap_len: u32,
    current: Pcapng<Box<dyn Write>>,
    number: u32,
    begun: Instant,
}

impl Files {
    pub(super) fn new(path: PathBuf, rotation: Rotation, snap_len: u32) -> anyhow::Result<Self> {
        let current = open(&name(&path, &rotation, 0), snap_len)?;
        Ok(Self { path: Some(path), rotation, snap_len, current, number: 0, begun: Instant::now() })
    }

    pub(super) fn standard_output(snap_len: u32) -> anyhow::Result<Self> {
        let out: Box<dyn Write> = Box::new(BufWriter::new(io::stdout()));
        let current = Pcapng::new(out, snap_len).context("standard output takes no pcapng")?;
        let rotation = Rotation::default();
        Ok(Self { path: None, rotation, snap_len, current, number: 0, begun: Instant::now() })
    }

    /// False: whoever reads has gone.
    pub(super) fn write(&mut self, seen: &Seen) -> anyhow::Result<bool> {
        let full = self.rotation.bytes.is_some_and(|bytes| self.current.written >= bytes);
        let old = self.rotation.every.is_some_and(|every| self.begun.elapsed() >= every);
        if let Some(path) = self.path.as_ref().filter(|_| full || old) {
            self.current.flush().context("the capture cannot be written")?;
            self.number += 1;
            self.current = open(&name(path, &self.rotation, self.number), self.snap_len)?;
            self.begun = Instant::now();
        }
        taken(self.current.packet(seen))
    }

    /// As above.
    pub(super) fn flush(&mut self) -> anyhow::Result<bool> {
        taken(self.current.flush())
    }
}

fn taken(result: io::Result<()>) -> anyhow::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(anyhow::Error::new(error).context("the capture cannot be written")),
    }
}

/// The file's own name first, then with a number behind; of so many files, the first again.
fn name(path: &std::path::Path, rotation: &Rotation, number: u32) -> PathBuf {
    let number = rotation.files.map_or(number, |files| number % files);
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn open(path: &std::path::Path, snap_len: u32) -> anyhow::Result<Pcapng<Box<dyn Write>>> {
    let fail = || format!("cannot write {}", path.display());
    let file: Box<dyn Write> = Box::new(BufWriter::new(File::create(path).with_context(fail)?));
    Pcapng::new(file, snap_len).with_context(fail)
}

/// One file.
struct Pcapng<W: Write> {
    writer: PcapNgWriter<W>,
    interfaces: HashMap<String, u32>,
    snap_len: u32,
    written: u64,
}

impl<W: Write> Pcapng<W> {
    fn new(writer: W, snap_len: u32) -> io::Result<Self> {
        let writer = PcapNgWriter::new(writer).map_err(io_error)?;
        Ok(Self { writer, interfaces: HashMap::new(), snap_len, written: 0 })
    }

    fn interface(&mut self, point: String) -> io::Result<u32> {
        if let Some(id) = self.interfaces.get(&point) {
            return Ok(*id);
        }
        let id = u32::try_from(self.interfaces.len()).map_err(io::Error::other)?;
        let options = vec![
            InterfaceDescriptionOption::IfName(Cow::Owned(point.clone())),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ];
        let block =
            InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: self.snap_len, options };
        self.written += self.writer.write_block(&block.into_block()).map_err(io_error)? as u64;
        self.interfaces.insert(point, id);
        Ok(id)
    }

    fn packet(&mut self, seen: &Seen) -> io::Result<()> {
        let interface_id = self.interface(format!("{} {}", line::point(seen), seen.edge))?;
        let block = EnhancedPacketBlock {
            interface_id,
            timestamp: Duration::from_nanos(seen.at_ns),
            original_len: seen.frame_len,
            data: Cow::Borrowed(&seen.frame.0),
            options: vec![EnhancedPacketOption::Comment(Cow::Owned(comment(seen)))],
        };
        self.written += self.writer.write_block(&block.into_block()).map_err(io_error)? as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.get_mut().flush()
    }
}

fn io_error(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

/// What is not in the bytes.
fn comment(seen: &Seen) -> String {
    let nat = seen.nat.as_ref().map_or(String::new(), |nat| format!("; NAT {} -> {}", nat.before, nat.after));
    let from = format!("from {} ({})", line::place_name(&seen.from), seen.from.network);
    format!("{from}; stages {}; {}{nat}; walk {}", seen.stages.join(" "), line::outcome(seen), seen.walk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::capture::{Place, PlaceKind};
    use model::trace::Hex;
    use pcap_file::pcapng::{Block, PcapNgReader};

    fn seen(host: &str, edge: &str, at_ns: u64) -> Seen {
        let from = Place { kind: PlaceKind::Port, name: "tap1".into(), network: "net".into(), port: None };
        Seen {
            host: host.into(),
            edge: edge.into(),
            at_ns,
            from,
            verdict: "dropped".into(),
            frame: Hex(vec![0; 60]),
            frame_len: 1500,
            ..Seen::default()
        }
    }

    #[test]
    fn every_point_is_an_interface_and_every_packet_has_its_comment() {
        let mut file = Pcapng::new(Vec::new(), 96).unwrap();
        for seen in
            [seen("ahv01", "in", 1_700_000_000_123_456_789), seen("ahv02", "in", 2), seen("ahv01", "in", 3)]
        {
            file.packet(&seen).unwrap();
        }
        let bytes = file.writer.into_inner();
        let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
        let (mut interfaces, mut packets) = (Vec::new(), Vec::new());
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::InterfaceDescription(interface) => {
                    interfaces.push(interface.options[0].clone().into_owned())
                }
                Block::EnhancedPacket(packet) => packets.push((
                    packet.interface_id,
                    packet.timestamp,
                    packet.original_len,
                    packet.options.len(),
                )),
                _ => {}
            }
        }
        let name = |name: &str| InterfaceDescriptionOption::IfName(Cow::Owned(name.to_owned()));
        assert_eq!(interfaces, [name("ahv01 port tap1 in"), name("ahv02 port tap1 in")]);
        let at = Duration::from_nanos;
        assert_eq!(
            packets,
            [(0, at(1_700_000_000_123_456_789), 1500, 1), (1, at(2), 1500, 1), (0, at(3), 1500, 1)]
        );
    }

    #[test]
    fn files_follow_one_another_and_begin_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.pcapng");
        let rotation = Rotation { bytes: Some(200), files: Some(2), every: None };
        let mut files = Files::new(path.clone(), rotation, 96).unwrap();
        for at_ns in 0..20 {
            assert!(files.write(&seen("ahv01", "in", at_ns)).unwrap());
        }
        files.flush().unwrap();
        let mut names: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a.pcapng", "a.pcapng.1"]);
        for name in names {
            assert!(std::fs::metadata(directory.path().join(name)).unwrap().len() < 1000);
        }
    }
}
