//! Rows that are printed as they come: a million of them take no more memory than a few.

use super::{Column, Format, Output};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

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
    /// The line that is being made.
    line: Vec<u8>,
    writer: BufWriter<W>,
}

impl<'a, W: Write> RowWriter<'a, W> {
    pub(crate) fn new(output: &'a Output, columns: &[Column], writer: W) -> Self {
        let columns = output.choose(columns);
        let writer = BufWriter::with_capacity(1 << 16, writer);
        Self { output, columns, waiting: Vec::new(), widths: None, rows: 0, line: Vec::new(), writer }
    }

    /// A row as the API sent it. Break: nobody reads any more.
    pub(crate) fn text_row(&mut self, row: &[u8]) -> anyhow::Result<ControlFlow<()>> {
        if self.output.format == Format::Json && self.output.columns.is_empty() {
            let separator: &[u8] = if self.rows == 0 { b"[\n" } else { b",\n" };
            self.rows += 1;
            let written = self.writer.write_all(separator).and_then(|()| self.writer.write_all(row));
            return Ok(ended(written));
        }
        if self.output.format == Format::Json {
            return self.row(&serde_json::from_slice(row)?);
        }
        let cells = Cells(&self.columns).deserialize(&mut serde_json::Deserializer::from_slice(row))?;
        Ok(ended(self.shown(cells)))
    }

    pub(crate) fn row(&mut self, row: &Value) -> anyhow::Result<ControlFlow<()>> {
        if self.output.format != Format::Json {
            return Ok(ended(self.shown(self.columns.iter().map(|column| column.show(row)).collect())));
        }
        let separator = if self.rows == 0 { "[\n" } else { ",\n" };
        self.rows += 1;
        Ok(ended(write!(self.writer, "{separator}{}", self.output.pick(row))))
    }

    /// A row of a table or of bare values.
    fn shown(&mut self, cells: Vec<String>) -> io::Result<()> {
        if self.output.format == Format::Value {
            self.line.clear();
            for cell in &cells {
                self.line.extend(cell.bytes().map(|byte| if byte == b'\n' { b',' } else { byte }));
                self.line.push(b'\t');
            }
            self.line.pop();
            self.line.push(b'\n');
            return self.writer.write_all(&self.line);
        }
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
        self.line.clear();
        for (cell, width) in cells.iter().zip(widths) {
            self.line.extend_from_slice(cell.as_bytes());
            let padding = width.saturating_sub(cell.chars().count()) + 2;
            self.line.resize(self.line.len() + padding, b' ');
        }
        self.line.truncate(self.line.trim_ascii_end().len());
        self.line.push(b'\n');
        self.writer.write_all(&self.line)
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

/// What a row's text says for each of the columns, which show an attribute each; of the rest nothing is made.
struct Cells<'a>(&'a [Column]);

/// Borrowed, unless something in it is escaped.
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> DeserializeSeed<'de> for Cells<'_> {
    type Value = Vec<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<String>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Cells<'_> {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut row: A) -> Result<Vec<String>, A::Error> {
        let mut cells: Vec<Option<String>> = vec![None; self.0.len()];
        // Most rows have their attributes in the order of the columns.
        let mut expected = 0;
        while let Some(Key(key)) = row.next_key()? {
            let after = self.0.iter().enumerate().skip(expected);
            let mut places = after.chain(self.0.iter().enumerate().take(expected));
            let found = places.find(|(_, column)| column.key == key);
            let Some(((place, column), cell)) = found.and_then(|at| Some((at, cells.get_mut(at.0)?))) else {
                row.next_value::<IgnoredAny>()?;
                continue;
            };
            expected = place + 1;
            *cell = Some((column.text)(&row.next_value::<Value>()?));
        }
        let nothing = |column: &Column| (column.text)(&Value::Null);
        Ok(cells
            .into_iter()
            .zip(self.0)
            .map(|(cell, column)| cell.unwrap_or_else(|| nothing(column)))
            .collect())
    }
}

fn ended(written: io::Result<()>) -> ControlFlow<()> {
    if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{COLUMNS, output, rows};
    use super::*;
    use serde_json::json;

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
}
