//! `/v3/auth`: tokens and what they open.

use crate::directory::Identity;
use crate::fields::{self, Body};
use crate::login::Login;
use crate::resources::listed;
use crate::routes::{Answer, Caller, blocking};
use crate::{Error, Scope, Source, secret, view};
use api::Root;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use model::identity::{Domain, Project, Target, Token, User, UserId};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

const SUBJECT: HeaderName = HeaderName::from_static("x-subject-token");

type Pairs = Query<Vec<(String, String)>>;

pub(crate) async fn issue(
    State(identity): State<Arc<Identity>>,
    Root(root): Root,
    Query(query): Pairs,
    source: Option<Extension<Source>>,
    body: Body,
) -> Answer {
    let login = Login::parse(fields::object(body)?)?;
    let source = source.map_or(Source::Local, |Extension(source)| source);
    let (text, session) = identity.log_in(login, source).await?;
    let root = with_catalog(&query).then_some(root.as_str());
    let view = view::token(&session, root, &identity.settings.region);
    let mut response = (StatusCode::CREATED, Json(view)).into_response();
    subject(&mut response, &text)?;
    Ok(response)
}

/// What is true of the token in `X-Subject-Token`: for its owner, and for services that ask about their callers.
pub(crate) async fn validate(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
    Query(query): Pairs,
    headers: HeaderMap,
) -> Answer {
    let text = subject_of(&headers)?;
    let session = identity.session(text).filter(|session| {
        session.user.id == caller.session.user.id
            || caller.session.is_admin()
            || caller.session.has_role("service")
    });
    let session =
        session.ok_or_else(|| Error::not_found("token", "it is not valid, or not yours to ask about"))?;
    let root = with_catalog(&query).then_some(root.as_str());
    let mut response = Json(view::token(&session, root, &identity.settings.region)).into_response();
    subject(&mut response, text)?;
    Ok(response)
}

pub(crate) async fn revoke(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    headers: HeaderMap,
) -> Answer {
    let id = secret::token_id(subject_of(&headers)?);
    blocking(move || {
        identity.write(|tx| {
            let token = tx.tokens.get(&id).cloned();
            let token =
                token.filter(|token| token.user == caller.session.user.id || caller.session.is_admin());
            let token = token.ok_or_else(|| Error::not_found("token", "it is not valid, or not yours"))?;
            tx.remove::<Token>(token.id);
            Ok(())
        })
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(crate) async fn catalog(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
) -> Answer {
    if matches!(caller.session.scope, Scope::Unscoped) {
        return Err(Error::Refused { message: "The catalog needs a token with a scope." });
    }
    let catalog = view::catalog(&root, &identity.settings.region);
    let links = json!({"self": format!("{root}/v3/auth/catalog"), "next": null, "previous": null});
    Ok(Json(json!({"catalog": catalog, "links": links})).into_response())
}

/// Projects the caller may have a token for.
pub(crate) async fn own_projects(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
    query: Pairs,
) -> Answer {
    projects_of(&identity, caller.session.user.id, &root, &query)
}

/// The same at `/v3/users/{id}/projects`.
pub(crate) async fn projects(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
    Path(user): Path<String>,
    query: Pairs,
) -> Answer {
    if !caller.may_see::<User>(&user) {
        return Err(Error::Forbidden { action: "identity:list_user_projects" });
    }
    let user = crate::resources::find::<User>(&identity.snapshot(), &user)?.id;
    projects_of(&identity, user, &root, &query)
}

fn projects_of(identity: &Identity, user: UserId, root: &str, query: &Pairs) -> Answer {
    let snapshot = identity.snapshot();
    let ids: BTreeSet<_> = snapshot
        .assignments_of_user(user)
        .filter_map(|assignment| match assignment.target {
            Target::Project(id) => Some(id),
            Target::Domain(_) | Target::System => None,
        })
        .collect();
    let projects = ids.iter().filter_map(|id| snapshot.projects.get(id)).filter(|project| project.enabled);
    listed::<Project>(projects.cloned(), query, root)
}

/// Domains the caller may have a token for.
pub(crate) async fn own_domains(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
    query: Pairs,
) -> Answer {
    let snapshot = identity.snapshot();
    let ids: BTreeSet<_> = snapshot
        .assignments_of_user(caller.session.user.id)
        .filter_map(|assignment| match assignment.target {
            Target::Domain(id) => Some(id),
            Target::Project(_) | Target::System => None,
        })
        .collect();
    let domains = ids.iter().filter_map(|id| snapshot.domains.get(id)).filter(|domain| domain.enabled);
    listed::<Domain>(domains.cloned(), &query, &root)
}

/// `/v3/services`, `/v3/endpoints`, `/v3/regions`: the catalog once more, as `openstack service list` reads it.
pub(crate) async fn services(caller: Caller, Root(root): Root) -> Answer {
    caller.must_be_admin("services")?;
    let service = |(kind, name, id, _): (&str, &str, &str, &str)| {
        let links = json!({"self": format!("{root}/v3/services/{id}")});
        json!({"id": id, "type": kind, "name": name, "enabled": true, "links": links})
    };
    Ok(Json(crate::resources::collection("services", view::SERVICES.map(service).into(), &root))
        .into_response())
}

pub(crate) async fn endpoints(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
) -> Answer {
    caller.must_be_admin("endpoints")?;
    let of_service = |(_, _, id, path): (&str, &str, &'static str, &str)| {
        let endpoints = view::endpoints(id, &format!("{root}{path}"), &identity.settings.region);
        endpoints.into_iter().map(move |mut endpoint| {
            if let Value::Object(endpoint) = &mut endpoint {
                endpoint.insert("service_id".to_owned(), id.into());
                endpoint.insert("enabled".to_owned(), true.into());
            }
            endpoint
        })
    };
    let all = view::SERVICES.into_iter().flat_map(of_service).collect();
    Ok(Json(crate::resources::collection("endpoints", all, &root)).into_response())
}

pub(crate) async fn regions(
    State(identity): State<Arc<Identity>>,
    _caller: Caller,
    Root(root): Root,
) -> Answer {
    let region = json!({"id": identity.settings.region, "description": "", "parent_region_id": null});
    Ok(Json(crate::resources::collection("regions", vec![region], &root)).into_response())
}

fn with_catalog(query: &[(String, String)]) -> bool {
    !query.iter().any(|(key, _)| key == "nocatalog")
}

fn subject_of(headers: &HeaderMap) -> Result<&str, Error> {
    let text = headers.get(SUBJECT).and_then(|value| value.to_str().ok());
    text.ok_or_else(|| Error::bad_request("The header X-Subject-Token is required."))
}

fn subject(response: &mut Response, text: &str) -> Result<(), Error> {
    let headers = response.headers_mut();
    let mut value = HeaderValue::from_str(text).map_err(Error::internal)?;
    value.set_sensitive(true);
    headers.insert(SUBJECT, value);
    headers.insert(header::VARY, HeaderValue::from_static("X-Auth-Token"));
    Ok(())
}
