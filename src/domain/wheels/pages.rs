//! What an index tells: its projects, and a project's page.
//!
//! A page is one listing of the project's records and what they say. Records never change, so the listing by itself tells
//! whether a page that was read before is still the page: its fingerprint is the page's validator, and the key to a
//! snapshot, so that one does not read a thousand records for the next one. A snapshot that is missing, old or
//! damaged costs time and nothing else.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::filename::DistributionFilename;
use super::folder::{Behind, behind};
use super::name::{IndexName, ProjectName};
use super::record::{Record, hex};
use crate::domain::layout::wheels::Part;
use crate::domain::layout::{self, Stored, WheelKey};
use crate::domain::{Error, Reads};
use crate::payload::{Body, Object, Want};
use crate::store::{Key, Listed, Listing, Put, Store};

/// Records that are read at a time.
const AT_ONCE: usize = 16;

/// Where times are told by the second, an object of this age has its time for itself: what takes its name from now on has
/// another.
const COARSE: Duration = Duration::from_secs(2);

/// A listing of a project's records. Names are looked into only where a page is made of it: mostly it is enough to know that
/// nothing has changed.
#[derive(Debug, Clone)]
pub struct Shelf {
    index: IndexName,
    project: ProjectName,
    fingerprint: String,
    lines: Vec<(Key, Stamp)>,
    /// What a line is: a record or a yank marker, and whose; `None` for what is neither.
    reading: Reading,
}

/// How the lines of a shelf are to be read.
pub(super) type Reading = fn(&Key) -> Option<(DistributionFilename, Part)>;

/// What tells an object from its successor under the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Stamp {
    size: u64,
    /// Nanoseconds since 1970.
    modified: u64,
}

/// A file of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What its record says.
    pub record: Record,
    /// Why it is yanked, perhaps with no reason; `None` where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yanked: Option<String>,
    stamp: Stamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    yank: Option<Stamp>,
}

/// A project's page: its files, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The files.
    pub files: Vec<Entry>,
    /// Whether it has every file that was listed. One that has not is not the page that the listing is of.
    pub whole: bool,
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    fingerprint: String,
    files: Vec<Entry>,
}

/// A file of a page before its record is read.
pub(super) struct Wanted {
    /// Where its record is; where a folder is the index, the file itself.
    pub(super) key: Key,
    pub(super) filename: DistributionFilename,
    pub(super) stamp: Stamp,
    pub(super) yank: Option<Stamp>,
}

impl Stamp {
    pub(super) fn of(size: u64, modified: SystemTime) -> Self {
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { size, modified: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) }
    }

    /// Whether it is of a finer time than a second.
    const fn is_exact(self) -> bool {
        !self.modified.is_multiple_of(1_000_000_000)
    }

    /// Whether nothing that takes the name can have the same any more.
    fn is_settled(self, now: SystemTime) -> bool {
        let modified = UNIX_EPOCH + Duration::from_nanos(self.modified);
        self.is_exact() || now.duration_since(modified).is_ok_and(|age| age >= COARSE)
    }
}

impl Entry {
    pub(super) fn new(record: Record, yanked: Option<String>, stamp: Stamp, yank: Option<Stamp>) -> Self {
        Self { record, yanked, stamp, yank }
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        self.stamp.is_settled(now) && self.yank.is_none_or(|yank| yank.is_settled(now))
    }
}

impl Shelf {
    /// A shelf of these lines, in the order in which they are to be shown; `None` where there is no file.
    pub(super) fn of(
        index: IndexName,
        project: ProjectName,
        lines: Vec<(Key, Stamp)>,
        reading: Reading,
    ) -> Option<Self> {
        let mut hash = Sha256::new();
        for (key, stamp) in &lines {
            hash.update(key.as_str());
            hash.update([0]);
            hash.update(stamp.size.to_be_bytes());
            hash.update(stamp.modified.to_be_bytes());
        }
        let fingerprint = hex(hash.finalize().get(..16).unwrap_or_default());
        let shelf = Self { index, project, fingerprint, lines, reading };
        let any = shelf.of_part(Part::Record).next().is_some();
        any.then_some(shelf)
    }

    fn of_part(&self, wanted: Part) -> impl Iterator<Item = (&Key, DistributionFilename, Stamp)> {
        self.lines.iter().filter_map(move |(key, stamp)| {
            let (filename, part) = (self.reading)(key)?;
            (part == wanted).then_some((key, filename, *stamp))
        })
    }

    /// Changes whenever the page does: lower-case hex.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Whether the fingerprint tells a file from another that takes its name a moment later: not where the store tells times by
    /// the second, as S3 does.
    pub fn is_exact(&self) -> bool {
        self.lines.iter().all(|(_, stamp)| stamp.is_exact())
    }

    /// Whether the fingerprint tells every file that there is from any that takes its name from now on.
    fn is_settled(&self, now: SystemTime) -> bool {
        self.lines.iter().all(|(_, stamp)| stamp.is_settled(now))
    }

    /// Whose page it is.
    pub fn project(&self) -> &ProjectName {
        &self.project
    }

    /// Its files, in the order of their names.
    pub fn filenames(&self) -> impl Iterator<Item = DistributionFilename> {
        self.of_part(Part::Record).map(|(_, filename, _)| filename)
    }

    pub(super) fn wanted(&self) -> Vec<Wanted> {
        let yanks = self.of_part(Part::Yank).map(|(_, filename, stamp)| (filename.to_string(), stamp));
        let yanks: HashMap<String, Stamp> = yanks.collect();
        let wanted = self.of_part(Part::Record).map(|(key, filename, stamp)| Wanted {
            key: key.clone(),
            yank: yanks.get(filename.as_str()).copied(),
            filename,
            stamp,
        });
        wanted.collect()
    }
}

impl Page {
    /// Every release that has a file, oldest first, as the first of its files spells it; and its files.
    pub fn releases(&self) -> Vec<(&str, Vec<&Entry>)> {
        let parsed = self.files.iter().filter_map(|entry| {
            let version: pep440_rs::Version = entry.record.version.parse().ok()?;
            Some((version, entry))
        });
        let mut parsed: Vec<_> = parsed.collect();
        parsed.sort_by(|a, b| a.0.cmp(&b.0));
        let releases = parsed.chunk_by(|a, b| a.0 == b.0).filter_map(|files| {
            let version = files.first()?.1.record.version.as_str();
            Some((version, files.iter().map(|(_, entry)| *entry).collect()))
        });
        releases.collect()
    }

    /// Every release that has a file, oldest first.
    pub fn versions(&self) -> Vec<&str> {
        self.releases().into_iter().map(|(version, _)| version).collect()
    }
}

impl Reads {
    /// The projects of an index, in the order of their names. One request for each thousand.
    pub async fn projects(&self, index: &IndexName) -> Result<Vec<ProjectName>, Error> {
        match behind(&self.folder, index) {
            Behind::Folder(folder) => return folder.projects().await,
            Behind::Nothing => return Ok(Vec::new()),
            Behind::Records => {}
        }
        let level = Listing { shallow: true, ..Listing::default() };
        let lines: Vec<Listed> = self.store.list(&layout::wheels::index(index), level).try_collect().await?;
        let projects = lines.iter().filter_map(|line| match line {
            Listed::Prefix(place) => layout::wheels::project_of(index, place),
            Listed::Object { .. } => None,
        });
        Ok(projects.collect())
    }

    /// The records of a project; `None` where it has none. One request for each thousand.
    pub async fn shelf(&self, index: &IndexName, project: &ProjectName) -> Result<Option<Shelf>, Error> {
        match behind(&self.folder, index) {
            Behind::Folder(folder) => return folder.shelf(project).await,
            Behind::Nothing => return Ok(None),
            Behind::Records => {}
        }
        let how = Listing { immutable: true, ..Listing::default() };
        let mut listing = self.store.list(&layout::wheels::records(index, project), how);
        let mut lines = Vec::new();
        while let Some(line) = listing.try_next().await? {
            if let Listed::Object { key, size, modified } = line {
                lines.push((key, Stamp::of(size, modified)));
            }
        }
        Ok(Shelf::of(index.clone(), project.clone(), lines, noted))
    }

    /// The page that a listing is of. One request where it was read before; where it was not, one for each record that
    /// is new, and one that leaves it for the next reader. Where times are told by the second, whatever is younger than
    /// two seconds counts as new, and nothing is left meanwhile.
    pub async fn page(&self, shelf: &Shelf) -> Result<Page, Error> {
        if let Some(folder) = &self.folder {
            return folder.page(shelf).await;
        }
        let now = SystemTime::now();
        let settled = shelf.is_settled(now);
        let old = self.snapshot(shelf).await?;
        let mut known: HashMap<String, Entry> = HashMap::new();
        if let Some(old) = old {
            if settled && old.fingerprint == shelf.fingerprint {
                return Ok(Page { files: old.files, whole: true });
            }
            let old = old.files.into_iter().filter(|entry| entry.is_settled(now));
            known.extend(old.map(|entry| (entry.record.filename.clone(), entry)));
        }
        let entries = shelf.wanted().into_iter().map(|wanted| {
            let known = known.remove(wanted.filename.as_str());
            read(self.store.clone(), shelf.index.clone(), wanted, known)
        });
        let lines: Vec<Line> = stream::iter(entries).buffered(AT_ONCE).try_collect().await?;
        let whole = !lines.iter().any(|line| matches!(line, Line::Gone));
        let files: Vec<Entry> = lines.into_iter().filter_map(Line::entry).collect();
        if whole && settled {
            self.leave(shelf, &files).await;
        }
        Ok(Page { files, whole })
    }

    async fn snapshot(&self, shelf: &Shelf) -> Result<Option<Snapshot>, Error> {
        let key = layout::wheels::snapshot(&shelf.index, &shelf.project);
        let object = match self.store.get(&key, &Want::default()).await {
            Ok(object) => object,
            Err(error) if error.kind == crate::store::Kind::Corrupt => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let Some(Object { body: Body::Whole(content), .. }) = object else { return Ok(None) };
        let Ok(json) = content.collect().await else { return Ok(None) };
        Ok(serde_json::from_slice(&json).ok())
    }

    /// Leaves a page for its next reader. That may fail: it can be derived again.
    async fn leave(&self, shelf: &Shelf, files: &[Entry]) {
        let snapshot = Snapshot { fingerprint: shelf.fingerprint.clone(), files: files.to_vec() };
        let Ok(json) = serde_json::to_vec(&snapshot) else { return };
        let key = layout::wheels::snapshot(&shelf.index, &shelf.project);
        let how = Put { settled: layout::settled(&key), ..Put::default() };
        if let Err(error) = self.store.put(&key, bytes::Bytes::from(json).into(), how).await {
            tracing::debug!(cause = %error, "a snapshot could not be left");
        }
    }
}

/// Whose record or yank marker this is.
fn noted(key: &Key) -> Option<(DistributionFilename, Part)> {
    match layout::parse(key)? {
        Stored::Wheel(WheelKey::File(_, filename, part)) => Some((filename, part)),
        Stored::Wheel(_) | Stored::Artifact(_) | Stored::Manifest(_) | Stored::Please(_) => None,
    }
}

/// What a listed record comes to.
enum Line {
    Entry(Box<Entry>),
    /// It is none, and stays so as long as its line is the same.
    Damaged,
    /// It went between the listing and now.
    Gone,
}

impl Line {
    fn entry(self) -> Option<Entry> {
        match self {
            Self::Entry(entry) => Some(*entry),
            Self::Damaged | Self::Gone => None,
        }
    }
}

/// One file of a page: as it is known, or read.
async fn read(store: Store, index: IndexName, wanted: Wanted, known: Option<Entry>) -> Result<Line, Error> {
    let Wanted { key, filename, stamp, yank } = wanted;
    let known = known.filter(|known| known.stamp == stamp);
    if let Some(known) = &known
        && known.yank == yank
    {
        return Ok(Line::Entry(Box::new(known.clone())));
    }
    let record = match known {
        Some(known) => known.record,
        None => {
            let Some(json) = small(&store, &key).await? else { return Ok(Line::Gone) };
            let Some(record) = Record::parse(&filename, &json) else {
                tracing::warn!(%filename, "the record of a file is damaged: its page leaves it out");
                return Ok(Line::Damaged);
            };
            record
        }
    };
    let yanked = match yank {
        None => None,
        Some(_) => {
            let reason = small(&store, &layout::wheels::file(&index, &filename, Part::Yank)).await?;
            reason.map(|reason| String::from_utf8_lossy(&reason).trim().to_owned())
        }
    };
    Ok(Line::Entry(Box::new(Entry { record, yanked, stamp, yank })))
}

/// An object that is known to be small, whole.
pub(super) async fn small(store: &Store, key: &Key) -> Result<Option<bytes::Bytes>, Error> {
    let Some(object) = store.get(key, &Want::default()).await? else { return Ok(None) };
    match object.body {
        Body::Whole(content) => Ok(Some(content.collect().await?)),
        Body::Part { .. } | Body::Unchanged | Body::Unsatisfiable => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{Entry, Page, Record, Stamp};

    fn entry(filename: &str, version: &str) -> Entry {
        let record = Record {
            filename: filename.to_owned(),
            version: version.to_owned(),
            size: 1,
            sha256: "0".repeat(64),
            upload_time: String::new(),
            requires_python: None,
            metadata_sha256: None,
            build_key: None,
        };
        Entry::new(record, None, Stamp::of(1, UNIX_EPOCH), None)
    }

    #[test]
    fn releases_are_in_order_with_all_of_their_files() {
        let files =
            [("a", "1.10"), ("b", "1.9"), ("c", "1.10.0"), ("d", "no version"), ("e", "1!0"), ("f", "1.9")];
        let files = files.map(|(name, version)| entry(name, version)).to_vec();
        let page = Page { files, whole: true };
        let names =
            |files: Vec<&Entry>| files.iter().map(|it| it.record.filename.clone()).collect::<String>();
        let found: Vec<_> = page.releases().into_iter().map(|(it, files)| (it, names(files))).collect();
        let expected = [("1.9", "bf"), ("1.10", "ac"), ("1!0", "e")];
        assert_eq!(found, expected.map(|(version, names)| (version, names.to_owned())));
        assert_eq!(page.versions(), ["1.9", "1.10", "1!0"]);
    }

    #[test]
    fn a_time_by_the_second_settles() {
        let then = UNIX_EPOCH + Duration::from_secs(1000);
        for (modified, later, settled) in
            [(0, 0, false), (0, 1999, false), (0, 2000, true), (1, 0, true), (999_999_999, 0, true)]
        {
            let stamp = Stamp::of(7, then + Duration::from_nanos(modified));
            assert_eq!(stamp.is_settled(then + Duration::from_millis(later)), settled, "{modified} {later}");
        }
        assert!(!Stamp::of(7, then).is_settled(then - Duration::from_secs(1)), "a clock that is behind");
    }
}
