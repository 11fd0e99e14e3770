//! Logging in: from credentials to a token and the API's URL. Both are kept in memory and nowhere else.

use crate::clouds::Cloud;
use anyhow::{Context as _, bail};
use reqwest::{StatusCode, Url};
use serde_json::Value;

const TOKEN: &str = "x-subject-token";

/// What a log in gives.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) token: reqwest::header::HeaderValue,
    /// The API, as the catalog of services has it.
    pub(crate) root: Url,
}

/// One log in. `endpoint`, if there is one, is used whatever the catalog says.
///
/// # Errors
/// The identity service is not reached or refuses; the message says where and why.
pub(crate) async fn log_in(
    http: &reqwest::Client,
    cloud: &Cloud,
    endpoint: Option<&Url>,
) -> anyhow::Result<Session> {
    let url = cloud.auth.tokens_url()?;
    let response = http.post(&url).json(&cloud.auth.request()?).send().await;
    let response = response.with_context(|| {
        format!("no identity service answers at {url}; a certificate of your own is named with --os-cacert")
    })?;
    let status = response.status();
    let token = response.headers().get(TOKEN).cloned();
    let body: Value = response.json().await.unwrap_or(Value::Null);
    if status == StatusCode::UNAUTHORIZED {
        bail!("{url} refuses the credentials: check user, password, project and domains, or the credential");
    }
    let (Some(mut token), true) = (token, status.is_success()) else {
        let said = body.pointer("/error/message").and_then(Value::as_str).unwrap_or("no token came");
        bail!("{url} answered {status}: {said}");
    };
    token.set_sensitive(true);
    let root = match endpoint {
        Some(endpoint) => endpoint.clone(),
        None => network_endpoint(&body, cloud)?,
    };
    Ok(Session { token, root })
}

/// Of the network service, in the region and by the interface that were asked for.
fn network_endpoint(body: &Value, cloud: &Cloud) -> anyhow::Result<Url> {
    let services = body.pointer("/token/catalog").and_then(Value::as_array);
    let interface = cloud.interface.as_deref().unwrap_or("public").trim_end_matches("URL");
    let fits = |endpoint: &&Value| {
        let region = cloud.region_name.as_deref();
        endpoint["interface"] == interface && region.is_none_or(|region| endpoint["region_id"] == region)
    };
    let url =
        services.into_iter().flatten().filter(|service| service["type"] == "network").find_map(|service| {
            let endpoints = service["endpoints"].as_array()?;
            endpoints.iter().find(fits)?["url"].as_str()
        });
    let url = url.with_context(|| {
        let region = cloud.region_name.as_deref().unwrap_or("any");
        format!("the catalog has no network service (interface {interface}, region {region}); name it with --endpoint")
    })?;
    Url::parse(url).with_context(|| format!("the catalog's network service '{url}' is no URL"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_api_is_where_the_catalog_says() {
        let endpoint = |interface: &str, region: &str, url: &str| json!({"interface": interface, "region_id": region, "url": url});
        let endpoints = [endpoint("admin", "one", "http://a"), endpoint("public", "two", "http://b:9696")];
        let body = json!({"token": {"catalog": [
            {"type": "identity", "endpoints": []},
            {"type": "network", "endpoints": endpoints},
        ]}});
        let found = |cloud: Cloud| network_endpoint(&body, &cloud).map(|url| url.to_string());
        assert_eq!(found(Cloud::default()).unwrap(), "http://b:9696/");
        let admin = Cloud { interface: Some("adminURL".to_owned()), ..Cloud::default() };
        assert_eq!(found(admin).unwrap(), "http://a/");
        let elsewhere = Cloud { region_name: Some("one".to_owned()), ..Cloud::default() };
        let error = found(elsewhere).unwrap_err().to_string();
        assert!(error.contains("region one") && error.contains("--endpoint"), "{error}");
    }
}
