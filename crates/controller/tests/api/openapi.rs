//! The OpenAPI document: made of the router's paths and the resources' attribute tables, checked in as
//! `docs/openapi.json`. `NANBOKU_BLESS=1` rewrites it.

use crate::common::{Api, UNKNOWN};
use crate::coverage::{Kind, kinds, nested};
use api::Attribute;
use controller::service::Service;
use serde_json::{Map, Value, json};
use std::path::Path;

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
    for path in api::paths::<Service>() {
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
        paths.insert(path, operations.into());
    }
    let mut schemas = Map::from_iter([("error".to_owned(), error_schema())]);
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
    if let (Some(kind), Some(rest)) = (kind, rest.filter(|rest| *rest == "" || is_one(rest)))
        && verb != "DELETE"
    {
        let one = json!({"$ref": format!("#/components/schemas/{}", kind.name)});
        let content = match (rest, verb) {
            ("", "GET") => envelope(kind.collection, json!({"type": "array", "items": one})),
            _ => envelope(kind.name, one),
        };
        success["content"] = content;
    }
    let failure = json!({
        "description": "Refused.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/error"}}},
    });
    let mut operation = json!({"responses": {status: success, "default": failure}});
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
        (_, _, "POST") => Some(json!({"application/json": {"schema": {"type": "object"}}})),
        (_, _, "PUT") if !is_tag => Some(json!({"application/json": {"schema": {"type": "object"}}})),
        _ => None,
    };
    if let Some(content) = body {
        operation["requestBody"] = json!({"required": true, "content": content});
    }
    operation
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

/// What the attribute's check takes.
fn schema(attribute: &Attribute) -> Value {
    let takes = |value: Value| (attribute.check)(&value).is_ok();
    let text = takes(json!("x"));
    let mut schema = if attribute.is_boolean() {
        json!({"type": "boolean"})
    } else if text && takes(json!([])) {
        json!({})
    } else if text {
        json!({"type": "string"})
    } else if takes(json!(UNKNOWN)) {
        json!({"type": "string", "format": "uuid"})
    } else if [4, 64, 1280].into_iter().any(|number| takes(json!(number))) {
        json!({"type": "integer"})
    } else if takes(json!([])) {
        json!({"type": "array", "items": {}})
    } else if takes(json!({})) {
        json!({"type": "object"})
    } else {
        json!({"type": "string"})
    };
    if takes(Value::Null) {
        schema["nullable"] = json!(true);
    }
    schema
}

fn error_schema() -> Value {
    let text = json!({"type": "string"});
    let error = json!({
        "type": "object",
        "required": ["type", "message", "detail"],
        "properties": {"type": text, "message": text, "detail": text},
    });
    json!({"type": "object", "properties": {"NeutronError": error}})
}
