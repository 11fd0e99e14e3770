//! `/v3/projects`. Projects do not nest: their parent is their domain.

use super::domain::object;
use super::{Resource, View, remove_where, taken};
use crate::Error;
use crate::fields::{Fields, invalid};
use crate::routes::Caller;
use model::identity::{
    ApplicationCredential, Assignment, Domain, DomainId, Project, ProjectId, Target, Token, User,
};
use serde_json::json;
use store::{Snapshot, Transaction};

impl Resource for Project {
    const NAME: &'static str = "project";
    const COLLECTION: &'static str = "projects";
    const FILTERS: &'static [&'static str] =
        &["id", "name", "domain_id", "enabled", "parent_id", "is_domain"];

    fn view(&self) -> View {
        object(json!({
            "id": self.id, "name": self.name, "domain_id": self.domain, "parent_id": self.domain,
            "description": self.description, "enabled": self.enabled, "is_domain": false, "tags": self.tags,
            "options": {},
        }))
    }

    fn create(tx: &Transaction, fields: &mut Fields, caller: &Caller) -> Result<Self, Error> {
        fields.ignore(&["options"]);
        let domain = fields.id("domain_id")?;
        let parent = fields.id("parent_id")?;
        let domain: DomainId = domain.or(parent).unwrap_or_else(|| caller.domain());
        if parent.is_some_and(|parent| parent != domain) {
            return Err(invalid("parent_id", "projects do not nest: it must be the domain".to_owned()));
        }
        if fields.boolean("is_domain")? == Some(true) {
            return Err(invalid("is_domain", "domains are made at /v3/domains".to_owned()));
        }
        tx.get::<Domain>(domain).ok_or_else(|| Error::not_found("domain", domain))?;
        let name = fields.name_required()?;
        free(tx, domain, &name)?;
        Ok(Self {
            id: ProjectId::random(),
            domain,
            name,
            description: fields.text("description")?.unwrap_or_default(),
            enabled: fields.boolean("enabled")?.unwrap_or(true),
            tags: fields.tags()?.unwrap_or_default(),
        })
    }

    fn update(&mut self, tx: &mut Transaction, fields: &mut Fields) -> Result<(), Error> {
        fields.ignore(&["options"]);
        if fields.id::<DomainId>("domain_id")?.is_some_and(|domain| domain != self.domain) {
            return Err(invalid("domain_id", "it cannot be changed".to_owned()));
        }
        if let Some(name) = fields.name()?.filter(|name| *name != self.name) {
            free(tx, self.domain, &name)?;
            self.name = name;
        }
        self.description = fields.text("description")?.unwrap_or(std::mem::take(&mut self.description));
        self.enabled = fields.boolean("enabled")?.unwrap_or(self.enabled);
        self.tags = fields.tags()?.unwrap_or(std::mem::take(&mut self.tags));
        Ok(())
    }

    fn delete(&self, tx: &mut Transaction) -> Result<(), Error> {
        let target = Target::Project(self.id);
        remove_where::<Assignment>(tx, |assignment| assignment.target == target);
        remove_where::<ApplicationCredential>(tx, |credential| credential.project == self.id);
        remove_where::<Token>(tx, |token| token.target == Some(target));
        let users = tx.users.values().filter(|user| user.default_project == Some(self.id));
        let users: Vec<User> =
            users.map(|user| User { default_project: None, ..User::clone(user) }).collect();
        users.into_iter().for_each(|user| tx.put(user));
        Ok(())
    }
}

fn free(snapshot: &Snapshot, domain: DomainId, name: &str) -> Result<(), Error> {
    match snapshot.project_by_name(domain, name) {
        Some(_) => Err(taken("project", name, " in the same domain")),
        None => Ok(()),
    }
}
