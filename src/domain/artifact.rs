//! What a Please artifact is called: operating system, package, target, hash and file, parsed out of one path.
//!
//! Pure values: never asks a store, never repairs a name.

use std::fmt;
use std::str::FromStr;

pub use crate::store::key::{KeyError, check_segment};
pub use delete::DeleteTarget;
pub(super) use find::directories;
pub use os::OsName;

use find::{Marks, locate};
use os::is_os_name;

use super::glob::{self, Glob, GlobError};
use crate::store::key::MAX_KEY;

mod delete;
mod find;
mod os;

/// The name that an entry's manifest has among its files; no file can be called that.
pub const MANIFEST: &str = ".larder";

/// Most bytes of an artifact's path: what [`MAX_KEY`] leaves beside the layout's `artifact/`.
pub const MAX_PATH: usize = MAX_KEY - "artifact/".len();

/// Why a path names no artifact. Each prints as one line that a client may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ArtifactError {
    /// Fewer segments than an entry has.
    #[error("the path is not {{os_name}}/{{package}}/{{target}}/{{hash}}/{{file}}")]
    TooShort,
    /// The first segment is no [`OsName`].
    #[error("the first segment is not an os name like linux_amd64")]
    BadOsName,
    /// No segment can be a hash.
    #[error("no path segment is a hash (8 to 64 bytes in base64's URL alphabet, without padding)")]
    NoHash,
    /// Several segments can be the hash, or a name would be read as another entry's.
    #[error("more than one path segment could be the hash")]
    Ambiguous,
    /// The name is the manifest's.
    #[error("the file name is reserved")]
    Reserved,
    /// The path ends at the hash, where a file has to be named.
    #[error("the path names no file")]
    NoFile,
    /// The path goes on behind the hash, where only an entry can be named.
    #[error("the path names a file, not an entry")]
    File,
    /// No target behind the os name.
    #[error("the path names no target")]
    NoTarget,
    /// A slash inside what was handed over as one segment.
    #[error("a path segment holds a slash")]
    Slash,
    /// The file part looks like a glob and is none.
    #[error(transparent)]
    Glob(GlobError),
    /// A segment, or the whole, is no name that every store can hold.
    #[error(transparent)]
    Segment(#[from] KeyError),
}

impl ArtifactError {
    /// Whether the path is well-formed but nothing can ever be stored there, so that reading it is a plain miss. Real
    /// clients send such paths: a target with `#` in its name arrives cut off, without hash and file.
    pub const fn is_absent(self) -> bool {
        match self {
            Self::TooShort | Self::NoHash | Self::Reserved => true,
            Self::BadOsName
            | Self::Ambiguous
            | Self::NoFile
            | Self::File
            | Self::NoTarget
            | Self::Slash
            | Self::Glob(_)
            | Self::Segment(_) => false,
        }
    }
}

fn cut(text: &str, from: usize, to: usize) -> &str {
    text.get(from..to).unwrap_or_default()
}

/// What is between the os name and the target; empty for the repository's root.
fn package(text: &str, target: usize) -> &str {
    let os = text.find('/').unwrap_or_default();
    cut(text, os + 1, target.saturating_sub(1))
}

/// A path below `/artifact/`: an entry, and perhaps something in it.
///
/// Invariants: an [`OsName`], any number of package segments, a target, exactly one segment that is the hash, any
/// number of file segments of which the first is not [`MANIFEST`]; every segment and the whole fit a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ArtifactPath {
    text: String,
    marks: Marks,
}

/// What a reader asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All files of an entry.
    Entry(EntryKey),
    /// One name: a file, or a directory with files below it.
    Name(ArtifactKey),
    /// The files of an entry that a shell glob matches, or that lie below a directory that it matches.
    Glob(EntryKey, Glob),
}

impl ArtifactPath {
    /// A path from its decoded segments.
    ///
    /// # Errors
    /// The first thing that is wrong with it; of several faults which one is not promised.
    pub fn parse<S: AsRef<str>>(segments: impl IntoIterator<Item = S>) -> Result<Self, ArtifactError> {
        let (text, marks) = locate(segments)?;
        let path = Self { text, marks };
        if path.file().split('/').next() == Some(MANIFEST) { Err(ArtifactError::Reserved) } else { Ok(path) }
    }

    fn file(&self) -> &str {
        cut(&self.text, self.marks.end + 1, self.text.len())
    }

    /// The entry alone.
    pub fn entry(&self) -> EntryKey {
        EntryKey { text: cut(&self.text, 0, self.marks.end).to_owned(), marks: self.marks }
    }

    /// The one file that the path names, glob characters taken literally: what a writer means.
    ///
    /// # Errors
    /// [`ArtifactError::NoFile`] where the path ends at the hash.
    pub fn into_file(self) -> Result<ArtifactKey, ArtifactError> {
        if self.file().is_empty() { Err(ArtifactError::NoFile) } else { Ok(ArtifactKey(self)) }
    }

    /// What a reader means. A name with `*`, `?` or `[` in it is always a glob, never a file that is called that.
    ///
    /// # Errors
    /// [`ArtifactError::Glob`] where the glob is malformed.
    pub fn into_wanted(self) -> Result<Wanted, ArtifactError> {
        match self.file() {
            "" => Ok(Wanted::Entry(self.entry())),
            file if glob::is_glob(file) => {
                let pattern = file.parse().map_err(ArtifactError::Glob)?;
                Ok(Wanted::Glob(self.entry(), pattern))
            }
            _ => Ok(Wanted::Name(ArtifactKey(self))),
        }
    }
}

impl FromStr for ArtifactPath {
    type Err = ArtifactError;

    fn from_str(text: &str) -> Result<Self, ArtifactError> {
        Self::parse(text.split('/'))
    }
}

impl fmt::Display for ArtifactPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One file of an entry: an [`ArtifactPath`] with at least one file segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ArtifactKey(ArtifactPath);

impl ArtifactKey {
    /// The file's name relative to its entry, slashes kept.
    pub fn file(&self) -> &str {
        self.0.file()
    }

    /// The entry that the file belongs to.
    pub fn entry(&self) -> EntryKey {
        self.0.entry()
    }

    /// Whether the file belongs to this entry. Not the same as lying below it.
    pub fn is_of(&self, entry: &EntryKey) -> bool {
        self.0.marks == entry.marks && self.0.text.starts_with(&entry.text)
    }
}

impl FromStr for ArtifactKey {
    type Err = ArtifactError;

    fn from_str(text: &str) -> Result<Self, ArtifactError> {
        text.parse::<ArtifactPath>()?.into_file()
    }
}

impl fmt::Display for ArtifactKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The unit that is valid or not: `{os_name}/{package}/{target}/{hash}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryKey {
    text: String,
    marks: Marks,
}

impl EntryKey {
    /// The entry that a stored path belongs to, be it a file or the manifest; `None` where it is neither.
    pub fn of(path: &str) -> Option<Self> {
        let (mut text, marks) = locate(path.split('/')).ok()?;
        let below = text.len() > marks.end;
        text.truncate(marks.end);
        below.then_some(Self { text, marks })
    }

    /// Operating system and machine.
    pub fn os(&self) -> OsName {
        OsName(self.text.split('/').next().unwrap_or_default().to_owned())
    }

    /// The package; empty for the repository's root.
    pub fn package(&self) -> &str {
        package(&self.text, self.marks.target)
    }

    /// The rule's name.
    pub fn target(&self) -> &str {
        cut(&self.text, self.marks.target, self.marks.hash.saturating_sub(1))
    }

    /// The hash, as base64 text.
    pub fn hash(&self) -> &str {
        cut(&self.text, self.marks.hash, self.marks.end)
    }

    /// All hashes of the same target.
    pub fn target_key(&self) -> TargetKey {
        let text = cut(&self.text, 0, self.marks.hash.saturating_sub(1)).to_owned();
        TargetKey { text, target: self.marks.target }
    }

    /// A file of this entry.
    ///
    /// # Errors
    /// As parsing the whole path; [`ArtifactError::Ambiguous`] where the name makes it another entry's.
    pub fn file(&self, name: &str) -> Result<ArtifactKey, ArtifactError> {
        let key: ArtifactKey = format!("{self}/{name}").parse()?;
        if key.is_of(self) { Ok(key) } else { Err(ArtifactError::Ambiguous) }
    }
}

impl FromStr for EntryKey {
    type Err = ArtifactError;

    fn from_str(text: &str) -> Result<Self, ArtifactError> {
        let (text, marks) = locate(text.split('/'))?;
        if marks.end == text.len() { Ok(Self { text, marks }) } else { Err(ArtifactError::File) }
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A target on one operating system, whatever its hash: `{os_name}/{package}/{target}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetKey {
    text: String,
    target: usize,
}

impl TargetKey {
    /// Operating system and machine.
    pub fn os(&self) -> OsName {
        OsName(self.text.split('/').next().unwrap_or_default().to_owned())
    }

    /// The package; empty for the repository's root.
    pub fn package(&self) -> &str {
        package(&self.text, self.target)
    }

    /// The rule's name.
    pub fn target(&self) -> &str {
        cut(&self.text, self.target, self.text.len())
    }

    /// Whether the entry is a version of this target.
    pub fn takes(&self, entry: &EntryKey) -> bool {
        self.target == entry.marks.target
            && self.text == cut(&entry.text, 0, entry.marks.hash.saturating_sub(1))
    }
}

impl FromStr for TargetKey {
    type Err = ArtifactError;

    fn from_str(text: &str) -> Result<Self, ArtifactError> {
        if text.len() > MAX_PATH {
            return Err(KeyError::Long.into());
        }
        text.split('/').try_for_each(check_segment)?;
        match text.split('/').next() {
            Some(os) if is_os_name(os) => {}
            Some(_) | None => return Err(ArtifactError::BadOsName),
        }
        let target = text.rfind('/').ok_or(ArtifactError::NoTarget)? + 1;
        Ok(Self { text: text.to_owned(), target })
    }
}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ArtifactError, ArtifactKey, ArtifactPath, EntryKey, KeyError, MAX_PATH, TargetKey, Wanted,
        directories,
    };
    use proptest::prelude::*;

    const H20: &str = "AAECAwQFBgcICQoLDA0ODxAREhM";
    const H20B: &str = "_-ECAwQFBgcICQoLDA0ODxAREhM";
    const H32: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    const H8: &str = "dGVzdF9rZXk";

    fn parse(text: &str) -> Result<ArtifactPath, ArtifactError> {
        text.parse()
    }

    fn parts(entry: &EntryKey) -> (String, &str, &str, &str) {
        (entry.os().to_string(), entry.package(), entry.target(), entry.hash())
    }

    #[test]
    fn the_hash_is_found_in_the_right_place() {
        for (path, package, target, hash, file) in [
            (
                format!("linux_amd64/src/core/_core#srcs/{H20}/gen/a.txt"),
                "src/core",
                "_core#srcs",
                H20,
                "gen/a.txt",
            ),
            (format!("linux_amd64/x/{H20}/a"), "", "x", H20, "a"),
            (format!("linux_amd64/p/x/{H8}/a"), "p", "x", H8, "a"),
            (format!("linux_amd64/p/x/{H32}/a"), "p", "x", H32, "a"),
            (format!("linux_amd64/p/{H8}/{H20}/a"), "p", H8, H20, "a"),
            (
                format!("linux_amd64/p/x/{H20}/{H32}/{H8}"),
                "p",
                "x",
                H20,
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8/dGVzdF9rZXk",
            ),
            (format!("linux_amd64/{H20}/{H20B}/a"), "", H20, H20B, "a"),
            (format!("linux_amd64/p/x/{H20}"), "p", "x", H20, ""),
        ] {
            let parsed = parse(&path).unwrap();
            let entry = parsed.entry();
            assert_eq!(parts(&entry), ("linux_amd64".to_owned(), package, target, hash), "{path}");
            assert_eq!(parsed.file(), file);
            assert_eq!(parsed.to_string(), path);
            assert!(entry.target_key().takes(&entry) && entry.target_key().target() == target);
            assert_eq!(entry.target_key().package(), package);
        }
    }

    #[test]
    fn bad_paths_say_why() {
        let long = format!("linux_amd64/{}x/{H20}/a", "p/".repeat(500));
        let no_room = format!("linux_amd64/{}{H20}/a", "ppp/".repeat(244));
        let loose = H20.replace("EhM", "EhN");
        for (path, why) in [
            ("linux_amd64".to_owned(), ArtifactError::TooShort),
            ("linux_amd64/_core".to_owned(), ArtifactError::TooShort),
            ("linux_amd64/src/_core".to_owned(), ArtifactError::NoHash),
            (format!("linux_amd64/src/x/{loose}/a"), ArtifactError::NoHash),
            (format!("linux_amd64/src/x/{H20}=/a"), ArtifactError::NoHash),
            (format!("linux_amd64/{H20}/x/a"), ArtifactError::NoHash),
            (format!("linux_amd64/p/{H20}/{H20B}/a"), ArtifactError::Ambiguous),
            (format!("linux_amd64/p/x/{H20}/{H20}"), ArtifactError::Ambiguous),
            (format!("linux_amd64/p/{H32}/{H32}/a"), ArtifactError::Ambiguous),
            (format!("linux_amd64/p/{H8}/{H8}/a"), ArtifactError::Ambiguous),
            (format!("Linux_amd64/p/x/{H20}/a"), ArtifactError::BadOsName),
            (format!("linux/p/x/{H20}/a"), ArtifactError::BadOsName),
            (format!("linux_amd64/p/x/{H20}/.larder"), ArtifactError::Reserved),
            (format!("linux_amd64/p/x/{H20}/.larder/a"), ArtifactError::Reserved),
            (format!("linux_amd64/../x/{H20}/a"), ArtifactError::Segment(KeyError::Dots)),
            (format!("linux_amd64//x/{H20}/a"), ArtifactError::Segment(KeyError::Empty)),
            (format!("linux_amd64/p/x/{H20}/"), ArtifactError::Segment(KeyError::Empty)),
            (long, ArtifactError::Segment(KeyError::Long)),
            (no_room, ArtifactError::Segment(KeyError::Long)),
            (String::new(), ArtifactError::Segment(KeyError::Empty)),
        ] {
            assert_eq!(parse(&path), Err(why), "{path:?}");
            assert!(!why.to_string().contains('\n'));
        }
        assert_eq!(ArtifactPath::parse(["linux_amd64", "a/b", H20]), Err(ArtifactError::Slash));
        assert_eq!(ArtifactPath::parse([""; 0]), Err(ArtifactError::TooShort));
        assert!(parse(&format!("linux_amd64/p/x/{H20}/gen/.larder")).is_ok());
    }

    #[test]
    fn readers_and_writers_mean_different_things() {
        let path = |file: &str| parse(&format!("linux_amd64/p/x/{H20}{file}")).unwrap();
        assert!(matches!(path("").into_wanted(), Ok(Wanted::Entry(_))));
        assert!(matches!(path("/gen").into_wanted(), Ok(Wanted::Name(name)) if name.file() == "gen"));
        assert!(matches!(path("/gen/*.c").into_wanted(), Ok(Wanted::Glob(_, glob)) if glob.takes("gen/a.c")));
        assert!(matches!(path("/[").into_wanted(), Err(ArtifactError::Glob(_))));
        assert_eq!(path("/[").into_file().unwrap().file(), "[");
        assert_eq!(path("").into_file(), Err(ArtifactError::NoFile));
        let file = path("/a/b").into_file().unwrap();
        assert!(file.is_of(&file.entry()) && file.entry().file("a/b") == Ok(file.clone()));
        assert_eq!(file.to_string().parse::<EntryKey>(), Err(ArtifactError::File));
        let short: EntryKey = format!("linux_amd64/p/x/{H8}").parse().unwrap();
        assert_eq!(short.file(H20), Err(ArtifactError::NoFile), "names an entry, not a file");
        assert_eq!(short.file(&format!("{H20}/f")), Err(ArtifactError::Ambiguous));
    }

    fn segment() -> impl Strategy<Value = String> {
        prop_oneof![
            3 => "[a-zA-Z0-9_#.+-]{1,12}", 1 => Just(H20.to_owned()), 1 => Just(H20B.to_owned()),
            1 => Just(H32.to_owned()), 1 => Just(H8.to_owned()), 1 => "\\PC{1,8}", 1 => Just(".larder".to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(segments in proptest::collection::vec(segment(), 0..8)) {
            let text = format!("linux_amd64/{}", segments.join("/"));
            if let Ok(path) = parse(&text) {
                prop_assert_eq!(path.to_string(), text.clone());
                let entry = path.entry();
                prop_assert_eq!(entry.to_string().parse::<EntryKey>(), Ok(entry.clone()));
                let target = entry.target_key();
                prop_assert_eq!(target.to_string().parse::<TargetKey>(), Ok(target.clone()));
                let (os, package, name, hash) = parts(&entry);
                let slash = if package.is_empty() { "" } else { "/" };
                prop_assert_eq!(format!("{os}/{package}{slash}{name}/{hash}"), entry.to_string());
                if let Ok(file) = path.into_file() {
                    prop_assert_eq!(text.parse::<ArtifactKey>().ok(), Some(file.clone()));
                    prop_assert!(file.is_of(&entry) && EntryKey::of(&text) == Some(entry.clone()));
                    prop_assert_eq!(format!("{entry}/{}", file.file()), text);
                }
            }
        }

        #[test]
        fn settled_directories_are_no_files(segments in proptest::collection::vec(segment(), 1..9)) {
            let text = format!("linux_amd64/{}", segments.join("/"));
            let settled = directories(&text);
            let all: Vec<&str> = text.split('/').collect();
            prop_assert!(settled < all.len());
            for n in 1..=settled {
                let prefix = all[..n].join("/");
                prop_assert!(prefix.parse::<ArtifactKey>().is_err() && EntryKey::of(&prefix).is_none(), "{}", prefix);
            }
        }

        #[test]
        fn no_input_panics(text in any::<String>()) {
            prop_assert!(parse(&text).is_err() || text.len() <= MAX_PATH);
            prop_assert!(text.parse::<TargetKey>().is_err() || text.contains('/'));
        }
    }
}
