//! Running the programs on single frames (`BPF_PROG_TEST_RUN`): the real object, verifier, helpers and maps,
//! without a network.
//!
//! What it cannot do: frames with a VLAN tag taken off by the NIC, frames shorter than an Ethernet header,
//! and tunnel metadata; the tunnel's program is therefore run through an entry point of its own that takes
//! the metadata from the control block and is otherwise the same. Where a packet was sent to is returned by
//! the programs in the control block too.

use crate::error::Error;
use crate::object::Build;
use crate::sessions::binding_of;
use crate::{CaptureReader, Dataplane, EventReader, Hook, Sizes, again};
use aya::TestRun as _;
use aya::programs::TestRunOptions;
use pipeline::bounds::FRAME_BUCKET;
use pipeline::nat::{Mapping, MappingKey};
use pipeline::session::{Session, SessionKey, seen};
use pipeline::table_set::TableSet;
use pipeline::tables::{FixedKey, Usage};
use pipeline::{Address, Origin, Punt, Reason, Stage, Verdict};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use zerocopy::FromZeros as _;

mod fixture;

pub use fixture::{ADDRESS_A, ADDRESS_B, VM_A, VM_B, a_to_b, two_ports};

/// Room for the largest frame that a test run takes, and outer headers.
const FRAME_MAX: usize = 4096;
const CONTEXT_LEN: usize = 192;
const PROGRAMS: [&str; 5] = ["from_port", "test_tunnel", "from_uplink", "from_underlay", again::PROGRAM];

/// Offsets in `__sk_buff`.
mod field {
    pub(super) const IFINDEX: usize = 40;
    pub(super) const CB: usize = 48;
    pub(super) const GSO_SEGMENTS: usize = 164;
    pub(super) const GSO_SIZE: usize = 176;
}

/// Where a frame comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    Port {
        ifindex: u32,
    },
    /// From the tunnel device, with the metadata it took off.
    Tunnel {
        vni: u32,
        vtep: [u8; 4],
    },
    Uplink {
        ifindex: u32,
    },
    Underlay {
        ifindex: u32,
    },
    /// The agent gives it back.
    Agent(Origin),
}

impl Arrival {
    const fn program(self) -> &'static str {
        match self {
            Self::Port { .. } => Hook::Port.program(),
            Self::Tunnel { .. } => "test_tunnel",
            Self::Uplink { .. } => Hook::Uplink.program(),
            Self::Underlay { .. } => Hook::Underlay.program(),
            Self::Agent(_) => again::PROGRAM,
        }
    }
}

/// How a frame ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// The frame as the program left it, without the tag in `vlan`.
    pub frame: Vec<u8>,
    /// VLAN id that the program tagged it with.
    pub vlan: Option<u16>,
}

/// A loaded object with private tables, in a network namespace of its own.
///
/// The calling thread is in that namespace until the value is dropped, and the kernel accepts test runs for
/// its interfaces only from there: make, use and drop it on one thread.
#[derive(Debug)]
pub struct TestRun {
    pub dataplane: Dataplane,
    interfaces: BTreeSet<u32>,
    home: File,
}

impl TestRun {
    pub fn open(tables: &TableSet) -> Result<Self, Error> {
        Self::open_build(Build::Plain, tables)
    }

    /// Likewise, with the programs that tell of packets.
    pub fn open_watching(tables: &TableSet) -> Result<(Self, CaptureReader), Error> {
        let mut run = Self::open_build(Build::Watching, tables)?;
        let reader = CaptureReader::of(run.dataplane.object_mut())?;
        Ok((run, reader))
    }

    fn open_build(build: Build, tables: &TableSet) -> Result<Self, Error> {
        let mut run = Self::of(Dataplane::open_private(build, &Sizes::SMALL, &PROGRAMS)?)?;
        run.dataplane.apply(tables)?;
        Ok(run)
    }

    /// With tables and programs that are in use; the tunnel's is not among them.
    pub fn of(dataplane: Dataplane) -> Result<Self, Error> {
        let home = File::open("/proc/thread-self/ns/net").map_err(Error::TestNamespace)?;
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .map_err(|e| Error::TestNamespace(e.into()))?;
        Ok(Self { dataplane, interfaces: BTreeSet::from([1]), home })
    }

    /// The reading end of the programs' events, once.
    pub fn events(&mut self) -> Result<EventReader, Error> {
        self.dataplane.events()
    }

    /// Runs the program of the arrival on a frame of 14 to about 3,400 bytes.
    pub fn run(&mut self, arrival: Arrival, frame: &[u8]) -> Result<Outcome, Error> {
        self.run_gso(arrival, frame, 0, 0)
    }

    /// Likewise, for a super-packet.
    pub fn run_gso(
        &mut self,
        arrival: Arrival,
        frame: &[u8],
        gso_size: u32,
        gso_segments: u32,
    ) -> Result<Outcome, Error> {
        let context = self.context(arrival, gso_size, gso_segments)?;
        run_program(&mut self.dataplane, arrival.program(), &context, frame)
    }

    /// Makes a mapping and its claim, as if a packet had: for repeating what chose its port by chance.
    pub fn insert_mapping(&mut self, key: &MappingKey, mapping: &Mapping) -> Result<(), Error> {
        let tables = &self.dataplane.object_mut().tables;
        let owner = FixedKey { router_vni: key.router_vni, address: key.address };
        let usage = tables.port_usage.get(&owner).map_err(Error::table("port_usage"))?.unwrap_or_default();
        let usage = Usage { ports: usage.ports + 1, ..usage };
        tables.port_usage.put(&owner, &usage).map_err(Error::table("port_usage"))?;
        tables.bindings.put(&binding_of(key, mapping), key).map_err(Error::table("bindings"))?;
        tables.mappings.put(key, mapping).map_err(Error::table("mappings"))
    }

    /// Mean time of a run. Each run is fed the frame that the one before left, so it means something only for
    /// frames that leave as they came.
    pub fn time(&mut self, arrival: Arrival, frame: &[u8], runs: u32) -> Result<Duration, Error> {
        let context = self.context(arrival, 0, 0)?;
        let program = arrival.program();
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            repeat: runs,
            ..TestRunOptions::default()
        };
        let result = self
            .dataplane
            .program(program)?
            .test_run(options)
            .map_err(|source| Error::TestRun { program, source: Box::new(source) })?;
        Ok(result.duration)
    }

    fn context(
        &mut self,
        arrival: Arrival,
        gso_size: u32,
        gso_segments: u32,
    ) -> Result<[u8; CONTEXT_LEN], Error> {
        let mut context = [0u8; CONTEXT_LEN];
        match arrival {
            Arrival::Port { ifindex } | Arrival::Uplink { ifindex } | Arrival::Underlay { ifindex } => {
                self.need_interface(ifindex)?;
                put(&mut context, field::IFINDEX, ifindex);
            }
            Arrival::Agent(origin) => {
                if origin.ifindex < FRAME_BUCKET {
                    self.need_interface(origin.ifindex)?;
                }
                context = agent_context(&origin);
            }
            Arrival::Tunnel { vni, vtep } => {
                put(&mut context, field::CB + 12, vni);
                put(&mut context, field::CB + 16, u32::from_be_bytes(vtep));
            }
        }
        put(&mut context, field::GSO_SIZE, gso_size);
        put(&mut context, field::GSO_SEGMENTS, gso_segments);
        Ok(context)
    }

    /// The kernel wants the context's interface to exist.
    fn need_interface(&mut self, ifindex: u32) -> Result<(), Error> {
        if !self.interfaces.insert(ifindex) {
            return Ok(());
        }
        let (name, index) = (format!("test{ifindex}"), ifindex.to_string());
        let status = Command::new("ip")
            .args(["link", "add", "name", &name, "index", &index, "type", "bridge"])
            .status()
            .map_err(Error::TestNamespace)?;
        if !status.success() {
            return Err(Error::TestNamespace(io::Error::other(format!(
                "interface {ifindex} could not be made"
            ))));
        }
        Ok(())
    }
}

/// The context of a frame that the agent gives back.
pub(crate) fn agent_context(origin: &Origin) -> [u8; CONTEXT_LEN] {
    let mut context = [0u8; CONTEXT_LEN];
    // The kernel wants an interface that exists; the tunnel's is none.
    if origin.ifindex < FRAME_BUCKET {
        put(&mut context, field::IFINDEX, origin.ifindex);
    }
    put(&mut context, field::CB + 12, origin.hook << 24 | origin.detail & 0x00ff_ffff);
    put(&mut context, field::CB + 16, u32::from_be_bytes(origin.vtep.to_v4()));
    context
}

/// Runs a program of the object on a frame.
pub(crate) fn run_program(
    dataplane: &mut Dataplane,
    program: &'static str,
    context: &[u8; CONTEXT_LEN],
    frame: &[u8],
) -> Result<Outcome, Error> {
    let mut out = vec![0u8; FRAME_MAX];
    let mut context_out = [0u8; CONTEXT_LEN];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ctx_in: Some(context),
        ctx_out: Some(&mut context_out),
        ..TestRunOptions::default()
    };
    let result = dataplane
        .program(program)?
        .test_run(options)
        .map_err(|source| Error::TestRun { program, source: Box::new(source) })?;
    out.truncate(result.data_size_out as usize);
    let tag = get(&context_out, field::CB + 8);
    Ok(Outcome {
        verdict: verdict(&context_out),
        frame: out,
        vlan: (tag >> 16 != 0).then_some((tag & 0x0fff) as u16),
    })
}

impl Drop for TestRun {
    fn drop(&mut self) {
        // The namespace was this thread's a moment ago; if it cannot be entered again, the thread stays in
        // the test's, which ends with it.
        if let Err(error) = nix::sched::setns(&self.home, nix::sched::CloneFlags::CLONE_NEWNET) {
            tracing::warn!(%error, "test run: the thread stays in the test's network namespace");
        }
    }
}

/// Fills the sessions of a network with `count` established TCP connections that never were, for measuring what
/// many of them cost.
pub fn fill_sessions(dataplane: &Dataplane, vni: u32, count: u32) -> Result<(), Error> {
    const EACH_WAY: u32 = seen::PACKET | seen::SYN | seen::ACK;
    let tables = &dataplane.object.tables;
    let now_ns = crate::clock_ns();
    for number in 0..count {
        let [_, high, middle, low] = number.to_be_bytes();
        let key = SessionKey {
            vni,
            src: Address::v4([10, high, middle, 1]),
            dst: Address::v4([10, 200, 0, 1]),
            src_port: 1024 + u16::from(low),
            dst_port: 443,
            protocol: packet::ipv4::PROTOCOL_TCP,
            zero: [0; 3],
        };
        let (stored, exchanged) = key.stored();
        let mut session = Session::new_zeroed();
        session.reply = key.reversed();
        session.exchanged = exchanged.into();
        session.created_ns = now_ns;
        session.last_ns.store(now_ns, Relaxed);
        session.seen.store(EACH_WAY | EACH_WAY << seen::REPLY_SHIFT, Relaxed);
        tables.sessions.put(&stored, &session).map_err(Error::table("sessions"))?;
    }
    Ok(())
}

/// The verdict that the program noted in the control block.
fn verdict(context: &[u8; CONTEXT_LEN]) -> Verdict {
    let (kind, detail) = (get(context, field::CB), get(context, field::CB + 4));
    let [low, high, ..] = detail.to_le_bytes();
    let decoded = match kind {
        0 => Some(Verdict::Pass),
        1 => Some(Verdict::Port { ifindex: detail }),
        2 => Some(Verdict::Uplink { ifindex: detail }),
        3 => Some(Verdict::Tunnel { ifindex: detail }),
        4 => Punt::from_number(low).map(Verdict::Punt),
        _ => Stage::from_number(high).zip(Reason::from_number(low)).map(|(s, r)| Verdict::Drop(s, r)),
    };
    decoded.unwrap_or_else(|| panic!("the program noted no verdict this build knows: {kind} {detail:#x}"))
}

fn put(context: &mut [u8; CONTEXT_LEN], offset: usize, value: u32) {
    if let Some(field) = context.get_mut(offset..offset + 4) {
        field.copy_from_slice(&value.to_ne_bytes());
    }
}

fn get(context: &[u8; CONTEXT_LEN], offset: usize) -> u32 {
    let field = context.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
    field.map_or(0, u32::from_ne_bytes)
}
