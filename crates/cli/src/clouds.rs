//! Where to log in and as whom: `clouds.yaml` and the `OS_*` variables, as OpenStack's clients read them.

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Variables that say so by themselves; the rest means nothing without one of them.
const AUTH_URL: &str = "OS_AUTH_URL";

/// One entry of a `clouds.yaml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Cloud {
    pub(crate) auth: Auth,
    pub(crate) region_name: Option<String>,
    pub(crate) interface: Option<String>,
    pub(crate) cacert: Option<PathBuf>,
    pub(crate) verify: Option<bool>,
}

/// Who logs in. What is not known here is of another kind of log in.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Auth {
    pub(crate) auth_url: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) user_id: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) project_name: Option<String>,
    pub(crate) project_id: Option<String>,
    pub(crate) user_domain_name: Option<String>,
    pub(crate) user_domain_id: Option<String>,
    pub(crate) project_domain_name: Option<String>,
    pub(crate) project_domain_id: Option<String>,
    pub(crate) application_credential_id: Option<String>,
    pub(crate) application_credential_name: Option<String>,
    pub(crate) application_credential_secret: Option<String>,
}

impl std::fmt::Debug for Auth {
    /// Without its secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Auth({:?} as {:?})", self.auth_url, self.username.as_ref().or(self.user_id.as_ref()))
    }
}

#[derive(Deserialize)]
struct File {
    clouds: BTreeMap<String, Cloud>,
}

/// The cloud of that name, from the first `clouds.yaml` there is.
///
/// # Errors
/// There is no file, it does not parse, or it has no such cloud.
pub(crate) fn named(name: &str, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Cloud> {
    let places = places(&variable);
    let path = places.iter().find(|path| path.exists()).with_context(|| {
        let places: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
        format!("there is no clouds.yaml with the cloud '{name}' (looked at {})", places.join(", "))
    })?;
    let mut cloud = read(path, name)?;
    // A file that others may read has no password.
    cloud.auth.password = cloud.auth.password.or_else(|| variable("OS_PASSWORD"));
    Ok(cloud)
}

fn places(variable: &impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    if let Some(path) = variable("OS_CLIENT_CONFIG_FILE") {
        return vec![path.into()];
    }
    let home = variable("HOME").map(|home| Path::new(&home).join(".config/openstack/clouds.yaml"));
    let own: [PathBuf; 1] = ["clouds.yaml".into()];
    own.into_iter().chain(home).chain(["/etc/openstack/clouds.yaml".into()]).collect()
}

fn read(path: &Path, name: &str) -> anyhow::Result<Cloud> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file: File =
        yaml_serde::from_str(&text).with_context(|| format!("{} is no clouds.yaml", path.display()))?;
    let known: Vec<&str> = file.clouds.keys().map(String::as_str).collect();
    let known = known.join(", ");
    let cloud = file.clouds.get(name).cloned();
    cloud.with_context(|| format!("{} has no cloud '{name}' (it has: {known})", path.display()))
}

/// The cloud that the `OS_*` variables describe; none without [`AUTH_URL`].
pub(crate) fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Cloud> {
    let auth_url = Some(variable(AUTH_URL)?);
    let auth = Auth {
        auth_url,
        username: variable("OS_USERNAME"),
        user_id: variable("OS_USER_ID"),
        password: variable("OS_PASSWORD"),
        project_name: variable("OS_PROJECT_NAME"),
        project_id: variable("OS_PROJECT_ID"),
        user_domain_name: variable("OS_USER_DOMAIN_NAME"),
        user_domain_id: variable("OS_USER_DOMAIN_ID"),
        project_domain_name: variable("OS_PROJECT_DOMAIN_NAME"),
        project_domain_id: variable("OS_PROJECT_DOMAIN_ID"),
        application_credential_id: variable("OS_APPLICATION_CREDENTIAL_ID"),
        application_credential_name: variable("OS_APPLICATION_CREDENTIAL_NAME"),
        application_credential_secret: variable("OS_APPLICATION_CREDENTIAL_SECRET"),
    };
    Some(Cloud {
        auth,
        region_name: variable("OS_REGION_NAME"),
        interface: variable("OS_INTERFACE"),
        cacert: None,
        verify: None,
    })
}

/// A variable of the environment that is not empty.
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// `{"name": …}` or `{"id": …}`.
fn reference(name: Option<&String>, id: Option<&String>) -> Option<serde_json::Value> {
    match (id, name) {
        (Some(id), _) => Some(serde_json::json!({"id": id})),
        (None, Some(name)) => Some(serde_json::json!({"name": name})),
        (None, None) => None,
    }
}

impl Auth {
    /// Where tokens are made, without the last slash; clients write it with and without the version.
    ///
    /// # Errors
    /// It is missing, or no URL.
    pub(crate) fn tokens_url(&self) -> anyhow::Result<String> {
        let url = self.auth_url.as_deref().context("auth_url (OS_AUTH_URL) is missing")?;
        let url = url.trim_end_matches('/');
        ensure!(
            url.starts_with("http://") || url.starts_with("https://"),
            "auth_url (OS_AUTH_URL) is '{url}', not a URL such as https://controller:9696/identity/v3"
        );
        let version = if url.ends_with("/v3") { "" } else { "/v3" };
        Ok(format!("{url}{version}/auth/tokens"))
    }

    /// The body of a log in.
    ///
    /// # Errors
    /// Something is missing; the message says what.
    pub(crate) fn request(&self) -> anyhow::Result<serde_json::Value> {
        let default = "Default".to_owned();
        let user_domain = reference(self.user_domain_name.as_ref(), self.user_domain_id.as_ref());
        let user_domain = user_domain.or_else(|| reference(Some(&default), None));
        let user = |secret: Option<&str>| {
            let mut user = reference(self.username.as_ref(), self.user_id.as_ref())?;
            if self.user_id.is_none() {
                user["domain"] = user_domain.clone()?;
            }
            if let Some(secret) = secret {
                user["password"] = secret.into();
            }
            Some(user)
        };
        if self.application_credential_id.is_some() || self.application_credential_name.is_some() {
            let id = self.application_credential_id.as_ref();
            let mut credential = reference(self.application_credential_name.as_ref(), id)
                .context("no application credential")?;
            let secret = self.application_credential_secret.as_deref();
            credential["secret"] = secret
                .context("application_credential_secret (OS_APPLICATION_CREDENTIAL_SECRET) is missing")?
                .into();
            if id.is_none() {
                credential["user"] = user(None)
                    .context("an application credential by name needs username (OS_USERNAME) too")?;
            }
            let identity = serde_json::json!({"methods": ["application_credential"], "application_credential": credential});
            return Ok(serde_json::json!({"auth": {"identity": identity}}));
        }
        let password = self.password.as_deref().context("password (OS_PASSWORD) is missing")?;
        let user = user(Some(password)).context("username (OS_USERNAME) is missing")?;
        let Some(mut project) = reference(self.project_name.as_ref(), self.project_id.as_ref()) else {
            bail!("project_name (OS_PROJECT_NAME) is missing");
        };
        if self.project_id.is_none() {
            let domain = reference(self.project_domain_name.as_ref(), self.project_domain_id.as_ref());
            project["domain"] = domain.or_else(|| reference(Some(&default), None)).context("no domain")?;
        }
        let identity = serde_json::json!({"methods": ["password"], "password": {"user": user}});
        Ok(serde_json::json!({"auth": {"identity": identity, "scope": {"project": project}}}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of<'a>(pairs: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn a_cloud_is_read_from_its_file_and_others_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clouds.yaml");
        let text = "clouds:\n  blue:\n    auth:\n      auth_url: https://c:9696/identity/v3\n      username: u\n      \
                    project_name: p\n    region_name: RegionOne\n    identity_api_version: 3\n    cacert: /ca.pem\n";
        std::fs::write(&path, text).unwrap();
        let path = path.display().to_string();
        let cloud =
            named("blue", of(&[("OS_CLIENT_CONFIG_FILE", &path), ("OS_PASSWORD", "secret")])).unwrap();
        assert_eq!(cloud.cacert.as_deref(), Some(Path::new("/ca.pem")));
        assert_eq!(cloud.auth.tokens_url().unwrap(), "https://c:9696/identity/v3/auth/tokens");
        let want = json!({"auth": {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": "u", "domain": {"name": "Default"}, "password": "secret"}},
            },
            "scope": {"project": {"name": "p", "domain": {"name": "Default"}}},
        }});
        assert_eq!(cloud.auth.request().unwrap(), want);
        let error = named("red", of(&[("OS_CLIENT_CONFIG_FILE", &path)])).unwrap_err().to_string();
        assert!(error.contains("has no cloud 'red' (it has: blue)"), "{error}");
        let error = named("red", of(&[("OS_CLIENT_CONFIG_FILE", "/none")])).unwrap_err().to_string();
        assert!(error.contains("/none"), "{error}");
        assert!(!format!("{cloud:?}").contains("secret"));
    }

    #[test]
    fn variables_log_in_as_a_user_or_with_a_credential_and_what_lacks_is_named() {
        assert_eq!(of_variables(of(&[("OS_USERNAME", "u")])), None);
        let request = |more: &[(&str, &str)]| {
            let url = [("OS_AUTH_URL", "http://c/identity")];
            let all: Vec<_> = url.into_iter().chain(more.iter().copied()).collect();
            of_variables(of(&all)).unwrap().auth.request()
        };
        let secret = [("OS_APPLICATION_CREDENTIAL_ID", "i"), ("OS_APPLICATION_CREDENTIAL_SECRET", "s")];
        let want = json!({"auth": {"identity": {
            "methods": ["application_credential"], "application_credential": {"id": "i", "secret": "s"},
        }}});
        assert_eq!(request(&secret).unwrap(), want);
        for (more, missing) in [
            (vec![], "OS_PASSWORD"),
            (vec![("OS_PASSWORD", "p")], "OS_USERNAME"),
            (vec![("OS_PASSWORD", "p"), ("OS_USERNAME", "u")], "OS_PROJECT_NAME"),
            (vec![("OS_APPLICATION_CREDENTIAL_ID", "i")], "OS_APPLICATION_CREDENTIAL_SECRET"),
        ] {
            let error = request(&more).unwrap_err().to_string();
            assert!(error.contains(missing) && error.contains("missing"), "{error}");
        }
        let bad = of_variables(of(&[("OS_AUTH_URL", "controller:9696")])).unwrap().auth.tokens_url();
        assert!(bad.unwrap_err().to_string().contains("not a URL such as"));
    }
}
