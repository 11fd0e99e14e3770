//! The rings through which the pipeline hands things to the agent: questions, and whole frames.

use crate::Dataplane;
use crate::again::Handed;
use crate::error::Error;
use aya::maps::{MapData, RingBuf};
use pipeline::event::Event;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use zerocopy::FromBytes;

/// What an entry of a ring holds.
pub trait Entry: Sized {
    /// None: it is shorter than it says.
    fn read(bytes: &[u8]) -> Option<Self>;
}

impl Entry for Event {
    fn read(bytes: &[u8]) -> Option<Self> {
        Self::read_from_prefix(bytes).ok().map(|(event, _)| event)
    }
}

/// A ring's only reader. Its descriptor is readable when an entry waits (edge and level triggered poll).
pub struct RingReader<T> {
    ring: RingBuf<MapData>,
    entries: PhantomData<fn() -> T>,
}

pub type EventReader = RingReader<Event>;
pub type FrameReader = RingReader<Handed>;

impl<T> RingReader<T> {
    pub(crate) fn of(data: MapData) -> Result<Self, Error> {
        let ring = RingBuf::try_from(aya::maps::Map::RingBuf(data))
            .map_err(|source| Error::Events(Box::new(source)))?;
        Ok(Self { ring, entries: PhantomData })
    }
}

impl<T> std::fmt::Debug for RingReader<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RingReader({})", self.as_raw_fd())
    }
}

/// The oldest not read yet, and `None` when there is none for now.
impl<T: Entry> Iterator for RingReader<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let item = self.ring.next()?;
        T::read(&item)
    }
}

impl<T> AsFd for RingReader<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl<T> AsRawFd for RingReader<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

impl Dataplane {
    /// Takes the reading end of the questions, once.
    pub fn events(&mut self) -> Result<EventReader, Error> {
        RingReader::of(self.object.events.take().ok_or(Error::EventsTaken)?)
    }

    /// Takes the reading end of the whole frames, once.
    pub fn frames(&mut self) -> Result<FrameReader, Error> {
        RingReader::of(self.object.frames.take().ok_or(Error::EventsTaken)?)
    }
}
