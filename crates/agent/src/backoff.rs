//! How long to wait before the next try: doubling to a limit, half of it random, so that a cluster's agents
//! do not come back in step.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self { next: FIRST }
    }

    /// A try failed: how long to wait. `random` is in 0..1.
    pub(crate) fn failed(&mut self, random: f64) -> Duration {
        let wait = self.next.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0));
        self.next = (self.next * 2).min(LIMIT);
        wait
    }

    pub(crate) fn succeeded(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_limit_and_start_over_after_success() {
        let mut backoff = Backoff::new();
        let waits: Vec<u64> = (0..9).map(|_| backoff.failed(1.0).as_millis() as u64).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.succeeded();
        assert_eq!(backoff.failed(1.0), FIRST);
    }

    #[test]
    fn half_of_a_wait_is_random() {
        assert_eq!(Backoff::new().failed(0.0), FIRST / 2);
        assert_eq!(Backoff::new().failed(0.5), FIRST * 3 / 4);
    }
}
