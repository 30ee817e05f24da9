//! The only spelling of bucket keys: each typed key to its [`Key`], and back.
//!
//! | key | holds |
//! |---|---|
//! | `artifact/{os_name}/{package}/{target}/{hash}/{file}` | one output of a Please rule |
//! | `artifact/{os_name}/{package}/{target}/{hash}/.larder` | the entry's manifest |
//! | `please/{first 2 hex}/{hex}` | one entry of Please v14 and later |
//! | `wheels/{index}/{project}/…` | distributions: spelled in [`wheels`] |
//!
//! A public format: changed only with a version. Never asks a store.

pub use group::{Member, Part, entry_named, is_inside_entry, member, outermost};
pub use wheels::WheelKey;

use super::artifact::{self, ArtifactKey, EntryKey, MANIFEST, OsName, TargetKey};
use super::glob::Glob;
use super::please::CacheHash;
use crate::store::{Key, Prefix};

mod group;
pub mod wheels;

/// The top-level directory of artifacts.
const ARTIFACT: &str = "artifact";

/// The top-level directory of Please's v14 entries.
const PLEASE: &str = "please";

/// What a key of the bucket is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Stored {
    /// A file of an entry.
    Artifact(ArtifactKey),
    /// The manifest of an entry.
    Manifest(EntryKey),
    /// An entry of Please v14 and later.
    Please(CacheHash),
    /// Something of the wheel cache.
    Wheel(WheelKey),
}

impl Stored {
    /// The artifact entry that it belongs to.
    pub fn entry(&self) -> Option<EntryKey> {
        match self {
            Self::Artifact(key) => Some(key.entry()),
            Self::Manifest(entry) => Some(entry.clone()),
            Self::Please(_) | Self::Wheel(_) => None,
        }
    }
}

fn key(text: String) -> Key {
    match Key::try_from(text) {
        Ok(key) => key,
        Err(_) => unreachable!("typed keys hold what a key may hold, and are short enough"),
    }
}

/// Where a file of an entry is.
pub fn artifact(file: &ArtifactKey) -> Key {
    key(format!("{ARTIFACT}/{file}"))
}

/// Where an entry's manifest is.
pub fn manifest(entry: &EntryKey) -> Key {
    key(format!("{ARTIFACT}/{entry}/{MANIFEST}"))
}

/// Where an entry of Please v14 is.
pub fn please(hash: &CacheHash) -> Key {
    key(format!("{PLEASE}/{}/{hash}", hash.shard()))
}

/// Everything of an entry. May hold files of *other* entries too, where a short hash is followed by a longer one: ask
/// [`parse`] and [`ArtifactKey::is_of`].
pub fn entry(entry: &EntryKey) -> Prefix {
    Prefix::below(&key(format!("{ARTIFACT}/{entry}")))
}

/// Everything below a name, were it a directory.
pub fn directory(name: &ArtifactKey) -> Prefix {
    Prefix::below(&artifact(name))
}

/// The smallest place that holds everything which a glob can take.
pub fn glob(of: &EntryKey, glob: &Glob) -> Prefix {
    match glob.literal_prefix() {
        "" => entry(of),
        // A glob that was not part of a path may be too long for a key: then the entry is all that can be said.
        below => Key::try_from(format!("{ARTIFACT}/{of}/{below}"))
            .map_or_else(|_| entry(of), |k| Prefix::below(&k)),
    }
}

/// Everything of a target. Holds other targets too, where its package has one of its name: ask [`parse`] and
/// [`TargetKey::takes`].
pub fn target(target: &TargetKey) -> Prefix {
    Prefix::below(&key(format!("{ARTIFACT}/{target}")))
}

/// Everything of the package that an entry is of, and of the packages below it.
pub fn package(of: &EntryKey) -> Prefix {
    let name = [of.os().as_str(), of.package()].join("/");
    Prefix::below(&key(format!("{ARTIFACT}/{}", name.trim_end_matches('/'))))
}

/// Everything of an operating system.
pub fn os(os: &OsName) -> Prefix {
    Prefix::below(&key(format!("{ARTIFACT}/{os}")))
}

/// All artifacts.
pub fn artifacts() -> Prefix {
    Prefix::below(&key(ARTIFACT.to_owned()))
}

/// All entries of Please v14 and later.
pub fn pleases() -> Prefix {
    Prefix::below(&key(PLEASE.to_owned()))
}

/// The places of what is made again where it is missed. Distributions are no such thing: who published them may be gone.
pub fn caches() -> Vec<Prefix> {
    vec![artifacts(), pleases()]
}

/// Every place that Larder writes to.
pub fn rooms() -> Vec<Prefix> {
    vec![artifacts(), pleases(), wheels::all()]
}

/// The operating system that a place directly below [`artifacts`] is of; `None` for any other.
pub fn os_of(place: &Prefix) -> Option<OsName> {
    let name = place.as_str().strip_prefix(ARTIFACT)?.strip_prefix('/')?;
    name.strip_suffix('/')?.parse().ok()
}

/// What a key is; `None` where Larder can never have written it.
pub fn parse(key: &Key) -> Option<Stored> {
    let (top, path) = key.as_str().split_once('/')?;
    match top {
        ARTIFACT => match path.parse() {
            Ok(file) => Some(Stored::Artifact(file)),
            Err(_) => path.strip_suffix(MANIFEST)?.strip_suffix('/')?.parse().ok().map(Stored::Manifest),
        },
        PLEASE => {
            let (shard, hex) = path.split_once('/')?;
            hex.parse().ok().filter(|hash: &CacheHash| hash.shard() == shard).map(Stored::Please)
        }
        wheels::TOP => wheels::parse(path).map(Stored::Wheel),
        _ => None,
    }
}

/// For `store::Put::settled`: how many leading segments of a key can only ever be directories. 0 where nothing is
/// known.
pub fn settled(key: &Key) -> usize {
    match parse(key) {
        Some(Stored::Artifact(_) | Stored::Manifest(_)) => {
            let path = key.as_str().split_once('/').map_or("", |(_, path)| path);
            1 + artifact::directories(path)
        }
        Some(Stored::Please(_)) => 2,
        // All but the last: no directory there has a name that a file could have.
        Some(Stored::Wheel(_)) => key.as_str().matches('/').count(),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::wheels::Part;
    use super::{
        ArtifactKey, CacheHash, EntryKey, Key, Prefix, Stored, WheelKey, artifact, artifacts, directory,
        entry, glob, manifest, os, os_of, parse, please, pleases, settled, target, wheels,
    };
    use crate::domain::wheels::IndexName;
    use proptest::prelude::*;

    const H20: &str = "AAECAwQFBgcICQoLDA0ODxAREhM";
    const H8: &str = "dGVzdF9rZXk";

    fn file(text: &str) -> ArtifactKey {
        text.replace('@', H20).parse().unwrap()
    }

    fn stored() -> impl Strategy<Value = Stored> {
        let path = "(linux|darwin)_[a-b](/[a-bA-B.#]{1,2}){1,3}/([A-D]{26}[AEIM]|[A-D]{10}[AEIM])";
        let name = "[a-c\u{fc}]{1,3}(/[a-c.]{1,3}){0,2}";
        prop_oneof![
            (path, name)
                .prop_filter_map("dots", |(p, n)| format!("{p}/{n}").parse().ok().map(Stored::Artifact)),
            path.prop_filter_map("dots", |p| p.parse().ok().map(Stored::Manifest)),
            "[ab0]{16}".prop_map(|hex| Stored::Please(hex.parse().unwrap())),
            wheel_keys().prop_map(Stored::Wheel),
        ]
    }

    /// Keys of the wheel cache.
    fn wheel_keys() -> impl Strategy<Value = WheelKey> {
        let index = prop_oneof![
            Just(IndexName::Shared),
            "[a-z0-9][a-z0-9._+-]{0,5}".prop_map(|id| IndexName::Built(id.parse().unwrap())),
        ];
        let name = "[ab][ab._]{0,3}[ab]-[0-9](\\.[0-9])?(-py3-none-any\\.whl|\\.tar\\.gz|\\.zip)";
        let part =
            prop_oneof![Just(Part::Content), Just(Part::Metadata), Just(Part::Record), Just(Part::Yank)];
        prop_oneof![
            (index.clone(), name, part).prop_map(|(index, name, part)| WheelKey::File(
                index,
                name.parse().unwrap(),
                part
            )),
            (index.clone(), "[ab]{1,4}")
                .prop_map(|(index, name)| WheelKey::Snapshot(index, name.parse().unwrap())),
            (index, "[ab0]{64}").prop_map(|(index, hex)| WheelKey::Build(index, hex.parse().unwrap())),
        ]
    }

    fn spell(stored: &Stored) -> Key {
        match stored {
            Stored::Artifact(file) => artifact(file),
            Stored::Manifest(of) => manifest(of),
            Stored::Please(hash) => please(hash),
            Stored::Wheel(key) => wheels::spell(key),
        }
    }

    proptest! {
        #[test]
        fn keys_round_trip_and_lie_where_they_are_looked_for(one in stored(), two in stored()) {
            let key = spell(&one);
            prop_assert_eq!(parse(&key), Some(one.clone()));
            prop_assert_eq!(key == spell(&two), one == two);
            if let Some(of) = one.entry() {
                prop_assert!(entry(&of).holds(&key) && target(&of.target_key()).holds(&key));
                prop_assert!(os(&of.os()).holds(&key) && artifacts().holds(&key));
                prop_assert_eq!(os_of(&os(&of.os())), Some(of.os()));
            } else {
                prop_assert!(pleases().holds(&key) || wheels::all().holds(&key));
            }
            let all = key.as_str().split('/').count();
            prop_assert!(settled(&key) >= 2 && settled(&key) < all);
        }

        #[test]
        fn records_lie_where_they_are_looked_for(one in wheel_keys()) {
            if let WheelKey::File(index, name, part) = &one {
                let listed = wheels::records(index, name.project()).holds(&wheels::spell(&one));
                prop_assert_eq!(listed, matches!(part, Part::Record | Part::Yank));
            }
        }

        #[test]
        fn settled_parents_are_never_what_we_store(one in stored()) {
            let key = spell(&one);
            let settled = settled(&key);
            for parent in key.ancestors().filter(|k| k.as_str().split('/').count() <= settled) {
                prop_assert_eq!(parse(&parent), None);
            }
        }

        #[test]
        fn what_parses_spells_the_same(text in "(artifact|please|wheels/shared|wheels/built/e|x)(/[a-z_A-Z0-9.]{1,28}){1,6}") {
            if let Some(stored) = text.parse::<Key>().ok().as_ref().and_then(parse) {
                let spelled = spell(&stored);
                prop_assert_eq!(spelled.as_str(), text);
            }
        }
    }

    #[test]
    fn the_spelling_is_the_documented_one() {
        let a = file("linux_amd64/src/core/_x#y/@/gen/a.txt");
        let text = |place: Prefix| place.as_str().replace(H20, "@");
        assert_eq!(artifact(&a).as_str().replace(H20, "@"), "artifact/linux_amd64/src/core/_x#y/@/gen/a.txt");
        assert_eq!(
            manifest(&a.entry()).as_str().replace(H20, "@"),
            "artifact/linux_amd64/src/core/_x#y/@/.larder"
        );
        assert_eq!(text(entry(&a.entry())), "artifact/linux_amd64/src/core/_x#y/@/");
        assert_eq!(text(directory(&a)), "artifact/linux_amd64/src/core/_x#y/@/gen/a.txt/");
        assert_eq!(text(target(&a.entry().target_key())), "artifact/linux_amd64/src/core/_x#y/");
        let narrow = |pattern: &str| text(glob(&a.entry(), &pattern.parse().unwrap()));
        assert_eq!(narrow("gen/b/*.c"), "artifact/linux_amd64/src/core/_x#y/@/gen/b/");
        assert_eq!(narrow("*"), text(entry(&a.entry())));
        assert_eq!(narrow(&("abcd/".repeat(200) + "*")), text(entry(&a.entry())));
        let hash: CacheHash = "ab".repeat(20).parse().unwrap();
        assert_eq!(please(&hash).as_str(), format!("please/ab/{hash}"));
    }

    #[test]
    fn settled_stops_at_the_first_possible_file() {
        let of = |text: &str| settled(&artifact(&file(text)));
        assert_eq!(of("linux_amd64/p/x/@/a"), 5);
        assert_eq!(of("linux_amd64/p/x/@/gen/deep/a"), 5);
        // `p/x` could have been stored as a file of the short hash, before the long one followed.
        assert_eq!(of(&format!("linux_amd64/t/{H8}/p/x/@/a")), 4);
        let short: EntryKey = format!("linux_amd64/t/{H8}").parse().unwrap();
        assert_eq!(settled(&manifest(&short)), 4);
        for (text, expected) in
            [("please/ab/abababababababab", 2), ("please/ac/abababababababab", 0), ("x", 0), ("x/y", 0)]
        {
            assert_eq!(settled(&text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn the_longest_path_has_its_manifest() {
        // 1015 bytes in all; the entry leaves exactly room for `/.larder`.
        let entry = format!("linux_amd64/{}x{}/{H20}", "ppp/".repeat(240), "x".repeat(6));
        assert_eq!(entry.len(), 1015 - 8);
        let key: EntryKey = entry.parse().unwrap();
        assert_eq!(manifest(&key).as_str().len(), 1024);
        assert_eq!(artifact(&key.file("1234567").unwrap()).as_str().len(), 1024);
        assert!(key.file("12345678").is_err());
    }
}
