//! Keys of the wheel cache.
//!
//! | key | holds |
//! |---|---|
//! | `wheels/{index}/{project}/{filename}` | a distribution, as it was uploaded |
//! | `wheels/{index}/{project}/{filename}.metadata` | a wheel's `METADATA`, to the byte |
//! | `wheels/{index}/{project}/.records/{filename}.json` | its record: written last, deleted first |
//! | `wheels/{index}/{project}/.records/{filename}.yank` | that it is yanked, and why |
//! | `wheels/{index}/{project}/.snapshot` | the project's page, as it was last read; may be missing or old |
//! | `wheels/{index}/.keys/{first 2 hex}/{hex}` | which file a build came to |
//!
//! `{index}` is `shared`, or `built/{environment}`. The records of a project lie by themselves, so one listing of them is
//! its page and nothing else.

use crate::domain::wheels::{BuildKey, DistributionFilename, EnvironmentId, IndexName, ProjectName};
use crate::store::{Key, Prefix};

use super::key;

/// The top-level directory of distributions.
pub(super) const TOP: &str = "wheels";

const SHARED: &str = "shared";
const BUILT: &str = "built";
const RECORDS: &str = ".records";
const SNAPSHOT: &str = ".snapshot";
const KEYS: &str = ".keys";
const METADATA: &str = ".metadata";
const RECORD: &str = ".json";
const YANK: &str = ".yank";

/// What of a distribution a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Its bytes.
    Content,
    /// Its metadata.
    Metadata,
    /// Its record.
    Record,
    /// Its yank marker.
    Yank,
}

/// A key of the wheel cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum WheelKey {
    /// Of one file.
    File(IndexName, DistributionFilename, Part),
    /// A project's snapshot.
    Snapshot(IndexName, ProjectName),
    /// What a build came to.
    Build(IndexName, BuildKey),
}

fn index_text(index: &IndexName) -> String {
    match index {
        IndexName::Shared => format!("{TOP}/{SHARED}"),
        IndexName::Built(environment) => format!("{TOP}/{BUILT}/{environment}"),
    }
}

/// Everything of the wheel cache.
pub fn all() -> Prefix {
    Prefix::below(&key(TOP.to_owned()))
}

/// Everything that was built for some environment: the indexes of all of them.
pub fn built() -> Prefix {
    Prefix::below(&key(format!("{TOP}/{BUILT}")))
}

/// Everything of an index: directly below it, a place for each project.
pub fn index(index: &IndexName) -> Prefix {
    Prefix::below(&key(index_text(index)))
}

/// The project that a place directly below [`index`] is of; `None` for any other.
pub fn project_of(index: &IndexName, place: &Prefix) -> Option<ProjectName> {
    let name = place.as_str().strip_prefix(&index_text(index))?.strip_prefix('/')?.strip_suffix('/')?;
    normal(name)
}

/// Everything of a project in an index.
pub fn project(index: &IndexName, project: &ProjectName) -> Prefix {
    Prefix::below(&key(format!("{}/{project}", index_text(index))))
}

/// The records and yank markers of a project.
pub fn records(index: &IndexName, project: &ProjectName) -> Prefix {
    Prefix::below(&key(format!("{}/{project}/{RECORDS}", index_text(index))))
}

/// Where a part of a file is.
pub fn file(index: &IndexName, filename: &DistributionFilename, part: Part) -> Key {
    let (index, project) = (index_text(index), filename.project());
    key(match part {
        Part::Content => format!("{index}/{project}/{filename}"),
        Part::Metadata => format!("{index}/{project}/{filename}{METADATA}"),
        Part::Record => format!("{index}/{project}/{RECORDS}/{filename}{RECORD}"),
        Part::Yank => format!("{index}/{project}/{RECORDS}/{filename}{YANK}"),
    })
}

/// Where a project's snapshot is.
pub fn snapshot(index: &IndexName, project: &ProjectName) -> Key {
    key(format!("{}/{project}/{SNAPSHOT}", index_text(index)))
}

/// Where it is that a build came to a file.
pub fn build(index: &IndexName, build: BuildKey) -> Key {
    let hex = build.to_string();
    key(format!("{}/{KEYS}/{}/{hex}", index_text(index), hex.get(..2).unwrap_or_default()))
}

/// Where something of the wheel cache is.
pub fn spell(key: &WheelKey) -> Key {
    match key {
        WheelKey::File(index, filename, part) => file(index, filename, *part),
        WheelKey::Snapshot(index, project) => snapshot(index, project),
        WheelKey::Build(index, key) => build(index, *key),
    }
}

/// A project's name that is written as it is stored.
fn normal(text: &str) -> Option<ProjectName> {
    text.parse().ok().filter(|name: &ProjectName| name.as_str() == text)
}

/// The index that a path below [`TOP`] begins with, and what is behind it.
fn split(path: &str) -> Option<(IndexName, &str)> {
    Some(match path.split_once('/')? {
        (SHARED, rest) => (IndexName::Shared, rest),
        (BUILT, rest) => {
            let (environment, rest) = rest.split_once('/')?;
            (IndexName::Built(environment.parse::<EnvironmentId>().ok()?), rest)
        }
        _ => return None,
    })
}

/// Whether a place is within the records of a project: the files that they are of lie elsewhere.
pub(super) fn is_among_records(place: &Prefix) -> bool {
    let path = place.as_str().strip_prefix(TOP).and_then(|rest| rest.strip_prefix('/'));
    let rest = path.and_then(split).and_then(|(_, rest)| rest.split_once('/'));
    rest.is_some_and(|(project, rest)| normal(project).is_some() && rest.split('/').next() == Some(RECORDS))
}

/// What a path below [`TOP`] is.
pub(super) fn parse(path: &str) -> Option<WheelKey> {
    let (index, rest) = split(path)?;
    let (project, rest) = rest.split_once('/')?;
    if project == KEYS {
        let (shard, hex) = rest.split_once('/')?;
        return hex
            .parse()
            .ok()
            .filter(|_| hex.starts_with(shard) && shard.len() == 2)
            .map(|key| WheelKey::Build(index, key));
    }
    let project = normal(project)?;
    if rest == SNAPSHOT {
        return Some(WheelKey::Snapshot(index, project));
    }
    let (name, part) = match rest.split_once('/') {
        None => rest.strip_suffix(METADATA).map_or((rest, Part::Content), |name| (name, Part::Metadata)),
        Some((RECORDS, rest)) => match rest.strip_suffix(RECORD) {
            Some(name) => (name, Part::Record),
            None => (rest.strip_suffix(YANK)?, Part::Yank),
        },
        Some(_) => return None,
    };
    let filename: DistributionFilename = name.parse().ok()?;
    (*filename.project() == project).then_some(WheelKey::File(index, filename, part))
}

#[cfg(test)]
mod tests {
    use super::{IndexName, Part, file, index, project_of, records, snapshot};
    use crate::store::Prefix;

    #[test]
    fn the_spelling_is_the_documented_one() {
        let name = "Foo.Bar-1.0-py3-none-any.whl".parse().unwrap();
        let at = |index: &IndexName, part| file(index, &name, part).to_string();
        let (shared, built) = (IndexName::Shared, IndexName::Built("cp312-debian12".parse().unwrap()));
        assert_eq!(at(&shared, Part::Content), "wheels/shared/foo-bar/Foo.Bar-1.0-py3-none-any.whl");
        assert_eq!(
            at(&shared, Part::Metadata),
            "wheels/shared/foo-bar/Foo.Bar-1.0-py3-none-any.whl.metadata"
        );
        assert_eq!(
            at(&built, Part::Record),
            "wheels/built/cp312-debian12/foo-bar/.records/Foo.Bar-1.0-py3-none-any.whl.json"
        );
        assert_eq!(
            at(&shared, Part::Yank),
            "wheels/shared/foo-bar/.records/Foo.Bar-1.0-py3-none-any.whl.yank"
        );
        assert_eq!(snapshot(&shared, name.project()).as_str(), "wheels/shared/foo-bar/.snapshot");
        assert_eq!(records(&built, name.project()).as_str(), "wheels/built/cp312-debian12/foo-bar/.records/");
        let place: Prefix = "wheels/shared/foo-bar/".parse().unwrap();
        assert_eq!(project_of(&shared, &place).as_ref(), Some(name.project()));
        assert_eq!(project_of(&shared, &"wheels/shared/Foo/".parse().unwrap()), None);
        assert_eq!(index(&built).as_str(), "wheels/built/cp312-debian12/");
    }

    #[test]
    fn the_longest_names_fit() {
        let name = format!("{}-{}.tar.gz", "a".repeat(128), "1".repeat(17));
        let name = format!("{}.tar.gz", &name[..name.len() - 7]).parse().unwrap();
        let built = IndexName::Built("e".repeat(128).parse().unwrap());
        for part in [Part::Content, Part::Metadata, Part::Record, Part::Yank] {
            assert!(file(&built, &name, part).as_str().len() < 1024);
        }
    }
}
