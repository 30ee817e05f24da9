//! Reading units: what is wanted is looked up in the manifest, then read, and held to it.
//!
//! A read that meets a change begins anew; one that finds its entry in pieces, without anybody changing it, is a miss. An
//! entry without a manifest came file by file, and is read so.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};

use super::{AGAIN, AT_ONCE, Seen, manifest};
use crate::domain::artifact::{ArtifactKey, EntryKey};
use crate::domain::digest::Sha256Digest;
use crate::domain::glob::Glob;
use crate::domain::manifest::Item;
use crate::domain::reads::{self, Selection};
use crate::domain::{Error, Fault, Reads, layout};
use crate::payload::{Body, Content, Object, ReadError, Want};
use crate::store::{self, SMALL, Store};

/// Of an entry without a manifest so many names are asked for without a look at the listing.
const FEW: usize = 8;

/// What a reader wants of an entry.
#[derive(Debug, Clone)]
pub enum Wish {
    /// All of it.
    All,
    /// One name: a file, a link, or a directory with files below it.
    Name(ArtifactKey),
    /// What a shell glob takes.
    Glob(Glob),
}

/// A name of an entry that was found: its bytes, or where it points.
#[derive(Debug)]
pub enum Output {
    /// A file.
    File {
        /// Length in bytes.
        size: u64,
        /// Its bytes, once they are asked for.
        bytes: Source,
    },
    /// A symbolic link.
    Link(String),
}

/// Where a file's bytes come from.
#[derive(Debug)]
pub enum Source {
    /// They are here.
    Here(Bytes),
    /// They flow, and were found to be the right ones as far as that can be told before they did.
    Open(Content, Option<Sha256Digest>),
    /// They are still in the store.
    There(ArtifactKey, Option<Sha256Digest>),
}

/// What of an entry was wanted, in the order of the names.
pub type Found = BTreeMap<String, Output>;

/// Why a read has to begin anew, or cannot go on.
pub(in crate::domain) enum Trouble {
    /// A file is not the one that the manifest tells of, or is gone.
    Changed,
    /// The store failed.
    Failed(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<store::Error> for Trouble {
    fn from(error: store::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Reads {
    /// Finds what is wanted of an entry: all of it, or `None` where any is missing. Up to `room` bytes are read in whole
    /// pieces, several at a time; of more, the first files are opened, and the rest read when they are asked for.
    /// Requests to the store: one, and one for each file that is not in the manifest itself. The caller holds the
    /// budget's share.
    pub async fn unit(&self, entry: &EntryKey, wishes: &[Wish], room: u64) -> Result<Option<Found>, Error> {
        let mut seen = manifest(&self.store, entry).await?;
        for _ in 0..AGAIN {
            let found = match &seen {
                Some(seen) => by_manifest(seen, entry, wishes),
                None => by_names(self, entry, wishes).await?,
            };
            let Some(found) = found else { return Ok(None) };
            match open(self, found, room).await {
                Ok(found) => {
                    if let Some(seen) = &seen {
                        self.used_unit(entry, seen.modified);
                    }
                    return Ok(Some(found));
                }
                Err(Trouble::Failed(error)) => return Err(error),
                Err(Trouble::Changed) => {}
            }
            let now = manifest(&self.store, entry).await?;
            let etag = |seen: &Option<Seen>| seen.as_ref().map(|seen| seen.etag.clone());
            if etag(&now) == etag(&seen) {
                tracing::debug!(entry = %entry, "an entry is in pieces: a miss");
                return Ok(None);
            }
            seen = now;
        }
        tracing::debug!(entry = %entry, "an entry changes faster than it can be read: a miss");
        Ok(None)
    }

    /// The bytes of a file that was found, and only the right ones.
    pub async fn stream(
        &self,
        bytes: Source,
    ) -> Result<BoxStream<'static, Result<Bytes, ReadError>>, ReadError> {
        match bytes {
            Source::Here(bytes) => Ok(stream::iter([Ok(bytes)]).boxed()),
            Source::Open(content, check) => Ok(checked(content, check)),
            Source::There(file, sha256) => match fetch(self, &file, sha256, true).await {
                Ok((_, Source::Open(content, check))) => Ok(checked(content, check)),
                Ok((_, Source::Here(bytes))) => Ok(stream::iter([Ok(bytes)]).boxed()),
                Ok((_, Source::There(..))) | Err(Trouble::Changed | Trouble::Failed(_)) => {
                    Err(ReadError::Broken)
                }
            },
        }
    }
}

/// What the manifest says of the wishes.
fn by_manifest(seen: &Seen, entry: &EntryKey, wishes: &[Wish]) -> Option<Found> {
    let mut found = Found::new();
    for wish in wishes {
        let mut taken = 0;
        let mut take = |(path, item): (&str, &Item)| {
            taken += 1;
            if let Some(output) = output(entry, path, item) {
                found.insert(path.to_owned(), output);
            }
        };
        let manifest = &seen.manifest;
        match wish {
            Wish::All => manifest.items().for_each(&mut take),
            Wish::Name(name) => match manifest.item(name.file()) {
                Some(item) => take((name.file(), item)),
                None => manifest.below(name.file()).for_each(&mut take),
            },
            Wish::Glob(glob) => manifest.items().filter(|(path, _)| glob.takes(path)).for_each(&mut take),
        }
        if taken == 0 {
            return None;
        }
    }
    Some(found)
}

pub(super) fn output(entry: &EntryKey, path: &str, item: &Item) -> Option<Output> {
    Some(match item {
        Item::Link { to } => Output::Link(to.clone()),
        Item::File { size, inline: Some(bytes), .. } => {
            Output::File { size: *size, bytes: Source::Here(bytes.clone()) }
        }
        Item::File { size, sha256, .. } => {
            // A manifest that names what is no file of its entry does not parse.
            Output::File { size: *size, bytes: Source::There(entry.file(path).ok()?, Some(*sha256)) }
        }
    })
}

/// What lies under the plain keys, where there is no manifest.
async fn by_names(reads: &Reads, entry: &EntryKey, wishes: &[Wish]) -> Result<Option<Found>, Error> {
    let mut found = Found::new();
    let mut names = 0;
    for wish in wishes {
        let selection = match wish {
            Wish::All => Selection::Entry(entry.clone()),
            Wish::Glob(glob) => Selection::Glob(entry.clone(), glob.clone()),
            Wish::Name(name) => {
                names += 1;
                if names <= FEW
                    && let Some(output) = alone(reads, name).await?
                {
                    found.insert(name.file().to_owned(), output);
                    continue;
                }
                Selection::Directory(name.clone())
            }
        };
        if !listed(&reads.store, entry, wish, selection, &mut found).await? {
            return Ok(None);
        }
    }
    Ok(Some(found))
}

/// One file, opened. One that came with a unit, but has no manifest, is nothing.
async fn alone(reads: &Reads, name: &ArtifactKey) -> Result<Option<Output>, Error> {
    match fetch(reads, name, None, true).await {
        Ok((size, bytes)) => Ok(Some(Output::File { size, bytes })),
        Err(Trouble::Changed) => Ok(None),
        Err(Trouble::Failed(error)) => Err(error),
    }
}

async fn listed(
    store: &Store,
    entry: &EntryKey,
    wish: &Wish,
    selection: Selection,
    found: &mut Found,
) -> Result<bool, Error> {
    // A name may be the file's own, which is not below it.
    let selection = if let Wish::Name(_) = wish { Selection::Entry(entry.clone()) } else { selection };
    let takes = |file: &ArtifactKey| match wish {
        Wish::All | Wish::Glob(_) => true,
        Wish::Name(name) => {
            let rest = file.file().strip_prefix(name.file());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    let mut lines = reads::names(store, selection);
    let mut any = false;
    while let Some((file, size)) = lines.try_next().await? {
        if takes(&file) {
            any = true;
            let path = file.file().to_owned();
            found.entry(path).or_insert(Output::File { size, bytes: Source::There(file, None) });
        }
    }
    Ok(any)
}

/// Opens what is to be read at once.
async fn open(reads: &Reads, found: Found, room: u64) -> Result<Found, Trouble> {
    let total: u64 = found.values().map(size).sum();
    let whole = total <= room;
    let mut left = if whole { usize::MAX } else { FEW };
    let opened = found.into_iter().map(|(path, output)| {
        let now = matches!(output, Output::File { bytes: Source::There(..), .. }) && left > 0;
        left -= usize::from(now);
        async move {
            let output = match output {
                Output::File { size, bytes: Source::There(file, sha256) } if now => {
                    let (there, bytes) = fetch(reads, &file, sha256, true).await?;
                    if there != size {
                        return Err(Trouble::Changed);
                    }
                    let bytes = if whole { gather(bytes).await? } else { bytes };
                    Output::File { size, bytes }
                }
                Output::File { size, bytes } if whole => Output::File { size, bytes: gather(bytes).await? },
                output @ (Output::File { .. } | Output::Link(_)) => output,
            };
            Ok((path, output))
        }
    });
    stream::iter(opened.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).try_collect().await
}

/// Bytes of an output.
pub fn size(output: &Output) -> u64 {
    match output {
        Output::File { size, .. } => *size,
        Output::Link(_) => 0,
    }
}

/// Opens a file: the one with this digest, or one that belongs to no unit.
pub(super) async fn fetch(
    reads: &Reads,
    file: &ArtifactKey,
    sha256: Option<Sha256Digest>,
    paid: bool,
) -> Result<(u64, Source), Trouble> {
    let key = layout::artifact(file);
    let want = Want { paid, ..Want::default() };
    let Some(Object { meta, body: Body::Whole(content) }) = reads.store.get(&key, &want).await? else {
        return Err(Trouble::Changed);
    };
    let check = match (&sha256, &meta.mark) {
        (Some(wanted), Some(mark)) if *mark == wanted.to_string() => None,
        (Some(_), Some(_)) | (None, Some(_)) => return Err(Trouble::Changed),
        (wanted, None) => *wanted,
    };
    reads.used(file, meta.modified);
    match content {
        Content::Bytes(bytes) => match check {
            Some(wanted) if Sha256Digest::of(&bytes) != wanted => Err(Trouble::Changed),
            _ => Ok((meta.size, Source::Here(bytes))),
        },
        content @ Content::Stream(_) => Ok((meta.size, Source::Open(content, check))),
    }
}

/// All bytes in one piece.
async fn gather(bytes: Source) -> Result<Source, Trouble> {
    let Source::Open(content, check) = bytes else { return Ok(bytes) };
    let mut stream = checked(content, check);
    let mut all = Vec::with_capacity(2 * SMALL);
    while let Some(chunk) = stream.next().await {
        match chunk {
            Ok(chunk) => all.extend_from_slice(&chunk),
            Err(ReadError::Corrupt) if check.is_some() => return Err(Trouble::Changed),
            Err(ReadError::Corrupt) => return Err(Error::Store(Fault::Corrupt).into()),
            Err(ReadError::Broken) => return Err(Error::Store(Fault::Unavailable).into()),
        }
    }
    Ok(Source::Here(all.into()))
}

/// A stream that ends in an error before its last chunk where it has not the digest that it should have.
pub(super) fn checked(
    content: Content,
    wanted: Option<Sha256Digest>,
) -> BoxStream<'static, Result<Bytes, ReadError>> {
    let stream = content.into_stream();
    let Some(wanted) = wanted else { return stream };
    let state = Some((stream, Sha256::new(), None::<Bytes>));
    stream::unfold(state, move |state| async move {
        let (mut stream, mut hash, mut last) = state?;
        loop {
            match stream.next().await {
                Some(Ok(chunk)) => {
                    hash.update(&chunk);
                    if let Some(ready) = last.replace(chunk) {
                        return Some((Ok(ready), Some((stream, hash, last))));
                    }
                }
                Some(Err(error)) => return Some((Err(error), None)),
                None if hash.finalize().as_slice() == wanted.as_bytes() => {
                    return last.map(|chunk| (Ok(chunk), None));
                }
                None => return Some((Err(ReadError::Corrupt), None)),
            }
        }
    })
    .boxed()
}
