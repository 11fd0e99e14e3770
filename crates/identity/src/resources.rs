//! What clients create, read, change and delete: one file each, and the handlers that serve them all.

pub(crate) mod application_credential;
pub(crate) mod assignment;
mod domain;
mod project;
mod role;
mod user;

use crate::Error;
use crate::directory::Identity;
use crate::fields::{self, Body, Fields};
use crate::routes::{Answer, Caller, blocking};
use api::Root;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use store::{Record, Snapshot, Transaction};

pub(crate) use user::change_password;

pub(crate) type View = Map<String, Value>;

/// A resource: its names on the wire and its typed forms.
pub(crate) trait Resource: Record {
    /// Envelope of one: `project`.
    const NAME: &'static str;
    /// Envelope of many, and the path: `projects`.
    const COLLECTION: &'static str;
    /// Attributes that a list can be filtered by; as in Keystone others are ignored.
    const FILTERS: &'static [&'static str];

    fn view(&self) -> View;

    /// Work that takes long and needs no state, before the transaction.
    ///
    /// # Errors
    /// What a value lacks.
    fn prepare(_fields: &mut Fields) -> Result<(), Error> {
        Ok(())
    }

    /// # Errors
    /// What is missing, wrong or taken.
    fn create(tx: &Transaction, fields: &mut Fields, caller: &Caller) -> Result<Self, Error>;

    /// Puts the attributes that were given over those that are, and revokes what follows from it.
    ///
    /// # Errors
    /// What is wrong or taken.
    fn update(&mut self, tx: &mut Transaction, fields: &mut Fields) -> Result<(), Error>;

    /// Takes away what belongs to it. The record itself goes afterwards.
    ///
    /// # Errors
    /// Why it must stay.
    fn delete(&self, tx: &mut Transaction) -> Result<(), Error>;
}

/// The record of that id, or Keystone's "not found". A name is none: clients then look it up by name.
pub(crate) fn find<R: Resource>(snapshot: &Snapshot, id: &str) -> Result<Arc<R>, Error> {
    let found = id.parse().ok().and_then(|id: R::Id| snapshot.get::<R>(id));
    found.cloned().ok_or_else(|| Error::not_found(R::NAME, id))
}

pub(crate) fn view<R: Resource>(record: &R, root: &str) -> Value {
    let mut view = record.view();
    let link = format!("{root}/v3/{}/{}", R::COLLECTION, record.id());
    view.insert("links".to_owned(), json!({"self": link}));
    Value::Object(view)
}

pub(crate) type Filters = Query<Vec<(String, String)>>;

/// Those that pass the filters, in the one form of a list.
pub(crate) fn listed<R: Resource>(
    records: impl IntoIterator<Item = Arc<R>>,
    Query(filters): &Filters,
    root: &str,
) -> Answer {
    let views = records.into_iter().map(|record| view(&*record, root));
    let views: Vec<Value> =
        views.filter(|view| filters.iter().all(|filter| passes::<R>(view, filter))).collect();
    Ok(Json(collection(R::COLLECTION, views, root)).into_response())
}

pub(crate) fn collection(name: &str, views: Vec<Value>, root: &str) -> Value {
    let link = format!("{root}/v3/{name}");
    json!({name: views, "links": {"self": link, "next": null, "previous": null}})
}

fn passes<R: Resource>(view: &Value, (key, want): &(String, String)) -> bool {
    if !R::FILTERS.contains(&key.as_str()) {
        return true;
    }
    match view.get(key) {
        Some(Value::String(text)) => text == want,
        Some(Value::Bool(value)) => *value == !matches!(want.to_ascii_lowercase().as_str(), "false" | "0"),
        _ => want.is_empty(),
    }
}

pub(crate) async fn list<R: Resource>(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
    filters: Filters,
) -> Answer {
    caller.must_be_admin(R::COLLECTION)?;
    listed::<R>(R::table(&identity.snapshot()).values().cloned(), &filters, &root)
}

pub(crate) async fn create<R: Resource>(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
    body: Body,
) -> Answer {
    caller.must_be_admin(R::COLLECTION)?;
    let mut fields = Fields::of(fields::object(body)?, R::NAME)?;
    let created = blocking(move || {
        R::prepare(&mut fields)?;
        identity.write(|tx| {
            let record = R::create(tx, &mut fields, &caller)?;
            fields.finish()?;
            tx.put(record.clone());
            Ok(record)
        })
    })
    .await?;
    Ok((StatusCode::CREATED, Json(json!({R::NAME: view(&created, &root)}))).into_response())
}

pub(crate) async fn show<R: Resource>(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
    Path(id): Path<String>,
) -> Answer {
    let record = caller.may_see::<R>(&id).then(|| find::<R>(&identity.snapshot(), &id));
    let record = match record {
        Some(record) => record?,
        None => return Err(Error::Forbidden { action: "identity:get" }),
    };
    Ok(Json(json!({R::NAME: view(&*record, &root)})).into_response())
}

pub(crate) async fn update<R: Resource>(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
    Path(id): Path<String>,
    body: Body,
) -> Answer {
    caller.must_be_admin(R::COLLECTION)?;
    let mut fields = Fields::of(fields::object(body)?, R::NAME)?;
    let updated = blocking(move || {
        R::prepare(&mut fields)?;
        identity.write(|tx| {
            let mut record = R::clone(&*find::<R>(tx, &id)?);
            record.update(tx, &mut fields)?;
            fields.finish()?;
            tx.put(record.clone());
            Ok(record)
        })
    })
    .await?;
    Ok(Json(json!({R::NAME: view(&updated, &root)})).into_response())
}

pub(crate) async fn delete<R: Resource>(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer {
    caller.must_be_admin(R::COLLECTION)?;
    blocking(move || {
        identity.write(|tx| {
            let record = find::<R>(tx, &id)?;
            record.delete(tx)?;
            tx.remove::<R>(record.id());
            Ok(())
        })
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Removes the records of a kind that match.
fn remove_where<R: Record>(tx: &mut Transaction, matches: impl Fn(&R) -> bool) {
    let ids: Vec<R::Id> =
        R::table(tx).values().filter(|record| matches(record)).map(|record| record.id()).collect();
    for id in ids {
        tx.remove::<R>(id);
    }
}

fn taken(what: &'static str, name: &str, place: &str) -> Error {
    Error::Conflict {
        what,
        reason: format!("it is not permitted to have two {what}s with the same name{place}: {name}"),
    }
}
