//! What the controller measures of itself, and the page for Prometheus.

use crate::agents::Hub;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use metrics::{Latency, Page, families};
use model::HostId;
use model::resource::Network;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use store::{Snapshot, Store};
use tokio_util::sync::CancellationToken;

/// Methods that are told apart; everything else is one.
const METHODS: [&str; 6] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"];

/// Requests by method, route and status; latencies by method and route. There are as many as there are routes.
#[derive(Debug, Default)]
pub(crate) struct ApiMeters {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    requests: BTreeMap<(&'static str, String, u16), u64>,
    latencies: BTreeMap<(&'static str, String), Latency>,
}

impl ApiMeters {
    fn note(&self, method: &str, route: &str, status: u16, elapsed: Duration) {
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        // Whole between any two statements: a panic elsewhere does not spoil it.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.requests.entry((method, route.to_owned(), status)).or_default() += 1;
        counts.latencies.entry((method, route.to_owned())).or_default().observe(elapsed);
    }

    fn write(&self, page: &mut Page) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for ((method, route, status), count) in &counts.requests {
            page.counter(&families::API_REQUESTS, &[method, route, &status.to_string()], *count);
        }
        for ((method, route), latency) in &counts.latencies {
            page.latency(&families::API_SECONDS, &[method, route], latency);
        }
    }
}

/// Counts requests; a layer of the API's router. Paths that are no route are one.
pub(crate) async fn count_requests(
    State(meters): State<Arc<ApiMeters>>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    meters.note(method.as_str(), route, response.status().as_u16(), started.elapsed());
    response
}

/// Serves scrapes until `stop`.
pub(crate) async fn serve(
    listener: tokio::net::TcpListener,
    store: Arc<Store>,
    hub: Arc<Hub>,
    api: Arc<ApiMeters>,
    stop: CancellationToken,
) {
    let page = move || {
        let page = page(&store.snapshot(), &hub, &api);
        async move { Some(page) }
    };
    tokio::select! {
        result = metrics::serve(listener, page) => {
            if let Err(error) = result {
                tracing::error!(%error, "metrics are not served any more");
            }
        }
        () = stop.cancelled() => {}
    }
}

fn page(snapshot: &Snapshot, hub: &Hub, api: &ApiMeters) -> Page {
    let mut page = Page::default();
    page.gauge(&families::BUILD, &["controller", env!("CARGO_PKG_VERSION")], 1);
    page.gauge(&families::STORE_REVISION, &[], snapshot.revision);
    hosts(&mut page, snapshot, hub);
    for (kind, count) in [
        ("networks", snapshot.networks.len()),
        ("subnets", snapshot.subnets.len()),
        ("ports", snapshot.ports.len()),
        ("routers", snapshot.routers.len()),
        ("floating_ips", snapshot.floating_ips.len()),
    ] {
        page.gauge(&families::OBJECTS, &[kind], count as u64);
    }
    ports(&mut page, snapshot);
    blocks(&mut page, snapshot, hub);
    gateways(&mut page, snapshot);
    api.write(&mut page);
    page
}

fn hosts(page: &mut Page, snapshot: &Snapshot, hub: &Hub) {
    let connected = hub.connected();
    let behind = |host: &HostId| {
        let presence = hub.presence(*host);
        presence.is_none_or(|presence| presence.programmed_revision.is_none_or(|told| told < presence.told))
    };
    let count = |is: &dyn Fn(&model::resource::Host) -> bool| {
        snapshot.hosts.values().filter(|host| is(host)).count() as u64
    };
    page.gauge(&families::HOSTS, &["known"], snapshot.hosts.len() as u64);
    page.gauge(&families::HOSTS, &["connected"], count(&|host| connected.contains(&host.id)));
    page.gauge(&families::HOSTS, &["live"], count(&|host| host.live));
    page.gauge(&families::HOSTS, &["drained"], count(&|host| host.drained));
    let behind = connected.iter().filter(|host| behind(host)).count();
    page.gauge(&families::HOSTS_BEHIND, &[], behind as u64);
}

/// Whether their host has them in its tables, waits for them, or there is none.
fn ports(page: &mut Page, snapshot: &Snapshot) {
    let [mut active, mut build, mut down] = [0_u64; 3];
    for port in snapshot.ports.values() {
        let status = match (port.programmed_on, port.binding_host.is_empty()) {
            (Some(_), _) => &mut active,
            (None, false) => &mut build,
            (None, true) => &mut down,
        };
        *status += 1;
    }
    page.gauge(&families::CONTROLLER_PORTS, &["active"], active);
    page.gauge(&families::CONTROLLER_PORTS, &["build"], build);
    page.gauge(&families::CONTROLLER_PORTS, &["down"], down);
}

fn blocks(page: &mut Page, snapshot: &Snapshot, hub: &Hub) {
    let retiring = snapshot.blocks.values().filter(|block| block.retiring_since_ms.is_some()).count();
    page.gauge(&families::BLOCKS, &["active"], (snapshot.blocks.len() - retiring) as u64);
    page.gauge(&families::BLOCKS, &["retiring"], retiring as u64);
    let size = |network| {
        let network = snapshot.get::<Network>(network)?;
        Some(u64::from(network.provider.as_ref()?.block_size))
    };
    let granted = snapshot.blocks.values().filter_map(|block| size(block.external_network)).sum();
    let used = snapshot.hosts.keys().filter_map(|host| hub.presence(*host));
    page.gauge(&families::BLOCK_PORTS, &["granted"], granted);
    page.gauge(&families::BLOCK_PORTS, &["used"], used.map(|presence| presence.nat_ports_used).sum());
}

fn gateways(page: &mut Page, snapshot: &Snapshot) {
    for network in snapshot.networks.values().filter(|network| network.external) {
        let Some(provider) = &network.provider else { continue };
        let hosts = snapshot.hosts.values();
        let live =
            hosts.filter(|host| host.live && host.physical_networks.contains(&provider.physical_network));
        // Names need not be unique, and two series with one label would make the page useless.
        let name = &network.standard.name;
        let taken =
            snapshot.networks.values().any(|other| other.id != network.id && other.standard.name == *name);
        let label = if taken || name.is_empty() { network.id.to_string() } else { name.clone() };
        page.gauge(&families::GATEWAYS, &[&label], live.count() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::routing::get;
    use axum::{Router, middleware};
    use tower::ServiceExt as _;

    #[tokio::test]
    async fn requests_are_counted_by_route_and_status_not_by_path() {
        let meters = Arc::new(ApiMeters::default());
        let router = Router::new()
            .route("/v2.0/ports/{id}", get(async || "port").delete(async || StatusCode::NO_CONTENT))
            .fallback(async || StatusCode::NOT_FOUND)
            .layer(middleware::from_fn_with_state(Arc::clone(&meters), count_requests));
        for (method, path) in [
            ("GET", "/v2.0/ports/1"),
            ("GET", "/v2.0/ports/2"),
            ("DELETE", "/v2.0/ports/2"),
            ("GET", "/wp-admin"),
            ("GET", "/etc/passwd"),
            ("BREW", "/coffee"),
        ] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            drop(router.clone().oneshot(request).await.unwrap());
        }
        let mut page = Page::default();
        meters.write(&mut page);
        let text = page.text();
        for want in [
            r#"nanboku_api_requests_total{method="GET",route="/v2.0/ports/{id}",status="200"} 2"#,
            r#"nanboku_api_requests_total{method="DELETE",route="/v2.0/ports/{id}",status="204"} 1"#,
            r#"nanboku_api_requests_total{method="GET",route="none",status="404"} 2"#,
            r#"nanboku_api_requests_total{method="other",route="none",status="404"} 1"#,
            r#"nanboku_api_request_seconds_count{method="GET",route="/v2.0/ports/{id}"} 2"#,
        ] {
            assert!(text.contains(want), "'{want}' in\n{text}");
        }
    }
}
