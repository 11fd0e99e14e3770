//! The routes, and what holds for all of them: request ids, body limit, 404 and 405.

use crate::backend::{Backend, Handles};
use crate::handlers::{self, Answer, root};
use crate::{Error, Resource, actions, admin, extensions, observe, trace};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, http::HeaderName};
use model::resource;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// Larger bodies are refused.
pub const BODY_BYTES_MAX: usize = 1 << 20;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");

/// Everything the API serves.
pub fn router<B: Backend>(backend: Arc<B>) -> Router {
    let neutron = Router::new()
        .route("/v2.0", get(version))
        .route("/v2.0/", get(resources))
        .route("/v2.0/extensions", get(async || Json(extensions::list())))
        .route("/v2.0/extensions/{alias}", get(extension))
        .merge(tagged::<resource::Network, B>())
        .merge(tagged::<resource::Subnet, B>())
        .merge(tagged::<resource::Port, B>())
        .merge(tagged::<resource::Router, B>())
        .merge(tagged::<resource::FloatingIp, B>())
        .merge(agents::<B>())
        .route("/v2.0/routers/{id}/{action}", put(actions::act::<B>))
        .layer(middleware::from_fn(request_id));
    Router::new()
        .route("/", get(versions))
        .merge(neutron)
        .route("/nanboku/v1/hosts", get(admin::hosts::<B>))
        .route("/nanboku/v1/hosts/{id}", get(admin::host::<B>))
        .route("/nanboku/v1/status", get(admin::status::<B>))
        .route("/nanboku/v1/blocks", get(admin::blocks::<B>))
        .route("/nanboku/v1/who", get(admin::who::<B>))
        .route("/nanboku/v1/sessions", get(observe::sessions::<B>).delete(observe::end_sessions::<B>))
        .route("/nanboku/v1/trace", post(trace::trace::<B>))
        .route("/nanboku/v1/fdb", get(observe::fdb::<B>))
        .route("/nanboku/v1/neighbors", get(observe::neighbors::<B>))
        .route("/nanboku/v1/flows", get(observe::flows::<B>))
        .route("/nanboku/v1/port-counters", get(observe::ports::<B>))
        .fallback(async || Error::HTTPNotFound {})
        .method_not_allowed_fallback(async || Error::HTTPMethodNotAllowed {})
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(one_error_body))
        .with_state(backend)
}

fn tagged<R: Resource, B: Handles<R>>() -> Router<Arc<B>> {
    let collection = format!("/v2.0/{}", R::COLLECTION);
    let one = format!("{collection}/{{id}}");
    let all_tags = get(handlers::list_tags::<R, B>)
        .put(handlers::replace_tags::<R, B>)
        .delete(handlers::delete_tags::<R, B>);
    let one_tag =
        get(handlers::show_tag::<R, B>).put(handlers::add_tag::<R, B>).delete(handlers::delete_tag::<R, B>);
    Router::new()
        .route(&collection, get(handlers::list::<R, B>).post(handlers::create::<R, B>))
        .route(
            &one,
            get(handlers::show::<R, B>).put(handlers::update::<R, B>).delete(handlers::delete::<R, B>),
        )
        .route(&format!("{one}/tags"), all_tags)
        .route(&format!("{one}/tags/{{tag}}"), one_tag)
}

/// Agents are made by connecting and have no tags.
fn agents<B: Handles<resource::Host>>() -> Router<Arc<B>> {
    let one = get(handlers::show::<resource::Host, B>)
        .put(handlers::update::<resource::Host, B>)
        .delete(handlers::delete::<resource::Host, B>);
    Router::new()
        .route("/v2.0/agents", get(handlers::list::<resource::Host, B>))
        .route("/v2.0/agents/{id}", one)
}

async fn versions(headers: HeaderMap) -> Json<Value> {
    Json(json!({"versions": [version_document(&headers)]}))
}

/// Friendlier than the reference, which does not know this path: some clients look for a version here.
async fn version(headers: HeaderMap) -> Json<Value> {
    Json(json!({"version": version_document(&headers)}))
}

fn version_document(headers: &HeaderMap) -> Value {
    let href = format!("{}/v2.0/", root(headers));
    json!({"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": href}]})
}

async fn resources(headers: HeaderMap) -> Json<Value> {
    let names = [
        (resource::Network::NAME, resource::Network::COLLECTION),
        (resource::Subnet::NAME, resource::Subnet::COLLECTION),
        (resource::Port::NAME, resource::Port::COLLECTION),
        (resource::Router::NAME, resource::Router::COLLECTION),
        (resource::FloatingIp::NAME, resource::FloatingIp::COLLECTION),
        (resource::Host::NAME, resource::Host::COLLECTION),
        ("extension", "extensions"),
    ];
    let list = names.map(|(name, collection)| {
        let href = format!("{}/v2.0/{collection}", root(&headers));
        json!({"name": name, "collection": collection, "links": [{"rel": "self", "href": href}]})
    });
    Json(json!({"resources": list}))
}

async fn extension(Path(alias): Path<String>) -> Answer {
    Ok(Json(extensions::show(&alias)?).into_response())
}

/// What the framework refuses by itself (a path that is not UTF-8) is told like everything else.
async fn one_error_body(response: Response) -> Response {
    let status = response.status();
    let json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    match status {
        StatusCode::NOT_FOUND => Error::HTTPNotFound {}.into_response(),
        StatusCode::METHOD_NOT_ALLOWED => Error::HTTPMethodNotAllowed {}.into_response(),
        _ if status.is_client_error() => Error::bad_request("The request is not valid").into_response(),
        _ => Error::internal(format!("the framework answered {status}")).into_response(),
    }
}

/// Every answer under `/v2.0` names its request.
async fn request_id(request: Request, next: Next) -> Response {
    let id = format!("req-{}", Uuid::new_v4());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    tracing::debug!(request = id, %method, path, status = response.status().as_u16(), "answered");
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
