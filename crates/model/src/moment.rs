//! Times in words: RFC 3339, in UTC and with a `Z`, as every view, log and message has them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Digits behind the seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fraction {
    None,
    Milliseconds,
    Microseconds,
}

/// `2026-11-22T06:00:00Z`, or with a fraction that is always written out. Times that have no four-digit year are told
/// as 1970.
pub fn text(us: i64, fraction: Fraction) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1000);
    let time = time.ok().filter(|time| (0..=9999).contains(&time.year()));
    let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = time.to_calendar_date();
    let (hour, minute, second) = time.to_hms();
    let whole = format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", u8::from(month));
    match fraction {
        Fraction::None => format!("{whole}Z"),
        Fraction::Milliseconds => format!("{whole}.{:03}Z", time.millisecond()),
        Fraction::Microseconds => format!("{whole}.{:06}Z", time.microsecond()),
    }
}

/// Of seconds since 1970.
pub fn text_s(seconds: i64) -> String {
    text(seconds.saturating_mul(1_000_000), Fraction::None)
}

/// Nanoseconds since 1970 of a time with any zone; `None` if it is none.
pub fn parse_ns(text: &str) -> Option<i128> {
    Some(OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_the_digits_asked_for() {
        let us = 1_795_327_200_001_002;
        assert_eq!(text(us, Fraction::None), "2026-11-22T06:00:00Z");
        assert_eq!(text(us, Fraction::Milliseconds), "2026-11-22T06:00:00.001Z");
        assert_eq!(text(us, Fraction::Microseconds), "2026-11-22T06:00:00.001002Z");
        assert_eq!(text_s(0), "1970-01-01T00:00:00Z");
        assert_eq!(text_s(i64::MAX), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn what_was_written_is_read_and_zones_count() {
        assert_eq!(parse_ns("2026-11-22T06:00:00.001002Z"), Some(1_795_327_200_001_002_000));
        assert_eq!(parse_ns("2026-11-22T07:00:00+01:00"), Some(1_795_327_200_000_000_000));
        assert_eq!(parse_ns("yesterday"), None);
    }
}
