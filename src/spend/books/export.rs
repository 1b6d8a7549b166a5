//! Rows as a file: CSV or JSON lines, made page by page, so that the longest ledger takes no more memory than a page.

use std::str::FromStr;

use super::rows::{COLUMNS, Filter, Row, Walk};
use super::{Books, BooksError, PAGE};

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values below a line of names.
    #[default]
    Csv,
    /// A JSON object on each line.
    Jsonl,
}

/// A text that names no format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a format: write csv or jsonl")]
pub struct NotAFormat;

impl FromStr for Format {
    type Err = NotAFormat;

    fn from_str(text: &str) -> Result<Self, NotAFormat> {
        match text {
            "csv" => Ok(Self::Csv),
            "jsonl" => Ok(Self::Jsonl),
            _ => Err(NotAFormat),
        }
    }
}

impl Format {
    /// Rows as text.
    fn written(self, rows: &[Row]) -> Vec<u8> {
        match self {
            Self::Csv => {
                let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
                for row in rows {
                    writer.serialize(row).expect("a vector takes every row");
                }
                writer.into_inner().expect("a vector takes every byte")
            }
            Self::Jsonl => {
                let mut text = Vec::new();
                for row in rows {
                    serde_json::to_writer(&mut text, row).expect("rows always serialise");
                    text.push(b'\n');
                }
                text
            }
        }
    }

    fn heading(self) -> Vec<u8> {
        match self {
            Self::Csv => format!("{}\n", COLUMNS.join(",")).into_bytes(),
            Self::Jsonl => Vec::new(),
        }
    }
}

/// An export under way.
#[derive(Debug)]
pub struct Export {
    books: Books,
    walk: Walk,
    format: Format,
    begun: bool,
    rows: u64,
}

impl Books {
    /// Begins to export the rows of `filter` that are there now, oldest first.
    pub fn export(self, filter: Filter, format: Format) -> Result<Export, BooksError> {
        let walk = self.told(Walk::begin(&self, filter, None))?;
        Ok(Export { books: self, walk, format, begun: false, rows: 0 })
    }
}

impl Export {
    /// The next part of the file; nothing at its end.
    pub fn next_part(&mut self) -> Result<Option<Vec<u8>>, BooksError> {
        let rows = self.books.told(self.walk.step(&self.books, PAGE))?;
        let mut part = if self.begun { Vec::new() } else { self.format.heading() };
        self.begun = true;
        self.rows += rows.len() as u64;
        part.extend(self.format.written(&rows));
        Ok(Some(part).filter(|part| !part.is_empty()))
    }

    /// How many rows have been given out.
    pub const fn rows(&self) -> u64 {
        self.rows
    }
}
