//! The key of Please's HTTP cache from v14 on: a hash in lower-case hex.
//!
//! Knows its spelling only, not what it is the hash of: the key is of a rule's inputs, never of the stored bytes.

use std::fmt;
use std::str::FromStr;

/// Why a text is no [`CacheHash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key is not 16 to 128 lower-case hex digits, an even number of them")]
pub struct CacheHashError;

/// A cache key of 8 to 64 bytes.
///
/// Invariants: an even number of lower-case hex digits, 16 to 128 of them (real clients: 40), so one key has one
/// spelling.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheHash(String);

impl CacheHash {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first two digits, by which the layout spreads keys over directories.
    pub fn shard(&self) -> &str {
        self.0.get(..2).unwrap_or_default()
    }
}

impl FromStr for CacheHash {
    type Err = CacheHashError;

    fn from_str(text: &str) -> Result<Self, CacheHashError> {
        let good = (16..=128).contains(&text.len())
            && text.len().is_multiple_of(2)
            && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if good { Ok(Self(text.to_owned())) } else { Err(CacheHashError) }
    }
}

impl fmt::Display for CacheHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::CacheHash;
    use proptest::prelude::*;

    #[test]
    fn bounds() {
        for (text, good) in [
            ("a".repeat(40), true),
            ("0".repeat(16), true),
            ("f".repeat(128), true),
            ("a".repeat(14), false),
            ("a".repeat(130), false),
            ("a".repeat(41), false),
            ("A".repeat(40), false),
            ("g".repeat(40), false),
            (String::new(), false),
            ("ä".repeat(20), false),
        ] {
            assert_eq!(text.parse::<CacheHash>().is_ok(), good, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(text in "[0-9a-f]{10,140}") {
            if let Ok(hash) = text.parse::<CacheHash>() {
                prop_assert_eq!(hash.to_string(), text.clone());
                prop_assert_eq!(hash.shard(), &text[..2]);
            }
        }

        #[test]
        fn no_input_panics(text in any::<String>()) {
            prop_assert!(text.parse::<CacheHash>().is_err() || text.is_ascii());
        }
    }
}
