//! Looking on: [`pipeline::capture`] over maps that only this object has.

use crate::maps::Maps;
use crate::skb::bounded_frame;
use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns, bpf_map_lookup_elem};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, PerCpuArray, RingBuf};
use pipeline::bounds::CAPTURE_RING_BYTES;
use pipeline::capture::{self, Head, Memory, Record, Slots};
use pipeline::walk::{Hook, Work};
use pipeline::{Packet, Stage, Verdict};

/// What is wanted; the agent writes it.
#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static capture_slots: Array<Slots> = Array::with_max_entries(1, 0);

/// What is told; the agent reads it.
#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static captured: RingBuf = RingBuf::with_byte_size(CAPTURE_RING_BYTES, 0);

/// Records for which the ring had no room.
#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static capture_lost: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// A program runs to its end on one CPU with bottom halves off, so no two share it; the one that the agent runs
/// may be interrupted, and then the record of its packet is another's.
#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static capture_memory: PerCpuArray<Memory> = PerCpuArray::with_max_entries(1, 0);

/// The packet as it came, and as it leaves.
#[map]
#[expect(non_upper_case_globals, reason = "a map's name is its table's")]
static capture_records: PerCpuArray<Record> = PerCpuArray::with_max_entries(2, 0);

/// The agent looks into the ring by the clock: waking it up costs the packet.
const NO_WAKEUP: u64 = 1;
/// Walks of one CPU that have different numbers.
const WALK_BITS: u32 = 48;

#[inline(always)]
fn memory() -> Option<&'static mut Memory> {
    // SAFETY: the element lives as long as the map, and each use ends before the next begins.
    capture_memory.get_ptr_mut(0).map(|memory| unsafe { &mut *memory })
}

#[inline(always)]
fn record(number: u32) -> Option<&'static mut Record> {
    // SAFETY: as above; the two have different numbers.
    capture_records.get_ptr_mut(number).map(|record| unsafe { &mut *record })
}

#[inline(always)]
fn slots() -> Option<&'static Slots> {
    // SAFETY: as above; the agent may write while it is read, and then a record is one too many or too few.
    capture_slots.get_ptr(0).map(|slots| unsafe { &*slots })
}

/// The key of the only element, where no stack is needed for it: the stages' own is used up.
static FIRST: u32 = 0;

#[inline(always)]
pub(crate) fn enter(stage: Stage) {
    let map = (&raw const capture_memory).cast_mut().cast();
    // SAFETY: the map is an array with an element 0 of that type; as above.
    let memory = unsafe { bpf_map_lookup_elem(map, (&raw const FIRST).cast()).cast::<Memory>().as_mut() };
    if let Some(memory) = memory {
        capture::enter(memory, stage);
    }
}

/// A function of its own, as the one below: the walk's stack is used up.
#[inline(never)]
pub(crate) fn arrive<P: Packet>(packet: &P, hook: Hook, ingress: u32) {
    let (Some(memory), Some(record), Some(slots)) = (memory(), record(0), slots()) else { return };
    // SAFETY: no preconditions.
    let (now_ns, cpu) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id()) };
    memory.now_ns = now_ns;
    memory.walk = u64::from(cpu) << WALK_BITS | memory.walk & ((1 << WALK_BITS) - 1);
    capture::arrive(packet, memory, record, slots, (hook, ingress));
}

#[inline(never)]
pub(crate) fn leave<P: Packet>(packet: &P, work: &Work, verdict: Verdict) {
    let (Some(memory), Some(slots)) = (memory(), slots()) else { return };
    let (Some(arrived), Some(left)) = (record(0), record(1)) else { return };
    // SAFETY: no preconditions.
    memory.now_ns = unsafe { bpf_ktime_get_ns() };
    let wanted = capture::leave(packet, (&Maps, work, verdict), memory, [&mut *arrived, &mut *left], slots);
    if wanted.0 {
        emit(arrived);
    }
    if wanted.1 {
        emit(left);
    }
}

#[inline(never)]
fn emit(record: &Record) {
    let len = size_of::<Head>() + bounded_frame(record.head.captured_len) as usize;
    // SAFETY: the length is at most the record's, and the record has no padding.
    let bytes = unsafe { core::slice::from_raw_parts((&raw const *record).cast::<u8>(), len) };
    if captured.output::<[u8]>(bytes, NO_WAKEUP).is_err()
        && let Some(lost) = capture_lost.get_ptr_mut(0)
    {
        // SAFETY: this CPU's element; nothing else writes it.
        unsafe { *lost = (*lost).wrapping_add(1) }
    }
}
