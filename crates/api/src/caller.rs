//! Who asks.

/// The caller of a request, as identified by the authentication in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Owner of what the caller creates without naming a project.
    pub project_id: String,
    pub is_admin: bool,
}

impl Caller {
    /// The caller of an API without authentication: an administrator of a project that stands for all.
    pub fn nobody() -> Self {
        Self { project_id: "fake_project_id".to_owned(), is_admin: true }
    }
}
