//! Packets that the programs hand over whole, and walk once more when the agent gives them back.
//!
//! What comes back goes through `from_agent`, which is run on the frame (`BPF_PROG_TEST_RUN`): the same walk with the
//! same tables and counters as on the interface it came by. The kernel does not carry out the verdict of such a
//! run, so the caller sends the frame where the outcome says.

use crate::Dataplane;
use crate::error::Error;
use crate::events::Entry;
use crate::testrun::{self, Outcome};
use pipeline::Origin;
use pipeline::event::FrameHead;
use pipeline::fragment::FragmentKey;
use zerocopy::FromBytes;

/// The program that is run.
pub(crate) const PROGRAM: &str = "from_agent";
/// Largest frame that the kernel takes for such a run on every machine: a page less what it adds.
pub const FRAME_LEN_MAX: usize = 3072;

/// A packet that was handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    pub head: FrameHead,
    /// The whole frame, as it was before any rewriting, without its VLAN tag.
    pub frame: Vec<u8>,
}

impl Handed {
    /// Where it came from, for giving it back.
    pub fn origin(&self) -> Origin {
        let FrameHead { hook, ingress, origin, vtep, .. } = self.head;
        Origin { hook, ifindex: ingress, detail: origin, vtep }
    }
}

impl Entry for Handed {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = FrameHead::read_from_prefix(bytes).ok()?;
        let frame = rest.get(..head.frame_len as usize)?.to_vec();
        Some(Self { head, frame })
    }
}

impl Dataplane {
    /// Whether the first fragment of a datagram has come a moment ago.
    pub fn knows_datagram(&self, key: &FragmentKey, now_ns: u64) -> Result<bool, Error> {
        let known = self.object.tables.fragments.get(key).map_err(Error::table("fragments"))?;
        Ok(known.is_some_and(|known| {
            known.state == pipeline::fragment::Fragment::KNOWN && known.is_fresh(now_ns)
        }))
    }

    /// Lets a frame of at most [`FRAME_LEN_MAX`] bytes walk as if it came from `origin`.
    pub fn walk_again(&mut self, origin: &Origin, frame: &[u8]) -> Result<Outcome, Error> {
        let context = testrun::agent_context(origin);
        testrun::run_program(self, PROGRAM, &context, frame)
    }
}
