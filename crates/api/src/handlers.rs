//! The handlers of a resource: one set for all of them.

use crate::backend::{Handles, Precondition, TagChange};
use crate::body::{self, Bulk};
use crate::policy::{Facts, Judge, shown};
use crate::query::Query;
use crate::{Caller, Error, Resource, list};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::convert::Infallible;
use std::sync::Arc;

pub(crate) type Answer = Result<Response, Error>;
pub(crate) type Body = Result<Bytes, BytesRejection>;

pub(crate) async fn list<R: Resource, B: Handles<R> + Facts>(
    State(backend): State<Arc<B>>,
    caller: Caller,
    Root(root): Root,
    uri: Uri,
) -> Answer {
    let query = Query::parse::<R>(&uri)?;
    if backend.lacks(&caller) {
        let (service, of) = (Arc::clone(&backend), caller.clone());
        blocking(move || service.supply(&of)).await?;
    }
    let base = format!("{root}{}", uri.path());
    // Long ones take a while: off the threads that serve others.
    blocking(move || listed::<R, B>(&backend, &caller, &query, &base)).await
}

/// `base` is the collection's URL, for links.
fn listed<R: Resource, B: Handles<R> + Facts>(
    backend: &B,
    caller: &Caller,
    query: &Query,
    base: &str,
) -> Answer {
    let judge = Judge::new(caller, backend);
    let views = backend.list(caller, &query.hints::<R>(caller));
    let visible = |of: &R::View| Ok(judge.visible::<R>(view(of)?));
    let body = list::body::<R>(&views, visible, query, base)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

pub(crate) async fn create<R: Resource, B: Handles<R> + Facts>(
    State(backend): State<Arc<B>>,
    caller: Caller,
    body: Body,
) -> Answer {
    let body = received(body)?;
    let parsed = {
        let judge = Judge::new(&caller, &*backend);
        body::create::<R>(&body, |given| judge.may_create::<R>(given))?
    };
    let (requests, many) = match parsed {
        Bulk::One(request) => (vec![request], false),
        Bulk::Many(requests) => (requests, true),
    };
    let (service, of) = (Arc::clone(&backend), caller.clone());
    let created = blocking(move || service.create(&of, requests)).await?;
    let judge = Judge::new(&caller, &*backend);
    let views = created.iter().filter_map(|of| view(of).map(|of| judge.visible::<R>(of)).transpose());
    let mut views = views.collect::<Result<Vec<_>, _>>()?;
    let answer = if many { json!({R::COLLECTION: views}) } else { json!({R::NAME: views.pop()}) };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

pub(crate) async fn show<R: Resource, B: Handles<R> + Facts>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    caller: Caller,
    uri: Uri,
) -> Answer {
    let fields = Query::parse_fields(&uri)?;
    let view = seen::<R, B>(&backend, &caller, id)?;
    Ok(Json(json!({R::NAME: list::trim(view, &fields)})).into_response())
}

/// What the caller may read of it.
pub(crate) fn seen<R: Resource, B: Handles<R> + Facts>(
    backend: &B,
    caller: &Caller,
    id: String,
) -> Result<Map<String, Value>, Error> {
    let view = shown::<R, B>(backend, caller, parse_id::<R>(id.clone())?)?;
    Judge::new(caller, backend).visible::<R>(view).ok_or_else(|| R::not_found(id))
}

pub(crate) async fn update<R: Resource, B: Handles<R> + Facts>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let body = received(body)?;
    let id = parse_id::<R>(id);
    let change = {
        let judge = Judge::new(&caller, &*backend);
        body::update::<R>(&body, |given| {
            let Ok(id) = &id else { return Ok(()) };
            let current = shown::<R, B>(&backend, &caller, *id)?;
            judge.may_change::<R>("update", &id.to_string(), &current)?;
            judge.may_update::<R>(&current, given)
        })?
    };
    let (id, precondition) = (id?, precondition(&headers));
    let (service, of) = (Arc::clone(&backend), caller.clone());
    let updated = blocking(move || service.update(&of, id, change, precondition)).await?;
    let view = Judge::new(&caller, &*backend).visible::<R>(view(&updated)?);
    Ok(Json(json!({R::NAME: view})).into_response())
}

pub(crate) async fn delete<R: Resource, B: Handles<R> + Facts>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    caller: Caller,
    headers: HeaderMap,
) -> Answer {
    let id = changeable::<R, B>(&backend, &caller, "delete", id)?;
    let precondition = precondition(&headers);
    blocking(move || backend.delete(&caller, id, precondition)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The id of something that the caller may change.
fn changeable<R: Resource, B: Handles<R> + Facts>(
    backend: &B,
    caller: &Caller,
    action: &str,
    text: String,
) -> Result<R::Id, Error> {
    let id = parse_id::<R>(text.clone())?;
    let current = shown::<R, B>(backend, caller, id)?;
    Judge::new(caller, backend).may_change::<R>(action, &text, &current)?;
    Ok(id)
}

pub(crate) async fn list_tags<R: Resource, B: Handles<R> + Facts>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    caller: Caller,
) -> Answer {
    let tags = tags::<R, B>(&backend, id, &caller)?;
    Ok(Json(json!({"tags": tags})).into_response())
}

pub(crate) async fn replace_tags<R: Resource, B: Handles<R> + Facts>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    caller: Caller,
    body: Body,
) -> Answer {
    let given = body::object(&received(body)?)?;
    let tags = given.get("tags").and_then(Value::as_array);
    let tags =
        tags.ok_or_else(|| Error::bad_request("Invalid input for tags. Reason: a list is required."))?;
    let tags = tags.iter().map(check_tag).collect::<Result<Vec<_>, _>>()?;
    let tags = change_tags::<R, B>(backend, id, caller, TagChange::Replace(tags)).await?;
    Ok(Json(json!({"tags": tags})).into_response())
}

pub(crate) async fn delete_tags<R: Resource, B: Handles<R> + Facts>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    caller: Caller,
) -> Answer {
    change_tags::<R, B>(backend, id, caller, TagChange::Replace(Vec::new())).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn show_tag<R: Resource, B: Handles<R> + Facts>(
    State(backend): State<Arc<B>>,
    Path((id, tag)): Path<(String, String)>,
    caller: Caller,
) -> Answer {
    if tags::<R, B>(&backend, id, &caller)?.iter().any(|own| own == tag.as_str()) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(Error::TagNotFound { tag })
}

pub(crate) async fn add_tag<R: Resource, B: Handles<R> + Facts>(
    State(backend): State<Arc<B>>,
    Path((id, tag)): Path<(String, String)>,
    caller: Caller,
) -> Answer {
    let tag = check_tag(&Value::String(tag))?;
    change_tags::<R, B>(backend, id, caller, TagChange::Add(tag)).await?;
    Ok((StatusCode::CREATED, Json(Value::Null)).into_response())
}

pub(crate) async fn delete_tag<R: Resource, B: Handles<R> + Facts>(
    State(backend): State<Arc<B>>,
    Path((id, tag)): Path<(String, String)>,
    caller: Caller,
) -> Answer {
    change_tags::<R, B>(backend, id, caller, TagChange::Remove(tag)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn tags<R: Resource, B: Handles<R> + Facts>(
    backend: &B,
    id: String,
    caller: &Caller,
) -> Result<Vec<Value>, Error> {
    let view = seen::<R, B>(backend, caller, id)?;
    Ok(view.get("tags").and_then(Value::as_array).cloned().unwrap_or_default())
}

async fn change_tags<R: Resource, B: Handles<R> + Facts>(
    backend: Arc<B>,
    id: String,
    caller: Caller,
    change: TagChange,
) -> Result<Vec<String>, Error> {
    let id = changeable::<R, B>(&backend, &caller, "update_tags", id)?;
    blocking(move || backend.change_tags(&caller, id, change)).await
}

fn check_tag(tag: &Value) -> Result<String, Error> {
    let refuse = |reason: &str| Error::bad_request(format!("Invalid input for tags. Reason: {reason}."));
    let text = tag.as_str().ok_or_else(|| refuse(&format!("'{tag}' is not a valid string")))?;
    match text.chars().count() {
        1..=255 => Ok(text.to_owned()),
        _ => Err(refuse(&format!("'{text}' must have 1 to 255 characters"))),
    }
}

/// A name where an id is expected is not found: clients then look it up by name.
pub(crate) fn parse_id<R: Resource>(id: String) -> Result<R::Id, Error> {
    id.parse().map_err(|_| R::not_found(id))
}

pub(crate) fn received(body: Body) -> Result<Bytes, Error> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Error::HTTPRequestEntityTooLarge {},
        _ => Error::bad_request("Body contains invalid data"),
    })
}

/// Writes wait for the disk: off the threads that serve others.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Error::internal(error)))
}

pub(crate) fn view(view: &impl Serialize) -> Result<Map<String, Value>, Error> {
    match serde_json::to_value(view) {
        Ok(Value::Object(view)) => Ok(view),
        Ok(_) => Err(Error::internal("a view is not an object")),
        Err(error) => Err(Error::internal(error)),
    }
}

/// Where the client found us: `http://HOST`, without the path. The scheme is that of the request's URI, which the
/// listener makes absolute when it speaks TLS.
#[derive(Debug)]
pub struct Root(pub String);

impl<S: Sync> FromRequestParts<S> for Root {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let scheme = parts.uri.scheme_str().unwrap_or("http");
        Ok(Self(format!("{scheme}://{}", host.unwrap_or("localhost"))))
    }
}

/// What does not parse is ignored, as in Neutron.
fn precondition(headers: &HeaderMap) -> Precondition {
    let text = headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok());
    let number = text.and_then(|text| text.trim_matches('"').strip_prefix("revision_number="));
    Precondition { revision_number: number.and_then(|number| number.trim().parse().ok()) }
}
