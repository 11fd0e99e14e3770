//! The control packet (RFC 5880 §4.1): 24 bytes, version 1.

/// Bytes of a control packet without authentication.
pub(crate) const LEN: usize = 24;
const VERSION: u8 = 1;

/// Session state, as in the packet's `Sta` field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    AdminDown = 0,
    Down = 1,
    Init = 2,
    Up = 3,
}

impl State {
    pub const fn name(self) -> &'static str {
        match self {
            Self::AdminDown => "admin-down",
            Self::Down => "down",
            Self::Init => "init",
            Self::Up => "up",
        }
    }
}

/// Why the sender's session last went down (RFC 5880 §4.1 `Diag`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Diagnostic {
    None = 0,
    ControlDetectionTimeExpired = 1,
    NeighborSignaledDown = 3,
    /// The sender is there, the path behind it is not (RFC 5880 §6.8.17).
    ConcatenatedPathDown = 6,
    AdministrativelyDown = 7,
}

/// A control packet. Times in microseconds, numbers in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    pub state: State,
    /// The number of [`Diagnostic`]; foreign systems use more of them.
    pub diagnostic: u8,
    pub poll: bool,
    pub r#final: bool,
    pub detect_mult: u8,
    pub my_discriminator: u32,
    pub your_discriminator: u32,
    pub desired_min_tx_us: u32,
    pub required_min_rx_us: u32,
}

/// Why bytes are not a control packet this system accepts (RFC 5880 §6.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedControl {
    #[error("shorter than a control packet, or than its own length field")]
    Truncated,
    #[error("version {0}, not 1")]
    Version(u8),
    #[error("the length field says {0}")]
    Length(u8),
    #[error("authentication is not spoken here")]
    Authenticated,
    #[error("detect mult 0")]
    DetectMult,
    #[error("the multipoint bit is set")]
    Multipoint,
    #[error("my discriminator is 0")]
    MyDiscriminator,
    #[error("your discriminator is 0 in state {0:?}")]
    YourDiscriminator(State),
}

const FLAG_POLL: u8 = 0x20;
const FLAG_FINAL: u8 = 0x10;
const FLAG_AUTHENTICATION: u8 = 0x04;
const FLAG_MULTIPOINT: u8 = 0x01;

impl Control {
    /// Reads and checks a UDP payload, in the order of RFC 5880 §6.8.6.
    ///
    /// # Errors
    /// See [`MalformedControl`].
    pub fn parse(payload: &[u8]) -> Result<Self, MalformedControl> {
        let Some((bytes, _)) = payload.split_first_chunk::<LEN>() else {
            return Err(MalformedControl::Truncated);
        };
        let [first, flags, detect_mult, length, rest @ ..] = *bytes;
        if first >> 5 != VERSION {
            return Err(MalformedControl::Version(first >> 5));
        }
        if usize::from(length) < LEN {
            return Err(MalformedControl::Length(length));
        }
        if usize::from(length) > payload.len() {
            return Err(MalformedControl::Truncated);
        }
        if flags & FLAG_AUTHENTICATION != 0 {
            return Err(MalformedControl::Authenticated);
        }
        if detect_mult == 0 {
            return Err(MalformedControl::DetectMult);
        }
        if flags & FLAG_MULTIPOINT != 0 {
            return Err(MalformedControl::Multipoint);
        }
        let word = |index: usize| {
            let at = index * 4;
            let bytes = [rest[at], rest[at + 1], rest[at + 2], rest[at + 3]];
            u32::from_be_bytes(bytes)
        };
        let control = Self {
            state: state(flags >> 6),
            diagnostic: first & 0x1f,
            poll: flags & FLAG_POLL != 0,
            r#final: flags & FLAG_FINAL != 0,
            detect_mult,
            my_discriminator: word(0),
            your_discriminator: word(1),
            desired_min_tx_us: word(2),
            required_min_rx_us: word(3),
        };
        if control.my_discriminator == 0 {
            return Err(MalformedControl::MyDiscriminator);
        }
        if control.your_discriminator == 0 && matches!(control.state, State::Init | State::Up) {
            return Err(MalformedControl::YourDiscriminator(control.state));
        }
        Ok(control)
    }

    /// The packet's bytes. Echo is not offered: its interval is 0.
    pub fn emit(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[0] = (VERSION << 5) | (self.diagnostic & 0x1f);
        bytes[1] = ((self.state as u8) << 6)
            | if self.poll { FLAG_POLL } else { 0 }
            | if self.r#final { FLAG_FINAL } else { 0 };
        bytes[2] = self.detect_mult;
        bytes[3] = LEN as u8;
        bytes[4..8].copy_from_slice(&self.my_discriminator.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.your_discriminator.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.desired_min_tx_us.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.required_min_rx_us.to_be_bytes());
        bytes
    }
}

const fn state(bits: u8) -> State {
    match bits & 3 {
        0 => State::AdminDown,
        1 => State::Down,
        2 => State::Init,
        _ => State::Up,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UP: Control = Control {
        state: State::Up,
        diagnostic: 0,
        poll: false,
        r#final: true,
        detect_mult: 3,
        my_discriminator: 0x0102_0304,
        your_discriminator: 0x0506_0708,
        desired_min_tx_us: 50_000,
        required_min_rx_us: 50_000,
    };

    #[test]
    fn emits_the_layout_of_rfc5880() {
        let expected =
            [0x20, 0xd0, 3, 24, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50, 0, 0, 0, 0];
        assert_eq!(UP.emit(), expected);
        assert_eq!(Control::parse(&expected), Ok(UP));
    }

    #[test]
    fn refuses_what_rfc5880_6_8_6_discards() {
        let changed = |at: usize, value: u8| {
            let mut bytes = UP.emit();
            bytes[at] = value;
            Control::parse(&bytes)
        };
        assert_eq!(changed(0, 0x40), Err(MalformedControl::Version(2)));
        assert_eq!(changed(3, 23), Err(MalformedControl::Length(23)));
        assert_eq!(changed(3, 25), Err(MalformedControl::Truncated));
        assert_eq!(changed(1, 0xc4), Err(MalformedControl::Authenticated));
        assert_eq!(changed(1, 0xc1), Err(MalformedControl::Multipoint));
        assert_eq!(changed(2, 0), Err(MalformedControl::DetectMult));
        let no_discriminator = Control { my_discriminator: 0, ..UP };
        assert_eq!(Control::parse(&no_discriminator.emit()), Err(MalformedControl::MyDiscriminator));
        let unknown_peer = Control { your_discriminator: 0, ..UP };
        let refused = Err(MalformedControl::YourDiscriminator(State::Up));
        assert_eq!(Control::parse(&unknown_peer.emit()), refused);
        for len in 0..LEN {
            assert_eq!(Control::parse(&UP.emit()[..len]), Err(MalformedControl::Truncated));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(control) = Control::parse(&bytes) {
                prop_assert_eq!(Control::parse(&control.emit()), Ok(control));
            }
        }
    }
}
