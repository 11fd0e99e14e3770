//! VNIs: one space for networks, external networks and routers.

use super::Exhausted;
use crate::Snapshot;
use model::Vni;

/// First and last VNI that may be given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VniRange {
    pub first: Vni,
    pub last: Vni,
}

/// The number after the highest in use, so that a freed one rests for long; from the first gap once the
/// end of the range is reached.
///
/// # Errors
/// `Exhausted` when every number of the range is taken.
pub fn free_vni(snapshot: &Snapshot, range: VniRange) -> Result<Vni, Exhausted> {
    let used = &snapshot.indexes.vnis;
    let highest = used.range(range.first..=range.last).next_back();
    let next = highest.map_or(range.first.get(), |vni| vni.get() + 1);
    if next <= range.last.get() {
        return Vni::new(next).map_err(|_| Exhausted);
    }
    let mut candidate = range.first.get();
    for vni in used.range(range.first..=range.last) {
        if vni.get() != candidate {
            break;
        }
        candidate += 1;
    }
    if candidate > range.last.get() {
        return Err(Exhausted);
    }
    Vni::new(candidate).map_err(|_| Exhausted)
}
