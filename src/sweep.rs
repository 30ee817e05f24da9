//! Making room: what is too old, too much or left over goes, whole entries at a time, least recently used first.
//!
//! A side job over the store's door. One pass over the listing sums entries up in a table of fixed size ([`plan`]), a second
//! removes what the table says: memory does not grow with the store, and nothing is kept between two sweeps. Any number
//! may run at once, be killed, and run beside gateways that read and write: a head (an entry's manifest) goes before the
//! rest of its entry, so that what is half gone is a miss, and what was used since the plan stays.
//!
//! Never takes part of an entry on purpose, nor anything outside the places it is told of.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

pub use plan::{Leftovers, Marks, Rules};
pub use report::{Counters, Stage, Summary};

use crate::domain::layout;
use crate::store::{self, Prefix, Store};

mod leftover;
mod pass;
pub mod plan;
mod remove;
mod report;
mod retry;

/// How often it is looked whether the mark is reached: entries that were spared leave it above.
const ROUNDS: u32 = 3;

/// What to sweep, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Where; see [`places`].
    pub places: Vec<Prefix>,
    /// What goes.
    pub rules: Rules,
    /// Only say what would go.
    pub dry_run: bool,
}

/// Why nothing was tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Half an entry cannot go.
    #[error("{0} lies within an entry, and entries go as a whole: name the entry, or a place above it")]
    WithinEntry(Prefix),
    /// The marks are the wrong way round.
    #[error("--low-water must not be above --high-water")]
    Marks,
}

/// Where to sweep: the places that are named, none within another; where none is, all that can be made again. What else is in
/// a bucket is others', and only touched where its place is named.
pub fn places(named: Vec<Prefix>) -> Result<Vec<Prefix>, Refusal> {
    if named.is_empty() || named.contains(&Prefix::root()) {
        return Ok(layout::caches());
    }
    if let Some(place) = named.iter().find(|place| layout::is_inside_entry(place)) {
        return Err(Refusal::WithinEntry(place.clone()));
    }
    Ok(layout::outermost(named))
}

impl Terms {
    /// Checks what was asked for.
    pub fn checked(self) -> Result<Self, Refusal> {
        match self.rules.marks {
            Some(marks) if marks.low > marks.high => Err(Refusal::Marks),
            Some(_) | None => Ok(Self { places: places(self.places)?, ..self }),
        }
    }
}

/// How a sweep ended that ended early. What was done until then is in the counters.
pub type Error = store::Error;

/// Sweeps as of `now`. `seen` tells others meanwhile how far it is.
pub async fn sweep(store: &Store, terms: &Terms, now: SystemTime, seen: &Counters) -> Result<Summary, Error> {
    let began = Instant::now();
    let mut ended = Round::Short;
    for round in 0..ROUNDS {
        // A later round is a plan of its own time: what is used while it runs is younger.
        let now = if round == 0 { now } else { now + began.elapsed() };
        ended = once(store, terms, now, seen).await?;
        // What the store refuses once it refuses again.
        if ended != Round::Short || terms.dry_run || seen.failed() > 0 {
            break;
        }
    }
    reap(store, terms, seen).await?;
    Ok(seen.summary(terms, ended == Round::Reached))
}

/// How a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// There is no more left than there may be.
    Reached,
    /// Less went than was planned: entries were used meanwhile, or somebody else removed them.
    Short,
    /// Nothing more may go.
    Stuck,
}

async fn once(store: &Store, terms: &Terms, now: SystemTime, seen: &Counters) -> Result<Round, Error> {
    let work = remove::Work::new(store, terms, now, seen);
    let Some(marks) = terms.rules.marks else {
        seen.begin(Stage::Removing, None);
        work.remove(plan::Plan::unmarked(terms.rules.clone(), now)).await?;
        return Ok(Round::Reached);
    };
    seen.begin(Stage::Looking, None);
    let mut survey = plan::Survey::new(terms.rules.clone(), now);
    pass::each(store, &terms.places, seen, |entry| survey.add(&entry)).await?;
    let Some(plan) = survey.plan() else { return Ok(Round::Reached) };
    seen.begin(Stage::Removing, Some(plan.bytes()));
    let (freed, enough) = (seen.freed(), plan.is_enough());
    let most = if plan.is_cut() { marks.low } else { marks.high };
    work.remove(plan).await?;
    let left = survey.total().saturating_sub(seen.freed() - freed);
    Ok(match (left <= most, enough) {
        (true, _) => Round::Reached,
        (false, true) => Round::Short,
        (false, false) => Round::Stuck,
    })
}

/// Removes what uploads that broke with their process have left.
async fn reap(store: &Store, terms: &Terms, seen: &Counters) -> Result<(), Error> {
    if !terms.dry_run {
        let age = terms.rules.leftover_age;
        let gone = retry::patiently(|| store.reap(&terms.places, age)).await?;
        seen.reaped(gone);
    }
    Ok(())
}

/// A period, and a tenth more or less, so that many that began together do not stay together.
pub fn jittered(every: Duration) -> Duration {
    every.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::{Prefix, Refusal, jittered, layout, places};
    use std::time::Duration;

    fn named(names: &[&str]) -> Vec<Prefix> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn places_are_swept_once() {
        assert_eq!(places(Vec::new()), Ok(layout::caches()));
        assert_eq!(places(named(&["please", ""])), Ok(layout::caches()));
        let found =
            places(named(&["please/ab", "artifact/linux_amd64", "please", "please/cd", "artifact/linux_a"]));
        assert_eq!(found, Ok(named(&["artifact/linux_a", "artifact/linux_amd64", "please"])));
    }

    #[test]
    fn half_an_entry_is_refused() {
        let half = "artifact/linux_amd64/p/t/AAECAwQFBgcICQoLDA0ODxAREhM/gen";
        for half in [half, "wheels/shared/a/.records", "wheels/built/e/a/.records"] {
            assert_eq!(places(named(&[half])), Err(Refusal::WithinEntry(half.parse().unwrap())));
        }
        assert_eq!(places(named(&["wheels/shared/a"])), Ok(named(&["wheels/shared/a"])));
    }

    #[test]
    fn jitter_stays_near() {
        let hour = Duration::from_secs(3600);
        for _ in 0..1000 {
            assert!((hour.mul_f64(0.9)..=hour.mul_f64(1.1)).contains(&jittered(hour)));
        }
    }
}
