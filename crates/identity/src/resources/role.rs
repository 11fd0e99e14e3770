//! `/v3/roles`.

use super::domain::object;
use super::{Resource, View, remove_where, taken};
use crate::Error;
use crate::directory::ROLES;
use crate::fields::{Fields, invalid};
use crate::routes::Caller;
use model::identity::{ApplicationCredential, Assignment, DomainId, Role, RoleId};
use serde_json::json;
use store::{Snapshot, Transaction};

impl Resource for Role {
    const NAME: &'static str = "role";
    const COLLECTION: &'static str = "roles";
    const FILTERS: &'static [&'static str] = &["id", "name", "domain_id"];

    fn view(&self) -> View {
        object(json!({
            "id": self.id, "name": self.name, "description": self.description, "domain_id": null, "options": {},
        }))
    }

    fn create(tx: &Transaction, fields: &mut Fields, _caller: &Caller) -> Result<Self, Error> {
        fields.ignore(&["options"]);
        if fields.id::<DomainId>("domain_id")?.is_some() {
            return Err(invalid("domain_id", "roles of domains do not exist here".to_owned()));
        }
        let name = fields.name_required()?;
        free(tx, &name)?;
        Ok(Self { id: RoleId::random(), name, description: fields.text("description")?.unwrap_or_default() })
    }

    fn update(&mut self, tx: &mut Transaction, fields: &mut Fields) -> Result<(), Error> {
        fields.ignore(&["options"]);
        if let Some(name) = fields.name()?.filter(|name| *name != self.name) {
            self.not_built_in()?;
            free(tx, &name)?;
            self.name = name;
        }
        self.description = fields.text("description")?.unwrap_or(std::mem::take(&mut self.description));
        Ok(())
    }

    fn delete(&self, tx: &mut Transaction) -> Result<(), Error> {
        self.not_built_in()?;
        remove_where::<Assignment>(tx, |assignment| assignment.role == self.id);
        let having: Vec<_> =
            tx.application_credentials.values().filter(|own| own.roles.contains(&self.id)).cloned().collect();
        for credential in having {
            let mut credential = ApplicationCredential::clone(&credential);
            credential.roles.retain(|role| *role != self.id);
            tx.put(credential);
        }
        Ok(())
    }
}

trait BuiltIn {
    fn not_built_in(&self) -> Result<(), Error>;
}

impl BuiltIn for Role {
    /// The policy knows these roles by their names.
    fn not_built_in(&self) -> Result<(), Error> {
        if ROLES.contains(&self.name.as_str()) {
            return Err(Error::Refused {
                message: "The roles admin, member and reader are built in and stay.",
            });
        }
        Ok(())
    }
}

fn free(snapshot: &Snapshot, name: &str) -> Result<(), Error> {
    match snapshot.role_by_name(name) {
        Some(_) => Err(taken("role", name, "")),
        None => Ok(()),
    }
}
