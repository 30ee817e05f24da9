//! What writers may do: store, and delete one target's artifacts; what only admins may: delete everything.

use std::time::{Duration, SystemTime};

use futures_util::future::ready;
use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};

use super::artifact::{ArtifactKey, DeleteTarget, OsName, TargetKey};
use super::digest::Declared;
use super::layout;
use super::please::CacheHash;
use super::{Erases, Error, Writes};
use crate::payload::Payload;
use crate::store::{self, BATCH, Key, Listed, Listing, Mode, Prefix, Put, Store, Stored};

/// How often a deletion looks whether anything is left, or came meanwhile.
const ROUNDS: usize = 4;

/// Of files younger than this the Store may be under way still, its manifest yet to be written.
const YOUNG: Duration = Duration::from_secs(600);

/// A key, and when it was stored.
type Aged = (Key, SystemTime);

/// How a body is to be stored.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Digests that the sender declared.
    pub declared: Declared,
    /// Only where nothing is there yet.
    pub create: bool,
}

/// How storing ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Committed, with this validator.
    Stored {
        /// Opaque validator.
        etag: String,
    },
    /// Create-only, and it was there.
    Exists,
}

impl Writes {
    /// Stores one file of an entry. One request to the store for up to 8 MiB, one more for each directory in its name.
    pub async fn artifact(&self, file: &ArtifactKey, payload: Payload, terms: Terms) -> Result<Kept, Error> {
        keep(&self.store, layout::artifact(file), payload, terms).await
    }

    /// Stores one entry of Please v14 and later. One request to the store for up to 8 MiB.
    pub async fn please(&self, hash: &CacheHash, payload: Payload, terms: Terms) -> Result<Kept, Error> {
        keep(&self.store, layout::please(hash), payload, terms).await
    }

    /// Drops all versions of a target, and nothing of any other. Returns how many files went.
    pub async fn drop_target(&self, target: &DeleteTarget) -> Result<u64, Error> {
        let systems = match target.os() {
            Some(os) => vec![os],
            None => self.systems().await?,
        };
        let mut gone = 0;
        for key in systems.iter().flat_map(|os| target.on(os)) {
            gone += self.drop_versions(&key).await?;
        }
        Ok(gone)
    }

    /// Drops all versions of a target on one operating system, and nothing of any other. Returns how many files went.
    pub async fn drop_versions(&self, target: &TargetKey) -> Result<u64, Error> {
        let place = layout::target(target);
        delete(&self.store, &place, |key| {
            layout::parse(key).and_then(|stored| stored.entry()).is_some_and(|entry| target.takes(&entry))
        })
        .await
    }

    /// The operating systems that anything is stored for.
    async fn systems(&self) -> Result<Vec<OsName>, Error> {
        let level = Listing { shallow: true, ..Listing::default() };
        let lines: Vec<Listed> = self.store.list(&layout::artifacts(), level).try_collect().await?;
        Ok(lines
            .iter()
            .filter_map(|line| match line {
                Listed::Prefix(place) => layout::os_of(place),
                Listed::Object { .. } => None,
            })
            .collect())
    }
}

impl Erases {
    /// Drops every artifact. Returns how many files went.
    pub async fn artifacts(&self) -> Result<u64, Error> {
        delete(&self.store, &layout::artifacts(), |_| true).await
    }
}

fn is_manifest(key: &Key) -> bool {
    matches!(layout::parse(key), Some(layout::Stored::Manifest(_)))
}

/// Deletes what is taken below a place: manifests first, so that nobody reads half an entry as a whole one. Where there were
/// manifests, or files so young that theirs may be still to come, it looks again.
async fn delete(
    store: &Store,
    place: &Prefix,
    takes: impl Fn(&Key) -> bool + Copy + Send,
) -> Result<u64, Error> {
    let mut gone = 0;
    for _ in 0..ROUNDS {
        let first: Vec<Aged> = taken(store, place, takes).take(BATCH).try_collect().await?;
        if first.is_empty() {
            break;
        }
        if first.len() == BATCH {
            let manifests = taken(store, place, move |key| takes(key) && is_manifest(key));
            remove(store, manifests).await?;
            gone += remove(store, taken(store, place, takes)).await?;
            continue;
        }
        let again = first.iter().any(|(key, modified)| is_manifest(key) || is_young(*modified));
        let (manifests, files): (Vec<Key>, Vec<Key>) =
            first.into_iter().map(|(key, _)| key).partition(is_manifest);
        for batch in [&manifests, &files] {
            if !batch.is_empty() {
                store.delete(batch).await?;
            }
        }
        gone += files.len() as u64;
        if !again {
            break;
        }
    }
    Ok(gone)
}

fn is_young(modified: SystemTime) -> bool {
    modified.elapsed().map_or(true, |age| age < YOUNG)
}

fn taken<'t>(
    store: &Store,
    place: &Prefix,
    takes: impl Fn(&Key) -> bool + Send + 't,
) -> BoxStream<'t, Result<Aged, store::Error>> {
    let lines = store.list(place, Listing::default()).try_filter_map(move |line| {
        ready(Ok(match line {
            Listed::Object { key, modified, .. } if takes(&key) => Some((key, modified)),
            Listed::Object { .. } | Listed::Prefix(_) => None,
        }))
    });
    lines.boxed()
}

/// Deletes keys as they are listed, a batch at a time.
async fn remove(store: &Store, keys: BoxStream<'_, Result<Aged, store::Error>>) -> Result<u64, Error> {
    let mut batches = keys.try_chunks(BATCH);
    let mut gone = 0;
    while let Some(batch) = batches.next().await {
        let batch: Vec<Key> = batch.map_err(|broken| broken.1)?.into_iter().map(|(key, _)| key).collect();
        store.delete(&batch).await?;
        gone += batch.len() as u64;
    }
    Ok(gone)
}

async fn keep(store: &Store, key: Key, payload: Payload, terms: Terms) -> Result<Kept, Error> {
    let mode = if terms.create { Mode::Create } else { Mode::Replace };
    let how = Put { mode, settled: layout::settled(&key), mark: None };
    match store.put(&key, terms.declared.check(payload), how).await? {
        Stored::Done { etag } => Ok(Kept::Stored { etag }),
        Stored::Exists => Ok(Kept::Exists),
    }
}
