//! What a Store that broke off has left: files that say they came as part of a unit, and no manifest that tells of them.
//!
//! Whether a file says so is in its mark, which no listing shows: it takes a request to know. Only ever looks.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::retry;
use crate::domain::entries::Entry;
use crate::store::{self, Key, Store};

/// How many files are looked at at a time.
const AT_ONCE: usize = 8;

/// A file of a unit that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leftover {
    pub(super) key: Key,
    /// Bytes.
    pub(super) size: u64,
}

/// Which files of an entry without a manifest count as nothing. One request where the first file is no leftover, since files
/// that came one by one are most of them; else one a file.
pub(super) async fn of(store: &Store, entry: &Entry) -> Result<Vec<Leftover>, store::Error> {
    let Some((first, rest)) = entry.keys.split_first() else { return Ok(Vec::new()) };
    let Some(found) = look(store, entry, first).await? else { return Ok(Vec::new()) };
    let rest = stream::iter(rest).map(|key| look(store, entry, key)).buffered(AT_ONCE);
    let rest: Vec<Option<Leftover>> = rest.try_collect().await?;
    Ok(std::iter::once(found).chain(rest.into_iter().flatten()).collect())
}

async fn look(store: &Store, entry: &Entry, key: &Key) -> Result<Option<Leftover>, store::Error> {
    let meta = retry::patiently(|| store.head(key)).await?;
    // Written again since it was listed: somebody's Store is under way.
    let meta = meta.filter(|meta| meta.mark.is_some() && meta.modified <= entry.used);
    Ok(meta.map(|meta| Leftover { key: key.clone(), size: meta.size }))
}
