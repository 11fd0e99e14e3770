//! The attributes of a body, taken one by one; what nobody took is refused.

use crate::Error;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde_json::{Map, Value};
use std::str::FromStr;

/// Larger bodies are refused, as in Keystone.
pub(crate) const BODY_BYTES_MAX: usize = 114_688;
const TEXT_LENGTH_MAX: usize = 255;
const TAGS_MAX: usize = 80;

pub(crate) type Body = Result<Bytes, BytesRejection>;

/// The JSON object of a body.
pub(crate) fn object(body: Body) -> Result<Map<String, Value>, Error> {
    let bytes = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Error::TooLarge { bytes_max: BODY_BYTES_MAX },
        _ => Error::bad_request("The request body could not be read."),
    })?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Error::bad_request(
            "Expecting to find valid JSON - the server could not comply with the request since it is either malformed \
             or otherwise incorrect. The client is assumed to be in error.",
        )),
    }
}

/// What an envelope holds.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
}

impl Fields {
    /// # Errors
    /// No object under that name.
    pub(crate) fn of(mut body: Map<String, Value>, envelope: &'static str) -> Result<Self, Error> {
        match body.remove(envelope) {
            Some(Value::Object(map)) => Ok(Self { map }),
            _ => Err(missing(envelope, "the request body")),
        }
    }

    /// The value under that name; null counts as absent.
    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    pub(crate) fn put(&mut self, name: &str, value: Value) {
        self.map.insert(name.to_owned(), value);
    }

    /// Accepted for clients' sake, without a meaning here.
    pub(crate) fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.map.remove(*name);
        }
    }

    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.chars().count() <= TEXT_LENGTH_MAX => Ok(Some(text)),
            Some(Value::String(_)) => {
                Err(invalid(name, format!("it has more than {TEXT_LENGTH_MAX} characters")))
            }
            Some(value) => Err(invalid(name, format!("{value} is not of type 'string'"))),
        }
    }

    /// A name has at least one character that shows.
    pub(crate) fn name(&mut self) -> Result<Option<String>, Error> {
        match self.text("name")? {
            Some(name) if name.trim().is_empty() => Err(invalid("name", "it is empty".to_owned())),
            name => Ok(name),
        }
    }

    pub(crate) fn name_required(&mut self) -> Result<String, Error> {
        self.name()?.ok_or_else(|| Error::bad_request("'name' is a required property"))
    }

    pub(crate) fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(value) => Err(invalid(name, format!("{value} is not of type 'boolean'"))),
        }
    }

    pub(crate) fn id<I: FromStr>(&mut self, name: &'static str) -> Result<Option<I>, Error> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => {
                let id = value.as_str().and_then(|text| text.parse().ok());
                id.map(Some).ok_or_else(|| invalid(name, format!("{value} is not an id")))
            }
        }
    }

    pub(crate) fn tags(&mut self) -> Result<Option<Vec<String>>, Error> {
        let Some(value) = self.take("tags") else { return Ok(None) };
        let tags: Vec<String> = serde_json::from_value(value)
            .map_err(|_| invalid("tags", "it is not a list of strings".to_owned()))?;
        let fits =
            |tag: &String| (1..=TEXT_LENGTH_MAX).contains(&tag.chars().count()) && !tag.contains(['/', ',']);
        if tags.len() > TAGS_MAX || !tags.iter().all(fits) {
            let reason =
                format!("at most {TAGS_MAX} tags of 1 to {TEXT_LENGTH_MAX} characters without '/' and ','");
            return Err(invalid("tags", reason));
        }
        Ok(Some(tags))
    }

    /// # Errors
    /// Something is left that nobody knows.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let unknown: Vec<String> = self.map.keys().map(|key| format!("'{key}'")).collect();
        match unknown.len() {
            0 => Ok(()),
            1 => Err(Error::bad_request(format!(
                "Additional properties are not allowed ({} was unexpected)",
                unknown.concat()
            ))),
            _ => Err(Error::bad_request(format!(
                "Additional properties are not allowed ({} were unexpected)",
                unknown.join(", ")
            ))),
        }
    }
}

pub(crate) fn missing(attribute: &str, target: &str) -> Error {
    Error::bad_request(format!(
        "Expecting to find {attribute} in {target}. The server could not comply with the request since it is either \
         malformed or otherwise incorrect. The client is assumed to be in error."
    ))
}

pub(crate) fn invalid(name: &str, reason: String) -> Error {
    Error::bad_request(format!("Invalid input for field '{name}': {reason}"))
}
