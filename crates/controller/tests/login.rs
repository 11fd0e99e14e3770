//! Logging in to a real controller: over TLS with the built-in identity, and with the tokens of a Keystone elsewhere, for
//! which a second controller stands.

mod common;

use common::agent::{PATIENCE, config, pki};
use controller::bootstrap::{BootstrapError, Options, bootstrap};
use controller::config::{Auth, TlsFiles};
use controller::{Config, Server, keystone};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

const PASSWORD: &str = "correct horse";

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn token(&self) -> String {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with("x-subject-token:"));
        line.expect("a token").split_once(':').unwrap().1.trim().to_owned()
    }
}

/// One request over one connection.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    token: Option<&str>,
    body: &Value,
) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let token = token.map(|token| format!("X-Auth-Token: {token}\r\n")).unwrap_or_default();
    let length = body.len();
    let text = format!(
        "{request} HTTP/1.1\r\nHost: cloud.example\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n{token}\r\n{body}"
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that closes TLS without a word has still answered.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap_or(Value::Null) }
}

/// A client of one controller, over TLS or not.
struct Client {
    address: std::net::SocketAddr,
    tls: Option<TlsConnector>,
}

impl Client {
    fn of(server: &Server, authority: Option<&Path>) -> Self {
        let tls = authority.map(|pem| {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(pem).unwrap()).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = rustls::ClientConfig::builder_with_provider(provider);
            let builder = builder.with_safe_default_protocol_versions().unwrap();
            TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
        });
        Self { address: server.api_address.unwrap(), tls }
    }

    async fn call(&self, request: &str, token: Option<&str>, body: Value) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let Some(tls) = &self.tls else { return exchange(stream, request, token, &body).await };
        let name = ServerName::try_from("controller").unwrap();
        exchange(tls.connect(name, stream).await.unwrap(), request, token, &body).await
    }

    async fn log_in(&self, user: &str, password: &str) -> Answer {
        let user = json!({"name": user, "domain": {"id": "default"}, "password": password});
        let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}});
        self.call("POST /v3/auth/tokens", None, body).await
    }
}

fn builtin(dir: &Path) -> Config {
    Config {
        data_dir: Some(dir.join("data")),
        auth: Auth::Builtin(identity::Settings::default()),
        ..config(dir)
    }
}

fn options(dir: &Path) -> Options {
    let password = Some(PASSWORD.to_owned());
    Options {
        clouds_yaml: dir.join("clouds.yaml"),
        url: Some("https://cloud.example:9696/".into()),
        password,
    }
}

#[tokio::test]
async fn an_administrator_logs_in_over_tls_and_makes_a_member() {
    let dir = tempfile::tempdir().unwrap();
    pki(dir.path(), &[]);
    let files =
        TlsFiles { certificate: dir.path().join("controller.pem"), key: dir.path().join("controller.key") };
    let socket = dir.path().join("api.sock");
    let with_tls =
        || Config { api_tls: Some(files.clone()), api_socket: Some(socket.clone()), ..builtin(dir.path()) };
    bootstrap(&with_tls(), options(dir.path())).unwrap();
    let server = Server::start(with_tls()).await.unwrap();
    let authority = dir.path().join("ca.pem");
    let client = Client::of(&server, Some(&authority));
    // Somebody who connects and says nothing keeps nobody.
    let silent = TcpStream::connect(client.address).await.unwrap();

    let versions = client.call("GET /", None, Value::Null).await;
    assert_eq!(versions.body["versions"][0]["links"][0]["href"], "https://cloud.example/v2.0/");
    assert_eq!(client.call("GET /v2.0/networks", None, Value::Null).await.status, 401);
    assert_eq!(client.log_in("admin", "wrong").await.status, 401);
    let answer = client.log_in("admin", PASSWORD).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let urls = answer.body["token"]["catalog"].to_string();
    assert!(urls.contains("https://cloud.example/identity") && !urls.contains("http:"), "{urls}");
    let admin = answer.token();
    let project = json!({"project": {"name": "red"}});
    let project = client.call("POST /v3/projects", Some(&admin), project).await.body["project"]["id"].clone();
    let user = json!({"user": {"name": "red", "password": "red", "default_project_id": project}});
    let user = client.call("POST /v3/users", Some(&admin), user).await.body["user"]["id"].clone();
    let roles = client.call("GET /v3/roles?name=member", Some(&admin), Value::Null).await.body;
    let path = [&project, &user, &roles["roles"][0]["id"]].map(|id| id.as_str().unwrap());
    let grant = format!("PUT /v3/projects/{}/users/{}/roles/{}", path[0], path[1], path[2]);
    assert_eq!(client.call(&grant, Some(&admin), Value::Null).await.status, 204);

    let member = client.log_in("red", "red").await.token();
    let network = json!({"network": {"name": "red"}});
    let made = client.call("POST /v2.0/networks", Some(&member), network).await;
    assert_eq!((made.status, &made.body["network"]["project_id"]), (201, &project));
    assert_eq!(client.call("GET /nanboku/v1/status", Some(&member), Value::Null).await.status, 403);
    assert_eq!(client.call("GET /nanboku/v1/status", Some(&admin), Value::Null).await.status, 200);
    let stream = UnixStream::connect(&socket).await.unwrap();
    let local = exchange(stream, "GET /nanboku/v1/status", None, &Value::Null).await;
    assert_eq!(local.status, 200, "who reaches the socket is the administrator");

    server.shutdown().await;
    let server = Server::start(with_tls()).await.unwrap();
    let client = Client::of(&server, Some(&authority));
    let networks = client.call("GET /v2.0/networks", Some(&member), Value::Null).await;
    assert_eq!(networks.body["networks"][0]["name"], "red", "tokens survive a restart");
    drop(silent);
    server.shutdown().await;
}

#[tokio::test]
async fn bootstrap_writes_a_file_for_its_owner_and_says_what_is_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    pki(dir.path(), &[]);
    let config = builtin(dir.path());
    bootstrap(&config, options(dir.path())).unwrap();
    let path = dir.path().join("clouds.yaml");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    for line in [
        "auth_url: \"https://cloud.example:9696/identity/v3\"",
        "password: \"correct horse\"",
        "username: admin",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let refused = |config: &Config, options| bootstrap(config, options).unwrap_err().to_string();
    assert!(refused(&config, options(dir.path())).contains("clouds.yaml exists already"));
    let other = || Options { clouds_yaml: dir.path().join("other.yaml"), url: None, ..options(dir.path()) };
    let everywhere = Config { api_listen: Some("0.0.0.0:9696".parse().unwrap()), ..builtin(dir.path()) };
    assert!(refused(&everywhere, other()).contains("--url"));
    let none = Config { auth: Auth::None, ..builtin(dir.path()) };
    assert!(matches!(bootstrap(&none, other()), Err(BootstrapError::NotBuiltin)));
    let server = Server::start(builtin(dir.path())).await.unwrap();
    assert!(refused(&config, other()).contains("identity.redb is in use by another process"));
    assert!(!dir.path().join("other.yaml").exists(), "nothing is left of a refusal");
    server.shutdown().await;
}

#[tokio::test]
async fn tokens_of_a_keystone_elsewhere_are_taken_and_remembered() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    pki(here.path(), &[]);
    pki(there.path(), &[]);
    bootstrap(&builtin(there.path()), options(there.path())).unwrap();
    let keystone = Server::start(builtin(there.path())).await.unwrap();
    let settings = keystone::Settings {
        endpoint: keystone::Endpoint::parse(&format!("http://{}/v3", keystone.api_address.unwrap())).unwrap(),
        user: "admin".into(),
        password: PASSWORD.into(),
        project: "admin".into(),
        user_domain: "Default".into(),
        project_domain: "Default".into(),
        ca: None,
        cache: Duration::from_secs(300),
    };
    let server =
        Server::start(Config { auth: Auth::Keystone(settings), ..config(here.path()) }).await.unwrap();
    let (client, elsewhere) = (Client::of(&server, None), Client::of(&keystone, None));
    let token = elsewhere.log_in("admin", PASSWORD).await.token();
    let status = async |token: &str| client.call("GET /v2.0/networks", Some(token), Value::Null).await.status;
    assert_eq!(status(&token).await, 200);
    assert_eq!(status("wrong").await, 401);
    assert_eq!(status(&"x".repeat(2000)).await, 401);
    assert_eq!(client.call("GET /v3", None, Value::Null).await.status, 401, "identity is elsewhere");
    keystone.shutdown().await;
    assert_eq!(status(&token).await, 200, "remembered");
    let unknown = tokio::time::timeout(2 * PATIENCE, status("unknown")).await.unwrap();
    assert_eq!(unknown, 503, "nobody knows");
    server.shutdown().await;
}
