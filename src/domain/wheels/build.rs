//! Build keys: the name of a build before it is done, so that a machine which is about to build can ask whether another
//! one has built the same thing.
//!
//! A key is a digest of all that a build depends on, as its builder declares it, in a canonical form that is part of the
//! public format. Never says what a build depends on: who leaves something out gets what he asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::filename::DistributionFilename;
use super::folder::{Behind, behind};
use super::name::{EnvironmentId, IndexName};
use super::record::{Record, hex, unhex};
use crate::domain::layout::wheels::{self as layout, Part};
use crate::domain::refresh::{Place, Unit};
use crate::domain::{Error, Reads, Writes};
use crate::payload::Body;
use crate::payload::Want;
use crate::store::{Key, Mode};

/// The version of the canonical form.
const VERSION: u8 = 1;

/// A text is no build key. Prints as one line that a client may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a build key is a SHA-256: 64 lower-case hex digits")]
pub struct BuildKeyError;

/// The digest of what a build depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BuildKey([u8; 32]);

impl FromStr for BuildKey {
    type Err = BuildKeyError;

    fn from_str(text: &str) -> Result<Self, BuildKeyError> {
        let upper = text.bytes().any(|b| b.is_ascii_uppercase());
        unhex(text).filter(|_| !upper).map(Self).ok_or(BuildKeyError)
    }
}

impl fmt::Display for BuildKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// What a build depends on, in its builder's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildInputs {
    /// SHA-256 of the source archive.
    pub source: [u8; 32],
    /// `cp312`.
    pub interpreter: String,
    /// `cp312`, `abi3`, `none`.
    pub abi: String,
    /// `linux`.
    pub os: String,
    /// `x86_64`.
    pub architecture: String,
    /// `glibc2.36`, `musl1.2`; empty where there is none to tell apart.
    pub libc: String,
    /// Of the index that the wheel goes to.
    pub environment: EnvironmentId,
    /// Whatever else it depends on: compilers, build requirements, options. Names of printable ASCII.
    pub declared: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Canonical<'i> {
    abi: &'i str,
    architecture: &'i str,
    environment: String,
    inputs: &'i BTreeMap<String, String>,
    interpreter: &'i str,
    libc: &'i str,
    os: &'i str,
    source: String,
    version: u8,
}

impl BuildInputs {
    /// The text that is hashed: JSON as RFC 8785 writes it.
    pub fn canonical(&self) -> String {
        let canonical = Canonical {
            abi: &self.abi,
            architecture: &self.architecture,
            environment: self.environment.to_string(),
            inputs: &self.declared,
            interpreter: &self.interpreter,
            libc: &self.libc,
            os: &self.os,
            source: hex(&self.source),
            version: VERSION,
        };
        match serde_json::to_string(&canonical) {
            Ok(json) => json,
            Err(_) => unreachable!("texts and numbers are JSON"),
        }
    }

    /// Their key.
    pub fn key(&self) -> BuildKey {
        BuildKey(Sha256::digest(self.canonical()).into())
    }
}

/// What is stored under a key: which file is the answer.
#[derive(Debug, Serialize, Deserialize)]
struct Pointer {
    filename: String,
    sha256: String,
}

impl Writes {
    /// Notes that a file which is in its index is what a build comes to. Of several the last one counts: they answer the
    /// same question.
    pub(super) async fn note_build(
        &self,
        index: &IndexName,
        key: BuildKey,
        filename: &DistributionFilename,
        sha256: &[u8; 32],
    ) -> Result<(), Error> {
        let pointer = Pointer { filename: filename.to_string(), sha256: hex(sha256) };
        let Ok(json) = serde_json::to_vec(&pointer) else { unreachable!("texts are JSON") };
        self.small(&layout::build(index, key), json.into(), Mode::Replace).await.map(drop)
    }
}

impl Reads {
    /// What a build comes to, where somebody has done it, and the file is there still and not yanked. Three requests, one
    /// for a miss.
    pub async fn built(&self, index: &IndexName, key: BuildKey) -> Result<Option<Record>, Error> {
        let Behind::Records = behind(&self.folder, index) else { return Ok(None) };
        let Some((noted, json)) = self.small(&layout::build(index, key)).await? else { return Ok(None) };
        let Ok(Pointer { filename, sha256 }) = serde_json::from_slice(&json) else { return Ok(None) };
        let Ok(filename) = filename.parse::<DistributionFilename>() else { return Ok(None) };
        let Some((stored, json)) = self.small(&layout::file(index, &filename, Part::Record)).await? else {
            return Ok(None);
        };
        let record = Record::parse(&filename, &json).filter(|record| record.sha256 == sha256);
        let yank = self.small(&layout::file(index, &filename, Part::Yank)).await?;
        let record = record.filter(|_| yank.is_none());
        if record.is_some() {
            let place = Place::of(index);
            self.refresh.used(place, noted, || Unit::Build(index.clone(), key));
            self.refresh.used(place, stored, || Unit::Distribution(index.clone(), filename));
        }
        Ok(record)
    }

    /// A small object and its date.
    async fn small(&self, key: &Key) -> Result<Option<(SystemTime, bytes::Bytes)>, Error> {
        let Some(object) = self.store.get(key, &Want::default()).await? else { return Ok(None) };
        match object.body {
            Body::Whole(content) => Ok(Some((object.meta.modified, content.collect().await?))),
            Body::Part { .. } | Body::Unchanged | Body::Unsatisfiable => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BuildInputs, BuildKey, BuildKeyError};
    use proptest::prelude::*;

    fn inputs() -> BuildInputs {
        BuildInputs {
            source: [0xab; 32],
            interpreter: "cp312".to_owned(),
            abi: "cp312".to_owned(),
            os: "linux".to_owned(),
            architecture: "x86_64".to_owned(),
            libc: "glibc2.36".to_owned(),
            environment: "cp312-debian12".parse().unwrap(),
            declared: [("cc", "gcc 12 \"é\""), ("build", "setuptools==75\n")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        }
    }

    #[test]
    fn the_canonical_form_is_the_documented_one() {
        let source = "ab".repeat(32);
        let expected = format!(
            "{{\"abi\":\"cp312\",\"architecture\":\"x86_64\",\"environment\":\"cp312-debian12\",\
             \"inputs\":{{\"build\":\"setuptools==75\\n\",\"cc\":\"gcc 12 \\\"é\\\"\"}},\"interpreter\":\"cp312\",\
             \"libc\":\"glibc2.36\",\"os\":\"linux\",\"source\":\"{source}\",\"version\":1}}"
        );
        assert_eq!(inputs().canonical(), expected);
        assert_eq!(
            inputs().key().to_string(),
            "e1ed9c36ab9b6cdf6ac86bb77be47fa80a2d149b8e4ea3aa52d3245a65d9ea02"
        );
    }

    #[test]
    fn everything_counts() {
        let change = |change: fn(&mut BuildInputs)| {
            let mut inputs = inputs();
            change(&mut inputs);
            inputs.key()
        };
        let mut keys = vec![
            inputs().key(),
            change(|it| it.source = [0; 32]),
            change(|it| it.interpreter.push('t')),
            change(|it| it.abi.push('t')),
            change(|it| it.os.push('t')),
            change(|it| it.architecture.push('t')),
            change(|it| it.libc.push('t')),
            change(|it| it.environment = "e".parse().unwrap()),
            change(|it| drop(it.declared.remove("cc"))),
        ];
        let all = keys.len();
        keys.sort_by_key(BuildKey::to_string);
        keys.dedup();
        assert_eq!(keys.len(), all);
    }

    proptest! {
        #[test]
        fn keys_round_trip(bytes in any::<[u8; 32]>()) {
            let key = BuildKey(bytes);
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }

        #[test]
        fn others_are_refused(text in "[0-9A-Fg-z]{0,70}") {
            prop_assume!(text.len() != 64 || text.bytes().any(|b| !b.is_ascii_digit()));
            prop_assert_eq!(text.parse::<BuildKey>(), Err(BuildKeyError));
        }
    }
}
