//! Waiting before the next attempt: doubling, capped, jittered, forgotten after health.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// First delay.
const FIRST: Duration = Duration::from_millis(500);
/// Longest delay.
const CAP: Duration = Duration::from_secs(30);
/// Health that forgets earlier failures.
const HEALTH: Duration = Duration::from_secs(10);

/// Delays between attempts.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    healthy_since: Option<Instant>,
}

impl Backoff {
    /// Something arrived: healthy from now on, if it was not.
    pub fn healthy(&mut self) {
        self.healthy_since.get_or_insert_with(Instant::now);
    }

    /// It failed: how long to wait.
    pub fn failed(&mut self) -> Duration {
        if self
            .healthy_since
            .take()
            .is_some_and(|t| t.elapsed() >= HEALTH)
        {
            self.failures = 0;
        }
        let wait = FIRST.saturating_mul(1 << self.failures.min(8)).min(CAP);
        self.failures += 1;
        jitter(wait)
    }
}

/// Four fifths to six fifths of a delay, so that many who failed together do not come back together.
#[must_use]
pub fn jitter(delay: Duration) -> Duration {
    delay.saturating_mul(800 + chance(400)) / 1000
}

/// Any part of a delay, so that many who begin together are spread over it.
#[must_use]
pub fn part(delay: Duration) -> Duration {
    delay.saturating_mul(chance(1000)) / 1000
}

/// A number from 0 to `most`.
fn chance(most: u32) -> u32 {
    // Each `RandomState` has its own keys: randomness without a crate for it.
    let any = RandomState::new().hash_one(0u8) % (u64::from(most) + 1);
    u32::try_from(any).unwrap_or(most / 2)
}
