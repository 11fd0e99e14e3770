//! The HTTP API: Neutron v2.0 as unmodified clients expect it, and administrators' views.
//!
//! Wire types, checks, filters, paging, errors and routes live here; what a request means and where state
//! is kept is behind [`Backend`]. The store is unknown here.

mod access;
mod actions;
mod address_actions;
mod admin;
pub mod attribute;
pub mod backend;
mod body;
mod caller;
mod capture;
mod error;
mod extensions;
mod handlers;
mod list;
mod observe;
mod overview;
mod policy;
mod pool_actions;
mod port_forwardings;
mod query;
mod quotas;
mod resource;
pub mod resources;
mod restconf;
mod routes;
mod trace;
mod zone;

pub use attribute::Attribute;
pub use backend::{
    AddressGroupActions, Admin, Backend, Handles, Hints, Nat, PageHint, Part, Parts, Precondition, QuotaUse,
    Quotas, RouterActions, Sharing, SubnetPoolActions, TagChange,
};
pub use caller::{Authenticate, AuthenticationError, Caller, Rank};
pub use error::Error;
pub use handlers::Root;
pub use policy::Policy;
pub use resource::{Resource, attributes};
pub use restconf::instance::{NatInstance, Pool, Snat, StaticMapping};
pub use routes::{BODY_BYTES_MAX, authenticated, paths, router};
pub use zone::known_zones;
