//! The log's lines as datagrams to the local syslog (RFC 3164 as local sockets have it: no host name).
//!
//! Never waits: a message that the socket does not take is lost and counted; the file has it.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use time::OffsetDateTime;

/// Facility local0, severity informational (RFC 3164 §4.1.1).
const PRIORITY: u8 = 16 * 8 + 6;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

pub(super) struct Syslog {
    socket: UnixDatagram,
    path: PathBuf,
    pub(super) lost: u64,
}

impl Syslog {
    pub(super) fn new(path: PathBuf) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path, lost: 0 })
    }

    pub(super) fn send(&mut self, time_ms: i64, line: &str) {
        let message = message(time_ms, std::process::id(), line);
        // By path each time: the daemon may have been restarted.
        if let Err(error) = self.socket.send_to(message.as_bytes(), &self.path) {
            self.lost += 1;
            if self.lost.is_power_of_two() {
                let (socket, lost) = (self.path.display(), self.lost);
                tracing::warn!(%socket, lost, %error, "NAT log: syslog does not take messages");
            }
        }
    }
}

fn message(time_ms: i64, process: u32, line: &str) -> String {
    let time = OffsetDateTime::from_unix_timestamp(time_ms.div_euclid(1000));
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let month = MONTHS.get(usize::from(u8::from(time.month())) - 1).unwrap_or(&"Jan");
    let (day, hour, minute, second) = (time.day(), time.hour(), time.minute(), time.second());
    format!("<{PRIORITY}>{month} {day:>2} {hour:02}:{minute:02}:{second:02} nanboku-nat[{process}]: {line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_priority_time_and_tag() {
        // 2026-11-02T07:05:09Z
        let want = "<134>Nov  2 07:05:09 nanboku-nat[42]: {}";
        assert_eq!(message(1_793_603_109_250, 42, "{}"), want);
    }
}
