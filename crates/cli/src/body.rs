//! Bodies of requests: only what was asked for is sent, the rest is the API's default.

use serde::Serialize;
use serde_json::{Map, Value};

/// Attributes of a create or an update.
#[derive(Debug, Default)]
pub(crate) struct Body(Map<String, Value>);

impl Body {
    pub(crate) fn with(mut self, key: &str, value: impl Serialize) -> Self {
        self.0.insert(key.to_owned(), serde_json::json!(value));
        self
    }

    /// Leaves the attribute out if there is no value.
    pub(crate) fn with_some(self, key: &str, value: Option<impl Serialize>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Leaves the attribute out if the list is empty.
    pub(crate) fn with_any(self, key: &str, values: &[impl Serialize]) -> Self {
        if values.is_empty() { self } else { self.with(key, values) }
    }

    /// Sets a flag if it was given.
    pub(crate) fn with_flag(self, key: &str, given: bool, value: bool) -> Self {
        if given { self.with(key, value) } else { self }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In Neutron's envelope: `{"network": {…}}`.
    pub(crate) fn into_envelope(self, key: &str) -> Value {
        Value::Object(Map::from_iter([(key.to_owned(), Value::Object(self.0))]))
    }

    /// Bare, for router actions.
    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}
