//! Paths to data (RFC 8040 §3.5.3): names with modules, and the keys of list entries.

use super::failure::Failure;
use serde_json::{Map, Value};

/// The keys of every list that is served, by its name.
const KEYS: [(&str, &[&str]); 11] = [
    ("instance", &["id"]),
    ("transport-protocols", &["protocol-id"]),
    ("nat-pass-through", &["id"]),
    ("policy", &["id"]),
    ("external-ip-address-pool", &["pool-id"]),
    ("subscriber-match", &["match-id"]),
    ("port-quota", &["quota-type"]),
    ("mapping-entry", &["index"]),
    ("total-per-protocol", &["protocol-id"]),
    ("per-pool-stats", &["pool-id"]),
    ("module", &["name", "revision"]),
];
/// Deeper than any data.
const SEGMENTS_MAX: usize = 16;

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) module: Option<String>,
    pub(super) name: String,
    pub(super) keys: Vec<String>,
}

impl Segment {
    /// Below a node of a module, its name may be left out.
    pub(super) fn is(&self, module: &str, name: &str) -> bool {
        self.name == name && self.module.as_deref().is_none_or(|own| own == module)
    }
}

/// # Errors
/// Something that is no path.
pub(super) fn parse(path: &str) -> Result<Vec<Segment>, Failure> {
    let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty()).collect();
    if steps.len() > SEGMENTS_MAX {
        return Err(Failure::invalid(format!("the path has more than {SEGMENTS_MAX} steps")));
    }
    steps.into_iter().map(segment).collect()
}

fn segment(step: &str) -> Result<Segment, Failure> {
    let (name, keys) = step.split_once('=').map_or((step, None), |(name, keys)| (name, Some(keys)));
    let name = decoded(name)?;
    let (module, name) = match name.split_once(':') {
        Some((module, name)) => (Some(module.to_owned()), name.to_owned()),
        None => (None, name),
    };
    let keys = keys.map_or(Ok(Vec::new()), |keys| keys.split(',').map(decoded).collect())?;
    Ok(Segment { module, name, keys })
}

/// `%3A` is a colon.
fn decoded(text: &str) -> Result<String, Failure> {
    let bad = || Failure::invalid(format!("'{text}' is no part of a path"));
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).ok_or_else(bad)?;
        bytes.push(u8::from_str_radix(code, 16).map_err(|_| bad())?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

/// A path as it is written.
pub(super) fn text(path: &[Segment]) -> String {
    let step = |step: &Segment| {
        let module = step.module.as_ref().map_or_else(String::new, |module| format!("{module}:"));
        let keys = if step.keys.is_empty() { String::new() } else { format!("={}", step.keys.join(",")) };
        format!("{module}{}{keys}", step.name)
    };
    path.iter().map(step).collect::<Vec<_>>().join("/")
}

/// What the path leads to in `tree`, under its own name: `{"MODULE:NAME": ...}`. None: nothing, or a list without a key.
pub(super) fn find(tree: &Value, path: &[Segment]) -> Option<Value> {
    let mut at = tree;
    for segment in path {
        at = at.get(&segment.name)?;
        at = match (at, segment.keys.as_slice()) {
            (Value::Array(entries), [_, ..]) => entries.iter().find(|entry| has_keys(entry, segment))?,
            (Value::Array(_), []) | (_, [_, ..]) => return None,
            (_, []) => at,
        };
    }
    let last = path.last()?;
    let module = path.iter().rev().find_map(|step| step.module.as_deref()).unwrap_or("ietf-nat");
    // An entry is a list of one (RFC 7951 §5.4).
    let value = if last.keys.is_empty() { at.clone() } else { Value::from(vec![at.clone()]) };
    Some(Map::from_iter([(format!("{module}:{}", last.name), value)]).into())
}

/// Of a list of leaves the value is the key.
fn has_keys(entry: &Value, segment: &Segment) -> bool {
    let is = |value: &Value, key: &String| match value {
        Value::String(text) => text == key,
        other => other.as_u64().is_some_and(|number| key.parse() == Ok(number)),
    };
    if !entry.is_object() {
        return matches!(segment.keys.as_slice(), [key] if is(entry, key));
    }
    let Some((_, names)) = KEYS.iter().find(|(list, _)| *list == segment.name) else { return false };
    names.len() == segment.keys.len()
        && names.iter().zip(&segment.keys).all(|(name, key)| entry.get(*name).is_some_and(|own| is(own, key)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(path: &str) -> Option<Value> {
        let tree = json!({"policy": [
            {"id": 1, "timers": {"udp-timeout": 300}, "flavor": ["napt44"]},
            {"id": 2},
        ]});
        find(&tree, &parse(path).unwrap())
    }

    #[test]
    fn a_path_leads_to_a_leaf_a_container_an_entry_or_a_value_of_a_list() {
        let one = |name: &str, value: Value| Some(json!({name: value}));
        assert_eq!(found("policy=1/timers/udp-timeout"), one("ietf-nat:udp-timeout", json!(300)));
        assert_eq!(found("ietf-nat:policy=2"), one("ietf-nat:policy", json!([{"id": 2}])));
        assert_eq!(found("policy=%31/timers"), one("ietf-nat:timers", json!({"udp-timeout": 300})));
        assert_eq!(found("policy=1/flavor=napt44"), one("ietf-nat:flavor", json!(["napt44"])));
        for path in
            ["policy", "policy=3", "policy=1,2", "policy=1/timers=1", "policy/timers", "policy=1/nothing"]
        {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in ["a%", "a%4", "a%zz", "a=%ff", &"a/".repeat(17)] {
            assert!(parse(path).is_err(), "{path}");
        }
        assert_eq!(text(&parse("a:b/c=1,2").unwrap()), "a:b/c=1,2");
    }
}
