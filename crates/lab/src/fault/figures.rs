//! From what was seen to what is reported: one line per repetition, one per fault, and what is wrong with it.

use super::Fault;
use super::probes::Figures;
use serde::Serialize;
use std::time::Duration;

/// What a run must keep to besides all sessions living and nothing delivered twice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Milliseconds.
    pub outage_p50_ms_max: Option<f64>,
    pub outage_p99_ms_max: Option<f64>,
    /// Packets that a drain may lose, together in all repetitions.
    pub drain_lost_max: Option<u64>,
}

impl Limits {
    /// What is promised in SPECIFICATION.md.
    pub const PROMISED: Self =
        Self { outage_p50_ms_max: Some(150.0), outage_p99_ms_max: Some(500.0), drain_lost_max: Some(0) };
    pub const NONE: Self = Self { outage_p50_ms_max: None, outage_p99_ms_max: None, drain_lost_max: None };
}

/// One flow in one repetition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FlowFigures {
    pub flow: String,
    pub sent: u64,
    pub lost: u64,
    pub duplicates: u64,
    pub outage_ms: f64,
    pub slowest_ms: f64,
}

/// One fault, once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Repetition {
    pub fault: Fault,
    pub host: String,
    pub repetition: usize,
    pub sessions: usize,
    pub sessions_alive: usize,
    /// Sessions that are not, with what is known.
    pub dead: Vec<String>,
    /// The longest outage of any flow.
    pub outage_ms: f64,
    /// Of all flows together.
    pub lost: u64,
    pub sent: u64,
    pub duplicates: u64,
    pub slowest_ms: f64,
    /// Gratuitous ARPs that the onlooker heard, and when the first one came.
    pub announcements: usize,
    pub announced_ms: Option<f64>,
    /// The most hosts that answered for one of the gateway's addresses at the end of the fault.
    pub claimants: usize,
    /// While the gateway was healed.
    pub back_outage_ms: f64,
    pub back_lost: u64,
    pub back_duplicates: u64,
    /// How long it lasted: until all packets passed again, until every session had proved that it lives, and until
    /// the lab was as before.
    pub settled_ms: f64,
    pub proved_ms: f64,
    pub healed_ms: f64,
    /// What was still wrong when waiting was given up.
    pub unsettled: Option<String>,
    pub flows: Vec<FlowFigures>,
}

/// What a repetition is made from.
pub(super) struct Seen {
    pub(super) fault: Fault,
    pub(super) host: String,
    pub(super) number: usize,
    pub(super) sessions: usize,
    pub(super) dead: Vec<String>,
    pub(super) flows: Vec<(String, Figures)>,
    pub(super) back: Vec<Figures>,
    pub(super) announcements: usize,
    pub(super) announced: Option<Duration>,
    pub(super) claimants: usize,
    pub(super) unsettled: Option<String>,
    /// Until settled, until proved, until healed.
    pub(super) took: [Duration; 3],
}

/// To a tenth.
fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

impl Repetition {
    pub(super) fn new(seen: Seen) -> Self {
        let figures: Vec<Figures> = seen.flows.iter().map(|(_, figures)| *figures).collect();
        let all = together(&figures);
        let back = together(&seen.back);
        let flows = seen.flows.into_iter().map(|(flow, figures)| FlowFigures {
            flow,
            sent: figures.sent,
            lost: figures.lost,
            duplicates: figures.duplicates,
            outage_ms: ms(figures.outage),
            slowest_ms: ms(figures.slowest),
        });
        Self {
            fault: seen.fault,
            host: seen.host,
            repetition: seen.number,
            sessions: seen.sessions,
            sessions_alive: seen.sessions - seen.dead.len(),
            dead: seen.dead,
            outage_ms: ms(all.outage),
            lost: all.lost,
            sent: all.sent,
            duplicates: all.duplicates,
            slowest_ms: ms(all.slowest),
            announcements: seen.announcements,
            announced_ms: seen.announced.map(ms),
            claimants: seen.claimants,
            back_outage_ms: ms(back.outage),
            back_lost: back.lost,
            back_duplicates: back.duplicates,
            settled_ms: ms(seen.took[0]),
            proved_ms: ms(seen.took[1]),
            healed_ms: ms(seen.took[2]),
            unsettled: seen.unsettled,
            flows: flows.collect(),
        }
    }
}

fn together(all: &[Figures]) -> Figures {
    all.iter().fold(Figures::default(), |sum, one| Figures {
        sent: sum.sent + one.sent,
        lost: sum.lost + one.lost,
        duplicates: sum.duplicates + one.duplicates,
        outage: sum.outage.max(one.outage),
        slowest: sum.slowest.max(one.slowest),
    })
}

/// One fault, all its repetitions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub fault: Fault,
    pub host: String,
    pub repetitions: usize,
    pub sessions: usize,
    /// The fewest that lived in any repetition.
    pub sessions_alive: usize,
    pub outage_p50_ms: f64,
    pub outage_p99_ms: f64,
    /// In all repetitions together.
    pub lost: u64,
    pub sent: u64,
    /// Together, also while the gateway was healed.
    pub duplicates: u64,
    /// The median.
    pub announcements: f64,
    pub back_outage_p50_ms: f64,
    pub back_outage_p99_ms: f64,
    pub back_lost: u64,
    /// What must not be.
    pub problems: Vec<String>,
}

/// The smallest value that at least this part of all values does not exceed (nearest rank).
fn percentile(values: impl Iterator<Item = f64>, part: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let rank = (part * values.len() as f64).ceil().max(1.0) as usize;
    values.get(rank - 1).copied().unwrap_or(0.0)
}

/// One summary per fault, in the order of their first repetitions.
pub(super) fn summarize(repetitions: &[Repetition], limits: &Limits) -> Vec<Summary> {
    let mut faults: Vec<Fault> = repetitions.iter().map(|repetition| repetition.fault).collect();
    faults.dedup();
    let mut seen = std::collections::BTreeSet::new();
    faults.retain(|fault| seen.insert(*fault));
    let of = |fault| repetitions.iter().filter(|repetition| repetition.fault == fault).collect::<Vec<_>>();
    faults.into_iter().filter_map(|fault| Summary::of(&of(fault), limits)).collect()
}

impl Summary {
    fn of(all: &[&Repetition], limits: &Limits) -> Option<Self> {
        let first = all.first()?;
        let outage = |part| percentile(all.iter().map(|one| one.outage_ms), part);
        let back = |part| percentile(all.iter().map(|one| one.back_outage_ms), part);
        let mut summary = Self {
            fault: first.fault,
            host: first.host.clone(),
            repetitions: all.len(),
            sessions: first.sessions,
            sessions_alive: all.iter().map(|one| one.sessions_alive).min()?,
            outage_p50_ms: outage(0.5),
            outage_p99_ms: outage(0.99),
            lost: all.iter().map(|one| one.lost).sum(),
            sent: all.iter().map(|one| one.sent).sum(),
            duplicates: all.iter().map(|one| one.duplicates + one.back_duplicates).sum(),
            announcements: percentile(all.iter().map(|one| one.announcements as f64), 0.5),
            back_outage_p50_ms: back(0.5),
            back_outage_p99_ms: back(0.99),
            back_lost: all.iter().map(|one| one.back_lost).sum(),
            problems: Vec::new(),
        };
        summary.problems = summary.problems(all, limits);
        Some(summary)
    }

    fn problems(&self, all: &[&Repetition], limits: &Limits) -> Vec<String> {
        let mut problems = Vec::new();
        if self.sessions_alive < self.sessions {
            let dead = all.iter().find_map(|one| one.dead.first()).map_or("", String::as_str);
            let lost = self.sessions - self.sessions_alive;
            problems.push(format!("{lost} of {} sessions died; one of them: {dead}", self.sessions));
        }
        if self.duplicates > 0 {
            problems.push(format!("{} packets were delivered twice", self.duplicates));
        }
        for (what, outage, limit) in [
            ("p50", self.outage_p50_ms, limits.outage_p50_ms_max),
            ("p99", self.outage_p99_ms, limits.outage_p99_ms_max),
        ] {
            if let Some(limit) = limit.filter(|limit| outage > *limit) {
                problems.push(format!("outage {what} is {outage} ms, more than {limit}"));
            }
        }
        let drained = limits.drain_lost_max.filter(|_| self.fault == Fault::Drain);
        if let Some(limit) = drained.filter(|limit| self.lost + self.back_lost > *limit) {
            let lost = self.lost + self.back_lost;
            problems.push(format!("a drain and its end lost {lost} packets, more than {limit}"));
        }
        problems.extend(all.iter().find_map(|one| {
            let unsettled = one.unsettled.as_ref()?;
            Some(format!("repetition {} did not settle: {unsettled}", one.repetition))
        }));
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repetition(fault: Fault, number: usize, outage: u64, lost: u64, dead: &[&str]) -> Repetition {
        let figures =
            Figures { sent: 100, lost, outage: Duration::from_millis(outage), ..Figures::default() };
        Repetition::new(Seen {
            fault,
            host: "gw1".to_owned(),
            number,
            sessions: 10,
            dead: dead.iter().map(|text| (*text).to_owned()).collect(),
            flows: vec![("a".to_owned(), figures), ("b".to_owned(), Figures::default())],
            back: vec![Figures { lost: 1, ..Figures::default() }],
            announcements: number,
            announced: Some(Duration::from_micros(1250)),
            claimants: 1,
            unsettled: None,
            took: [Duration::ZERO; 3],
        })
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let values = |count: u32| (1..=count).rev().map(f64::from);
        for (count, part, want) in
            [(1, 0.5, 1.0), (2, 0.5, 1.0), (20, 0.5, 10.0), (20, 0.99, 20.0), (200, 0.99, 198.0)]
        {
            assert_eq!(percentile(values(count), part), want, "{part} of {count}");
        }
        assert_eq!(percentile(std::iter::empty(), 0.5), 0.0);
    }

    #[test]
    fn a_repetition_has_the_longest_outage_and_all_losses() {
        let one = repetition(Fault::Kill, 3, 120, 24, &["x: reset"]);
        assert_eq!((one.outage_ms, one.lost, one.sent, one.sessions_alive), (120.0, 24, 100, 9));
        assert_eq!((one.announced_ms, one.back_lost, one.flows.len()), (Some(1.3), 1, 2));
    }

    #[test]
    fn faults_are_summed_up_in_their_order_with_what_is_wrong() {
        let all = [
            repetition(Fault::Kill, 1, 100, 20, &[]),
            repetition(Fault::Kill, 2, 600, 120, &["x: reset"]),
            repetition(Fault::Drain, 1, 0, 0, &[]),
        ];
        let summary = summarize(&all, &Limits::PROMISED);
        assert_eq!(summary.iter().map(|one| one.fault).collect::<Vec<_>>(), [Fault::Kill, Fault::Drain]);
        assert_eq!(
            (summary[0].outage_p50_ms, summary[0].outage_p99_ms, summary[0].lost),
            (100.0, 600.0, 140)
        );
        assert_eq!(
            summary[0].problems,
            ["1 of 10 sessions died; one of them: x: reset", "outage p99 is 600 ms, more than 500"]
        );
        assert_eq!(summary[1].problems, ["a drain and its end lost 1 packets, more than 0"]);
        assert!(summarize(&all[2..], &Limits::NONE)[0].problems.is_empty());
    }
}
