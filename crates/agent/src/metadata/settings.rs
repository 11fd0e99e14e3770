//! `[metadata]` of the configuration.

use crate::Error;
use ring::hmac;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where requests go and how they are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub endpoint: Endpoint,
    /// The secret that the compute service knows too (Nova's `metadata_proxy_shared_secret`).
    pub shared_secret_file: PathBuf,
}

/// `http://HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// Text that is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is '{0}', not of the form http://HOST[:PORT]")]
pub struct NoEndpoint(String);

impl Endpoint {
    /// What TCP connects to, and the `Host` of requests.
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}

impl FromStr for Endpoint {
    type Err = NoEndpoint;

    fn from_str(text: &str) -> Result<Self, NoEndpoint> {
        let wrong = || NoEndpoint(text.to_owned());
        let uri: http::Uri = text.parse().map_err(|_| wrong())?;
        let plain =
            uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/") && uri.query().is_none();
        let authority = uri.authority().filter(|authority| plain && !authority.as_str().contains('@'));
        let authority = authority.ok_or_else(wrong)?;
        if authority.host().is_empty() || authority.port_u16() == Some(0) {
            return Err(wrong());
        }
        Ok(Self { host: authority.host().to_owned(), port: authority.port_u16().unwrap_or(80) })
    }
}

/// What the proxy works with.
pub(super) struct Signer {
    pub(super) endpoint: Endpoint,
    key: hmac::Key,
}

impl Settings {
    pub(super) fn read(&self) -> Result<Signer, Error> {
        let path = || self.shared_secret_file.clone();
        let secret = std::fs::read_to_string(&self.shared_secret_file)
            .map_err(|source| Error::MetadataSecret { path: path(), source })?;
        let secret = secret.trim_end_matches(['\r', '\n']);
        if secret.is_empty() {
            return Err(Error::MetadataSecretEmpty { path: path() });
        }
        Ok(Signer::new(self.endpoint.clone(), secret))
    }
}

impl Signer {
    pub(super) fn new(endpoint: Endpoint, secret: &str) -> Self {
        Self { endpoint, key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()) }
    }

    /// HMAC-SHA256 of an instance's id, in hexadecimal.
    pub(super) fn sign(&self, instance_id: &str) -> String {
        let signature = hmac::sign(&self.key, instance_id.as_bytes());
        signature.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_host_and_a_port() {
        for (text, want) in [
            ("http://10.0.0.1:8775", "http://10.0.0.1:8775"),
            ("http://nova.example/", "http://nova.example:80"),
            ("http://[fd00::1]:8775", "http://[fd00::1]:8775"),
        ] {
            assert_eq!(text.parse::<Endpoint>().map(|endpoint| endpoint.to_string()), Ok(want.to_owned()));
        }
        for text in [
            "10.0.0.1:8775",
            "https://nova:8775",
            "http://",
            "http://nova/path",
            "http://a@nova",
            "http://nova:0",
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(NoEndpoint(text.to_owned())), "{text}");
        }
    }

    /// RFC 4231, test case 2.
    #[test]
    fn a_signature_is_hmac_sha256_in_hexadecimal() {
        let signer = Signer::new("http://nova".parse().unwrap(), "Jefe");
        let want = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signer.sign("what do ya want for nothing?"), want);
    }
}
