//! The endpoint: `GET /metrics`, without authentication, on an address of its own.

use crate::Page;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::future::Future;
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Of OpenMetrics' text format.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves pages for ever. `page` is asked for each scrape; none: not now.
///
/// # Errors
/// The listener failed.
pub async fn serve<F, Asked>(listener: TcpListener, page: F) -> io::Result<()>
where
    F: Fn() -> Asked + Send + Sync + 'static,
    Asked: Future<Output = Option<Page>> + Send + 'static,
{
    axum::serve(listener, router(page)).await
}

/// See [`serve`].
pub fn router<F, Asked>(page: F) -> Router
where
    F: Fn() -> Asked + Send + Sync + 'static,
    Asked: Future<Output = Option<Page>> + Send + 'static,
{
    Router::new().route("/metrics", get(scrape::<F, Asked>)).with_state(Arc::new(page))
}

async fn scrape<F, Asked>(State(page): State<Arc<F>>) -> Response
where
    F: Fn() -> Asked,
    Asked: Future<Output = Option<Page>>,
{
    match page().await {
        Some(page) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], page.text()).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "it is about to end\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families;
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    async fn get(router: Router, path: &str) -> (StatusCode, String) {
        let response = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn each_scrape_is_a_page_of_its_own() {
        let router = router(async || {
            let mut page = Page::default();
            page.gauge(&families::SESSIONS, &[], 7);
            Some(page)
        });
        let (status, text) = get(router.clone(), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(text.contains("nanboku_agent_sessions 7.0\n"), "{text}");
        assert_eq!(get(router, "/").await.0, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_part_that_ends_says_so() {
        let (status, _) = get(router(async || None), "/metrics").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
