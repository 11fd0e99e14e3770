//! The part of the configuration about who may use the API, and over what.

use super::{ConfigError, invalid};
use crate::keystone;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TOKEN_TTL_S_MIN: u32 = 60;
const TOKEN_TTL_S_MAX: u32 = 7 * 86_400;
const CACHE_S_MAX: u64 = 3600;

/// How callers of `api_listen` are known. Those of `api_socket` are always the administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Everybody who reaches the listener is the administrator, so it is on loopback.
    None,
    /// By tokens of the identity service that is part of the controller.
    Builtin(identity::Settings),
    /// By tokens of a Keystone elsewhere.
    Keystone(keystone::Settings),
}

/// A certificate chain and its key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AuthKind {
    /// No authentication; loopback and the Unix socket only.
    #[default]
    None,
    /// The controller's own identity service.
    Builtin,
    /// A Keystone elsewhere.
    Keystone,
}

/// As it is given, by file or flag.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(default)]
pub struct AccessFlags {
    /// How callers of the API are known [default: none].
    #[arg(long, value_name = "KIND")]
    pub auth: Option<AuthKind>,
    /// Certificate chain (PEM) of the API [default: the controller's own; without TLS on loopback].
    #[arg(long, value_name = "FILE")]
    pub api_certificate: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, value_name = "FILE")]
    pub api_key: Option<PathBuf>,
}

/// The table `[identity]` of the file: for `auth = "builtin"`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct IdentityTable {
    token_ttl_s: Option<u32>,
    region: Option<String>,
}

/// The table `[keystone]` of the file: for `auth = "keystone"`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct KeystoneTable {
    url: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
    project: Option<String>,
    user_domain: Option<String>,
    project_domain: Option<String>,
    ca: Option<PathBuf>,
    cache_s: Option<u64>,
}

impl AccessFlags {
    /// What is not given here comes from `other`.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            auth: self.auth.or(other.auth),
            api_certificate: self.api_certificate.or(other.api_certificate),
            api_key: self.api_key.or(other.api_key),
        }
    }

    pub(super) fn auth(
        &self,
        identity: &IdentityTable,
        keystone: &KeystoneTable,
    ) -> Result<Auth, ConfigError> {
        match self.auth.unwrap_or_default() {
            AuthKind::None => Ok(Auth::None),
            AuthKind::Builtin => Ok(Auth::Builtin(identity.build()?)),
            AuthKind::Keystone => Ok(Auth::Keystone(keystone.build()?)),
        }
    }

    /// None: plain HTTP. Off loopback there is always TLS, if need be with the certificate that agents know the
    /// controller by.
    pub(super) fn tls(
        &self,
        listen: Option<SocketAddr>,
        certificates: &Path,
        name: &str,
    ) -> Result<Option<TlsFiles>, ConfigError> {
        let own = |extension: &str| certificates.join(format!("{name}.{extension}"));
        match (&self.api_certificate, &self.api_key) {
            (Some(certificate), Some(key)) => {
                Ok(Some(TlsFiles { certificate: certificate.clone(), key: key.clone() }))
            }
            (Some(_), None) => invalid("api_certificate", "is given without `api_key`"),
            (None, Some(_)) => invalid("api_key", "is given without `api_certificate`"),
            (None, None) => {
                let outside = listen.is_some_and(|listen| !listen.ip().is_loopback());
                Ok(outside.then(|| TlsFiles { certificate: own("pem"), key: own("key") }))
            }
        }
    }
}

impl IdentityTable {
    fn build(&self) -> Result<identity::Settings, ConfigError> {
        let default = identity::Settings::default();
        let token_ttl_s = self.token_ttl_s.unwrap_or(default.token_ttl_s);
        if !(TOKEN_TTL_S_MIN..=TOKEN_TTL_S_MAX).contains(&token_ttl_s) {
            let reason = format!("is {token_ttl_s}, not between {TOKEN_TTL_S_MIN} and {TOKEN_TTL_S_MAX}");
            return invalid("identity.token_ttl_s", reason);
        }
        let region = self.region.clone().unwrap_or(default.region);
        if region.is_empty() || region.len() > 255 {
            return invalid("identity.region", "must have 1 to 255 characters");
        }
        Ok(identity::Settings { token_ttl_s, region })
    }
}

impl KeystoneTable {
    fn build(&self) -> Result<keystone::Settings, ConfigError> {
        let missing = |field| ConfigError::Invalid {
            field,
            reason: "is missing: `auth` is 'keystone', which needs a table [keystone]".to_owned(),
        };
        let url = self.url.as_deref().ok_or_else(|| missing("keystone.url"))?;
        let Ok(endpoint) = keystone::Endpoint::parse(url) else {
            return invalid("keystone.url", format!("is '{url}', not a URL such as https://keystone:5000"));
        };
        let cache_s = self.cache_s.unwrap_or(300);
        if cache_s > CACHE_S_MAX {
            return invalid("keystone.cache_s", format!("is {cache_s}, more than {CACHE_S_MAX}"));
        }
        let or_default = |domain: &Option<String>| domain.clone().unwrap_or_else(|| "Default".to_owned());
        let password_file = self.password_file.as_ref().ok_or_else(|| missing("keystone.password_file"))?;
        let password = std::fs::read_to_string(password_file)
            .map_err(|source| ConfigError::Read { path: password_file.clone(), source })?;
        Ok(keystone::Settings {
            endpoint,
            user: self.user.clone().ok_or_else(|| missing("keystone.user"))?,
            password: password.trim_end_matches(['\r', '\n']).to_owned(),
            project: self.project.clone().unwrap_or_else(|| "service".to_owned()),
            user_domain: or_default(&self.user_domain),
            project_domain: or_default(&self.project_domain),
            ca: self.ca.clone(),
            cache: Duration::from_secs(cache_s),
        })
    }
}
