//! Captures under way: who wants to see which packets, and one thread that hands out what the programs tell.
//!
//! While anybody looks on, the programs that tell of packets are in the others' place: the main loop exchanges them when
//! the first comes, and back a moment after the last has left. They are loaded once, in a thread of their own, some time
//! after the start or when the first comes, and kept for the next. Nothing waits for anybody: a ring or queue that is full loses records, and both are counted.

use dataplane::{CaptureReader, Captured, Settings, Watching};
use pipeline::bounds::CAPTURE_SLOTS;
use pipeline::capture::{Slot, Slots};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

mod view;

pub(crate) use view::{Request, Router, View};

/// Records that wait for one capture.
const QUEUE: usize = 4096;
/// Between two looks into the ring: it has room for more than comes in that time.
const PAUSE: Duration = Duration::from_millis(5);
/// Records handed out between two looks at who wants them.
const BATCH: usize = 256;
/// What the programs are to tell of ends by itself after this, should the agent be gone.
const LEASE: Duration = Duration::from_secs(5);
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// The programs stay this long when nobody looks on any more: the next capture begins at once.
const LINGER: Duration = Duration::from_secs(2);
/// The programs are loaded this long after the start, when a host has had the time for what matters more.
const AHEAD_AFTER: Duration = Duration::from_secs(30);
/// The slot that captures share for which there is no other.
const SHARED_SLOT: usize = CAPTURE_SLOTS - 1;

/// What the main loop is told to do.
#[derive(Debug)]
pub(crate) enum Change {
    /// Put the programs in place, or take note that there are none.
    Loaded(Result<Loaded, String>),
    /// Put the plain ones back.
    Over(CaptureReader),
}

/// Programs and what reads their ring.
pub(crate) type Loaded = Box<(Watching, CaptureReader)>;

#[derive(Debug, Default)]
enum Programs {
    #[default]
    Off,
    Loading,
    InPlace,
}

#[derive(Debug, Default)]
struct State {
    programs: Programs,
    /// Loaded and not in place.
    spare: Option<Loaded>,
    next: u64,
    looking: BTreeMap<u64, Looking>,
}

/// One capture, from the reading thread's side.
#[derive(Clone, Debug)]
struct Looking {
    slot: usize,
    /// What its slot says; of the shared one, nothing.
    wanted: Wanted,
    queue: SyncSender<Arc<Captured>>,
    lost: Arc<AtomicU64>,
}

/// A slot's contents, as often as they are needed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) ends: [pipeline::capture::End; 2],
    pub(crate) ethertype: Option<u16>,
    pub(crate) protocol: Option<u8>,
    pub(crate) ifindex: u32,
    pub(crate) vnis: [u32; 4],
    pub(crate) interval_ns: u64,
    pub(crate) whole: bool,
}

impl Wanted {
    fn slot(&self, until_ns: u64) -> Slot {
        let mask = |given: bool| if given { u16::MAX } else { 0 };
        Slot {
            until_ns,
            interval_ns: self.interval_ns,
            ends: self.ends,
            ethertype: self.ethertype.unwrap_or_default(),
            ethertype_mask: mask(self.ethertype.is_some()),
            protocol: self.protocol.unwrap_or_default(),
            protocol_mask: mask(self.protocol.is_some()) as u8,
            ifindex: self.ifindex,
            whole: u32::from(self.whole),
            vnis: self.vnis,
            ..Slot::default()
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Records that the ring had no room for, since the start.
    ring_lost: AtomicU64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The captures of this host.
#[derive(Clone, Debug)]
pub(crate) struct Captures {
    shared: Arc<Shared>,
    settings: Settings,
    changes: mpsc::Sender<Change>,
}

impl Captures {
    /// `changes`: to the main loop.
    pub(crate) fn new(settings: Settings, changes: mpsc::Sender<Change>) -> Self {
        let captures = Self { shared: Arc::default(), settings, changes };
        let ahead = captures.clone();
        std::thread::spawn(move || {
            std::thread::sleep(AHEAD_AFTER);
            let mut state = ahead.shared.lock();
            if matches!(state.programs, Programs::Off) && state.spare.is_none() {
                state.programs = Programs::Loading;
                drop(state);
                ahead.load();
            }
        });
        captures
    }

    /// Begins to look on; the programs are loaded if they are not there.
    pub(crate) fn open(&self, view: View) -> Subscriber {
        let (queue, records) = sync_channel(QUEUE);
        let lost = Arc::new(AtomicU64::new(0));
        let mut state = self.shared.lock();
        let id = state.next;
        state.next += 1;
        let taken = |slot: &usize| state.looking.values().any(|looking| looking.slot == *slot);
        let slot = (0..SHARED_SLOT).find(|slot| !taken(slot)).unwrap_or(SHARED_SLOT);
        let looking = Looking { slot, wanted: view.wanted(), queue, lost: Arc::clone(&lost) };
        state.looking.insert(id, looking);
        if matches!(state.programs, Programs::Off) {
            state.programs = Programs::Loading;
            let (spare, captures) = (state.spare.take(), self.clone());
            std::thread::spawn(move || match spare {
                Some(spare) => captures.tell(Change::Loaded(Ok(spare))),
                None => captures.load(),
            });
        }
        drop(state);
        let ring_lost_before = self.shared.ring_lost.load(Relaxed);
        Subscriber { id, shared: Arc::clone(&self.shared), records, lost, ring_lost_before, view }
    }

    /// Takes as long as the verifier does. The programs are put in place if somebody wants them by then, or kept.
    fn load(&self) {
        let loaded = Watching::load(&self.settings).map(Box::new).map_err(|error| crate::chain(&error));
        let mut state = self.shared.lock();
        match loaded {
            Ok(spare) if state.looking.is_empty() => {
                state.programs = Programs::Off;
                state.spare = Some(spare);
            }
            loaded => {
                drop(state);
                self.tell(Change::Loaded(loaded));
            }
        }
    }

    fn tell(&self, change: Change) {
        if self.changes.blocking_send(change).is_err() {
            tracing::debug!("the main loop has ended");
        }
    }

    /// The programs are in place.
    pub(crate) fn in_place(&self, mut reader: CaptureReader) {
        self.shared.lock().programs = Programs::InPlace;
        let captures = self.clone();
        std::thread::spawn(move || {
            read(&captures.shared, &mut reader);
            captures.tell(Change::Over(reader));
        });
    }

    /// The plain ones are: these are for the next capture.
    pub(crate) fn keep(&self, spare: Loaded) {
        let mut state = self.shared.lock();
        if matches!(state.programs, Programs::Off) {
            state.spare = Some(spare);
        }
    }

    /// There are none: all captures end.
    pub(crate) fn failed(&self) {
        let mut state = self.shared.lock();
        state.programs = Programs::Off;
        state.looking.clear();
    }
}

/// Hands out what the programs tell until nobody has wanted it for a while.
fn read(shared: &Shared, reader: &mut CaptureReader) {
    // What was told after the last capture's end is nobody's.
    reader.by_ref().for_each(drop);
    let mut lost = reader.lost().unwrap_or(0);
    let mut renew_at = Instant::now();
    let mut looking: BTreeMap<u64, Looking> = BTreeMap::new();
    let mut wanted_at = Instant::now();
    loop {
        let now = Instant::now();
        let mut state = shared.lock();
        if !state.looking.is_empty() {
            wanted_at = now;
        } else if now.duration_since(wanted_at) > LINGER {
            state.programs = Programs::Off;
            if let Err(error) = reader.want(&Slots::default()) {
                tracing::warn!(
                    error = crate::chain(&error),
                    "the programs' slots are not cleared; they expire"
                );
            }
            return;
        }
        let changed = !state.looking.keys().eq(looking.keys());
        if changed {
            looking.clone_from(&state.looking);
        }
        // Under load this thread never rests: whoever waits for the lock would not get it in between.
        drop(state);
        if changed || now >= renew_at {
            renew_at = now + RENEW_EVERY;
            renew(&looking, reader);
            count_lost(shared, reader, &mut lost);
        }
        let taken = reader.by_ref().take(BATCH).map(|captured| hand_out(&looking, captured)).count();
        if taken < BATCH {
            count_lost(shared, reader, &mut lost);
            std::thread::sleep(PAUSE);
        }
    }
}

/// Adds what the programs lost since they were asked last.
fn count_lost(shared: &Shared, reader: &CaptureReader, before: &mut u64) {
    match reader.lost() {
        Ok(lost) => {
            shared.ring_lost.fetch_add(lost.saturating_sub(*before), Relaxed);
            *before = lost;
        }
        Err(error) => tracing::warn!(error = crate::chain(&error), "lost records not counted"),
    }
}

fn renew(all: &BTreeMap<u64, Looking>, reader: &CaptureReader) {
    let until_ns = dataplane::clock_ns().saturating_add(LEASE.as_nanos() as u64);
    let mut slots = Slots::default();
    for looking in all.values() {
        let wanted = if looking.slot == SHARED_SLOT {
            Wanted { whole: true, ..Wanted::default() }
        } else {
            looking.wanted
        };
        if let Some(slot) = slots.get_mut(looking.slot) {
            *slot = wanted.slot(until_ns);
        }
    }
    if let Err(error) = reader.want(&slots) {
        tracing::warn!(error = crate::chain(&error), "what captures want is not known to the programs");
    }
}

fn hand_out(all: &BTreeMap<u64, Looking>, captured: Captured) {
    let captured = Arc::new(captured);
    let wants = |looking: &&Looking| captured.head.slots & 1 << looking.slot != 0;
    for looking in all.values().filter(wants) {
        if looking.queue.try_send(Arc::clone(&captured)).is_err() {
            looking.lost.fetch_add(1, Relaxed);
        }
    }
}

/// One capture, from the side of who answers. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Subscriber {
    id: u64,
    shared: Arc<Shared>,
    records: Receiver<Arc<Captured>>,
    lost: Arc<AtomicU64>,
    ring_lost_before: u64,
    pub(crate) view: View,
}

/// What a subscriber waited for.
pub(crate) enum Next {
    Record(Arc<Captured>),
    /// For now there is none.
    None,
    /// The programs could not be put in place.
    Failed,
}

impl Subscriber {
    pub(crate) fn next(&self, timeout: Duration) -> Next {
        match self.records.recv_timeout(timeout) {
            Ok(record) => Next::Record(record),
            Err(RecvTimeoutError::Timeout) => Next::None,
            Err(RecvTimeoutError::Disconnected) => Next::Failed,
        }
    }

    /// Records that found no room, here or in the ring, which all captures share.
    pub(crate) fn lost(&self) -> u64 {
        let ring = self.shared.ring_lost.load(Relaxed);
        self.lost.load(Relaxed) + ring.saturating_sub(self.ring_lost_before)
    }

    pub(crate) fn is_looking(&self) -> bool {
        matches!(self.shared.lock().programs, Programs::InPlace)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.shared.lock().looking.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane::Captured;
    use pipeline::capture::Head;

    /// A record that everybody wants is handed to who has room for it, and counted as lost for who has none.
    #[test]
    fn a_full_queue_loses_records_and_holds_up_nobody() {
        let looking = |slot, room| {
            let (queue, records) = sync_channel(room);
            let lost = Arc::new(AtomicU64::new(0));
            let looking = Looking { slot, wanted: Wanted::default(), queue, lost: Arc::clone(&lost) };
            (looking, records, lost)
        };
        let (narrow, narrow_records, narrow_lost) = looking(0, 2);
        let (wide, wide_records, wide_lost) = looking(1, 8);
        let (other, other_records, other_lost) = looking(2, 8);
        let all = BTreeMap::from([(7, narrow), (8, wide), (9, other)]);
        for walk in 0..5 {
            let head = Head { walk, slots: 0b011, ..Head::default() };
            hand_out(&all, Captured { head, frame: Vec::new() });
        }
        let walks = |records: &Receiver<Arc<Captured>>| -> Vec<u64> {
            records.try_iter().map(|record| record.head.walk).collect()
        };
        assert_eq!((walks(&narrow_records), narrow_lost.load(Relaxed)), (vec![0, 1], 3));
        assert_eq!((walks(&wide_records), wide_lost.load(Relaxed)), (vec![0, 1, 2, 3, 4], 0));
        assert_eq!((walks(&other_records), other_lost.load(Relaxed)), (vec![], 0));
        drop(narrow_records);
        hand_out(&all, Captured { head: Head { slots: 1, ..Head::default() }, frame: Vec::new() });
        assert_eq!(narrow_lost.load(Relaxed), 4, "who has left is no error");
    }
}
