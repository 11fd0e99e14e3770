//! Identity v3: who the caller is, as Keystone's clients ask it, small enough to be part of the controller.
//!
//! Domains, projects, users, roles and their assignments; tokens for passwords, application credentials and other
//! tokens; the catalog and the version documents that clients start from. What a role lets its bearer do with
//! networks is not decided here but by the policy of the `api` crate. Groups, federation, trusts, nested projects and
//! roles of domains do not exist: their routes are not found.
//!
//! - [`directory`]: state, and what is true of a token ([`Identity`], [`Session`]).
//! - `login`: a body of `POST /v3/auth/tokens` to a token; `limiter` slows down who guesses.
//! - `resources`: records that clients create, read, change and delete, one file each with the same skeleton.
//! - `routes`: paths, and who may use them.
//! - [`bootstrap`]: the first administrator.
//!
//! A token is 256 random bits; the store holds its SHA-256. Passwords and secrets are stored as Argon2id. Roles are
//! looked up at every use, so whatever is taken away is gone at once.

mod bootstrap;
mod directory;
mod discovery;
mod error;
mod fields;
mod limiter;
mod login;
mod resources;
mod routes;
mod secret;
mod tokens;
mod view;

pub use bootstrap::{Bootstrap, bootstrap};
pub use directory::{Identity, Scope, Session, Settings};
pub use error::Error;
pub use limiter::Source;
pub use routes::router;
