//! Standard attributes: owner, times, revision numbers, tags; the same for every resource.

use super::{Service, Write, find};
use api::resources::StandardCreate;
use api::{Caller, Error, Precondition, TagChange};
use model::resource::{FloatingIp, Network, Port, Router, Standard, Subnet};
use model::security::{AddressGroup, SecurityGroup};
use model::subnet_pool::{AddressScope, SubnetPool};
use store::Record;

/// Tags of one resource.
const TAGS_MAX: usize = 50;

/// A record with standard attributes.
pub(super) trait HasStandard: Record {
    fn standard(&self) -> &Standard;
    fn standard_mut(&mut self) -> &mut Standard;
}

macro_rules! has_standard {
    ($($record:ident)*) => {$(
        impl HasStandard for $record {
            fn standard(&self) -> &Standard {
                &self.standard
            }
            fn standard_mut(&mut self) -> &mut Standard {
                &mut self.standard
            }
        }
    )*};
}

has_standard! { Network Subnet SubnetPool AddressScope Port Router FloatingIp SecurityGroup AddressGroup }

impl Write<'_> {
    /// Of a resource a caller makes.
    pub(super) fn standard(&self, caller: &Caller, request: StandardCreate) -> Standard {
        let project = request.project_id.or(request.tenant_id);
        Standard {
            name: request.name,
            description: request.description,
            ..self.standard_of(project.unwrap_or_else(|| caller.project_id.clone()))
        }
    }

    /// Of a resource made for another one.
    pub(super) fn standard_of(&self, project_id: String) -> Standard {
        Standard {
            project_id,
            created_at: self.now,
            updated_at: self.now,
            revision_number: 1,
            ..Standard::default()
        }
    }

    /// Writes a changed record with the next revision number; one that did not change stays as it is.
    pub(super) fn put_changed<R: HasStandard>(&mut self, mut record: R) -> R {
        if self.tx.get::<R>(record.id()).is_some_and(|old| **old == record) {
            return record;
        }
        let standard = record.standard_mut();
        standard.revision_number += 1;
        standard.updated_at = self.now;
        self.tx.put(record.clone());
        record
    }

    /// The next revision number for a change of something that belongs to the record.
    pub(super) fn touch<R: HasStandard>(&mut self, id: R::Id) {
        let Some(record) = self.tx.get::<R>(id) else { return };
        let mut record = R::clone(record);
        let standard = record.standard_mut();
        standard.revision_number += 1;
        standard.updated_at = self.now;
        self.tx.put(record);
    }
}

/// # Errors
/// 412 if the client has seen another revision.
pub(super) fn check_precondition(standard: &Standard, precondition: Precondition) -> Result<(), Error> {
    match precondition.revision_number {
        Some(expected) if expected != standard.revision_number => {
            Err(Error::RevisionNumberConstraintFailed { expected, current: standard.revision_number })
        }
        _ => Ok(()),
    }
}

impl Service {
    pub(super) fn change_tags_of<R>(
        &self,
        id: <R as Record>::Id,
        change: TagChange,
    ) -> Result<Vec<String>, Error>
    where
        R: HasStandard + api::Resource<Id = <R as Record>::Id>,
    {
        self.write(|write| {
            let mut record = R::clone(&*find::<R>(write.tx, id)?);
            let tags = &mut record.standard_mut().tags;
            match change {
                TagChange::Replace(new) => {
                    tags.clear();
                    new.into_iter().for_each(|tag| add(tags, tag));
                }
                TagChange::Add(tag) => add(tags, tag),
                TagChange::Remove(tag) => match tags.iter().position(|own| *own == tag) {
                    Some(at) => drop(tags.remove(at)),
                    None => return Err(Error::TagNotFound { tag }),
                },
            }
            if tags.len() > TAGS_MAX {
                return Err(Error::invalid_input(format!(
                    "The number of tags exceed the per-resource limit of {TAGS_MAX}"
                )));
            }
            Ok(write.put_changed(record).standard().tags.clone())
        })
    }
}

fn add(tags: &mut Vec<String>, tag: String) {
    if !tags.contains(&tag) {
        tags.push(tag);
    }
}
