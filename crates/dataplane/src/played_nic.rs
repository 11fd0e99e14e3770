//! A veth that plays a NIC: frames that leave through it belong to no socket any more, as when a NIC has sent
//! them. For laboratories; see `lab_nic_out` in `ebpf/src/bin/lab.rs` for what happens without.

use crate::error::Error;
use aya::programs::{LinkOrder, Program, TcAttachType, tc};
use aya::{Ebpf, EbpfLoader};

/// The interface plays until this is dropped.
#[derive(Debug)]
pub struct PlayedNic {
    _ebpf: Ebpf,
}

const PROGRAM: &str = "lab_nic_out";

impl PlayedNic {
    /// Makes `interface` of the current network namespace one.
    pub fn attach(interface: &str) -> Result<Self, Error> {
        let mut ebpf = EbpfLoader::new()
            .load(crate::access_port::OBJECT)
            .map_err(|source| Error::Object(Box::new(source)))?;
        let Some(Program::SchedClassifier(program)) = ebpf.program_mut(PROGRAM) else {
            return Err(Error::ObjectLacks(PROGRAM));
        };
        program.load().map_err(|source| Error::Program { program: PROGRAM, source: Box::new(source) })?;
        let order = tc::TcAttachOptions::TcxOrder(LinkOrder::default());
        program
            .attach_with_options(interface, TcAttachType::Egress, order)
            .map_err(|source| Error::Program { program: PROGRAM, source: Box::new(source) })?;
        Ok(Self { _ebpf: ebpf })
    }
}
