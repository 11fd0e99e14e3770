//! What can go wrong with a lab.

use std::fmt;
use std::path::PathBuf;
use thiserror::Error;

/// One thing wrong in a lab file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: `vm "blue-1".address`.
    pub field: String,
    pub reason: String,
    /// What to write instead; empty if there is nothing to suggest.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)?;
        if !self.fix.is_empty() {
            write!(f, "; {}", self.fix)?;
        }
        Ok(())
    }
}

/// A lab file that is refused, whole.
#[derive(Debug, Error)]
pub enum FileError {
    #[error("cannot read the lab file {0}")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("there is no preset `{0}` and no file of that name; presets: {presets}", presets = crate::presets::names())]
    NoPreset(String),
    #[error("the lab file is not valid:\n{0}")]
    Syntax(#[source] Box<toml::de::Error>),
    #[error("the lab file is not valid:\n{}", list(.0))]
    Invalid(Vec<Problem>),
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n")
}
