//! Whether a use makes an object young again: its date and the time in, yes or no out.
//!
//! Pure: never reads a clock, never asks a store. By place, as what lies in each is kept for another time.

use std::time::{Duration, SystemTime};

use crate::domain::wheels::IndexName;

/// Of the age at which a use refreshes an entry, those of its objects that are younger than this part are left as they are. What
/// another gateway has just refreshed costs no second copy so, and an entry's objects still grow old together.
const YOUNG: u32 = 32;

/// Places that differ in how long what lies there is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Artifacts of Please, releases up to v13 and RPC.
    Artifacts,
    /// Entries of Please v14 and later.
    Please,
    /// Distributions of the shared index.
    Shared,
    /// Distributions that were built for one environment.
    Built,
}

impl Place {
    /// Where an index lies.
    pub fn of(index: &IndexName) -> Self {
        match index {
            IndexName::Shared => Self::Shared,
            IndexName::Built(_) => Self::Built,
        }
    }
}

/// At which age a use refreshes what lies in each place; `None`: never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ages {
    /// In [`Place::Artifacts`].
    pub artifacts: Option<Duration>,
    /// In [`Place::Please`].
    pub please: Option<Duration>,
    /// In [`Place::Shared`].
    pub shared: Option<Duration>,
    /// In [`Place::Built`].
    pub built: Option<Duration>,
}

impl Ages {
    /// The age for a place.
    pub fn of(&self, place: Place) -> Option<Duration> {
        match place {
            Place::Artifacts => self.artifacts,
            Place::Please => self.please,
            Place::Shared => self.shared,
            Place::Built => self.built,
        }
    }

    /// Whether a use at this time refreshes an object of this date. One from the future, by another's clock, is young.
    pub fn is_due(&self, place: Place, modified: SystemTime, now: SystemTime) -> bool {
        let Some(age) = self.of(place) else { return false };
        now.duration_since(modified).is_ok_and(|passed| passed >= age)
    }

    /// What is older than this is refreshed with its entry; `None` where nothing is.
    pub fn young(&self, place: Place, now: SystemTime) -> Option<SystemTime> {
        let young = self.of(place)? / YOUNG;
        Some(now.checked_sub(young).unwrap_or(SystemTime::UNIX_EPOCH))
    }
}

#[cfg(test)]
mod tests;
