//! Tokens of a Keystone elsewhere: validated with the calls that keystonemiddleware makes, and remembered for a while.
//!
//! The controller logs in as a service user (`POST /v3/auth/tokens`) and asks about each token it has not seen lately
//! (`GET /v3/auth/tokens` with `X-Subject-Token`). A revoked token is thus accepted for as long as it is remembered;
//! that time is the operator's choice. While Keystone does not answer, tokens that are remembered go on working.

use api::{AuthenticationError, Caller, Rank};
use axum::body::Bytes;
use axum::http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A request that takes longer has failed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A token with a catalog has some 10 KiB.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Keystone's own kinds of tokens are shorter.
const TOKEN_BYTES_MAX: usize = 1024;
/// Tokens remembered; when there are more, all are forgotten and asked for again.
const REMEMBERED_MAX: usize = 10_000;
/// Authorities trusted unless others are named: Debian's.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where a Keystone is: its URL without `/v3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    https: bool,
    host: String,
    port: u16,
    path: String,
}

/// A text that is no such URL.
#[derive(Debug, thiserror::Error)]
#[error("not a URL such as https://keystone:5000")]
pub struct BadUrl;

impl Endpoint {
    /// # Errors
    /// Not an absolute `http` or `https` URL.
    pub fn parse(url: &str) -> Result<Self, BadUrl> {
        let uri: Uri = url.parse().map_err(|_| BadUrl)?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(BadUrl),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(BadUrl)?;
        let path = uri.path().trim_end_matches('/').trim_end_matches("/v3").to_owned();
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        Ok(Self { https, host: host.trim_matches(['[', ']']).to_owned(), port, path })
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    pub endpoint: Endpoint,
    /// The service user: a role that may validate tokens, usually `service` or `admin`, in that project.
    pub user: String,
    pub password: String,
    pub project: String,
    pub user_domain: String,
    pub project_domain: String,
    /// Authorities (PEM) instead of the system's.
    pub ca: Option<PathBuf>,
    /// How long an answer is remembered.
    pub cache: Duration,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("endpoint", &self.endpoint)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What Keystone said of a token, until a time in seconds since 1970.
#[derive(Clone, Debug)]
struct Remembered {
    caller: Option<Caller>,
    until: i64,
}

/// A client of a Keystone elsewhere.
pub struct Keystone {
    settings: Settings,
    tls: Option<TlsConnector>,
    clock: fn() -> i64,
    /// By token, so that a lookup needs no hash; they are in memory only.
    remembered: Mutex<HashMap<String, Remembered>>,
    own_token: tokio::sync::Mutex<Option<String>>,
}

impl Keystone {
    /// `clock`: seconds since 1970.
    ///
    /// # Errors
    /// The authorities cannot be read.
    pub fn new(settings: Settings, clock: fn() -> i64) -> std::io::Result<Self> {
        let tls = match settings.endpoint.https {
            true => Some(connector(settings.ca.as_deref().unwrap_or(Path::new(AUTHORITIES)))?),
            false => None,
        };
        let (remembered, own_token) = Default::default();
        Ok(Self { settings, tls, clock, remembered, own_token })
    }

    /// # Errors
    /// Keystone says that the token is none, or does not answer.
    pub async fn caller(&self, token: &str) -> Result<Caller, AuthenticationError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthenticationError::Unauthorized);
        }
        let now = (self.clock)();
        let remembered = self.recall(token, now);
        let caller = match remembered {
            Some(known) => known.caller,
            None => {
                let asked = self.ask(token).await.map_err(AuthenticationError::Unavailable)?;
                let keep = i64::try_from(self.settings.cache.as_secs()).unwrap_or(0);
                let (caller, until) = match asked {
                    Some((caller, expires_at)) => (Some(caller), expires_at.min(now + keep)),
                    None => (None, now + keep),
                };
                self.remember(token, Remembered { caller: caller.clone(), until });
                caller
            }
        };
        caller.ok_or(AuthenticationError::Unauthorized)
    }

    fn recall(&self, token: &str, now: i64) -> Option<Remembered> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.get(token).filter(|known| known.until > now).cloned()
    }

    fn remember(&self, token: &str, known: Remembered) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(token.to_owned(), known);
    }

    /// Caller and end of the token; `None`: it is none.
    async fn ask(&self, token: &str) -> Result<Option<(Caller, i64)>, Failure> {
        // Twice: the controller's own token may have ended.
        for fresh in [false, true] {
            let own = self.own_token(fresh).await?;
            let headers = [("x-auth-token", own.as_str()), ("x-subject-token", token)];
            let answer = self.send(Method::GET, "/v3/auth/tokens?nocatalog", &headers, None).await?;
            match answer.status() {
                StatusCode::OK => return caller(answer.body()).map(Some),
                StatusCode::NOT_FOUND => return Ok(None),
                StatusCode::UNAUTHORIZED if !fresh => {}
                status => {
                    return Err(format!("Keystone answered {status} to a question about a token").into());
                }
            }
        }
        Err("Keystone takes the controller's own token and then refuses it".into())
    }

    async fn own_token(&self, fresh: bool) -> Result<String, Failure> {
        let mut own = self.own_token.lock().await;
        if let Some(token) = own.as_ref().filter(|_| !fresh) {
            return Ok(token.clone());
        }
        let Settings { user, password, project, user_domain, project_domain, .. } = &self.settings;
        let user = json!({"name": user, "domain": {"name": user_domain}, "password": password});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": project, "domain": {"name": project_domain}}},
        }});
        let answer = self.send(Method::POST, "/v3/auth/tokens", &[], Some(&body)).await?;
        let token = answer.headers().get("x-subject-token").and_then(|token| token.to_str().ok());
        let token = token.filter(|_| answer.status() == StatusCode::CREATED);
        let token = token.ok_or_else(|| {
            format!("Keystone answered {} to the login of the service user", answer.status())
        })?;
        *own = Some(token.to_owned());
        Ok(token.to_owned())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Response<Bytes>, Failure> {
        let exchange = async {
            let Endpoint { host, port, .. } = &self.settings.endpoint;
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            let request = self.request(method, path, headers, body)?;
            match &self.tls {
                None => exchange(stream, request).await,
                Some(tls) => {
                    let name = ServerName::try_from(host.clone())?;
                    exchange(tls.connect(name, stream).await?, request).await
                }
            }
        };
        match tokio::time::timeout(TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("Keystone did not answer within {TIMEOUT:?}").into()),
        }
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let Endpoint { host, port, path: prefix, .. } = &self.settings.endpoint;
        let mut request = Request::builder().method(method).uri(format!("{prefix}{path}"));
        request = request.header(header::HOST, format!("{host}:{port}"));
        request = request.header(header::CONTENT_TYPE, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(request.body(Full::new(body.map_or_else(Bytes::new, |body| body.to_string().into())))?)
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Failure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer: nothing is sent twice over it.
    let connection = tokio::spawn(connection);
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let bytes = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
    connection.abort();
    Ok(Response::from_parts(parts, bytes))
}

fn connector(authorities: &Path) -> std::io::Result<TlsConnector> {
    let invalid = |error: Failure| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&std::fs::read(authorities)?) {
        roots
            .add(certificate.map_err(|error| invalid(error.into()))?)
            .map_err(|error| invalid(error.into()))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| invalid(error.into()))?;
    Ok(TlsConnector::from(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
}

/// Who has a token, and until when, by Keystone's answer.
fn caller(body: &[u8]) -> Result<(Caller, i64), Failure> {
    let body: Value = serde_json::from_slice(body)?;
    let token = body.get("token").ok_or("Keystone's answer holds no token")?;
    let roles = token.get("roles").and_then(Value::as_array);
    let roles = roles.into_iter().flatten().filter_map(|role| role.get("name")?.as_str());
    let project = token.pointer("/project/id").and_then(Value::as_str).unwrap_or_default();
    let expires_at = token.get("expires_at").and_then(Value::as_str).unwrap_or_default();
    let expires_at = OffsetDateTime::parse(expires_at, &Rfc3339)?.unix_timestamp();
    Ok((Caller { project_id: project.to_owned(), rank: Rank::of(roles) }, expires_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_with_and_without_version() {
        let keystone = Endpoint::parse("https://keystone.example:5000/v3/").unwrap();
        assert_eq!(keystone, Endpoint::parse("https://keystone.example:5000").unwrap());
        assert_eq!(keystone.port, 5000);
        let behind = Endpoint::parse("http://[::1]/identity").unwrap();
        assert_eq!((behind.host.as_str(), behind.port, behind.path.as_str()), ("::1", 80, "/identity"));
        for bad in ["", "keystone:5000", "/v3", "ftp://keystone", "https://"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_answer_of_keystone_is_a_caller() {
        let body = br#"{"token": {"expires_at": "2026-11-22T07:00:00.000000Z", "project": {"id": "p"},
            "roles": [{"name": "reader"}, {"name": "member"}]}}"#;
        let want = Caller { project_id: "p".into(), rank: Rank::Member };
        assert_eq!(caller(body).unwrap(), (want, 1_795_330_800));
        for bad in ["", "{}", r#"{"token": {"expires_at": "soon"}}"#] {
            assert!(caller(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
