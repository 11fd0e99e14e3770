//! A trace for people: one block per host, one line per stage.

use model::trace::{Hop, HopOutcome, Look, SessionUse, Stage, Trace, Walked, Way};
use std::fmt::Write as _;

/// Columns of the stages' names.
const NAME_WIDTH: usize = 14;

/// The whole page.
pub(crate) fn page(trace: &Trace, verbose: bool) -> String {
    let mut page = String::new();
    way(&mut page, "there", &trace.forward, verbose);
    if let Some(answer) = &trace.answer {
        page.push('\n');
        way(&mut page, "back", answer, verbose);
    }
    let outcome = match (trace.complete, &trace.answer) {
        (true, Some(_)) => "it arrives, and so does the answer".to_owned(),
        (true, None) => "it arrives".to_owned(),
        (false, Some(answer)) if trace.forward.arrived => {
            format!("it arrives, but its answer does not: {}", answer.text)
        }
        (false, _) => format!("it does not arrive: {}", trace.forward.text),
    };
    line(&mut page, format_args!("\nverdict: {outcome}"));
    page
}

/// A string takes every write.
fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(page, "{text}");
}

fn way(page: &mut String, title: &str, way: &Way, verbose: bool) {
    let packet = way.hops.iter().find_map(walked).map_or("", |walked| walked.packet.text.as_str());
    line(page, format_args!("{title}: {packet}"));
    for asked in &way.arp {
        arp(page, asked, verbose);
    }
    for hop in &way.hops {
        page.push('\n');
        host(page, hop, verbose);
    }
    if way.hops.is_empty() {
        line(page, format_args!("  {}", way.text));
    }
}

fn walked(hop: &Hop) -> Option<&Walked> {
    match &hop.outcome {
        HopOutcome::Walked(walked) => Some(walked),
        _ => None,
    }
}

fn arp(page: &mut String, hop: &Hop, verbose: bool) {
    let text = match &hop.outcome {
        HopOutcome::Walked(walked) => {
            let said = walked.output.as_ref().filter(|_| walked.verdict.kind != "host");
            let said = said.map_or(walked.verdict.text.as_str(), |said| said.text.as_str());
            format!("{}: {said}", walked.packet.text)
        }
        HopOutcome::NoEntry(no_entry) => no_entry.text.clone(),
        HopOutcome::Unanswered(reason) => reason.clone(),
    };
    line(page, format_args!("  {} first: {text}", hop.host));
    if verbose && let Some(walked) = walked(hop) {
        stages(page, walked, true);
    }
}

fn host(page: &mut String, hop: &Hop, verbose: bool) {
    let walked = match &hop.outcome {
        HopOutcome::Walked(walked) => walked,
        HopOutcome::NoEntry(no_entry) if hop.host.is_empty() => {
            return line(page, format_args!("  {}", no_entry.text));
        }
        HopOutcome::NoEntry(no_entry) => return line(page, format_args!("{}  {}", hop.host, no_entry.text)),
        HopOutcome::Unanswered(reason) => {
            return line(page, format_args!("{}  no answer: {reason}", hop.host));
        }
    };
    line(page, format_args!("{}  {}", hop.host, walked.entered));
    if verbose {
        let Walked { packet, revision, epoch, .. } = walked.as_ref();
        row(page, "packet", &format!("{} > {} {}", packet.src_mac, packet.dst_mac, packet.text));
        row(page, "tables", &format!("of revision {revision}, epoch {epoch}"));
    }
    if let Some(text) = session(walked.session) {
        row(page, "session", text);
    }
    stages(page, walked, verbose);
    if let Some(nat) = &walked.nat {
        row(page, "nat", &format!("{}  becomes  {}", nat.before, nat.after));
    }
    if verbose && let Some(output) = &walked.output {
        row(page, "leaves as", &format!("{} > {} {}", output.src_mac, output.dst_mac, output.text));
    }
    let down = if walked.verdict.link_up == Some(false) { "; the link is down" } else { "" };
    row(page, "=", &format!("{}{down}", walked.verdict.text));
}

fn row(page: &mut String, name: &str, text: &str) {
    line(page, format_args!("  {name:NAME_WIDTH$} {text}"));
}

fn session(session: SessionUse) -> Option<&'static str> {
    match session {
        SessionUse::None | SessionUse::Made => None,
        SessionUse::Cached => Some("known: its stored path is taken, the stages are not walked"),
        SessionUse::Renewed => Some("known: its path is found anew"),
        SessionUse::Ended => Some("known, but the configuration no longer allows it: ended"),
    }
}

fn stages(page: &mut String, walked: &Walked, verbose: bool) {
    for stage in &walked.stages {
        let origin = if verbose { String::new() } else { made_by(stage) };
        row(page, &stage.name, &format!("{}{origin}", stage.text));
        if verbose {
            stage.looks.iter().for_each(|asked| look(page, asked));
        }
    }
}

/// The object behind a stage's decision: that of its last entry found.
fn made_by(stage: &Stage) -> String {
    let mut origins = stage.looks.iter().rev().filter(|look| look.value.is_some()).filter_map(|look| {
        let origin = look.origin.as_ref()?;
        Some((origin.kind.replace('_', " "), origin.name.as_deref().unwrap_or(&origin.id)))
    });
    let wanted = if stage.name == "resolve" { origins.next_back() } else { origins.next() };
    wanted.map_or(String::new(), |(kind, name)| format!("   [{kind} {name}]"))
}

fn look(page: &mut String, look: &Look) {
    let value = look.value.as_deref().unwrap_or("no entry");
    let origin = look.origin.as_ref().map_or(String::new(), |origin| {
        let name = origin.name.as_deref().unwrap_or(&origin.id);
        let revision = origin.revision.map_or(String::new(), |revision| format!(" revision {revision}"));
        format!("   [{} {name}{revision}: {}]", origin.kind.replace('_', " "), origin.why)
    });
    let differs = if look.differs { "   DIFFERS from what was programmed" } else { "" };
    line(page, format_args!("    {}: {} = {value}{origin}{differs}", look.table, look.key));
}
