//! What can go wrong between memory and disk.

use std::fmt;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store {path} is in use by another process; stop it or give this one its own file", path = .0.display())]
    Locked(PathBuf),
    #[error(
        "the store {path} has format {found}, written by a newer version; this version reads up to {supported}",
        path = .path.display()
    )]
    NewerFormat { path: PathBuf, found: u64, supported: u64 },
    #[error("the store {path} cannot be opened as a store", path = .path.display())]
    Unreadable { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("record {key} of table {table} does not parse")]
    BadRecord { table: &'static str, key: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{doing} the store failed")]
    Disk { doing: Doing, source: Box<redb::Error> },
    #[error("an earlier change that this one was built on could not be written; neither was made")]
    Void,
}

/// What the store was doing when the disk refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Opening,
    Reading,
    Writing,
    Committing,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opening => "opening",
            Self::Reading => "reading",
            Self::Writing => "writing",
            Self::Committing => "committing to",
        })
    }
}

/// Maps redb's many error types to ours.
pub(crate) fn disk<E: Into<redb::Error>>(doing: Doing) -> impl Fn(E) -> StoreError {
    move |source| StoreError::Disk { doing, source: Box::new(source.into()) }
}
