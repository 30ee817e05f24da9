//! Names of the wheel cache: projects as PEP 503 compares them, the environments that wheels were built in and for, and
//! the indexes that hold both.
//!
//! Knows spelling only: what a name's page holds is asked elsewhere.

use std::fmt;
use std::str::FromStr;

/// Most bytes of a project's name and of an environment's: they are segments of keys, with room for what comes behind.
const MOST: usize = 128;

/// Why a text is no name. Each prints as one line that a client may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// PEP 508: letters, digits, `-`, `_` and `.`, the first and the last a letter or digit.
    #[error(
        "a project's name is letters, digits, \"-\", \"_\" and \".\", and begins and ends with a letter or digit"
    )]
    Project,
    /// Our own rule.
    #[error(
        "an environment's id is lower-case letters, digits, \".\", \"_\", \"-\" and \"+\", and begins with a letter or digit"
    )]
    Environment,
    /// Too long.
    #[error("the name is longer than {MOST} bytes")]
    Long,
}

/// A project's name, normalised (PEP 503): however it is written, it is the same value.
///
/// Invariants: 1 to 128 lower-case letters, digits and single `-`, the first and the last no `-`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectName(String);

impl ProjectName {
    /// The normalised name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProjectName {
    type Err = NameError;

    /// Takes every spelling that PEP 508 allows.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > MOST {
            return Err(NameError::Long);
        }
        let edge = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
        let inside = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
        if !edge(text.chars().next()) || !edge(text.chars().last()) || !text.chars().all(inside) {
            return Err(NameError::Project);
        }
        let mut name = String::with_capacity(text.len());
        for part in text.split(['-', '_', '.']).filter(|part| !part.is_empty()) {
            if !name.is_empty() {
                name.push('-');
            }
            name.push_str(part);
        }
        name.make_ascii_lowercase();
        Ok(Self(name))
    }
}

impl fmt::Display for ProjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An environment that wheels are built in and for: interpreter, platform, libc, image, in whatever words its users
/// choose (`cp312-linux_x86_64-glibc2.36`).
///
/// Invariants: 1 to 128 bytes of `[a-z0-9._+-]`, the first a letter or digit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvironmentId(String);

impl FromStr for EnvironmentId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > MOST {
            return Err(NameError::Long);
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let good = text.bytes().next().is_some_and(plain)
            && text.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-' | b'+'));
        if good { Ok(Self(text.to_owned())) } else { Err(NameError::Environment) }
    }
}

impl fmt::Display for EnvironmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of projects that is served, and uploaded to, as one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IndexName {
    /// What every machine may install: sdists, pure wheels, and wheels whose tags say where they run.
    Shared,
    /// What was built in and for one environment.
    Built(EnvironmentId),
}

impl IndexName {
    /// Whether a wheel of this platform tag may be stored: a plain `linux_*` says nothing of the libc, and some
    /// installers prefer it to a manylinux wheel that would have run.
    pub fn takes_platform(&self, tag: &str) -> bool {
        match self {
            Self::Shared => !tag.to_ascii_lowercase().starts_with("linux_"),
            Self::Built(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{EnvironmentId, NameError, ProjectName};
    use proptest::prelude::*;

    #[test]
    fn every_spelling_is_one_name() {
        for (text, name) in [
            ("Foo.Bar_baz", "foo-bar-baz"),
            ("foo--_.bar", "foo-bar"),
            ("A", "a"),
            ("zope.interface", "zope-interface"),
            ("3to2", "3to2"),
        ] {
            assert_eq!(text.parse::<ProjectName>().unwrap().as_str(), name);
        }
        for text in ["", "-a", "a-", "_", "a b", "a/b", "..", "é", "a\n", "a;b", "a\u{17f}"] {
            assert_eq!(text.parse::<ProjectName>(), Err(NameError::Project), "{text:?}");
        }
        assert_eq!("a".repeat(129).parse::<ProjectName>(), Err(NameError::Long));
    }

    #[test]
    fn environments() {
        for (text, good) in [
            ("cp312-linux_x86_64-glibc2.36", true),
            ("a+b", true),
            ("", false),
            (".a", false),
            ("A", false),
            ("a/b", false),
            ("..", false),
            ("-a", false),
        ] {
            assert_eq!(text.parse::<EnvironmentId>().is_ok(), good, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn normal_names_stay_as_they_are(text in "[A-Za-z0-9._-]{1,20}") {
            if let Ok(name) = text.parse::<ProjectName>() {
                prop_assert_eq!(name.as_str().parse::<ProjectName>(), Ok(name.clone()));
                prop_assert_eq!(text.to_ascii_uppercase().parse::<ProjectName>(), Ok(name.clone()));
                prop_assert!(!name.as_str().contains("--") && !name.as_str().contains(['.', '_']));
            }
        }

        #[test]
        fn no_input_panics(text in any::<String>()) {
            prop_assert!(text.parse::<ProjectName>().is_err() || text.is_ascii());
            if let Ok(environment) = text.parse::<EnvironmentId>() {
                prop_assert_eq!(environment.to_string(), text);
            }
        }
    }
}
