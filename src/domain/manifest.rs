//! What an entry that came as a unit consists of: its manifest, as a value and as the bytes in the bucket.
//!
//! JSON, so that a person can read it; the format is public (`docs/format.md`) and changes only with its version. Pure:
//! never asks a store. What it says of a file is what readers hold the file to.

use std::collections::BTreeMap;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::artifact::EntryKey;
use super::digest::Sha256Digest;
use crate::store::PART;

/// The only version there is.
const VERSION: u32 = 1;
/// Files up to so many bytes may be in the manifest too.
const INLINE: usize = 16 << 10;
/// As long as all that are there take no more than this.
const INLINE_ALL: usize = 256 << 10;
/// Of so many Stores it is remembered who they came from; the last ones.
const REMEMBERED: usize = 16;

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// No JSON, or not of this form.
    #[error("the manifest cannot be read")]
    Json(#[from] serde_json::Error),
    /// Written by a later Larder.
    #[error("the manifest is of version {0}, which this Larder does not know")]
    Version(u32),
    /// A name in it is none of the entry's.
    #[error("the manifest names what cannot be a file of its entry")]
    Name,
    /// A digest or an inline file in it is damaged.
    #[error("the manifest contradicts itself")]
    Damaged,
}

/// Why two things cannot be in one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// One name would be a file and a directory.
    #[error("the name is already a directory, or lies below a file")]
    Conflict,
    /// More files than a manifest holds.
    #[error("the entry has too many files")]
    TooMany,
}

/// Who stored something, from where, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Tells one Store from all others.
    pub id: String,
    /// When, RFC 3339, UTC.
    pub at: String,
    /// The machine's name for itself, as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The address it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The user or certificate, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl Provenance {
    /// Of a Store that begins now.
    pub fn now(host: Option<String>, from: Option<String>, user: Option<String>) -> Self {
        let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Self { id: format!("{:016x}", fastrand::u64(..)), at, host, from, user }
    }
}

/// What one name of an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A file, which lies under its plain key.
    File {
        /// Length in bytes.
        size: u64,
        /// Of all of its bytes.
        sha256: Sha256Digest,
        /// Permissions, where whoever stored it knew them.
        mode: Option<u32>,
        /// The bytes themselves, where there are few.
        inline: Option<Bytes>,
    },
    /// A symbolic link, which is nothing but its line here.
    Link {
        /// Where it points, relative to its own directory.
        to: String,
    },
}

/// The manifest of an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    stored: Vec<Provenance>,
    items: BTreeMap<String, Item>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    stored: Vec<Provenance>,
    files: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    symlink: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inline: Option<String>,
}

impl Line {
    fn new(path: &str, item: &Item) -> Self {
        let mut line =
            Self { path: path.to_owned(), size: None, sha256: None, mode: None, symlink: None, inline: None };
        match item {
            Item::File { size, sha256, mode, inline } => {
                line.mode = *mode;
                line.size = Some(*size);
                line.sha256 = Some(sha256.to_string());
                line.inline = inline.as_ref().map(|bytes| STANDARD.encode(bytes));
            }
            Item::Link { to } => line.symlink = Some(to.clone()),
        }
        line
    }

    fn item(self) -> Result<(String, Item), ManifestError> {
        let item = match (self.symlink, self.size, self.sha256) {
            (Some(to), None, None) => Item::Link { to },
            (None, Some(size), Some(sha256)) => {
                let sha256 = sha256.parse().map_err(|_| ManifestError::Damaged)?;
                let inline = self.inline.map(|text| STANDARD.decode(text)).transpose();
                let inline = inline.map_err(|_| ManifestError::Damaged)?.map(Bytes::from);
                if inline.as_ref().is_some_and(|bytes| Sha256Digest::of(bytes) != sha256) {
                    return Err(ManifestError::Damaged);
                }
                Item::File { size, sha256, mode: self.mode, inline }
            }
            _ => return Err(ManifestError::Damaged),
        };
        Ok((self.path, item))
    }
}

impl Manifest {
    /// Reads the manifest of an entry.
    pub fn parse(entry: &EntryKey, bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(bytes)?;
        if version != VERSION {
            return Err(ManifestError::Version(version));
        }
        let written: Written = serde_json::from_slice(bytes)?;
        let items = written.files.into_iter().map(Line::item).collect::<Result<BTreeMap<_, _>, _>>()?;
        if items.keys().any(|path| entry.file(path).is_err()) {
            return Err(ManifestError::Name);
        }
        Ok(Self { stored: written.stored, items })
    }

    /// The bytes in the bucket.
    pub fn to_bytes(&self) -> Result<Bytes, MergeError> {
        let files = self.items.iter().map(|(path, item)| Line::new(path, item)).collect();
        let written = Written { version: VERSION, stored: self.stored.clone(), files };
        // Nothing in it can fail to be written.
        let bytes = serde_json::to_vec(&written).map_err(|_| MergeError::TooMany)?;
        if bytes.len() > PART { Err(MergeError::TooMany) } else { Ok(bytes.into()) }
    }

    /// Adds what one Store brought; of two files of one name the new one stays.
    pub fn add<'i>(
        &mut self,
        items: impl IntoIterator<Item = (&'i str, &'i Item)>,
        by: &Provenance,
    ) -> Result<(), MergeError> {
        self.items.extend(items.into_iter().map(|(path, item)| (path.to_owned(), item.clone())));
        if self.has_file_above_another() {
            return Err(MergeError::Conflict);
        }
        self.make_room();
        self.stored.push(by.clone());
        let spare = self.stored.len().saturating_sub(REMEMBERED);
        self.stored.drain(..spare);
        Ok(())
    }

    /// Whether a name lies below another. Names sort with their directory's other names between, so each is looked up.
    fn has_file_above_another(&self) -> bool {
        let above = |path: &str| {
            path.match_indices('/')
                .any(|(at, _)| path.get(..at).is_some_and(|dir| self.items.contains_key(dir)))
        };
        self.items.keys().any(|path| above(path))
    }

    /// Keeps in line what is small, as far as there is room, in the order of the names.
    fn make_room(&mut self) {
        let mut room = INLINE_ALL;
        for item in self.items.values_mut() {
            let Item::File { inline, .. } = item else { continue };
            match inline.as_ref().map(Bytes::len) {
                Some(size) if size <= INLINE && size <= room => room -= size,
                Some(_) => *inline = None,
                None => {}
            }
        }
    }

    /// Whether a Store is part of it.
    pub fn has(&self, id: &str) -> bool {
        self.stored.iter().any(|by| by.id == id)
    }

    /// What a name is.
    pub fn item(&self, path: &str) -> Option<&Item> {
        self.items.get(path)
    }

    /// All names, in order.
    pub fn items(&self) -> impl Iterator<Item = (&str, &Item)> {
        self.items.iter().map(|(path, item)| (path.as_str(), item))
    }

    /// What is below a name, were it a directory.
    pub fn below(&self, dir: &str) -> impl Iterator<Item = (&str, &Item)> {
        let within = format!("{dir}/");
        let from = self.items.range(within.clone()..);
        from.take_while(move |(path, _)| path.starts_with(&within)).map(|(path, item)| (path.as_str(), item))
    }
}

/// Whether a link at `path` leads out of its entry: it is absolute, or climbs above the entry's root on its way. It is
/// never followed; the names in it are only counted.
pub fn leads_out(path: &str, to: &str) -> bool {
    let mut depth = path.matches('/').count();
    to.starts_with('/')
        || to.split('/').any(|segment| match segment {
            ".." => match depth.checked_sub(1) {
                Some(up) => {
                    depth = up;
                    false
                }
                None => true,
            },
            "" | "." => false,
            _ => {
                depth += 1;
                false
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENTRY: &str = "linux_amd64/p/x/AAECAwQFBgcICQoLDA0ODxAREhM";

    fn entry() -> EntryKey {
        ENTRY.parse().unwrap()
    }

    fn file(path: &str, bytes: &'static [u8]) -> (String, Item) {
        let inline = Some(Bytes::from_static(bytes));
        let item =
            Item::File { size: bytes.len() as u64, sha256: Sha256Digest::of(bytes), mode: None, inline };
        (path.to_owned(), item)
    }

    fn link(path: &str, to: &str) -> (String, Item) {
        (path.to_owned(), Item::Link { to: to.to_owned() })
    }

    fn add(to: &mut Manifest, items: &[(String, Item)], by: &Provenance) -> Result<(), MergeError> {
        to.add(items.iter().map(|(path, item)| (path.as_str(), item)), by)
    }

    fn by(id: &str) -> Provenance {
        Provenance { id: id.to_owned(), ..Provenance::now(Some("ci-7".to_owned()), None, None) }
    }

    #[test]
    fn stores_add_up() {
        let mut manifest = Manifest::default();
        add(&mut manifest, &[file("a", b"1"), link("gen/l", "../a")], &by("one")).unwrap();
        add(&mut manifest, &[file("a", b"2"), file("gen/b", b"")], &by("two")).unwrap();
        let read = Manifest::parse(&entry(), &manifest.to_bytes().unwrap()).unwrap();
        assert_eq!(read, manifest);
        assert!(read.has("one") && read.has("two") && !read.has("three"));
        assert_eq!(read.items().map(|(path, _)| path).collect::<Vec<_>>(), ["a", "gen/b", "gen/l"]);
        assert_eq!(read.below("gen").count(), 2);
        assert_eq!(read.below("ge").count(), 0);
        assert_eq!(read.item("a"), Some(&file("a", b"2").1));
    }

    #[test]
    fn no_name_is_file_and_directory() {
        for second in ["a/b", "a/b/c"] {
            let mut manifest = Manifest::default();
            add(&mut manifest, &[file("a", b""), file("a.b", b""), file("a-b/c", b"")], &by("one")).unwrap();
            assert_eq!(add(&mut manifest, &[file(second, b"")], &by("two")), Err(MergeError::Conflict));
        }
    }

    #[test]
    fn who_stored_is_remembered_for_a_while() {
        let mut manifest = Manifest::default();
        (0..40).for_each(|n| add(&mut manifest, &[file("a", b"")], &by(&n.to_string())).unwrap());
        assert_eq!(manifest.stored.len(), REMEMBERED);
        assert!(manifest.has("39") && !manifest.has("3"));
    }

    #[test]
    fn only_so_much_is_in_line() {
        let big: &'static [u8] = vec![7; INLINE].leak();
        let mut manifest = Manifest::default();
        for n in 0..40 {
            add(&mut manifest, &[file(&format!("{n:02}"), big)], &by("x")).unwrap();
        }
        let inline = |item: &Item| matches!(item, Item::File { inline: Some(_), .. });
        assert_eq!(manifest.items().filter(|(_, item)| inline(item)).count(), INLINE_ALL / INLINE);
        let mut one = Manifest::default();
        add(&mut one, &[file("a", vec![7; INLINE + 1].leak())], &by("x")).unwrap();
        assert!(!inline(one.item("a").unwrap()));
    }

    #[test]
    fn damage_is_seen() {
        let mut manifest = Manifest::default();
        add(&mut manifest, &[file("a", b"abc")], &by("one")).unwrap();
        let text = String::from_utf8(manifest.to_bytes().unwrap().to_vec()).unwrap();
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("YWJj", "YWJk"),
            ("\"path\":\"a\"", "\"path\":\"../a\""),
            ("\"path\":\"a\"", "\"path\":\".larder\""),
            ("\"size\":3,", ""),
            ("}]}", "}"),
        ] {
            assert!(text.contains(from), "{text}");
            assert!(Manifest::parse(&entry(), text.replace(from, to).as_bytes()).is_err(), "{to}");
        }
    }

    #[test]
    fn links_that_lead_out_are_told() {
        for (path, to, out) in [
            ("l", "a", false),
            ("l", "../a", true),
            ("gen/l", "../a", false),
            ("gen/l", "../../a", true),
            ("gen/l", "x/../../a", false),
            ("gen/l", "x/../../../a", true),
            ("l", "/etc/passwd", true),
            ("l", "./a//b", false),
            ("l", "a/..", false),
        ] {
            assert_eq!(leads_out(path, to), out, "{path} -> {to}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Manifest::parse(&entry(), &bytes).is_err());
        }
    }
}
