//! The record of a file: small, immutable, written last. A file is in its index if its record is there.
//!
//! A public format, JSON. Fields may be added; readers pass over those that they do not know.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::filename::DistributionFilename;
use super::inspect::Inspected;

/// What an index says of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub filename: String,
    /// Its release, as PEP 440 spells it.
    pub version: String,
    /// Its length, in bytes.
    pub size: u64,
    /// Its SHA-256, in lower-case hex.
    pub sha256: String,
    /// When it was stored: RFC 3339, UTC, microseconds.
    pub upload_time: String,
    /// Which Pythons it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requires_python: Option<String>,
    /// SHA-256 of its metadata beside it, in lower-case hex; only where they are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_sha256: Option<String>,
    /// Of which build it was said to be the outcome, by who stored it: 64 lower-case hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_key: Option<String>,
}

/// Bytes in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Bytes from hex of either case, exactly so many; `None` where it is none.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let nibbles: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let bytes: Vec<u8> = nibbles?.chunks(2).map(|pair| pair.iter().fold(0, |sum, n| sum << 4 | n)).collect();
    if text.len() == 2 * N { bytes.try_into().ok() } else { None }
}

impl Record {
    /// Of a file that was looked at, stored at this time.
    pub fn new(filename: &DistributionFilename, found: &Inspected, now: SystemTime) -> Self {
        use sha2::Digest as _;
        Self {
            filename: filename.to_string(),
            version: filename.version().to_string(),
            size: found.size,
            sha256: hex(&found.digests.sha256),
            upload_time: humantime::format_rfc3339_micros(now).to_string(),
            requires_python: found.core.as_ref().and_then(|core| core.requires_python.clone()),
            metadata_sha256: found.metadata.as_ref().map(|bytes| hex(&sha2::Sha256::digest(bytes))),
            build_key: None,
        }
    }

    /// As it is stored.
    pub fn to_json(&self) -> Vec<u8> {
        match serde_json::to_vec(self) {
            Ok(json) => json,
            Err(_) => unreachable!("texts and numbers are JSON"),
        }
    }

    /// Reads a record of this file; `None` where it is none.
    pub fn parse(filename: &DistributionFilename, json: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(json).ok()?;
        let digest = record.sha256.len() == 64
            && record.sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (digest && record.filename == filename.as_str()).then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::{Record, hex, unhex};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hex_comes_back(bytes in any::<[u8; 4]>()) {
            prop_assert_eq!(unhex::<4>(&hex(&bytes)), Some(bytes));
            prop_assert_eq!(unhex::<4>(&hex(&bytes).to_uppercase()), Some(bytes));
            prop_assert_eq!(unhex::<5>(&hex(&bytes)), None);
        }
    }

    #[test]
    fn the_format_is_the_documented_one() {
        let filename = "a-1-py3-none-any.whl".parse().unwrap();
        let sha256 = "0123456789abcdef".repeat(4);
        let text = format!(
            "{{\"filename\":\"a-1-py3-none-any.whl\",\"version\":\"1\",\"size\":3,\"sha256\":\"{sha256}\",\
             \"upload_time\":\"2026-11-22T08:00:00.000000Z\",\"requires_python\":\">=3.9\"}}"
        );
        let record = Record::parse(&filename, text.as_bytes()).unwrap();
        assert_eq!(record.to_json(), text.as_bytes());
        let later = text.replace("\"size\"", "\"later\":[1],\"size\"");
        assert_eq!(Record::parse(&filename, later.as_bytes()), Some(record));
        assert_eq!(Record::parse(&"b-1-py3-none-any.whl".parse().unwrap(), text.as_bytes()), None);
        assert_eq!(Record::parse(&filename, text.replace("0123", "XXXX").as_bytes()), None);
        assert_eq!(Record::parse(&filename, b"{}"), None);
    }
}
