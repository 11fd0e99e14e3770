//! Every command that a document shows is one that the command line takes.

use super::*;
use clap::error::{ContextKind, ContextValue};
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The words of a line of shell, one list per command: quotes are taken off, comments and redirections are left out.
fn commands(line: &str) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let finish = |word: &mut Option<String>, all: &mut Vec<Vec<String>>| {
        if let (Some(word), Some(last)) = (word.take(), all.last_mut()) {
            last.push(word);
        }
    };
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | '&' | ';' | '(' | ')') => {
                finish(&mut word, &mut all);
                all.push(Vec::new());
            }
            (None, c) if c.is_whitespace() => finish(&mut word, &mut all),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    finish(&mut word, &mut all);
    for words in &mut all {
        if let Some(end) = words.iter().position(|word| word.trim_start_matches('2').starts_with('>')) {
            words.truncate(end);
        }
    }
    all
}

/// What follows `nanboku` in each of the commands of a line.
fn arguments(line: &str) -> Vec<Vec<String>> {
    let named = |words: Vec<String>| {
        let is_ours = |word: &String| word == "nanboku" || word.ends_with("/nanboku");
        let is_before = |word: &String| word == "$" || word.ends_with('$') || word.contains('=');
        let at = words.iter().position(|word| !is_before(word))?;
        is_ours(&words[at]).then(|| words[at + 1..].to_vec())
    };
    commands(line).into_iter().filter_map(named).collect()
}

/// The commands of a document: those of its blocks, and those in its sentences, which may stop before what must follow.
fn shown(text: &str) -> (Vec<Vec<String>>, Vec<Vec<String>>) {
    let (mut whole, mut named) = (Vec::new(), Vec::new());
    let text = text.replace("\\\n", " ");
    let mut is_block = false;
    for line in text.lines() {
        if line.starts_with("```") {
            is_block = !is_block;
        } else if is_block {
            whole.extend(arguments(line));
        } else {
            let spans = line.split('`').skip(1).step_by(2);
            named.extend(spans.filter(|span| span.starts_with("nanboku ")).flat_map(arguments));
        }
    }
    (whole, named)
}

/// A word in capitals stands for a value that the reader has.
fn is_placeholder(error: &clap::Error) -> bool {
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => value,
        _ => return false,
    };
    error.kind() == ErrorKind::ValueValidation && !value.chars().any(char::is_lowercase)
}

fn parsed(words: &[String]) -> Result<(), clap::Error> {
    Cli::try_parse_from(std::iter::once("nanboku").chain(words.iter().map(String::as_str))).map(drop)
}

fn documents() -> Vec<PathBuf> {
    let docs = std::fs::read_dir(Path::new(ROOT).join("docs")).unwrap();
    let mut files: Vec<PathBuf> = docs.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    files.push(Path::new(ROOT).join("README.md"));
    files
}

#[test]
fn every_command_of_the_documents_is_accepted() {
    let mut seen = 0;
    for file in documents() {
        let (whole, named) = shown(&std::fs::read_to_string(&file).unwrap());
        seen += whole.len() + named.len();
        for words in whole {
            let refused = parsed(&words).err().filter(|error| !is_placeholder(error));
            assert!(refused.is_none(), "{}: nanboku {words:?}\n{}", file.display(), refused.unwrap());
        }
        for words in named.iter().filter(|words| *words != &["…"]) {
            let goes_on = |error: &clap::Error| {
                let unfinished = [
                    ErrorKind::MissingRequiredArgument,
                    ErrorKind::MissingSubcommand,
                    ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
                ];
                unfinished.contains(&error.kind()) || is_placeholder(error)
            };
            let refused = parsed(words).err().filter(|error| !goes_on(error));
            assert!(refused.is_none(), "{}: nanboku {words:?}\n{}", file.display(), refused.unwrap());
        }
    }
    assert!(seen > 150, "the documents were not read: {seen} commands");
}

#[test]
fn commands_are_read_as_a_shell_reads_them() {
    let line = "(sleep 1; nanboku --lab x capture --at in 'icmp and host 8.8.8.8' 2>/dev/null) & A=b nanboku top | head # why";
    let want: [&[&str]; 2] = [&["--lab", "x", "capture", "--at", "in", "icmp and host 8.8.8.8"], &["top"]];
    assert_eq!(arguments(line), want);
    assert_eq!(arguments("$ openstack network list"), Vec::<Vec<String>>::new());
}
