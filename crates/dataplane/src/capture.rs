//! Capturing: programs that tell of packets, in the others' place for as long as somebody wants to hear.
//!
//! Loading takes as long as the verifier does, so it is done in a thread of its own while packets and the agent go
//! on; the exchange itself is one step per interface, and no packet passes unseen or twice. What is told goes
//! through a ring that loses records, never packets.

use crate::error::Error;
use crate::events::{Entry, RingReader};
use crate::object::{Build, Object, take};
use crate::settings::Settings;
use crate::sys::{self, MapFd};
use crate::{Dataplane, programs};
use aya::maps::Map;
use pipeline::capture::{Head, Slots};
use zerocopy::FromBytes;

const RING: &str = "captured";
const SLOTS: &str = "capture_slots";
const LOST: &str = "capture_lost";
const KEY: u32 = 0;

/// The programs, loaded and not attached yet.
#[derive(Debug)]
pub struct Watching(Object);

impl Watching {
    /// Over the tables of the data path with these settings.
    pub fn load(settings: &Settings) -> Result<(Self, CaptureReader), Error> {
        let pins = crate::bpffs::PinDirectory::open(&settings.pin_dir)?;
        let mut object = Object::load(Build::Watching, Some(&pins.maps), &settings.sizes, &programs())?;
        let reader = CaptureReader::of(&mut object)?;
        Ok((Self(object), reader))
    }
}

impl Dataplane {
    /// Exchanges the programs on every interface: these take the place of those in force, or, with none, this
    /// version's plain ones do. Gives back those that told of packets until now. After an error it can be repeated.
    pub fn exchange_programs(&mut self, watching: Option<Watching>) -> Result<Option<Watching>, Error> {
        let former = std::mem::replace(&mut self.watching, watching.map(|watching| watching.0));
        for attachment in self.attached()? {
            match self.attach(attachment.hook, attachment.ifindex) {
                Ok(_) | Err(Error::NoInterface(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(former.map(Watching))
    }
}

/// One end of a packet's walk: what is known of it, and its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    pub head: Head,
    /// As many bytes as were kept.
    pub frame: Vec<u8>,
}

impl Entry for Captured {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = Head::read_from_prefix(bytes).ok()?;
        let frame = rest.get(..head.captured_len as usize)?.to_vec();
        Some(Self { head, frame })
    }
}

/// What the programs tell, and what they are to tell of.
#[derive(Debug)]
pub struct CaptureReader {
    ring: RingReader<Captured>,
    slots: MapFd<u32, Slots>,
    lost: MapFd<u32, u64>,
    cpus: usize,
}

impl CaptureReader {
    pub(crate) fn of(object: &mut Object) -> Result<Self, Error> {
        let ebpf = &mut object.ebpf;
        let (slots, lost) = (take(ebpf, None, SLOTS)?, take(ebpf, None, LOST)?);
        let Some(Map::RingBuf(data)) = ebpf.take_map(RING) else { return Err(Error::ObjectLacks(RING)) };
        let ring = RingReader::of(data)?;
        let cpus = sys::possible_cpus().map_err(Error::table(LOST))?;
        Ok(Self { ring, slots, lost, cpus })
    }

    /// Says what is wanted from now on.
    pub fn want(&self, slots: &Slots) -> Result<(), Error> {
        self.slots.put(&KEY, slots).map_err(Error::table(SLOTS))
    }

    /// Records for which the ring had no room, since the programs were loaded.
    pub fn lost(&self) -> Result<u64, Error> {
        let values = self.lost.get_per_cpu(&KEY, self.cpus).map_err(Error::table(LOST))?;
        Ok(values.unwrap_or_default().into_iter().fold(0, u64::wrapping_add))
    }
}

/// The oldest not read yet, and `None` when there is none for now.
impl Iterator for CaptureReader {
    type Item = Captured;

    fn next(&mut self) -> Option<Captured> {
        self.ring.next()
    }
}
