//! No packet is lost without a counter: on every host, in = out + dropped + punted, and the drops' reasons add up.

use super::{Bench, Check};
use crate::agents;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Counters are read while late packets (retransmissions, ARP) may still pass: equality must hold within this time.
const SETTLE: Duration = Duration::from_secs(3);
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

pub(super) fn checks(bench: &Arc<Bench>) -> Vec<Check> {
    let hosts = bench.plan.hosts.iter().map(|host| {
        let socket = bench.names.agent_socket(&host.name);
        Check::new(format!("counters of {}: in = out + dropped + punted", host.name), balanced(socket))
    });
    hosts.collect()
}

async fn balanced(socket: PathBuf) -> Result<String, String> {
    let deadline = Instant::now() + SETTLE;
    loop {
        let sums = Sums::of(&agents::status(&socket).await?)?;
        if sums.agree() {
            return Ok(sums.to_string());
        }
        if Instant::now() >= deadline {
            return Err(sums.to_string());
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Packets by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    entered: u64,
    left: u64,
    dropped: u64,
    punted: u64,
    /// Sum over the reasons.
    reasons: u64,
}

impl Sums {
    pub(crate) fn of(status: &Value) -> Result<Self, String> {
        let counters = status["counters"].as_object().ok_or_else(|| format!("no counters in {status}"))?;
        let sum = |prefix: &str| -> u64 {
            let matching = counters.iter().filter(|(name, _)| name.starts_with(prefix));
            matching.filter_map(|(_, value)| value.as_u64()).sum()
        };
        Ok(Self {
            entered: sum("in-"),
            left: sum("out-"),
            dropped: sum("dropped"),
            punted: sum("punted"),
            reasons: sum("drop."),
        })
    }

    /// A host without any packet proves nothing.
    pub(crate) fn agree(self) -> bool {
        self.entered > 0
            && self.entered == self.left + self.dropped + self.punted
            && self.dropped == self.reasons
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { entered, left, dropped, punted, reasons } = self;
        write!(f, "in {entered}, out {left}, dropped {dropped} (by reason {reasons}), punted {punted}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_agree_only_when_every_packet_has_an_end() {
        let mut status = serde_json::json!({ "counters": {
            "in-port": 7, "in-uplink": 3, "out-port": 5, "out-host": 1, "dropped": 3, "punted": 1,
            "drop.route.no-route": 2, "drop.classify.malformed": 1, "punt.ttl-exceeded": 1,
        }});
        assert!(Sums::of(&status).unwrap().agree());
        status["counters"]["drop.route.no-route"] = 1.into();
        assert!(!Sums::of(&status).unwrap().agree(), "a drop without a reason");
        status["counters"]["dropped"] = 2.into();
        assert!(!Sums::of(&status).unwrap().agree(), "a packet without an end");
        assert!(!Sums::default().agree());
    }
}
