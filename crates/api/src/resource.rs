//! What every resource of the API is made of, so that one set of handlers serves them all.

use crate::policy::Policy;
use crate::{Attribute, Error};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt::Display;
use std::str::FromStr;

/// A resource: its names on the wire, its attributes, and its typed forms.
pub trait Resource: Send + Sync + 'static {
    type Id: FromStr + Display + Copy + Send + 'static;
    /// Body of a POST, checked and in its one form.
    type Create: DeserializeOwned + Send + 'static;
    /// Body of a PUT: only what the client sent.
    type Update: DeserializeOwned + Send + 'static;
    /// What a client sees.
    type View: Serialize + Send + 'static;

    /// Envelope of one: `network`.
    const NAME: &'static str;
    /// Envelope of many: `networks`.
    const COLLECTION: &'static str;
    /// The path, where it differs from the envelope.
    const PATH: &'static str = Self::COLLECTION;
    /// Further than [`crate::attribute::STANDARD`].
    const ATTRIBUTES: &'static [Attribute];
    /// Standard attributes the resource lacks.
    const LACKS: &'static [&'static str] = &[];
    /// Who may do what with it.
    const POLICY: &'static Policy;

    fn not_found(id: String) -> Error;
}

/// All attributes of a resource.
pub fn attributes<R: Resource>() -> impl Iterator<Item = &'static Attribute> {
    let standard = crate::attribute::STANDARD.iter().filter(|standard| {
        !R::LACKS.contains(&standard.name) && !R::ATTRIBUTES.iter().any(|own| own.name == standard.name)
    });
    standard.chain(R::ATTRIBUTES)
}

/// For `Option<Option<T>>` in updates: absent is `None`, null is `Some(None)`.
pub(crate) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
