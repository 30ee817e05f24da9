//! What an examination of a store looks at, and what it can see: the words that the backends' probes and `doctor` share.
//!
//! A probe asks one thing, in bounded time, and says what came of it; what that means, and what is to be done about it, is
//! not decided here. Whatever a probe writes lies below one name of this examination's own ([`PLACE`]) and is removed
//! again by [`Examination::clean`], which the caller calls however [`Examination::run`] ended.

use std::time::Duration;

use super::dir;
use super::s3;

/// The top-level directory of what examinations write. Nothing that Larder serves lies there.
pub const PLACE: &str = ".larder-doctor";

/// How long one probe may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Probe {
    /// Whether the bucket answers us.
    Reach,
    /// How far the store's clock is from ours.
    Clock,
    /// Which product answers.
    Server,
    /// Whether bytes go over the network in the clear.
    Transport,
    /// Whether the bucket keeps versions.
    Versioning,
    /// Whether what is written must be kept for a while.
    Retention,
    /// The bucket's lifecycle rules.
    Rules,
    /// Whether we may list.
    List,
    /// Whether we may read.
    Read,
    /// Whether we may write.
    Write,
    /// Whether we may delete.
    Delete,
    /// Whether we may delete many at once.
    DeleteMany,
    /// Whether we may list unfinished uploads.
    Uploads,
    /// Whether we may abort uploads.
    Abort,
    /// Whether the encryption that is asked for is done.
    Encryption,
    /// Whether a write that is to create refuses to replace.
    CreateOnly,
    /// Whether a write that is to replace one version refuses another.
    ReplaceSame,
    /// Whether a copy refuses a source that has changed.
    CopySame,
    /// Whether the end of a large upload that is to create refuses to replace.
    CreateLarge,
    /// Whether bytes that fail their checksum are refused.
    ChecksumRefused,
    /// Whether the checksum comes back with the object.
    ChecksumKept,
    /// Whether our own words beside an object come back with it.
    Metadata,
    /// Whether a refreshed object is young again, and the same.
    Refresh,
    /// Whether a listing knows what was just written and deleted.
    ListFresh,
    /// Whether a listing is ordered and pages as it should.
    ListOrder,
    /// Whether a reader who has the object is told so.
    NotModified,
    /// Whether strangers may list.
    PublicList,
    /// Whether strangers may read.
    PublicRead,
    /// Whether strangers may write.
    PublicWrite,
    /// Whether the bucket's policy makes it public.
    PublicPolicy,
    /// Whether we may change lifecycle rules.
    ChangeRules,
    /// Whether we may change the bucket's policy.
    ChangePolicy,
    /// Whether all is gone that was written for this.
    Left,
    /// Whether the directory is there, or can be made.
    Root,
    /// What sort of file system it is on.
    FileSystem,
    /// Whether a file can be written there and forced to the medium.
    Stage,
    /// Whether all of it is one file system.
    OneDevice,
    /// Whether extended attributes are kept.
    Attributes,
    /// Whether times of the last reading are kept.
    AccessTimes,
    /// Room for bytes and for files.
    Room,
    /// Whether names that differ are different.
    Names,
    /// Whose the directory is, and who else may write there.
    Owner,
    /// Whether a gateway is alive.
    Alive,
    /// Whether a gateway is ready.
    Ready,
}

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// All is as it should be; what was seen.
    Well(String),
    /// It is not as it should be; what was seen.
    Wrong(String),
    /// We lack the permission; what the store said.
    Refused(String),
    /// No usable answer; why.
    Failed(String),
    /// The store knows no such thing; what it said.
    Unknown(String),
    /// Not tried; why not.
    Skipped(String),
    /// A value, to be judged.
    Fact(Fact),
}

impl Seen {
    /// Whether one may go on: what is not well is the answer.
    pub(super) fn well(self) -> Result<(), Self> {
        if matches!(self, Self::Well(_)) { Ok(()) } else { Err(self) }
    }
}

/// A value that was measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// Why there is no way into the bucket.
    NoEntry(NoEntry),
    /// Seconds that the store's clock is ahead of ours.
    Ahead(i64),
    /// Whether versions are kept, and whether we may remove one.
    Versions {
        /// New ones are kept; otherwise old ones may still be there.
        enabled: bool,
    },
    /// The lifecycle configuration as the bucket has it, XML; `None` where there is none.
    Rules(Option<String>),
    /// What of a file system is free, in percent; of files `None` where it does not count them.
    Room {
        /// Bytes.
        bytes: u64,
        /// Files.
        files: Option<u64>,
        /// Bytes that are free.
        free: u64,
    },
    /// The sort of a file system, by its number in Linux.
    FileSystem(u64),
}

/// Why there is no way into a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoEntry {
    /// Settings that lead nowhere.
    Settings(String),
    /// The host's name is not known.
    Name(String),
    /// Nobody listens there, or no way leads there.
    Connection(String),
    /// The server's certificate is not trusted, or it speaks no TLS.
    Tls(String),
    /// No answer in time.
    Slow(String),
    /// There is no such bucket.
    Bucket(String),
    /// The bucket is in another region: this one, if it was named.
    Region(Option<String>),
    /// No credentials were found.
    NoCredentials(String),
    /// The credentials are not accepted.
    Credentials(String),
    /// The clocks are too far apart for a signature to count.
    Skewed(String),
    /// Whoever answers does not speak S3.
    Foreign(String),
}

/// One probe, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What was asked.
    pub probe: Probe,
    /// What came of it.
    pub seen: Seen,
}

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Write, where what is written can be removed again. Otherwise nothing is written.
    pub write: bool,
    /// Write even where of what is removed a hidden version remains.
    pub versions: bool,
}

#[derive(Debug)]
enum Patient {
    Dir(dir::Examiner),
    S3(Box<s3::Examiner>),
}

/// An examination of one store.
#[derive(Debug)]
pub struct Examination(Patient);

impl Examination {
    /// Of a directory, which need not be there.
    pub fn dir(config: &dir::Config, depth: Depth) -> Self {
        Self(Patient::Dir(dir::Examiner::new(config, depth)))
    }

    /// Of a bucket.
    ///
    /// # Errors
    /// Where the settings lead to none.
    pub async fn s3(config: s3::Config, depth: Depth) -> Result<Self, super::Error> {
        Ok(Self(Patient::S3(Box::new(s3::Examiner::connect(config, depth).await?))))
    }

    /// Asks everything. What was seen is told as it is seen.
    pub async fn run(&self, tell: &(dyn Fn(Observation) + Sync)) {
        match &self.0 {
            Patient::Dir(dir) => dir.run(tell).await,
            Patient::S3(s3) => s3.run(tell).await,
        }
    }

    /// Removes what was written, after [`Examination::run`] has ended or was dropped, and says whether all is gone.
    pub async fn clean(&self) -> Observation {
        let seen = match &self.0 {
            Patient::Dir(dir) => dir.clean().await,
            Patient::S3(s3) => s3.clean().await,
        };
        Observation { probe: Probe::Left, seen }
    }
}
