//! The BPF file system that pins live in.

use crate::error::Error;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const MOUNT_POINT: &str = "/sys/fs/bpf";
const MOUNT_POINT_PARENT: &str = "/sys/fs";
/// Layout of the pinned tables. A change of a key or value type needs a new number.
const VERSION: &str = "v1";

/// Where one version of one agent keeps its pins.
#[derive(Clone, Debug)]
pub(crate) struct PinDirectory {
    pub(crate) maps: PathBuf,
    pub(crate) links: PathBuf,
}

impl PinDirectory {
    /// Makes the directories, mounting a BPF file system at its usual place if the path lies there and none
    /// is mounted.
    pub(crate) fn open(directory: &Path) -> Result<Self, Error> {
        ensure_bpffs(directory)?;
        let maps = directory.join(VERSION);
        let links = maps.join("links");
        make_directory(&links)?;
        Ok(Self { maps, links })
    }
}

/// Makes a directory of pins with all above it.
pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(|source| match source.kind() {
        ErrorKind::PermissionDenied => Error::Privileges(source),
        _ => Error::PinDirectory { path: path.to_owned(), source },
    })
}

/// Makes sure that `directory` is, or will be made, on a BPF file system.
pub(crate) fn ensure_bpffs(directory: &Path) -> Result<(), Error> {
    if is_bpffs(directory) {
        return Ok(());
    }
    let fail = |source| Error::Bpffs { path: directory.to_owned(), source };
    if !directory.starts_with(MOUNT_POINT) {
        return Err(fail(std::io::Error::other(
            "it is on another file system; choose a path below /sys/fs/bpf",
        )));
    }
    // Two agents that start at once must not mount twice: the second would hide the first one's pins.
    let parent = File::open(MOUNT_POINT_PARENT).map_err(fail)?;
    let _lock = Flock::lock(parent, FlockArg::LockExclusive).map_err(|(_, error)| fail(error.into()))?;
    if is_bpffs(directory) {
        return Ok(());
    }
    match mount(Some("bpf"), MOUNT_POINT, Some("bpf"), MsFlags::empty(), Some("mode=0700")) {
        Err(error @ (Errno::EPERM | Errno::EACCES)) => Err(Error::Privileges(error.into())),
        outcome => outcome.map_err(|error| fail(error.into())),
    }
}

/// Whether the nearest existing ancestor is on a BPF file system.
fn is_bpffs(path: &Path) -> bool {
    path.ancestors()
        .find_map(|ancestor| statfs(ancestor).ok())
        .is_some_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}
