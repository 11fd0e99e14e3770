//! The stage of the demo: runs commands, prints what they say, keeps what was proved.

use anyhow::{Context as _, bail};
use std::io::{BufRead as _, BufReader, IsTerminal as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A capture that does not start by then will not start.
const CAPTURE_START: Duration = Duration::from_secs(10);
/// How long a capture waits for its packets after the traffic ended.
const CAPTURE_END: Duration = Duration::from_secs(4);
/// A change of configuration is in effect long before; the deadline is for a machine under load.
const EFFECT: Duration = Duration::from_secs(10);
/// Between two looks at something that is to change.
const INTERVAL: Duration = Duration::from_millis(10);
/// Lines of one command's output that are shown.
const LINES_MAX: usize = 40;

/// A claim and whether it was true.
struct Proof {
    claim: String,
    holds: bool,
}

/// What a command did.
pub(super) struct Ran {
    pub(super) text: String,
    pub(super) success: bool,
}

impl Ran {
    pub(super) fn has_all(&self, parts: &[&str]) -> bool {
        parts.iter().all(|part| self.text.contains(part))
    }
}

pub(super) struct Show {
    exe: PathBuf,
    lab: &'static str,
    proofs: Vec<Proof>,
    checks: usize,
    colour: bool,
    began: Instant,
}

impl Show {
    pub(super) fn new(exe: PathBuf) -> Self {
        let colour = std::io::stdout().is_terminal();
        Self { exe, lab: "", proofs: Vec::new(), checks: 0, colour, began: Instant::now() }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Begins a scenario in a lab of its own.
    pub(super) fn scenario(&mut self, lab: &'static str, title: &str) {
        self.lab = lab;
        println!("\n{}", self.paint("1;7", &format!(" {title} ")));
    }

    /// One sentence about what comes next.
    pub(super) fn say(&self, text: &str) {
        println!("\n{}", self.paint("1", text));
    }

    /// Runs `nanboku …` against the lab and shows command and output.
    pub(super) fn nanboku(&self, arguments: &str) -> anyhow::Result<Ran> {
        println!("  {}", self.paint("36", &format!("$ nanboku --lab {} {arguments}", self.lab)));
        let ran = self.quietly(arguments)?;
        self.print(&ran.text);
        Ok(ran)
    }

    /// Runs a command on a machine of the lab and shows both.
    pub(super) fn on(&self, machine: &str, command: &str) -> anyhow::Result<Ran> {
        self.nanboku(&format!("lab exec {machine} -- {command}"))
    }

    /// Runs `nanboku …` against the lab without showing it.
    pub(super) fn quietly(&self, arguments: &str) -> anyhow::Result<Ran> {
        let output = self.command(arguments).stdin(Stdio::null()).output();
        let output = output.with_context(|| format!("cannot run `nanboku {arguments}`"))?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok(Ran { text, success: output.status.success() })
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(&self.exe);
        command.args(["--lab", self.lab]).args(arguments.split_whitespace());
        command
    }

    fn print(&self, text: &str) {
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in lines.iter().take(LINES_MAX) {
            println!("    {line}");
        }
        if lines.len() > LINES_MAX {
            println!("    … {} more lines", lines.len() - LINES_MAX);
        }
    }

    /// Records a claim with what was seen of it.
    pub(super) fn prove(&mut self, claim: &str, holds: bool) {
        let mark = if holds { self.paint("1;32", "proved") } else { self.paint("1;31", "NOT PROVED") };
        println!("  {mark}: {claim}");
        self.proofs.push(Proof { claim: format!("{}: {claim}", self.lab), holds });
    }

    /// Starts the lab of the scenario.
    pub(super) fn up(&mut self, preset: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        println!("  {}", self.paint("36", &format!("$ nanboku lab up {preset} --name {}", self.lab)));
        let output = Command::new(&self.exe).args(["lab", "up", preset, "--name", self.lab]).output()?;
        self.print(&String::from_utf8_lossy(&output.stdout));
        if !output.status.success() {
            bail!("the lab did not come up: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        println!("    up after {:.1} s", began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Runs the lab's own check and counts what it proved.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        println!("  {}", self.paint("36", &format!("$ nanboku lab check {}", self.lab)));
        let output = Command::new(&self.exe).args(["lab", "check", self.lab, "-o", "json"]).output()?;
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).with_context(|| {
            format!("the check did not answer: {}", String::from_utf8_lossy(&output.stderr).trim())
        })?;
        let is_ok =
            |row: &&serde_json::Value| row.get("ok").and_then(serde_json::Value::as_bool) == Some(true);
        let passed = rows.iter().filter(is_ok).count();
        for row in rows.iter().filter(|row| !is_ok(row)) {
            self.print(&format!("failed: {row}"));
        }
        println!("    {passed} of {} checks passed", rows.len());
        self.checks += passed;
        let all = passed == rows.len() && passed > 0 && output.status.success();
        self.prove(
            "everything that follows from the lab file holds: who reaches whom, and who must not",
            all,
        );
        Ok(())
    }

    /// Shows what crosses an interface while `traffic` runs; returns the captured lines.
    pub(super) fn capture(
        &self,
        (machine, interface): (&str, &str),
        (packets, filter): (u32, &str),
        traffic: impl FnOnce(&Self) -> anyhow::Result<()>,
    ) -> anyhow::Result<Ran> {
        let tcpdump = format!(
            "lab exec {machine} -- timeout 20 tcpdump -l -n -e -t -c {packets} -i {interface} {filter}"
        );
        println!("  {}", self.paint("36", &format!("$ nanboku --lab {} {tcpdump} &", self.lab)));
        let mut child = self
            .command(&tcpdump)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let lines = start_of_capture(&mut child)?;
        let outcome = traffic(self);
        let text = end_of_capture(child, &lines)?;
        outcome?;
        self.print(&text);
        Ok(Ran { success: !text.is_empty(), text })
    }

    /// Repeats a command until `done` says so; shows nothing. Gives the time it took.
    pub(super) fn until(
        &self,
        arguments: &str,
        done: impl Fn(&Ran) -> bool,
    ) -> anyhow::Result<Option<Duration>> {
        let began = Instant::now();
        while began.elapsed() < EFFECT {
            if done(&self.quietly(arguments)?) {
                return Ok(Some(began.elapsed()));
            }
            std::thread::sleep(INTERVAL);
        }
        Ok(None)
    }

    /// Takes a lab away, whatever is left of it.
    pub(super) fn clear(&self, lab: &str) {
        let down = Command::new(&self.exe)
            .args(["lab", "down", lab])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Err(error) = down {
            eprintln!("cannot take {lab} down: {error}");
        }
    }

    pub(super) fn all_proved(&self) -> bool {
        !self.proofs.is_empty() && self.proofs.iter().all(|proof| proof.holds)
    }

    pub(super) fn summary(&self) {
        println!("\n{}", self.paint("1;7", " Summary "));
        for proof in &self.proofs {
            println!("  {}  {}", if proof.holds { "proved    " } else { "NOT PROVED" }, proof.claim);
        }
        let proved = self.proofs.iter().filter(|proof| proof.holds).count();
        println!(
            "\n{proved} of {} claims proved with real packets, {} checks of the labs passed, {:.0} s.",
            self.proofs.len(),
            self.checks,
            self.began.elapsed().as_secs_f64()
        );
        println!("\nThree commands to try:");
        println!("  nanboku lab up fvn && nanboku lab exec blue-3 -- ping -c 3 8.8.8.8");
        println!("  nanboku --lab fvn sessions");
        println!("  nanboku --lab fvn status");
        println!("(and `nanboku lab down fvn` afterwards; here `nanboku` is {})", self.exe.display());
    }
}

/// Waits until tcpdump listens; its packets then come through the channel.
fn start_of_capture(child: &mut Child) -> anyhow::Result<mpsc::Receiver<String>> {
    let (listening, started) = mpsc::sync_channel(1);
    let (packets, lines) = mpsc::channel();
    let stderr = child.stderr.take().context("no standard error")?;
    let stdout = child.stdout.take().context("no standard output")?;
    std::thread::spawn(move || {
        let mut said = String::new();
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            said = format!("{said}{line}\n");
            if line.contains("listening on") && listening.send(Ok(())).is_err() {
                return;
            }
        }
        // Gone before it listened: the receiver is told why; afterwards nobody asks.
        let _gone = listening.try_send(Err(said));
    });
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if packets.send(line).is_err() {
                return;
            }
        }
    });
    match started.recv_timeout(CAPTURE_START) {
        Ok(Ok(())) => Ok(lines),
        Ok(Err(said)) => bail!("tcpdump did not start: {}", said.trim()),
        Err(_) => bail!("tcpdump did not start within {} s", CAPTURE_START.as_secs()),
    }
}

/// What was captured when tcpdump had its packets, or when their time was over.
fn end_of_capture(mut child: Child, lines: &mpsc::Receiver<String>) -> anyhow::Result<String> {
    let deadline = Instant::now() + CAPTURE_END;
    let mut text = String::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        text = format!("{text}{line}\n");
    }
    if child.try_wait()?.is_none() {
        child.kill()?;
    }
    child.wait()?;
    Ok(text)
}
