//! The lab files that come with the binary, and how a lab file is found.

use crate::error::FileError;
use std::path::Path;

/// Name and text of each preset.
const PRESETS: &[(&str, &str)] = &[
    ("fvn", include_str!("../presets/fvn.toml")),
    ("dvr", include_str!("../presets/dvr.toml")),
    ("four", include_str!("../presets/four.toml")),
    ("faults", include_str!("../presets/faults.toml")),
];

/// The names, for messages.
pub(crate) fn names() -> String {
    PRESETS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

/// Text of a preset, or else of the file of that name.
///
/// # Errors
/// `NoPreset` if it is neither, `Read` if the file can't be read.
pub(crate) fn load(preset_or_path: &str) -> Result<String, FileError> {
    if let Some((_, text)) = PRESETS.iter().find(|(name, _)| *name == preset_or_path) {
        return Ok((*text).to_owned());
    }
    let path = Path::new(preset_or_path);
    if !path.exists() {
        return Err(FileError::NoPreset(preset_or_path.to_owned()));
    }
    std::fs::read_to_string(path).map_err(|source| FileError::Read(path.to_owned(), source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Overrides, Plan};

    #[test]
    fn every_preset_is_valid_and_named_as_itself() {
        for (name, text) in PRESETS {
            let plan =
                Plan::parse(text, &Overrides::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(plan.name, *name);
        }
    }
}
