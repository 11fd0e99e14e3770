//! The store: desired state as typed records, with revisions.
//!
//! Reads come from an immutable [`Snapshot`] in memory; writes are transactions, one after the other, that
//! change a working copy, are committed to disk (redb), several at a time if they come so, and only then published. What a transaction
//! allocates (addresses, VNIs, port blocks) is therefore free of races by construction.
//!
//! Not here: what a record means, who may change it, HTTP.

pub mod allocate;
mod audit;
mod disk;
mod error;
mod group;
mod record;
mod snapshot;
mod transaction;

pub use allocate::{Exhausted, VniRange};
pub use error::{Doing, StoreError};
pub use record::{Owned, Record, Table};
pub use snapshot::Snapshot;
pub use transaction::Transaction;

use disk::Disk;
use group::Group;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// All of a controller's state. Share it in an `Arc`.
pub struct Store {
    published: RwLock<Arc<Snapshot>>,
    group: Group,
    revisions: watch::Sender<u64>,
}

impl Store {
    /// Opens or creates the file at `path`; without a path everything is in memory only.
    ///
    /// # Errors
    /// The file is locked by another process, was written by a newer version, or cannot be read.
    pub fn open(path: Option<&Path>) -> Result<Self, StoreError> {
        let (disk, snapshot) = match path {
            Some(path) => {
                let (disk, snapshot) = Disk::open(path)?;
                (Some(disk), snapshot)
            }
            None => (None, Snapshot::new(uuid::Uuid::new_v4())),
        };
        let (revisions, _) = watch::channel(snapshot.revision);
        let published = RwLock::new(Arc::new(snapshot.clone()));
        Ok(Self { published, group: Group::new(disk, snapshot), revisions })
    }

    /// The last published state. Cheap: one reference count.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.published.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells the revision of each published snapshot; a slow receiver sees only the latest.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.revisions.subscribe()
    }

    /// Runs `change` on a working copy. On `Ok` the copy is durable on disk, possibly together with those of other
    /// writers, before it is published with the next revision; on `Err`, or when nothing changed, nothing happens.
    ///
    /// Blocks for other writers and for the disk: call it from `spawn_blocking` in async code.
    ///
    /// # Errors
    /// What `change` returns, or a `StoreError` of the commit.
    pub fn transact<R, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&mut Transaction) -> Result<R, E>,
    ) -> Result<R, E> {
        let published = || Snapshot::clone(&self.snapshot());
        let publish = |snapshot: Snapshot| {
            let revision = snapshot.revision;
            *self.published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(snapshot);
            self.revisions.send_replace(revision);
        };
        self.group.transact(change, published, publish)
    }
}

#[cfg(test)]
mod tests;
