//! How long what lies in each place is kept from its last use on: what `larder lifecycle` writes as the bucket's rules, and what
//! the gateway's refreshing goes by.
//!
//! Knows places by what they are for; how they are spelled is [`crate::domain::layout`]'s. Never reads a clock.

use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

/// Times of life by place; `None`: for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// Artifacts of Please, releases up to v13 and RPC.
    pub artifacts: Option<Duration>,
    /// Entries of Please v14 and later.
    pub please: Option<Duration>,
    /// Distributions of the shared index.
    pub wheels: Option<Duration>,
    /// Distributions that were built for one environment.
    pub built: Option<Duration>,
    /// Multipart uploads that nobody completed.
    pub uploads: Option<Duration>,
    /// Versions that are not the current one, of a bucket that keeps versions.
    pub noncurrent: Option<Duration>,
}

impl Default for Expiry {
    fn default() -> Self {
        Self {
            artifacts: Some(30 * DAY),
            please: Some(30 * DAY),
            wheels: None,
            built: Some(180 * DAY),
            uploads: Some(DAY),
            noncurrent: Some(DAY),
        }
    }
}

/// The part of its time of life after which a use of an object makes it young again. One half: an object that is in use is
/// refreshed at most twice in its time of life, and one that is used at least that often never goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fraction(f64);

impl Fraction {
    /// `None` outside 0.1 to 0.9: below it copies pile up, above it a use may come too late.
    pub fn new(part: f64) -> Option<Self> {
        (0.1..=0.9).contains(&part).then_some(Self(part))
    }

    /// So much of a time.
    pub fn of(self, time: Duration) -> Duration {
        time.mul_f64(self.0)
    }
}

impl Default for Fraction {
    fn default() -> Self {
        Self(0.5)
    }
}

// A fraction is never NaN.
impl Eq for Fraction {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_neither_nothing_nor_all() {
        for wrong in [0.0, 0.09, 0.91, 1.0, f64::NAN] {
            assert_eq!(Fraction::new(wrong), None, "{wrong}");
        }
        assert_eq!(Fraction::new(0.25).unwrap().of(8 * DAY), 2 * DAY);
    }
}
