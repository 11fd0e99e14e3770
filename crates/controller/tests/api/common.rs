//! A client of an API in memory.

use api::{Authenticate, AuthenticationError, Caller, Rank};
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode};
use controller::agents::Hub;
use controller::nat_log::NatLog;
use controller::service::{Service, Settings};
use http_body_util::BodyExt;
use model::quota::Counted;
use serde_json::{Value, json};
use std::sync::Arc;
use store::Store;
use tower::ServiceExt;

/// 2026-11-22T06:00:00Z.
pub(crate) const NOW: i64 = 1_795_327_200;
pub(crate) const UNKNOWN: &str = "deadbeef-dead-4bee-8ade-deadbeefdead";

pub(crate) struct Api {
    router: Router,
    pub(crate) store: Arc<Store>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Api {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(Store::open(None).unwrap()), None)
    }

    /// One whose operator decided otherwise about ports.
    pub(crate) fn with_quota_of_ports(limit: i64) -> Self {
        let mut settings = Settings::default();
        settings.quotas.set(Counted::Port, limit);
        Self::with(Arc::new(Store::open(None).unwrap()), None, settings)
    }

    pub(crate) fn over(store: Arc<Store>, nat_log: Option<Arc<NatLog>>) -> Self {
        Self::with(store, nat_log, Settings::default())
    }

    fn with(store: Arc<Store>, nat_log: Option<Arc<NatLog>>, settings: Settings) -> Self {
        let hub = Arc::new(Hub::new(Arc::clone(&store)));
        let service = Service::new(Arc::clone(&store), hub, settings, || NOW);
        let service = service.with_nat_log(nat_log);
        Self { router: api::router(Arc::new(service)), store }
    }

    /// One whose callers are what their tokens say: `PROJECT/ROLE`.
    pub(crate) fn with_callers() -> Self {
        let store = Arc::new(Store::open(None).unwrap());
        let hub = Arc::new(Hub::new(Arc::clone(&store)));
        let service = Service::new(Arc::clone(&store), hub, Settings::default(), || NOW);
        Self { router: api::authenticated(Arc::new(service), Arc::new(Callers)), store }
    }

    /// A request with that token; the empty one is none.
    pub(crate) async fn call_as(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let mut request = request(method, path, &body);
        if !token.is_empty() {
            request.headers_mut().insert("x-auth-token", token.parse().unwrap());
        }
        self.send(request).await
    }

    /// POST of one that must succeed; returns it without its envelope.
    pub(crate) async fn create_as(&self, token: &str, name: &str, attributes: Value) -> Value {
        let path = path_of(name);
        let answer = self.call_as(token, "POST", &path, json!({name: attributes})).await;
        assert_eq!(answer.status, 201, "{token} POST {path}: {}", answer.body);
        answer.body[name].clone()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let kind = parts.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let body = match kind {
            _ if bytes.is_empty() => Value::Null,
            "application/xrd+xml" => String::from_utf8(bytes.to_vec()).unwrap().into(),
            _ => serde_json::from_slice(&bytes).unwrap(),
        };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.send(request(method, path, &body)).await
    }

    /// GET that must succeed.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, Value::Null).await;
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.body);
        answer.body
    }

    /// POST of one that must succeed; returns it without its envelope.
    pub(crate) async fn create(&self, name: &str, attributes: Value) -> Value {
        let path = path_of(name);
        let answer = self.call("POST", &path, json!({name: attributes})).await;
        assert_eq!(answer.status, 201, "POST {path}: {}", answer.body);
        answer.body[name].clone()
    }

    /// PUT that must succeed; returns the object without its envelope.
    pub(crate) async fn update(&self, name: &str, id: &Value, attributes: Value) -> Value {
        let path = format!("{}/{}", path_of(name), text(id));
        let answer = self.call("PUT", &path, json!({name: attributes})).await;
        assert_eq!(answer.status, 200, "PUT {path}: {}", answer.body);
        answer.body[name].clone()
    }

    pub(crate) async fn delete(&self, name: &str, id: &Value) {
        let path = format!("{}/{}", path_of(name), text(id));
        let answer = self.call("DELETE", &path, Value::Null).await;
        assert_eq!(answer.status, 204, "DELETE {path}: {}", answer.body);
        assert_eq!(answer.body, Value::Null, "a 204 has no body");
    }

    /// A router's action that must succeed.
    pub(crate) async fn act(&self, router: &Value, action: &str, body: Value) -> Value {
        let path = format!("/v2.0/routers/{}/{action}", text(router));
        let answer = self.call("PUT", &path, body).await;
        assert_eq!(answer.status, 200, "PUT {path}: {}", answer.body);
        answer.body
    }

    /// Each row must be refused with that status and type, and change nothing.
    pub(crate) async fn refuses(&self, table: &[Refusal<'_>]) {
        for Refusal { name, method, path, body, status, type_name, message } in table {
            let before = self.store.snapshot().revision;
            let answer = self.call(method, path, body.clone()).await;
            let error = &answer.body["NeutronError"];
            assert_eq!(answer.status.as_u16(), *status, "{name}: {}", answer.body);
            assert_eq!(error["type"], *type_name, "{name}: {}", answer.body);
            assert_eq!(error["detail"], "", "{name}");
            let said = error["message"].as_str().unwrap_or_default();
            assert!(said.contains(message), "{name}: '{said}' does not contain '{message}'");
            assert_eq!(answer.headers["content-type"], "application/json", "{name}");
            assert_eq!(self.store.snapshot().revision, before, "{name}: something changed");
        }
    }

    /// A tenant network with a subnet.
    pub(crate) async fn tenant(&self, name: &str, cidr: &str) -> (Value, Value) {
        let network = self.create("network", json!({"name": name})).await;
        let attributes = json!({"network_id": network["id"], "ip_version": 4, "cidr": cidr});
        let subnet = self.create("subnet", attributes).await;
        (network, subnet)
    }

    /// The external network of the `fvn` scenario.
    pub(crate) async fn external(&self) -> (Value, Value) {
        let network = self
            .create(
                "network",
                json!({
                    "name": "uplink", "router:external": true, "provider:network_type": "vlan",
                    "provider:physical_network": "physnet1", "provider:segmentation_id": 2207,
                }),
            )
            .await;
        let subnet = self
            .create(
                "subnet",
                json!({
                    "network_id": network["id"], "ip_version": 4, "cidr": "172.22.7.0/24",
                    "gateway_ip": "172.22.7.1", "enable_dhcp": false,
                    "allocation_pools": [{"start": "172.22.7.27", "end": "172.22.7.40"}],
                }),
            )
            .await;
        (network, subnet)
    }

    /// A router with a gateway on `external`, at its first address, and an interface on `subnet`.
    pub(crate) async fn router(&self, external: &Value, subnet: &Value) -> Value {
        let addresses = json!([{"ip_address": "172.22.7.27"}]);
        let gateway = json!({"network_id": external["id"], "external_fixed_ips": addresses});
        let router = self.create("router", json!({"name": "blue", "external_gateway_info": gateway})).await;
        self.act(&router["id"], "add_router_interface", json!({"subnet_id": subnet["id"]})).await;
        router
    }
}

/// The collection of what has that envelope.
pub(crate) fn path_of(name: &str) -> String {
    let below = if name.starts_with("metering") { "metering/" } else { "" };
    let path = format!("{below}{}", name.replace('_', "-"));
    path.strip_suffix('y').map_or_else(|| format!("/v2.0/{path}s"), |stem| format!("/v2.0/{stem}ies"))
}

fn request(method: &str, path: &str, body: &Value) -> Request<Body> {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    Request::builder()
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .uri(path)
        .header("host", "127.0.0.1:9696")
        .header("content-type", "application/json")
        .body(Body::from(bytes))
        .unwrap()
}

/// Tokens that say themselves who has them.
struct Callers;

impl Authenticate for Callers {
    async fn authenticate(&self, token: &str) -> Result<Caller, AuthenticationError> {
        let (project, role) = token.split_once('/').ok_or(AuthenticationError::Unauthorized)?;
        if role == "unavailable" {
            return Err(AuthenticationError::Unavailable("it is down".into()));
        }
        Ok(Caller { project_id: project.to_owned(), rank: Rank::of([role]) })
    }
}

/// A request that must fail, and how.
pub(crate) struct Refusal<'a> {
    pub(crate) name: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) status: u16,
    pub(crate) type_name: &'a str,
    /// Part of the message.
    pub(crate) message: &'a str,
}

/// A row of a table: `name: METHOD path body => status type message`.
pub(crate) fn refusal<'a>(
    name: &'a str,
    (method, path, body): (&'a str, impl Into<String>, Value),
    (status, type_name, message): (u16, &'a str, &'a str),
) -> Refusal<'a> {
    Refusal { name, method, path: path.into(), body, status, type_name, message }
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}
