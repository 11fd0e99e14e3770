//! The file: one redb table per kind of record, `id text -> (revision, JSON)`, and a table of marks.

use crate::error::disk as failed;
use crate::record::Record;
use crate::transaction::Finished;
use crate::{Doing, Snapshot, StoreError};
use model::identity::{ApplicationCredential, Assignment, Domain, Project, Role, Token, User};
use model::metering::{MeteringLabel, MeteringLabelRule};
use model::quota::Quota;
use model::rbac::RbacPolicy;
use model::resource::{
    FloatingIp, Host, Network, Port, PortBlock, RestingBlock, Router, Subnet, VirtualAddress,
};
use model::security::{AddressGroup, DefaultSecurityGroupRule, SecurityGroup, SecurityGroupRule};
use model::subnet_pool::{AddressScope, SubnetPool};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;
use uuid::Uuid;

/// Format of the file. Grows when an older version could not read what a newer one wrote.
pub(crate) const FORMAT: u64 = 1;

/// Pages of the file kept in memory. Reads come from the snapshot: the file is read once, at the start, and what
/// writers touch again is the upper part of the trees.
const CACHE_BYTES: usize = 16 << 20;

const MARKS: TableDefinition<'_, &str, &str> = TableDefinition::new("marks");
const FORMAT_MARK: &str = "format";
const REVISION_MARK: &str = "revision";
const CLUSTER_MARK: &str = "cluster_id";

type Records = TableDefinition<'static, &'static str, (u64, &'static [u8])>;

pub(crate) struct Disk {
    database: Database,
    /// Since it was opened.
    #[cfg(test)]
    pub(crate) commits: std::sync::atomic::AtomicU32,
    /// The next commit is refused.
    #[cfg(test)]
    pub(crate) fails: std::sync::atomic::AtomicBool,
}

impl Disk {
    pub(crate) fn open(path: &Path) -> Result<(Self, Snapshot), StoreError> {
        let database =
            Database::builder().set_cache_size(CACHE_BYTES).create(path).map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => StoreError::Locked(path.to_owned()),
                other => StoreError::Unreadable { path: path.to_owned(), source: Box::new(other) },
            })?;
        let disk = Self {
            database,
            #[cfg(test)]
            commits: Default::default(),
            #[cfg(test)]
            fails: Default::default(),
        };
        disk.initialise(path)?;
        let snapshot = disk.load(path)?;
        Ok((disk, snapshot))
    }

    /// Writes the marks of a new file; refuses one of a newer format.
    fn initialise(&self, path: &Path) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(failed(Doing::Opening))?;
        {
            let mut marks = write.open_table(MARKS).map_err(failed(Doing::Opening))?;
            let found = marks.get(FORMAT_MARK).map_err(failed(Doing::Opening))?;
            let found = found.map(|text| number(path, FORMAT_MARK, text.value())).transpose()?;
            match found {
                Some(found) if found > FORMAT => {
                    return Err(StoreError::NewerFormat { path: path.to_owned(), found, supported: FORMAT });
                }
                Some(_) => return Ok(()),
                None => {}
            }
            let cluster_id = Uuid::new_v4().to_string();
            let new = [(FORMAT_MARK, FORMAT.to_string()), (CLUSTER_MARK, cluster_id)];
            for (mark, value) in new {
                marks.insert(mark, value.as_str()).map_err(failed(Doing::Opening))?;
            }
        }
        write.commit().map_err(failed(Doing::Opening))
    }

    fn load(&self, path: &Path) -> Result<Snapshot, StoreError> {
        let read = self.database.begin_read().map_err(failed(Doing::Reading))?;
        let marks = read.open_table(MARKS).map_err(failed(Doing::Reading))?;
        let mark = |name: &str| marks.get(name).map_err(failed(Doing::Reading));
        let cluster_id = mark(CLUSTER_MARK)?.map(|text| text.value().parse()).transpose();
        let cluster_id = cluster_id.map_err(|source: uuid::Error| bad_mark(path, CLUSTER_MARK, source))?;
        let mut snapshot = Snapshot::new(cluster_id.unwrap_or_else(Uuid::nil));
        if let Some(text) = mark(REVISION_MARK)? {
            snapshot.revision = number(path, REVISION_MARK, text.value())?;
        }
        load_table::<Network>(&read, &mut snapshot)?;
        load_table::<Subnet>(&read, &mut snapshot)?;
        load_table::<Port>(&read, &mut snapshot)?;
        load_table::<Router>(&read, &mut snapshot)?;
        load_table::<FloatingIp>(&read, &mut snapshot)?;
        load_table::<SubnetPool>(&read, &mut snapshot)?;
        load_table::<AddressScope>(&read, &mut snapshot)?;
        load_table::<SecurityGroup>(&read, &mut snapshot)?;
        load_table::<SecurityGroupRule>(&read, &mut snapshot)?;
        load_table::<AddressGroup>(&read, &mut snapshot)?;
        load_table::<DefaultSecurityGroupRule>(&read, &mut snapshot)?;
        load_table::<RbacPolicy>(&read, &mut snapshot)?;
        load_table::<MeteringLabel>(&read, &mut snapshot)?;
        load_table::<MeteringLabelRule>(&read, &mut snapshot)?;
        load_table::<Host>(&read, &mut snapshot)?;
        load_table::<PortBlock>(&read, &mut snapshot)?;
        load_table::<RestingBlock>(&read, &mut snapshot)?;
        load_table::<VirtualAddress>(&read, &mut snapshot)?;
        load_table::<Domain>(&read, &mut snapshot)?;
        load_table::<Project>(&read, &mut snapshot)?;
        load_table::<User>(&read, &mut snapshot)?;
        load_table::<Role>(&read, &mut snapshot)?;
        load_table::<Assignment>(&read, &mut snapshot)?;
        load_table::<ApplicationCredential>(&read, &mut snapshot)?;
        load_table::<Token>(&read, &mut snapshot)?;
        load_table::<Quota>(&read, &mut snapshot)?;
        Ok(snapshot)
    }

    /// Writes transactions in their order. All durable when it returns `Ok`; nothing written when it returns `Err`.
    pub(crate) fn commit<'a>(&self, group: impl Iterator<Item = &'a Finished>) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(failed(Doing::Writing))?;
        for finished in group {
            put(&write, finished)?;
        }
        #[cfg(test)]
        self.count_or_fail()?;
        write.commit().map_err(failed(Doing::Committing))
    }

    #[cfg(test)]
    fn count_or_fail(&self) -> Result<(), StoreError> {
        use std::sync::atomic::Ordering::Relaxed;
        if self.fails.swap(false, Relaxed) {
            return Err(failed(Doing::Committing)(redb::Error::PreviousIo));
        }
        self.commits.fetch_add(1, Relaxed);
        Ok(())
    }
}

fn put(write: &redb::WriteTransaction, finished: &Finished) -> Result<(), StoreError> {
    let revision = finished.snapshot.revision;
    for change in &finished.changes {
        let mut table = write.open_table(records(change.table)).map_err(failed(Doing::Writing))?;
        let key = change.key.as_str();
        match &change.value {
            Some(value) => {
                drop(table.insert(key, (revision, value.as_slice())).map_err(failed(Doing::Writing))?)
            }
            None => drop(table.remove(key).map_err(failed(Doing::Writing))?),
        }
    }
    let mut marks = write.open_table(MARKS).map_err(failed(Doing::Writing))?;
    let text = revision.to_string();
    marks.insert(REVISION_MARK, text.as_str()).map_err(failed(Doing::Writing))?;
    Ok(())
}

fn records(table: &'static str) -> Records {
    TableDefinition::new(table)
}

fn load_table<R: Record>(read: &redb::ReadTransaction, snapshot: &mut Snapshot) -> Result<(), StoreError> {
    let table = match read.open_table(records(R::TABLE)) {
        Ok(table) => table,
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(error) => return Err(failed(Doing::Reading)(error)),
    };
    for entry in table.iter().map_err(failed(Doing::Reading))? {
        let (key, value) = entry.map_err(failed(Doing::Reading))?;
        let (_, json) = value.value();
        let record: R = serde_json::from_slice(json).map_err(|source| StoreError::BadRecord {
            table: R::TABLE,
            key: key.value().to_owned(),
            source: Box::new(source),
        })?;
        snapshot.insert(record);
    }
    Ok(())
}

fn number(path: &Path, mark: &'static str, text: &str) -> Result<u64, StoreError> {
    text.parse().map_err(|source: std::num::ParseIntError| bad_mark(path, mark, source))
}

fn bad_mark(
    path: &Path,
    mark: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StoreError {
    tracing::error!(mark, "mark of the store does not parse");
    StoreError::Unreadable { path: path.to_owned(), source: Box::new(source) }
}
