//! The ring through which the pipeline hands packets and questions to the agent.

use crate::Dataplane;
use crate::error::Error;
use aya::maps::{MapData, RingBuf};
use pipeline::event::Event;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use zerocopy::FromBytes;

/// The ring's only reader. Its descriptor is readable when an event waits (edge and level triggered poll).
pub struct EventReader(RingBuf<MapData>);

impl std::fmt::Debug for EventReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EventReader({})", self.as_raw_fd())
    }
}

/// The oldest event not read yet, and `None` when there is none for now.
impl Iterator for EventReader {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let item = self.0.next()?;
        Event::read_from_prefix(&item).ok().map(|(event, _)| event)
    }
}

impl AsFd for EventReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for EventReader {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Dataplane {
    /// Takes the reading end, once.
    pub fn events(&mut self) -> Result<EventReader, Error> {
        let data = self.object.events.take().ok_or(Error::EventsTaken)?;
        let ring = RingBuf::try_from(aya::maps::Map::RingBuf(data))
            .map_err(|source| Error::Events(Box::new(source)))?;
        Ok(EventReader(ring))
    }
}
