//! The part of the configuration about port blocks and their log.

use super::{ConfigError, invalid};
use crate::nat_log;
use model::NatTimeouts;
use model::timeouts::TimeoutOutOfRange;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

const BYTES_MIN: u64 = 64 << 10;
const BYTES_MAX: u64 = 16 << 30;
const BYTES_DEFAULT: u64 = 64 << 20;
const FILES_MAX: u32 = 1000;
const FILES_DEFAULT: u32 = 16;
const HOLD_S_MIN: u64 = 10;
const SECONDS_MAX: u64 = 30 * 86_400;
/// Shorter, and the restart of an agent could cost its VMs their connections.
const REASSIGN_S_MIN: u64 = 300;

/// Checked settings of port blocks and their log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    pub log: Option<nat_log::Settings>,
    /// How long a host has port blocks too many before it gives them up.
    pub block_hold: Duration,
    /// How long a host is away before its port blocks go to others; none: for ever.
    pub block_reassign_after: Option<Duration>,
    pub timeouts: NatTimeouts,
}

/// The table `[nat]` of the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Table {
    pub(super) timeouts: NatTimeouts,
}

impl Default for Nat {
    fn default() -> Self {
        let (block_hold, day) = (Duration::from_secs(600), Duration::from_secs(86_400));
        let timeouts = NatTimeouts::default();
        Self { log: None, block_hold, block_reassign_after: Some(day), timeouts }
    }
}

/// As they are given, by file or flag.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct NatFlags {
    /// File of the NAT log: a JSON line per event of a port block [default: none].
    #[arg(long, value_name = "FILE")]
    pub nat_log: Option<PathBuf>,
    /// Size at which a file of the NAT log is closed [default: 67108864].
    #[arg(long, value_name = "BYTES")]
    pub nat_log_bytes_max: Option<u64>,
    /// Closed files of the NAT log that are kept [default: 16].
    #[arg(long, value_name = "COUNT")]
    pub nat_log_files: Option<u32>,
    /// Write the NAT log to the local syslog as well [default: false].
    #[arg(long, value_name = "BOOL")]
    pub nat_log_syslog: Option<bool>,
    /// Socket of the local syslog [default: /dev/log].
    #[arg(long, value_name = "PATH")]
    pub nat_log_syslog_socket: Option<PathBuf>,
    /// How long a host has port blocks too many before it gives them up [default: 600].
    #[arg(long, value_name = "SECONDS")]
    pub block_hold_s: Option<u64>,
    /// How long a host is away before its port blocks go to others; 0: for ever [default: 86400].
    #[arg(long, value_name = "SECONDS")]
    pub block_reassign_after_s: Option<u64>,
}

impl NatFlags {
    /// What is not given here comes from `other`.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            nat_log: self.nat_log.or(other.nat_log),
            nat_log_bytes_max: self.nat_log_bytes_max.or(other.nat_log_bytes_max),
            nat_log_files: self.nat_log_files.or(other.nat_log_files),
            nat_log_syslog: self.nat_log_syslog.or(other.nat_log_syslog),
            nat_log_syslog_socket: self.nat_log_syslog_socket.or(other.nat_log_syslog_socket),
            block_hold_s: self.block_hold_s.or(other.block_hold_s),
            block_reassign_after_s: self.block_reassign_after_s.or(other.block_reassign_after_s),
        }
    }

    /// `timeouts`: as the file has them.
    pub(super) fn build(self, timeouts: NatTimeouts) -> Result<Nat, ConfigError> {
        let timeouts = checked(timeouts)?;
        let default = Nat::default();
        let block_hold = match self.block_hold_s {
            None => default.block_hold,
            Some(seconds) => Duration::from_secs(within("block_hold_s", seconds, HOLD_S_MIN, SECONDS_MAX)?),
        };
        let block_reassign_after = match self.block_reassign_after_s {
            None => default.block_reassign_after,
            Some(0) => None,
            Some(seconds) => {
                let field = "block_reassign_after_s";
                let seconds = match within(field, seconds, REASSIGN_S_MIN, SECONDS_MAX) {
                    Err(ConfigError::Invalid { field, reason }) => {
                        return invalid(field, format!("{reason}, or 0 for never"));
                    }
                    other => other?,
                };
                Some(Duration::from_secs(seconds))
            }
        };
        Ok(Nat { log: self.log()?, block_hold, block_reassign_after, timeouts })
    }

    fn log(self) -> Result<Option<nat_log::Settings>, ConfigError> {
        let bytes = self.nat_log_bytes_max.unwrap_or(BYTES_DEFAULT);
        let bytes_max = within("nat_log_bytes_max", bytes, BYTES_MIN, BYTES_MAX)?;
        let files = self.nat_log_files.unwrap_or(FILES_DEFAULT);
        let files = within("nat_log_files", files, 1, FILES_MAX)?;
        let syslog = self.nat_log_syslog.unwrap_or(false);
        let Some(path) = self.nat_log else {
            return match syslog {
                true => invalid("nat_log_syslog", "is true without `nat_log`: it has the log's lines"),
                false => Ok(None),
            };
        };
        let socket = self.nat_log_syslog_socket.unwrap_or_else(|| "/dev/log".into());
        Ok(Some(nat_log::Settings { path, bytes_max, files, syslog: syslog.then_some(socket) }))
    }
}

fn checked(timeouts: NatTimeouts) -> Result<NatTimeouts, ConfigError> {
    timeouts.checked().map_err(|TimeoutOutOfRange { field, seconds, min_s, max_s }| ConfigError::OutOfRange {
        table: "nat.timeouts",
        field,
        seconds,
        min_s,
        max_s,
    })
}

fn within<N: PartialOrd + std::fmt::Display>(
    field: &'static str,
    number: N,
    min: N,
    max: N,
) -> Result<N, ConfigError> {
    if min <= number && number <= max {
        return Ok(number);
    }
    invalid(field, format!("is {number}, not between {min} and {max}"))
}
