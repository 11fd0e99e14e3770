//! The controller's API as the lab uses it: Neutron v2.0 over the lab's unix socket.

use crate::names::Names;
use anyhow::{Context as _, bail};
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) struct Api {
    http: reqwest::Client,
}

impl Api {
    pub(crate) fn new(names: &Names) -> anyhow::Result<Self> {
        let builder = reqwest::Client::builder().timeout(REQUEST_TIMEOUT);
        let http = builder.unix_socket(names.api_socket()).build().context("cannot make an HTTP client")?;
        Ok(Self { http })
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let mut request = self.http.request(method.clone(), format!("http://localhost{path}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("{method} {path}"))?;
        let status = response.status();
        let answer: Value = response.json().await.unwrap_or(Value::Null);
        if !status.is_success() {
            let message = answer["NeutronError"]["message"].as_str().unwrap_or("no message");
            bail!("{method} {path}: {status}: {message}");
        }
        Ok(answer)
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::PUT, path, Some(body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(Method::DELETE, path, None).await.map(drop)
    }

    /// Creates a resource: `kind` is its singular, whose plural is the path. Answers the object.
    pub(crate) async fn create(&self, kind: &str, body: Value) -> anyhow::Result<Value> {
        let envelope = serde_json::json!({ kind: body });
        let mut answer = self.send(Method::POST, &format!("/v2.0/{kind}s"), Some(&envelope)).await?;
        Ok(answer[kind].take())
    }
}

/// A text field that an answer must have.
pub(crate) fn text(object: &Value, field: &str) -> anyhow::Result<String> {
    let value =
        object[field].as_str().with_context(|| format!("the API's answer has no `{field}`: {object}"))?;
    Ok(value.to_owned())
}
