//! What clients see of tokens, roles and the catalog.

use crate::{Scope, Session};
use model::identity::{Domain, Role};
use model::moment::{self, Fraction};
use serde_json::{Map, Value, json};

/// Services of the catalog: type, name, id, path of the endpoint below the root.
pub(crate) const SERVICES: [(&str, &str, &str, &str); 2] = [
    ("identity", "keystone", "0b1d4f6e1c5f4c0f8a3a6d2e9c7b5a10", "/identity"),
    ("network", "neutron", "5d0c2a7be3f14f6d9b8e1f20c4a6d711", ""),
];
const INTERFACES: [(&str, char); 3] = [("public", 'a'), ("internal", 'b'), ("admin", 'c')];

/// `2026-11-22T06:00:00.000000Z`.
pub(crate) fn time_us(us: i64) -> String {
    moment::text(us, Fraction::Microseconds)
}

/// Of a time in seconds since 1970.
pub(crate) fn time_s(seconds: i64) -> String {
    time_us(seconds.saturating_mul(1_000_000))
}

/// The body of a token. `root` is where the client found us; without it the catalog is left out.
pub(crate) fn token(session: &Session, root: Option<&str>, region: &str) -> Value {
    let Session { token, user, user_domain, scope, roles, application_credential } = session;
    let mut view = Map::new();
    let mut set = |key: &str, value: Value| drop(view.insert(key.to_owned(), value));
    set("methods", json!(token.methods));
    set(
        "user",
        json!({"id": user.id, "name": user.name, "domain": reference(user_domain), "password_expires_at": null}),
    );
    set("audit_ids", json!(token.audit_ids));
    set("issued_at", json!(time_us(token.issued_at_us)));
    set("expires_at", json!(time_s(token.expires_at)));
    match scope {
        Scope::Unscoped => {}
        Scope::Project { project, domain } => {
            set("project", json!({"id": project.id, "name": project.name, "domain": reference(domain)}));
            set("is_domain", json!(false));
        }
        Scope::Domain(domain) => set("domain", reference(domain)),
        Scope::System => set("system", json!({"all": true})),
    }
    if !matches!(scope, Scope::Unscoped) {
        set("roles", roles.iter().map(|role| self::role(role)).collect());
        if let Some(root) = root {
            set("catalog", catalog(root, region));
        }
    }
    if let Some(credential) = application_credential {
        let restricted = !credential.unrestricted;
        set(
            "application_credential",
            json!({"id": credential.id, "name": credential.name, "restricted": restricted}),
        );
    }
    json!({"token": view})
}

pub(crate) fn reference(domain: &Domain) -> Value {
    json!({"id": domain.id, "name": domain.name})
}

fn role(role: &Role) -> Value {
    json!({"id": role.id, "name": role.name})
}

pub(crate) fn catalog(root: &str, region: &str) -> Value {
    let entry = |(kind, name, id, path): (&str, &str, &str, &str)| {
        let endpoints: Vec<Value> = endpoints(id, &format!("{root}{path}"), region);
        json!({"type": kind, "name": name, "id": id, "endpoints": endpoints})
    };
    Value::Array(SERVICES.map(entry).into())
}

pub(crate) fn endpoints(service_id: &str, url: &str, region: &str) -> Vec<Value> {
    let endpoint = |(interface, last): (&str, char)| {
        let id = format!("{}{last}", service_id.get(1..).unwrap_or_default());
        json!({"id": id, "interface": interface, "region": region, "region_id": region, "url": url})
    };
    INTERFACES.map(endpoint).into()
}
