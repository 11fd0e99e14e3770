//! `/v3/users/{id}/application_credentials`: secrets that a user makes for a program, for the project of its token.

use super::domain::object;
use super::{Filters, View, collection};
use crate::directory::Identity;
use crate::fields::{self, Body, Fields, invalid};
use crate::routes::{Answer, Caller, blocking};
use crate::secret::{self, PASSWORD_BYTES_MAX};
use crate::view::time_s;
use crate::{Error, Scope, Session};
use api::Root;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use model::identity::{ApplicationCredential, ApplicationCredentialId, RoleId, Token, UserId};
use serde_json::{Value, json};
use std::sync::Arc;
use store::Snapshot;
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, PrimitiveDateTime};

const NAME: &str = "application_credential";
const COLLECTION: &str = "application_credentials";
/// Of one user.
const CREDENTIALS_MAX: usize = 100;

/// Only the user itself, or an administrator for reading and deleting.
fn owner(caller: &Caller, user: &str, write: bool) -> Result<UserId, Error> {
    let own = caller.session.user.id.to_string() == user;
    if !own && (write || !caller.session.is_admin()) {
        return Err(Error::Forbidden { action: "identity:application_credential" });
    }
    // A program that got a secret cannot make itself others, unless it was meant to.
    if caller.session.application_credential.as_ref().is_some_and(|credential| !credential.unrestricted) {
        return Err(Error::Forbidden { action: "identity:application_credential" });
    }
    user.parse().map_err(|_| Error::not_found("user", user))
}

fn view(snapshot: &Snapshot, credential: &ApplicationCredential, root: &str) -> View {
    let roles = credential.roles.iter().filter_map(|id| snapshot.roles.get(id));
    let roles: Vec<Value> =
        roles.map(|role| json!({"id": role.id, "name": role.name, "domain_id": null})).collect();
    let link = format!("{root}/v3/users/{}/{COLLECTION}/{}", credential.user, credential.id);
    object(json!({
        "id": credential.id,
        "name": credential.name,
        "description": credential.description,
        "user_id": credential.user,
        "project_id": credential.project,
        "roles": roles,
        "expires_at": credential.expires_at.map(|end| time_s(end).trim_end_matches('Z').to_owned()),
        "unrestricted": credential.unrestricted,
        "system": null,
        "links": {"self": link},
    }))
}

pub(crate) async fn list(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
    Path(user): Path<String>,
    Query(filters): Filters,
) -> Answer {
    let user = owner(&caller, &user, false)?;
    let snapshot = identity.snapshot();
    let name = filters.iter().find(|(key, _)| key == "name").map(|(_, name)| name);
    let wanted = |credential: &&Arc<ApplicationCredential>| {
        credential.user == user && name.is_none_or(|name| credential.name == *name)
    };
    let views = snapshot.application_credentials.values().filter(wanted);
    let views = views.map(|credential| Value::Object(view(&snapshot, credential, &root))).collect();
    Ok(Json(collection(COLLECTION, views, &root)).into_response())
}

fn find(snapshot: &Snapshot, user: UserId, id: &str) -> Result<Arc<ApplicationCredential>, Error> {
    let found = id.parse::<ApplicationCredentialId>().ok();
    let found = found.and_then(|id| snapshot.application_credentials.get(&id));
    let found = found.filter(|credential| credential.user == user).cloned();
    found.ok_or_else(|| Error::not_found("application credential", id))
}

pub(crate) async fn show(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
    Path((user, id)): Path<(String, String)>,
) -> Answer {
    let user = owner(&caller, &user, false)?;
    let snapshot = identity.snapshot();
    let credential = find(&snapshot, user, &id)?;
    Ok(Json(json!({NAME: view(&snapshot, &credential, &root)})).into_response())
}

pub(crate) async fn delete(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Path((user, id)): Path<(String, String)>,
) -> Answer {
    let user = owner(&caller, &user, false)?;
    blocking(move || {
        identity.write(|tx| {
            let id = find(tx, user, &id)?.id;
            let tokens: Vec<_> = tx
                .tokens_of_user(user)
                .filter(|token| token.application_credential == Some(id))
                .map(|token| token.id)
                .collect();
            for token in tokens {
                tx.remove::<Token>(token);
            }
            tx.remove::<ApplicationCredential>(id);
            Ok(())
        })
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn create(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
    Path(user): Path<String>,
    body: Body,
) -> Answer {
    owner(&caller, &user, true)?;
    let fields = Fields::of(fields::object(body)?, NAME)?;
    let (view, secret) = blocking(move || {
        let (credential, secret) = build(&identity, &caller.session, fields)?;
        identity.write(|tx| {
            let own = tx.application_credentials.values().filter(|other| other.user == credential.user);
            let own: Vec<_> = own.collect();
            if own.len() >= CREDENTIALS_MAX {
                return Err(Error::Refused { message: "A user has at most 100 application credentials." });
            }
            if own.iter().any(|other| other.name == credential.name) {
                return Err(super::taken("application credential", &credential.name, " of one user"));
            }
            tx.put(credential.clone());
            Ok((view(tx, &credential, &root), secret))
        })
    })
    .await?;
    let mut view = view;
    // The only time it is seen.
    view.insert("secret".to_owned(), secret.into());
    Ok((StatusCode::CREATED, Json(json!({NAME: view}))).into_response())
}

fn build(
    identity: &Identity,
    session: &Session,
    mut fields: Fields,
) -> Result<(ApplicationCredential, String), Error> {
    let Scope::Project { project, .. } = &session.scope else {
        return Err(Error::bad_request("An application credential needs a token for a project."));
    };
    let secret = fields.text("secret")?.unwrap_or_else(secret::random_text);
    if secret.is_empty() || secret.len() > PASSWORD_BYTES_MAX {
        return Err(invalid("secret", format!("it must have 1 to {PASSWORD_BYTES_MAX} bytes")));
    }
    let expires_at = expiry(fields.text("expires_at")?, identity.now())?;
    if fields.take("access_rules").is_some_and(|rules| rules.as_array().is_none_or(|rules| !rules.is_empty()))
    {
        return Err(invalid("access_rules", "they do not exist here".to_owned()));
    }
    fields.ignore(&["project_id"]);
    let credential = ApplicationCredential {
        id: ApplicationCredentialId::random(),
        user: session.user.id,
        project: project.id,
        name: fields.name_required()?,
        description: fields.text("description")?.unwrap_or_default(),
        roles: wanted_roles(session, fields.take("roles"))?,
        secret: secret::hash(&secret)?,
        expires_at,
        unrestricted: fields.boolean("unrestricted")?.unwrap_or(false),
    };
    fields.finish()?;
    Ok((credential, secret))
}

/// All of the token's unless some are named; never more.
fn wanted_roles(session: &Session, wanted: Option<Value>) -> Result<Vec<RoleId>, Error> {
    // The command line sends an empty list for none.
    let some = wanted.filter(|wanted| wanted.as_array().is_none_or(|roles| !roles.is_empty()));
    let Some(wanted) = some else {
        return Ok(session.roles.iter().map(|role| role.id).collect());
    };
    let wanted = wanted.as_array().ok_or_else(|| invalid("roles", "it is not a list".to_owned()))?;
    let role = |wanted: &Value| {
        let text = |key: &str| wanted.get(key).and_then(Value::as_str);
        let found = session.roles.iter().find(|role| match (text("id"), text("name")) {
            (Some(id), _) => role.id.to_string() == id,
            (None, name) => name == Some(role.name.as_str()),
        });
        found.map(|role| role.id).ok_or_else(|| {
            let wanted = text("name").or(text("id")).unwrap_or_default();
            Error::bad_request(format!("The caller does not have the role '{wanted}' in the project."))
        })
    };
    wanted.iter().map(role).collect()
}

fn expiry(text: Option<String>, now: i64) -> Result<Option<i64>, Error> {
    let Some(text) = text else { return Ok(None) };
    let given = OffsetDateTime::parse(&text, &Rfc3339).ok().or_else(|| {
        // Without a zone it is UTC, as in Keystone.
        let zoned = format!("{text}Z");
        OffsetDateTime::parse(&zoned, &Rfc3339)
            .ok()
            .map(|time| PrimitiveDateTime::new(time.date(), time.time()).assume_utc())
    });
    match given.map(OffsetDateTime::unix_timestamp) {
        Some(end) if end > now => Ok(Some(end)),
        Some(_) => Err(invalid("expires_at", format!("'{text}' has passed"))),
        None => Err(invalid("expires_at", format!("'{text}' is not a time like 2027-01-31T12:00:00"))),
    }
}
