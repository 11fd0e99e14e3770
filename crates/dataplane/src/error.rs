//! What can go wrong between the agent and the kernel.

use std::io;
use std::path::PathBuf;

/// Variants say what was being done; sources say what went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no permission to load BPF programs: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN"
    )]
    Privileges(#[source] io::Error),
    #[error("the kernel has no BTF (/sys/kernel/btf/vmlinux): a kernel with CONFIG_DEBUG_INFO_BTF is needed")]
    NoBtf,
    #[error("the kernel cannot attach BPF programs by tcx: Linux 6.6 or newer is needed")]
    NoTcx,
    #[error("{} could not be made a BPF file system", path.display())]
    Bpffs {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the pin directory {} is unusable", path.display())]
    PinDirectory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the embedded eBPF object could not be loaded")]
    Object(#[source] Box<aya::EbpfError>),
    #[error("the embedded eBPF object has no {0}")]
    ObjectLacks(&'static str),
    #[error("the kernel refused the program {program}")]
    Program {
        program: &'static str,
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    #[error("the kernel refused the program {program}: {last_words}; the verifier's whole log {whole_log}")]
    Refused {
        program: &'static str,
        last_words: String,
        /// Where it is, or why it is nowhere.
        whole_log: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "the table {table} pinned in {} was made by another version (key {key_size}, value {value_size} bytes): \
         remove the directory while the agent is stopped", path.display()
    )]
    PinnedLayout { table: &'static str, path: PathBuf, key_size: u32, value_size: u32 },
    #[error("the table {0} is full")]
    TableFull(&'static str),
    #[error("the table {table} could not be accessed")]
    Table {
        table: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("there is no interface {0}")]
    NoInterface(String),
    #[error("{program} could not be attached to {interface}")]
    Attach {
        program: &'static str,
        interface: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the pinned link {} could not be used", path.display())]
    Link {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the event ring has a reader already")]
    EventsTaken,
    #[error("the event ring could not be mapped")]
    Events(#[source] Box<aya::maps::MapError>),
    #[error("the test's own network namespace could not be made")]
    TestNamespace(#[source] io::Error),
    #[error("the kernel refused the test run of {program}")]
    TestRun {
        program: &'static str,
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
}

impl Error {
    /// Wraps an element operation's error, naming a full table as such.
    pub(crate) fn table(table: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) => Self::TableFull(table),
            _ => Self::Table { table, source },
        }
    }
}
