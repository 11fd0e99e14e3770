//! `docs/debugging.md` with the output its commands give today.
//!
//! The document is its own template: in blocks marked `console`, lines that begin with `$ ` are commands; what follows
//! each, up to the next or the end of the block, is replaced by what the command says. A line `<!-- lab: NAME -->` says
//! in which lab the blocks behind it run; `<!-- run: COMMAND -->` prepares something that is not shown. Labs are
//! brought up under names of their own and taken down at the end. Needs root and a built `nanboku`.
//!
//! Whether the document is stale is told by its words: identifiers, times and counts differ from run to run, and which
//! gateway answers is chance, but a column that was renamed or a stage that says more changes the vocabulary.

use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DOCUMENT: &str = "docs/debugging.md";
/// Lines of one output that are kept.
const LINES_MAX: usize = 60;

/// Writes the document anew.
pub(crate) fn write(root: &Path) -> Result<()> {
    let path = root.join(DOCUMENT);
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let mut labs = Labs { binary: root.join("target/debug/nanboku"), up: BTreeSet::new() };
    let fresh = rewrite(&text, &mut |lab, command| labs.run(lab, command))?;
    std::fs::write(&path, fresh).with_context(|| format!("cannot write {DOCUMENT}"))
}

/// Compares the document's outputs with what the commands say today. The words that only one of both has; none: it is
/// not stale. What depends on chance may be missing once, so a difference is looked at a second time, as is a command that
/// fails: on a busy machine a ping may be over before its capture has begun.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let text =
        std::fs::read_to_string(root.join(DOCUMENT)).with_context(|| format!("cannot read {DOCUMENT}"))?;
    let written = words(&text);
    // Said in any of the runs; said in every one.
    let (mut ever, mut always) = (BTreeSet::new(), None::<BTreeSet<String>>);
    let mut differences = Vec::new();
    for is_last in [false, true] {
        let mut labs = Labs { binary: root.join("target/debug/nanboku"), up: BTreeSet::new() };
        let said = match rewrite(&text, &mut |lab, command| labs.run(lab, command)) {
            Ok(fresh) => words(&fresh),
            Err(error) if is_last => return Err(error),
            Err(error) => {
                println!("once more: {error:#}");
                continue;
            }
        };
        let common = match &always {
            Some(before) => before.intersection(&said).cloned().collect(),
            None => said.clone(),
        };
        ever.extend(said);
        let gone = written.difference(&ever).map(|word| format!("is not said any more: {word}"));
        let new = common.difference(&written).map(|word| format!("is new: {word}"));
        differences = gone.chain(new).collect();
        if differences.is_empty() {
            break;
        }
        always = Some(common);
    }
    Ok(differences)
}

/// The words in the outputs of a document: letters and hyphens, and no names of single things, which have digits.
fn words(text: &str) -> BTreeSet<String> {
    let (mut words, mut in_console) = (BTreeSet::new(), false);
    for line in text.lines() {
        match line {
            "```console" => in_console = true,
            "```" => in_console = false,
            _ if in_console && !line.starts_with("$ ") => {
                let bare =
                    line.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
                let is_word =
                    |word: &&str| word.len() > 2 && word.chars().all(|c| c.is_ascii_alphabetic() || c == '-');
                words.extend(bare.filter(is_word).map(str::to_owned));
            }
            _ => {}
        }
    }
    words
}

/// The text with every command's output replaced by what `run` says of it in its lab.
fn rewrite(text: &str, run: &mut dyn FnMut(&str, &str) -> Result<String>) -> Result<String> {
    let mut fresh = String::with_capacity(text.len());
    let (mut lab, mut in_console) = (String::new(), false);
    for line in text.lines() {
        let command = line.strip_prefix("$ ");
        match (in_console, line, command) {
            (true, "```", _) => in_console = false,
            (true, _, None) => continue,
            (false, "```console", _) => in_console = true,
            _ => {}
        }
        if let Some(name) = marked(line, "lab") {
            name.clone_into(&mut lab);
        }
        if let Some(command) = marked(line, "run") {
            run(&lab, command)?;
        }
        fresh += line;
        fresh.push('\n');
        if let Some(command) = command.filter(|_| in_console) {
            fresh += &output(&run(&lab, command)?);
        }
    }
    if in_console {
        bail!("a console block of {DOCUMENT} has no end");
    }
    Ok(fresh)
}

/// The value of a comment `<!-- key: value -->`.
fn marked<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix("<!-- ")?.strip_suffix(" -->")?.strip_prefix(key)?.strip_prefix(": ")
}

/// Trailing blanks gone, and not too long.
fn output(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    let kept = lines.iter().take(LINES_MAX).map(|line| format!("{line}\n")).collect::<String>();
    let rest = lines.len().saturating_sub(LINES_MAX);
    if rest == 0 { kept } else { format!("{kept}… and {rest} lines more\n") }
}

/// Labs that are up for the document.
struct Labs {
    binary: PathBuf,
    up: BTreeSet<String>,
}

impl Labs {
    /// What a command prints, in a shell that finds `nanboku` and the lab's API.
    fn run(&mut self, lab: &str, command: &str) -> Result<String> {
        if lab.is_empty() {
            bail!("`{command}` stands before the first `<!-- lab: NAME -->`");
        }
        let name = format!("doc-{lab}");
        if self.up.insert(name.clone()) {
            let up = format!("nanboku lab up {lab} --name {name}");
            self.shell(&up, &name).with_context(|| format!("cannot bring up lab {lab}"))?;
        }
        println!("{lab}: {command}");
        self.shell(command, &name)
    }

    fn shell(&self, command: &str, name: &str) -> Result<String> {
        let directory = self.binary.parent().unwrap_or(Path::new("."));
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("bash")
            .args(["-c", &format!("set -o pipefail; {command}")])
            .env("PATH", format!("{}:{path}", directory.display()))
            .env("NANBOKU_ENDPOINT", format!("unix:/run/nanboku/lab/{name}/api.sock"))
            .env("LAB", name)
            .stdin(Stdio::null())
            .output()
            .context("cannot start bash")?;
        if !output.status.success() {
            bail!("`{command}` failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).replace(name, "$LAB"))
    }
}

impl Drop for Labs {
    fn drop(&mut self) {
        for name in &self.up {
            if let Err(error) = self.shell(&format!("nanboku lab down {name}"), name) {
                eprintln!("xtask: {error:#}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_replaced_and_everything_else_stays() {
        let text = "# T\n<!-- lab: fvn -->\n<!-- run: quiet -->\n```console\n$ one\nold\nolder\n$ two\n```\n```\n$ no\n```\n";
        let mut ran = Vec::new();
        let fresh = rewrite(text, &mut |lab, command| {
            ran.push(format!("{lab}/{command}"));
            Ok(format!("new {command}  \n\n"))
        });
        let want = "# T\n<!-- lab: fvn -->\n<!-- run: quiet -->\n```console\n$ one\nnew one\n$ two\nnew two\n```\n```\n$ no\n```\n";
        assert_eq!(fresh.unwrap(), want);
        assert_eq!(ran, ["fvn/quiet", "fvn/one", "fvn/two"]);
        assert!(rewrite("```console\n", &mut |_, _| Ok(String::new())).is_err(), "no end");
    }

    #[test]
    fn words_are_what_does_not_change_from_run_to_run() {
        let text = "prose\n```console\n$ nanboku sessions\nHOST   IDLE\nahv01  fa:16:3e:01:f7:6c, no-route [port blue-3]\n```\nmore\n";
        assert_eq!(words(text).into_iter().collect::<Vec<_>>(), ["HOST", "IDLE", "no-route", "port"]);
    }

    #[test]
    fn every_row_of_both_scenarios_is_shown() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(DOCUMENT);
        let text = std::fs::read_to_string(path).unwrap();
        let titles: Vec<&str> = text.lines().filter(|line| line.starts_with('#')).collect();
        let rows = (1..=10).map(|row| format!("A{row}")).chain((1..=8).map(|row| format!("B{row}")));
        for row in rows {
            let is_shown = |title: &&str| title.split(|c: char| !c.is_alphanumeric()).any(|word| word == row);
            assert!(titles.iter().any(is_shown), "row {row} has no title");
        }
    }

    #[test]
    fn long_outputs_are_cut() {
        let long = "x\n".repeat(LINES_MAX + 3);
        assert!(output(&long).ends_with("x\n… and 3 lines more\n"));
    }
}
