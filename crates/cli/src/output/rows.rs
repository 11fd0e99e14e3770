//! Rows that are printed as they come: a million of them take no more memory than a few, and hardly any allocation.

use super::{Column, Format, Output, text_of};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::io::{self, BufWriter, Write};
use std::ops::{ControlFlow, Range};

/// Rows of a table whose widths are decided by the first of them.
const WIDTH_ROWS: usize = 500;

/// Prints rows as they come. A table decides its widths by its first rows; a longer cell later on only pushes
/// the rest of its line.
pub(crate) struct RowWriter<'a, W: Write> {
    output: &'a Output,
    columns: Vec<Column>,
    /// Rows of a table that wait for its widths.
    waiting: Vec<Cells>,
    widths: Option<Vec<usize>>,
    rows: u64,
    /// A row without attributes.
    nothing: Cells,
    /// The row that is being shown.
    cells: Cells,
    /// The line that is being made.
    line: Vec<u8>,
    writer: BufWriter<W>,
}

impl<'a, W: Write> RowWriter<'a, W> {
    pub(crate) fn new(output: &'a Output, columns: &[Column], writer: W) -> Self {
        let columns = output.choose(columns);
        let writer = BufWriter::with_capacity(1 << 16, writer);
        let (waiting, mut nothing, cells, line) = <(_, Cells, _, _)>::default();
        columns.iter().for_each(|column| nothing.push(&column.show(&Value::Null)));
        Self { output, columns, waiting, widths: None, rows: 0, nothing, cells, line, writer }
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
        // Checked as a whole: faster than each of its strings.
        let mut row = serde_json::Deserializer::from_str(std::str::from_utf8(row)?);
        self.cells.clone_from(&self.nothing);
        ReadCells { columns: &self.columns, cells: &mut self.cells }.deserialize(&mut row)?;
        Ok(ended(self.shown()))
    }

    pub(crate) fn row(&mut self, row: &Value) -> anyhow::Result<ControlFlow<()>> {
        if self.output.format != Format::Json {
            self.cells.clear();
            for column in &self.columns {
                self.cells.push(&column.show(row));
            }
            return Ok(ended(self.shown()));
        }
        let separator = if self.rows == 0 { "[\n" } else { ",\n" };
        self.rows += 1;
        Ok(ended(write!(self.writer, "{separator}{}", self.output.pick(row))))
    }

    /// The row in `cells`, of a table or of bare values.
    fn shown(&mut self) -> io::Result<()> {
        if self.output.format == Format::Value {
            self.line.clear();
            for cell in self.cells.iter() {
                self.line.extend(cell.bytes().map(|byte| if byte == b'\n' { b',' } else { byte }));
                self.line.push(b'\t');
            }
            self.line.pop();
            self.line.push(b'\n');
            return self.writer.write_all(&self.line);
        }
        if let Some(widths) = &self.widths {
            return print_line(&mut self.writer, &mut self.line, widths, &self.cells);
        }
        self.waiting.push(std::mem::take(&mut self.cells));
        if self.waiting.len() < WIDTH_ROWS { Ok(()) } else { self.begin() }
    }

    /// Decides the widths and prints what waited.
    fn begin(&mut self) -> io::Result<()> {
        let mut header = Cells::default();
        self.columns.iter().for_each(|column| header.push(&column.header.to_uppercase()));
        self.waiting.insert(0, header);
        let mut widths = vec![0; self.columns.len()];
        for row in &self.waiting {
            for (width, cell) in widths.iter_mut().zip(row.iter()) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in self.waiting.drain(..) {
            print_line(&mut self.writer, &mut self.line, &widths, &row)?;
        }
        self.widths = Some(widths);
        Ok(())
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

/// One line of a table. `line`: room to make it in.
fn print_line(
    writer: &mut impl Write,
    line: &mut Vec<u8>,
    widths: &[usize],
    cells: &Cells,
) -> io::Result<()> {
    line.clear();
    for (cell, width) in cells.iter().zip(widths) {
        line.extend_from_slice(cell.as_bytes());
        let padding = width.saturating_sub(cell.chars().count()) + 2;
        line.resize(line.len() + padding, b' ');
    }
    line.truncate(line.trim_ascii_end().len());
    line.push(b'\n');
    writer.write_all(line)
}

/// What a row shows: all its cells in one text, which is used again for the next row.
#[derive(Debug, Default)]
struct Cells {
    text: String,
    /// By column.
    places: Vec<Range<usize>>,
}

impl Clone for Cells {
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), places: self.places.clone() }
    }

    /// Keeps the room there is.
    fn clone_from(&mut self, source: &Self) {
        self.text.clone_from(&source.text);
        self.places.clone_from(&source.places);
    }
}

impl Cells {
    fn clear(&mut self) {
        self.text.clear();
        self.places.clear();
    }

    fn push(&mut self, cell: &str) {
        let start = self.text.len();
        self.text.push_str(cell);
        self.places.push(start..self.text.len());
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| self.text.get(place.clone()).unwrap_or_default())
    }
}

/// Reads what a row's text says for each of the columns, which show an attribute each; of the rest nothing is made.
struct ReadCells<'a> {
    columns: &'a [Column],
    cells: &'a mut Cells,
}

/// Borrowed, unless something in it is escaped.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> DeserializeSeed<'de> for ReadCells<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ReadCells<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut row: A) -> Result<(), A::Error> {
        let Self { columns, cells: Cells { text, places } } = self;
        // Most rows have their attributes in the order of the columns.
        let mut expected = 0;
        while let Some(Key(key)) = row.next_key()? {
            let mut order = (expected..columns.len()).chain(0..expected);
            let found = order.find(|place| columns.get(*place).is_some_and(|column| column.key == key));
            let column = found.and_then(|place| Some((place, columns.get(place)?, places.get_mut(place)?)));
            let Some((number, column, place)) = column else {
                row.next_value::<IgnoredAny>()?;
                continue;
            };
            expected = number + 1;
            let start = text.len();
            match column.text {
                None => row.next_value_seed(AsItIs(text))?,
                Some(words) => text.push_str(&words(&row.next_value()?)),
            }
            *place = start..text.len();
        }
        Ok(())
    }
}

/// Appends a value to a text as [`text_of`] has it, which is asked only where a value has parts.
struct AsItIs<'a>(&'a mut String);

impl AsItIs<'_> {
    fn plain<E: Error>(self, value: impl Display) -> Result<(), E> {
        write!(self.0, "{value}").map_err(E::custom)
    }

    fn parts<'de, D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        self.0.push_str(&text_of(&Value::deserialize(value)?));
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for AsItIs<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AsItIs<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.0.push_str(if value.is_empty() { "-" } else { value });
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.plain(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.plain(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.plain(Value::from(value))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.plain(value)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.plain("-")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        self.parts(SeqAccessDeserializer::new(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<(), A::Error> {
        self.parts(MapAccessDeserializer::new(fields))
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
    fn values_of_every_kind_look_like_those_of_a_list() {
        let values = [
            json!(null),
            json!(true),
            json!(-7),
            json!(u64::MAX),
            json!(2.0),
            json!("süd \"a\"\n\tb"),
            json!([]),
            json!([1, [2, "x"]]),
            json!({}),
            json!({"a": ["b"], "c": null}),
        ];
        let rows: Vec<Value> =
            values.iter().map(|value| json!({"fixed_ips": 1, "name": value, "id": value})).collect();
        let output = output(Format::Value, &[]);
        assert_eq!(streamed(&output, &rows), output.list(COLUMNS, &rows));
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
