//! Role assignments: `/v3/projects/{id}/users/{id}/roles/{id}` and its siblings for domains and the system, and
//! `/v3/role_assignments`.

use super::{Filters, collection, find, listed};
use crate::Error;
use crate::directory::{Identity, roles};
use crate::routes::{Answer, Caller, blocking};
use crate::view::reference;
use api::Root;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use model::identity::{Assignment, Domain, DomainId, Project, Role, Target, User};
use serde_json::{Value, json};
use std::sync::Arc;
use store::Snapshot;

const COLLECTION: &str = "role_assignments";

/// Where: `projects`, `domains`, or `system`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    Projects,
    Domains,
}

fn target(snapshot: &Snapshot, place: Place, id: &str) -> Result<Target, Error> {
    Ok(match place {
        Place::Projects => Target::Project(find::<Project>(snapshot, id)?.id),
        Place::Domains => Target::Domain(find::<Domain>(snapshot, id)?.id),
    })
}

/// The roles a user was given there, without those that follow from them.
fn assigned(snapshot: &Snapshot, user: &str, target: Target) -> Result<Vec<Arc<Role>>, Error> {
    let user = find::<User>(snapshot, user)?;
    let assignments = snapshot.assignments_of_user(user.id).filter(|assignment| assignment.target == target);
    Ok(assignments.filter_map(|assignment| snapshot.roles.get(&assignment.role).cloned()).collect())
}

pub(crate) async fn list(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
    place: Place,
    Path((id, user)): Path<(String, String)>,
) -> Answer {
    caller.must_be_admin(COLLECTION)?;
    let snapshot = identity.snapshot();
    let target = target(&snapshot, place, &id)?;
    listed(assigned(&snapshot, &user, target)?, &Query(Vec::new()), &root)
}

pub(crate) async fn list_system(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
    Path(user): Path<String>,
) -> Answer {
    caller.must_be_admin(COLLECTION)?;
    listed(assigned(&identity.snapshot(), &user, Target::System)?, &Query(Vec::new()), &root)
}

/// What to do with an assignment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb {
    Check,
    Grant,
    Revoke,
}

pub(crate) async fn act(
    identity: Arc<Identity>,
    caller: Caller,
    verb: Verb,
    place: Option<(Place, String)>,
    (user, role): (String, String),
) -> Answer {
    caller.must_be_admin(COLLECTION)?;
    blocking(move || {
        identity.write(|tx| {
            let target = match &place {
                Some((place, id)) => target(tx, *place, id)?,
                None => Target::System,
            };
            let user = find::<User>(tx, &user)?.id;
            let role = find::<Role>(tx, &role)?.id;
            let assignment = Assignment { user, target, role };
            match verb {
                Verb::Grant => tx.put(assignment),
                Verb::Check if tx.get::<Assignment>(assignment).is_some() => {}
                Verb::Revoke if tx.remove::<Assignment>(assignment).is_some() => {}
                Verb::Check | Verb::Revoke => return Err(Error::not_found("role assignment", assignment)),
            }
            Ok(())
        })
    })
    .await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `GET /v3/role_assignments`.
pub(crate) async fn list_all(
    State(identity): State<Arc<Identity>>,
    caller: Caller,
    Root(root): Root,
    Query(filters): Filters,
) -> Answer {
    caller.must_be_admin(COLLECTION)?;
    let snapshot = identity.snapshot();
    let flag = |name: &str| {
        let value = filters.iter().find(|(key, _)| key == name).map(|(_, value)| value.to_ascii_lowercase());
        value.is_some_and(|value| !matches!(value.as_str(), "false" | "0"))
    };
    let assignments: Vec<Assignment> =
        if flag("effective") { effective(&snapshot) } else { snapshot.assignments.keys().copied().collect() };
    let with_names = flag("include_names");
    let views = assignments.into_iter().filter_map(|assignment| {
        let view = view(&snapshot, assignment, with_names, &root)?;
        filters.iter().all(|filter| passes(&view, filter)).then_some(view)
    });
    Ok(Json(collection(COLLECTION, views.collect(), &root)).into_response())
}

/// With the roles that follow from others.
fn effective(snapshot: &Snapshot) -> Vec<Assignment> {
    let mut all: Vec<Assignment> = Vec::new();
    let mut seen = None;
    for assignment in snapshot.assignments.keys() {
        let Assignment { user, target, .. } = *assignment;
        if seen.replace((user, target)) == Some((user, target)) {
            continue;
        }
        let roles = roles(snapshot, user, target);
        all.extend(roles.iter().map(|role| Assignment { user, target, role: role.id }));
    }
    all
}

fn view(snapshot: &Snapshot, assignment: Assignment, with_names: bool, root: &str) -> Option<Value> {
    let Assignment { user, target, role } = assignment;
    let user = snapshot.users.get(&user)?;
    let role = snapshot.roles.get(&role)?;
    let domain = |id: &DomainId| snapshot.domains.get(id).map(|domain| reference(domain));
    let (scope, path) = match target {
        Target::System => (json!({"system": {"all": true}}), "system".to_owned()),
        Target::Domain(id) => {
            let scope = if with_names { domain(&id)? } else { json!({"id": id}) };
            (json!({"domain": scope}), format!("domains/{id}"))
        }
        Target::Project(id) => {
            let project = snapshot.projects.get(&id)?;
            let scope = if with_names {
                json!({"id": id, "name": project.name, "domain": domain(&project.domain)?})
            } else {
                json!({"id": id})
            };
            (json!({"project": scope}), format!("projects/{id}"))
        }
    };
    let (user_view, role_view) = if with_names {
        (
            json!({"id": user.id, "name": user.name, "domain": domain(&user.domain)?}),
            json!({"id": role.id, "name": role.name}),
        )
    } else {
        (json!({"id": user.id}), json!({"id": role.id}))
    };
    let link = format!("{root}/v3/{path}/users/{}/roles/{}", user.id, role.id);
    Some(json!({"scope": scope, "user": user_view, "role": role_view, "links": {"assignment": link}}))
}

fn passes(view: &Value, (key, want): &(String, String)) -> bool {
    let is = |pointer: &str| view.pointer(pointer).and_then(Value::as_str) == Some(want.as_str());
    match key.as_str() {
        "user.id" => is("/user/id"),
        "role.id" => is("/role/id"),
        "scope.project.id" => is("/scope/project/id"),
        "scope.domain.id" => is("/scope/domain/id"),
        "scope.system" => view.pointer("/scope/system").is_some(),
        // There are no groups that could have a role.
        "group.id" => false,
        _ => true,
    }
}
