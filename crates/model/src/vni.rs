//! Virtual network identifiers: 24 bits, never 0 (RFC 7348 §4, RFC 8926 §3.3).

use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

/// A number outside 1..=0xffffff.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("VNI {0} is not between 1 and 16777215")]
pub struct NotAVni(pub u32);

impl Vni {
    pub const MAX: u32 = 0xff_ffff;

    /// # Errors
    /// `NotAVni` unless `number` is in 1..=0xffffff.
    pub const fn new(number: u32) -> Result<Self, NotAVni> {
        if number == 0 || number > Self::MAX { Err(NotAVni(number)) } else { Ok(Self(number)) }
    }

    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vni {
    type Error = NotAVni;
    fn try_from(number: u32) -> Result<Self, NotAVni> {
        Self::new(number)
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> u32 {
        vni.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
