//! The embedded eBPF object: loading it, with pinned or with private maps, into typed tables and programs.

use crate::error::Error;
use crate::refusal;
use crate::settings::Sizes;
use crate::sys::MapFd;
use aya::maps::{Map, MapData};
use aya::programs::{Program, SchedClassifier};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel, include_bytes_aligned};
use pipeline::fragment::{Fragment, FragmentKey};
use pipeline::nat::{BindingKey, ContactKey, Mapping, MappingKey, Opening, PortBits, PortBitsKey};
use pipeline::session::{Session, SessionKey};
use pipeline::table_set::Prefix;
use pipeline::tables::*;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/nanboku"));
/// The same programs, which tell of packets.
static WATCHING_OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/watching"));

/// Where a kernel with type information shows it.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// A key of an LPM trie as the kernel lays it out: no key has an alignment above 4.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct LpmKey<K> {
    len: u32,
    key: K,
}

impl<K> From<Prefix<K>> for LpmKey<K> {
    fn from(prefix: Prefix<K>) -> Self {
        Self { len: prefix.len, key: prefix.key }
    }
}

impl<K: Copy> From<LpmKey<K>> for Prefix<K> {
    fn from(key: LpmKey<K>) -> Self {
        Self { len: key.len, key: key.key }
    }
}

/// Full time of a punt bucket, nanoseconds of the monotonic clock.
pub(crate) type BucketTime = u64;

macro_rules! tables {
    ($($name:ident: $key:ty => $value:ty;)*) => {
        /// Every table of the object, by its name.
        #[derive(Debug)]
        pub(crate) struct KernelTables {
            $(pub(crate) $name: MapFd<$key, $value>,)*
        }

        impl KernelTables {
            /// Handles of the maps of a loaded object, each of the layout it should have.
            fn take(ebpf: &Ebpf, pins: Option<&Path>) -> Result<Self, Error> {
                Ok(Self { $($name: take(ebpf, pins, stringify!($name))?,)* })
            }
        }

        /// Names of the tables that outlive a process. `work` is scratch and private to each load.
        const PINNED: &[&str] = &[$(stringify!($name),)* EVENTS, FRAMES];
    };
}

tables! {
    config: u32 => Config;
    ports: PortKey => Port;
    port_addresses: PortAddressKey => u32;
    networks: NetworkKey => Network;
    stations: StationKey => Station;
    neighbors: NeighborKey => Neighbor;
    routes: LpmKey<RouteKey> => Route;
    externals: NetworkKey => External;
    uplinks: UplinkKey => NetworkKey;
    gateways: GatewayKey => GatewayValue;
    external_addresses: ExternalAddressKey => ExternalAddress;
    forwardings: BindingKey => Forwarding;
    floating_by_fixed: FixedKey => Floating;
    snat: RouterKey => Snat;
    own_blocks: BlockKey => PortBlock;
    block_owners: BlockOwnerKey => BlockOwner;
    vteps: VtepKey => Vtep;
    services: ServiceKey => Service;
    port_prefixes: LpmKey<PortAddressKey> => u32;
    acl_remotes: LpmKey<AclRemoteKey> => AclClasses;
    acl_rules: LpmKey<AclRuleKey> => u32;
    sessions: SessionKey => Session;
    replies: SessionKey => SessionKey;
    mappings: MappingKey => Mapping;
    bindings: BindingKey => MappingKey;
    contacts: ContactKey => u32;
    openings: BindingKey => Opening;
    port_usage: FixedKey => Usage;
    port_bits: PortBitsKey => PortBits;
    port_sessions: PortKey => u32;
    counters: u32 => u64;
    port_counters: PortKey => PortCounters;
    punt_buckets: u32 => BucketTime;
    fragments: FragmentKey => Fragment;
}

const EVENTS: &str = "events";
const FRAMES: &str = "frames";

/// The two builds of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// What packets meet.
    Plain,
    /// What they meet while somebody captures.
    Watching,
}

/// A loaded object.
#[derive(Debug)]
pub(crate) struct Object {
    /// Holds the programs.
    pub(crate) ebpf: Ebpf,
    pub(crate) tables: KernelTables,
    /// Until a reader takes it.
    pub(crate) events: Option<MapData>,
    /// Likewise.
    pub(crate) frames: Option<MapData>,
}

impl Object {
    /// Loads an object and the programs named. With `pins`, a directory of a BPF file system, maps found
    /// there are used and new ones are pinned there.
    pub(crate) fn load(
        build: Build,
        pins: Option<&Path>,
        sizes: &Sizes,
        programs: &[&'static str],
    ) -> Result<Self, Error> {
        let object = match build {
            Build::Plain => OBJECT,
            Build::Watching => WATCHING_OBJECT,
        };
        let mut ebpf = load_programs(object, pins, sizes, programs)?;
        let tables = KernelTables::take(&ebpf, pins)?;
        let mut ring = |name| match ebpf.take_map(name) {
            Some(Map::RingBuf(data)) => Ok(data),
            _ => Err(Error::ObjectLacks(name)),
        };
        let (events, frames) = (ring(EVENTS)?, ring(FRAMES)?);
        Ok(Self { ebpf, tables, events: Some(events), frames: Some(frames) })
    }

    pub(crate) fn program(&mut self, name: &'static str) -> Result<&mut SchedClassifier, Error> {
        classifier(&mut self.ebpf, name)
    }
}

fn load_programs(
    object: &[u8],
    pins: Option<&Path>,
    sizes: &Sizes,
    programs: &[&'static str],
) -> Result<Ebpf, Error> {
    let load = |log| load_with(log, object, pins, sizes, programs);
    match load(VerifierLogLevel::DISABLE) {
        // Once more, to hear why: the log costs tens of megabytes, so it is not asked for before.
        Err(Error::Program { .. } | Error::Refused { .. }) => load(VerifierLogLevel::default()),
        loaded => loaded,
    }
}

fn load_with(
    log: VerifierLogLevel,
    object: &[u8],
    pins: Option<&Path>,
    sizes: &Sizes,
    programs: &[&'static str],
) -> Result<Ebpf, Error> {
    if !Path::new(KERNEL_BTF).exists() {
        return Err(Error::NoBtf);
    }
    let mut loader = EbpfLoader::new();
    // The programs need nothing of the kernel's types.
    loader.btf(None).verifier_log_level(log);
    for (table, size) in sizes.named() {
        loader.map_max_entries(table, size);
    }
    if let Some(directory) = pins {
        for name in PINNED {
            loader.map_pin_path(name, directory.join(name));
        }
    }
    let mut ebpf = loader.load(object).map_err(load_error)?;
    // Before the verifier meets pinned tables of another layout, of which it only knows that they do not fit.
    KernelTables::take(&ebpf, pins)?;
    for name in programs {
        let program = classifier(&mut ebpf, name)?;
        program.load().map_err(|error| refusal::explained(name, error))?;
        tracing::debug!(program = name, instructions = verified(program), "program loaded");
    }
    Ok(ebpf)
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, Error> {
    match ebpf.program_mut(name) {
        Some(Program::SchedClassifier(program)) => Ok(program),
        _ => Err(Error::ObjectLacks(name)),
    }
}

/// Instructions the verifier walked, 0 if the kernel does not tell.
pub(crate) fn verified(program: &SchedClassifier) -> u32 {
    program.info().ok().and_then(|info| info.verified_instruction_count()).unwrap_or(0)
}

pub(crate) fn take<K, V>(ebpf: &Ebpf, pins: Option<&Path>, name: &'static str) -> Result<MapFd<K, V>, Error> {
    let data = match ebpf.map(name).ok_or(Error::ObjectLacks(name))? {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LpmTrie(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data) => data,
        _ => return Err(Error::ObjectLacks(name)),
    };
    let fd = data.fd().as_fd().try_clone_to_owned().map_err(Error::table(name))?;
    match MapFd::new(fd).map_err(Error::table(name))? {
        Ok(map) => Ok(map),
        Err(info) => Err(Error::PinnedLayout {
            table: name,
            path: pins.unwrap_or(Path::new("")).to_owned(),
            key_size: info.key_size,
            value_size: info.value_size,
        }),
    }
}

fn load_error(error: aya::EbpfError) -> Error {
    match find_io(&error) {
        Some(libc::EPERM | libc::EACCES) => Error::Privileges(io::Error::from_raw_os_error(libc::EPERM)),
        _ => Error::Object(Box::new(error)),
    }
}

/// The system error at the bottom of a chain of sources.
pub(crate) fn find_io(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        if let Some(syscall) = error.downcast_ref::<aya::sys::SyscallError>() {
            return syscall.io_error.raw_os_error();
        }
        current = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nobody looks on with costs nothing: it is not there.
    #[test]
    fn the_programs_that_packets_meet_have_nothing_of_captures() {
        let names = [&b"capture_slots"[..], b"capture_memory", b"captured"];
        let has = |object: &[u8], name: &[u8]| object.windows(name.len()).any(|part| part == name);
        for name in names {
            assert!(!has(OBJECT, name) && has(WATCHING_OBJECT, name), "{}", String::from_utf8_lossy(name));
        }
    }
}
