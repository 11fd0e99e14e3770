//! Lists: filter, sort, page and trim views that are already JSON, the same for every resource.

use crate::query::{Page, Query};
use crate::{Error, Resource};
use serde_json::{Map, Value, json};
use std::cmp::Ordering;

type View = Map<String, Value>;

/// A page of views and, when paging, its links.
pub(crate) struct Listed {
    pub(crate) views: Vec<Value>,
    pub(crate) links: Option<Vec<Value>>,
}

/// `base` is the collection's URL, for links.
pub(crate) fn apply<R: Resource>(mut views: Vec<View>, query: &Query, base: &str) -> Result<Listed, Error> {
    views.retain(|view| query.filters.iter().all(|(key, values)| matches(view, key, values)));
    sort(&mut views, query);
    let Some(page) = &query.page else {
        return Ok(Listed { views: trimmed(views, query), links: None });
    };
    let views = cut::<R>(views, page)?;
    let links = links(&views, page, query, base);
    Ok(Listed { views: trimmed(views, query), links: Some(links) })
}

/// Only the fields asked for; all if none were.
pub(crate) fn trim(mut view: View, fields: &[String]) -> Value {
    if !fields.is_empty() {
        view.retain(|key, _| fields.iter().any(|field| field == key));
    }
    Value::Object(view)
}

fn trimmed(views: Vec<View>, query: &Query) -> Vec<Value> {
    views.into_iter().map(|view| trim(view, &query.fields)).collect()
}

fn matches(view: &View, key: &str, values: &[String]) -> bool {
    match key {
        "tags" | "tags-any" | "not-tags" | "not-tags-any" => matches_tags(view, key, values),
        "fixed_ips" => matches_fixed_ips(view, values),
        "security_groups" => {
            let groups = view.get(key).and_then(Value::as_array);
            groups.is_some_and(|groups| groups.iter().any(|group| values.iter().any(|v| group == v)))
        }
        _ => values.iter().any(|value| matches_value(view.get(key), value)),
    }
}

fn matches_value(field: Option<&Value>, text: &str) -> bool {
    match field {
        Some(Value::String(field)) => field == text,
        Some(Value::Null) | None => text.is_empty(),
        Some(Value::Number(field)) => field.to_string() == text,
        Some(Value::Bool(field)) => text == if *field { "true" } else { "false" },
        Some(Value::Array(_) | Value::Object(_)) => false,
    }
}

fn matches_tags(view: &View, key: &str, values: &[String]) -> bool {
    let has = |tag: &str| {
        let tags = view.get("tags").and_then(Value::as_array);
        tags.is_some_and(|tags| tags.iter().any(|own| own == tag))
    };
    let mut wanted = values.iter().flat_map(|value| value.split(','));
    match key {
        "tags" => wanted.all(has),
        "tags-any" => wanted.any(has),
        "not-tags" => !wanted.all(has),
        _ => !wanted.any(has),
    }
}

/// `ip_address=X`, `subnet_id=X`, `ip_address_substr=X`: values of one key are alternatives, keys must hold
/// for the same fixed IP.
fn matches_fixed_ips(view: &View, values: &[String]) -> bool {
    let conditions: Vec<(&str, &str)> = values.iter().filter_map(|value| value.split_once('=')).collect();
    let holds = |ip: &Value| {
        let field = |name: &str| ip.get(name).and_then(Value::as_str).unwrap_or_default();
        conditions.iter().all(|(key, _)| {
            conditions.iter().filter(|(other, _)| other == key).any(|(_, want)| match *key {
                "ip_address_substr" => field("ip_address").contains(want),
                key => field(key) == *want,
            })
        })
    };
    let ips = view.get("fixed_ips").and_then(Value::as_array);
    !conditions.is_empty() && ips.is_some_and(|ips| ips.iter().any(holds))
}

/// By the keys asked for, then by id, so that pages are stable.
fn sort(views: &mut [View], query: &Query) {
    if query.sort.is_empty() && query.page.is_none() {
        return;
    }
    views.sort_by(|a, b| {
        let by_keys = query.sort.iter().map(|(key, descending)| {
            let order = compare(a.get(key), b.get(key));
            if *descending { order.reverse() } else { order }
        });
        by_keys.fold(Ordering::Equal, Ordering::then).then_with(|| compare(a.get("id"), b.get("id")))
    });
}

fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a, b) {
        (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
        (Some(Value::Number(a)), Some(Value::Number(b))) => a.as_i64().cmp(&b.as_i64()),
        (Some(Value::Bool(a)), Some(Value::Bool(b))) => a.cmp(b),
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

/// Nulls first, as the reference's database does.
fn rank(value: Option<&Value>) -> u8 {
    u8::from(!matches!(value, None | Some(Value::Null)))
}

fn cut<R: Resource>(mut views: Vec<View>, page: &Page) -> Result<Vec<View>, Error> {
    let at = match &page.marker {
        None => None,
        Some(marker) => Some(
            views.iter().position(|view| id(view) == marker).ok_or_else(|| R::not_found(marker.clone()))?,
        ),
    };
    let range = if page.reverse {
        let end = at.unwrap_or(views.len());
        end.saturating_sub(page.limit)..end
    } else {
        let start = at.map_or(0, |at| at + 1);
        start..start.saturating_add(page.limit).min(views.len())
    };
    Ok(views.drain(range).collect())
}

fn id(view: &View) -> &str {
    view.get("id").and_then(Value::as_str).unwrap_or_default()
}

/// `next` when the page is full, `previous` always, except where paging backwards reached the start.
fn links(views: &[View], page: &Page, query: &Query, base: &str) -> Vec<Value> {
    let full = views.len() >= page.limit;
    let mut links = Vec::new();
    if full || page.reverse {
        links.push(json!({"rel": "next", "href": href(query, base, views.last(), false)}));
    }
    if full || !page.reverse {
        links.push(json!({"rel": "previous", "href": href(query, base, views.first(), true)}));
    }
    links
}

fn href(query: &Query, base: &str, marker: Option<&View>, reverse: bool) -> String {
    let mut pairs: Vec<(&str, &str)> = query
        .pairs
        .iter()
        .filter(|(key, _)| key != "marker" && key != "page_reverse")
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    if let Some(marker) = marker {
        pairs.push(("marker", id(marker)));
    }
    if reverse {
        pairs.push(("page_reverse", "True"));
    }
    let pairs: Vec<String> =
        pairs.iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value))).collect();
    format!("{base}?{}", pairs.join("&"))
}

/// Percent-encoding of everything that is not unreserved (RFC 3986 §2.3).
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
