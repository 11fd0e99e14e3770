//! What the API needs on its listeners: certificates, and who is asked who the caller is.

use crate::agents;
use crate::config::{Auth, TlsFiles};
use crate::keystone::Keystone;
use crate::server::{ServerError, StoreFile, open_store};
use api::{Authenticate, AuthenticationError, Backend, Caller, Rank};
use axum::Router;
use identity::{Identity, Scope};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Who knows whose a token is.
pub(crate) enum Authentication {
    Builtin(Arc<Identity>),
    Keystone(Box<Keystone>),
}

impl Authenticate for Authentication {
    async fn authenticate(&self, token: &str) -> Result<Caller, AuthenticationError> {
        let identity = match self {
            Self::Builtin(identity) => identity,
            Self::Keystone(keystone) => return keystone.caller(token).await,
        };
        let session = identity.session(token).ok_or(AuthenticationError::Unauthorized)?;
        let project_id = match &session.scope {
            Scope::Project { project, .. } => project.id.to_string(),
            Scope::Unscoped | Scope::Domain(_) | Scope::System => String::new(),
        };
        let rank = Rank::of(session.roles.iter().map(|role| role.name.as_str()));
        Ok(Caller { project_id, rank })
    }
}

/// The router for `api_listen`, whose callers are authenticated as configured.
///
/// # Errors
/// The identity store or the authorities of Keystone cannot be opened.
pub(crate) fn listener_router<B: Backend>(
    auth: &Auth,
    data_dir: Option<&Path>,
    service: Arc<B>,
) -> Result<Router, ServerError> {
    match auth {
        Auth::None => Ok(api::router(service)),
        Auth::Builtin(settings) => {
            let store = Arc::new(open_store(data_dir, StoreFile::Identity)?);
            if store.snapshot().users.is_empty() {
                tracing::warn!(
                    "there are no users yet: `nanboku server bootstrap` makes the first administrator"
                );
            }
            let identity = Arc::new(Identity::new(store, settings.clone(), agents::now_us));
            let authentication = Arc::new(Authentication::Builtin(Arc::clone(&identity)));
            Ok(api::authenticated(service, authentication).merge(identity::router(identity)))
        }
        Auth::Keystone(settings) => {
            let keystone = Keystone::new(settings.clone(), agents::now_s);
            let keystone = keystone.map_err(ServerError::Keystone)?;
            Ok(api::authenticated(service, Arc::new(Authentication::Keystone(Box::new(keystone)))))
        }
    }
}

/// # Errors
/// The certificate or its key cannot be used.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ServerError> {
    Ok(TlsAcceptor::from(Arc::new(server_config(files)?)))
}

fn server_config(files: &TlsFiles) -> Result<ServerConfig, ServerError> {
    let read = |path: &Path| {
        fs::read(path).map_err(|source| ServerError::Certificates { path: path.to_owned(), source })
    };
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source: Box<dyn std::error::Error + Send + Sync>| ServerError::ApiTls { path, source }
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(&files.certificate)?).collect();
    let chain = chain.map_err(|error| unusable(&files.certificate)(error.into()))?;
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?);
    let key = key.map_err(|error| unusable(&files.key)(error.into()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| unusable(&files.certificate)(error.into()))?;
    let config = builder.with_no_client_auth().with_single_cert(chain, key);
    let mut config = config.map_err(|error| unusable(&files.certificate)(error.into()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
