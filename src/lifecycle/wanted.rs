//! The rules that Larder wants a bucket to have: one place, one thing done there, one name.
//!
//! Pure. Two rules never have one place and one action, so none shadows another: S3 goes by the shortest time of all rules
//! that an object is under.

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::config::Expiry;
use crate::domain::layout::{self, wheels};
use crate::domain::wheels::IndexName;
use crate::store::Prefix;

const DAY: u64 = 86_400;

/// Longest prefix that is written out in a name. S3 "LifecycleRule": an ID has up to 255 characters.
const WRITTEN: usize = 200;

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Objects go this many days after they were stored.
    Expire(u32),
    /// Multipart uploads are aborted this many days after they began.
    Uploads(u32),
    /// Versions go this many days after they were replaced or deleted, and the marks of what was deleted once nothing else
    /// is left.
    Noncurrent(u32),
}

/// One rule of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name in the bucket, by which it is known as ours.
    pub id: String,
    /// What it is about: everything whose name begins so.
    pub prefix: String,
    /// What is done.
    pub action: Action,
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, prefix, action } = self;
        match action {
            Action::Expire(days) => write!(f, "{id}: {prefix} expires after {}", plural(*days)),
            Action::Uploads(days) => {
                write!(f, "{id}: incomplete uploads to {prefix} are aborted after {}", plural(*days))
            }
            Action::Noncurrent(days) => {
                write!(f, "{id}: old versions in {prefix} expire after {}", plural(*days))
            }
        }
    }
}

/// A number of days, as people read it.
pub(super) fn plural(days: u32) -> String {
    if days == 1 { "1 day".to_owned() } else { format!("{days} days") }
}

/// A time that no rule can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{flag} is {}: rules of a bucket count in whole days, at least one (30d), or there is none (never)",
    humantime::format_duration(*time)
)]
pub struct Unfit {
    /// Which flag carries it.
    pub flag: &'static str,
    /// The time.
    pub time: Duration,
}

/// A time in days.
pub(super) fn days(flag: &'static str, time: Option<Duration>) -> Result<Option<u32>, Unfit> {
    let Some(time) = time else { return Ok(None) };
    let whole = time.as_secs().is_multiple_of(DAY) && time.subsec_nanos() == 0 && !time.is_zero();
    match u32::try_from(time.as_secs() / DAY) {
        // S3 counts in 32 bits, with a sign.
        Ok(days) if whole && days <= i32::MAX as u32 => Ok(Some(days)),
        Ok(_) | Err(_) => Err(Unfit { flag, time }),
    }
}

/// A place, how long what is in it is kept, and which flag says so.
pub(super) struct Kept {
    pub(super) name: &'static str,
    pub(super) flag: &'static str,
    pub(super) prefix: String,
    pub(super) time: Option<Duration>,
}

/// The places that expire, each by itself.
pub(super) fn kept(expiry: &Expiry, root: &Prefix) -> [Kept; 4] {
    let one = |name, flag, place: Prefix, time| Kept { name, flag, prefix: format!("{root}{place}"), time };
    [
        one("larder-artifacts", "--expire-artifacts", layout::artifacts(), expiry.artifacts),
        one("larder-please", "--expire-please", layout::pleases(), expiry.please),
        one("larder-wheels", "--expire-wheels", wheels::index(&IndexName::Shared), expiry.wheels),
        one("larder-built", "--expire-built", wheels::built(), expiry.built),
    ]
}

/// The names of our rules that are about each of our places: S3 takes one prefix a rule, and the bucket may have others'
/// uploads and versions.
const UPLOADS: [&str; 3] = ["larder-uploads-artifacts", "larder-uploads-please", "larder-uploads-wheels"];
const NONCURRENT: [&str; 3] =
    ["larder-noncurrent-artifacts", "larder-noncurrent-please", "larder-noncurrent-wheels"];

fn rooms(root: &Prefix) -> [String; 3] {
    [layout::artifacts(), layout::pleases(), wheels::all()].map(|place| format!("{root}{place}"))
}

/// A name of ours for a store at this place in its bucket: two Larders in one bucket have different ones.
pub fn id(name: &str, root: &Prefix) -> String {
    let Some(place) = root.as_str().strip_suffix('/') else { return name.to_owned() };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
    if place.len() <= WRITTEN && place.chars().all(plain) {
        return format!("{name}:{place}");
    }
    let hash = format!("{:x}", Sha256::digest(place));
    format!("{name}:#{}", hash.get(..32).unwrap_or_default())
}

/// All names that are ours, wanted or not.
pub fn ours(root: &Prefix) -> Vec<String> {
    let expiring = kept(&Expiry::default(), root).map(|kept| kept.name);
    expiring.iter().chain(&UPLOADS).chain(&NONCURRENT).map(|name| id(name, root)).collect()
}

/// The rules that a store at this place wants.
pub fn wanted(expiry: &Expiry, root: &Prefix) -> Result<Vec<Rule>, Unfit> {
    let mut rules = Vec::new();
    for kept in kept(expiry, root) {
        if let Some(days) = days(kept.flag, kept.time)? {
            let action = Action::Expire(days);
            rules.push(Rule { id: id(kept.name, root), prefix: kept.prefix, action });
        }
    }
    let uploads = days("--expire-uploads", expiry.uploads)?.map(Action::Uploads);
    let noncurrent = days("--expire-noncurrent", expiry.noncurrent)?.map(Action::Noncurrent);
    for (action, names) in [(uploads, UPLOADS), (noncurrent, NONCURRENT)] {
        let Some(action) = action else { continue };
        let each = names.into_iter().zip(rooms(root));
        rules.extend(each.map(|(name, prefix)| Rule { id: id(name, root), prefix, action }));
    }
    Ok(rules)
}

/// Whether this is the name of a rule of ours for incomplete uploads.
pub(super) fn is_uploads(rule: &str, root: &Prefix) -> bool {
    UPLOADS.iter().any(|name| id(name, root) == rule)
}

/// Whether this is the name of a rule of ours for old versions.
pub(super) fn is_noncurrent(rule: &str, root: &Prefix) -> bool {
    NONCURRENT.iter().any(|name| id(name, root) == rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Key;
    use proptest::prelude::*;

    fn root(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn the_defaults_are_these_rules() {
        let text = |place| {
            let rules = wanted(&Expiry::default(), &root(place)).unwrap();
            rules.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            text(""),
            [
                "larder-artifacts: artifact/ expires after 30 days",
                "larder-please: please/ expires after 30 days",
                "larder-built: wheels/built/ expires after 180 days",
                "larder-uploads-artifacts: incomplete uploads to artifact/ are aborted after 1 day",
                "larder-uploads-please: incomplete uploads to please/ are aborted after 1 day",
                "larder-uploads-wheels: incomplete uploads to wheels/ are aborted after 1 day",
                "larder-noncurrent-artifacts: old versions in artifact/ expire after 1 day",
                "larder-noncurrent-please: old versions in please/ expire after 1 day",
                "larder-noncurrent-wheels: old versions in wheels/ expire after 1 day",
            ]
        );
        assert_eq!(
            text("cache/team")[2],
            "larder-built:cache/team: cache/team/wheels/built/ expires after 180 days"
        );
    }

    #[test]
    fn no_rule_shadows_another() {
        let all = Expiry { wheels: Some(Duration::from_secs(400 * DAY)), ..Expiry::default() };
        let rules = wanted(&all, &root("x")).unwrap();
        let expiring: Vec<_> = rules.iter().filter(|rule| matches!(rule.action, Action::Expire(_))).collect();
        assert_eq!(expiring.len(), 4);
        for one in &expiring {
            for two in expiring.iter().filter(|two| two.id != one.id) {
                assert!(!one.prefix.starts_with(&two.prefix), "{one} {two}");
            }
        }
        let none = Expiry {
            artifacts: None,
            please: None,
            wheels: None,
            built: None,
            uploads: None,
            noncurrent: None,
        };
        assert_eq!(wanted(&none, &root("")), Ok(Vec::new()));
    }

    #[test]
    fn times_are_whole_days() {
        for (seconds, fits) in
            [(DAY, true), (30 * DAY, true), (DAY - 1, false), (DAY + 3600, false), (1, false)]
        {
            let expiry = Expiry { please: Some(Duration::from_secs(seconds)), ..Expiry::default() };
            let wanted = wanted(&expiry, &root(""));
            assert_eq!(wanted.is_ok(), fits, "{seconds}");
            if let Err(unfit) = wanted {
                assert!(unfit.to_string().starts_with("--expire-please is "), "{unfit}");
            }
        }
        let far = Duration::from_secs(DAY * (1 << 31));
        assert!(days("--x", Some(far)).is_err());
    }

    proptest! {
        #[test]
        fn names_are_short_and_of_one_place(one in "\\PC{1,60}(/\\PC{1,200}){0,4}", two in "[a-z/]{1,9}") {
            let names = |text: &str| text.parse::<Key>().ok().map(|key| ours(&Prefix::below(&key)));
            if let (Some(first), Some(second)) = (names(&one), names(&two)) {
                prop_assert!(first.iter().all(|name| name.len() <= 255 && name.is_ascii()));
                prop_assert!(one == two || first.iter().all(|name| !second.contains(name)));
                prop_assert!(first.iter().all(|name| !ours(&Prefix::root()).contains(name)));
            }
        }
    }
}
