//! Entries as units: several files that are stored together, and come back together or not at all.
//!
//! The manifest decides. It is written last, in the place of exactly the one that was read before the files were
//! written, and deleted first; each file says by its mark which bytes it has. So whoever reads sees the unit as one manifest
//! tells it, or a miss: files without their manifest are what a Store that died has left, and count as nothing.

use std::time::SystemTime;

use bytes::Bytes;

use super::artifact::{ArtifactKey, EntryKey};
use super::layout;
use super::manifest::{Item, Manifest};
use super::{Error, Fault, Reads};
use crate::payload::{Body, Want};
use crate::store::Store;

pub mod fetch;
pub mod keep;
pub(super) mod members;

/// How many requests to the store one unit has under way.
const AT_ONCE: usize = 16;
/// Most bytes of a manifest that are read. It is never written larger than one part.
const MANIFEST_MOST: u64 = crate::store::PART as u64;
/// How often a read is begun anew because the entry changed meanwhile.
const AGAIN: usize = 4;

/// A manifest as it was read.
#[derive(Debug, Clone)]
struct Seen {
    manifest: Manifest,
    etag: String,
    modified: SystemTime,
}

/// Reads an entry's manifest. One request to the store. One that cannot be read is damage, never a miss.
async fn manifest(store: &Store, entry: &EntryKey) -> Result<Option<Seen>, Error> {
    let key = layout::manifest(entry);
    let Some(object) = store.get(&key, &Want::default()).await? else { return Ok(None) };
    let broken = |cause: &dyn std::fmt::Display| {
        tracing::error!(key = %key, %cause, "a manifest cannot be read");
        Error::Store(Fault::Corrupt)
    };
    let Body::Whole(content) = object.body else { return Err(broken(&"only a part of it came")) };
    if object.meta.size > MANIFEST_MOST {
        return Err(broken(&"it is too large"));
    }
    let bytes = content.collect().await.map_err(|error| match error {
        crate::payload::ReadError::Broken => Error::Store(Fault::Unavailable),
        crate::payload::ReadError::Corrupt => Error::Store(Fault::Corrupt),
    })?;
    let manifest = Manifest::parse(entry, &bytes).map_err(|error| broken(&error))?;
    Ok(Some(Seen { manifest, etag: object.meta.etag, modified: object.meta.modified }))
}

/// Whether a file that came as part of a unit is part of it still. One request to the store.
pub(super) async fn holds(reads: &Reads, file: &ArtifactKey, mark: &str) -> Result<bool, Error> {
    let Some(seen) = manifest(&reads.store, &file.entry()).await? else { return Ok(false) };
    let item = seen.manifest.item(file.file());
    let holds = matches!(item, Some(Item::File { sha256, .. }) if sha256.to_string() == mark);
    if holds {
        reads.used(file, seen.modified);
    }
    Ok(holds)
}

/// A file or link to be stored.
#[derive(Debug, Clone)]
pub enum Part {
    /// A file, in memory.
    File(Bytes),
    /// A symbolic link.
    Link(String),
}
