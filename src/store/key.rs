//! [`Key`] and [`Prefix`]: names that every backend can hold, and no two of which any backend confuses.

use std::fmt;
use std::str::FromStr;

/// The hidden top-level directory of a directory store; no key begins with it.
pub const STAGING: &str = ".staging";

/// Most bytes of a key (S3's limit).
pub const MAX_KEY: usize = 1024;

/// Most bytes of one segment: file systems and MinIO refuse more.
pub const MAX_SEGMENT: usize = 255;

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing at all, or a slash with nothing before, between or behind.
    #[error("a path segment is empty")]
    Empty,
    /// `.` or `..`.
    #[error("a path segment is \".\" or \"..\"")]
    Dots,
    /// A control character, NUL or a backslash.
    #[error("a path segment holds a control character or a backslash")]
    Character,
    /// A segment over 255 bytes.
    #[error("a path segment is longer than 255 bytes")]
    LongSegment,
    /// More than 1 024 bytes in all.
    #[error("the name is longer than 1024 bytes")]
    Long,
    /// The name of the staging directory.
    #[error("the name is reserved")]
    Reserved,
}

/// The name of an object.
///
/// Invariants: 1 to 1 024 bytes of UTF-8; segments divided by `/`, each 1 to 255 bytes, none `.` or `..`, without
/// control characters and backslashes; the first is not [`STAGING`]. So it is a path on every file system and a
/// key in every bucket, and two keys are the same object only if they are the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

/// Checks one segment of a name.
pub fn check_segment(segment: &str) -> Result<(), KeyError> {
    match segment {
        "" => Err(KeyError::Empty),
        "." | ".." => Err(KeyError::Dots),
        _ if segment.len() > MAX_SEGMENT => Err(KeyError::LongSegment),
        _ if segment.chars().any(|c| c.is_control() || c == '\\') => Err(KeyError::Character),
        _ => Ok(()),
    }
}

fn check(text: &str) -> Result<(), KeyError> {
    if text.len() > MAX_KEY {
        return Err(KeyError::Long);
    }
    text.split('/').try_for_each(check_segment)?;
    if text.split('/').next() == Some(STAGING) {
        return Err(KeyError::Reserved);
    }
    Ok(())
}

impl Key {
    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The names above this one, longest first: `a/b/c` has `a/b` and `a`.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        self.0.rmatch_indices('/').map(|(at, _)| Self(self.0.get(..at).unwrap_or_default().to_owned()))
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        check(text).map(|()| Self(text.to_owned()))
    }
}

impl TryFrom<String> for Key {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        check(&text).map(|()| Self(text))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place in the tree of keys: the root, or everything below a key. Always on a path boundary, so `a` never
/// means `ab`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prefix(String);

impl Prefix {
    /// Everything.
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// Everything below this key.
    pub fn below(key: &Key) -> Self {
        Self(format!("{key}/"))
    }

    /// The text that every key in it begins with: empty, or ending in a slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a key lies in it.
    pub fn holds(&self, key: &Key) -> bool {
        key.as_str().starts_with(&self.0)
    }

    /// A key's name relative to this place.
    pub fn strip<'k>(&self, key: &'k Key) -> Option<&'k str> {
        key.as_str().strip_prefix(&self.0)
    }

    /// The key whose children these are; `None` for the root.
    pub fn key(&self) -> Option<Key> {
        self.0.strip_suffix('/').map(|text| Key(text.to_owned()))
    }
}

impl FromStr for Prefix {
    type Err = KeyError;

    /// The empty text and `/` are the root; a slash at the end is allowed.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        match text.strip_suffix('/').unwrap_or(text) {
            "" => Ok(Self::root()),
            name => Key::from_str(name).map(|key| Self::below(&key)),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_parses_prints_the_same(text in "\\PC{0,40}(/\\PC{0,20}){0,3}") {
            if let Ok(key) = text.parse::<Key>() {
                prop_assert_eq!(key.to_string(), text.clone());
                prop_assert!(text.split('/').all(|s| !s.is_empty() && s != "." && s != ".."));
                prop_assert!(Prefix::below(&key).key() == Some(key));
            }
        }

        #[test]
        fn no_input_panics(text in any::<String>()) {
            prop_assert_eq!(text.parse::<Key>().is_ok(), Key::try_from(text.clone()).is_ok());
            prop_assert!(text.parse::<Prefix>().is_ok() || !text.is_empty());
        }
    }

    #[test]
    fn bad_names_say_why() {
        let long = "x".repeat(256);
        let many = "abc/".repeat(300) + "x";
        for (text, why) in [
            ("", KeyError::Empty),
            ("a//b", KeyError::Empty),
            ("/a", KeyError::Empty),
            ("a/", KeyError::Empty),
            ("a/../b", KeyError::Dots),
            ("./a", KeyError::Dots),
            ("a\\b", KeyError::Character),
            ("a\0", KeyError::Character),
            ("a\n", KeyError::Character),
            (long.as_str(), KeyError::LongSegment),
            (many.as_str(), KeyError::Long),
            (".staging/x", KeyError::Reserved),
        ] {
            assert_eq!(text.parse::<Key>(), Err(why), "{text:?}");
        }
    }

    #[test]
    fn ancestors_go_up() {
        let key: Key = "a/b/c".parse().unwrap();
        assert_eq!(key.ancestors().map(|k| k.to_string()).collect::<Vec<_>>(), ["a/b", "a"]);
    }
}
