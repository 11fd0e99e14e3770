//! The sessions of a data path apart from it: for readers in threads of their own, which take long and must hold
//! nobody up. The kernel's tables are shared; what one thread removes the other no longer finds, which both expect.

use crate::Dataplane;
use crate::error::Error;
use crate::object::KernelTables;
use crate::sessions::{self, SessionRow};
use crate::sys::MapFd;
use pipeline::nat::{Mapping, MappingKey};
use pipeline::session::{Session, SessionKey};

/// Handles of the tables that packets write.
#[derive(Debug)]
pub struct SessionTables {
    pub(crate) sessions: MapFd<SessionKey, Session>,
    pub(crate) replies: MapFd<SessionKey, SessionKey>,
    pub(crate) mappings: MapFd<MappingKey, Mapping>,
}

impl Dataplane {
    /// Further handles of its sessions.
    pub fn session_tables(&self) -> Result<SessionTables, Error> {
        SessionTables::of(&self.object.tables)
    }
}

impl SessionTables {
    pub(crate) fn of(kernel: &KernelTables) -> Result<Self, Error> {
        let KernelTables { sessions, replies, mappings, .. } = kernel;
        Ok(Self {
            sessions: sessions.try_clone().map_err(Error::table("sessions"))?,
            replies: replies.try_clone().map_err(Error::table("replies"))?,
            mappings: mappings.try_clone().map_err(Error::table("mappings"))?,
        })
    }

    /// Every session, read in batches. Sessions that begin or end meanwhile may or may not be seen.
    pub fn rows(&self) -> impl Iterator<Item = Result<SessionRow, Error>> {
        sessions::rows(&self.sessions)
    }

    /// Every mapping, in the same way.
    pub fn mappings(&self) -> impl Iterator<Item = Result<(MappingKey, Mapping), Error>> {
        self.mappings.elements().map(|row| row.map_err(Error::table("mappings")))
    }

    /// Ends a session; false if it is gone already. Its next packet is judged as the first of a new one.
    pub fn end(&self, row: &SessionRow) -> Result<bool, Error> {
        sessions::remove(&self.sessions, &self.replies, &row.key, &row.reply)
    }
}
