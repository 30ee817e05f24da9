//! `larder doctor`: what an examination of the store has seen, what it means for the cache, and how it is mended.
//!
//! Pure: observations in, a [`Report`] out. `table` says of each probe what it is called and what it means where it is not
//! well; `permission` who needs what; a few values are judged in `facts`. Asks nothing itself: that is
//! [`crate::store::examine`].

pub use permission::{Place, Role, policy};
pub use report::{Check, Permission, Report, State};

use crate::store::examine::{Fact, Observation, Probe, Seen};
use facts::Judged;
use permission::{Action, Wanted};
use table::Entry;

mod facts;
mod permission;
mod report;
mod table;

/// Judges all that was seen.
pub fn diagnose(store: &str, role: Role, place: &Place, seen: &[Observation]) -> Report {
    let unreached = seen.iter().any(|observation| match (observation.probe, &observation.seen) {
        (_, Seen::Fact(Fact::NoEntry(_))) => true,
        (Probe::Root, Seen::Failed(_) | Seen::Refused(_)) => true,
        (_, _) => false,
    });
    // Where nothing was reached nothing was written either.
    let said =
        seen.iter().filter(|of| !(unreached && of.probe == Probe::Left && matches!(of.seen, Seen::Well(_))));
    let checks = said.map(|observation| judge(role, place, observation)).collect();
    Report::new(store, role, unreached, checks)
}

fn judge(role: Role, place: &Place, observation: &Observation) -> Check {
    let Observation { probe, seen } = observation;
    let entry = table::of(*probe);
    match (seen, Action::of(*probe, place)) {
        (Seen::Fact(fact), _) => facts::judge(fact).check(&entry),
        (Seen::Skipped(why), action) => {
            let mut check = Judged::new(State::Skipped, why).check(&entry);
            check.title = title(&entry, action);
            check
        }
        (
            Seen::Well(_) | Seen::Refused(_) | Seen::Unknown(_) | Seen::Failed(_) | Seen::Wrong(_),
            Some(action),
        ) => permitted(&entry, seen, action, role, place),
        (Seen::Well(text), None) => Judged::new(State::Ok, text).check(&entry),
        (Seen::Unknown(text), None)
            if !matches!(probe, Probe::CreateOnly | Probe::ReplaceSame | Probe::CreateLarge) =>
        {
            unknown(&entry, text)
        }
        // What could not be asked for want of a permission is no fault by itself, unless the store is of no use without.
        // Nor are conditions a matter of choice: the gateway writes with them.
        (Seen::Wrong(text) | Seen::Failed(text) | Seen::Refused(text) | Seen::Unknown(text), None) => {
            let state = match (probe, seen) {
                // Hidden versions remain, and their rule takes them.
                (Probe::Left, Seen::Failed(_)) => State::Warn,
                _ => entry.wrong,
            };
            Judged { state, seen: text.clone(), means: entry.means, mend: entry.mend.to_owned() }
                .check(&entry)
        }
    }
}

fn title(entry: &Entry, action: Option<Action>) -> String {
    match action {
        None => entry.title.to_owned(),
        // The same permission, by another request.
        Some(action) if entry.name == "delete-many" => format!("{}, many at once", action.name()),
        Some(action) => action.name().to_owned(),
    }
}

/// A server that has no such thing: mostly no harm.
fn unknown(entry: &Entry, text: &str) -> Check {
    Judged::new(State::Skipped, &format!("the server knows no such thing: {text}")).check(entry)
}

/// A permission: whether it is there, and whether it should be.
fn permitted(entry: &Entry, seen: &Seen, action: Action, role: Role, place: &Place) -> Check {
    let wanted = action.wanted(role);
    let arn = action.resource(place);
    let (state, text, means, mend) = match (seen, wanted) {
        (Seen::Well(text), Wanted::Needed | Wanted::Useful) => (State::Ok, text.clone(), "", String::new()),
        (Seen::Well(text), Wanted::Unwanted) => (
            State::Warn,
            if text.is_empty() { "allowed".to_owned() } else { format!("allowed: {text}") },
            "it is more than this role needs: whoever gets hold of its credentials has it, too",
            format!(
                "take {} on {arn} away; `larder doctor --policy {role}` prints what is needed",
                action.name()
            ),
        ),
        (Seen::Refused(text), Wanted::Unwanted) => {
            (State::Ok, format!("refused, as it should be: {text}"), "", String::new())
        }
        (Seen::Refused(text), Wanted::Needed | Wanted::Useful) => (
            if wanted == Wanted::Needed { State::Fail } else { State::Warn },
            format!("refused: {text}"),
            entry.means,
            format!(
                "allow {} on {arn}; `larder doctor --policy {role}` prints a whole policy",
                action.name()
            ),
        ),
        (Seen::Unknown(text), Wanted::Useful) if action == Action::GetRules => {
            return facts::no_rules(&format!("the server has none: {text}")).check(entry);
        }
        (Seen::Unknown(text), Wanted::Useful | Wanted::Unwanted) => return unknown(entry, text),
        (Seen::Wrong(text) | Seen::Failed(text) | Seen::Unknown(text), _) => {
            let state = if wanted == Wanted::Needed { entry.wrong } else { State::Warn };
            (state, text.clone(), entry.means, entry.mend.to_owned())
        }
        (Seen::Skipped(text), _) => (State::Skipped, text.clone(), "", String::new()),
        // Judged before.
        (Seen::Fact(_), _) => (State::Skipped, String::new(), "", String::new()),
    };
    let refused = matches!((seen, state), (Seen::Refused(_), State::Fail | State::Warn));
    let mut check = Judged { state, seen: text, means, mend }.check(entry);
    check.title = title(entry, Some(action));
    check.permission = refused.then(|| Permission { action: action.name(), resource: arn });
    check
}

#[cfg(test)]
mod tests;
