//! What a command prints: a table for people, JSON for programs, bare values for shell scripts.
//!
//! JSON is the API's own object, unchanged; tables choose columns and words.

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value};

mod rows;

pub(crate) use rows::RowWriter;

/// `--output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    /// The API's own objects.
    Json,
    /// Values only: one row per line, separated by tabs.
    Value,
}

/// A column of a list: the attribute it shows, and how.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    pub(crate) header: &'static str,
    /// The attribute, for `--column` and JSON.
    pub(crate) key: &'static str,
    /// None: as [`text_of`] has it.
    pub(crate) text: Option<fn(&Value) -> String>,
}

impl Column {
    /// A column that shows one attribute as it is.
    pub(crate) const fn plain(header: &'static str, key: &'static str) -> Self {
        Self { header, key, text: None }
    }

    fn show(&self, row: &Value) -> String {
        (self.text.unwrap_or(text_of))(row.get(self.key).unwrap_or(&Value::Null))
    }

    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.header.eq_ignore_ascii_case(name) || self.key.eq_ignore_ascii_case(name)
    }
}

/// How to print.
#[derive(Clone, Debug, Default)]
pub(crate) struct Output {
    pub(crate) format: Format,
    /// Only these columns or attributes; empty: all.
    pub(crate) columns: Vec<String>,
}

impl Output {
    /// Rows of one kind.
    pub(crate) fn list(&self, columns: &[Column], rows: &[Value]) -> String {
        let chosen = self.choose(columns);
        match self.format {
            Format::Json => pretty(&Value::Array(rows.iter().map(|row| self.pick(row)).collect())),
            Format::Value => lines(rows.iter().map(|row| {
                chosen.iter().map(|column| column.show(row).replace('\n', ",")).collect::<Vec<_>>().join("\t")
            })),
            Format::Table => {
                let headers: Vec<&str> = chosen.iter().map(|column| column.header).collect();
                let cells = rows.iter().map(|row| chosen.iter().map(|column| column.show(row)).collect());
                table(&headers, cells)
            }
        }
    }

    /// One object, attribute by attribute.
    pub(crate) fn show(&self, object: &Value) -> String {
        let object = self.pick(object);
        let fields = match &object {
            Value::Object(fields) => fields.clone(),
            _ => Map::new(),
        };
        match self.format {
            Format::Json => pretty(&object),
            Format::Value => lines(fields.values().map(text_of)),
            Format::Table => table(
                &["field", "value"],
                fields.iter().map(|(key, value)| vec![key.clone(), text_of(value)]),
            ),
        }
    }

    fn choose(&self, columns: &[Column]) -> Vec<Column> {
        if self.columns.is_empty() {
            return columns.to_vec();
        }
        let mut chosen: Vec<Column> = Vec::new();
        let named = |name: &String| columns.iter().find(|column| column.is_named(name)).copied();
        for column in self.columns.iter().filter_map(named) {
            if !chosen.iter().any(|before| before.key == column.key) {
                chosen.push(column);
            }
        }
        chosen
    }

    /// The chosen attributes of an object.
    fn pick(&self, object: &Value) -> Value {
        match object {
            Value::Object(fields) if !self.columns.is_empty() => {
                let wanted = |key: &String| self.columns.iter().any(|name| name.eq_ignore_ascii_case(key));
                Value::Object(
                    fields
                        .iter()
                        .filter(|(key, _)| wanted(key))
                        .map(|(k, v)| (k.clone(), v.clone()))
                        .collect(),
                )
            }
            other => other.clone(),
        }
    }
}

/// A table with a line under its header and no vertical rules: it survives copy and paste.
pub(crate) fn table(headers: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers.iter().map(|header| header.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    lines(table.lines().map(|line| line.trim_end().to_owned()))
}

fn lines(rows: impl Iterator<Item = String>) -> String {
    rows.map(|row| row + "\n").collect()
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// A value in words: lists one item per line, objects as `key=value`, nothing as `-`.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(text_of).collect::<Vec<_>>().join("\n"),
        Value::Object(fields) => {
            let field =
                |(key, value): (&String, &Value)| format!("{key}={}", text_of(value).replace('\n', " "));
            fields.iter().map(field).collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in crate::output) const COLUMNS: &[Column] = &[
        Column::plain("id", "id"),
        Column::plain("name", "name"),
        Column { header: "addresses", key: "fixed_ips", text: Some(text_of) },
    ];

    pub(in crate::output) fn rows() -> Vec<Value> {
        vec![
            json!({"id": "1", "name": "vm_a", "fixed_ips": [{"ip_address": "192.168.10.11"}], "mtu": 1450}),
            json!({"id": "2", "name": "", "fixed_ips": []}),
        ]
    }

    pub(in crate::output) fn output(format: Format, columns: &[&str]) -> Output {
        Output { format, columns: columns.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn a_list_is_a_table_with_a_dash_for_nothing() {
        let want = "ID  NAME  ADDRESSES\n1   vm_a  ip_address=192.168.10.11\n2   -     -\n";
        assert_eq!(output(Format::Table, &[]).list(COLUMNS, &rows()), want);
    }

    #[test]
    fn chosen_columns_keep_the_order_asked_for() {
        assert_eq!(
            output(Format::Table, &["name", "ID"]).list(COLUMNS, &rows()),
            "NAME  ID\nvm_a  1\n-     2\n"
        );
        assert_eq!(output(Format::Value, &["name", "id"]).list(COLUMNS, &rows()), "vm_a\t1\n-\t2\n");
    }

    #[test]
    fn json_is_the_object_as_it_came() {
        let text = output(Format::Json, &[]).list(COLUMNS, &rows());
        assert_eq!(serde_json::from_str::<Vec<Value>>(&text).unwrap(), rows());
        let text = output(Format::Json, &["mtu"]).show(&rows()[0]);
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({"mtu": 1450}));
    }

    #[test]
    fn an_object_is_shown_field_by_field() {
        let text = output(Format::Table, &["name", "mtu"]).show(&rows()[0]);
        assert_eq!(text, "FIELD  VALUE\nmtu    1450\nname   vm_a\n");
        assert_eq!(output(Format::Value, &["id"]).show(&rows()[0]), "1\n");
    }

    #[test]
    fn an_empty_list_keeps_its_header() {
        assert_eq!(output(Format::Table, &[]).list(COLUMNS, &[]), "ID  NAME  ADDRESSES\n");
        assert_eq!(output(Format::Json, &[]).list(COLUMNS, &[]), "[]\n");
        assert_eq!(output(Format::Value, &[]).list(COLUMNS, &[]), "");
    }
}
