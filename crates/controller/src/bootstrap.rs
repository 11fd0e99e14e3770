//! The first administrator of the built-in identity service, and the file that clients log in with.
//!
//! It works on the store itself, so the server must not run: whoever can do this owns the machine anyway.

use crate::config::{Auth, Config, TlsFiles};
use crate::server::{ServerError, StoreFile, open_store};
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Name of the cloud in `clouds.yaml`.
pub const CLOUD: &str = "nanboku";

/// What the operator wants.
#[derive(Clone, Debug)]
pub struct Options {
    /// Made with mode 0600; it must not exist.
    pub clouds_yaml: PathBuf,
    /// Where clients reach the API; none: where it listens.
    pub url: Option<String>,
    /// None: a random one.
    pub password: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error("`auth` is not 'builtin', so nobody logs in here: set `auth = 'builtin'` or give --auth builtin")]
    NotBuiltin,
    #[error("the API listens on {0}, which is no address to connect to: say with --url how clients reach it")]
    NoUrl(SocketAddr),
    #[error("the API listens nowhere (`api_listen` is 'off')")]
    NoListener,
    #[error("{0} exists already: remove it, or name another file with --clouds-yaml")]
    Exists(PathBuf),
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] ServerError),
    #[error("cannot make the administrator")]
    Identity(#[source] identity::Error),
}

/// Makes the domain default, project, user and roles of the administrator, sets the password, and writes
/// `clouds.yaml`. Doing it again is the way back in after losing the password.
///
/// # Errors
/// What is wrong with the configuration, the file or the store. Nothing was changed unless it is the last write.
pub fn bootstrap(config: &Config, options: Options) -> Result<(), BootstrapError> {
    let Auth::Builtin(settings) = &config.auth else { return Err(BootstrapError::NotBuiltin) };
    let url = match options.url {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => url(config)?,
    };
    let path = options.clouds_yaml;
    let failed = |source: io::Error| match source.kind() {
        ErrorKind::AlreadyExists => BootstrapError::Exists(path.clone()),
        _ => BootstrapError::Write { path: path.clone(), source },
    };
    // Before anything else: the password goes nowhere but there.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    let made = open_store(config.data_dir.as_deref(), StoreFile::Identity).map_err(BootstrapError::from);
    let made = made
        .and_then(|store| identity::bootstrap(&store, options.password).map_err(BootstrapError::Identity));
    let written = made.and_then(|made| {
        let text = clouds_yaml(&url, &made, &settings.region, authority(config).as_deref());
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
    });
    if written.is_err() {
        // Empty, so nobody misses it.
        let _ = std::fs::remove_file(&path);
    }
    written
}

fn url(config: &Config) -> Result<String, BootstrapError> {
    let listen = config.api_listen.ok_or(BootstrapError::NoListener)?;
    if listen.ip().is_unspecified() {
        return Err(BootstrapError::NoUrl(listen));
    }
    let scheme = if config.api_tls.is_some() { "https" } else { "http" };
    Ok(format!("{scheme}://{listen}"))
}

/// The authority that clients have to trust: our own, if the API has a certificate of it.
fn authority(config: &Config) -> Option<PathBuf> {
    let TlsFiles { certificate, .. } = config.api_tls.as_ref()?;
    let own = certificate.parent() == Some(config.certificates.as_path());
    own.then(|| std::path::absolute(config.certificates.join("ca.pem")).ok()).flatten()
}

fn clouds_yaml(url: &str, made: &identity::Bootstrap, region: &str, authority: Option<&Path>) -> String {
    // Every JSON string is a YAML string.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let identity::Bootstrap { user, project, domain, password } = made;
    let mut text = format!(
        "clouds:\n  {CLOUD}:\n    auth:\n      auth_url: {}\n      username: {user}\n      password: {}\n      \
         project_name: {project}\n      user_domain_id: {domain}\n      project_domain_id: {domain}\n    \
         region_name: {}\n    identity_api_version: 3\n",
        quoted(&format!("{url}/identity/v3")),
        quoted(password),
        quoted(region),
    );
    if let Some(authority) = authority {
        // Writing to a String does not fail.
        let _ = writeln!(text, "    cacert: {}", quoted(&authority.display().to_string()));
    }
    text
}
