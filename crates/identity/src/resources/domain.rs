//! `/v3/domains`.

use super::{Resource, View, remove_where, taken};
use crate::Error;
use crate::directory::revoke;
use crate::fields::Fields;
use crate::routes::Caller;
use model::identity::{Assignment, Domain, DomainId, Project, Target, User};
use serde_json::{Value, json};
use store::{Snapshot, Transaction};

impl Resource for Domain {
    const NAME: &'static str = "domain";
    const COLLECTION: &'static str = "domains";
    const FILTERS: &'static [&'static str] = &["id", "name", "enabled"];

    fn view(&self) -> View {
        let view = json!({
            "id": self.id, "name": self.name, "description": self.description, "enabled": self.enabled,
            "tags": [], "options": {},
        });
        object(view)
    }

    fn create(tx: &Transaction, fields: &mut Fields, _caller: &Caller) -> Result<Self, Error> {
        fields.ignore(&["options", "tags"]);
        let name = fields.name_required()?;
        free(tx, &name)?;
        Ok(Self {
            id: DomainId::random(),
            name,
            description: fields.text("description")?.unwrap_or_default(),
            enabled: fields.boolean("enabled")?.unwrap_or(true),
        })
    }

    fn update(&mut self, tx: &mut Transaction, fields: &mut Fields) -> Result<(), Error> {
        fields.ignore(&["options", "tags"]);
        if let Some(name) = fields.name()?.filter(|name| *name != self.name) {
            free(tx, &name)?;
            self.name = name;
        }
        self.description = fields.text("description")?.unwrap_or(std::mem::take(&mut self.description));
        self.enabled = fields.boolean("enabled")?.unwrap_or(self.enabled);
        if self.id == DomainId::DEFAULT && !self.enabled {
            return Err(Error::Refused { message: "The domain default cannot be disabled." });
        }
        Ok(())
    }

    fn delete(&self, tx: &mut Transaction) -> Result<(), Error> {
        if self.enabled {
            return Err(Error::Refused {
                message: "Cannot delete a domain that is enabled, please disable it first.",
            });
        }
        let users: Vec<_> = tx.users.values().filter(|user| user.domain == self.id).cloned().collect();
        for user in users {
            user.delete(tx)?;
            tx.remove::<User>(user.id);
        }
        let projects: Vec<_> =
            tx.projects.values().filter(|project| project.domain == self.id).cloned().collect();
        for project in projects {
            project.delete(tx)?;
            tx.remove::<Project>(project.id);
        }
        let target = Target::Domain(self.id);
        remove_where::<Assignment>(tx, |assignment| assignment.target == target);
        let users: Vec<_> = tx.users.keys().copied().collect();
        users.into_iter().for_each(|user| revoke(tx, user, Some(target)));
        Ok(())
    }
}

fn free(snapshot: &Snapshot, name: &str) -> Result<(), Error> {
    match snapshot.domain_by_name(name) {
        Some(_) => Err(taken("domain", name, "")),
        None => Ok(()),
    }
}

pub(super) fn object(view: Value) -> View {
    match view {
        Value::Object(view) => view,
        _ => View::new(),
    }
}
