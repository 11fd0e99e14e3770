//! What Keystone's clients do, over the routes: goal is that each of their sentences gets Keystone's answer.
//! Method: an identity service in memory after bootstrap, with a clock that the test turns.

use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use axum::{Extension, Router};
use http_body_util::BodyExt;
use identity::{Bootstrap, Identity, Settings, Source, bootstrap};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use store::Store;
use tower::ServiceExt;

/// 2026-11-22T06:00:00Z, in microseconds. Each test is a process, or at least its own set of names.
static NOW_US: AtomicI64 = AtomicI64::new(1_795_327_200_000_000);
const PASSWORD: &str = "let me in";
const ROOT: &str = "http://cloud.example:9696";

struct Keystone {
    router: Router,
    store: Arc<Store>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    fn token(&self) -> String {
        self.headers["x-subject-token"].to_str().unwrap().to_owned()
    }

    fn id(&self, envelope: &str) -> String {
        assert!(self.status.is_success(), "{}", self.body);
        self.body[envelope]["id"].as_str().unwrap().to_owned()
    }
}

impl Keystone {
    fn start() -> Self {
        Self::start_from(Source::Local)
    }

    fn start_from(source: Source) -> Self {
        let store = Arc::new(Store::open(None).unwrap());
        let Bootstrap { user, project, .. } = bootstrap(&store, Some(PASSWORD.into())).unwrap();
        assert_eq!((user, project), ("admin", "admin"));
        let clock = || NOW_US.load(Ordering::Relaxed);
        let identity = Arc::new(Identity::new(Arc::clone(&store), Settings::default(), clock));
        Self { router: identity::router(identity).layer(Extension(source)), store }
    }

    async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let mut request = Request::builder().method(method).uri(path).header("host", "cloud.example:9696");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.header("content-type", "application/json").body(Body::from(bytes)).unwrap();
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn as_token(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        self.call(method, path, &[("x-auth-token", token)], body).await
    }

    async fn auth(&self, identity: Value, scope: Value) -> Answer {
        let mut auth = json!({"identity": identity});
        if !scope.is_null() {
            auth["scope"] = scope;
        }
        self.call("POST", "/v3/auth/tokens", &[], json!({"auth": auth})).await
    }

    async fn log_in(&self, user: &str, password: &str, scope: Value) -> Answer {
        let user = json!({"name": user, "domain": {"id": "default"}, "password": password});
        self.auth(json!({"methods": ["password"], "password": {"user": user}}), scope).await
    }

    async fn admin(&self) -> String {
        let answer = self.log_in("admin", PASSWORD, project("admin")).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.token()
    }

    /// What `openstack project create`, `user create` and `role add` do; returns the ids of project and user.
    async fn member(&self, admin: &str, name: &str) -> (String, String) {
        let body = json!({"project": {"name": name, "domain_id": "default", "enabled": true}});
        let project = self.as_token(admin, "POST", "/v3/projects", body).await.id("project");
        let body = json!({"user": {"name": name, "password": name, "default_project_id": project}});
        let user = self.as_token(admin, "POST", "/v3/users", body).await.id("user");
        self.grant(admin, &project, &user, "member").await;
        (project, user)
    }

    async fn grant(&self, admin: &str, project: &str, user: &str, role: &str) {
        let roles = self.as_token(admin, "GET", &format!("/v3/roles?name={role}"), Value::Null).await;
        let role = roles.body["roles"][0]["id"].as_str().unwrap().to_owned();
        let path = format!("/v3/projects/{project}/users/{user}/roles/{role}");
        let answer = self.as_token(admin, "PUT", &path, Value::Null).await;
        assert_eq!((answer.status.as_u16(), &answer.body), (204, &Value::Null));
    }
}

fn project(name: &str) -> Value {
    json!({"project": {"name": name, "domain": {"name": "Default"}}})
}

fn roles(token: &Value) -> Vec<&str> {
    token["roles"].as_array().unwrap().iter().map(|role| role["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn clients_find_the_versions_before_they_log_in() {
    let keystone = Keystone::start();
    let answer = keystone.call("GET", "/identity", &[], Value::Null).await;
    assert_eq!(answer.status, 300);
    let version = &answer.body["versions"]["values"][0];
    assert_eq!((&version["id"], &version["status"]), (&json!("v3.14"), &json!("stable")));
    assert_eq!(version["links"][0]["href"], format!("{ROOT}/identity/v3/"));
    for path in ["/v3", "/v3/", "/identity/v3"] {
        let answer = keystone.call("GET", path, &[], Value::Null).await;
        assert_eq!(answer.status, 200, "{path}");
        let want = format!("{ROOT}{}/", path.trim_end_matches('/'));
        assert_eq!(answer.body["version"]["links"][0]["href"], want);
    }
}

#[tokio::test]
async fn a_password_gets_a_token_with_everything_clients_read() {
    let keystone = Keystone::start();
    let answer = keystone.log_in("admin", PASSWORD, project("admin")).await;
    assert_eq!(answer.status, 201);
    let token = &answer.body["token"];
    assert_eq!(token["methods"], json!(["password"]));
    assert_eq!(token["user"]["name"], "admin");
    assert_eq!(token["user"]["domain"], json!({"id": "default", "name": "Default"}));
    assert_eq!(token["project"]["domain"], json!({"id": "default", "name": "Default"}));
    assert_eq!(roles(token), ["admin", "member", "reader"]);
    assert_eq!(token["issued_at"], "2026-11-22T06:00:00.000000Z");
    assert_eq!(token["expires_at"], "2026-11-22T07:00:00.000000Z");
    let urls: Vec<_> = token["catalog"]
        .as_array()
        .unwrap()
        .iter()
        .map(|service| {
            let endpoints = service["endpoints"].as_array().unwrap();
            assert_eq!(endpoints.len(), 3, "public, internal, admin");
            (service["type"].as_str().unwrap(), endpoints[0]["url"].as_str().unwrap())
        })
        .collect();
    let identity = format!("{ROOT}/identity");
    assert_eq!(urls, [("identity", identity.as_str()), ("network", ROOT)]);
    let text = answer.token();
    let stored = format!("{:?}", keystone.store.snapshot().tokens);
    assert!(!stored.contains(&text), "only a hash is kept: {stored}");

    let headers = [("x-auth-token", text.as_str()), ("x-subject-token", text.as_str())];
    let valid = keystone.call("GET", "/v3/auth/tokens", &headers, Value::Null).await;
    assert_eq!(valid.status, 200);
    assert_eq!(valid.token(), text);
    assert_eq!(valid.body["token"], *token);
    let bare = keystone.call("GET", "/v3/auth/tokens?nocatalog", &headers, Value::Null).await;
    assert_eq!(bare.body["token"].get("catalog"), None);
    let head = keystone.call("HEAD", "/v3/auth/tokens", &headers, Value::Null).await;
    assert_eq!((head.status.as_u16(), head.body), (200, Value::Null));
}

#[tokio::test]
async fn every_wrong_proof_looks_the_same() {
    let keystone = Keystone::start();
    let password = |user: Value| json!({"methods": ["password"], "password": {"user": user}});
    let default = json!({"id": "default"});
    let cases = [
        ("wrong password", password(json!({"name": "admin", "domain": default, "password": "x"}))),
        ("no such user", password(json!({"name": "nobody", "domain": default, "password": PASSWORD}))),
        ("no such domain", password(json!({"name": "admin", "domain": {"id": "x"}, "password": PASSWORD}))),
        ("no such id", password(json!({"id": "x", "password": PASSWORD}))),
        ("no such token", json!({"methods": ["token"], "token": {"id": "x"}})),
        (
            "no such credential",
            json!({"methods": ["application_credential"], "application_credential": {"id": "x", "secret": "x"}}),
        ),
        ("no such method", json!({"methods": ["totp"], "totp": {}})),
    ];
    let want = json!({"error": {
        "code": 401, "title": "Unauthorized", "message": "The request you have made requires authentication.",
    }});
    for (name, identity) in cases {
        let answer = keystone.auth(identity, project("admin")).await;
        assert_eq!((answer.status.as_u16(), &answer.body), (401, &want), "{name}");
        assert!(answer.headers.contains_key("www-authenticate"), "{name}");
    }
    let elsewhere = keystone.log_in("admin", PASSWORD, project("nowhere")).await;
    assert_eq!((elsewhere.status.as_u16(), &elsewhere.body), (401, &want));
    assert!(keystone.store.snapshot().tokens.is_empty());
}

#[tokio::test]
async fn bodies_that_make_no_sense_are_400_and_say_what_is_missing() {
    let keystone = Keystone::start();
    let cases = [
        (json!({}), "auth"),
        (json!({"auth": {}}), "identity"),
        (json!({"auth": {"identity": {}}}), "methods"),
        (json!({"auth": {"identity": {"methods": ["password", "token"]}}}), "one method"),
        (json!({"auth": {"identity": {"methods": ["password"]}}}), "password in identity"),
        (
            json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "a", "password": "b"}}}}}),
            "domain",
        ),
        (
            json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": 1, "password": "b"}}}}}),
            "string",
        ),
        (json!({"auth": {"identity": {"methods": ["token"], "token": {"id": "x"}}, "scope": {}}}), "scope"),
    ];
    for (body, want) in cases {
        let answer = keystone.call("POST", "/v3/auth/tokens", &[], body.clone()).await;
        let error = &answer.body["error"];
        assert_eq!((answer.status.as_u16(), &error["title"]), (400, &json!("Bad Request")), "{body}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(want), "{body}: {message}");
    }
    let huge = json!({"auth": "x".repeat(200_000)});
    assert_eq!(keystone.call("POST", "/v3/auth/tokens", &[], huge).await.status, 413);
    assert_eq!(keystone.call("GET", "/v3/nothing", &[], Value::Null).await.status, 404);
    assert_eq!(keystone.call("PUT", "/v3/auth/tokens", &[], Value::Null).await.status, 405);
}

#[tokio::test]
async fn guessing_is_slowed_down_and_the_right_password_is_not() {
    let keystone = Keystone::start_from(Source::Address("192.0.2.7".parse().unwrap()));
    for _ in 0..40 {
        assert_eq!(keystone.log_in("admin", PASSWORD, project("admin")).await.status, 201);
    }
    let mut statuses = Vec::new();
    for guess in 0..25 {
        statuses.push(keystone.log_in("admin", &guess.to_string(), project("admin")).await.status.as_u16());
    }
    let (refused, limited) = statuses.split_at(20);
    assert!(refused.iter().all(|status| *status == 401), "{statuses:?}");
    assert!(limited.iter().all(|status| *status == 429), "{statuses:?}");
    let answer = keystone.log_in("admin", PASSWORD, project("admin")).await;
    assert_eq!(answer.status, 429, "also with the right one: else it would tell");
    assert_eq!(answer.headers["retry-after"], "3");
    NOW_US.fetch_add(3_000_000, Ordering::Relaxed);
    assert_eq!(keystone.log_in("admin", PASSWORD, project("admin")).await.status, 201);
}

#[tokio::test]
async fn tokens_end_by_time_by_revocation_and_with_what_they_stand_on() {
    let keystone = Keystone::start();
    let admin = keystone.admin().await;
    let (project_id, user) = keystone.member(&admin, "red").await;
    let alive = async |token: &str| {
        let headers = [("x-auth-token", admin.as_str()), ("x-subject-token", token)];
        keystone.call("GET", "/v3/auth/tokens", &headers, Value::Null).await.status.as_u16()
    };
    let fresh = async || keystone.log_in("red", "red", project("red")).await.token();

    let token = fresh().await;
    assert_eq!(alive(&token).await, 200);
    let headers = [("x-auth-token", token.as_str()), ("x-subject-token", token.as_str())];
    assert_eq!(keystone.call("DELETE", "/v3/auth/tokens", &headers, Value::Null).await.status, 204);
    assert_eq!(alive(&token).await, 404, "revoked");

    let token = fresh().await;
    let path = format!("/v3/users/{user}");
    let disabled = |enabled: bool| json!({"user": {"enabled": enabled}});
    assert_eq!(keystone.as_token(&admin, "PATCH", &path, disabled(false)).await.status, 200);
    assert_eq!(alive(&token).await, 404, "its user is disabled");
    assert_eq!(keystone.log_in("red", "red", project("red")).await.status, 401);
    assert_eq!(keystone.as_token(&admin, "PATCH", &path, disabled(true)).await.status, 200);
    assert_eq!(alive(&token).await, 404, "it does not come back");

    let token = fresh().await;
    let change = json!({"user": {"password": "new", "original_password": "red"}});
    let own = format!("{path}/password");
    assert_eq!(keystone.call("POST", &own, &[], change.clone()).await.status, 204);
    assert_eq!(alive(&token).await, 404, "the password was changed");
    assert_eq!(keystone.call("POST", &own, &[], change).await.status, 401, "the old one is gone");
    let token = keystone.log_in("red", "new", project("red")).await.token();

    let roles = keystone.as_token(&admin, "GET", "/v3/roles?name=member", Value::Null).await;
    let role = roles.body["roles"][0]["id"].as_str().unwrap();
    let path = format!("/v3/projects/{project_id}/users/{user}/roles/{role}");
    assert_eq!(keystone.as_token(&admin, "HEAD", &path, Value::Null).await.status, 204);
    assert_eq!(keystone.as_token(&admin, "DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(alive(&token).await, 404, "the role was taken away");
    assert_eq!(keystone.as_token(&admin, "DELETE", &path, Value::Null).await.status, 404);

    NOW_US.fetch_add(3_600_000_000, Ordering::Relaxed);
    assert_eq!(keystone.as_token(&admin, "GET", "/v3/projects", Value::Null).await.status, 401, "expired");
    keystone.admin().await;
    assert_eq!(keystone.store.snapshot().tokens.len(), 1, "expired ones are taken away");
}

#[tokio::test]
async fn tokens_can_be_had_for_every_scope_and_for_another() {
    let keystone = Keystone::start();
    let admin = keystone.log_in("admin", PASSWORD, json!("unscoped")).await;
    assert_eq!(admin.status, 201);
    assert_eq!(admin.body["token"].get("roles"), None);
    assert_eq!(admin.body["token"].get("catalog"), None);
    let by_token = json!({"methods": ["token"], "token": {"id": admin.token()}});
    let system = keystone.auth(by_token.clone(), json!({"system": {"all": true}})).await;
    assert_eq!(system.body["token"]["system"], json!({"all": true}));
    assert_eq!(system.body["token"]["methods"], json!(["password", "token"]));
    assert_eq!(system.body["token"]["audit_ids"][1], admin.body["token"]["audit_ids"][0]);
    assert_eq!(system.body["token"]["expires_at"], admin.body["token"]["expires_at"]);
    let domain = keystone.auth(by_token.clone(), json!({"domain": {"id": "default"}})).await;
    assert_eq!(domain.status, 401, "no role there");
    let own = keystone.log_in("admin", PASSWORD, Value::Null).await;
    assert_eq!(own.body["token"]["project"]["name"], "admin", "the default project");
    let id = own.body["token"]["project"]["id"].clone();
    let scoped = keystone.auth(by_token, json!({"project": {"id": id}})).await;
    assert_eq!(scoped.body["token"]["project"]["id"], id);
    let projects = keystone.as_token(&admin.token(), "GET", "/v3/auth/projects", Value::Null).await;
    assert_eq!(projects.body["projects"][0]["name"], "admin");
}

#[tokio::test]
async fn the_cli_makes_and_finds_projects_users_and_roles() {
    let keystone = Keystone::start();
    let admin = keystone.admin().await;
    let (project_id, user) = keystone.member(&admin, "red").await;
    let get = async |path: String| keystone.as_token(&admin, "GET", &path, Value::Null).await;

    let by_name = get("/v3/projects/red".to_owned()).await;
    assert_eq!(by_name.status, 404);
    assert_eq!(by_name.body["error"]["message"], "Could not find project: red.");
    let listed = get("/v3/projects?name=red&domain_id=default".to_owned()).await;
    assert_eq!(listed.body["projects"][0]["id"], project_id.as_str());
    assert_eq!(listed.body["projects"].as_array().unwrap().len(), 1);
    assert_eq!(listed.body["links"]["next"], Value::Null);
    let shown = get(format!("/v3/projects/{project_id}")).await;
    assert_eq!(shown.body["project"]["parent_id"], "default");
    assert_eq!(shown.body["project"]["links"]["self"], format!("{ROOT}/v3/projects/{project_id}"));
    let shown = get(format!("/v3/users/{user}")).await;
    assert_eq!(shown.body["user"]["default_project_id"], project_id.as_str());
    assert_eq!(shown.body["user"].get("password"), None);

    let twice = json!({"project": {"name": "red"}});
    let answer = keystone.as_token(&admin, "POST", "/v3/projects", twice).await;
    assert_eq!((answer.status.as_u16(), &answer.body["error"]["title"]), (409, &json!("Conflict")));
    let unknown = json!({"user": {"name": "x", "colour": "red"}});
    let answer = keystone.as_token(&admin, "POST", "/v3/users", unknown).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.body["error"]["message"],
        "Additional properties are not allowed ('colour' was unexpected)"
    );

    let path = format!("/v3/role_assignments?user.id={user}&include_names=true");
    let assignments = get(path).await.body["role_assignments"].clone();
    assert_eq!(assignments.as_array().unwrap().len(), 1);
    assert_eq!(assignments[0]["scope"]["project"]["name"], "red");
    assert_eq!(assignments[0]["role"]["name"], "member");
    let effective = get(format!("/v3/role_assignments?user.id={user}&effective")).await;
    assert_eq!(effective.body["role_assignments"].as_array().unwrap().len(), 2, "member and reader");
    let roles = get(format!("/v3/projects/{project_id}/users/{user}/roles")).await;
    assert_eq!(roles.body["roles"][0]["name"], "member");

    let path = format!("/v3/projects/{project_id}");
    assert_eq!(keystone.as_token(&admin, "DELETE", &path, Value::Null).await.status, 204);
    assert_eq!(get(format!("/v3/role_assignments?user.id={user}")).await.body["role_assignments"], json!([]));
    assert_eq!(get(format!("/v3/users/{user}")).await.body["user"].get("default_project_id"), None);
}

#[tokio::test]
async fn only_administrators_change_anything() {
    let keystone = Keystone::start();
    let admin = keystone.admin().await;
    let (project_id, user) = keystone.member(&admin, "red").await;
    let (other_project, other) = keystone.member(&admin, "blue").await;
    let red = keystone.log_in("red", "red", project("red")).await;
    assert_eq!(roles(&red.body["token"]), ["member", "reader"]);
    let red = red.token();
    let role = keystone.store.snapshot().role_by_name("admin").unwrap().id;
    let cases = [
        ("GET", "/v3/projects".to_owned(), 403),
        ("GET", "/v3/users".to_owned(), 403),
        ("GET", "/v3/role_assignments".to_owned(), 403),
        ("GET", format!("/v3/projects/{project_id}"), 200),
        ("GET", format!("/v3/projects/{other_project}"), 403),
        ("GET", format!("/v3/users/{user}"), 200),
        ("GET", format!("/v3/users/{other}"), 403),
        ("POST", "/v3/projects".to_owned(), 403),
        ("POST", "/v3/users".to_owned(), 403),
        ("POST", "/v3/roles".to_owned(), 403),
        ("PATCH", format!("/v3/users/{user}"), 403),
        ("DELETE", format!("/v3/users/{other}"), 403),
        ("PUT", format!("/v3/projects/{project_id}/users/{user}/roles/{role}"), 403),
        ("PUT", format!("/v3/system/users/{user}/roles/{role}"), 403),
        ("GET", format!("/v3/users/{other}/application_credentials"), 403),
    ];
    let before = keystone.store.snapshot().revision;
    for (method, path, want) in cases {
        let answer = keystone.as_token(&red, method, &path, json!({"user": {"enabled": true}})).await;
        assert_eq!(answer.status, want, "{method} {path}: {}", answer.body);
        let answer = keystone.call(method, &path, &[], json!({})).await;
        assert_eq!(answer.status, 401, "{method} {path} without a token");
    }
    let headers = [("x-auth-token", red.as_str()), ("x-subject-token", admin.as_str())];
    assert_eq!(keystone.call("GET", "/v3/auth/tokens", &headers, Value::Null).await.status, 404);
    assert_eq!(keystone.call("DELETE", "/v3/auth/tokens", &headers, Value::Null).await.status, 404);
    assert_eq!(keystone.store.snapshot().revision, before, "nothing changed");
}

#[tokio::test]
async fn an_application_credential_has_its_roles_its_project_and_its_end() {
    let keystone = Keystone::start();
    let admin = keystone.admin().await;
    let (_, user) = keystone.member(&admin, "red").await;
    let red = keystone.log_in("red", "red", project("red")).await.token();
    let path = format!("/v3/users/{user}/application_credentials");
    let body = json!({"application_credential": {
        "name": "robot", "roles": [{"name": "reader"}], "expires_at": "2026-11-22T06:30:00",
    }});
    let made = keystone.as_token(&red, "POST", &path, body.clone()).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let credential = made.body["application_credential"].clone();
    assert_eq!(credential["expires_at"], "2026-11-22T06:30:00.000000");
    assert_eq!(keystone.as_token(&red, "POST", &path, body).await.status, 409);
    let all = json!({"application_credential": {"name": "all", "roles": []}});
    let all = keystone.as_token(&red, "POST", &path, all).await;
    assert_eq!(all.body["application_credential"]["roles"][0]["name"], "member", "{}", all.body);
    let too_much = json!({"application_credential": {"name": "x", "roles": [{"name": "admin"}]}});
    assert_eq!(keystone.as_token(&red, "POST", &path, too_much).await.status, 400);
    let shown = keystone.as_token(&red, "GET", &path, Value::Null).await;
    let shown = shown.body["application_credentials"].as_array().unwrap().clone();
    assert!(shown.len() == 2 && shown.iter().all(|own| own.get("secret").is_none()), "{shown:?}");

    let proof =
        |given: Value| json!({"methods": ["application_credential"], "application_credential": given});
    let secret = &credential["secret"];
    let by_name = json!({
        "name": "robot", "user": {"name": "red", "domain": {"id": "default"}}, "secret": secret,
    });
    for given in [json!({"id": credential["id"], "secret": secret}), by_name.clone()] {
        let answer = keystone.auth(proof(given), Value::Null).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        assert_eq!(roles(&answer.body["token"]), ["reader"]);
        assert_eq!(answer.body["token"]["project"]["name"], "red");
        assert_eq!(answer.body["token"]["application_credential"]["restricted"], true);
        let token = answer.token();
        let more = json!({"application_credential": {"name": "more"}});
        assert_eq!(keystone.as_token(&token, "POST", &path, more).await.status, 403, "restricted");
        let rescope = json!({"methods": ["token"], "token": {"id": token}});
        assert_eq!(keystone.auth(rescope, project("red")).await.status, 401);
    }
    let wrong = keystone.auth(proof(json!({"id": credential["id"], "secret": "x"})), Value::Null).await;
    assert_eq!(wrong.status, 401);
    assert_eq!(
        keystone.auth(proof(by_name.clone()), project("red")).await.status,
        400,
        "no scope can be asked for"
    );

    let token = keystone.auth(proof(by_name.clone()), Value::Null).await.token();
    NOW_US.fetch_add(1_800_000_000, Ordering::Relaxed);
    assert_eq!(
        keystone.as_token(&token, "GET", "/v3/auth/catalog", Value::Null).await.status,
        401,
        "expired"
    );
    assert_eq!(keystone.auth(proof(by_name), Value::Null).await.status, 401);
    let id = credential["id"].as_str().unwrap();
    let answer = keystone.as_token(&red, "DELETE", &format!("{path}/{id}"), Value::Null).await;
    assert_eq!(answer.status, 204);
}

#[tokio::test]
async fn domains_keep_their_names_apart_and_go_with_all_they_hold() {
    let keystone = Keystone::start();
    let admin = keystone.admin().await;
    let post = async |path: &str, body: Value| keystone.as_token(&admin, "POST", path, body).await;
    let domain = post("/v3/domains", json!({"domain": {"name": "west"}})).await.id("domain");
    let body = json!({"user": {"name": "admin", "domain_id": domain, "password": "other"}});
    let user = post("/v3/users", body).await.id("user");
    let project = post("/v3/projects", json!({"project": {"name": "admin", "domain_id": domain}})).await;
    keystone.grant(&admin, &project.id("project"), &user, "reader").await;
    let west = json!({"name": "west"});
    let proof = json!({"methods": ["password"], "password": {
        "user": {"name": "admin", "domain": west, "password": "other"},
    }});
    let token = keystone.auth(proof, json!({"project": {"name": "admin", "domain": west}})).await;
    assert_eq!(roles(&token.body["token"]), ["reader"]);

    let path = format!("/v3/domains/{domain}");
    let refused = keystone.as_token(&admin, "DELETE", &path, Value::Null).await;
    assert_eq!(refused.status, 403, "it is enabled");
    let off = json!({"domain": {"enabled": false}});
    assert_eq!(keystone.as_token(&admin, "PATCH", &path, off.clone()).await.status, 200);
    assert_eq!(keystone.as_token(&token.token(), "GET", "/v3/auth/projects", Value::Null).await.status, 401);
    assert_eq!(keystone.as_token(&admin, "DELETE", &path, Value::Null).await.status, 204);
    let snapshot = keystone.store.snapshot();
    assert_eq!((snapshot.users.len(), snapshot.projects.len(), snapshot.domains.len()), (1, 1, 1));
    assert_eq!(keystone.as_token(&admin, "PATCH", "/v3/domains/default", off).await.status, 403);
}

#[test]
fn bootstrap_again_is_the_way_back_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("identity.redb");
    let first = {
        let store = Store::open(Some(&path)).unwrap();
        bootstrap(&store, None).unwrap().password
    };
    assert_eq!(first.len(), 64, "random");
    let store = Store::open(Some(&path)).unwrap();
    let before = store.snapshot();
    let second = bootstrap(&store, None).unwrap().password;
    assert_ne!(first, second);
    let after = store.snapshot();
    assert_eq!(before.users.keys().next(), after.users.keys().next(), "the same user");
    assert_eq!((after.users.len(), after.roles.len(), after.assignments.len()), (1, 3, 2));
}
