//! What readers may do: single objects, and the files of an entry as one answer.

use std::time::SystemTime;

use futures_util::future::ready;
use futures_util::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};
use tokio::task::JoinSet;

use super::artifact::{ArtifactKey, EntryKey};
use super::glob::Glob;
use super::layout::{self, Stored};
use super::please::CacheHash;
use super::refresh::{Place, Unit};
use super::units::{self, fetch::Trouble};
use super::{Error, Fault, Reads};
use crate::payload::{Body, Content, Meta, Object, ReadError, Want};
use crate::store::{Key, Listed, Listing, Prefix, SMALL, Store};

/// How many small files of an entry are fetched ahead of the one that is being sent.
const AHEAD: usize = 8;

/// Which files of an entry are wanted.
#[derive(Debug, Clone)]
pub enum Selection {
    /// All of it.
    Entry(EntryKey),
    /// What is below a name, were it a directory.
    Directory(ArtifactKey),
    /// What a shell glob takes.
    Glob(EntryKey, Glob),
}

/// A file of an entry.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub file: ArtifactKey,
    /// Length in bytes.
    pub size: u64,
    /// Its bytes.
    pub content: Content,
}

/// Files of an entry, in the order of their names. Ends after its first error, which means that files are missing.
pub type Members = BoxStream<'static, Result<Member, ReadError>>;

/// A file of an entry, before it is read.
struct Found {
    key: Key,
    file: ArtifactKey,
    size: u64,
}

enum Fetch {
    Ready(Result<Option<Member>, Trouble>),
    Later(Found),
}

impl Selection {
    /// The entry that it is of.
    pub fn entry(&self) -> EntryKey {
        match self {
            Self::Entry(entry) | Self::Glob(entry, _) => entry.clone(),
            Self::Directory(name) => name.entry(),
        }
    }

    fn place(&self) -> Prefix {
        match self {
            Self::Entry(entry) => layout::entry(entry),
            Self::Directory(name) => layout::directory(name),
            Self::Glob(entry, glob) => layout::glob(entry, glob),
        }
    }

    /// The file of this selection that a key is.
    fn file(&self, key: &Key) -> Option<ArtifactKey> {
        let Some(Stored::Artifact(file)) = layout::parse(key) else { return None };
        let (entry, taken) = match self {
            Self::Entry(entry) => (entry.clone(), true),
            Self::Directory(name) => (name.entry(), true),
            Self::Glob(entry, glob) => (entry.clone(), glob.takes(file.file())),
        };
        (taken && file.is_of(&entry)).then_some(file)
    }
}

impl Reads {
    /// One entry of Please v14 and later. One request to the store.
    pub async fn please(&self, hash: &CacheHash, want: &Want) -> Result<Option<Object>, Error> {
        let object = self.store.get(&layout::please(hash), want).await?;
        if let Some(object) = &object {
            self.refresh.read(Place::Please, object, || Unit::Please(hash.clone()));
        }
        Ok(object)
    }

    /// About one entry of Please v14 and later. One request to the store, two for a miss.
    pub async fn please_meta(&self, hash: &CacheHash) -> Result<Option<Meta>, Error> {
        let meta = self.store.head(&layout::please(hash)).await?;
        match &meta {
            Some(meta) => self.refresh.used(Place::Please, meta.modified, || Unit::Please(hash.clone())),
            None => self.store.confirm_absence().await?,
        }
        Ok(meta)
    }

    /// One file of an entry. One request to the store; two for one that came as part of a unit, which is there only while
    /// the unit's manifest says so.
    pub async fn artifact(&self, file: &ArtifactKey, want: &Want) -> Result<Option<Object>, Error> {
        let object = self.store.get(&layout::artifact(file), want).await?;
        if let Some(mark) = object.as_ref().and_then(|object| object.meta.mark.as_deref())
            && !units::holds(self, file, mark).await?
        {
            return Ok(None);
        }
        if let Some(object) = &object {
            self.refresh.read(Place::Artifacts, object, || Unit::Entry(file.entry()));
        }
        Ok(object)
    }

    /// About one file of an entry. Requests as for [`Reads::artifact`]. Where it is absent, ask [`Reads::any`]: the name
    /// may be a directory's.
    pub async fn artifact_meta(&self, file: &ArtifactKey) -> Result<Option<Meta>, Error> {
        let meta = self.store.head(&layout::artifact(file)).await?;
        if let Some(mark) = meta.as_ref().and_then(|meta| meta.mark.as_deref())
            && !units::holds(self, file, mark).await?
        {
            return Ok(None);
        }
        if let Some(meta) = &meta {
            self.used(file, meta.modified);
        }
        Ok(meta)
    }

    /// A file of an entry was found, of this date.
    pub(super) fn used(&self, file: &ArtifactKey, modified: SystemTime) {
        self.refresh.used(Place::Artifacts, modified, || Unit::Entry(file.entry()));
    }

    /// An entry's manifest was found, and what was wanted of it.
    pub(super) fn used_unit(&self, entry: &EntryKey, modified: SystemTime) {
        self.refresh.used(Place::Artifacts, modified, || Unit::Entry(entry.clone()));
    }

    /// Whether a selection takes any file. Up to three requests to the store, one where nothing is found.
    pub async fn any(&self, selection: &Selection) -> Result<bool, Error> {
        let mut found = find(&self.store, selection.clone());
        let Some(first) = found.try_next().await? else { return Ok(false) };
        if let Some(unit) = units::members::selected(self, selection).await? {
            return Ok(unit.is_some());
        }
        let mut next = Some(first);
        while let Some(found_one) = next {
            if let Some(meta) = self.store.head(&found_one.key).await?.filter(|meta| meta.mark.is_none()) {
                self.used(&found_one.file, meta.modified);
                return Ok(true);
            }
            next = found.try_next().await?;
        }
        Ok(false)
    }

    /// The files of a selection; `None` where it takes none. One request for each thousand names, one for the manifest, and
    /// one for each file that is not in it.
    pub async fn members(&self, selection: Selection) -> Result<Option<Members>, Error> {
        let mut found = find(&self.store, selection.clone());
        let Some(first) = found.try_next().await? else { return Ok(None) };
        if let Some(unit) = units::members::selected(self, &selection).await? {
            return units::members::members(self, unit).await;
        }
        let (now, later) = (self.clone(), self.clone());
        let members = stream::iter([Ok(first)])
            .chain(found)
            .map(move |found| driven(fetch(now.clone(), found)))
            .buffered(AHEAD)
            .then(move |fetch| finish(later.clone(), fetch.unwrap_or_else(Fetch::broken)))
            .filter_map(|member| ready(member.transpose()));
        let mut members = members.boxed();
        // Nothing has been said yet: a first file that cannot be read is a failure, not an answer that breaks, and one that
        // is gone by now was deleted, and its entry with it.
        match members.next().await {
            Some(Err(Trouble::Failed(error))) => Err(error),
            Some(Ok(first)) => Ok(Some(units::members::going_on(first, members))),
            // Or all that was found is what a unit left that never came to its end.
            Some(Err(Trouble::Changed)) | None => Ok(None),
        }
    }
}

/// Names and sizes of what lies under a selection's plain keys.
pub(super) fn names(
    store: &Store,
    selection: Selection,
) -> impl Stream<Item = Result<(ArtifactKey, u64), Error>> + Send + Unpin {
    find(store, selection).map_ok(|found| (found.file, found.size))
}

/// The files of a selection, as they are listed.
fn find(store: &Store, selection: Selection) -> BoxStream<'static, Result<Found, Error>> {
    let lines = store.list(&selection.place(), Listing::default());
    lines
        .map_err(Error::from)
        .try_filter_map(move |line| {
            let found = match line {
                Listed::Object { key, size, .. } => {
                    selection.file(&key).map(|file| Found { key, file, size })
                }
                Listed::Prefix(_) => None,
            };
            ready(Ok(found))
        })
        .boxed()
}

/// Drives work that is done ahead of its turn: it must come to its end while nobody asks for it, since what it has meanwhile
/// (its turn at the store) others wait for. Ends with who waits for it. `None` where it broke down.
pub(super) async fn driven<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    let mut own = JoinSet::new();
    own.spawn(work);
    own.join_next().await.and_then(Result::ok)
}

impl Fetch {
    fn broken() -> Self {
        Self::Ready(Err(Trouble::Failed(Error::Store(Fault::Unavailable))))
    }
}

/// Small files are read ahead. Larger ones would hold sockets and budget while they wait for their turn.
async fn fetch(reads: Reads, found: Result<Found, Error>) -> Fetch {
    match found {
        Err(error) => Fetch::Ready(Err(Trouble::Failed(error))),
        Ok(found) if found.size <= SMALL as u64 => Fetch::Ready(read(&reads, found).await),
        Ok(found) => Fetch::Later(found),
    }
}

async fn finish(reads: Reads, fetch: Fetch) -> Result<Option<Member>, Trouble> {
    match fetch {
        Fetch::Ready(member) => member,
        Fetch::Later(found) => read(&reads, found).await,
    }
}

/// A file that was listed must be there: a part of an entry is worse than none. `None` where it is what a unit left that
/// never came to its end.
async fn read(reads: &Reads, found: Found) -> Result<Option<Member>, Trouble> {
    match reads.store.get(&found.key, &Want::default()).await {
        Ok(Some(Object { meta, .. })) if meta.mark.is_some() => Ok(None),
        Ok(Some(Object { meta, body: Body::Whole(content) })) => {
            reads.used(&found.file, meta.modified);
            Ok(Some(Member { file: found.file, size: meta.size, content }))
        }
        Ok(_) => {
            tracing::debug!(key = %found.key, "a file of an entry vanished while the entry was read");
            Err(Trouble::Changed)
        }
        Err(error) => Err(Trouble::Failed(error.into())),
    }
}
