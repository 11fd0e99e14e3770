//! The OpenAPI document: made of the router's paths and the resources' attribute tables, checked in as
//! `docs/openapi.json`. `NANBOKU_BLESS=1` rewrites it.

use crate::common::{Api, UNKNOWN};
use crate::coverage::{Kind, kinds, nested};
use api::Attribute;
use controller::service::Service;
use model::quota::Counted;
use serde_json::{Map, Value, json};
use std::path::Path;

mod schema;

const VERBS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];

#[tokio::test]
async fn the_document_says_what_is_served() {
    let document = format!("{:#}\n", document(&Api::new()).await);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    if std::env::var_os("NANBOKU_BLESS").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(checked_in == document, "docs/openapi.json is not what the API is; NANBOKU_BLESS=1 rewrites it");
}

async fn document(api: &Api) -> Value {
    let kinds: Vec<Kind> = nested().into_iter().chain(kinds()).collect();
    let mut paths = Map::new();
    // RESTCONF is described by RFC 8040 and its modules.
    let described = |path: &String| !path.starts_with("/restconf") && !path.starts_with("/.well-known/");
    for path in api::paths::<Service>().into_iter().filter(described) {
        let kind = kinds.iter().find(|kind| {
            let rest = path.strip_prefix("/v2.0/").and_then(|rest| rest.strip_prefix(kind.path));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        let mut operations = Map::new();
        for verb in VERBS {
            if is_served(api, verb, &path).await {
                operations.insert(verb.to_ascii_lowercase(), operation(verb, &path, kind));
            }
        }
        operations.insert("parameters".to_owned(), path_parameters(&path));
        match path.strip_suffix("{action}") {
            Some(stem) => paths.extend(actions(api, stem).await),
            None => drop(paths.insert(path, operations.into())),
        }
    }
    let mut schemas = Map::from_iter([
        ("error".to_owned(), error_schema()),
        ("unauthorized".to_owned(), unauthorized_schema()),
    ]);
    for kind in &kinds {
        schemas.insert(kind.name.to_owned(), object(&kind.attributes, |_| true, false));
        schemas.insert(format!("{}_create", kind.name), object(&kind.attributes, |of| of.post, true));
        schemas.insert(format!("{}_update", kind.name), object(&kind.attributes, |of| of.put, false));
    }
    let token = json!({"type": "apiKey", "in": "header", "name": "X-Auth-Token"});
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Nanboku",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Networking API v2.0 of OpenStack, and Nanboku's views for administrators.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": token}},
    })
}

/// What is done to one thing, with its path below that, its body and its answer.
fn all_actions() -> Vec<(&'static str, &'static str, Value, Value)> {
    let id = json!({"type": "string", "format": "uuid"});
    let any = |of: Value| json!({"type": "object", "additionalProperties": false, "properties": of});
    let interface = any(json!({"subnet_id": id, "port_id": id}));
    let connected =
        json!({"type": "object", "required": ["id", "port_id", "subnet_id", "subnet_ids", "network_id"]});
    let needs =
        |name: &str, of: Value| json!({"type": "object", "required": [name], "properties": {name: of}});
    let attribute = |kind: &str, name: &str| {
        let kind = kinds().into_iter().find(|of| of.name == kind).unwrap();
        schema(kind.attributes.iter().find(|of| of.name == name).unwrap())
    };
    let routes = needs("router", needs("routes", attribute("router", "routes")));
    let router = needs("router", json!({"$ref": "#/components/schemas/router"}));
    let addresses = needs("addresses", attribute("address_group", "addresses"));
    let group = needs("address_group", json!({"$ref": "#/components/schemas/address_group"}));
    let prefixes = needs("prefixes", attribute("subnetpool", "prefixes"));
    vec![
        ("routers", "add_router_interface", interface.clone(), connected.clone()),
        ("routers", "remove_router_interface", interface, connected),
        ("routers", "add_extraroutes", routes.clone(), router.clone()),
        ("routers", "remove_extraroutes", routes, router),
        ("address-groups", "add_addresses", addresses.clone(), group.clone()),
        ("address-groups", "remove_addresses", addresses, group),
        ("subnetpools", "add_prefixes", prefixes.clone(), prefixes.clone()),
        ("subnetpools", "remove_prefixes", prefixes.clone(), prefixes.clone()),
        ("subnetpools", "onboard_network_subnets", needs("network_id", id), prefixes),
    ]
}

/// The actions on the things of a path `/v2.0/COLLECTION/{id}/`.
async fn actions(api: &Api, stem: &str) -> Vec<(String, Value)> {
    let collection = stem.split('/').nth(2).unwrap();
    let mut paths = Vec::new();
    for (_, name, body, answer) in all_actions().into_iter().filter(|(of, ..)| *of == collection) {
        let path = format!("{stem}{name}");
        let refused = api.call("PUT", &path.replace("{id}", UNKNOWN), json!({})).await;
        assert_ne!(refused.body["NeutronError"]["type"], "HTTPNotFound", "{path} is not served");
        let content = |schema: Value| json!({"application/json": {"schema": schema}});
        let done = json!({"description": "Done.", "content": content(answer)});
        let put = json!({
            "requestBody": {"required": true, "content": content(body)},
            "responses": {"200": done, "401": unauthorized(), "default": failure()},
        });
        paths.push((path.clone(), json!({"put": put, "parameters": path_parameters(&path)})));
    }
    assert!(!paths.is_empty(), "no actions are told of {stem}");
    paths
}

fn failure() -> Value {
    json!({
        "description": "Refused.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/error"}}},
    })
}

/// In Keystone's form, without a token or with one that is none.
fn unauthorized() -> Value {
    json!({
        "description": "Log in.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/unauthorized"}}},
    })
}

async fn is_served(api: &Api, verb: &str, path: &str) -> bool {
    let target = path
        .replace("{id}", UNKNOWN)
        .replace("{forwarding}", UNKNOWN)
        .replace("{tag}", "x")
        .replace("{action}", "x");
    let answer = api.call(verb, &target.replace("{alias}", "x"), json!({})).await;
    answer.status != 405
}

/// The rest of the path of one thing, behind its collection's.
fn is_one(rest: &str) -> bool {
    matches!(rest, "/{id}" | "/{forwarding}")
}

fn path_parameters(path: &str) -> Value {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameter =
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    names.map(parameter).collect()
}

fn operation(verb: &str, path: &str, kind: Option<&Kind>) -> Value {
    let rest = kind.and_then(|kind| path.strip_prefix("/v2.0/")?.strip_prefix(kind.path));
    let is_tag = path.ends_with("/{tag}");
    let status = match verb {
        "GET" if is_tag => "204",
        "POST" if kind.is_some() => "201",
        "PUT" if is_tag => "201",
        "DELETE" if kind.is_some() || path.starts_with("/v2.0/quotas") => "204",
        _ => "200",
    };
    let mut success = json!({"description": "Done."});
    if let (Some(kind), Some(rest)) = (kind, rest.filter(|rest| rest.is_empty() || is_one(rest)))
        && verb != "DELETE"
    {
        let one = json!({"$ref": format!("#/components/schemas/{}", kind.name)});
        let content = match (rest, verb) {
            ("", "GET") => envelope(kind.collection, json!({"type": "array", "items": one})),
            _ => envelope(kind.name, one),
        };
        success["content"] = content;
    }
    let mut operation = json!({"responses": {status: success, "401": unauthorized(), "default": failure()}});
    if matches!(path, "/" | "/v2.0") {
        // For everybody.
        operation = json!({"responses": {status: operation["responses"][status], "default": failure()}, "security": []});
    }
    if let (Some(kind), Some("")) = (kind, rest)
        && verb == "GET"
    {
        operation["parameters"] = query_parameters(kind);
    }
    let body = match (kind, rest, verb) {
        (Some(kind), Some(""), "POST") => Some(request(kind, "create")),
        (Some(kind), Some(rest), "PUT") if is_one(rest) => Some(request(kind, "update")),
        (Some(_), Some("/{id}/tags"), "PUT") => {
            Some(envelope("tags", json!({"type": "array", "items": {"type": "string"}})))
        }
        (None, _, "PUT") if path == "/v2.0/quotas/{id}" => Some(envelope("quota", quota())),
        (_, _, "POST") => Some(json!({"application/json": {"schema": {"type": "object"}}})),
        (_, _, "PUT") if !is_tag => Some(json!({"application/json": {"schema": {"type": "object"}}})),
        _ => None,
    };
    if let Some(content) = body {
        operation["requestBody"] = json!({"required": true, "content": content});
    }
    operation
}

/// -1: no limit.
fn quota() -> Value {
    let limit = json!({"type": "integer", "minimum": -1});
    let limits = Counted::ALL.into_iter().map(|counted| (counted.name().to_owned(), limit.clone()));
    let properties: Map<String, Value> =
        limits.chain([("check_limit".to_owned(), json!({"type": "boolean"}))]).collect();
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

fn request(kind: &Kind, what: &str) -> Value {
    envelope(kind.name, json!({"$ref": format!("#/components/schemas/{}_{what}", kind.name)}))
}

fn envelope(name: &str, schema: Value) -> Value {
    let schema = json!({"type": "object", "required": [name], "properties": {name: schema}});
    json!({"application/json": {"schema": schema}})
}

fn query_parameters(kind: &Kind) -> Value {
    let parameter = |name: &str, schema: Value| json!({"name": name, "in": "query", "schema": schema});
    let filters = kind.attributes.iter().filter(|attribute| attribute.filter);
    let filters = filters.map(|attribute| {
        let mut schema = schema(attribute);
        schema.as_object_mut().unwrap().remove("nullable");
        parameter(attribute.name, schema)
    });
    let texts = ["fields", "sort_key", "sort_dir", "marker"];
    let texts = texts.map(|name| parameter(name, json!({"type": "string"})));
    let page = [
        parameter("limit", json!({"type": "integer", "minimum": 0})),
        parameter("page_reverse", json!({"type": "boolean"})),
    ];
    filters.chain(texts).chain(page).collect()
}

fn object(attributes: &[&Attribute], of: fn(&Attribute) -> bool, creation: bool) -> Value {
    let own = attributes.iter().filter(|attribute| of(attribute));
    let properties: Map<String, Value> =
        own.map(|attribute| (attribute.name.to_owned(), schema(attribute))).collect();
    let required: Vec<&str> = attributes.iter().filter(|of| of.required).map(|of| of.name).collect();
    let mut object = json!({"type": "object", "properties": properties});
    if creation && !required.is_empty() {
        object["required"] = json!(required);
    }
    if creation {
        object["additionalProperties"] = json!(false);
    }
    object
}

/// What is checked by the service alone, because its errors have types of their own, and lists of the service's making.
fn told(name: &str) -> Option<Value> {
    let text = json!({"type": "string"});
    let port = json!({"type": "integer", "minimum": 0, "maximum": 65535, "nullable": true});
    let id = |nullable: bool| json!({"type": "string", "format": "uuid", "nullable": nullable});
    match name {
        "ethertype" => Some(json!({"type": "string", "enum": ["IPv4", "IPv6"]})),
        "protocol" => Some(json!({"type": "string", "nullable": true})),
        "port_range_min" | "port_range_max" => Some(port),
        "remote_ip_prefix" | "source_ip_prefix" | "destination_ip_prefix" => {
            Some(json!({"type": "string", "format": "cidr", "nullable": true}))
        }
        "security_group_id" => Some(id(false)),
        // An id, or `PARENT` in the rules of default groups.
        "remote_group_id" => Some(json!({"type": "string", "nullable": true})),
        "remote_address_group_id" => Some(id(true)),
        "tags" => Some(json!({"type": "array", "items": text})),
        _ => None,
    }
}

fn schema(attribute: &Attribute) -> Value {
    told(attribute.name).unwrap_or_else(|| schema::of(&attribute.check))
}

fn unauthorized_schema() -> Value {
    let error = json!({
        "type": "object",
        "required": ["code", "message", "title"],
        "properties": {
            "code": {"type": "integer"},
            "message": {"type": "string"},
            "title": {"type": "string"},
        },
    });
    json!({"type": "object", "required": ["error"], "properties": {"error": error}})
}

fn error_schema() -> Value {
    let text = json!({"type": "string"});
    let error = json!({
        "type": "object",
        "required": ["type", "message", "detail"],
        "properties": {"type": text, "message": text, "detail": text},
    });
    json!({"type": "object", "required": ["NeutronError"], "properties": {"NeutronError": error}})
}
