//! Idle times of NAT sessions: one set for the cluster, given by the operator, told to every agent.
//!
//! What is shorter than an RFC allows cannot be had: a [`NatTimeouts`] that was [`checked`](NatTimeouts::checked)
//! keeps every minimum. RFC 4787 REQ-5a's exception for well-known ports is not made use of.

use serde::{Deserialize, Serialize};

const DAY_S: u32 = 86_400;

/// Seconds each; see [`NatTimeouts::ranges`] for what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NatTimeouts {
    /// RFC 4787 REQ-5: two minutes at least, five recommended. Also of protocols that are not named here.
    pub udp_s: u32,
    /// RFC 5508 REQ-2: 60 s at least.
    pub icmp_s: u32,
    /// RFC 5382 REQ-5: two hours and four minutes at least.
    pub tcp_established_s: u32,
    /// Opening or half closed: RFC 5382 REQ-5: four minutes at least.
    pub tcp_transitory_s: u32,
    /// Reset, or closed from both sides: RFC 7857 §2.1 and §2.2: four minutes.
    pub tcp_closed_s: u32,
    /// Rest of a freed port of UDP and ICMP: RFC 6888 REQ-8: 120 s.
    pub port_rest_s: u32,
}

/// A time that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` is {seconds}, not between {min_s} and {max_s}")]
pub struct TimeoutOutOfRange {
    pub field: &'static str,
    pub seconds: u32,
    pub min_s: u32,
    pub max_s: u32,
}

impl Default for NatTimeouts {
    fn default() -> Self {
        Self {
            udp_s: 300,
            icmp_s: 60,
            tcp_established_s: 7440,
            tcp_transitory_s: 240,
            tcp_closed_s: 240,
            port_rest_s: 120,
        }
    }
}

impl NatTimeouts {
    /// Name, value, minimum and maximum of each. The minimum is the RFC's; the maximum keeps tables from being
    /// full of what is over.
    pub const fn ranges(&self) -> [(&'static str, u32, u32, u32); 6] {
        [
            ("udp_s", self.udp_s, 120, DAY_S),
            ("icmp_s", self.icmp_s, 60, 3600),
            ("tcp_established_s", self.tcp_established_s, 7440, 30 * DAY_S),
            ("tcp_transitory_s", self.tcp_transitory_s, 240, DAY_S),
            ("tcp_closed_s", self.tcp_closed_s, 240, 3600),
            ("port_rest_s", self.port_rest_s, 120, 3600),
        ]
    }

    /// # Errors
    /// The first one out of its range.
    pub fn checked(self) -> Result<Self, TimeoutOutOfRange> {
        let wrong = self.ranges().into_iter().find(|(_, value, min, max)| !(min..=max).contains(&value));
        match wrong {
            None => Ok(self),
            Some((field, seconds, min_s, max_s)) => Err(TimeoutOutOfRange { field, seconds, min_s, max_s }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_allowed_and_so_are_the_ends_of_the_ranges() {
        NatTimeouts::default().checked().unwrap();
        let longest = NatTimeouts {
            udp_s: DAY_S,
            icmp_s: 3600,
            tcp_established_s: 30 * DAY_S,
            tcp_transitory_s: DAY_S,
            tcp_closed_s: 3600,
            port_rest_s: 3600,
        };
        longest.checked().unwrap();
        for (field, _, min, max) in longest.ranges() {
            assert!(min < max, "{field}");
        }
    }

    #[test]
    fn what_is_shorter_than_the_rfcs_allow_is_named() {
        let default = NatTimeouts::default();
        let cases = [
            (NatTimeouts { udp_s: 119, ..default }, "`udp_s` is 119, not between 120 and 86400"),
            (NatTimeouts { icmp_s: 59, ..default }, "`icmp_s` is 59, not between 60 and 3600"),
            (
                NatTimeouts { tcp_established_s: 7439, ..default },
                "`tcp_established_s` is 7439, not between 7440",
            ),
            (NatTimeouts { tcp_transitory_s: 239, ..default }, "`tcp_transitory_s` is 239, not between 240"),
            (NatTimeouts { tcp_closed_s: 0, ..default }, "`tcp_closed_s` is 0, not between 240 and 3600"),
            (NatTimeouts { port_rest_s: 3601, ..default }, "`port_rest_s` is 3601, not between 120 and 3600"),
        ];
        for (timeouts, want) in cases {
            let error = timeouts.checked().unwrap_err().to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
