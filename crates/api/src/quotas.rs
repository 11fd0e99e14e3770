//! `/v2.0/quotas`: what a project may have. Members read their own, administrators read and set all.

use crate::backend::{QuotaUse, Quotas};
use crate::handlers::{Answer, blocking, received};
use crate::{Caller, Error, attribute, body, policy};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use model::quota::{Counted, LIMIT_MAX, UNLIMITED};
use serde_json::{Map, Value, json};
use std::sync::Arc;

fn must_be_admin(caller: &Caller, action: &str) -> Result<(), Error> {
    if caller.is_admin() { Ok(()) } else { Err(policy::forbidden(action, "quota")) }
}

fn may_read(caller: &Caller, project_id: &str) -> Result<(), Error> {
    if caller.owns(project_id) { Ok(()) } else { must_be_admin(caller, "get") }
}

fn limits(quota: &[QuotaUse]) -> Map<String, Value> {
    quota.iter().map(|part| (part.counted.name().to_owned(), part.limit.into())).collect()
}

/// Of the projects for which something was set.
pub(crate) async fn list<B: Quotas>(State(backend): State<Arc<B>>, caller: Caller) -> Answer {
    must_be_admin(&caller, "get")?;
    let one = |project_id: String| {
        let mut quota = limits(&backend.quota(&project_id));
        quota.insert("tenant_id".to_owned(), project_id.clone().into());
        quota.insert("project_id".to_owned(), project_id.into());
        quota
    };
    let quotas: Vec<_> = backend.projects_with_quota().into_iter().map(one).collect();
    Ok(Json(json!({"quotas": quotas})).into_response())
}

/// Whose quota the caller's is.
pub(crate) async fn own(caller: Caller) -> Answer {
    Ok(Json(json!({"tenant": {"tenant_id": caller.project_id}})).into_response())
}

pub(crate) async fn show<B: Quotas>(
    State(backend): State<Arc<B>>,
    Path(project_id): Path<String>,
    caller: Caller,
) -> Answer {
    may_read(&caller, &project_id)?;
    Ok(Json(json!({"quota": limits(&backend.quota(&project_id))})).into_response())
}

pub(crate) async fn show_default<B: Quotas>(
    State(backend): State<Arc<B>>,
    Path(project_id): Path<String>,
    caller: Caller,
) -> Answer {
    may_read(&caller, &project_id)?;
    let default = backend.default_quota();
    let limits: Map<String, Value> = Counted::ALL
        .map(|counted| (counted.name().to_owned(), default.limit(counted).into()))
        .into_iter()
        .collect();
    Ok(Json(json!({"quota": limits})).into_response())
}

pub(crate) async fn show_details<B: Quotas>(
    State(backend): State<Arc<B>>,
    Path(project_id): Path<String>,
    caller: Caller,
) -> Answer {
    may_read(&caller, &project_id)?;
    let part = |part: QuotaUse| {
        let QuotaUse { counted, limit, used } = part;
        (counted.name().to_owned(), json!({"limit": limit, "used": used, "reserved": 0}))
    };
    let details: Map<String, Value> = backend.quota(&project_id).into_iter().map(part).collect();
    Ok(Json(json!({"quota": details})).into_response())
}

pub(crate) async fn update<B: Quotas>(
    State(backend): State<Arc<B>>,
    Path(project_id): Path<String>,
    caller: Caller,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let (limits, check_limit) = requested(&received(body)?)?;
    must_be_admin(&caller, "update")?;
    let quota = blocking(move || backend.set_quota(&project_id, &limits, check_limit)).await?;
    Ok(Json(json!({"quota": self::limits(&quota)})).into_response())
}

pub(crate) async fn reset<B: Quotas>(
    State(backend): State<Arc<B>>,
    Path(project_id): Path<String>,
    caller: Caller,
) -> Answer {
    must_be_admin(&caller, "delete")?;
    blocking(move || backend.reset_quota(&project_id)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn requested(bytes: &[u8]) -> Result<(Vec<(Counted, i64)>, bool), Error> {
    let Value::Object(given) = body::envelope(body::object(bytes)?, "quota")? else {
        return Err(Error::bad_request("Object 'quota' contains invalid data"));
    };
    let mut check_limit = false;
    let mut limits = Vec::new();
    for (name, value) in given {
        let refuse =
            |reason: String| Error::bad_request(format!("Invalid input for {name}. Reason: {reason}."));
        if name == "check_limit" || name == "force" {
            let set = attribute::check::boolean(&value).map_err(refuse)?;
            check_limit = if name == "check_limit" { set == json!(true) } else { check_limit };
            continue;
        }
        let counted = Counted::ALL.into_iter().find(|counted| counted.name() == name);
        let counted =
            counted.ok_or_else(|| Error::bad_request(format!("Unrecognized attribute(s) '{name}'")))?;
        let limit = attribute::check::integer(&value).map_err(refuse)?.as_i64().unwrap_or(UNLIMITED);
        if !(UNLIMITED..=LIMIT_MAX).contains(&limit) {
            return Err(refuse(format!("'{limit}' is not between {UNLIMITED} and {LIMIT_MAX}")));
        }
        limits.push((counted, limit));
    }
    Ok((limits, check_limit))
}
