//! Query strings: filters, fields, sorting and paging, parsed and checked before anything is looked up.

use crate::attribute::check;
use crate::backend::{Hints, PageHint};
use crate::resource::attributes;
use crate::{Caller, Error, Resource};
use axum::extract::Query as Pairs;
use axum::http::Uri;
use serde_json::Value;

const TAG_FILTERS: [&str; 4] = ["tags", "tags-any", "not-tags", "not-tags-any"];

#[derive(Debug, Default)]
pub(crate) struct Query {
    /// Key and its alternatives.
    pub(crate) filters: Vec<(String, Vec<String>)>,
    pub(crate) fields: Vec<String>,
    /// Key, and whether descending.
    pub(crate) sort: Vec<(String, bool)>,
    pub(crate) page: Option<Page>,
    /// As sent, for links.
    pub(crate) pairs: Vec<(String, String)>,
}

#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) limit: usize,
    pub(crate) marker: Option<String>,
    pub(crate) reverse: bool,
}

impl Query {
    pub(crate) fn parse<R: Resource>(uri: &Uri) -> Result<Self, Error> {
        let pairs = pairs(uri)?;
        let values = |name: &str| -> Vec<String> {
            pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value.clone()).collect()
        };
        Ok(Self {
            filters: filters::<R>(&pairs)?,
            fields: values("fields").into_iter().filter(|field| !field.is_empty()).collect(),
            sort: sort::<R>(values("sort_key"), &values("sort_dir"))?,
            page: page(&values("limit"), values("marker"), &values("page_reverse"))?,
            pairs,
        })
    }

    /// Of a query on one object only `fields` means anything.
    pub(crate) fn parse_fields(uri: &Uri) -> Result<Vec<String>, Error> {
        let pairs = pairs(uri)?;
        let fields = pairs.into_iter().filter(|(key, value)| key == "fields" && !value.is_empty());
        Ok(fields.map(|(_, value)| value).collect())
    }

    pub(crate) fn hints<R: Resource>(&self, caller: &Caller) -> Hints {
        let is_plain = self.filters.is_empty() && self.sort.is_empty() && caller.is_admin();
        let page = self.page.as_ref().filter(|_| is_plain).map(|page| PageHint {
            marker: page.marker.clone(),
            limit: page.limit,
            reverse: page.reverse,
        });
        let owner = (!caller.is_admin() && R::POLICY.is_private()).then(|| caller.project_id.clone());
        Hints { filters: self.filters.clone(), owner, page }
    }
}

fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Error> {
    let Pairs(pairs) =
        Pairs::try_from_uri(uri).map_err(|_| Error::bad_request("The query string is not valid"))?;
    Ok(pairs)
}

fn filters<R: Resource>(pairs: &[(String, String)]) -> Result<Vec<(String, Vec<String>)>, Error> {
    let mut filters: Vec<(String, Vec<String>)> = Vec::new();
    let mut unknown = Vec::new();
    for (key, value) in pairs {
        let reserved = ["fields", "sort_key", "sort_dir", "limit", "marker", "page_reverse"];
        if reserved.contains(&key.as_str()) {
            continue;
        }
        let Some(value) = filter_value::<R>(key, value)? else {
            unknown.push(format!("'{key}'"));
            continue;
        };
        match filters.iter_mut().find(|(known, _)| known == key) {
            Some((_, values)) => values.push(value),
            None => filters.push((key.clone(), vec![value])),
        }
    }
    if unknown.is_empty() {
        return Ok(filters);
    }
    let unknown = unknown.join(", ");
    Err(Error::bad_request(format!("[{unknown}] is invalid attribute for filtering")))
}

/// The value in the form of a view's text; `None` if nothing can be filtered by that key.
fn filter_value<R: Resource>(key: &str, value: &str) -> Result<Option<String>, Error> {
    if TAG_FILTERS.contains(&key) {
        return Ok((!R::LACKS.contains(&"tags")).then(|| value.to_owned()));
    }
    let Some(attribute) = attributes::<R>().find(|attribute| attribute.name == key) else {
        return Ok(None);
    };
    if !attribute.filter {
        let special = matches!(key, "fixed_ips" | "security_groups");
        return Ok(special.then(|| value.to_owned()));
    }
    if !attribute.is_boolean() {
        return Ok(Some(value.to_owned()));
    }
    let boolean = check::boolean(&Value::from(value)).map_err(Error::invalid_input)?;
    Ok(Some(boolean.to_string()))
}

fn sort<R: Resource>(keys: Vec<String>, directions: &[String]) -> Result<Vec<(String, bool)>, Error> {
    if keys.len() != directions.len() {
        return Err(Error::bad_request("The number of sort_keys and sort_dirs must be same"));
    }
    let sortable = |key: &str| attributes::<R>().any(|a| a.name == key && a.filter);
    if let Some(key) = keys.iter().find(|key| !sortable(key)) {
        return Err(Error::bad_request(format!("['{key}'] is invalid attribute for sort_keys")));
    }
    let descending = |direction: &String| match direction.as_str() {
        "asc" => Ok(false),
        "desc" => Ok(true),
        other => {
            let valid = "['asc', 'desc']";
            Err(Error::bad_request(format!("sort_dir '{other}' is invalid, it must be one of {valid}")))
        }
    };
    keys.into_iter().zip(directions).map(|(key, dir)| Ok((key, descending(dir)?))).collect()
}

fn page(limits: &[String], markers: Vec<String>, reverse: &[String]) -> Result<Option<Page>, Error> {
    let Some(text) = limits.first() else {
        return Ok(None);
    };
    let limit: usize = text
        .parse()
        .map_err(|_| Error::bad_request(format!("Limit must be an integer 0 or greater and not '{text}'")))?;
    if limit == 0 {
        return Ok(None);
    }
    let reverse =
        reverse.first().is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "true" | "1"));
    Ok(Some(Page { limit, marker: markers.into_iter().next(), reverse }))
}
