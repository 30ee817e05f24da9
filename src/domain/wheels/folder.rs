//! A folder full of distributions as an index, as it is: what lies there, at whatever depth, is in the index, and no record
//! lies beside it.
//!
//! What a record would say is read out of a file once, and remembered for as long as its name, size and time are the same;
//! so a file that somebody drops there is seen by the next request, and one that is taken away is gone. A file is
//! committed by its own appearance. Knows one index only; leaves nothing in the folder but what was uploaded.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::filename::DistributionFilename;
use super::inspect::{Inspected, Inspector};
use super::name::{IndexName, ProjectName};
use super::pages::{Entry, Page, Shelf, Stamp};
use super::record::Record;
use crate::domain::layout::wheels::Part;
use crate::domain::{Error, Fault};
use crate::payload::{Body, Content, Meta, Object, Want};
use crate::store::{Key, Listed, Listing, Prefix, Store};

/// Files whose records are remembered: some 500 bytes each.
const REMEMBERED: usize = 100_000;

/// Bytes of metadata that are remembered, all together; larger ones are not.
const TEXTS: u64 = 8 << 20;
const LARGEST: usize = 64 << 10;
/// Metadata that the table is laid out for.
const USUAL: usize = 1024;

/// A file that changed a shorter time ago may be about to change again, with the same time: it is not remembered.
const SETTLED: Duration = Duration::from_secs(1);

/// What stands behind a file's name in the name of its yank marker.
const YANK: &str = ".yank";

/// A folder, and what is remembered of its files.
#[derive(Debug)]
pub(in crate::domain) struct Folder {
    store: Store,
    known: Cache<(Key, Stamp), Record>,
    texts: Cache<(Key, Stamp), Bytes, Weight>,
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<(Key, Stamp), Bytes> for Weight {
    fn weight(&self, name: &(Key, Stamp), text: &Bytes) -> u64 {
        (name.0.as_str().len() + text.len()) as u64 + 128
    }
}

/// A file that lies there.
#[derive(Debug, Clone)]
struct Found {
    filename: DistributionFilename,
    key: Key,
    part: Part,
    stamp: Stamp,
}

/// What a name in the folder is, whatever directory it lies in; `None` for what is no distribution's, or hidden.
fn parse(key: &Key) -> Option<(DistributionFilename, Part)> {
    if key.as_str().split('/').any(|segment| segment.starts_with('.')) {
        return None;
    }
    let name = key.as_str().rsplit('/').next()?;
    let (name, part) = name.strip_suffix(YANK).map_or((name, Part::Record), |name| (name, Part::Yank));
    Some((name.parse().ok()?, part))
}

/// Where an upload of this name goes.
fn place(filename: &DistributionFilename) -> Key {
    match filename.as_str().parse() {
        Ok(key) => key,
        Err(_) => unreachable!("the name of a file is a segment of a key"),
    }
}

/// Where the yank marker of a file is. `None` where the name would be too long: such a file cannot be yanked.
fn yank(key: &Key) -> Option<Key> {
    format!("{key}{YANK}").parse().ok()
}

impl Folder {
    pub(in crate::domain) fn new(store: Store) -> Self {
        Self { store, known: Cache::new(REMEMBERED), texts: Cache::with_weighter(USUAL, TEXTS, Weight) }
    }

    /// All that lies there: of several files of one name the one nearest to the top. In the order of their names.
    async fn files(&self) -> Result<Vec<Found>, Error> {
        let mut listing = self.store.list(&Prefix::root(), Listing::default());
        let mut found = Vec::new();
        while let Some(line) = listing.try_next().await? {
            let Listed::Object { key, size, modified } = line else { continue };
            let Some((filename, part)) = parse(&key) else { continue };
            found.push(Found { filename, part, stamp: Stamp::of(size, modified), key });
        }
        let order = |found: &Found| {
            let depth = found.key.as_str().matches('/').count();
            (found.filename.to_string(), found.part == Part::Yank, depth, found.key.clone())
        };
        found.sort_by_cached_key(order);
        found.dedup_by(|b, a| a.filename == b.filename && a.part == b.part);
        Ok(found)
    }

    async fn find(&self, filename: &DistributionFilename) -> Result<Option<Found>, Error> {
        let is_it = |found: &Found| found.filename == *filename && found.part == Part::Record;
        Ok(self.files().await?.into_iter().find(is_it))
    }

    pub(in crate::domain) async fn projects(&self) -> Result<Vec<ProjectName>, Error> {
        let files = self.files().await?;
        let mut names: Vec<_> = files.iter().map(|found| found.filename.project().clone()).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    pub(in crate::domain) async fn shelf(&self, project: &ProjectName) -> Result<Option<Shelf>, Error> {
        let files = self.files().await?.into_iter().filter(|found| found.filename.project() == project);
        let lines = files.map(|found| (found.key, found.stamp)).collect();
        Ok(Shelf::of(IndexName::Shared, project.clone(), lines, parse))
    }

    /// The page that a listing is of: each file that is new, or another by now, is read from its first byte to its last.
    pub(in crate::domain) async fn page(&self, shelf: &Shelf) -> Result<Page, Error> {
        let (mut files, mut whole) = (Vec::new(), true);
        for wanted in shelf.wanted() {
            let record = self.record(&wanted.key, &wanted.filename, wanted.stamp).await?;
            let Some(record) = record else {
                whole = false;
                continue;
            };
            let yanked = match wanted.yank.and_then(|_| yank(&wanted.key)) {
                None => None,
                Some(marker) => self.reason(&marker).await?,
            };
            files.push(Entry::new(record, yanked, wanted.stamp, wanted.yank));
        }
        Ok(Page { files, whole })
    }

    async fn reason(&self, key: &Key) -> Result<Option<String>, Error> {
        let Some(object) = self.store.get(key, &Want::default()).await? else { return Ok(None) };
        let Body::Whole(content) = object.body else { return Ok(None) };
        Ok(Some(String::from_utf8_lossy(&content.collect().await?).trim().to_owned()))
    }

    /// What is to be said of a file. `None` where it has just gone, or become another.
    async fn record(
        &self,
        key: &Key,
        filename: &DistributionFilename,
        stamp: Stamp,
    ) -> Result<Option<Record>, Error> {
        if let Some(record) = self.known.get(&(key.clone(), stamp)) {
            return Ok(Some(record));
        }
        Ok(self.read(key, filename, stamp).await?.map(|(record, _)| record))
    }

    /// What is to be said of a file and the metadata in it, read out of it and remembered.
    async fn read(
        &self,
        key: &Key,
        filename: &DistributionFilename,
        stamp: Stamp,
    ) -> Result<Option<(Record, Option<Bytes>)>, Error> {
        let Some((meta, found)) = self.survey(key, filename).await? else { return Ok(None) };
        let record = Record::new(filename, &found, meta.modified);
        if Stamp::of(meta.size, meta.modified) != stamp {
            return Ok(None);
        }
        if meta.modified.elapsed().is_ok_and(|age| age >= SETTLED) {
            let name = (key.clone(), stamp);
            if let Some(text) = found.metadata.as_ref().filter(|text| text.len() <= LARGEST) {
                self.texts.insert(name.clone(), text.clone());
            }
            self.known.insert(name, record.clone());
        }
        Ok(Some((record, found.metadata)))
    }

    /// Reads a file through.
    async fn survey(
        &self,
        key: &Key,
        filename: &DistributionFilename,
    ) -> Result<Option<(Meta, Inspected)>, Error> {
        let Some(object) = self.store.get(key, &Want::default()).await? else { return Ok(None) };
        let Body::Whole(content) = object.body else { return Err(Error::Store(Fault::Corrupt)) };
        let (mut stream, mut inspector) = (content.into_stream(), Inspector::new(filename));
        while let Some(chunk) = stream.next().await {
            if let Err(why) = inspector.push(&chunk?) {
                tracing::warn!(%key, %why, "a file in the folder is listed without its metadata");
            }
        }
        Ok(Some((object.meta, inspector.survey())))
    }

    /// A file's bytes. With `sha256` only if it is that file.
    pub(in crate::domain) async fn get(
        &self,
        filename: &DistributionFilename,
        sha256: Option<&str>,
        want: &Want,
    ) -> Result<Option<Object>, Error> {
        // Mostly it lies at the top.
        let mut key = place(filename);
        let mut object = self.store.get(&key, want).await?;
        if object.is_none() {
            let Some(found) = self.find(filename).await? else { return Ok(None) };
            object = self.store.get(&found.key, want).await?;
            key = found.key;
        }
        let Some(object) = object else { return Ok(None) };
        let is_it = self.is_of(&key, filename, &object.meta, sha256).await?;
        Ok(is_it.then_some(object))
    }

    async fn is_of(
        &self,
        key: &Key,
        filename: &DistributionFilename,
        meta: &Meta,
        sha256: Option<&str>,
    ) -> Result<bool, Error> {
        let Some(sha256) = sha256 else { return Ok(true) };
        let record = self.record(key, filename, Stamp::of(meta.size, meta.modified)).await?;
        Ok(record.is_some_and(|record| record.sha256 == sha256))
    }

    /// About a file.
    pub(in crate::domain) async fn head(
        &self,
        filename: &DistributionFilename,
        sha256: Option<&str>,
    ) -> Result<Option<Meta>, Error> {
        let Some(found) = self.find(filename).await? else { return Ok(None) };
        let Some(meta) = self.store.head(&found.key).await? else { return Ok(None) };
        let is_it = self.is_of(&found.key, filename, &meta, sha256).await?;
        Ok(is_it.then_some(meta))
    }

    /// The metadata of the wheel with this digest, read out of it where they are not remembered.
    pub(in crate::domain) async fn metadata(
        &self,
        filename: &DistributionFilename,
        sha256: &str,
        want: &Want,
    ) -> Result<Option<Object>, Error> {
        let Some(Found { key, .. }) = self.find(filename).await? else { return Ok(None) };
        let Some(meta) = self.store.head(&key).await? else { return Ok(None) };
        let stamp = Stamp::of(meta.size, meta.modified);
        let name = (key.clone(), stamp);
        let known = self.known.get(&name).map(|record| (record, self.texts.get(&name)));
        let known = match known {
            Some(known) => Some(known),
            None => self.read(&key, filename, stamp).await?,
        };
        let is_it = |record: &Record| record.sha256 == sha256 && record.metadata_sha256.is_some();
        let Some((_, text)) = known.filter(|(record, _)| is_it(record)) else { return Ok(None) };
        if want.has(&meta.etag) {
            return Ok(Some(Object { meta, body: Body::Unchanged }));
        }
        let text = match text {
            Some(text) => Some(text),
            None => self.read(&key, filename, stamp).await?.and_then(|(_, text)| text),
        };
        Ok(text.map(|text| Object {
            meta: Meta { size: text.len() as u64, mark: None, ..meta },
            body: Body::Whole(Content::Bytes(text)),
        }))
    }

    /// Where the bytes of an upload go: where there is a file of that name already, or else to the top.
    pub(in crate::domain) async fn room(&self, filename: &DistributionFilename) -> Result<Key, Error> {
        Ok(self.find(filename).await?.map_or_else(|| place(filename), |found| found.key))
    }

    /// The SHA-256 of a file that lies there, in hex.
    pub(in crate::domain) async fn sha256(
        &self,
        filename: &DistributionFilename,
    ) -> Result<Option<String>, Error> {
        let Some(found) = self.find(filename).await? else { return Ok(None) };
        let record = self.record(&found.key, filename, found.stamp).await?;
        Ok(record.map(|record| record.sha256))
    }

    /// A file and its yank marker, whether that is there or not; `None` where the file is not, or cannot have one.
    pub(in crate::domain) async fn keys(
        &self,
        filename: &DistributionFilename,
    ) -> Result<Option<(Key, Option<Key>)>, Error> {
        let found = self.find(filename).await?;
        Ok(found.map(|found| (found.key.clone(), yank(&found.key))))
    }
}

/// What is behind an index.
pub(in crate::domain) enum Behind<'f> {
    /// Records, as everywhere.
    Records,
    /// A folder.
    Folder(&'f Folder),
    /// Nothing: a folder is one index, and nothing was built for an environment there.
    Nothing,
}

/// What is behind an index, where there may be a folder behind all.
pub(in crate::domain) fn behind<'f>(folder: &'f Option<Arc<Folder>>, index: &IndexName) -> Behind<'f> {
    match (folder, index) {
        (None, _) => Behind::Records,
        (Some(folder), IndexName::Shared) => Behind::Folder(folder),
        (Some(_), IndexName::Built(_)) => Behind::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::{Part, parse, place, yank};

    #[test]
    fn distributions_are_known_by_their_names_at_any_depth() {
        for (key, part) in [
            ("foo-1.0.tar.gz", Some(Part::Record)),
            ("f/foo/1.0/foo-1.0-py3-none-any.whl", Some(Part::Record)),
            ("f/foo-1.0.zip.yank", Some(Part::Yank)),
            (".cache/foo-1.0.zip", None),
            ("README", None),
            ("foo-1.0.zip.part", None),
        ] {
            let parsed = parse(&key.parse().unwrap());
            assert_eq!(parsed.map(|(_, part)| part), part, "{key}");
        }
        let filename = "foo-1.0.zip".parse().unwrap();
        assert_eq!(parse(&place(&filename)), Some((filename.clone(), Part::Record)));
        assert_eq!(yank(&place(&filename)).and_then(|key| parse(&key)), Some((filename.clone(), Part::Yank)));
        // Of the longest names there is none, rather than the file itself.
        let deep = |length: usize| format!("{}foo-1.0.zip", "d/".repeat(length)).parse().unwrap();
        assert!(yank(&deep(504)).is_some_and(|key| key.as_str().len() == 1024));
        assert_eq!(yank(&deep(505)), None);
    }
}
