//! What a command prints: a table for people, JSON for programs, bare values for shell scripts.
//!
//! JSON is the API's own object, unchanged; tables choose columns and words.

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::{Map, Value};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

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
    pub(crate) text: fn(&Value) -> String,
}

impl Column {
    /// A column that shows one attribute as it is.
    pub(crate) const fn plain(header: &'static str, key: &'static str) -> Self {
        Self { header, key, text: text_of }
    }

    fn show(&self, row: &Value) -> String {
        (self.text)(row.get(self.key).unwrap_or(&Value::Null))
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
        let column = |name: &String| columns.iter().find(|column| column.is_named(name)).copied();
        self.columns.iter().filter_map(column).collect()
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

/// Rows of a table whose widths are decided by the first of them.
const WIDTH_ROWS: usize = 500;

/// Prints rows as they come. A table decides its widths by its first rows; a longer cell later on only pushes
/// the rest of its line.
pub(crate) struct RowWriter<'a, W: Write> {
    output: &'a Output,
    columns: Vec<Column>,
    /// Rows of a table that wait for its widths.
    waiting: Vec<Vec<String>>,
    widths: Option<Vec<usize>>,
    rows: u64,
    writer: BufWriter<W>,
}

impl<'a, W: Write> RowWriter<'a, W> {
    pub(crate) fn new(output: &'a Output, columns: &[Column], writer: W) -> Self {
        let columns = output.choose(columns);
        let writer = BufWriter::with_capacity(1 << 16, writer);
        Self { output, columns, waiting: Vec::new(), widths: None, rows: 0, writer }
    }

    /// A row as the API sent it. Break: nobody reads any more.
    pub(crate) fn text_row(&mut self, row: &[u8]) -> anyhow::Result<ControlFlow<()>> {
        if self.output.format == Format::Json && self.output.columns.is_empty() {
            let separator: &[u8] = if self.rows == 0 { b"[\n" } else { b",\n" };
            self.rows += 1;
            let written = self.writer.write_all(separator).and_then(|()| self.writer.write_all(row));
            return Ok(ended(written));
        }
        self.row(&serde_json::from_slice(row)?)
    }

    pub(crate) fn row(&mut self, row: &Value) -> anyhow::Result<ControlFlow<()>> {
        let separator = if self.rows == 0 { "[\n" } else { ",\n" };
        self.rows += 1;
        let written = match self.output.format {
            Format::Json => write!(self.writer, "{separator}{}", self.output.pick(row)),
            Format::Value => {
                let cells = self.columns.iter().map(|column| column.show(row).replace('\n', ","));
                writeln!(self.writer, "{}", cells.collect::<Vec<_>>().join("\t"))
            }
            Format::Table => self.cells(self.columns.iter().map(|column| column.show(row)).collect()),
        };
        Ok(ended(written))
    }

    fn cells(&mut self, cells: Vec<String>) -> io::Result<()> {
        if self.widths.is_some() {
            return self.line(&cells);
        }
        self.waiting.push(cells);
        if self.waiting.len() < WIDTH_ROWS { Ok(()) } else { self.begin() }
    }

    /// Decides the widths and prints what waited.
    fn begin(&mut self) -> io::Result<()> {
        let header: Vec<String> = self.columns.iter().map(|column| column.header.to_uppercase()).collect();
        let waiting = std::mem::take(&mut self.waiting);
        let width = |column: usize| {
            let cells = waiting.iter().chain([&header]).filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        self.widths = Some((0..header.len()).map(width).collect());
        self.line(&header)?;
        waiting.iter().try_for_each(|cells| self.line(cells))
    }

    fn line(&mut self, cells: &[String]) -> io::Result<()> {
        let widths = self.widths.as_deref().unwrap_or_default();
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            line.push_str(cell);
            let padding = width.saturating_sub(cell.chars().count()) + 2;
            line.extend(std::iter::repeat_n(' ', padding));
        }
        writeln!(self.writer, "{}", line.trim_end())
    }

    /// What is left to print.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        match self.output.format {
            Format::Json if self.rows == 0 => writeln!(self.writer, "[]")?,
            Format::Json => writeln!(self.writer, "\n]")?,
            Format::Table if self.widths.is_none() => self.begin()?,
            Format::Table | Format::Value => {}
        }
        self.writer.flush()
    }
}

fn ended(written: io::Result<()>) -> ControlFlow<()> {
    if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
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
mod tests {
    use super::*;
    use serde_json::json;

    const COLUMNS: &[Column] = &[
        Column::plain("id", "id"),
        Column::plain("name", "name"),
        Column { header: "addresses", key: "fixed_ips", text: text_of },
    ];

    fn rows() -> Vec<Value> {
        vec![
            json!({"id": "1", "name": "vm_a", "fixed_ips": [{"ip_address": "192.168.10.11"}], "mtu": 1450}),
            json!({"id": "2", "name": "", "fixed_ips": []}),
        ]
    }

    fn output(format: Format, columns: &[&str]) -> Output {
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

    fn streamed(output: &Output, rows: &[Value]) -> String {
        let mut bytes = Vec::new();
        let mut writer = RowWriter::new(output, COLUMNS, &mut bytes);
        for row in rows {
            assert!(writer.text_row(row.to_string().as_bytes()).unwrap().is_continue());
        }
        writer.finish().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn rows_that_are_printed_as_they_come_look_like_a_list() {
        for (format, columns) in
            [(Format::Table, &[][..]), (Format::Value, &["name"][..]), (Format::Table, &["name", "id"][..])]
        {
            let output = output(format, columns);
            assert_eq!(streamed(&output, &rows()), output.list(COLUMNS, &rows()));
            assert_eq!(streamed(&output, &[]), output.list(COLUMNS, &[]));
        }
        for columns in [&[][..], &["id"][..]] {
            let output = output(Format::Json, columns);
            let parse = |text: &str| serde_json::from_str::<Vec<Value>>(text).unwrap();
            assert_eq!(parse(&streamed(&output, &rows())), parse(&output.list(COLUMNS, &rows())));
            assert_eq!(parse(&streamed(&output, &[])), Vec::<Value>::new());
        }
    }

    #[test]
    fn a_table_starts_before_all_its_rows_are_there() {
        let (mut bytes, output) = (Vec::new(), output(Format::Table, &["id"]));
        let mut writer = RowWriter::new(&output, COLUMNS, &mut bytes);
        for number in 0..WIDTH_ROWS {
            let _ = writer.row(&json!({"id": number})).unwrap();
        }
        assert!(writer.waiting.is_empty() && writer.widths == Some(vec![3]));
        let _ = writer.row(&json!({"id": 123_456})).unwrap();
        writer.finish().unwrap();
        assert!(String::from_utf8(bytes).unwrap().ends_with("\n499\n123456\n"));
    }

    #[test]
    fn an_empty_list_keeps_its_header() {
        assert_eq!(output(Format::Table, &[]).list(COLUMNS, &[]), "ID  NAME  ADDRESSES\n");
        assert_eq!(output(Format::Json, &[]).list(COLUMNS, &[]), "[]\n");
        assert_eq!(output(Format::Value, &[]).list(COLUMNS, &[]), "");
    }
}
