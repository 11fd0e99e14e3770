//! The paths, and who the caller is.
//!
//! Everything but the version documents, logging in and changing one's own password needs a token: a handler gets it
//! by taking a [`Caller`], which is refused with 401 otherwise. Writing needs the role admin.

use crate::directory::Identity;
use crate::discovery;
use crate::fields::BODY_BYTES_MAX;
use crate::resources::assignment::{self, Place, Verb};
use crate::resources::{self, Resource, application_credential};
use crate::{Error, Scope, Session, tokens};
use api::Root;
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequestParts, OriginalUri, Path, State};
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{MethodRouter, get};
use model::identity::{Domain, DomainId, Project, Role, User};
use std::sync::Arc;

pub(crate) type Answer = Result<Response, Error>;
type Shared = State<Arc<Identity>>;

/// Identity at `/v3`, for a root that has other versions of its own, and at `/identity` with its version documents.
pub fn router(identity: Arc<Identity>) -> Router {
    let v3 = v3();
    Router::new()
        .route("/identity", get(discovery::versions))
        .route("/identity/", get(discovery::versions))
        .route("/identity/v3/", version())
        .nest("/identity/v3", v3.clone())
        .route("/v3/", version())
        .nest("/v3", v3)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(identity)
}

fn version() -> MethodRouter<Arc<Identity>> {
    get(async |Root(root): Root, OriginalUri(uri): OriginalUri| {
        discovery::version(&root, uri.path().trim_end_matches('/'))
    })
}

fn v3() -> Router<Arc<Identity>> {
    Router::new()
        .route("/", version())
        .route("/auth/tokens", get(tokens::validate).post(tokens::issue).delete(tokens::revoke))
        .route("/auth/catalog", get(tokens::catalog))
        .route("/auth/projects", get(tokens::own_projects))
        .route("/auth/domains", get(tokens::own_domains))
        .route("/services", get(tokens::services))
        .route("/endpoints", get(tokens::endpoints))
        .route("/regions", get(tokens::regions))
        .merge(crud::<Domain>())
        .merge(crud::<Project>())
        .merge(crud::<User>())
        .merge(crud::<Role>())
        .route("/users/{id}/projects", get(tokens::projects))
        .route("/users/{id}/password", axum::routing::post(resources::change_password))
        .route(
            "/users/{id}/application_credentials",
            get(application_credential::list).post(application_credential::create),
        )
        .route(
            "/users/{id}/application_credentials/{credential}",
            get(application_credential::show).delete(application_credential::delete),
        )
        .route("/role_assignments", get(assignment::list_all))
        .merge(roles_at("/projects", Place::Projects))
        .merge(roles_at("/domains", Place::Domains))
        .merge(roles_of_system())
        .fallback(async || Error::NoRoute)
        .method_not_allowed_fallback(async || Error::MethodNotAllowed)
}

fn crud<R: Resource>() -> Router<Arc<Identity>> {
    let collection = format!("/{}", R::COLLECTION);
    let one = get(resources::show::<R>).patch(resources::update::<R>).delete(resources::delete::<R>);
    Router::new()
        .route(&collection, get(resources::list::<R>).post(resources::create::<R>))
        .route(&format!("{collection}/{{id}}"), one)
}

type Three = Path<(String, String, String)>;

fn roles_at(collection: &str, place: Place) -> Router<Arc<Identity>> {
    let act = move |verb| {
        move |State(identity): Shared, caller: Caller, Path((id, user, role)): Three| {
            assignment::act(identity, caller, verb, Some((place, id)), (user, role))
        }
    };
    let list = move |state: Shared, caller: Caller, root: Root, path: Path<(String, String)>| {
        assignment::list(state, caller, root, place, path)
    };
    Router::new().route(&format!("{collection}/{{id}}/users/{{user}}/roles"), get(list)).route(
        &format!("{collection}/{{id}}/users/{{user}}/roles/{{role}}"),
        get(act(Verb::Check)).put(act(Verb::Grant)).delete(act(Verb::Revoke)),
    )
}

fn roles_of_system() -> Router<Arc<Identity>> {
    let act = move |verb| {
        move |State(identity): Shared, caller: Caller, Path(user_and_role): Path<(String, String)>| {
            assignment::act(identity, caller, verb, None, user_and_role)
        }
    };
    Router::new().route("/system/users/{user}/roles", get(assignment::list_system)).route(
        "/system/users/{user}/roles/{role}",
        get(act(Verb::Check)).put(act(Verb::Grant)).delete(act(Verb::Revoke)),
    )
}

/// Whoever sent `X-Auth-Token`.
pub(crate) struct Caller {
    pub(crate) session: Session,
}

impl Caller {
    /// # Errors
    /// `Forbidden`.
    pub(crate) fn must_be_admin(&self, collection: &'static str) -> Result<(), Error> {
        if self.session.is_admin() { Ok(()) } else { Err(Error::Forbidden { action: collection }) }
    }

    /// Administrators see everything, others themselves and where they are.
    pub(crate) fn may_see<R: Resource>(&self, id: &str) -> bool {
        let own = match R::COLLECTION {
            User::COLLECTION => Some(self.session.user.id.to_string()),
            Domain::COLLECTION => Some(self.session.user.domain.to_string()),
            Project::COLLECTION => match &self.session.scope {
                Scope::Project { project, .. } => Some(project.id.to_string()),
                _ => None,
            },
            _ => None,
        };
        self.session.is_admin() || own.as_deref() == Some(id)
    }

    /// Where things are made unless the request says otherwise.
    pub(crate) fn domain(&self) -> DomainId {
        match &self.session.scope {
            Scope::Project { domain, .. } | Scope::Domain(domain) => domain.id,
            Scope::Unscoped | Scope::System => DomainId::DEFAULT,
        }
    }
}

impl FromRequestParts<Arc<Identity>> for Caller {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, identity: &Arc<Identity>) -> Result<Self, Error> {
        let token = parts.headers.get("x-auth-token").and_then(|value| value.to_str().ok());
        let session = token.and_then(|token| identity.session(token));
        session.map(|session| Self { session }).ok_or(Error::Unauthorized)
    }
}

/// Writes wait for the disk, and passwords take time: off the threads that serve others.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Error::internal(error)))
}
