//! `/restconf`: the NAT as network management knows it, read-only: RESTCONF (RFC 8040) with the model `ietf-nat` (RFC
//! 8512) in JSON (RFC 7951). RFC 6888 REQ-10a.
//!
//! An instance is a router with an external gateway ([`instance`]). What hosts know is asked of them and streamed, so
//! that an answer needs the same memory however many mappings there are ([`stream`]). Of the query parameters there
//! is `content` alone; others, and methods that change something, get RFC 8040's errors ([`failure`]). Decision 0023.

mod failure;
pub(crate) mod instance;
mod stream;
mod target;

pub(crate) use failure::in_restconf_form;

use crate::backend::Backend;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use failure::Failure;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use stream::{Content, Whole};
use target::Segment;

pub(crate) const MEDIA_TYPE: &str = "application/yang-data+json";
const LIBRARY_VERSION: &str = "2016-06-21";
const ALLOWED: &str = "GET, HEAD, OPTIONS";

type Answer = Result<Response, Failure>;

/// `/.well-known/host-meta`: where the root is (RFC 8040 §3.1).
pub(crate) async fn host_meta() -> Response {
    const XRD: &str = "<XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n    \
                       <Link rel='restconf' href='/restconf'/>\n</XRD>\n";
    ([(header::CONTENT_TYPE, "application/xrd+xml")], XRD).into_response()
}

/// What may be done with every resource here (RFC 8040 §4.1).
pub(crate) async fn options() -> Response {
    ([(header::ALLOW, ALLOWED)], ()).into_response()
}

pub(crate) async fn root(uri: Uri, headers: HeaderMap) -> Answer {
    check(&uri, &headers)?;
    let version = library_version();
    Ok(told(
        &json!({"ietf-restconf:restconf": {"data": {}, "operations": {}, "yang-library-version": version}}),
    ))
}

pub(crate) async fn operations(uri: Uri, headers: HeaderMap) -> Answer {
    check(&uri, &headers)?;
    Ok(told(&json!({"ietf-restconf:operations": {}})))
}

pub(crate) async fn version(uri: Uri, headers: HeaderMap) -> Answer {
    check(&uri, &headers)?;
    Ok(told(&json!({"ietf-restconf:yang-library-version": library_version()})))
}

/// `/restconf/data` and everything below.
pub(crate) async fn data<B: Backend>(State(backend): State<Arc<B>>, uri: Uri, headers: HeaderMap) -> Answer {
    let content = check(&uri, &headers)?;
    let path = uri.path().strip_prefix("/restconf/data").unwrap_or_default();
    let segments = target::parse(path.trim_start_matches('/'))?;
    let Some((first, below)) = segments.split_first() else {
        let revision = backend.revision();
        return Ok(with_tag(stream::whole(backend, Whole::Datastore(others()), content), revision));
    };
    match (first.module.as_deref(), first.name.as_str()) {
        (Some("ietf-nat"), "nat") => nat(backend, &segments, below, content).await,
        (Some(module), _) => {
            let name = format!("{module}:{}", first.name);
            let tree = others().remove(&name).ok_or_else(|| Failure::not_found(&segments))?;
            if content == Content::Config {
                return Err(Failure::not_found(&segments));
            }
            let found = target::find(&json!({&first.name: tree}), &segments);
            Ok(told(&found.ok_or_else(|| Failure::not_found(&segments))?))
        }
        (None, _) => Err(Failure::unknown(format!(
            "'{}' names no module: the path begins as in /restconf/data/ietf-nat:nat",
            first.name
        ))),
    }
}

/// Below `ietf-nat:nat`.
async fn nat<B: Backend>(
    backend: Arc<B>,
    segments: &[Segment],
    below: &[Segment],
    content: Content,
) -> Answer {
    let missing = || Failure::not_found(segments);
    let named = |segment: &Segment, name: &str| segment.is("ietf-nat", name);
    let whole = |whole| Ok(stream::whole(Arc::clone(&backend), whole, content));
    let [instances, rest @ ..] = below else { return whole(Whole::Nat) };
    if !named(instances, "instances") {
        return Err(missing());
    }
    let [instance, rest @ ..] = rest else { return whole(Whole::Instances) };
    if !named(instance, "instance") {
        return Err(missing());
    }
    let [id] = instance.keys.as_slice() else { return Err(Failure::without_key("instance", "id")) };
    let router = backend.nats().into_iter().find(|(own, _)| own.to_string() == *id);
    let (_, router) = router.ok_or_else(missing)?;
    let nat = backend.nat(router).ok_or_else(missing)?;
    match rest {
        [] => whole(Whole::Instance(router)),
        [table] if named(table, "mapping-table") && content != Content::Nonconfig => {
            whole(Whole::Table(router))
        }
        [first, ..] if !content.has(&first.name) => Err(missing()),
        _ => {
            let tree = stream::part(&*backend, &nat, rest).await?;
            Ok(told(&target::find(&tree, rest).ok_or_else(missing)?))
        }
    }
}

/// What the server tells of itself: the modules it has (RFC 7895), and what it can do (RFC 8040 §9).
fn others() -> Map<String, Value> {
    let module = |(name, revision, namespace, features, conformance): (&str, &str, &str, &[&str], &str)| {
        let mut module = json!({
            "name": name, "revision": revision, "namespace": format!("urn:ietf:params:xml:ns:yang:{namespace}"),
            "conformance-type": conformance,
        });
        if !features.is_empty() {
            module["feature"] = json!(features);
        }
        module
    };
    let modules = [
        ("ietf-nat", "2019-01-10", "ietf-nat", &["basic-nat44", "napt44"][..], "implement"),
        ("ietf-restconf-monitoring", "2017-01-26", "ietf-restconf-monitoring", &[], "implement"),
        ("ietf-yang-library", LIBRARY_VERSION, "ietf-yang-library", &[], "implement"),
        ("ietf-restconf", "2017-01-26", "ietf-restconf", &[], "implement"),
        ("ietf-interfaces", "2018-02-20", "ietf-interfaces", &[], "import"),
        ("ietf-inet-types", "2013-07-15", "ietf-inet-types", &[], "import"),
        ("ietf-yang-types", "2013-07-15", "ietf-yang-types", &[], "import"),
    ];
    let capability = ["urn:ietf:params:restconf:capability:defaults:1.0?basic-mode=explicit"];
    Map::from_iter([
        (
            "ietf-yang-library:modules-state".to_owned(),
            json!({"module-set-id": "nat-1", "module": modules.map(module)}),
        ),
        (
            "ietf-restconf-monitoring:restconf-state".to_owned(),
            json!({"capabilities": {"capability": capability}}),
        ),
    ])
}

fn library_version() -> Value {
    LIBRARY_VERSION.into()
}

/// The client takes JSON, and the query has `content` at most.
fn check(uri: &Uri, headers: &HeaderMap) -> Result<Content, Failure> {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = accepted.flat_map(|value| value.split(',')).map(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().to_ascii_lowercase()
    });
    let all = !headers.contains_key(header::ACCEPT);
    let ours = [MEDIA_TYPE, "application/json", "application/*", "*/*"];
    if !all && !types.any(|kind| ours.contains(&kind.as_str())) {
        return Err(Failure::not_acceptable());
    }
    let mut content = None;
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key != "content" {
            return Err(Failure::invalid(format!("query parameter '{key}' is not supported; content is")));
        }
        if content.replace(Content::parse(value)?).is_some() {
            return Err(Failure::invalid("query parameter 'content' is given twice".to_owned()));
        }
    }
    Ok(content.unwrap_or(Content::All))
}

fn told(value: &Value) -> Response {
    let head = [(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-cache")];
    (head, value.to_string()).into_response()
}

/// The configuration's entity tag (RFC 8040 §3.4.1.2): the revision of everything that is configured.
fn with_tag(mut response: Response, revision: u64) -> Response {
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{revision}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}
