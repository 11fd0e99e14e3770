//! Network namespaces: named as `ip netns` names them, entered on threads of their own.
//!
//! A namespace is a property of a thread. Changing it on a pool thread would leak into whatever the pool runs
//! there next, so [`Netns::run`] starts a fresh thread for every closure (about 30 us) and lets it end inside.

use crate::Error;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// An open network namespace. Dropping the value closes the file and leaves the namespace as it is.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: File,
}

impl Netns {
    /// Makes a namespace under `/run/netns`, as `ip netns add` does, with its loopback link up.
    pub fn create(name: &str) -> Result<Self, Error> {
        let fail = |operation| move |source| Error::Netns { operation, name: name.to_owned(), source };
        prepare_names().map_err(fail("prepare /run/netns for"))?;
        let path = Path::new(NAMES).join(name);
        File::options().write(true).create_new(true).open(&path).map_err(fail("create"))?;
        let bound = std::thread::scope(|scope| {
            scope.spawn(|| bind_new_namespace(&path)).join().unwrap_or_else(|_| Err(thread_died()))
        });
        if let Err(source) = bound {
            drop(fs::remove_file(&path));
            return Err(fail("create")(source));
        }
        let netns = Self::open(name)?;
        netns.run(loopback_up)?.map_err(fail("set loopback up in"))?;
        Ok(netns)
    }

    /// Opens a namespace by its name under `/run/netns`, or by a path (`/proc/1/ns/net`).
    pub fn open(name_or_path: &str) -> Result<Self, Error> {
        let path = Self::path_of(name_or_path);
        let file = File::open(path).map_err(|source| Error::Netns {
            operation: "open",
            name: name_or_path.to_owned(),
            source,
        })?;
        Ok(Self { name: name_or_path.to_owned(), file })
    }

    /// Makes a namespace that has no name and goes with the last file and process that hold it, with its loopback
    /// link up. `label` is for messages.
    pub fn unnamed(label: &str) -> Result<Self, Error> {
        let fail = |source| Error::Netns { operation: "create", name: label.to_owned(), source };
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            loopback_up()?;
            File::open("/proc/thread-self/ns/net")
        };
        let made =
            std::thread::scope(|scope| scope.spawn(make).join().unwrap_or_else(|_| Err(thread_died())));
        Ok(Self { name: label.to_owned(), file: made.map_err(fail)? })
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, Error> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// Path of the namespace's file, for tools such as `nsenter`.
    pub fn path_of(name_or_path: &str) -> PathBuf {
        if name_or_path.contains('/') {
            PathBuf::from(name_or_path)
        } else {
            Path::new(NAMES).join(name_or_path)
        }
    }

    /// Names under `/run/netns`, sorted.
    pub fn names() -> Vec<String> {
        let entries = fs::read_dir(NAMES).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Removes the name; the namespace itself goes when its last process and file do. A name that is not
    /// there is no error.
    pub fn delete(name: &str) -> Result<(), Error> {
        let fail = |source| Error::Netns { operation: "delete", name: name.to_owned(), source };
        let path = Path::new(NAMES).join(name);
        match umount2(&path, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
            Err(nix::errno::Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(fail(errno.into())),
        }
        fs::remove_file(&path).map_err(fail)
    }

    /// Runs `work` on a fresh thread inside the namespace and waits for it. A panic goes on in the caller.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let outcome = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter()?;
                    Ok(work())
                })
                .join()
        });
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Moves the calling thread into the namespace, for good. For a thread of one's own or a child between
    /// fork and exec (it is one system call).
    pub fn enter(&self) -> Result<(), Error> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| Error::Netns {
            operation: "enter",
            name: self.name.clone(),
            source: errno.into(),
        })
    }

    /// Writes a value under `/proc/sys` as seen in the namespace: `netns.sysctl("net/ipv4/ip_forward", "1")`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), Error> {
        let path = format!("/proc/sys/{key}");
        self.run(|| fs::write(&path, value))?.map_err(|source| Error::Sysctl {
            path: path.clone(),
            value: value.to_owned(),
            source,
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn thread_died() -> io::Error {
    io::Error::other("the thread that was to make it died")
}

/// `/run/netns` must be a shared mount of its own, or names would not be seen from other mount namespaces.
fn prepare_names() -> io::Result<()> {
    fs::create_dir_all(NAMES)?;
    let share =
        || mount(None::<&str>, NAMES, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    match share() {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::EINVAL) => {
            mount(Some(NAMES), NAMES, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
            share()?;
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

/// On a thread of its own: leave for a new namespace and bind it to the name.
fn bind_new_namespace(path: &Path) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

fn loopback_up() -> io::Result<()> {
    crate::offload::set_flags_up("lo")
}
