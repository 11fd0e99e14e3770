//! `POST /v3/auth/tokens`: what a client proves, and for where it wants a token.

use crate::directory::{Identity, TokenRequest};
use crate::fields::{Fields, missing};
use crate::{Error, Session, Source, secret};
use model::identity::{
    ApplicationCredential, ApplicationCredentialId, DomainId, ProjectId, Secret, Target, User, UserId,
};
use serde_json::{Map, Value};
use std::str::FromStr;
use std::sync::Arc;
use store::Snapshot;

/// How the caller proves itself.
#[derive(Debug)]
enum Proof {
    Password { user: UserName, password: String },
    Token(String),
    ApplicationCredential { credential: CredentialName, secret: String },
}

#[derive(Debug)]
enum UserName {
    Id(String),
    Name { name: String, domain: DomainName },
}

#[derive(Debug)]
enum CredentialName {
    Id(String),
    Name { name: String, user: UserName },
}

#[derive(Debug)]
enum DomainName {
    Id(String),
    Name(String),
}

#[derive(Debug)]
enum ScopeRequest {
    /// None was asked for: the user's default project, if it has one.
    Default,
    Unscoped,
    Project {
        id: String,
    },
    ProjectName {
        name: String,
        domain: DomainName,
    },
    Domain(DomainName),
    System,
}

/// A request that makes sense.
#[derive(Debug)]
pub(crate) struct Login {
    proof: Proof,
    scope: ScopeRequest,
}

impl Login {
    /// # Errors
    /// What is missing or of the wrong type.
    pub(crate) fn parse(body: Map<String, Value>) -> Result<Self, Error> {
        let mut auth = Fields::of(body, "auth")?;
        let identity = auth.take("identity").ok_or_else(|| missing("identity", "auth"))?;
        let scope = scope(auth.take("scope"))?;
        Ok(Self { proof: proof(&identity)?, scope })
    }

    /// Whom a failure is counted against; none for tokens, which nobody guesses.
    fn limited_name(&self) -> Option<String> {
        match &self.proof {
            Proof::Token(_) => None,
            Proof::Password { user, .. } => Some(user.limited_name()),
            Proof::ApplicationCredential { credential: CredentialName::Id(id), .. } => Some(id.clone()),
            Proof::ApplicationCredential { credential: CredentialName::Name { user, .. }, .. } => {
                Some(user.limited_name())
            }
        }
    }
}

impl UserName {
    fn limited_name(&self) -> String {
        match self {
            Self::Id(id) => id.clone(),
            Self::Name { name, domain: DomainName::Id(domain) | DomainName::Name(domain) } => {
                format!("{domain}/{name}")
            }
        }
    }

    fn find<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Arc<User>> {
        match self {
            Self::Id(id) => snapshot.users.get(&parsed::<UserId>(id)?),
            Self::Name { name, domain } => snapshot.user_by_name(domain.find(snapshot)?, name),
        }
    }
}

impl CredentialName {
    fn find<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Arc<ApplicationCredential>> {
        match self {
            Self::Id(id) => snapshot.application_credentials.get(&parsed::<ApplicationCredentialId>(id)?),
            Self::Name { name, user } => {
                let user = user.find(snapshot)?.id;
                let mut credentials = snapshot.application_credentials.values();
                credentials.find(|credential| credential.user == user && credential.name == *name)
            }
        }
    }
}

impl DomainName {
    fn find(&self, snapshot: &Snapshot) -> Option<DomainId> {
        match self {
            Self::Id(id) => snapshot.domains.get(&parsed::<DomainId>(id)?).map(|domain| domain.id),
            Self::Name(name) => snapshot.domain_by_name(name).map(|domain| domain.id),
        }
    }
}

impl Identity {
    /// Checks a proof and makes a token for it. Never says why a proof is refused.
    ///
    /// # Errors
    /// `Unauthorized`, `TooManyAttempts`, or the store's.
    pub(crate) async fn log_in(
        self: &Arc<Self>,
        login: Login,
        source: Source,
    ) -> Result<(String, Session), Error> {
        let charge = login.limited_name().map(|name| self.charge(&name, source)).transpose()?;
        let permit = self.hashing.acquire().await.map_err(Error::internal)?;
        let identity = Arc::clone(self);
        let result = tokio::task::spawn_blocking(move || identity.prove_and_issue(&login)).await;
        drop(permit);
        let result = result.map_err(Error::internal)?;
        // Refused for want of a role is not a wrong guess, but looks the same from outside: it counts.
        if let (Ok(_), Some(charge)) = (&result, &charge) {
            self.refund(charge);
        }
        result
    }

    fn prove_and_issue(&self, login: &Login) -> Result<(String, Session), Error> {
        let snapshot = self.snapshot();
        let request = match &login.proof {
            Proof::Password { user, password } => {
                let user = with_password(user.find(&snapshot), password).ok_or(Error::Unauthorized)?;
                let methods = vec!["password".to_owned()];
                self.request(&snapshot, &login.scope, user.id, methods)?
            }
            Proof::Token(text) => self.rescoped(&snapshot, text, &login.scope)?,
            Proof::ApplicationCredential { credential, secret } => {
                let credential = credential.find(&snapshot);
                proven(credential.map(|credential| &credential.secret), secret).ok_or(Error::Unauthorized)?;
                let credential = credential.ok_or(Error::Unauthorized)?;
                of_credential(credential, &login.scope)?
            }
        };
        let (text, session) = self.issue(request)?;
        tracing::debug!(user = %session.user.id, name = session.user.name, audit = ?session.token.audit_ids, "token issued");
        Ok((text, session))
    }

    fn request(
        &self,
        snapshot: &Snapshot,
        scope: &ScopeRequest,
        user: UserId,
        methods: Vec<String>,
    ) -> Result<TokenRequest, Error> {
        let target = target(snapshot, scope, user)?;
        Ok(TokenRequest {
            user,
            target,
            methods,
            parent_audit_id: None,
            expires_at: None,
            application_credential: None,
        })
    }

    /// A token for elsewhere ends when the one it came from ends. Those of application credentials stay where they are.
    fn rescoped(&self, snapshot: &Snapshot, text: &str, scope: &ScopeRequest) -> Result<TokenRequest, Error> {
        let session = self.session(text).ok_or(Error::Unauthorized)?;
        if session.application_credential.is_some() {
            return Err(Error::Unauthorized);
        }
        let mut methods = session.token.methods.clone();
        if !methods.iter().any(|method| method == "token") {
            methods.push("token".to_owned());
        }
        let request = self.request(snapshot, scope, session.user.id, methods)?;
        let parent_audit_id = session.token.audit_ids.last().cloned();
        Ok(TokenRequest { parent_audit_id, expires_at: Some(session.token.expires_at), ..request })
    }
}

fn with_password<'a>(user: Option<&'a Arc<User>>, password: &str) -> Option<&'a Arc<User>> {
    proven(user.and_then(|user| user.password.as_ref()), password)?;
    user
}

/// As slow for nobody as for somebody.
fn proven(secret: Option<&Secret>, password: &str) -> Option<()> {
    let right = match secret {
        Some(secret) => secret::verify(secret, password),
        None => secret::verify_nobody(password),
    };
    right.then_some(())
}

fn of_credential(credential: &ApplicationCredential, scope: &ScopeRequest) -> Result<TokenRequest, Error> {
    if !matches!(scope, ScopeRequest::Default) {
        return Err(Error::bad_request(
            "Application credentials cannot request a scope: they have that of the project they were made in.",
        ));
    }
    Ok(TokenRequest {
        user: credential.user,
        target: Some(Target::Project(credential.project)),
        methods: vec!["application_credential".to_owned()],
        parent_audit_id: None,
        expires_at: None,
        application_credential: Some(credential.id),
    })
}

fn target(snapshot: &Snapshot, scope: &ScopeRequest, user: UserId) -> Result<Option<Target>, Error> {
    let project = |project: Option<ProjectId>| project.map(Target::Project).ok_or(Error::Unauthorized);
    Ok(match scope {
        ScopeRequest::Unscoped => None,
        ScopeRequest::Default => {
            let project = snapshot.users.get(&user).and_then(|user| user.default_project);
            let target = project.map(Target::Project);
            target.filter(|target| !crate::directory::roles(snapshot, user, *target).is_empty())
        }
        ScopeRequest::System => Some(Target::System),
        ScopeRequest::Domain(domain) => {
            Some(Target::Domain(domain.find(snapshot).ok_or(Error::Unauthorized)?))
        }
        ScopeRequest::Project { id } => Some(project(parsed(id))?),
        ScopeRequest::ProjectName { name, domain } => {
            let domain = domain.find(snapshot).ok_or(Error::Unauthorized)?;
            Some(project(snapshot.project_by_name(domain, name).map(|project| project.id))?)
        }
    })
}

fn parsed<I: FromStr>(id: &str) -> Option<I> {
    id.parse().ok()
}

fn proof(identity: &Value) -> Result<Proof, Error> {
    let methods = identity.get("methods").and_then(Value::as_array);
    let methods = methods.ok_or_else(|| missing("methods", "identity"))?;
    let [method] = methods.as_slice() else {
        return Err(Error::bad_request("Exactly one method of authentication is supported per request."));
    };
    let method = method.as_str().unwrap_or_default();
    let payload = || identity.get(method).ok_or_else(|| missing(method, "identity"));
    match method {
        "password" => {
            let user = payload()?.get("user").ok_or_else(|| missing("user", "password"))?;
            let password = text(user, "password")?.ok_or_else(|| missing("password", "user"))?;
            Ok(Proof::Password { user: user_name(user)?, password: short(password)? })
        }
        "token" => {
            let id = text(payload()?, "id")?;
            Ok(Proof::Token(id.ok_or_else(|| missing("id", "token"))?))
        }
        "application_credential" => {
            let given = payload()?;
            let secret = text(given, "secret")?.ok_or_else(|| missing("secret", method))?;
            let credential = match (text(given, "id")?, text(given, "name")?) {
                (Some(id), _) => CredentialName::Id(id),
                (None, Some(name)) => {
                    let user = given.get("user").ok_or_else(|| missing("user", method))?;
                    CredentialName::Name { name, user: user_name(user)? }
                }
                (None, None) => return Err(missing("id", method)),
            };
            Ok(Proof::ApplicationCredential { credential, secret: short(secret)? })
        }
        // What Keystone answers to a method it does not offer.
        _ => Err(Error::Unauthorized),
    }
}

fn short(password: String) -> Result<String, Error> {
    if password.len() > secret::PASSWORD_BYTES_MAX {
        return Err(Error::bad_request(format!(
            "A password has at most {} bytes.",
            secret::PASSWORD_BYTES_MAX
        )));
    }
    Ok(password)
}

fn user_name(user: &Value) -> Result<UserName, Error> {
    match (text(user, "id")?, text(user, "name")?) {
        (Some(id), _) => Ok(UserName::Id(id)),
        (None, Some(name)) => {
            let domain = user.get("domain").ok_or_else(|| missing("domain", "user"))?;
            Ok(UserName::Name { name, domain: domain_name(domain)? })
        }
        (None, None) => Err(missing("id or name", "user")),
    }
}

fn domain_name(domain: &Value) -> Result<DomainName, Error> {
    match (text(domain, "id")?, text(domain, "name")?) {
        (Some(id), _) => Ok(DomainName::Id(id)),
        (None, Some(name)) => Ok(DomainName::Name(name)),
        (None, None) => Err(missing("id or name", "domain")),
    }
}

fn scope(scope: Option<Value>) -> Result<ScopeRequest, Error> {
    let scope = match scope {
        None => return Ok(ScopeRequest::Default),
        Some(Value::String(text)) if text == "unscoped" => return Ok(ScopeRequest::Unscoped),
        Some(scope) => scope,
    };
    if scope.get("unscoped").is_some() {
        return Ok(ScopeRequest::Unscoped);
    }
    if let Some(project) = scope.get("project") {
        return match (text(project, "id")?, text(project, "name")?) {
            (Some(id), _) => Ok(ScopeRequest::Project { id }),
            (None, Some(name)) => {
                let domain = project.get("domain").ok_or_else(|| missing("domain", "project"))?;
                Ok(ScopeRequest::ProjectName { name, domain: domain_name(domain)? })
            }
            (None, None) => Err(missing("id or name", "project")),
        };
    }
    if let Some(domain) = scope.get("domain") {
        return domain_name(domain).map(ScopeRequest::Domain);
    }
    if scope.get("system").and_then(|system| system.get("all")) == Some(&Value::Bool(true)) {
        return Ok(ScopeRequest::System);
    }
    Err(missing("project, domain or system", "scope"))
}

fn text(object: &Value, key: &str) -> Result<Option<String>, Error> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(value) => Err(Error::bad_request(format!("{value} is not of type 'string' ({key})"))),
    }
}
