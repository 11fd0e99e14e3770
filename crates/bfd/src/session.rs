//! One session: RFC 5880's state machine (§6.2, §6.8) and timers.

use crate::packet::{Control, Diagnostic, State};
use std::time::Duration;

/// While not Up a system sends at most once a second (RFC 5880 §6.8.3).
const SLOW_TX: Duration = Duration::from_secs(1);

/// What the local system wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Not 0, unique among the system's sessions.
    pub discriminator: u32,
    pub desired_min_tx: Duration,
    pub required_min_rx: Duration,
    /// Packets in a row that may be missing before the peer is declared down; not 0.
    pub detect_mult: u8,
}

/// A packet to send now.
pub type Transmit = Control;

/// The session went from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub from: State,
    pub to: State,
    pub diagnostic: Diagnostic,
}

/// A session with one peer. Times are durations since any fixed moment, never decreasing.
#[derive(Clone, Debug)]
pub struct Session {
    settings: Settings,
    state: State,
    diagnostic: Diagnostic,
    remote_discriminator: u32,
    remote_state: State,
    remote_min_rx: Duration,
    /// The peer's detect mult and desired interval, from its latest packet.
    remote_timing: Option<(u8, Duration)>,
    /// When the peer is declared gone; None: nothing was received, or the session is down already.
    detection_at: Option<Duration>,
    transmit_at: Duration,
    /// A Final is owed to the peer's Poll.
    final_due: bool,
    /// Our own Poll Sequence is under way: our transmit interval changed.
    polling: bool,
    /// What the path behind this system is told to be, and what the peer said of its own.
    path_down: bool,
    remote_diagnostic: u8,
}

impl Session {
    /// A session that is Down and sends its first packet at once.
    pub fn new(settings: Settings, now: Duration) -> Self {
        Self {
            settings,
            state: State::Down,
            diagnostic: Diagnostic::None,
            remote_discriminator: 0,
            remote_state: State::Down,
            remote_min_rx: Duration::from_micros(1),
            remote_timing: None,
            detection_at: None,
            transmit_at: now,
            final_due: false,
            polling: false,
            path_down: false,
            remote_diagnostic: Diagnostic::None as u8,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn discriminator(&self) -> u32 {
        self.settings.discriminator
    }

    /// The peer's discriminator, 0 while it is not known.
    pub fn remote_discriminator(&self) -> u32 {
        self.remote_discriminator
    }

    /// The peer is there and says that the path behind it is down.
    pub fn remote_path_down(&self) -> bool {
        self.state == State::Up && self.remote_diagnostic == Diagnostic::ConcatenatedPathDown as u8
    }

    /// Says of this system that the path behind it is down, or works again: the session stays as it is, the
    /// peer learns it from the diagnostic, with a packet sent at once (RFC 5880 §6.8.17).
    pub fn set_path_down(&mut self, down: bool, now: Duration) {
        if self.path_down != down {
            self.path_down = down;
            self.transmit_at = now;
        }
    }

    /// How long the peer may be silent: its multiplier times the slower of its and our interval
    /// (RFC 5880 §6.8.4). None: nothing heard yet.
    pub fn detection_time(&self) -> Option<Duration> {
        let (mult, desired) = self.remote_timing?;
        Some(desired.max(self.settings.required_min_rx) * u32::from(mult))
    }

    /// When [`Session::poll`] has something to do next.
    pub fn next(&self) -> Duration {
        let detection = self.detection_at.unwrap_or(Duration::MAX);
        if self.final_due { Duration::ZERO } else { self.transmit_at.min(detection) }
    }

    /// Takes a packet that [`Control::parse`] accepted and that belongs to this session (by `your
    /// discriminator`, or by address while that is 0). RFC 5880 §6.8.6.
    pub fn receive(&mut self, control: &Control, now: Duration) -> Option<Change> {
        if control.your_discriminator != 0 && control.your_discriminator != self.settings.discriminator {
            return None;
        }
        self.remote_discriminator = control.my_discriminator;
        self.remote_state = control.state;
        self.remote_diagnostic = control.diagnostic;
        self.remote_min_rx = Duration::from_micros(u64::from(control.required_min_rx_us));
        let desired = Duration::from_micros(u64::from(control.desired_min_tx_us));
        self.remote_timing = Some((control.detect_mult, desired));
        if control.r#final {
            self.polling = false;
        }
        self.final_due |= control.poll;
        if self.state == State::AdminDown {
            return None;
        }
        self.detection_at = self.detection_time().map(|time| now + time);
        let (to, diagnostic) = match (self.state, control.state) {
            (State::Down, State::Down) => (State::Init, Diagnostic::None),
            (State::Down, State::Init) => (State::Up, Diagnostic::None),
            (State::Init, State::Init | State::Up) => (State::Up, Diagnostic::None),
            (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => {
                (State::Down, Diagnostic::NeighborSignaledDown)
            }
            _ => return None,
        };
        self.change(to, diagnostic, now)
    }

    /// Declares this side out of service, or back in: the peer sees AdminDown at once.
    pub fn set_admin_down(&mut self, down: bool, now: Duration) -> Option<Change> {
        match (self.state, down) {
            (State::AdminDown, false) => self.change(State::Down, Diagnostic::None, now),
            (State::AdminDown, true) | (_, false) => None,
            (_, true) => self.change(State::AdminDown, Diagnostic::AdministrativelyDown, now),
        }
    }

    /// Does what is due at `now`: the detection time, and a packet to send. `random`: any bits, for the
    /// jitter of RFC 5880 §6.8.7.
    pub fn poll(&mut self, now: Duration, random: u32) -> (Option<Transmit>, Option<Change>) {
        let mut change = None;
        if self.detection_at.is_some_and(|at| at <= now) {
            self.detection_at = None;
            self.remote_timing = None;
            // RFC 5880 §6.8.1: forgotten after a detection time without packets, so that a peer that
            // restarted with another discriminator is heard again.
            self.remote_discriminator = 0;
            if matches!(self.state, State::Init | State::Up) {
                change = self.change(State::Down, Diagnostic::ControlDetectionTimeExpired, now);
            }
        }
        if self.final_due {
            self.final_due = false;
            return (Some(self.control(true)), change);
        }
        // A peer that wants no packets gets none (RFC 5880 §6.8.7).
        if self.transmit_at > now {
            return (None, change);
        }
        self.transmit_at = now + self.jittered(random);
        if self.remote_min_rx.is_zero() {
            return (None, change);
        }
        (Some(self.control(false)), change)
    }

    /// The interval at which packets are sent, before jitter.
    fn interval(&self) -> Duration {
        let desired = if self.state == State::Up {
            self.settings.desired_min_tx
        } else {
            self.settings.desired_min_tx.max(SLOW_TX)
        };
        desired.max(self.remote_min_rx)
    }

    /// 75 to 100 % of the interval; 75 to 90 % if one lost packet is enough to be declared down.
    fn jittered(&self, random: u32) -> Duration {
        let span = if self.settings.detect_mult == 1 { 15 } else { 25 };
        let percent = 75 + random % (span + 1);
        self.interval() * percent / 100
    }

    fn control(&self, r#final: bool) -> Control {
        let micros = |duration: Duration| u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
        let desired = if self.state == State::Up {
            self.settings.desired_min_tx
        } else {
            self.settings.desired_min_tx.max(SLOW_TX)
        };
        let diagnostic = match self.state {
            State::Up if self.path_down => Diagnostic::ConcatenatedPathDown,
            _ => self.diagnostic,
        };
        Control {
            state: self.state,
            diagnostic: diagnostic as u8,
            poll: self.polling && !r#final,
            r#final,
            detect_mult: self.settings.detect_mult,
            my_discriminator: self.settings.discriminator,
            your_discriminator: self.remote_discriminator,
            desired_min_tx_us: micros(desired),
            required_min_rx_us: micros(self.settings.required_min_rx),
        }
    }

    fn change(&mut self, to: State, diagnostic: Diagnostic, now: Duration) -> Option<Change> {
        let from = self.state;
        self.state = to;
        self.diagnostic = diagnostic;
        // The interval changes on the way into and out of Up, which a Poll Sequence announces (§6.8.3).
        self.polling = (from == State::Up) != (to == State::Up) && to != State::AdminDown;
        if to == State::AdminDown {
            self.detection_at = None;
        }
        // Tell the peer at once.
        self.transmit_at = now;
        Some(Change { from, to, diagnostic })
    }
}

#[cfg(test)]
mod tests;
