//! The store's door: one concrete [`Store`] over a closed set of backends, and the contract that all of them keep.
//!
//! The contract is code: `tests/it/laws.rs` runs it on every backend. In short: absence is a value; a put is whole or
//! nothing, and a reader sees the old object or the new one; what was put is what comes back, checked before its last
//! byte leaves; listings are complete, ordered by bytes and exact. Knows nothing of protocols or of what keys mean.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream::{BoxStream, StreamExt};

pub use error::{Error, Kind, Op, PutError};
pub use key::{Key, KeyError, Prefix};

use crate::budget::Budget;
use crate::metrics::Metrics;
use crate::payload::{Meta, Object, Payload, Want};

mod checksum;
pub mod dir;
pub mod error;
pub mod examine;
pub mod key;
pub mod lifecycle;
pub mod s3;

/// Largest object that is written in one piece, in bytes; also the size of a part of a larger one.
pub const PART: usize = 8 * 1024 * 1024;

/// Up to this many bytes an object is read, checked and handed over in one piece.
pub const SMALL: usize = 64 * 1024;

/// Most keys of one batch of deletes (S3's limit).
pub const BATCH: usize = 1000;

/// How to write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Mode {
    /// The new object takes the place of an old one.
    #[default]
    Replace,
    /// Only where nothing is there: of several writers one wins.
    Create,
    /// Only in the place of the object with this validator: of several writers who saw the same one wins. For objects of
    /// at most [`PART`] bytes.
    Swap(String),
}

/// The conditions of a put.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Put {
    /// Replace or create.
    pub mode: Mode,
    /// How many leading segments of the key can only ever be directories: nobody can have stored an object under
    /// their names, so the store need not ask. 0 where nothing is known.
    pub settled: usize,
    /// Kept with the object, and replaced with it: [`Meta::mark`].
    pub mark: Option<String>,
}

/// How a put ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stored {
    /// The object is committed; its validator.
    Done {
        /// Opaque validator, as [`Meta::etag`].
        etag: String,
    },
    /// [`Mode::Create`], and somebody was first; [`Mode::Swap`], and it is another by now, or gone.
    Exists,
}

/// What came of making an object young.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touched {
    /// It is as young as if it had just been stored.
    Done,
    /// It was young enough, or was stored anew meanwhile.
    Young,
    /// It is not there.
    Gone,
    /// It is as old as before, though nothing failed: this store does not move the date of what is copied onto itself.
    Unmoved,
}

/// What to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Only one level: deeper keys appear once, as [`Listed::Prefix`].
    pub shallow: bool,
    /// Only what sorts behind this text (relative to the store's root).
    pub after: Option<String>,
    /// Only the first so many; unlimited where `None`.
    pub limit: Option<usize>,
    /// Where the store knows when an object was last read, and that is later, it takes the place of
    /// [`Listed::Object::modified`]. A directory's file system may know; a bucket never does.
    pub used: bool,
    /// What lies there never changes under its name, or it is no harm to hear of that late: the answer may be an earlier one, if
    /// no name has come, gone or been replaced since.
    pub immutable: bool,
}

/// One line of a listing, in byte order of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    /// An object.
    Object {
        /// Its name.
        key: Key,
        /// Its length in bytes.
        size: u64,
        /// When it was stored, or last refreshed.
        modified: SystemTime,
    },
    /// In a shallow listing: there are keys below this one.
    Prefix(Prefix),
}

#[derive(Debug)]
enum Backend {
    Dir(dir::Dir),
    S3(Arc<s3::S3>),
}

/// A place for objects. Clones are the same place.
#[derive(Debug, Clone)]
pub struct Store {
    backend: Arc<Backend>,
}

impl Store {
    /// A directory of this machine; created where it is missing.
    pub fn dir(config: dir::Config, budget: Budget, metrics: Metrics) -> Result<Self, Error> {
        let dir = dir::Dir::open(config, budget, metrics)?;
        Ok(Self { backend: Arc::new(Backend::Dir(dir)) })
    }

    /// A bucket. Reads credentials and region lazily: a bucket that cannot be reached is an error of each verb.
    pub async fn s3(config: s3::Config, budget: Budget, metrics: Metrics) -> Result<Self, Error> {
        let s3 = s3::S3::connect(config, None, budget, metrics).await?;
        Ok(Self { backend: Arc::new(Backend::S3(Arc::new(s3))) })
    }

    /// As [`Store::s3`], with credentials at hand.
    pub async fn s3_as(
        config: s3::Config,
        credentials: s3::Credentials,
        budget: Budget,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let s3 = s3::S3::connect(config, Some(credentials), budget, metrics).await?;
        Ok(Self { backend: Arc::new(Backend::S3(Arc::new(s3))) })
    }

    /// Reads an object, or as much of it as is wanted. `None` only where there is no such object.
    pub async fn get(&self, key: &Key, want: &Want) -> Result<Option<Object>, Error> {
        match &*self.backend {
            Backend::Dir(dir) => dir.get(key, want).await,
            Backend::S3(s3) => s3.get(key, want).await,
        }
    }

    /// Makes sure of an absence that only [`Store::head`] has told, and no listing will: a bucket's answer to HEAD does not
    /// say whether it is the object that is missing or the bucket.
    pub async fn confirm_absence(&self) -> Result<(), Error> {
        match &*self.backend {
            Backend::Dir(_) => Ok(()),
            Backend::S3(s3) => s3.probe().await,
        }
    }

    /// What is known of an object. `None` where there is no such object; see [`Store::confirm_absence`].
    pub async fn head(&self, key: &Key) -> Result<Option<Meta>, Error> {
        match &*self.backend {
            Backend::Dir(dir) => dir.head(key).await,
            Backend::S3(s3) => s3.head(key).await,
        }
    }

    /// Writes an object. Returns once it is committed; on any error, or when dropped, nothing of it is visible.
    pub async fn put(&self, key: &Key, payload: Payload, how: Put) -> Result<Stored, PutError> {
        match &*self.backend {
            Backend::Dir(dir) => dir.put(key, payload, how).await,
            Backend::S3(s3) => s3.put(key, payload, how).await,
        }
    }

    /// Removes objects; those that are not there count as removed. At most [`BATCH`] keys go in one request.
    pub async fn delete(&self, keys: &[Key]) -> Result<(), Error> {
        match &*self.backend {
            Backend::Dir(dir) => dir.delete(keys).await,
            Backend::S3(s3) => s3.delete(keys).await,
        }
    }

    /// Lists what is below a place, page by page as it is read. Ends after its first error.
    pub fn list(&self, prefix: &Prefix, how: Listing) -> BoxStream<'static, Result<Listed, Error>> {
        let limit = how.limit.unwrap_or(usize::MAX);
        match &*self.backend {
            Backend::Dir(dir) => dir.list(prefix, how).take(limit).boxed(),
            Backend::S3(s3) => s3.list(prefix, how).take(limit).boxed(),
        }
    }

    /// Makes an object as young as if it had just been stored. `false` where there is none.
    pub async fn touch(&self, key: &Key) -> Result<bool, Error> {
        Ok(self.touch_older(key, None).await? != Touched::Gone)
    }

    /// As [`Store::touch`], if the object was stored or refreshed before this time. Never brings back an object that was
    /// replaced or removed meanwhile.
    pub async fn refresh(&self, key: &Key, before: SystemTime) -> Result<Touched, Error> {
        self.touch_older(key, Some(before)).await
    }

    async fn touch_older(&self, key: &Key, before: Option<SystemTime>) -> Result<Touched, Error> {
        match &*self.backend {
            Backend::Dir(dir) => dir.touch(key, before).await,
            Backend::S3(s3) => s3.touch(key, before).await,
        }
    }

    /// Removes what uploads that broke with their process left behind, where it is older than `age`: in a bucket, only
    /// what was to lie within these places. Returns how many there were.
    pub async fn reap(&self, within: &[Prefix], age: Duration) -> Result<u64, Error> {
        match &*self.backend {
            Backend::Dir(dir) => dir.reap(age).await,
            Backend::S3(s3) => s3.reap(within, age).await,
        }
    }

    /// Whether the store answers.
    pub async fn probe(&self) -> Result<(), Error> {
        match &*self.backend {
            Backend::Dir(dir) => dir.probe().await,
            Backend::S3(s3) => s3.probe().await,
        }
    }

    /// Ends what is under way: open multipart uploads are aborted. For shutdown, after the last request.
    pub async fn close(&self) {
        match &*self.backend {
            Backend::Dir(_) => {}
            Backend::S3(s3) => s3.close().await,
        }
    }
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.backend {
            Backend::Dir(dir) => write!(f, "{dir}"),
            Backend::S3(s3) => write!(f, "{s3}"),
        }
    }
}
