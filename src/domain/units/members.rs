//! Units as HTTP reads them: the files that a selection takes, one after the other.

use futures_util::future::ready;
use futures_util::stream::{self, Stream, StreamExt as _};

use super::fetch::{Found, Output, Source, Trouble, checked, fetch, output};
use super::{AT_ONCE, manifest};
use crate::domain::artifact::ArtifactKey;
use crate::domain::digest::Sha256Digest;
use crate::domain::reads::{Member, Members, Selection, driven};
use crate::domain::{Error, Fault, Reads, layout};
use crate::payload::{Content, ReadError};
use crate::store::SMALL;

/// How many small files are fetched ahead of the one that is being sent.
const AHEAD: usize = 8;

/// What of a unit a selection takes: nothing where it takes none, or a link, which HTTP cannot carry, and nothing less than
/// all of it will do. `None` where the entry has no manifest. One request to the store.
pub(in crate::domain) async fn selected(
    reads: &Reads,
    selection: &Selection,
) -> Result<Option<Option<Vec<(ArtifactKey, Output)>>>, Error> {
    let entry = selection.entry();
    let Some(seen) = manifest(&reads.store, &entry).await? else { return Ok(None) };
    let takes = |path: &str| match selection {
        Selection::Entry(_) => true,
        Selection::Directory(name) => {
            path.strip_prefix(name.file()).is_some_and(|rest| rest.starts_with('/'))
        }
        Selection::Glob(_, glob) => glob.takes(path),
    };
    let found: Found = seen
        .manifest
        .items()
        .filter(|(path, _)| takes(path))
        .filter_map(|(path, item)| Some((path.to_owned(), output(&entry, path, item)?)))
        .collect();
    let carried = !found.is_empty() && found.values().all(|output| matches!(output, Output::File { .. }));
    if carried {
        reads.used_unit(&entry, seen.modified);
    }
    let files = found.into_iter().filter_map(|(path, output)| Some((entry.file(&path).ok()?, output)));
    Ok(Some(carried.then(|| files.collect())))
}

/// The files as they are sent; `None` where there are none, or the unit is in pieces.
pub(in crate::domain) async fn members(
    reads: &Reads,
    unit: Option<Vec<(ArtifactKey, Output)>>,
) -> Result<Option<Members>, Error> {
    let Some(files) = unit else { return Ok(None) };
    let looks = are_whole(reads, there(&files));
    if !looks.await? {
        return Ok(None);
    }
    let (first, later) = (reads.clone(), reads.clone());
    let mut members = stream::iter(files)
        .map(move |(file, output)| driven(ahead(first.clone(), file, output)))
        .buffered(AHEAD)
        .then(move |fetched| in_turn(later.clone(), fetched))
        .boxed();
    // Nothing has been said yet: a first file that is not what the manifest says is a miss, not an answer that breaks.
    let first = match members.next().await {
        None | Some(Err(Trouble::Changed)) => return Ok(None),
        Some(Err(Trouble::Failed(error))) => return Err(error),
        Some(Ok(first)) => first,
    };
    Ok(Some(going_on(first, members)))
}

/// The files behind a first one that was read. Ends after its first error.
pub(in crate::domain) fn going_on(
    first: Member,
    rest: impl Stream<Item = Result<Member, Trouble>> + Send + 'static,
) -> Members {
    let rest = rest.map(|member| member.map_err(|_| ReadError::Broken));
    let ends = |broken: &mut bool, member: Result<Member, ReadError>| {
        let go_on = !*broken;
        *broken = member.is_err();
        ready(go_on.then_some(member))
    };
    stream::iter([Ok(first)]).chain(rest).scan(false, ends).boxed()
}

/// What is to be looked at before anything is said.
fn there(files: &[(ArtifactKey, Output)]) -> Vec<(ArtifactKey, u64, Sha256Digest)> {
    let there = files.iter().filter_map(|(_, output)| match output {
        Output::File { size, bytes: Source::There(file, Some(sha256)) } => {
            Some((file.clone(), *size, *sha256))
        }
        Output::File { .. } | Output::Link(_) => None,
    });
    there.collect()
}

/// Whether each file that is not in the manifest is the one that the manifest tells of. One request a file, several at a
/// time: once a part has been sent it is too late to say that there is nothing.
async fn are_whole(reads: &Reads, there: Vec<(ArtifactKey, u64, Sha256Digest)>) -> Result<bool, Error> {
    let looks = there.into_iter().map(|(file, size, sha256)| is_whole(reads.clone(), file, size, sha256));
    let mut looks = stream::iter(looks.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    while let Some(whole) = looks.next().await {
        if !whole? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn is_whole(reads: Reads, file: ArtifactKey, size: u64, sha256: Sha256Digest) -> Result<bool, Error> {
    let Some(meta) = reads.store.head(&layout::artifact(&file)).await? else { return Ok(false) };
    if meta.size != size {
        return Ok(false);
    }
    if let Some(mark) = meta.mark {
        return Ok(mark == sha256.to_string());
    }
    // Stored over HTTP since, or by a store that keeps no marks: only the bytes can tell.
    let bytes = match fetch(&reads, &file, Some(sha256), false).await {
        Ok((_, bytes)) => bytes,
        Err(Trouble::Changed) => return Ok(false),
        Err(Trouble::Failed(error)) => return Err(error),
    };
    let Source::Open(content, check) = bytes else { return Ok(true) };
    let mut chunks = checked(content, check);
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(_) => {}
            Err(ReadError::Corrupt) => return Ok(false),
            Err(ReadError::Broken) => return Err(Error::Store(Fault::Unavailable)),
        }
    }
    Ok(true)
}

type Fetched = (ArtifactKey, u64, Result<Source, Trouble>);

/// Small files are read ahead. Larger ones would hold sockets and budget while they wait for their turn.
async fn ahead(reads: Reads, file: ArtifactKey, output: Output) -> Fetched {
    let Output::File { size, bytes } = output else { return (file, 0, Err(Trouble::Changed)) };
    let bytes = match bytes {
        Source::There(there, sha256) if size <= SMALL as u64 => {
            fetch(&reads, &there, sha256, false).await.map(|(_, bytes)| bytes)
        }
        bytes @ (Source::Here(_) | Source::Open(..) | Source::There(..)) => Ok(bytes),
    };
    (file, size, bytes)
}

async fn in_turn(reads: Reads, fetched: Option<Fetched>) -> Result<Member, Trouble> {
    let (file, size, bytes) = fetched.ok_or(Trouble::Failed(Error::Store(Fault::Unavailable)))?;
    let bytes = match bytes? {
        Source::There(there, sha256) => fetch(&reads, &there, sha256, false).await?.1,
        bytes @ (Source::Here(_) | Source::Open(..)) => bytes,
    };
    let content = match bytes {
        Source::Here(bytes) => Content::Bytes(bytes),
        Source::Open(content, check) => Content::Stream(checked(content, check)),
        Source::There(..) => return Err(Trouble::Changed),
    };
    Ok(Member { file, size, content })
}
