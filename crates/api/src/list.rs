//! Lists: filter, sort, page and trim views that are already JSON, the same for every resource.
//!
//! A list may be long: a view is JSON for as long as it is looked at and no longer. Of a list that is sorted or cut into
//! pages only what is in the answer becomes text; of all else nothing stays but sort keys and id.

use crate::query::{Page, Query};
use crate::{Error, Resource};
use serde_json::{Map, Value, json};
use std::cmp::Ordering;

type View = Map<String, Value>;

/// What is known of a view that waits for its place in the list.
struct Entry {
    /// In the order of the sort keys.
    keys: Vec<Value>,
    id: String,
    /// Its place among the views.
    at: usize,
}

/// The body of an answer. `visible` makes what the caller may read of a view, if that is anything; `base` is the
/// collection's URL, for links.
pub(crate) fn body<R: Resource>(
    views: &[R::View],
    visible: impl Fn(&R::View) -> Result<Option<View>, Error>,
    query: &Query,
    base: &str,
) -> Result<Vec<u8>, Error> {
    let passing = |of: &R::View| {
        let view = visible(of)?;
        let passes = |view: &View| query.filters.iter().all(|(key, values)| matches(view, key, values));
        Ok(view.filter(passes))
    };
    let mut list = List::new(R::COLLECTION);
    if query.sort.is_empty() && query.page.is_none() {
        for of in views {
            if let Some(view) = passing(of)? {
                list.add(&trim(view, &query.fields))?;
            }
        }
        return Ok(list.end());
    }
    let mut entries = Vec::new();
    for (at, of) in views.iter().enumerate() {
        entries.extend(passing(of)?.map(|view| entry(&view, query, at)));
    }
    sort(&mut entries, query);
    if let Some(page) = &query.page {
        entries = cut::<R>(entries, page)?;
    }
    for of in entries.iter().filter_map(|entry| views.get(entry.at)) {
        if let Some(view) = visible(of)? {
            list.add(&trim(view, &query.fields))?;
        }
    }
    if let Some(page) = &query.page {
        list.links(R::COLLECTION, links(&entries, page, query, base))?;
    }
    Ok(list.end())
}

/// An answer in the making.
struct List {
    body: Vec<u8>,
    open: bool,
    empty: bool,
}

impl List {
    fn new(collection: &str) -> Self {
        Self { body: format!("{{\"{collection}\":[").into_bytes(), open: true, empty: true }
    }

    fn add(&mut self, view: &Value) -> Result<(), Error> {
        if !self.empty {
            self.body.push(b',');
        }
        self.empty = false;
        self.write(view)
    }

    fn links(&mut self, collection: &str, links: Vec<Value>) -> Result<(), Error> {
        self.body.extend_from_slice(format!("],\"{collection}_links\":").as_bytes());
        self.open = false;
        self.write(&Value::Array(links))
    }

    fn write(&mut self, value: &Value) -> Result<(), Error> {
        serde_json::to_writer(&mut self.body, value).map_err(Error::internal)
    }

    fn end(mut self) -> Vec<u8> {
        self.body.extend_from_slice(if self.open { b"]}" } else { b"}" });
        self.body
    }
}

fn entry(view: &View, query: &Query, at: usize) -> Entry {
    let keys = query.sort.iter().map(|(key, _)| view.get(key).cloned().unwrap_or_default()).collect();
    let id = view.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    Entry { keys, id, at }
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
