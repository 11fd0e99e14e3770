//! The kernel's side of a host: loading the programs, writing the tables, reading what happened.
//!
//! What this is not: it decides nothing about packets (that is [`pipeline`]) and knows no API objects.
//! Invariants: everything that packets need is pinned, so the process may end at any time without a packet
//! noticing; a table is written before what points to it and removed after; the configuration epoch changes
//! only when an entry did.

mod again;
mod apply;
mod attach;
mod bpffs;
mod capture;
mod counters;
mod error;
mod events;
mod object;
mod openings;
mod played_nic;
mod refusal;
mod session_tables;
mod sessions;
mod settings;
mod sweep;
mod sys;
mod view;

pub mod access_port;
pub mod fragments;
pub mod testrun;

pub use again::{FRAME_LEN_MAX, Handed};
pub use apply::Applied;
pub use attach::{Attachment, Hook, Interface};
pub use capture::{CaptureReader, Captured, Watching};
pub use counters::Counters;
pub use error::Error;
pub use events::{Entry, EventReader, FrameReader, RingReader};
pub use openings::{NotOpened, OpenPort, OpenRequest};
pub use played_nic::PlayedNic;
pub use session_tables::SessionTables;
pub use sessions::{Purged, SessionRow, State, Timeouts};
pub use settings::{Settings, Sizes};
pub use sweep::{Fate, Sweeper, Swept};
pub use view::View;

use aya::programs::SchedClassifier;
use bpffs::PinDirectory;
use object::{Build, Object};
use pipeline::table_set::TableSet;
use std::collections::BTreeSet;

/// The data path of one host.
#[derive(Debug)]
pub struct Dataplane {
    object: Object,
    /// None: private maps, for test runs.
    pin_directory: Option<PinDirectory>,
    /// What the kernel's configuration tables hold, as this process, their only writer, knows.
    current: TableSet,
    /// What the kernel holds of them.
    openings: openings::Openings,
    /// Keys of the punt buckets.
    ingresses: BTreeSet<u32>,
    /// Entries that `sessions` was made for.
    sessions_max: u32,
    /// The programs that tell of packets, while they are in the others' place.
    watching: Option<Object>,
}

impl Dataplane {
    /// Takes over the pinned tables of an earlier process, or makes new ones, and loads this version's
    /// programs. Nothing changes for packets until [`Dataplane::attach`].
    pub fn open(settings: &Settings) -> Result<Self, Error> {
        let pins = PinDirectory::open(&settings.pin_dir)?;
        let programs = programs();
        let object = Object::load(Build::Plain, Some(&pins.maps), &settings.sizes, &programs)?;
        Self::new(object, Some(pins), &settings.sizes)
    }

    /// With maps of its own that vanish with it.
    pub(crate) fn open_private(
        build: Build,
        sizes: &Sizes,
        programs: &[&'static str],
    ) -> Result<Self, Error> {
        Self::new(Object::load(build, None, sizes, programs)?, None, sizes)
    }

    fn new(object: Object, pin_directory: Option<PinDirectory>, sizes: &Sizes) -> Result<Self, Error> {
        let mut dataplane = Self {
            object,
            pin_directory,
            current: TableSet::default(),
            openings: openings::Openings::new(),
            ingresses: BTreeSet::new(),
            sessions_max: sizes.sessions,
            watching: None,
        };
        dataplane.reread()?;
        Ok(dataplane)
    }

    /// Instructions the verifier walked per program.
    pub fn verified_instructions(&mut self) -> Vec<(&'static str, u32)> {
        programs()
            .into_iter()
            .filter_map(|name| Some((name, object::verified(self.program(name).ok()?))))
            .collect()
    }

    /// The program that is in force.
    pub(crate) fn program(&mut self, name: &'static str) -> Result<&mut SchedClassifier, Error> {
        self.watching.as_mut().unwrap_or(&mut self.object).program(name)
    }

    pub(crate) fn object_mut(&mut self) -> &mut Object {
        &mut self.object
    }
}

/// Every program of a host: those that are attached, and the one that the agent runs.
fn programs() -> Vec<&'static str> {
    Hook::ALL.map(Hook::program).into_iter().chain([again::PROGRAM]).collect()
}

/// Nanoseconds of the clock that sessions and mappings are stamped with (`CLOCK_MONOTONIC`, whose coarse
/// reading the programs take: milliseconds old, and a tenth of the cost).
pub fn clock_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    // The clock exists on every Linux this runs on, and it is never negative.
    now.map_or(0, |now| now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}
