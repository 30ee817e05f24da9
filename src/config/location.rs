//! [`Location`]: the text behind `--store`. Pure: whether anything is there is found out elsewhere.

use std::ffi::OsString;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::store::{Key, KeyError};

/// Where objects rest: a directory, or `s3://bucket[/prefix]`.
///
/// Invariants: a directory is never the empty path; a bucket's name is one that S3 takes (3 to 63 of `a-z`, `0-9`,
/// `.`, `-`; begins and ends with a letter or digit; no `..`; no IPv4 address).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location(Place);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Dir(PathBuf),
    Bucket { name: String, prefix: Option<Key> },
}

/// Why a text names no store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// A URL of another kind.
    #[error("only s3:// is known; a directory whose name looks like a URL can be written ./NAME")]
    Scheme,
    /// Not a name that S3 takes.
    #[error("the bucket's name must be 3 to 63 of a-z, 0-9, '.' and '-', as S3 has it")]
    Bucket,
    /// Keys could not begin with it.
    #[error("the prefix is no key: {0}")]
    Prefix(#[from] KeyError),
}

impl Location {
    /// From an argument, which need not be UTF-8 where it is a directory.
    pub fn from_os(text: OsString) -> Result<Self, LocationError> {
        match text.into_string() {
            Ok(text) => text.parse(),
            Err(text) => Ok(Self(Place::Dir(text.into()))),
        }
    }

    /// Takes it apart: what to do with a directory, what with a bucket and its prefix.
    pub fn fold<T>(self, dir: impl FnOnce(PathBuf) -> T, bucket: impl FnOnce(String, Option<Key>) -> T) -> T {
        match self.0 {
            Place::Dir(path) => dir(path),
            Place::Bucket { name, prefix } => bucket(name, prefix),
        }
    }
}

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>, without the rules on reserved
/// beginnings and endings: those bind whoever makes a bucket, and aliases of access points have such names.
fn is_bucket(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    (3..=63).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-'))
        && edge(name.chars().next())
        && edge(name.chars().next_back())
        && !name.contains("..")
        && name.parse::<Ipv4Addr>().is_err()
}

impl FromStr for Location {
    type Err = LocationError;

    /// A slash behind the prefix is allowed, and dropped.
    fn from_str(text: &str) -> Result<Self, LocationError> {
        if text.is_empty() {
            return Err(LocationError::Empty);
        }
        let Some(rest) = text.strip_prefix("s3://") else {
            return match text.split_once("://") {
                Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => {
                    Err(LocationError::Scheme)
                }
                Some(_) | None => Ok(Self(Place::Dir(text.into()))),
            };
        };
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if !is_bucket(name) {
            return Err(LocationError::Bucket);
        }
        let prefix = match prefix {
            "" => None,
            prefix => Some(prefix.strip_suffix('/').unwrap_or(prefix).parse()?),
        };
        Ok(Self(Place::Bucket { name: name.to_owned(), prefix }))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Dir(path) => write!(f, "{}", path.display()),
            Place::Bucket { name, prefix: None } => write!(f, "s3://{name}"),
            Place::Bucket { name, prefix: Some(prefix) } => write!(f, "s3://{name}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_parses_prints_and_parses_the_same(text in "(s3://)?\\PC{0,20}(/\\PC{0,12}){0,3}") {
            if let Ok(location) = text.parse::<Location>() {
                prop_assert_eq!(location.to_string().parse::<Location>(), Ok(location));
            }
        }

        #[test]
        fn buckets_round_trip(name in "[a-z0-9]{1,30}[a-z0-9-]{1,30}[a-z0-9]", prefix in "(/[a-z]{1,5}){0,3}") {
            let text = format!("s3://{name}{prefix}");
            prop_assert_eq!(text.parse::<Location>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_places_say_why() {
        for (text, why) in [
            ("", LocationError::Empty),
            ("gs://bucket", LocationError::Scheme),
            ("S3://bucket", LocationError::Scheme),
            ("s3://", LocationError::Bucket),
            ("s3://ab", LocationError::Bucket),
            ("s3://Bucket", LocationError::Bucket),
            ("s3://a..b", LocationError::Bucket),
            ("s3://-abc", LocationError::Bucket),
            ("s3://10.0.0.1", LocationError::Bucket),
            ("s3://bucket/a//b", LocationError::Prefix(KeyError::Empty)),
            ("s3://bucket/../b", LocationError::Prefix(KeyError::Dots)),
            ("s3://bucket//", LocationError::Prefix(KeyError::Empty)),
        ] {
            assert_eq!(text.parse::<Location>(), Err(why), "{text:?}");
        }
    }

    #[test]
    fn a_directory_may_be_any_path() {
        for text in ["cache", "/var/lib/larder", "./gs://x", "s3:x"] {
            assert_eq!(text.parse::<Location>().unwrap().0, Place::Dir(text.into()));
        }
    }
}
