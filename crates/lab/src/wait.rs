//! Waiting for a condition, with a deadline and with what was last seen in the error.

use std::time::{Duration, Instant};

const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// What a look at the world found.
pub(crate) enum Seen<T> {
    /// The condition holds.
    Done(T),
    /// Not yet; what is missing.
    Not(String),
}

/// Looks again and again until the condition holds.
///
/// # Errors
/// What `look` fails with, or, after `timeout`, what was awaited and what was seen last.
pub(crate) async fn until<T, F>(what: &str, timeout: Duration, mut look: F) -> anyhow::Result<T>
where
    F: AsyncFnMut() -> anyhow::Result<Seen<T>>,
{
    let deadline = Instant::now() + timeout;
    loop {
        match look().await? {
            Seen::Done(value) => return Ok(value),
            Seen::Not(seen) if Instant::now() >= deadline => {
                anyhow::bail!("gave up waiting for {what} after {} s; last seen: {seen}", timeout.as_secs())
            }
            Seen::Not(_) => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_error_says_what_was_seen_last() {
        let mut count = 0;
        let error = until::<(), _>("a miracle", Duration::from_millis(20), async || {
            count += 1;
            Ok(Seen::Not(format!("look {count}")))
        });
        let text = error.await.unwrap_err().to_string();
        assert!(text.starts_with("gave up waiting for a miracle after 0 s; last seen: look "), "{text}");
    }
}
