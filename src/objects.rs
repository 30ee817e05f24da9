//! Looking at, fetching, adding and excising objects straight in the store: what `ls`, `get`, `put`, `rm` and `du` do.
//!
//! Side jobs of a person at a terminal. What is to be done is decided by pure functions, then done. Knows no
//! protocol; what keys mean [`crate::domain::layout`] tells it. Prints only where it is told to.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future;
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;

pub use du::{By, Du, du};
pub use list::{Ls, ls};
pub use remove::{Answer, Refusal, Rm, Sum, rm};
pub use transfer::{get, put};

use crate::payload::{BodyError, ReadError};
use crate::store::{self, Key, KeyError, Listed, Listing, Prefix, PutError, Store};

mod du;
mod list;
mod remove;
mod transfer;

/// Why a command on objects did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such object.
    #[error("there is no object {0}")]
    Absent(Key),
    /// Nothing at or below these places.
    #[error("nothing is stored under {0}")]
    Nothing(String),
    /// Only a new object was to be stored.
    #[error("there is an object {0} already")]
    Exists(Key),
    /// More than may be removed on these terms.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The person at the terminal said no.
    #[error("nothing was removed")]
    Declined,
    /// A file of this machine.
    #[error("{}", path.display())]
    File {
        /// Its name.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Standard output, or the question to the person.
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
    /// What was to be stored did not arrive whole.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// Reading broke off, or the bytes are not those that were stored.
    #[error("{key} was not read whole")]
    Read {
        /// The object.
        key: Key,
        /// What broke.
        source: ReadError,
    },
    /// Some objects could not be removed; each was named when it failed.
    #[error("{0} objects could not be removed")]
    Left(u64),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<PutError> for Error {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Body(error) => Self::Body(error),
            PutError::Store(error) => Self::Store(error),
        }
    }
}

/// What a person points at, always on path boundaries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The whole store: the empty text, or `/`.
    Everything,
    /// `a/b`: the object, and all below it.
    Tree(Key),
    /// `a/b/`: all below, but no object of that name.
    Below(Key),
}

impl Target {
    /// The one object that it names itself.
    fn object(&self) -> Option<&Key> {
        match self {
            Self::Tree(key) => Some(key),
            Self::Everything | Self::Below(_) => None,
        }
    }

    fn below(&self) -> Prefix {
        match self {
            Self::Everything => Prefix::root(),
            Self::Tree(key) | Self::Below(key) => Prefix::below(key),
        }
    }
}

impl FromStr for Target {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        match (text, text.strip_suffix('/')) {
            ("" | "/", _) => Ok(Self::Everything),
            (_, Some(name)) => name.parse().map(Self::Below),
            (name, None) => name.parse().map(Self::Tree),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => f.write_str("/"),
            Self::Tree(key) => write!(f, "{key}"),
            Self::Below(key) => write!(f, "{key}/"),
        }
    }
}

/// All that lies at a target, or one level of it. The caller stops at the first error.
fn walk<'s>(
    store: &'s Store,
    target: &'s Target,
    shallow: bool,
) -> impl Stream<Item = Result<Listed, store::Error>> + 's {
    let own = async move {
        let Some(key) = target.object() else { return Ok(None) };
        let meta = store.head(key).await?;
        Ok(meta.map(|meta| Listed::Object { key: key.clone(), size: meta.size, modified: meta.modified }))
    };
    let own = stream::once(own).filter_map(|found| future::ready(found.transpose()));
    own.chain(store.list(&target.below(), Listing { shallow, ..Listing::default() }))
}

/// An object, as `--json` shows it.
#[derive(Debug, Serialize)]
struct Shown<'k> {
    key: &'k str,
    /// Bytes.
    size: u64,
    /// RFC 3339, UTC.
    modified: String,
}

impl<'k> Shown<'k> {
    fn new(key: &'k Key, size: u64, modified: SystemTime) -> Self {
        Self { key: key.as_str(), size, modified: timestamp(modified) }
    }
}

/// The last second that RFC 3339 can write.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// RFC 3339, UTC, whole seconds. A file's time may be anything: what lies outside 1970 to 9999 is moved to the edge.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

/// Writes a value as one line of JSON.
fn json_line(out: &mut impl io::Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_parses_prints_and_parses_the_same(text in "\\PC{0,12}(/\\PC{0,8}){0,3}") {
            if let Ok(target) = text.parse::<Target>() {
                prop_assert_eq!(target.to_string().parse::<Target>(), Ok(target));
            }
        }
    }

    #[test]
    fn targets_end_on_path_boundaries() {
        let key: Key = "a/b".parse().unwrap();
        assert_eq!("a/b".parse(), Ok(Target::Tree(key.clone())));
        assert_eq!("a/b/".parse(), Ok(Target::Below(key)));
        assert_eq!("".parse(), Ok(Target::Everything));
        assert_eq!("/".parse(), Ok(Target::Everything));
        assert_eq!("a//".parse::<Target>(), Err(KeyError::Empty));
        assert_eq!("/a".parse::<Target>(), Err(KeyError::Empty));
        assert_eq!("a/../b".parse::<Target>(), Err(KeyError::Dots));
    }

    #[test]
    fn any_time_can_be_shown() {
        assert_eq!(timestamp(UNIX_EPOCH), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(UNIX_EPOCH - Duration::from_secs(9)), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(UNIX_EPOCH + LAST * 2), "9999-12-31T23:59:59Z");
    }
}
