//! Which keys stand and fall together: of which entry a key is, and which part of it.
//!
//! The one place that says so. Whoever walks the store for whole entries ([`crate::domain::entries`]) asks only this, so a
//! protocol that brings keys of its own adds its line to [`member`] and nothing elsewhere.

use super::{ARTIFACT, EntryKey, Stored, WheelKey, entry, parse, wheels};
use crate::store::{Key, Prefix};

/// What of its entry a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// What makes the rest an entry: a manifest, a record. Written last, deleted first.
    Head,
    /// What the entry is kept for.
    Body,
    /// What is of no use without a head or body.
    Sidecar,
}

/// A key's place in its entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    /// The entry's name: two keys are of one entry where these are the same.
    pub entry: String,
    /// Where all keys of the entry lie, perhaps with others'; `None` where the key is all of it.
    pub within: Option<Prefix>,
    /// What the key is to its entry.
    pub part: Part,
}

/// Of which entry a key is. One that nothing is known of is an entry by itself.
pub fn member(key: &Key) -> Member {
    if let Some(Stored::Wheel(held)) = parse(key) {
        return of_wheel(key, &held);
    }
    let part = match parse(key) {
        Some(Stored::Artifact(file)) => Some((file.entry(), Part::Body)),
        Some(Stored::Manifest(of)) => Some((of, Part::Head)),
        Some(Stored::Please(_) | Stored::Wheel(_)) | None => None,
    };
    match part {
        Some((of, part)) => {
            let place = entry(&of);
            Member { entry: place.as_str().to_owned(), within: Some(place), part }
        }
        None => Member { entry: key.as_str().to_owned(), within: None, part: Part::Body },
    }
}

/// A distribution goes with its record, metadata and yank marker. They lie in two places of their project.
fn of_wheel(key: &Key, held: &WheelKey) -> Member {
    let alone = || Member { entry: key.as_str().to_owned(), within: None, part: Part::Body };
    let WheelKey::File(index, filename, part) = held else { return alone() };
    let part = match part {
        wheels::Part::Record => Part::Head,
        wheels::Part::Content => Part::Body,
        wheels::Part::Metadata | wheels::Part::Yank => Part::Sidecar,
    };
    let entry = wheels::file(index, filename, wheels::Part::Content).as_str().to_owned();
    Member { entry, within: Some(wheels::project(index, filename.project())), part }
}

/// Whether a place cuts through an entry, so that walking it sees only some of the entry's keys.
pub fn is_inside_entry(place: &Prefix) -> bool {
    let within = format!("{place}x").parse().ok().and_then(|key| member(&key).within);
    within.is_some_and(|entry| entry.as_str().len() < place.as_str().len()) || wheels::is_among_records(place)
}

/// The artifact entry that goes by this [`Member::entry`]; `None` where that is of something else.
pub fn entry_named(name: &str) -> Option<EntryKey> {
    name.strip_prefix(ARTIFACT)?.strip_prefix('/')?.strip_suffix('/')?.parse().ok()
}

/// The places that lie within no other of them, in order.
pub fn outermost(mut places: Vec<Prefix>) -> Vec<Prefix> {
    places.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    places.dedup_by(|inner, outer| inner.as_str().starts_with(outer.as_str()));
    places
}

#[cfg(test)]
mod tests {
    use super::{Member, Part, entry_named, is_inside_entry, member, outermost};
    use crate::store::Prefix;

    const H20: &str = "AAECAwQFBgcICQoLDA0ODxAREhM";
    const H8: &str = "dGVzdF9rZXk1";

    fn of(text: &str) -> (String, bool, Part) {
        let key = text.replace('@', H20).replace('$', H8).parse().unwrap();
        let Member { entry, within, part } = member(&key);
        (entry.replace(H20, "@").replace(H8, "$"), within.is_some(), part)
    }

    #[test]
    fn keys_know_their_entry() {
        for (key, entry, many, part) in [
            ("artifact/linux_amd64/p/t/@/a", "artifact/linux_amd64/p/t/@/", true, Part::Body),
            ("artifact/linux_amd64/p/t/@/gen/a", "artifact/linux_amd64/p/t/@/", true, Part::Body),
            ("artifact/linux_amd64/p/t/@/.larder", "artifact/linux_amd64/p/t/@/", true, Part::Head),
            (
                "artifact/linux_amd64/p/t/@/.larder/x",
                "artifact/linux_amd64/p/t/@/.larder/x",
                false,
                Part::Body,
            ),
            ("artifact/linux_amd64/t/$/p/x/@/a", "artifact/linux_amd64/t/$/p/x/@/", true, Part::Body),
            ("artifact/linux_amd64/p/t/a", "artifact/linux_amd64/p/t/a", false, Part::Body),
            ("please/ab/abababababababab", "please/ab/abababababababab", false, Part::Body),
            ("notes/readme", "notes/readme", false, Part::Body),
            ("wheels/shared/a/.snapshot", "wheels/shared/a/.snapshot", false, Part::Body),
            ("wheels/shared/a/a-1.tar.gz", "wheels/shared/a/a-1.tar.gz", true, Part::Body),
            ("wheels/shared/a/a-1.tar.gz.metadata", "wheels/shared/a/a-1.tar.gz", true, Part::Sidecar),
            ("wheels/shared/a/.records/a-1.tar.gz.json", "wheels/shared/a/a-1.tar.gz", true, Part::Head),
            ("wheels/shared/a/.records/a-1.tar.gz.yank", "wheels/shared/a/a-1.tar.gz", true, Part::Sidecar),
        ] {
            assert_eq!(of(key), (entry.to_owned(), many, part), "{key}");
        }
    }

    #[test]
    fn names_lead_back_to_entries() {
        let key = format!("artifact/linux_amd64/p/t/{H20}/gen/a").parse().unwrap();
        let entry = entry_named(&member(&key).entry).unwrap();
        assert_eq!((entry.package(), entry.target(), entry.hash()), ("p", "t", H20));
        assert_eq!(entry_named("please/ab/abababababababab"), None);
    }

    #[test]
    fn places_within_others_are_left_out() {
        let named = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<Vec<Prefix>>();
        assert_eq!(outermost(named(&["b/c", "a", "b", "a/x/y", "ab"])), named(&["a", "ab", "b"]));
        assert_eq!(outermost(named(&["b", "", "b"])), named(&[""]));
    }

    #[test]
    fn places_within_an_entry_are_known() {
        for (place, inside) in [
            ("", false),
            ("artifact", false),
            ("artifact/linux_amd64/p/t", false),
            ("artifact/linux_amd64/p/t/@", false),
            ("artifact/linux_amd64/p/t/@/gen", true),
            ("artifact/linux_amd64/t/$/p/x", true),
            ("artifact/linux_amd64/t/$/p/x/@", false),
            ("please/ab", false),
            ("wheels/shared", false),
            ("wheels/shared/a", false),
            ("wheels/shared/a/.records", true),
            ("wheels/shared/a/.records/a-1.tar.gz.json", true),
            ("wheels/built/e/a", false),
            ("wheels/built/e/a/.records", true),
            ("wheels/built/e/.keys/ab", false),
            ("wheels/shared/a/notes", false),
            ("wheels/shared/.records", false),
        ] {
            let place = place.replace('@', H20).replace('$', H8);
            assert_eq!(is_inside_entry(&place.parse().unwrap()), inside, "{place}");
        }
    }
}
