//! `lab fault`: what a failing gateway costs, measured with real packets.
//!
//! While sessions and probes of VMs pass ([`sessions`], [`probes`]), something happens to the gateway that owns the
//! most addresses ([`injury`]); who takes part follows from the lab ([`scene`]). A repetition ends when all packets
//! pass again and another gateway answers for the addresses; then every session must prove that it lives, the gateway
//! is healed, and the next repetition begins when the lab is as it was. What is counted when is in `docs/faults.md`.

mod figures;
mod injury;
pub(crate) mod probes;
mod scene;
mod segment;
pub(crate) mod sessions;

pub use figures::{FlowFigures, Limits, Repetition, Summary};

use crate::running::Running;
use crate::wait::{self, Seen};
use anyhow::{Context as _, bail};
use injury::Surgery;
use probes::{LATE, Probes, Responder};
use scene::Scene;
use serde::Serialize;
use sessions::Sessions;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// A fault is watched for at least this long.
const WATCH_MIN: Duration = Duration::from_secs(1);
/// All probes of this span must have been answered before packets are said to pass again.
const WELL_FOR: Duration = Duration::from_millis(500);
/// Probes younger than this may still be under way.
const UNDER_WAY: Duration = Duration::from_millis(100);
/// Faults that only silence tells of take a while to be found out.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const HEAL_TIMEOUT: Duration = Duration::from_secs(60);
/// TCP sends anew after 0.2, 0.4, 0.8 … seconds: an outage of a minute is over by then.
const PROOF_TIMEOUT: Duration = Duration::from_secs(60);
const PAUSE_BETWEEN_LOOKS: Duration = Duration::from_millis(20);
/// Files that are open besides the sessions' two ends each.
const FILES_BESIDES: u64 = 512;

/// What happens to a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Taken out of service by the operator.
    Drain,
    /// No power: every link, process, program and table gone at once.
    Kill,
    /// Frozen: nothing runs, nothing is forwarded, links stay up.
    Pause,
    /// The agent's process is stopped; the programs go on.
    StopAgent,
    /// No carrier on the underlay.
    CutUnderlay,
    /// No carrier on the external network.
    CutExternal,
    /// Back after [`Fault::Kill`].
    Return,
    /// The underlay carries nothing, and its links stay up.
    MuteUnderlay,
    /// The external network carries nothing, and its links stay up.
    MuteExternal,
    /// It and another gateway do not hear each other, and everybody else hears both.
    Split,
}

/// All faults with their words. The first ones are those of `all`.
const FAULTS: [(Fault, &str); 10] = [
    (Fault::Drain, "drain"),
    (Fault::Kill, "kill"),
    (Fault::Pause, "pause"),
    (Fault::StopAgent, "stop-agent"),
    (Fault::CutUnderlay, "cut-underlay"),
    (Fault::CutExternal, "cut-external"),
    (Fault::Return, "return"),
    (Fault::MuteUnderlay, "mute-underlay"),
    (Fault::MuteExternal, "mute-external"),
    (Fault::Split, "split"),
];
const IN_ALL: usize = 7;

impl Fault {
    /// The faults of the table in `docs/faults.md`.
    pub fn all() -> Vec<Self> {
        FAULTS[..IN_ALL].iter().map(|(fault, _)| *fault).collect()
    }

    /// Whose addresses others must have before it counts as settled.
    fn moves_addresses(self) -> bool {
        !matches!(self, Self::StopAgent | Self::Split)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = FAULTS.iter().find(|(fault, _)| fault == self).map_or("", |(_, word)| *word);
        f.pad(word)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = FAULTS.iter().find(|(_, word)| *word == text).map(|(fault, _)| *fault);
        found.ok_or_else(|| {
            let words: Vec<&str> = FAULTS.iter().map(|(_, word)| *word).collect();
            format!("'{text}' is no fault; there are {}, and all", words.join(", "))
        })
    }
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the lab; the only one that is up if not given.
    pub lab: Option<String>,
    /// One after the other.
    pub faults: Vec<Fault>,
    /// The gateway; the one that owns the most if not given.
    pub host: Option<String>,
    /// Of each fault.
    pub repetitions: usize,
    /// TCP sessions that are held all the time.
    pub sessions: usize,
    /// How long the first repetition of each fault is watched: longer than the controller waits for a host that is
    /// away, so that what the controller does then is among what is watched.
    pub first_watch: Duration,
    pub limits: Limits,
}

/// Everything that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub lab: String,
    /// The gateway that things happened to.
    pub host: String,
    pub summary: Vec<Summary>,
    pub repetitions: Vec<Repetition>,
}

impl Report {
    /// Nothing that must not happen happened.
    pub fn is_good(&self) -> bool {
        self.summary.iter().all(|summary| summary.problems.is_empty())
    }
}

/// Runs the faults against a lab that is up. `progress` is told of each repetition when it is over.
///
/// # Errors
/// No such lab, one that is not well or that lacks what is needed, or one that does not become well again.
pub async fn fault(options: &Options, mut progress: impl FnMut(&Repetition)) -> anyhow::Result<Report> {
    if options.faults.is_empty() || options.repetitions == 0 || options.sessions == 0 {
        bail!("there is nothing to do: faults, repetitions and sessions must each be at least 1");
    }
    let running = Running::find(options.lab.as_deref())?;
    let directory = File::open(running.names.dir()).context("cannot open the lab's directory")?;
    if directory.try_lock().is_err() {
        bail!("lab `{}` is being checked; wait for that to end", running.plan.name);
    }
    allow_files(options.sessions)?;
    let scene = Scene::open(running, options).await?;
    let _responder = Responder::start(&scene.server_netns()?)?;
    let probes = Probes::start(scene.flows().await?)?;
    let server = scene.server_netns()?;
    let sessions = Sessions::open(&server, scene.server_address(), &scene.clients(options.sessions)).await?;
    let surgery = Surgery::open(&scene.plan, &scene.names, &scene.api, &scene.patient)?;
    let trial = Trial { options, scene: &scene, probes, sessions, surgery };
    let repetitions = tokio::select! {
        done = trial.run(&mut progress) => done?,
        _ = tokio::signal::ctrl_c() => bail!("interrupted; the lab is left as it is"),
    };
    let summary = figures::summarize(&repetitions, &options.limits);
    Ok(Report { lab: scene.plan.name.clone(), host: scene.host_name().to_owned(), summary, repetitions })
}

/// Raises the limit of open files for both ends of so many sessions, if it must be.
pub(crate) fn allow_files(sessions: usize) -> anyhow::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let needed = FILES_BESIDES + 2 * u64::try_from(sessions)?;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < needed {
        let fail = || format!("{sessions} sessions need {needed} open files; the limit is {hard}");
        setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed)).with_context(fail)?;
    }
    Ok(())
}

struct Trial<'a> {
    options: &'a Options,
    scene: &'a Scene,
    probes: Probes,
    sessions: Sessions,
    surgery: Surgery<'a>,
}

/// Who answers for an address: how many.
type Claims = BTreeMap<Ipv4Addr, usize>;

impl Trial<'_> {
    async fn run(&self, progress: &mut impl FnMut(&Repetition)) -> anyhow::Result<Vec<Repetition>> {
        self.healthy("the lab at the start").await?;
        let mut repetitions = Vec::new();
        for fault in &self.options.faults {
            for number in 1..=self.options.repetitions {
                let repetition = self.repetition(*fault, number).await;
                let repetition = repetition.with_context(|| format!("{fault}, repetition {number}"))?;
                progress(&repetition);
                repetitions.push(repetition);
            }
        }
        Ok(repetitions)
    }

    async fn repetition(&self, fault: Fault, number: usize) -> anyhow::Result<Repetition> {
        self.scene.onlooker.forget();
        self.probes.forget_before(Instant::now() - LATE);
        if fault == Fault::Return {
            self.surgery.inflict(fault).await?;
            let died = Instant::now();
            self.settled(Fault::Kill, died, died).await?.map_or(Ok(()), |unsettled| bail!(unsettled))?;
        }
        let start = Instant::now();
        let watch_until =
            start + if number == 1 { self.options.first_watch.max(WATCH_MIN) } else { WATCH_MIN };
        if fault == Fault::Return {
            self.surgery.heal(fault).await?;
        } else {
            self.surgery.inflict(fault).await?;
        }
        let unsettled = self.settled(fault, start, watch_until).await?;
        let claims = self.claims().await?;
        let end = Instant::now();
        let took = end - start;
        // The same figures again as soon as everything that was sent is either back or late.
        let figures = self.figures(start, end).await;
        let announcements = self.scene.onlooker.announcements(start);
        let asked = Instant::now();
        let dead = self.sessions.dead(PROOF_TIMEOUT).await;
        let healed = Instant::now();
        if fault != Fault::Return {
            self.surgery.heal(fault).await?;
        }
        self.healthy(&format!("the lab after {fault}")).await?;
        let back = self.figures(healed, Instant::now()).await;
        Ok(Repetition::new(figures::Seen {
            fault,
            host: self.scene.host_name().to_owned(),
            number,
            sessions: self.sessions.len(),
            dead,
            took: [took, healed - asked, healed.elapsed()],
            flows: self.probes.names.iter().cloned().zip(figures).collect(),
            back,
            announcements: announcements.len(),
            announced: announcements.first().map(|heard| heard.at - start),
            claimants: claims.values().copied().max().unwrap_or(0),
            unsettled,
        }))
    }

    /// What became of the probes of a span, once none of them is under way.
    async fn figures(&self, from: Instant, to: Instant) -> Vec<probes::Figures> {
        while Instant::now() < to + LATE && !self.probes.unwell(to - UNDER_WAY, to).is_empty() {
            tokio::time::sleep(PAUSE_BETWEEN_LOOKS).await;
        }
        self.probes.figures(from, to)
    }

    /// How many answer for each of the patient's addresses.
    async fn claims(&self) -> anyhow::Result<Claims> {
        let owners = self.scene.onlooker.owners(&self.scene.patients_addresses()).await?;
        Ok(owners.into_iter().map(|(address, macs)| (address, macs.len())).collect())
    }

    /// Waits until all packets pass and the addresses are where they belong under a fault. Answers what is still
    /// wrong after a long time, if something is.
    async fn settled(
        &self,
        fault: Fault,
        start: Instant,
        watch_until: Instant,
    ) -> anyhow::Result<Option<String>> {
        let deadline = start.max(watch_until) + SETTLE_TIMEOUT;
        loop {
            let wrong = match self.lossy() {
                Some(lossy) => Some(lossy),
                None => self.misplaced(fault).await?,
            };
            let now = Instant::now();
            match wrong {
                None if now >= watch_until => return Ok(None),
                Some(wrong) if now >= deadline => return Ok(Some(wrong)),
                _ => tokio::time::sleep(PAUSE_BETWEEN_LOOKS).await,
            }
        }
    }

    /// The flows that lost probes just now.
    fn lossy(&self) -> Option<String> {
        let now = Instant::now();
        let unwell = self.probes.unwell(now - UNDER_WAY - WELL_FOR, now - UNDER_WAY);
        (!unwell.is_empty()).then(|| format!("probes are lost: {}", unwell.join("; ")))
    }

    /// The addresses that the wrong host, or nobody, answers for.
    async fn misplaced(&self, fault: Fault) -> anyhow::Result<Option<String>> {
        let scene = self.scene;
        let addresses = scene.patients_addresses();
        let owners = scene.onlooker.owners(&addresses).await?;
        let wrong = owners.iter().find_map(|(address, macs)| {
            let by_patient = macs.contains(&scene.patient_mac);
            match fault {
                Fault::Return if macs.len() == 1 && by_patient => None,
                Fault::Return => Some(format!("{address} is not back: {}", words(macs))),
                _ if !fault.moves_addresses() && !macs.is_empty() => None,
                _ if macs.is_empty() => Some(format!("nobody answers for {address}")),
                _ if by_patient => Some(format!("{address} is still answered for by {}", scene.host_name())),
                _ => None,
            }
        });
        Ok(match (wrong, fault) {
            // Without two that claim one address the fault has not happened.
            (None, Fault::Split) if !addresses.is_empty() && owners.values().all(|macs| macs.len() < 2) => {
                Some("no address has two owners yet".to_owned())
            }
            (wrong, _) => wrong,
        })
    }

    /// Waits until the lab is as it was before anything happened.
    async fn healthy(&self, what: &str) -> anyhow::Result<()> {
        let scene = self.scene;
        let addresses: Vec<Ipv4Addr> = scene.owners.keys().copied().collect();
        wait::until(&format!("{what} to be well"), HEAL_TIMEOUT, async || {
            let unwell = injury::unwell_hosts(&scene.plan, &scene.names, &scene.api).await?;
            if !unwell.is_empty() {
                return Ok(Seen::Not(unwell.join("; ")));
            }
            let owners = scene.onlooker.owners(&addresses).await?;
            let moved = owners.iter().find(|(address, macs)| scene.owners.get(address) != Some(macs));
            if let Some((address, macs)) = moved {
                return Ok(Seen::Not(format!("{address} is not back: {}", words(macs))));
            }
            Ok(self.lossy().map_or(Seen::Done(()), Seen::Not))
        })
        .await
    }
}

fn words(macs: &BTreeSet<netlink::MacAddr>) -> String {
    if macs.is_empty() {
        return "nobody answers for it".to_owned();
    }
    let macs: Vec<String> = macs.iter().map(ToString::to_string).collect();
    format!("answered for by {}", macs.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_known_by_its_word() {
        for (fault, word) in FAULTS {
            assert_eq!(word.parse(), Ok(fault));
            assert_eq!(fault.to_string(), word);
            assert_eq!(serde_json::to_value(fault).unwrap(), word);
        }
        let error = "cut".parse::<Fault>().unwrap_err();
        assert!(error.starts_with("'cut' is no fault; there are drain, kill, "), "{error}");
        assert_eq!(Fault::all().last(), Some(&Fault::Return));
    }
}
