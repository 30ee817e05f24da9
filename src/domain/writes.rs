//! What writers may do: store, and delete one target's artifacts; what only admins may: delete everything.

use futures_util::stream::{BoxStream, StreamExt as _, TryStreamExt as _};

use super::artifact::{ArtifactKey, DeleteTarget, OsName};
use super::digest::Declared;
use super::layout;
use super::please::CacheHash;
use super::{Erases, Error, Writes};
use crate::payload::Payload;
use crate::store::{BATCH, Key, Listed, Listing, Mode, Prefix, Put, Store, Stored};

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
            let versions =
                self.store.list(&layout::target(&key), Listing::default()).try_filter_map(async |line| {
                    Ok(match line {
                        Listed::Object { key: name, .. } => {
                            let entry = layout::parse(&name).and_then(|stored| stored.entry());
                            entry.is_some_and(|entry| key.takes(&entry)).then_some(name)
                        }
                        Listed::Prefix(_) => None,
                    })
                });
            gone += delete(&self.store, versions.boxed()).await?;
        }
        Ok(gone)
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
        erase(&self.store, &layout::artifacts()).await
    }
}

async fn erase(store: &Store, place: &Prefix) -> Result<u64, Error> {
    let keys = store.list(place, Listing::default()).try_filter_map(async |line| {
        Ok(match line {
            Listed::Object { key, .. } => Some(key),
            Listed::Prefix(_) => None,
        })
    });
    delete(store, keys.boxed()).await
}

/// Deletes keys as they are listed, a batch at a time.
async fn delete(store: &Store, keys: BoxStream<'_, Result<Key, crate::store::Error>>) -> Result<u64, Error> {
    let mut batches = keys.try_chunks(BATCH);
    let mut gone = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch.map_err(|broken| broken.1)?;
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
