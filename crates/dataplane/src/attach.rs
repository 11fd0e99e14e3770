//! Attaching programs to interfaces by pinned tcx links.
//!
//! A link's pin is named after its hook and the interface's index. The pin keeps the program attached when
//! the process ends; the next process replaces the program in the link in one step, so no packet passes
//! unseen in between.

use crate::Dataplane;
use crate::bpffs::PinDirectory;
use crate::error::Error;
use crate::object::find_io;
use crate::sys;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The programs' places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Ingress of a VM's tap or veth.
    Port,
    /// Ingress of the tunnel device.
    Tunnel,
    /// Ingress of a provider NIC.
    Uplink,
    /// Ingress of the underlay NIC.
    Underlay,
    /// Ingress of the link of the host's services.
    Service,
}

impl Hook {
    pub const ALL: [Self; 5] = [Self::Port, Self::Tunnel, Self::Uplink, Self::Underlay, Self::Service];

    /// The program's name, in the object and in pins.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Port => "from_port",
            Self::Tunnel => "from_tunnel",
            Self::Uplink => "from_uplink",
            Self::Underlay => "from_underlay",
            Self::Service => "from_service",
        }
    }
}

/// An interface of the current network namespace.
#[derive(Clone, Copy, Debug)]
pub enum Interface<'a> {
    Name(&'a str),
    Index(u32),
}

impl<'a> From<&'a str> for Interface<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl<'a> From<&'a String> for Interface<'a> {
    fn from(name: &'a String) -> Self {
        Self::Name(name)
    }
}

impl From<u32> for Interface<'_> {
    fn from(index: u32) -> Self {
        Self::Index(index)
    }
}

impl Interface<'_> {
    fn resolve(self) -> Result<(String, u32), Error> {
        let gone = || Error::NoInterface(format!("{self:?}"));
        match self {
            Self::Name(name) => {
                let index = nix::net::if_::if_nametoindex(name).map_err(|_| gone())?;
                Ok((name.to_owned(), index))
            }
            Self::Index(index) => {
                let name = nix::net::if_::if_indextoname(index).map_err(|_| gone())?;
                Ok((name.to_string_lossy().into_owned(), index))
            }
        }
    }
}

/// A program attached to a living interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attachment {
    pub hook: Hook,
    pub ifindex: u32,
}

impl Attachment {
    fn pin_name(self) -> String {
        format!("{}-{}", self.hook.program(), self.ifindex)
    }

    fn parse(name: &str) -> Option<Self> {
        let (program, ifindex) = name.rsplit_once('-')?;
        let hook = Hook::ALL.into_iter().find(|hook| hook.program() == program)?;
        Some(Self { hook, ifindex: ifindex.parse().ok()? })
    }
}

impl Dataplane {
    /// Attaches this process's program. If an earlier one is attached there, it is replaced in one step.
    pub fn attach<'a>(
        &mut self,
        hook: Hook,
        interface: impl Into<Interface<'a>>,
    ) -> Result<Attachment, Error> {
        let (name, ifindex) = interface.into().resolve()?;
        let attachment = Attachment { hook, ifindex };
        let pin = self.pins()?.links.join(attachment.pin_name());
        let program = hook.program();
        attach_program(self.program(program)?, program, &name, TcAttachType::Ingress, &pin)?;
        Ok(attachment)
    }

    /// Detaches; nothing happens if it was not attached.
    pub fn detach(&mut self, attachment: Attachment) -> Result<(), Error> {
        detach_pinned(&self.pins()?.links.join(attachment.pin_name()))
    }

    /// What is attached, by this process or an earlier one. Pins of interfaces that are gone are removed.
    pub fn attached(&self) -> Result<Vec<Attachment>, Error> {
        let links = &self.pins()?.links;
        let fail = |source| Error::PinDirectory { path: links.clone(), source };
        let mut attached = Vec::new();
        for entry in fs::read_dir(links).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Some(attachment) = entry.file_name().to_str().and_then(Attachment::parse) else { continue };
            if open_living(&entry.path(), attachment.ifindex)?.is_some() {
                attached.push(attachment);
            }
        }
        attached.sort_unstable();
        Ok(attached)
    }

    fn pins(&self) -> Result<&PinDirectory, Error> {
        self.pin_directory.as_ref().ok_or(Error::ObjectLacks("pins: it was opened for a test run"))
    }
}

/// Attaches `program` at `interface` and pins the link, or exchanges the program of the pinned link.
pub(crate) fn attach_program(
    classifier: &mut SchedClassifier,
    program: &'static str,
    interface: &str,
    direction: TcAttachType,
    pin: &Path,
) -> Result<(), Error> {
    let (_, ifindex) = Interface::Name(interface).resolve()?;
    if let Some(link) = open_living(pin, ifindex)? {
        let link = FdLink::from(link).try_into().map_err(link_error(pin))?;
        let id = classifier.attach_to_link(link).map_err(link_error(pin))?;
        // The pin holds the link; ours may close.
        drop(classifier.take_link(id).map_err(link_error(pin))?);
        return Ok(());
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = classifier
        .attach_with_options(interface, direction, options)
        .map_err(|error| attach_error(program, interface, error))?;
    let link = classifier.take_link(id).map_err(link_error(pin))?;
    let link: FdLink = link.try_into().map_err(link_error(pin))?;
    link.pin(pin).map_err(link_error(pin))?;
    Ok(())
}

/// The pinned link, if there is one and it is attached to `ifindex`; a dead one's pin is removed.
fn open_living(pin: &Path, ifindex: u32) -> Result<Option<PinnedLink>, Error> {
    let link = match PinnedLink::from_pin(pin) {
        Ok(link) => link,
        Err(error) if find_io(&error) == Some(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(link_error(pin)(error)),
    };
    let fd = sys::open_pin(pin).map_err(link_error(pin))?;
    let info = sys::link_info(fd.as_fd()).map_err(link_error(pin))?;
    if info.ifindex == ifindex {
        return Ok(Some(link));
    }
    drop(link);
    remove_pin(pin)?;
    Ok(None)
}

/// Detaches a pinned link and removes the pin; nothing happens if there is none.
pub(crate) fn detach_pinned(pin: &Path) -> Result<(), Error> {
    match sys::open_pin(pin) {
        Ok(link) => sys::detach_link(link.as_fd()).map_err(link_error(pin))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(link_error(pin)(error)),
    }
    remove_pin(pin)
}

/// Removes a pin; the last reference to a link detaches it.
fn remove_pin(pin: &Path) -> Result<(), Error> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(link_error(pin)(error)),
        _ => Ok(()),
    }
}

fn link_error<E: std::error::Error + Send + Sync + 'static>(path: &Path) -> impl Fn(E) -> Error {
    let path: PathBuf = path.to_owned();
    move |source| Error::Link { path: path.clone(), source: Box::new(source) }
}

fn attach_error(program: &'static str, interface: &str, error: aya::programs::ProgramError) -> Error {
    match find_io(&error) {
        Some(libc::EPERM | libc::EACCES) => Error::Privileges(std::io::Error::from_raw_os_error(libc::EPERM)),
        // What kernels before tcx answer to the attach type.
        Some(libc::EINVAL) => Error::NoTcx,
        _ => Error::Attach { program, interface: interface.to_owned(), source: Box::new(error) },
    }
}
