//! What the kernel's verifier says of a program it refuses: megabytes, of which the end tells why.

use crate::error::Error;
use aya::programs::ProgramError;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Where the whole log goes, as `verifier-PROGRAM.log`: only root may write there, and a restart of the machine ends it.
const LOG_DIRECTORY: &str = "/run/nanboku";
/// Lines of it in the error: what went wrong, and statistics behind.
const LAST_LINES: usize = 8;

/// The error about a program that the kernel did not take, short enough to read.
pub(crate) fn explained(program: &'static str, error: ProgramError) -> Error {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            refused(program, io_error, &verifier_log.to_string(), Path::new(LOG_DIRECTORY))
        }
        other => Error::Program { program, source: Box::new(other) },
    }
}

fn refused(program: &'static str, source: io::Error, log: &str, directory: &Path) -> Error {
    let whole_log = match keep(program, log, directory) {
        Ok(path) => format!("is in {}", path.display()),
        Err(error) => format!("could not be written to {}: {error}", directory.display()),
    };
    Error::Refused { program, last_words: last_words(log), whole_log, source }
}

fn keep(program: &str, log: &str, directory: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let path = directory.join(format!("verifier-{program}.log"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(log.as_bytes())?;
    Ok(path)
}

/// The last lines, in one.
fn last_words(log: &str) -> String {
    let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let from = lines.len().saturating_sub(LAST_LINES);
    lines.get(from..).unwrap_or_default().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_short_and_the_log_is_whole() {
        let directory = std::env::temp_dir().join(format!("nanboku-refusal-{}", std::process::id()));
        let mut log: String = (0..10_000).map(|line| format!("{line}: (bf) r8 = r1\n")).collect();
        log.push_str("R1 invalid mem access 'scalar'\nprocessed 10000 insns\n");
        let told = || {
            let source = io::Error::from_raw_os_error(libc::EACCES);
            refused("from_port", source, &log, &directory).to_string()
        };
        let path = directory.join("verifier-from_port.log");
        for _ in 0..2 {
            let told = told();
            assert!(told.contains("R1 invalid mem access 'scalar' | processed 10000 insns"), "{told}");
            assert!(told.ends_with(&format!("is in {}", path.display())), "{told}");
            assert!(told.len() < 1000, "{told}");
            assert_eq!(fs::read_to_string(&path).unwrap(), log, "replaced, not grown");
        }
        fs::remove_dir_all(&directory).unwrap();
        fs::write(&directory, "in the way").unwrap();
        let told = told();
        assert!(told.contains("invalid mem access") && told.contains("could not be written to"), "{told}");
        fs::remove_file(&directory).unwrap();
    }
}
