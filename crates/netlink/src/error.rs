//! What can go wrong, with the operation and the object it was done to.

use std::io;
use thiserror::Error;

/// An operation on the kernel's networking that failed. The source is the kernel's answer.
#[derive(Debug, Error)]
pub enum Error {
    #[error("cannot {operation} network namespace `{name}`")]
    Netns { operation: &'static str, name: String, source: io::Error },
    #[error("cannot {operation} link `{link}`")]
    Link { operation: &'static str, link: String, source: io::Error },
    #[error("no link `{link}` in this network namespace")]
    NoLink { link: String },
    #[error("this kernel has no {kind} devices")]
    Unsupported { kind: &'static str },
    #[error("cannot {operation} the netlink socket")]
    Netlink { operation: &'static str, source: io::Error },
    #[error("cannot {operation} a raw IPv4 socket")]
    IpSocket { operation: &'static str, source: io::Error },
    #[error("cannot {operation} packet socket (interface {ifindex})")]
    PacketSocket { operation: &'static str, ifindex: u32, source: io::Error },
    #[error("cannot write {value} to {path}")]
    Sysctl { path: String, value: String, source: io::Error },
}

impl Error {
    pub(crate) fn link(operation: &'static str, link: &str, source: io::Error) -> Self {
        Self::Link { operation, link: link.to_owned(), source }
    }

    /// The kernel's answer, if the failure came from it.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Netns { source, .. }
            | Self::Link { source, .. }
            | Self::Netlink { source, .. }
            | Self::PacketSocket { source, .. }
            | Self::IpSocket { source, .. }
            | Self::Sysctl { source, .. } => Some(source),
            Self::NoLink { .. } | Self::Unsupported { .. } => None,
        }
    }

    /// True if the link or namespace that was named does not exist (any more).
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::NoLink { .. })
            || matches!(
                self.io().and_then(io::Error::raw_os_error),
                Some(libc::ENODEV | libc::ENOENT | libc::ENXIO)
            )
    }

    /// True if what was to be made exists already.
    pub fn is_exists(&self) -> bool {
        self.io().and_then(io::Error::raw_os_error) == Some(libc::EEXIST)
    }
}

/// The errno inside an rtnetlink error; everything else becomes text.
pub(crate) fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    }
}
