//! Lists: filter, sort, page and trim views that are already JSON, the same for every resource.
//!
//! A list may be long: a view is text as soon as it has passed the filters, because its parts take several times as
//! much.

use crate::query::{Page, Query};
use crate::{Error, Resource};
use serde_json::{Map, Value, json};
use std::cmp::Ordering;

type View = Map<String, Value>;

/// A view that waits for its place in the list.
struct Entry {
    /// In the order of the sort keys.
    keys: Vec<Value>,
    id: String,
    text: Vec<u8>,
}

/// The body of an answer. `base` is the collection's URL, for links.
pub(crate) fn body<R: Resource>(
    views: impl Iterator<Item = Result<View, Error>>,
    query: &Query,
    base: &str,
) -> Result<Vec<u8>, Error> {
    let passes = |view: &View| query.filters.iter().all(|(key, values)| matches(view, key, values));
    let views = views.filter(|view| view.as_ref().map_or(true, passes));
    let mut body = format!("{{\"{}\":[", R::COLLECTION).into_bytes();
    if query.sort.is_empty() && query.page.is_none() {
        for (index, view) in views.enumerate() {
            separate(&mut body, index);
            write(&mut body, &trim(view?, &query.fields))?;
        }
        body.extend_from_slice(b"]}");
        return Ok(body);
    }
    let mut entries = views.map(|view| entry(view?, query)).collect::<Result<Vec<_>, _>>()?;
    sort(&mut entries, query);
    if let Some(page) = &query.page {
        entries = cut::<R>(entries, page)?;
    }
    for (index, entry) in entries.iter().enumerate() {
        separate(&mut body, index);
        body.extend_from_slice(&entry.text);
    }
    body.push(b']');
    if let Some(page) = &query.page {
        body.extend_from_slice(format!(",\"{}_links\":", R::COLLECTION).as_bytes());
        write(&mut body, &Value::Array(links(&entries, page, query, base)))?;
    }
    body.push(b'}');
    Ok(body)
}

fn separate(body: &mut Vec<u8>, index: usize) {
    if index > 0 {
        body.push(b',');
    }
}

fn write(body: &mut Vec<u8>, value: &Value) -> Result<(), Error> {
    serde_json::to_writer(body, value).map_err(Error::internal)
}

fn entry(view: View, query: &Query) -> Result<Entry, Error> {
    let keys = query.sort.iter().map(|(key, _)| view.get(key).cloned().unwrap_or_default()).collect();
    let id = view.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut text = Vec::new();
    write(&mut text, &trim(view, &query.fields))?;
    Ok(Entry { keys, id, text })
}

/// Only the fields asked for; all if none were.
pub(crate) fn trim(mut view: View, fields: &[String]) -> Value {
    if !fields.is_empty() {
        view.retain(|key, _| fields.iter().any(|field| field == key));
    }
    Value::Object(view)
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
fn sort(entries: &mut [Entry], query: &Query) {
    entries.sort_by(|a, b| {
        let by_keys = a.keys.iter().zip(&b.keys).zip(&query.sort).map(|((a, b), (_, descending))| {
            let order = compare(a, b);
            if *descending { order.reverse() } else { order }
        });
        by_keys.fold(Ordering::Equal, Ordering::then).then_with(|| a.id.cmp(&b.id))
    });
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => a.as_i64().cmp(&b.as_i64()),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

/// Nulls first, as the reference's database does.
fn rank(value: &Value) -> u8 {
    u8::from(!value.is_null())
}

fn cut<R: Resource>(mut entries: Vec<Entry>, page: &Page) -> Result<Vec<Entry>, Error> {
    let at = match &page.marker {
        None => None,
        Some(marker) => {
            let at = entries.iter().position(|entry| entry.id == *marker);
            Some(at.ok_or_else(|| R::not_found(marker.clone()))?)
        }
    };
    let range = if page.reverse {
        let end = at.unwrap_or(entries.len());
        end.saturating_sub(page.limit)..end
    } else {
        let start = at.map_or(0, |at| at + 1);
        start..start.saturating_add(page.limit).min(entries.len())
    };
    Ok(entries.drain(range).collect())
}

/// `next` when the page is full, `previous` always, except where paging backwards reached the start.
fn links(entries: &[Entry], page: &Page, query: &Query, base: &str) -> Vec<Value> {
    let full = entries.len() >= page.limit;
    let mut links = Vec::new();
    if full || page.reverse {
        links.push(json!({"rel": "next", "href": href(query, base, entries.last(), false)}));
    }
    if full || !page.reverse {
        links.push(json!({"rel": "previous", "href": href(query, base, entries.first(), true)}));
    }
    links
}

fn href(query: &Query, base: &str, marker: Option<&Entry>, reverse: bool) -> String {
    let mut pairs: Vec<(&str, &str)> = query
        .pairs
        .iter()
        .filter(|(key, _)| key != "marker" && key != "page_reverse")
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    if let Some(marker) = marker {
        pairs.push(("marker", &marker.id));
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
