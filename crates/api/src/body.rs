//! Bodies of requests: from bytes to checked, typed requests.

use crate::attribute::Attribute;
use crate::resource::attributes;
use crate::{Error, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// One or several, as the envelope said.
pub(crate) enum Bulk<T> {
    One(T),
    Many(Vec<T>),
}

/// The JSON object of a body.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) | Err(_) => Err(Error::bad_request("Body contains invalid data")),
    }
}

/// `judge` sees each body when it is known to be well formed.
pub(crate) fn create<R: Resource>(
    bytes: &[u8],
    judge: impl Fn(&Map<String, Value>) -> Result<(), Error>,
) -> Result<Bulk<R::Create>, Error> {
    let mut body = object(bytes)?;
    if let Some(many) = body.remove(R::COLLECTION) {
        let Value::Array(items) = many else {
            return Err(Error::bad_request(format!("Object '{}' contains invalid data", R::COLLECTION)));
        };
        if items.is_empty() {
            return Err(Error::bad_request("Resources required"));
        }
        let one = |item| create_one::<R>(item, &judge);
        return items.into_iter().map(one).collect::<Result<_, _>>().map(Bulk::Many);
    }
    create_one::<R>(envelope(body, R::NAME)?, &judge).map(Bulk::One)
}

fn create_one<R: Resource>(
    item: Value,
    judge: impl Fn(&Map<String, Value>) -> Result<(), Error>,
) -> Result<R::Create, Error> {
    let mut given = known::<R>(item)?;
    one_owner(&mut given)?;
    for attribute in attributes::<R>() {
        if given.contains_key(attribute.name) && !attribute.post {
            return Err(Error::bad_request(format!("Attribute '{}' not allowed in POST", attribute.name)));
        }
        if attribute.required && !given.contains_key(attribute.name) {
            return Err(Error::bad_request(format!(
                "Failed to parse request. Required attribute '{}' not specified",
                attribute.name
            )));
        }
    }
    let given = checked::<R>(given)?;
    judge(&given)?;
    typed::<R, _>(given)
}

/// `judge` sees the body when it is known to be well formed.
pub(crate) fn update<R: Resource>(
    bytes: &[u8],
    judge: impl Fn(&Map<String, Value>) -> Result<(), Error>,
) -> Result<R::Update, Error> {
    let given = known::<R>(envelope(object(bytes)?, R::NAME)?)?;
    for attribute in attributes::<R>() {
        if given.contains_key(attribute.name) && !attribute.put {
            return Err(Error::bad_request(format!("Cannot update read-only attribute {}", attribute.name)));
        }
    }
    let given = checked::<R>(given)?;
    judge(&given)?;
    typed::<R, _>(given)
}

/// What the envelope of that name holds.
pub(crate) fn envelope(mut body: Map<String, Value>, name: &str) -> Result<Value, Error> {
    body.remove(name)
        .filter(|value| !value.is_null())
        .ok_or_else(|| Error::bad_request(format!("Unable to find '{name}' in request body")))
}

fn known<R: Resource>(item: Value) -> Result<Map<String, Value>, Error> {
    let Value::Object(given) = item else {
        return Err(Error::bad_request(format!("Object '{}' contains invalid data", R::NAME)));
    };
    let mut unknown: Vec<&str> = given
        .keys()
        .map(String::as_str)
        .filter(|key| !attributes::<R>().any(|attribute| attribute.name == *key))
        .collect();
    unknown.sort_unstable();
    if unknown.is_empty() {
        return Ok(given);
    }
    Err(Error::bad_request(format!("Unrecognized attribute(s) '{}'", unknown.join(", "))))
}

/// `project_id` and `tenant_id` are two names of one thing.
fn one_owner(given: &mut Map<String, Value>) -> Result<(), Error> {
    if let (Some(project), Some(tenant)) = (given.get("project_id"), given.get("tenant_id"))
        && project != tenant
    {
        return Err(Error::bad_request("'project_id' and 'tenant_id' do not match"));
    }
    if let Some(tenant) = given.remove("tenant_id") {
        given.insert("project_id".to_owned(), tenant);
    }
    Ok(())
}

/// All values in their one form.
fn checked<R: Resource>(given: Map<String, Value>) -> Result<Map<String, Value>, Error> {
    let mut checked = Map::new();
    for (name, value) in given {
        let attribute = attributes::<R>().find(|attribute| attribute.name == name);
        let value = attribute.map_or(Ok(value.clone()), |attribute| check(attribute, &value))?;
        checked.insert(name, value);
    }
    Ok(checked)
}

fn typed<R: Resource, T: DeserializeOwned>(checked: Map<String, Value>) -> Result<T, Error> {
    serde_json::from_value(Value::Object(checked))
        .map_err(|error| Error::bad_request(format!("Invalid input for {}. Reason: {error}.", R::NAME)))
}

fn check(attribute: &Attribute, value: &Value) -> Result<Value, Error> {
    (attribute.check)(value).map_err(|reason| {
        Error::bad_request(format!("Invalid input for {}. Reason: {reason}.", attribute.name))
    })
}
