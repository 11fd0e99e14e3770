//! `/v3/users`, and a user's own change of its password.

use super::domain::object;
use super::{Resource, View, find, remove_where, taken};
use crate::directory::{Identity, revoke};
use crate::fields::{self, Body, Fields, invalid, missing};
use crate::routes::{Answer, Caller, blocking};
use crate::secret::PASSWORD_BYTES_MAX;
use crate::{Error, Source, secret};
use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use model::identity::{
    ApplicationCredential, Assignment, Domain, DomainId, Project, ProjectId, Secret, User, UserId,
};
use serde_json::{Value, json};
use std::sync::Arc;
use store::{Snapshot, Transaction};

impl Resource for User {
    const NAME: &'static str = "user";
    const COLLECTION: &'static str = "users";
    const FILTERS: &'static [&'static str] = &["id", "name", "domain_id", "enabled", "default_project_id"];

    fn view(&self) -> View {
        let mut view = object(json!({
            "id": self.id, "name": self.name, "domain_id": self.domain, "enabled": self.enabled,
            "description": self.description, "password_expires_at": null, "options": {},
        }));
        if let Some(email) = &self.email {
            view.insert("email".to_owned(), json!(email));
        }
        if let Some(project) = self.default_project {
            view.insert("default_project_id".to_owned(), json!(project));
        }
        view
    }

    fn prepare(fields: &mut Fields) -> Result<(), Error> {
        if let Some(password) = fields.take("password") {
            let secret = secret::hash(&password_of(&password)?)?;
            fields.put("password", serde_json::to_value(secret).map_err(Error::internal)?);
        }
        Ok(())
    }

    fn create(tx: &Transaction, fields: &mut Fields, caller: &Caller) -> Result<Self, Error> {
        fields.ignore(&["options"]);
        let domain: DomainId = fields.id("domain_id")?.unwrap_or_else(|| caller.domain());
        tx.get::<Domain>(domain).ok_or_else(|| Error::not_found("domain", domain))?;
        let name = fields.name_required()?;
        free(tx, domain, &name)?;
        Ok(Self {
            id: UserId::random(),
            domain,
            name,
            description: fields.text("description")?.unwrap_or_default(),
            email: fields.text("email")?,
            enabled: fields.boolean("enabled")?.unwrap_or(true),
            default_project: default_project(tx, fields)?,
            password: prepared(fields)?,
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
        self.email = fields.text("email")?.or(self.email.take());
        self.enabled = fields.boolean("enabled")?.unwrap_or(self.enabled);
        self.default_project = default_project(tx, fields)?.or(self.default_project);
        let password = prepared(fields)?;
        if password.is_some() || !self.enabled {
            revoke(tx, self.id, None);
        }
        self.password = password.or(self.password.take());
        Ok(())
    }

    fn delete(&self, tx: &mut Transaction) -> Result<(), Error> {
        revoke(tx, self.id, None);
        remove_where::<Assignment>(tx, |assignment| assignment.user == self.id);
        remove_where::<ApplicationCredential>(tx, |credential| credential.user == self.id);
        Ok(())
    }
}

/// `POST /v3/users/{id}/password`: the old one proves that it is the user, so no token is needed.
pub(crate) async fn change_password(
    State(identity): State<Arc<Identity>>,
    Path(id): Path<String>,
    source: Option<Extension<Source>>,
    body: Body,
) -> Answer {
    let mut fields = Fields::of(fields::object(body)?, "user")?;
    let new = fields.take("password").ok_or_else(|| missing("password", "user"))?;
    let old = fields.take("original_password").ok_or_else(|| missing("original_password", "user"))?;
    let (new, old) = (password_of(&new)?, password_of(&old)?);
    fields.finish()?;
    let source = source.map_or(Source::Local, |Extension(source)| source);
    let charge = identity.charge(&id, source)?;
    let permit = identity.hashing.acquire().await.map_err(Error::internal)?;
    let work = Arc::clone(&identity);
    blocking(move || change(&work, &id, &old, &new)).await?;
    drop(permit);
    identity.refund(&charge);
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn change(identity: &Identity, id: &str, old: &str, new: &str) -> Result<(), Error> {
    let user = find::<User>(&identity.snapshot(), id).ok();
    let right = match user.as_ref().and_then(|user| user.password.as_ref()) {
        Some(secret) => secret::verify(secret, old),
        None => secret::verify_nobody(old),
    };
    let user = user.filter(|user| right && user.enabled).ok_or(Error::Unauthorized)?;
    let password = Some(secret::hash(new)?);
    identity.write(|tx| {
        let current = find::<User>(tx, id)?;
        // Changed meanwhile: the old password is no proof any more.
        if current.password != user.password {
            return Err(Error::Unauthorized);
        }
        tx.put(User { password, ..User::clone(&current) });
        revoke(tx, user.id, None);
        Ok(())
    })
}

fn password_of(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some("") => Err(invalid("password", "it is empty".to_owned())),
        Some(password) if password.len() > PASSWORD_BYTES_MAX => {
            Err(invalid("password", format!("it has more than {PASSWORD_BYTES_MAX} bytes")))
        }
        Some(password) => Ok(password.to_owned()),
        None => Err(invalid("password", "it is not of type 'string'".to_owned())),
    }
}

/// What [`Resource::prepare`] left.
fn prepared(fields: &mut Fields) -> Result<Option<Secret>, Error> {
    fields.take("password").map(serde_json::from_value).transpose().map_err(Error::internal)
}

fn default_project(snapshot: &Snapshot, fields: &mut Fields) -> Result<Option<ProjectId>, Error> {
    let Some(id) = fields.id::<ProjectId>("default_project_id")? else { return Ok(None) };
    snapshot.get::<Project>(id).ok_or_else(|| Error::not_found("project", id))?;
    Ok(Some(id))
}

fn free(snapshot: &Snapshot, domain: DomainId, name: &str) -> Result<(), Error> {
    match snapshot.user_by_name(domain, name) {
        Some(_) => Err(taken("user", name, " in the same domain")),
        None => Ok(()),
    }
}
