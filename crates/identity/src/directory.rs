//! The state behind the routes, and what is true of a token at this moment.

use crate::limiter::{Charge, Limiter};
use crate::{Error, Source, secret};
use model::identity::{ApplicationCredential, Domain, Project, Role, Target, Token, User, UserId};
use std::sync::{Arc, Mutex, PoisonError};
use store::{Snapshot, Store, Transaction};
use tokio::sync::Semaphore;

/// The role that may do everything.
pub(crate) const ADMIN: &str = "admin";
/// The roles of every installation. Whoever has one has those after it, as Keystone's bootstrap sets it up.
pub(crate) const ROLES: [&str; 3] = [ADMIN, "member", "reader"];
/// Expired tokens taken away with each new one, so that no login pays for many.
const EXPIRED_PER_LOGIN_MAX: usize = 64;

/// What the operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a token lasts.
    pub token_ttl_s: u32,
    /// Name of the one region of the catalog.
    pub region: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { token_ttl_s: 3600, region: "RegionOne".to_owned() }
    }
}

/// The identity service. Share it in an `Arc`.
pub struct Identity {
    store: Arc<Store>,
    pub(crate) settings: Settings,
    /// Microseconds since 1970.
    clock_us: fn() -> i64,
    limiter: Mutex<Limiter>,
    /// One password is checked per core at a time: more would only take memory.
    pub(crate) hashing: Semaphore,
}

/// Where a token holds.
#[derive(Clone, Debug)]
pub enum Scope {
    Unscoped,
    Project { project: Arc<Project>, domain: Arc<Domain> },
    Domain(Arc<Domain>),
    System,
}

/// What is true of a token now.
#[derive(Clone, Debug)]
pub struct Session {
    pub token: Arc<Token>,
    pub user: Arc<User>,
    pub user_domain: Arc<Domain>,
    pub scope: Scope,
    pub roles: Vec<Arc<Role>>,
    pub application_credential: Option<Arc<ApplicationCredential>>,
}

impl Session {
    pub fn has_role(&self, name: &str) -> bool {
        self.roles.iter().any(|role| role.name == name)
    }

    pub fn is_admin(&self) -> bool {
        self.has_role(ADMIN)
    }
}

impl Identity {
    pub fn new(store: Arc<Store>, settings: Settings, clock_us: fn() -> i64) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { store, settings, clock_us, limiter: Mutex::default(), hashing: Semaphore::new(cores) }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.store.snapshot()
    }

    pub(crate) fn now_us(&self) -> i64 {
        (self.clock_us)()
    }

    /// Seconds since 1970.
    pub(crate) fn now(&self) -> i64 {
        self.now_us().div_euclid(1_000_000)
    }

    /// One transaction; nothing is applied on `Err`. Waits for the disk: not for async threads.
    pub(crate) fn write<R>(
        &self,
        change: impl FnOnce(&mut Transaction) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.store.transact(change)
    }

    /// # Errors
    /// `TooManyAttempts`.
    pub(crate) fn charge(&self, user: &str, source: Source) -> Result<Charge, Error> {
        let now_ms = u64::try_from(self.now_us().div_euclid(1000)).unwrap_or(0);
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.charge(user, source, now_ms).map_err(|retry_after_s| Error::TooManyAttempts { retry_after_s })
    }

    pub(crate) fn refund(&self, charge: &Charge) {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner).refund(charge);
    }

    /// What is true of that token now; `None`: it is none, has ended, or its user may do nothing there any more.
    /// A few lookups in memory.
    pub fn session(&self, token: &str) -> Option<Session> {
        let snapshot = self.snapshot();
        let token = snapshot.tokens.get(&secret::token_id(token))?;
        (token.expires_at > self.now()).then_some(())?;
        session(&snapshot, Arc::clone(token), self.now())
    }

    /// Makes a token that lasts until `expires_at`. Returns its text, which nobody sees again, and what is true of it.
    ///
    /// # Errors
    /// `Unauthorized`: the user may do nothing there.
    pub(crate) fn issue(&self, request: TokenRequest) -> Result<(String, Session), Error> {
        let text = secret::random_text();
        let now = self.now();
        let mut audit_ids = vec![secret::random_id()];
        audit_ids.extend(request.parent_audit_id);
        let token = Arc::new(Token {
            id: secret::token_id(&text),
            user: request.user,
            target: request.target,
            methods: request.methods,
            audit_ids,
            issued_at_us: self.now_us(),
            expires_at: request.expires_at.unwrap_or(now + i64::from(self.settings.token_ttl_s)),
            application_credential: request.application_credential,
        });
        let session = self.write(|tx| {
            let session = session(tx, Arc::clone(&token), now).ok_or(Error::Unauthorized)?;
            let expired: Vec<_> = tx.tokens_expired(now).take(EXPIRED_PER_LOGIN_MAX).collect();
            for id in expired {
                tx.remove::<Token>(id);
            }
            tx.put(Token::clone(&token));
            Ok(session)
        })?;
        Ok((text, session))
    }
}

/// What a new token shall be.
#[derive(Debug)]
pub(crate) struct TokenRequest {
    pub(crate) user: UserId,
    pub(crate) target: Option<Target>,
    pub(crate) methods: Vec<String>,
    pub(crate) parent_audit_id: Option<String>,
    /// None: as long as tokens last.
    pub(crate) expires_at: Option<i64>,
    pub(crate) application_credential: Option<model::identity::ApplicationCredentialId>,
}

fn session(snapshot: &Snapshot, token: Arc<Token>, now: i64) -> Option<Session> {
    let user = snapshot.users.get(&token.user).filter(|user| user.enabled)?;
    let user_domain = snapshot.domains.get(&user.domain).filter(|domain| domain.enabled)?;
    let application_credential = match token.application_credential {
        None => None,
        Some(id) => {
            let credential = snapshot.application_credentials.get(&id)?;
            credential.expires_at.is_none_or(|end| end > now).then_some(())?;
            Some(Arc::clone(credential))
        }
    };
    let scope = scope(snapshot, token.target)?;
    let mut roles = token.target.map_or_else(Vec::new, |target| roles(snapshot, user.id, target));
    if let Some(credential) = &application_credential {
        roles.retain(|role| credential.roles.contains(&role.id));
    }
    if token.target.is_some() && roles.is_empty() {
        return None;
    }
    Some(Session {
        user: Arc::clone(user),
        user_domain: Arc::clone(user_domain),
        token,
        scope,
        roles,
        application_credential,
    })
}

/// None: it does not exist or is disabled.
fn scope(snapshot: &Snapshot, target: Option<Target>) -> Option<Scope> {
    let domain = |id| snapshot.domains.get(id).filter(|domain| domain.enabled).cloned();
    Some(match target {
        None => Scope::Unscoped,
        Some(Target::System) => Scope::System,
        Some(Target::Domain(id)) => Scope::Domain(domain(&id)?),
        Some(Target::Project(id)) => {
            let project = snapshot.projects.get(&id).filter(|project| project.enabled)?;
            Scope::Project { project: Arc::clone(project), domain: domain(&project.domain)? }
        }
    })
}

/// The roles of a user there, with those that follow from them.
pub(crate) fn roles(snapshot: &Snapshot, user: UserId, target: Target) -> Vec<Arc<Role>> {
    let assigned = snapshot.assignments_of_user(user).filter(|assignment| assignment.target == target);
    let mut roles: Vec<Arc<Role>> =
        assigned.filter_map(|assignment| snapshot.roles.get(&assignment.role).cloned()).collect();
    let highest = ROLES.iter().position(|name| roles.iter().any(|role| role.name == *name));
    let implied = highest.map_or(&[][..], |highest| ROLES.get(highest + 1..).unwrap_or_default());
    for name in implied {
        let role = snapshot.role_by_name(name);
        roles.extend(role.filter(|role| !roles.iter().any(|own| own.id == role.id)).cloned());
    }
    roles
}

/// Tokens of the user, on `target` or all: gone at once.
pub(crate) fn revoke(tx: &mut Transaction, user: UserId, target: Option<Target>) {
    let tokens: Vec<_> = tx
        .tokens_of_user(user)
        .filter(|token| target.is_none() || token.target == target)
        .map(|token| token.id)
        .collect();
    for id in tokens {
        tx.remove::<Token>(id);
    }
}
