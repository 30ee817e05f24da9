//! A bucket's own rules, through the store's door: read and replaced as the text that they are.
//!
//! One text for the whole bucket, others' rules among it: it is handed over as the bucket gave it, and written as it is
//! given. Never reads what the rules say.

use super::error::Error;
use super::key::Prefix;
use super::{Backend, Store};

/// Most bytes of a bucket's rules. S3 allows 1 000 rules, each with a prefix of up to 1 KiB.
pub const MOST: usize = 4 << 20;

/// Where in which bucket a store lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The bucket's name.
    pub bucket: String,
    /// What all names of the store's objects begin with.
    pub root: Prefix,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        match self.root.as_str().strip_suffix('/') {
            Some(root) => write!(f, "/{root}"),
            None => Ok(()),
        }
    }
}

/// A bucket's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lifecycle {
    /// The XML, as it came (S3 "GetBucketLifecycleConfiguration").
    pub text: String,
    /// From which size on objects are moved to other classes of storage where a rule does not say: a setting beside the
    /// text, which S3 takes back where it is not sent along.
    pub minimum: Option<String>,
}

/// What a store says when it is asked for its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rules {
    /// It cannot have any: a directory.
    Never,
    /// The server of the bucket knows no such thing. What it calls itself, and its words.
    Unsupported {
        /// `Server` of its answer.
        server: Option<String>,
        /// Code and message.
        why: String,
    },
    /// What it has.
    Are {
        /// `Server` of its answer.
        server: Option<String>,
        /// `None` where it has none.
        now: Option<Lifecycle>,
    },
}

/// How replacing a bucket's rules ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replaced {
    /// They are the new ones.
    Done,
    /// They were others by now than was expected; nothing was sent.
    Others,
    /// The server does not take these rules; its words. Nothing was changed.
    Refused(String),
}

impl Store {
    /// Where it lies; `None` for a directory.
    pub fn place(&self) -> Option<Place> {
        match &*self.backend {
            Backend::Dir(_) => None,
            Backend::S3(s3) => Some(s3.place()),
        }
    }

    /// The bucket's rules, those of others included. One request.
    pub async fn lifecycle(&self) -> Result<Rules, Error> {
        match &*self.backend {
            Backend::Dir(_) => Ok(Rules::Never),
            Backend::S3(s3) => s3.lifecycle().await,
        }
    }

    /// Replaces all of the bucket's rules, or with `None` takes them away, where they still are what was expected: asked
    /// for at once before, for S3 has no condition that closes the gap between. Two requests.
    pub async fn replace_lifecycle(
        &self,
        expected: Option<&Lifecycle>,
        new: Option<&Lifecycle>,
    ) -> Result<Replaced, Error> {
        match &*self.backend {
            Backend::Dir(_) => Ok(Replaced::Refused("a directory has no rules".to_owned())),
            Backend::S3(s3) => s3.replace_lifecycle(expected, new).await,
        }
    }

    /// Whether the bucket keeps, or once kept, what was overwritten or deleted.
    pub async fn keeps_versions(&self) -> Result<bool, Error> {
        match &*self.backend {
            Backend::Dir(_) => Ok(false),
            Backend::S3(s3) => s3.keeps_versions().await,
        }
    }
}
