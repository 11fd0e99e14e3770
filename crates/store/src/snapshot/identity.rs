//! Questions about who may use the API, and their indexes.

use super::{Indexes, Snapshot, map, set};
use model::identity::{
    ApplicationCredential, Assignment, Domain, DomainId, Project, Role, RoleId, Target, Token, TokenId, User,
    UserId,
};
use std::sync::Arc;

impl Snapshot {
    pub fn domain_by_name(&self, name: &str) -> Option<&Arc<Domain>> {
        self.domains.get(self.indexes.domains_by_name.get(name)?)
    }

    pub fn project_by_name(&self, domain: DomainId, name: &str) -> Option<&Arc<Project>> {
        self.projects.get(self.indexes.projects_by_name.get(&(domain, name.to_owned()))?)
    }

    pub fn user_by_name(&self, domain: DomainId, name: &str) -> Option<&Arc<User>> {
        self.users.get(self.indexes.users_by_name.get(&(domain, name.to_owned()))?)
    }

    pub fn role_by_name(&self, name: &str) -> Option<&Arc<Role>> {
        self.roles.get(self.indexes.roles_by_name.get(name)?)
    }

    /// What the user may do, everywhere.
    pub fn assignments_of_user(&self, user: UserId) -> impl Iterator<Item = &Assignment> {
        let at = |target, role| Assignment { user, target, role };
        let first = at(Target::Project(model::identity::ProjectId::MIN), RoleId::MIN);
        self.assignments.range(first..=at(Target::System, RoleId::MAX)).map(|(assignment, _)| assignment)
    }

    pub fn tokens_of_user(&self, user: UserId) -> impl Iterator<Item = &Arc<Token>> {
        let range = (user, TokenId::MIN)..=(user, TokenId::MAX);
        self.indexes.tokens_by_user.range(range).filter_map(|(_, id)| self.tokens.get(id))
    }

    /// Tokens that have ended at `now` (seconds since 1970), the oldest first.
    pub fn tokens_expired(&self, now: i64) -> impl Iterator<Item = TokenId> {
        self.indexes.tokens_by_expiry.range(..(now.saturating_add(1), TokenId::MIN)).map(|(_, id)| *id)
    }
}

impl Indexes {
    pub(crate) fn domains(&mut self, domain: &Domain, present: bool) {
        map(&mut self.domains_by_name, domain.name.clone(), domain.id, present);
    }

    pub(crate) fn projects(&mut self, project: &Project, present: bool) {
        map(&mut self.projects_by_name, (project.domain, project.name.clone()), project.id, present);
    }

    pub(crate) fn users(&mut self, user: &User, present: bool) {
        map(&mut self.users_by_name, (user.domain, user.name.clone()), user.id, present);
    }

    pub(crate) fn roles(&mut self, role: &Role, present: bool) {
        map(&mut self.roles_by_name, role.name.clone(), role.id, present);
    }

    /// The records are in the order they are asked for.
    pub(crate) fn assignments(&mut self, _assignment: &Assignment, _present: bool) {}

    /// Few: they are asked for one by one.
    pub(crate) fn application_credentials(&mut self, _credential: &ApplicationCredential, _present: bool) {}

    pub(crate) fn tokens(&mut self, token: &Token, present: bool) {
        set(&mut self.tokens_by_user, (token.user, token.id), present);
        set(&mut self.tokens_by_expiry, (token.expires_at, token.id), present);
    }
}
