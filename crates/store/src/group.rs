//! Group commit: writers change memory one after the other and go to disk together.
//!
//! A transaction starts from the head, which may not be on disk yet, and leaves the next head. Then it waits for
//! the disk; whoever gets it writes everything that has gathered meanwhile, with one flush, and publishes it. Nobody
//! is answered before what it wrote, or saw, is durable.
//!
//! Who races: writers for the head, and those that wait for the disk. The disk is always taken before the head, and
//! no transaction runs under it. A write that fails takes the head back to what is published and voids everything
//! built on it: all of it is told, none of it ever was visible to a reader.

use crate::disk::Disk;
use crate::transaction::Finished;
use crate::{Snapshot, StoreError, Transaction};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What became of a transaction. Written with the disk held, read with it held.
#[derive(Debug, Default)]
struct Fate(AtomicU8);

impl Fate {
    const DURABLE: u8 = 1;
    const VOID: u8 = 2;

    fn durable() -> Arc<Self> {
        Arc::new(Self(AtomicU8::new(Self::DURABLE)))
    }

    fn seal(&self, fate: u8) {
        self.0.store(fate, Ordering::Release);
    }

    /// None: it waits, or got lost with a writer that panicked.
    fn is_durable(&self) -> Option<bool> {
        match self.0.load(Ordering::Acquire) {
            Self::DURABLE => Some(true),
            Self::VOID => Some(false),
            _ => None,
        }
    }
}

/// What the next transaction starts from, and what is between it and the disk.
struct Head {
    snapshot: Snapshot,
    pending: Vec<(Finished, Arc<Fate>)>,
    /// Of the snapshot: it may wait, be on its way to the disk, or be there.
    fate: Arc<Fate>,
}

pub(crate) struct Group {
    head: Mutex<Head>,
    disk: Mutex<Option<Disk>>,
}

impl Group {
    pub(crate) fn new(disk: Option<Disk>, snapshot: Snapshot) -> Self {
        let head = Head { snapshot, pending: Vec::new(), fate: Fate::durable() };
        Self { head: Mutex::new(head), disk: Mutex::new(disk) }
    }

    /// Runs `change` on the head and waits until it is durable. `published`: what readers see now; `publish` shows
    /// them the next.
    ///
    /// # Errors
    /// Those of `change`, of the disk, or `Void` when something the change was built on could not be written.
    pub(crate) fn transact<R, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&mut Transaction) -> Result<R, E>,
        published: impl Fn() -> Snapshot,
        publish: impl Fn(Snapshot),
    ) -> Result<R, E> {
        let (result, fate) = {
            let mut head = self.head();
            let mut transaction = Transaction::new(head.snapshot.clone());
            let result = change(&mut transaction)?;
            if let Some(finished) = transaction.finish()? {
                head.snapshot = finished.snapshot.clone();
                head.fate = Arc::default();
                let fate = Arc::clone(&head.fate);
                head.pending.push((finished, fate));
            }
            // Who changes nothing waits for what it saw.
            (result, Arc::clone(&head.fate))
        };
        if fate.is_durable() != Some(true) {
            self.settle(&fate, published, publish)?;
        }
        Ok(result)
    }

    fn settle(
        &self,
        fate: &Fate,
        published: impl Fn() -> Snapshot,
        publish: impl Fn(Snapshot),
    ) -> Result<(), StoreError> {
        let disk = match self.disk.lock() {
            Ok(disk) => disk,
            // A writer panicked: what it held back from the disk is lost.
            Err(poisoned) => {
                self.disk.clear_poison();
                self.take_back(&published());
                poisoned.into_inner()
            }
        };
        if fate.is_durable().is_none() {
            self.flush(disk.as_ref(), published, publish)?;
        }
        if fate.is_durable() == Some(true) { Ok(()) } else { Err(StoreError::Void) }
    }

    /// Writes everything that waits. The caller has the disk.
    fn flush(
        &self,
        disk: Option<&Disk>,
        published: impl Fn() -> Snapshot,
        publish: impl Fn(Snapshot),
    ) -> Result<(), StoreError> {
        let group = std::mem::take(&mut self.head().pending);
        let written = disk.map_or(Ok(()), |disk| disk.commit(group.iter().map(|(finished, _)| finished)));
        if let Err(error) = written {
            group.iter().for_each(|(_, fate)| fate.seal(Fate::VOID));
            self.take_back(&published());
            return Err(error);
        }
        if let Some((last, _)) = group.last() {
            publish(last.snapshot.clone());
        }
        // After it is published: who need not wait any more sees it.
        group.iter().for_each(|(_, fate)| fate.seal(Fate::DURABLE));
        Ok(())
    }

    fn take_back(&self, published: &Snapshot) {
        let mut head = self.head();
        head.snapshot = published.clone();
        head.fate = Fate::durable();
        head.pending.drain(..).for_each(|(_, fate)| fate.seal(Fate::VOID));
    }

    /// A poisoned lock is taken over: a panic inside a transaction loses only its working copy.
    fn head(&self) -> MutexGuard<'_, Head> {
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;
    use crate::tests::network;
    use model::resource::Network;
    use std::sync::PoisonError;
    use std::sync::atomic::Ordering::Relaxed;

    const WRITERS: u32 = 8;

    fn put(store: &Store, vni: u32) -> Result<(), StoreError> {
        store.transact(|transaction| {
            transaction.put(network(vni));
            Ok(())
        })
    }

    /// Runs one writer per number while the disk is busy; their outcomes once it is free again.
    fn behind_a_busy_disk(store: &Store) -> Vec<Result<(), StoreError>> {
        let disk = store.group.disk.lock().unwrap();
        std::thread::scope(|scope| {
            let writers: Vec<_> = (1..=WRITERS).map(|vni| scope.spawn(move || put(store, vni))).collect();
            while store.group.head().pending.len() < WRITERS as usize {
                std::thread::yield_now();
            }
            assert!(store.snapshot().networks.is_empty(), "nothing is seen before it is durable");
            drop(disk);
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        })
    }

    fn commits(store: &Store) -> u32 {
        let disk = store.group.disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.as_ref().unwrap().commits.load(Relaxed)
    }

    #[test]
    fn writers_that_wait_for_the_disk_share_one_flush() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        let store = Store::open(Some(&path)).unwrap();
        assert!(behind_a_busy_disk(&store).iter().all(Result::is_ok));
        assert_eq!(commits(&store), 1);
        assert_eq!((store.snapshot().networks.len(), store.snapshot().revision), (8, 8));
        let before = store.snapshot();
        drop(store);
        let after = Store::open(Some(&path)).unwrap().snapshot();
        assert_eq!((after.revision, &after.networks), (8, &before.networks));
    }

    #[test]
    fn a_flush_that_fails_voids_all_that_was_to_go_with_it_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.redb");
        let store = Store::open(Some(&path)).unwrap();
        store.group.disk.lock().unwrap().as_ref().unwrap().fails.store(true, Relaxed);
        let outcomes = behind_a_busy_disk(&store);
        let failed = outcomes.iter().filter(|outcome| matches!(outcome, Err(StoreError::Disk { .. })));
        let void = outcomes.iter().filter(|outcome| matches!(outcome, Err(StoreError::Void)));
        assert_eq!((failed.count(), void.count()), (1, WRITERS as usize - 1));
        assert_eq!(store.snapshot().revision, 0);
        put(&store, 99).unwrap();
        let snapshot = store.snapshot();
        assert_eq!((snapshot.revision, snapshot.networks.len()), (1, 1));
        drop(store);
        assert_eq!(Store::open(Some(&path)).unwrap().snapshot().networks, snapshot.networks);
    }

    #[test]
    fn who_changes_nothing_waits_for_what_it_saw() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(Some(&directory.path().join("store.redb"))).unwrap();
        let disk = store.group.disk.lock().unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| put(&store, 1));
            while store.group.head().pending.is_empty() {
                std::thread::yield_now();
            }
            let reader = scope.spawn(|| {
                let seen = store.transact(|transaction| Ok::<_, StoreError>(transaction.networks.len()));
                (seen.unwrap(), store.snapshot().get::<Network>(first(&store)).is_some())
            });
            drop(disk);
            writer.join().unwrap().unwrap();
            assert_eq!(reader.join().unwrap(), (1, true));
        });
    }

    fn first(store: &Store) -> model::NetworkId {
        *store.snapshot().networks.keys().next().unwrap()
    }
}
