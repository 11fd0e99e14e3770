//! The first administrator, and the way back in for one who lost the password.

use crate::directory::{ADMIN, ROLES};
use crate::{Error, secret};
use model::identity::{Assignment, Domain, DomainId, Project, ProjectId, Role, RoleId, Target, User, UserId};
use store::{Store, Transaction};

/// What was made. The password is not kept anywhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct Bootstrap {
    pub user: &'static str,
    pub project: &'static str,
    /// Id and name are the same.
    pub domain: &'static str,
    pub password: String,
}

/// Makes the domain default, the project and the user admin, the roles admin, member and reader, and gives the user
/// the role admin in the project and in the system. What is there already stays; the password is set in any case, to
/// a random one unless one is given, and tokens of the user end.
///
/// # Errors
/// The store's.
pub fn bootstrap(store: &Store, password: Option<String>) -> Result<Bootstrap, Error> {
    let password = password.unwrap_or_else(secret::random_text);
    let hash = secret::hash(&password)?;
    store.transact(|tx| {
        let domain = domain(tx);
        for name in ROLES {
            role(tx, name);
        }
        let project = project(tx, domain);
        let user = tx.user_by_name(domain, ADMIN).map_or_else(UserId::random, |user| user.id);
        tx.put(User {
            id: user,
            domain,
            name: ADMIN.to_owned(),
            description: "Made by bootstrap".to_owned(),
            email: None,
            enabled: true,
            default_project: Some(project),
            password: Some(hash),
        });
        let role = role(tx, ADMIN);
        for target in [Target::Project(project), Target::System] {
            tx.put(Assignment { user, target, role });
        }
        crate::directory::revoke(tx, user, None);
        Ok(Bootstrap { user: ADMIN, project: ADMIN, domain: "default", password })
    })
}

fn domain(tx: &mut Transaction) -> DomainId {
    let id = DomainId::DEFAULT;
    if tx.domains.get(&id).is_none() {
        let description = "The default domain".to_owned();
        tx.put(Domain { id, name: "Default".to_owned(), description, enabled: true });
    }
    id
}

fn project(tx: &mut Transaction, domain: DomainId) -> ProjectId {
    if let Some(project) = tx.project_by_name(domain, ADMIN) {
        let project = Project { enabled: true, ..Project::clone(project) };
        let id = project.id;
        tx.put(project);
        return id;
    }
    let id = ProjectId::random();
    tx.put(Project {
        id,
        domain,
        name: ADMIN.to_owned(),
        description: "Made by bootstrap".to_owned(),
        enabled: true,
        tags: Vec::new(),
    });
    id
}

fn role(tx: &mut Transaction, name: &str) -> RoleId {
    if let Some(role) = tx.role_by_name(name) {
        return role.id;
    }
    let id = RoleId::random();
    tx.put(Role { id, name: name.to_owned(), description: String::new() });
    id
}
