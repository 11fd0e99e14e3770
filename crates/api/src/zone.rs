//! The availability zone. There is one, with the name that is Neutron's default: every host serves every network and
//! router.

use crate::Error;

pub(crate) const ZONE: &str = "nova";

/// Where every network and every router is.
pub(crate) const ZONES: [&str; 1] = [ZONE];

/// The hints of a request.
///
/// # Errors
/// One is no zone.
pub fn known_zones(hints: Vec<String>) -> Result<Vec<String>, Error> {
    match hints.iter().find(|hint| *hint != ZONE) {
        Some(unknown) => Err(Error::AvailabilityZoneNotFound { availability_zone: unknown.clone() }),
        None => Ok(hints),
    }
}
