//! The lab's access port: a bridge port that is a member of one VLAN, by two small programs instead of the
//! kernel's 8021q module. The links are pinned, so they outlive the command that makes them.

use crate::attach::{attach_program, detach_pinned};
use crate::bpffs::{ensure_bpffs, make_directory};
use crate::error::Error;
use crate::sys::MapFd;
use aya::maps::Map;
use aya::programs::{Program, TcAttachType};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use std::os::fd::AsFd;
use std::path::Path;

pub(crate) static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lab"));
const TABLE: &str = "access_vlans";
const PROGRAMS: [(&str, TcAttachType, &str); 2] =
    [("lab_access_in", TcAttachType::Ingress, "in"), ("lab_access_out", TcAttachType::Egress, "out")];

/// Makes `interface` of the current network namespace an access port of `vlan` (1-4094). `pin_dir` is a
/// directory on a BPF file system, one per network namespace; it is made if needed.
pub fn attach(pin_dir: &Path, interface: &str, vlan: u16) -> Result<(), Error> {
    ensure_bpffs(pin_dir)?;
    make_directory(pin_dir)?;
    let ifindex =
        nix::net::if_::if_nametoindex(interface).map_err(|_| Error::NoInterface(interface.to_owned()))?;
    let mut ebpf = EbpfLoader::new()
        .map_pin_path(TABLE, pin_dir.join(TABLE))
        .load(OBJECT)
        .map_err(|source| Error::Object(Box::new(source)))?;
    table(&ebpf)?.put(&ifindex, &vlan.into()).map_err(Error::table(TABLE))?;
    for (name, direction, suffix) in PROGRAMS {
        let Some(Program::SchedClassifier(program)) = ebpf.program_mut(name) else {
            return Err(Error::ObjectLacks(name));
        };
        program.load().map_err(|source| Error::Program { program: name, source: Box::new(source) })?;
        attach_program(program, name, interface, direction, &pin_dir.join(format!("{interface}-{suffix}")))?;
    }
    Ok(())
}

/// Makes it an ordinary bridge port again. Removing `pin_dir` does the same for all of its ports.
pub fn detach(pin_dir: &Path, interface: &str) -> Result<(), Error> {
    for (_, _, suffix) in PROGRAMS {
        detach_pinned(&pin_dir.join(format!("{interface}-{suffix}")))?;
    }
    Ok(())
}

fn table(ebpf: &Ebpf) -> Result<MapFd<u32, u32>, Error> {
    let Some(Map::HashMap(data)) = ebpf.map(TABLE) else { return Err(Error::ObjectLacks(TABLE)) };
    let fd = data.fd().as_fd().try_clone_to_owned().map_err(Error::table(TABLE))?;
    MapFd::new(fd).map_err(Error::table(TABLE))?.map_err(|_| Error::ObjectLacks(TABLE))
}
