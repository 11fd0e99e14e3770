//! The handlers of a resource: one set for all of them.

use crate::backend::{Handles, Precondition, TagChange};
use crate::body::{self, Bulk};
use crate::query::Query;
use crate::{Caller, Error, Resource, list};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(crate) type Answer = Result<Response, Error>;
type Body = Result<Bytes, BytesRejection>;

pub(crate) async fn list<R: Resource, B: Handles<R>>(
    State(backend): State<Arc<B>>,
    headers: HeaderMap,
    uri: Uri,
) -> Answer {
    let query = Query::parse::<R>(&uri)?;
    let views = backend.list(&caller(&headers), &query.hints());
    let views: Vec<_> = views.iter().map(view).collect::<Result<_, _>>()?;
    let listed = list::apply::<R>(views, &query, &format!("{}{}", root(&headers), uri.path()))?;
    let mut answer = Map::new();
    answer.insert(R::COLLECTION.to_owned(), Value::Array(listed.views));
    if let Some(links) = listed.links {
        answer.insert(format!("{}_links", R::COLLECTION), Value::Array(links));
    }
    Ok(Json(answer).into_response())
}

pub(crate) async fn create<R: Resource, B: Handles<R>>(
    State(backend): State<Arc<B>>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let caller = caller(&headers);
    let (requests, many) = match body::create::<R>(&received(body)?)? {
        Bulk::One(request) => (vec![request], false),
        Bulk::Many(requests) => (requests, true),
    };
    let views = blocking(move || backend.create(&caller, requests)).await?;
    let mut views = views.iter().map(view).collect::<Result<Vec<_>, _>>()?;
    let answer = if many { json!({R::COLLECTION: views}) } else { json!({R::NAME: views.pop()}) };
    Ok((StatusCode::CREATED, Json(answer)).into_response())
}

pub(crate) async fn show<R: Resource, B: Handles<R>>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Answer {
    let fields = Query::parse_fields(&uri)?;
    let view = view(&backend.show(&caller(&headers), parse_id::<R>(id)?)?)?;
    Ok(Json(json!({R::NAME: list::trim(view, &fields)})).into_response())
}

pub(crate) async fn update<R: Resource, B: Handles<R>>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let change = body::update::<R>(&received(body)?)?;
    let id = parse_id::<R>(id)?;
    let (caller, precondition) = (caller(&headers), precondition(&headers));
    let updated = blocking(move || backend.update(&caller, id, change, precondition)).await?;
    Ok(Json(json!({R::NAME: view(&updated)?})).into_response())
}

pub(crate) async fn delete<R: Resource, B: Handles<R>>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let id = parse_id::<R>(id)?;
    let (caller, precondition) = (caller(&headers), precondition(&headers));
    blocking(move || backend.delete(&caller, id, precondition)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn list_tags<R: Resource, B: Handles<R>>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let tags = tags::<R, B>(&backend, id, &headers)?;
    Ok(Json(json!({"tags": tags})).into_response())
}

pub(crate) async fn replace_tags<R: Resource, B: Handles<R>>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let given = body::object(&received(body)?)?;
    let tags = given.get("tags").and_then(Value::as_array);
    let tags =
        tags.ok_or_else(|| Error::bad_request("Invalid input for tags. Reason: a list is required."))?;
    let tags = tags.iter().map(check_tag).collect::<Result<Vec<_>, _>>()?;
    let tags = change_tags::<R, B>(backend, id, &headers, TagChange::Replace(tags)).await?;
    Ok(Json(json!({"tags": tags})).into_response())
}

pub(crate) async fn delete_tags<R: Resource, B: Handles<R>>(
    State(backend): State<Arc<B>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    change_tags::<R, B>(backend, id, &headers, TagChange::Replace(Vec::new())).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn show_tag<R: Resource, B: Handles<R>>(
    State(backend): State<Arc<B>>,
    Path((id, tag)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    if tags::<R, B>(&backend, id, &headers)?.iter().any(|own| own == tag.as_str()) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(Error::TagNotFound { tag })
}

pub(crate) async fn add_tag<R: Resource, B: Handles<R>>(
    State(backend): State<Arc<B>>,
    Path((id, tag)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let tag = check_tag(&Value::String(tag))?;
    change_tags::<R, B>(backend, id, &headers, TagChange::Add(tag)).await?;
    Ok((StatusCode::CREATED, Json(Value::Null)).into_response())
}

pub(crate) async fn delete_tag<R: Resource, B: Handles<R>>(
    State(backend): State<Arc<B>>,
    Path((id, tag)): Path<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    change_tags::<R, B>(backend, id, &headers, TagChange::Remove(tag)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn tags<R: Resource, B: Handles<R>>(
    backend: &B,
    id: String,
    headers: &HeaderMap,
) -> Result<Vec<Value>, Error> {
    let view = view(&backend.show(&caller(headers), parse_id::<R>(id)?)?)?;
    Ok(view.get("tags").and_then(Value::as_array).cloned().unwrap_or_default())
}

async fn change_tags<R: Resource, B: Handles<R>>(
    backend: Arc<B>,
    id: String,
    headers: &HeaderMap,
    change: TagChange,
) -> Result<Vec<String>, Error> {
    let id = parse_id::<R>(id)?;
    let caller = caller(headers);
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

/// Who sent the request. Without authentication everybody is the administrator; the listener admits only
/// this machine.
pub(crate) fn caller(_headers: &HeaderMap) -> Caller {
    Caller::nobody()
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

/// `http://HOST` as the client addressed us.
pub(crate) fn root(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    format!("http://{host}")
}

/// What does not parse is ignored, as in Neutron.
fn precondition(headers: &HeaderMap) -> Precondition {
    let text = headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok());
    let number = text.and_then(|text| text.trim_matches('"').strip_prefix("revision_number="));
    Precondition { revision_number: number.and_then(|number| number.trim().parse().ok()) }
}
