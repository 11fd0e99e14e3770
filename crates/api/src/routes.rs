//! The routes, and what holds for all of them: request ids, body limit, 404 and 405.

use crate::backend::{Backend, Handles};
use crate::caller::Authenticate;
use crate::handlers::{self, Answer, Root};
use crate::policy::Facts;
use crate::{
    Error, Resource, access, actions, address_actions, admin, capture, extensions, observe, overview,
    pool_actions, port_forwardings, quotas, restconf, trace,
};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use axum::{Json, http::HeaderName};
use model::metering::{MeteringLabel, MeteringLabelRule};
use model::rbac::RbacPolicy;
use model::resource;
use model::security::{AddressGroup, DefaultSecurityGroupRule, SecurityGroup, SecurityGroupRule};
use model::subnet_pool::{AddressScope, SubnetPool};
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// Larger bodies are refused.
pub const BODY_BYTES_MAX: usize = 1 << 20;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-openstack-request-id");

/// Everything the API serves, to callers who are all the administrator: for listeners that only the operator reaches.
pub fn router<B: Backend>(backend: Arc<B>) -> Router {
    finished(routes::<B>().router.layer(middleware::from_fn(access::trust)), backend)
}

/// Everything the API serves, to callers with a token.
pub fn authenticated<B: Backend, A: Authenticate>(backend: Arc<B>, authentication: Arc<A>) -> Router {
    let access = middleware::from_fn_with_state(authentication, access::authenticate::<A>);
    finished(routes::<B>().router.layer(access), backend)
}

/// Every path the API serves, as it is declared: for tests that none is forgotten.
pub fn paths<B: Backend>() -> Vec<String> {
    routes::<B>().paths
}

fn finished<B: Backend>(router: Router<Arc<B>>, backend: Arc<B>) -> Router {
    router
        .layer(middleware::from_fn(request_id))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::map_response(one_error_body))
        .layer(middleware::from_fn(restconf::in_restconf_form))
        .with_state(backend)
}

/// A router that remembers its paths.
struct Routes<S> {
    router: Router<S>,
    paths: Vec<String>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    fn new() -> Self {
        Self { router: Router::new(), paths: Vec::new() }
    }

    fn route(mut self, path: &str, methods: MethodRouter<S>) -> Self {
        self.paths.push(path.to_owned());
        Self { router: self.router.route(path, methods), ..self }
    }

    fn merge(mut self, other: Self) -> Self {
        self.paths.extend(other.paths);
        Self { router: self.router.merge(other.router), ..self }
    }

    fn fallbacks(self) -> Self {
        let router = self.router.fallback(async || Error::HTTPNotFound {});
        Self { router: router.method_not_allowed_fallback(async || Error::HTTPMethodNotAllowed {}), ..self }
    }
}

fn routes<B: Backend>() -> Routes<Arc<B>> {
    Routes::new()
        .route("/", get(versions))
        .route("/v2.0", get(version))
        .route("/v2.0/", get(resources))
        .route("/v2.0/extensions", get(async || Json(extensions::list())))
        .route("/v2.0/extensions/{alias}", get(extension))
        .merge(tagged::<resource::Network, B>())
        .merge(tagged::<resource::Subnet, B>())
        .merge(tagged::<resource::Port, B>())
        .merge(tagged::<resource::Router, B>())
        .merge(tagged::<resource::FloatingIp, B>())
        .route(
            "/v2.0/floatingips/{id}/port_forwardings",
            get(port_forwardings::list::<B>).post(port_forwardings::create::<B>),
        )
        .route(
            "/v2.0/floatingips/{id}/port_forwardings/{forwarding}",
            get(port_forwardings::show::<B>)
                .put(port_forwardings::update::<B>)
                .delete(port_forwardings::delete::<B>),
        )
        .merge(tagged::<SecurityGroup, B>())
        .merge(fixed::<SecurityGroupRule, B>())
        .merge(fixed::<DefaultSecurityGroupRule, B>())
        .merge(plain::<AddressGroup, B>())
        .route("/v2.0/address-groups/{id}/{action}", put(address_actions::act::<B>))
        .merge(plain::<RbacPolicy, B>())
        .merge(fixed::<MeteringLabel, B>())
        .merge(fixed::<MeteringLabelRule, B>())
        .merge(tagged::<SubnetPool, B>())
        .merge(plain::<AddressScope, B>())
        .merge(agents::<B>())
        .route("/v2.0/subnetpools/{id}/{action}", put(pool_actions::act::<B>))
        .route("/v2.0/routers/{id}/{action}", put(actions::act::<B>))
        .route("/v2.0/network-ip-availabilities", get(overview::ip_availabilities::<B>))
        .route("/v2.0/network-ip-availabilities/{id}", get(overview::ip_availability_of::<B>))
        .route("/v2.0/availability_zones", get(overview::availability_zones))
        .route("/v2.0/service-providers", get(overview::service_providers))
        .route("/v2.0/quotas", get(quotas::list::<B>))
        .route("/v2.0/quotas/tenant", get(quotas::own))
        .route("/v2.0/quotas/project", get(quotas::own))
        .route(
            "/v2.0/quotas/{id}",
            get(quotas::show::<B>).put(quotas::update::<B>).delete(quotas::reset::<B>),
        )
        .route("/v2.0/quotas/{id}/default", get(quotas::show_default::<B>))
        .route("/v2.0/quotas/{id}/details", get(quotas::show_details::<B>))
        .route("/v2.0/quotas/{id}/details.json", get(quotas::show_details::<B>))
        .route("/nanboku/v1/hosts", get(admin::hosts::<B>))
        .route("/nanboku/v1/hosts/{id}", get(admin::host::<B>))
        .route("/nanboku/v1/status", get(admin::status::<B>))
        .route("/nanboku/v1/blocks", get(admin::blocks::<B>))
        .route("/nanboku/v1/who", get(admin::who::<B>))
        .route("/nanboku/v1/sessions", get(observe::sessions::<B>).delete(observe::end_sessions::<B>))
        .route("/nanboku/v1/capture", get(capture::capture::<B>))
        .route("/nanboku/v1/trace", post(trace::trace::<B>))
        .route("/nanboku/v1/fdb", get(observe::fdb::<B>))
        .route("/nanboku/v1/neighbors", get(observe::neighbors::<B>))
        .route("/nanboku/v1/flows", get(observe::flows::<B>))
        .route("/nanboku/v1/metering", get(observe::metering::<B>))
        .route("/nanboku/v1/port-counters", get(observe::ports::<B>))
        .merge(management::<B>())
        .fallbacks()
}

/// RESTCONF.
fn management<B: Backend>() -> Routes<Arc<B>> {
    let everywhere = |methods: MethodRouter<Arc<B>>| methods.options(restconf::options);
    Routes::new()
        .route("/.well-known/host-meta", get(restconf::host_meta))
        .route("/restconf", everywhere(get(restconf::root)))
        .route("/restconf/operations", everywhere(get(restconf::operations)))
        .route("/restconf/yang-library-version", everywhere(get(restconf::version)))
        .route("/restconf/data", everywhere(get(restconf::data::<B>)))
        .route("/restconf/data/{*path}", everywhere(get(restconf::data::<B>)))
}

fn tagged<R: Resource, B: Handles<R> + Facts>() -> Routes<Arc<B>> {
    let collection = format!("/v2.0/{}", R::PATH);
    let one = format!("{collection}/{{id}}");
    let all_tags = get(handlers::list_tags::<R, B>)
        .put(handlers::replace_tags::<R, B>)
        .delete(handlers::delete_tags::<R, B>);
    let one_tag =
        get(handlers::show_tag::<R, B>).put(handlers::add_tag::<R, B>).delete(handlers::delete_tag::<R, B>);
    Routes::new()
        .route(&collection, get(handlers::list::<R, B>).post(handlers::create::<R, B>))
        .route(
            &one,
            get(handlers::show::<R, B>).put(handlers::update::<R, B>).delete(handlers::delete::<R, B>),
        )
        .route(&format!("{one}/tags"), all_tags)
        .route(&format!("{one}/tags/{{tag}}"), one_tag)
}

/// What never changes and has no tags.
fn fixed<R: Resource, B: Handles<R> + Facts>() -> Routes<Arc<B>> {
    let collection = format!("/v2.0/{}", R::PATH);
    let all = get(handlers::list::<R, B>).post(handlers::create::<R, B>);
    let one = get(handlers::show::<R, B>).delete(handlers::delete::<R, B>);
    Routes::new().route(&collection, all).route(&format!("{collection}/{{id}}"), one)
}

/// Without tags.
fn plain<R: Resource, B: Handles<R> + Facts>() -> Routes<Arc<B>> {
    let collection = format!("/v2.0/{}", R::PATH);
    Routes::new().route(&collection, get(handlers::list::<R, B>).post(handlers::create::<R, B>)).route(
        &format!("{collection}/{{id}}"),
        get(handlers::show::<R, B>).put(handlers::update::<R, B>).delete(handlers::delete::<R, B>),
    )
}

/// Agents are made by connecting and have no tags.
fn agents<B: Handles<resource::Host> + Facts>() -> Routes<Arc<B>> {
    let one = get(handlers::show::<resource::Host, B>)
        .put(handlers::update::<resource::Host, B>)
        .delete(handlers::delete::<resource::Host, B>);
    Routes::new()
        .route("/v2.0/agents", get(handlers::list::<resource::Host, B>))
        .route("/v2.0/agents/{id}", one)
}

async fn versions(Root(root): Root) -> Json<Value> {
    Json(json!({"versions": [version_document(&root)]}))
}

/// Friendlier than the reference, which does not know this path: some clients look for a version here.
async fn version(Root(root): Root) -> Json<Value> {
    Json(json!({"version": version_document(&root)}))
}

fn version_document(root: &str) -> Value {
    let href = format!("{root}/v2.0/");
    json!({"id": "v2.0", "status": "CURRENT", "links": [{"rel": "self", "href": href}]})
}

async fn resources(Root(root): Root) -> Json<Value> {
    let names = [
        (resource::Network::NAME, resource::Network::COLLECTION),
        (resource::Subnet::NAME, resource::Subnet::COLLECTION),
        (resource::Port::NAME, resource::Port::COLLECTION),
        (resource::Router::NAME, resource::Router::COLLECTION),
        (resource::FloatingIp::NAME, resource::FloatingIp::COLLECTION),
        (SecurityGroup::NAME, SecurityGroup::PATH),
        (SecurityGroupRule::NAME, SecurityGroupRule::PATH),
        (DefaultSecurityGroupRule::NAME, DefaultSecurityGroupRule::PATH),
        (AddressGroup::NAME, AddressGroup::PATH),
        (RbacPolicy::NAME, RbacPolicy::PATH),
        (MeteringLabel::NAME, MeteringLabel::PATH),
        (MeteringLabelRule::NAME, MeteringLabelRule::PATH),
        (SubnetPool::NAME, SubnetPool::PATH),
        (AddressScope::NAME, AddressScope::PATH),
        (resource::Host::NAME, resource::Host::COLLECTION),
        ("extension", "extensions"),
    ];
    let list = names.map(|(name, collection)| {
        let href = format!("{root}/v2.0/{collection}");
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
    let kind = response.headers().get(header::CONTENT_TYPE);
    let json = kind.is_some_and(|kind| kind == "application/json" || kind == restconf::MEDIA_TYPE);
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
    if !path.starts_with("/v2.0") {
        return next.run(request).await;
    }
    let mut response = next.run(request).await;
    tracing::debug!(request = id, %method, path, status = response.status().as_u16(), "answered");
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
