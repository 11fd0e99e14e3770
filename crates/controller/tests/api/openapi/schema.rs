//! What an attribute takes, as a JSON schema: found out by asking its check, so that it says what the API does. Checks
//! give their reasons; what is expected of a value that they refuse is in them.

use crate::common::UNKNOWN;
use serde_json::{Map, Value, json};

/// A check, or what is left of one for a part of its value.
type Ask<'a> = &'a dyn Fn(&Value) -> Result<Value, String>;

/// Keys that objects may have; those that a check does not know are not in its schema.
const KEYS: &[&str] = &[
    "destination",
    "enable_snat",
    "end",
    "external_fixed_ips",
    "ip_address",
    "ip_version",
    "mac_address",
    "nanboku:filtering",
    "nanboku:mappings_per_second_max",
    "nanboku:port_control",
    "nanboku:ports_per_vm_max",
    "nanboku:snat_shared",
    "nanboku:untranslated_destinations",
    "network_id",
    "nexthop",
    "opt_name",
    "opt_value",
    "start",
    "subnet_id",
];
const TEXT_LENGTHS_MAX: [usize; 2] = [255, 1024];

pub(super) fn of(ask: Ask<'_>) -> Value {
    let mut schema = not_null(ask);
    if ask(&Value::Null).is_ok() && schema != json!({}) {
        schema["nullable"] = json!(true);
    }
    schema
}

fn not_null(ask: Ask<'_>) -> Value {
    let takes = |value: Value| ask(&value).is_ok();
    if takes(json!(true)) && !takes(json!("~")) {
        return json!({"type": "boolean"});
    }
    if takes(json!("~")) && takes(json!([])) {
        return json!({});
    }
    if takes(json!([])) {
        return json!({"type": "array", "items": of(&|item| ask(&json!([item])))});
    }
    if let Some(choice) = choice(ask) {
        return choice;
    }
    if is_object(ask) {
        return object(ask);
    }
    let number = [4, 64, 1280].into_iter().find(|number| takes(json!(number)));
    number.filter(|_| !takes(json!("~"))).map_or_else(|| text(ask), |known| integer(ask, known))
}

/// One of a few, as the reason says: `'~' is not in ['a', 'b']`.
fn choice(ask: Ask<'_>) -> Option<Value> {
    for (value, kind) in [(json!("~"), "string"), (json!(5), "integer")] {
        let Err(reason) = ask(&value) else { continue };
        let Some((_, list)) = reason.split_once(" is not in ") else { continue };
        let list = serde_json::from_str::<Value>(&list.replace('\'', "\"")).unwrap();
        return Some(json!({"type": kind, "enum": list}));
    }
    None
}

fn is_object(ask: Ask<'_>) -> bool {
    ask(&json!({})).is_ok() || ask(&json!({"~": 0})).is_err_and(|reason| reason.contains("Unexpected key"))
}

fn object(ask: Ask<'_>) -> Value {
    let knows = |key: &str| !ask(&json!({key: null})).is_err_and(|reason| reason.contains("Unexpected key"));
    if knows("~") {
        return json!({"type": "object"});
    }
    let keys: Vec<&str> = KEYS.iter().copied().filter(|key| knows(key)).collect();
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| {
            let own = format!("'{key}'");
            let part = |value: &Value| match ask(&json!({*key: value})) {
                // Its own value is in order, and another one is not there.
                Err(reason) if reason.starts_with("Required key") && !reason.contains(&own) => {
                    Ok(value.clone())
                }
                Err(reason) => Err(reason),
                Ok(whole) => Ok(whole.get(*key).cloned().unwrap_or_default()),
            };
            ((*key).to_owned(), of(&part))
        })
        .collect();
    let required: Vec<&str> = keys.into_iter().filter(|key| is_required(ask, key)).collect();
    let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// All other keys are given, with whatever; a key that is missing is told first.
fn is_required(ask: Ask<'_>, key: &str) -> bool {
    let missing = format!("Required key '{key}' is missing");
    // Null is as good as none.
    let others = KEYS.iter().filter(|other| **other != key);
    let samples = [UNKNOWN, "10.0.0.1", "10.0.0.0/24", "42", "x"];
    let mut given = Map::new();
    for other in others {
        let with = |sample: &str| {
            let mut with = given.clone();
            with.insert((*other).to_owned(), json!(sample));
            with
        };
        let good = |with: &Map<String, Value>| match ask(&json!(with)) {
            Ok(_) => true,
            Err(reason) => reason.starts_with("Required key"),
        };
        if let Some(with) = samples.into_iter().map(with).find(good) {
            given = with;
        }
    }
    ask(&json!(given)).is_err_and(|reason| reason.starts_with(&missing))
}

fn integer(ask: Ask<'_>, known: i64) -> Value {
    let takes = |number: i64| ask(&json!(number)).is_ok();
    let mut schema = json!({"type": "integer"});
    if !takes(-1) {
        schema["minimum"] = json!((0..=known).find(|number| takes(*number)).unwrap());
    }
    let bound = [128, 255, 4096, 65_535, 131_072, 1_000_000].into_iter().rfind(|bound| takes(*bound));
    if let Some(maximum) = bound.filter(|bound| !takes(i64::MAX) && !takes(bound + 1)) {
        schema["maximum"] = json!(maximum);
    }
    schema
}

fn text(ask: Ask<'_>) -> Value {
    let takes = |text: &str| ask(&json!(text)).is_ok();
    if !takes("~") {
        return form(ask);
    }
    let mut schema = json!({"type": "string"});
    if !takes("") {
        schema["minLength"] = json!(1);
    }
    if let Some(length) = TEXT_LENGTHS_MAX.into_iter().find(|length| !takes(&"x".repeat(length + 1))) {
        schema["maxLength"] = json!(length);
    }
    schema
}

/// A text of one of these forms. `cidr` and `mac` are our names.
fn form(ask: Ask<'_>) -> Value {
    let forms = [
        ("uuid", UNKNOWN),
        ("ipv4", "10.0.0.1"),
        ("ipv6", "2001:db8::1"),
        ("cidr", "10.0.0.0/24"),
        ("mac", "fa:16:3e:00:00:01"),
    ];
    let taken: Vec<Value> = forms
        .into_iter()
        .filter(|(_, sample)| ask(&json!(sample)).is_ok())
        .map(|(form, _)| json!({"type": "string", "format": form}))
        .collect();
    match taken.as_slice() {
        [] => json!({"type": "string"}),
        [one] => one.clone(),
        several => json!({"anyOf": several}),
    }
}
