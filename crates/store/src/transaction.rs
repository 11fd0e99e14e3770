//! A writer's working copy and the list of what it changed.

use crate::record::Record;
use crate::{Snapshot, StoreError};
use std::ops::Deref;
use std::sync::Arc;

/// Reads see the transaction's own writes: it derefs to the working [`Snapshot`].
pub struct Transaction {
    working: Snapshot,
    changes: Vec<Change>,
    failure: Option<StoreError>,
}

/// One record written (`Some`) or removed, as it goes to disk. Later changes of a key win.
pub(crate) struct Change {
    pub(crate) table: &'static str,
    pub(crate) key: String,
    pub(crate) value: Option<Vec<u8>>,
}

/// What a transaction leaves: the next snapshot and the way to it.
pub(crate) struct Finished {
    pub(crate) snapshot: Snapshot,
    pub(crate) changes: Vec<Change>,
}

impl Transaction {
    pub(crate) fn new(base: Snapshot) -> Self {
        Self { working: base, changes: Vec::new(), failure: None }
    }

    /// Inserts or replaces. Writing what is there already is no change.
    pub fn put<R: Record>(&mut self, record: R) {
        let id = record.id();
        let old = R::table(&self.working).get(&id).cloned();
        if old.as_deref() == Some(&record) {
            return;
        }
        match serde_json::to_vec(&record) {
            Ok(value) => {
                self.changes.push(Change { table: R::TABLE, key: id.to_string(), value: Some(value) });
            }
            Err(source) => {
                self.failure = Some(StoreError::BadRecord {
                    table: R::TABLE,
                    key: id.to_string(),
                    source: Box::new(source),
                });
            }
        }
        if let Some(old) = old {
            old.index(&mut self.working, false);
        }
        self.working.insert(record);
    }

    /// Takes a record away and returns it; `None` if there was none.
    pub fn remove<R: Record>(&mut self, id: R::Id) -> Option<Arc<R>> {
        let old = R::table_mut(&mut self.working).remove(&id)?;
        old.index(&mut self.working, false);
        self.changes.push(Change { table: R::TABLE, key: id.to_string(), value: None });
        Some(old)
    }

    /// `None` when nothing changed.
    pub(crate) fn finish(self) -> Result<Option<Finished>, StoreError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if self.changes.is_empty() {
            return Ok(None);
        }
        let mut snapshot = self.working;
        snapshot.revision += 1;
        Ok(Some(Finished { snapshot, changes: self.changes }))
    }
}

impl Deref for Transaction {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.working
    }
}

impl Snapshot {
    /// The index entries of an older record of that id must be gone already.
    pub(crate) fn insert<R: Record>(&mut self, record: R) {
        record.index(self, true);
        R::table_mut(self).insert(record.id(), Arc::new(record));
    }
}
