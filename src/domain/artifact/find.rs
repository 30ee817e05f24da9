//! Finding the hash in a path: the one place that knows where it is.
//!
//! Refuses what is ambiguous, never guesses.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

#[cfg(doc)]
use super::EntryKey;
use super::os::is_os_name;
use super::{ArtifactError, KeyError, MANIFEST, MAX_PATH, check_segment};

/// Where in a path things are, as byte offsets: the target's first, the hash's first, and the one behind the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Marks {
    pub(super) target: usize,
    pub(super) hash: usize,
    pub(super) end: usize,
}

/// Canonical base64 of 8 to 64 bytes: no stray bits behind the last byte, so one hash has one spelling.
///
/// Many a name is that too (`core_package` is nine bytes), and a client that cuts a target at its `#` sends paths with
/// names where a hash should be. So a hash has a capital letter, which of a million keys of 20 bytes all but one have;
/// and at lengths that real clients do not send, a digit too.
fn is_hash(segment: &str) -> bool {
    let mut room = [0; 66];
    (11..=86).contains(&segment.len())
        && segment.bytes().any(|b| b.is_ascii_uppercase())
        && (matches!(segment.len(), 27 | 43) || segment.bytes().any(|b| b.is_ascii_digit()))
        && URL_SAFE_NO_PAD.decode_slice(segment, &mut room).is_ok_and(|n| (8..=64).contains(&n))
}

#[derive(Debug, Clone, Copy)]
enum Found {
    One(Marks),
    Several,
}

/// Finds the hash, segment by segment. Real clients' 20 bytes come before 32, and these before any other length, so
/// that a target called like a short hash does not hide a real one.
#[derive(Debug, Default)]
struct Finder {
    by_rank: [Option<Found>; 3],
}

impl Finder {
    fn see(&mut self, segment: &str, marks: Marks) {
        if is_hash(segment) {
            let [twenty, thirty_two, other] = &mut self.by_rank;
            let slot = match segment.len() {
                27 => twenty,
                43 => thirty_two,
                _ => other,
            };
            *slot = Some(if slot.is_none() { Found::One(marks) } else { Found::Several });
        }
    }

    fn pick(&self) -> Result<Marks, ArtifactError> {
        match self.by_rank.iter().flatten().next() {
            Some(Found::One(marks)) => Ok(*marks),
            Some(Found::Several) => Err(ArtifactError::Ambiguous),
            None => Err(ArtifactError::NoHash),
        }
    }
}

/// Joins segments to a path and finds the hash in it. The manifest's name passes: see [`EntryKey::of`].
pub(super) fn locate<S: AsRef<str>>(
    segments: impl IntoIterator<Item = S>,
) -> Result<(String, Marks), ArtifactError> {
    let (mut text, mut finder) = (String::with_capacity(128), Finder::default());
    let (mut count, mut target) = (0_usize, 0);
    for segment in segments {
        let segment = segment.as_ref();
        check_segment(segment)?;
        match count {
            _ if segment.contains('/') => return Err(ArtifactError::Slash),
            0 if !is_os_name(segment) => return Err(ArtifactError::BadOsName),
            0 => {}
            _ => text.push('/'),
        }
        let hash = text.len();
        text.push_str(segment);
        if text.len() > MAX_PATH {
            return Err(KeyError::Long.into());
        }
        if count >= 2 {
            finder.see(segment, Marks { target, hash, end: text.len() });
        }
        (count, target) = (count + 1, hash);
    }
    if count < 3 {
        return Err(ArtifactError::TooShort);
    }
    let marks = finder.pick()?;
    // Every entry has room for its manifest.
    if marks.end + 1 + MANIFEST.len() > MAX_PATH {
        return Err(KeyError::Long.into());
    }
    Ok((text, marks))
}

/// How many leading segments of an artifact's path can only ever be directories: all before the first prefix that is
/// itself the path of a file.
pub(in crate::domain) fn directories(path: &str) -> usize {
    let (mut finder, mut start, mut target) = (Finder::default(), 0, 0);
    let parents = path.matches('/').count();
    for (index, segment) in path.split('/').take(parents).enumerate() {
        let end = start + segment.len();
        if index >= 2 {
            finder.see(segment, Marks { target, hash: start, end });
        }
        if finder.pick().is_ok_and(|marks| marks.end < end) {
            return index;
        }
        (target, start) = (start, end + 1);
    }
    parents
}
