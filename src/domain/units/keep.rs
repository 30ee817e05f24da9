//! Storing units: files first, the manifest last, and two at once lose nothing.
//!
//! Whoever finds that the manifest changed since it was read writes those of its files again that another Store brought
//! too: so the files under the plain keys are those of whoever comes last to the manifest.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{AT_ONCE, Part, Seen, manifest};
use crate::domain::artifact::{ArtifactKey, EntryKey};
use crate::domain::digest::Sha256Digest;
use crate::domain::manifest::{Item, MergeError, Provenance};
use crate::domain::{Error, Fault, Writes, layout};
use crate::payload::{BodyError, Payload};
use crate::store::{Mode, PART, Put, Store, Stored};

/// How often a manifest that others change is tried to be changed. Sixteen at once need sixteen.
const TRIES: u32 = 64;
/// Longest pause between two tries; the first is a sixty-fourth of it.
const PAUSE: Duration = Duration::from_millis(64);
/// More bytes than this are not hashed where others wait.
const HASH_HERE: usize = 256 << 10;

/// A file or link on its way in.
struct Piece {
    file: ArtifactKey,
    /// What is to be stored under its key; nothing for a link.
    body: Option<Bytes>,
    item: Item,
}

/// A unit on its way in.
struct Coming<'u> {
    entry: &'u EntryKey,
    by: &'u Provenance,
    pieces: Vec<Piece>,
}

impl Writes {
    /// Adds files and links to an entry, as one step. Requests to the store: one a file, and two. The caller holds the
    /// budget's share of all bytes.
    ///
    /// # Errors
    /// [`Error::Conflict`] where a name would be a file and a directory at once.
    pub async fn unit(
        &self,
        entry: &EntryKey,
        parts: Vec<(ArtifactKey, Part)>,
        by: &Provenance,
    ) -> Result<(), Error> {
        let coming = Coming { entry, by, pieces: hash(parts).await? };
        let seen = manifest(&self.store, entry).await?;
        coming.joined_with(seen.as_ref())?;
        put(&self.store, coming.pieces.iter()).await?;
        let before = seen.as_ref().map(|seen| seen.modified);
        coming.commit(&self.store, seen).await?;
        if let Some(before) = before {
            self.refresh.grown(entry, before);
        }
        Ok(())
    }
}

/// Hashes bodies; off this thread where they are large.
async fn hash(parts: Vec<(ArtifactKey, Part)>) -> Result<Vec<Piece>, Error> {
    let size = |part: &Part| if let Part::File(body) = part { body.len() } else { 0 };
    let bytes: usize = parts.iter().map(|(_, part)| size(part)).sum();
    let work = move || parts.into_iter().map(|(file, part)| piece(file, part)).collect();
    if bytes <= HASH_HERE {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(cause = %error, "hashing broke off");
        Error::Store(Fault::Unavailable)
    })
}

fn piece(file: ArtifactKey, part: Part) -> Piece {
    match part {
        Part::Link(to) => Piece { file, body: None, item: Item::Link { to } },
        Part::File(body) => {
            let (size, sha256, inline) = (body.len() as u64, Sha256Digest::of(&body), Some(body.clone()));
            Piece { file, body: Some(body), item: Item::File { size, sha256, mode: None, inline } }
        }
    }
}

/// Writes files, several at a time.
async fn put(store: &Store, pieces: impl Iterator<Item = &Piece>) -> Result<(), Error> {
    let files = pieces.filter_map(|piece| match (&piece.body, &piece.item) {
        (Some(body), Item::File { sha256, .. }) => {
            Some((layout::artifact(&piece.file), body.clone(), *sha256))
        }
        _ => None,
    });
    stream::iter(files.collect::<Vec<_>>())
        .map(|(key, body, sha256)| async move {
            // What lies above it was looked at in the manifest, once for all files.
            let settled = key.as_str().matches('/').count();
            let how = Put { mode: Mode::Replace, settled, mark: Some(sha256.to_string()) };
            store.put(&key, Payload::held(body), how).await.map(drop)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    Ok(())
}

impl Coming<'_> {
    /// The manifest with this unit in it.
    fn joined_with(&self, seen: Option<&Seen>) -> Result<Bytes, Error> {
        let mut manifest = seen.map(|seen| seen.manifest.clone()).unwrap_or_default();
        let items = self.pieces.iter().map(|piece| (piece.file.file(), &piece.item));
        manifest.add(items, self.by).and_then(|()| manifest.to_bytes()).map_err(|error| match error {
            MergeError::Conflict => Error::Conflict,
            MergeError::TooMany => BodyError::TooLarge { limit: PART as u64 }.into(),
        })
    }

    /// Puts the manifest in the place of the one that was read, or of none; reads it again where that is another by now.
    async fn commit(&self, store: &Store, mut seen: Option<Seen>) -> Result<(), Error> {
        let key = layout::manifest(self.entry);
        for tried in 0..TRIES {
            let bytes = self.joined_with(seen.as_ref())?;
            let mode = seen.as_ref().map_or(Mode::Create, |seen| Mode::Swap(seen.etag.clone()));
            let how = Put { mode, settled: layout::settled(&key), mark: None };
            if let Stored::Done { .. } = store.put(&key, Payload::held(bytes), how).await? {
                self.remove_replaced(store, seen.as_ref()).await;
                return Ok(());
            }
            let pause = (PAUSE / 64 * 2_u32.saturating_pow(tried.min(6))).mul_f32(fastrand::f32());
            tokio::time::sleep(pause).await;
            let now = manifest(store, self.entry).await?;
            // Its answer was lost, not the write.
            if now.as_ref().is_some_and(|now| now.manifest.has(&self.by.id)) {
                return Ok(());
            }
            put(store, self.disputed(seen.as_ref(), now.as_ref())).await?;
            seen = now;
        }
        tracing::warn!(key = %key, "a manifest changes faster than it can be written");
        Err(Error::Store(Fault::Unavailable))
    }

    /// What of ours somebody else stored or removed between two readings of the manifest.
    fn disputed(&self, before: Option<&Seen>, now: Option<&Seen>) -> impl Iterator<Item = &Piece> {
        let changed = |piece: &&Piece| {
            let name = piece.file.file();
            let of = |seen: Option<&Seen>| seen.and_then(|seen| seen.manifest.item(name).cloned());
            now.is_none() || of(before) != of(now)
        };
        self.pieces.iter().filter(changed).collect::<Vec<_>>().into_iter()
    }

    /// Files that became links are of no use any more. Readers know that already.
    async fn remove_replaced(&self, store: &Store, seen: Option<&Seen>) {
        let was_file =
            |name: &str| matches!(seen.and_then(|seen| seen.manifest.item(name)), Some(Item::File { .. }));
        let links = self.pieces.iter().filter(|piece| piece.body.is_none());
        let gone: Vec<_> = links
            .filter(|piece| was_file(piece.file.file()))
            .map(|piece| layout::artifact(&piece.file))
            .collect();
        if !gone.is_empty()
            && let Err(error) = store.delete(&gone).await
        {
            tracing::warn!(cause = %error.chain(), "files that became links could not be removed");
        }
    }
}
