//! The HTTP client: one place that knows how to reach the API and what its errors look like.

use crate::answers::Answers;
use crate::clouds::Cloud;
use crate::login::{Session, log_in};
use crate::nearest;
use crate::resource::{HOST, Kind};
use anyhow::{Context as _, anyhow, bail};
use reqwest::header::HeaderValue;
use reqwest::{Certificate, Method, RequestBuilder, Response, StatusCode, Url, header};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::Mutex;

/// Where the API listens unless configured otherwise.
pub(crate) const ENDPOINT_DEFAULT: &str = "http://127.0.0.1:9696";
/// A request that takes longer has failed; the API answers from memory.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Rows may come for as long as somebody reads them.
const STREAM_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// Where running labs keep their sockets.
const LABS: &str = "/run/nanboku/lab";

/// An answer of the API that is not a success.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Refused {
    pub(crate) status: u16,
    /// Neutron's error type, for example `IpAddressAlreadyAllocated`.
    pub(crate) kind: String,
    pub(crate) message: String,
}

/// Parameters of a query.
pub(crate) type Query = Vec<(&'static str, String)>;

/// A connection to the API of one controller.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// None: where the catalog of the cloud says.
    root: Option<Url>,
    /// The endpoint as the user wrote it, for messages.
    endpoint: String,
    /// None: the API asks for no token.
    cloud: Option<Cloud>,
    session: Mutex<Option<Session>>,
}

/// How the API is reached: everything the command line and the environment say about it.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH`.
    pub(crate) endpoint: Option<String>,
    pub(crate) cloud: Option<Cloud>,
    /// PEM file of the only authorities to trust.
    pub(crate) cacert: Option<PathBuf>,
    /// Any certificate will do.
    pub(crate) insecure: bool,
}

impl Client {
    /// # Errors
    /// An endpoint that is none, or authorities that cannot be read.
    pub(crate) fn new(access: Access) -> anyhow::Result<Self> {
        let cloud = access.cloud;
        let mut builder = reqwest::Client::builder().timeout(REQUEST_TIMEOUT);
        let cacert = access.cacert.or_else(|| cloud.as_ref()?.cacert.clone());
        if let Some(path) = cacert {
            builder = builder.tls_certs_only(authorities(&path)?);
        }
        let verify = cloud.as_ref().and_then(|cloud| cloud.verify).unwrap_or(true);
        if access.insecure || !verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        let endpoint = match (access.endpoint, &cloud) {
            (Some(endpoint), _) => Some(endpoint),
            (None, Some(_)) => None,
            (None, None) => Some(ENDPOINT_DEFAULT.to_owned()),
        };
        let mut socket = None;
        let root = match &endpoint {
            None => None,
            Some(endpoint) => {
                let root = endpoint.strip_prefix("unix:").map_or(endpoint.as_str(), |path| {
                    socket = Some(PathBuf::from(path));
                    "http://localhost"
                });
                Some(root_of(root, endpoint)?)
            }
        };
        if let Some(socket) = socket {
            builder = builder.unix_socket(socket);
        }
        // Whoever reaches the socket is the administrator without a word.
        let is_local = endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("unix:"));
        Ok(Self {
            http: builder.build().context("cannot make an HTTP client")?,
            root,
            endpoint: endpoint.unwrap_or_else(|| "the cloud's network endpoint".to_owned()),
            cloud: cloud.filter(|_| !is_local),
            session: Mutex::default(),
        })
    }

    /// The socket of a running lab.
    ///
    /// # Errors
    /// No such lab is up.
    pub(crate) fn of_lab(name: &str) -> anyhow::Result<Self> {
        let socket = Path::new(LABS).join(name).join("api.sock");
        if name.is_empty() || name.contains('/') || !socket.exists() {
            let labs = labs_up();
            let hint = nearest::hint(name, &labs);
            let list = if labs.is_empty() { "none".to_owned() } else { labs.join(", ") };
            bail!("no lab '{name}' is up (up: {list}).{hint} Start one with `nanboku lab up FILE|fvn|dvr`.");
        }
        let endpoint = Some(format!("unix:{}", socket.display()));
        Self::new(Access { endpoint, ..Access::default() })
    }

    /// One request; `None` for an empty answer.
    async fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> anyhow::Result<Option<Value>> {
        let with_body = |request: RequestBuilder| match body {
            Some(body) => request.json(body),
            None => request,
        };
        let response = self.send(method, (path, query), with_body).await?;
        let status = response.status();
        let bytes =
            response.bytes().await.with_context(|| format!("the answer of {} broke off", self.endpoint))?;
        if !status.is_success() {
            return Err(refusal(status, &bytes).into());
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let value = serde_json::from_slice(&bytes);
        value
            .map(Some)
            .with_context(|| format!("{} did not answer JSON to {path}; is it a Nanboku API?", self.endpoint))
    }

    /// Rows that hosts tell, as they come.
    pub(crate) async fn answers(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Answers> {
        self.stream(Method::GET, path, query).await
    }

    /// The same of a request that ends what it tells.
    pub(crate) async fn delete_answers(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Answers> {
        self.stream(Method::DELETE, path, query).await
    }

    async fn stream(&self, method: Method, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Answers> {
        let as_rows = |request: RequestBuilder| {
            request.header(header::ACCEPT, "application/x-ndjson").timeout(STREAM_TIMEOUT)
        };
        let response = self.send(method, (path, query), as_rows).await?;
        let status = response.status();
        if !status.is_success() {
            let refusal = refusal(status, &response.bytes().await.unwrap_or_default());
            return match query.iter().find(|(key, _)| *key == "host") {
                Some((_, host)) if refusal.kind == "HostNotFound" => Err(self.missing(&HOST, host).await),
                _ => Err(refusal.into()),
            };
        }
        Ok(Answers::new(response))
    }

    /// Sends a request, with a token if the API wants one; a token that has ended is made anew once.
    async fn send(
        &self,
        method: Method,
        at: (&str, &[(&str, &str)]),
        finish: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> anyhow::Result<Response> {
        let response = self.attempt(method.clone(), at, &finish).await?;
        if response.status() != StatusCode::UNAUTHORIZED || self.cloud.is_none() {
            return Ok(response);
        }
        *self.session.lock().await = None;
        self.attempt(method, at, &finish).await
    }

    async fn attempt(
        &self,
        method: Method,
        (path, query): (&str, &[(&str, &str)]),
        finish: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> anyhow::Result<Response> {
        let (root, token) = self.entrance().await?;
        let mut request = self.http.request(method, url(root, path, query));
        if let Some(token) = token {
            request = request.header("x-auth-token", token);
        }
        finish(request).send().await.map_err(|error| self.unreachable(error))
    }

    /// Where the API is, and the token for it. The first request logs in.
    async fn entrance(&self) -> anyhow::Result<(Url, Option<HeaderValue>)> {
        let Some(cloud) = &self.cloud else {
            let root = self.root.clone().context("there is neither an endpoint nor a cloud")?;
            return Ok((root, None));
        };
        let mut session = self.session.lock().await;
        if session.is_none() {
            *session = Some(log_in(&self.http, cloud, self.root.as_ref()).await?);
        }
        let session = session.clone().context("no session")?;
        Ok((session.root, Some(session.token)))
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        let labs = labs_up();
        let hint = match labs.as_slice() {
            [] => "start it with `nanboku server`, or name another with --endpoint or NANBOKU_ENDPOINT"
                .to_owned(),
            [lab] => format!(
                "for the lab that is up add `--lab {lab}`; another endpoint is named with --endpoint or NANBOKU_ENDPOINT"
            ),
            _ => format!(
                "for a lab add `--lab NAME` (up: {}); another endpoint is named with --endpoint or NANBOKU_ENDPOINT",
                labs.join(", ")
            ),
        };
        anyhow::Error::new(error).context(format!("no controller answers at {}: {hint}", self.endpoint))
    }

    pub(crate) async fn get(&self, path: &str, query: &[(&str, &str)]) -> anyhow::Result<Value> {
        Ok(self.request(Method::GET, path, query, None).await?.unwrap_or(Value::Null))
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        Ok(self.request(Method::POST, path, &[], Some(body)).await?.unwrap_or(Value::Null))
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        Ok(self.request(Method::PUT, path, &[], Some(body)).await?.unwrap_or(Value::Null))
    }

    pub(crate) async fn list(&self, kind: &Kind, query: &[(&str, &str)]) -> anyhow::Result<Vec<Value>> {
        let mut answer = self.get(&kind.path(), query).await?;
        match answer.get_mut(kind.plural).map(Value::take) {
            Some(Value::Array(rows)) => Ok(rows),
            _ => bail!("{} answered without '{}'; is it a Nanboku API?", self.endpoint, kind.plural),
        }
    }

    pub(crate) async fn create(&self, kind: &Kind, body: &Value) -> anyhow::Result<Value> {
        let answer = self.request(Method::POST, &kind.path(), &[], Some(body)).await?;
        Ok(unwrap(kind, answer.unwrap_or(Value::Null)))
    }

    pub(crate) async fn update(&self, kind: &Kind, id: &str, body: &Value) -> anyhow::Result<Value> {
        Ok(unwrap(kind, self.put(&kind.path_of(id), body).await?))
    }

    pub(crate) async fn delete(&self, kind: &Kind, id: &str) -> anyhow::Result<()> {
        self.delete_at(&kind.path_of(id)).await
    }

    pub(crate) async fn delete_at(&self, path: &str) -> anyhow::Result<()> {
        self.request(Method::DELETE, path, &[], None).await.map(drop)
    }

    /// The object with this id or name.
    ///
    /// # Errors
    /// None or several have it; the message says which are near.
    pub(crate) async fn find(&self, kind: &Kind, wanted: &str) -> anyhow::Result<Value> {
        if wanted.is_empty() {
            bail!("the name or id of the {} is empty", kind.noun);
        }
        match self.get(&kind.path_of(wanted), &[]).await {
            Ok(answer) => return Ok(unwrap(kind, answer)),
            Err(error) if is_not_found(&error) => {}
            Err(error) => return Err(error),
        }
        let mut rows = self.list(kind, &[(kind.name_key, wanted)]).await?;
        rows.retain(|row| row.get(kind.name_key).and_then(Value::as_str) == Some(wanted));
        match rows.len() {
            0 => Err(self.missing(kind, wanted).await),
            1 => Ok(rows.remove(0)),
            count => {
                let ids: Vec<&str> = rows.iter().filter_map(|row| row.get("id")?.as_str()).collect();
                bail!("{count} {}s are named '{wanted}'; use one of their ids: {}", kind.noun, ids.join(", "))
            }
        }
    }

    /// What is said of a name that does not exist: near ones, if they can be had.
    async fn missing(&self, kind: &Kind, wanted: &str) -> anyhow::Error {
        let rows = self.list(kind, &[]).await.unwrap_or_default();
        let names: Vec<String> =
            rows.iter().filter_map(|row| Some(row.get(kind.name_key)?.as_str()?.to_owned())).collect();
        let hint = nearest::hint(wanted, &names);
        anyhow!("there is no {} '{wanted}'.{hint} See `nanboku {} list`.", kind.noun, kind.command)
    }

    /// The id of the object with this id or name.
    pub(crate) async fn find_id(&self, kind: &Kind, wanted: &str) -> anyhow::Result<String> {
        let object = self.find(kind, wanted).await?;
        let id = object.get("id").and_then(Value::as_str).map(str::to_owned);
        id.with_context(|| format!("the {} '{wanted}' came without an id", kind.noun))
    }

    /// [`Client::find_id`] for an option that may be missing.
    pub(crate) async fn find_id_of(
        &self,
        kind: &Kind,
        wanted: Option<&str>,
    ) -> anyhow::Result<Option<String>> {
        match wanted {
            Some(wanted) => self.find_id(kind, wanted).await.map(Some),
            None => Ok(None),
        }
    }

    /// Parameters of a query that name things: those that are given, with the things' ids.
    pub(crate) async fn ids_of<const N: usize>(
        &self,
        named: [(&'static str, &Kind, &Option<String>); N],
    ) -> anyhow::Result<Query> {
        let mut query = Query::new();
        for (key, kind, name) in named {
            query.extend(self.find_id_of(kind, name.as_deref()).await?.map(|id| (key, id)));
        }
        Ok(query)
    }
}

fn root_of(root: &str, endpoint: &str) -> anyhow::Result<Url> {
    let url = Url::parse(root).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    url.with_context(|| {
        format!("'{endpoint}' is not an endpoint; write http://HOST:PORT, https://HOST:PORT or unix:PATH")
    })
}

fn authorities(path: &Path) -> anyhow::Result<Vec<Certificate>> {
    let unusable = || format!("cannot use {} as the authorities to trust (--os-cacert)", path.display());
    let pem = std::fs::read(path).with_context(unusable)?;
    let certificates = Certificate::from_pem_bundle(&pem).with_context(unusable)?;
    if certificates.is_empty() {
        bail!("{}: it has no certificates", unusable());
    }
    Ok(certificates)
}

fn url(root: Url, path: &str, query: &[(&str, &str)]) -> Url {
    let mut url = root;
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&format!("{base}{path}"));
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

/// Takes the object out of Neutron's envelope.
fn unwrap(kind: &Kind, mut answer: Value) -> Value {
    answer.get_mut(kind.singular).map(Value::take).unwrap_or(answer)
}

pub(crate) fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 404)
}

/// What the API said: Neutron's error body, the `error` object of its 401, or the bare status.
fn refusal(status: StatusCode, bytes: &[u8]) -> Refused {
    let body: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
    let text = |object: &str, key: &str| body.get(object)?.get(key)?.as_str().map(str::to_owned);
    let message = text("NeutronError", "message").or_else(|| text("error", "message"));
    let kind = text("NeutronError", "type").or_else(|| text("error", "title")).unwrap_or_default();
    let message = match message {
        Some(message) if kind.is_empty() => message,
        Some(message) => format!("{message} ({} {kind})", status.as_u16()),
        None => format!("the API answered {status}"),
    };
    Refused { status: status.as_u16(), kind, message }
}

/// Names of the labs that are up.
pub(crate) fn labs_up() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(LABS) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join("api.sock").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_body_becomes_one_line() {
        let body = br#"{"NeutronError":{"type":"MacAddressInUse","message":"Taken.","detail":""}}"#;
        let refused = refusal(StatusCode::CONFLICT, body);
        assert_eq!((refused.status, refused.kind.as_str()), (409, "MacAddressInUse"));
        assert_eq!(refused.to_string(), "Taken. (409 MacAddressInUse)");
        let refused = refusal(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(refused.to_string(), "the API answered 502 Bad Gateway");
    }

    #[test]
    fn endpoints_are_http_https_or_unix() {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let client =
            |endpoint: &str| Client::new(Access { endpoint: Some(endpoint.to_owned()), ..Access::default() });
        for good in ["http://127.0.0.1:9696", "http://[::1]:9696/", "https://a", "unix:/run/x.sock"] {
            assert!(client(good).is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1:9696", "ftp://a", "/run/x.sock"] {
            let error = client(bad).unwrap_err().to_string();
            assert!(error.contains("https://HOST:PORT or unix:PATH"), "{error}");
        }
    }
}
