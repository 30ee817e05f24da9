//! What the fields of a call name, read once: entries, files, wishes, links. A fault names its field.
//!
//! Pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::domain::artifact::{ArtifactError, ArtifactKey, ArtifactPath, EntryKey, TargetKey, Wanted};
use crate::domain::manifest::leads_out;
use crate::domain::units::Part;
use crate::domain::units::fetch::Wish;
use crate::front::status::Failure;

use super::proto::Artifact;

/// Most entries that one call is about. Real clients name one.
const ENTRIES: usize = 16;
/// Most globs of one call: each is tried on every file.
const GLOBS: usize = 64;
/// Longest destination of a link, as file systems have it.
const LINK_MOST: usize = 4095;

/// Where the artifacts of one call are: operating system, machine and hash.
#[derive(Debug)]
pub(super) struct Place {
    os_name: String,
    hash: String,
}

fn invalid(field: &str, why: impl std::fmt::Display) -> Failure {
    Failure::Invalid(format!("{field}: {why}"))
}

fn few(count: usize, most: usize, why: &str) -> Result<(), Failure> {
    if count <= most { Ok(()) } else { Err(invalid("artifacts", why)) }
}

impl Place {
    pub(super) fn new(os: &str, arch: &str, hash: &[u8]) -> Result<Self, Failure> {
        let os_name = os_name(os, arch)?;
        if !(8..=64).contains(&hash.len()) {
            return Err(invalid("hash", "it has 8 to 64 bytes"));
        }
        Ok(Self { os_name, hash: URL_SAFE_NO_PAD.encode(hash) })
    }

    /// The entry of an artifact.
    fn entry(&self, at: usize, artifact: &Artifact) -> Result<EntryKey, Failure> {
        let path = target_path(&self.os_name, at, artifact)?;
        let entry: EntryKey = format!("{path}/{}", self.hash)
            .parse()
            .map_err(|error: ArtifactError| invalid(&field(at, "package, target or hash"), error))?;
        // The grammar of paths finds the hash by its looks: a name that looks like one as well must not be taken for it.
        if entry.hash() == self.hash && entry.target() == artifact.target {
            Ok(entry)
        } else {
            Err(invalid(&field(at, "target"), ArtifactError::Ambiguous))
        }
    }
}

fn field(at: usize, name: &str) -> String {
    format!("artifacts[{at}].{name}")
}

fn os_name(os: &str, arch: &str) -> Result<String, Failure> {
    let os_name = format!("{os}_{arch}");
    match os_name.parse::<crate::domain::artifact::OsName>() {
        Ok(_) if !os.contains('_') => Ok(os_name),
        Ok(_) | Err(_) => Err(invalid("os or arch", ArtifactError::BadOsName)),
    }
}

fn target_path(os_name: &str, at: usize, artifact: &Artifact) -> Result<String, Failure> {
    if artifact.target.is_empty() || artifact.target.contains('/') {
        return Err(invalid(&field(at, "target"), "it is the name of one target"));
    }
    Ok(match artifact.package.as_str() {
        "" => format!("{os_name}/{}", artifact.target),
        package => format!("{os_name}/{package}/{}", artifact.target),
    })
}

/// What a Store brings, by entry.
pub(super) fn parts(
    place: &Place,
    artifacts: Vec<Artifact>,
    outside_links: bool,
) -> Result<BTreeMap<EntryKey, Vec<(ArtifactKey, Part)>>, Failure> {
    let mut units: BTreeMap<EntryKey, BTreeMap<String, (ArtifactKey, Part)>> = BTreeMap::new();
    for (at, artifact) in artifacts.into_iter().enumerate() {
        let entry = place.entry(at, &artifact)?;
        let file = entry.file(&artifact.file).map_err(|error| invalid(&field(at, "file"), error))?;
        let part = part(at, file.file(), &artifact, outside_links)?;
        let name = file.file().to_owned();
        if units.entry(entry).or_default().insert(name, (file, part)).is_some() {
            return Err(invalid(&field(at, "file"), "it is there twice"));
        }
    }
    few(units.len(), ENTRIES, "too many targets in one call")?;
    Ok(units.into_iter().map(|(entry, files)| (entry, files.into_values().collect())).collect())
}

fn part(at: usize, file: &str, artifact: &Artifact, outside_links: bool) -> Result<Part, Failure> {
    let to = &artifact.symlink;
    if to.is_empty() {
        return Ok(Part::File(artifact.body.clone()));
    }
    let wrong = |why: &str| Err(invalid(&field(at, "symlink"), why));
    if !artifact.body.is_empty() {
        return wrong("a link has no body");
    }
    if to.len() > LINK_MOST || to.chars().any(char::is_control) {
        return wrong("it is too long, or holds control characters");
    }
    if !outside_links && leads_out(file, to) {
        return wrong("it leads out of the entry");
    }
    Ok(Part::Link(to.clone()))
}

/// What a Retrieve asks for, by entry. `None` where a name can never be there.
pub(super) fn wishes(
    place: &Place,
    artifacts: &[Artifact],
) -> Result<Option<BTreeMap<EntryKey, Vec<Wish>>>, Failure> {
    let (mut all, mut globs) = (BTreeMap::<EntryKey, Vec<Wish>>::new(), 0);
    for (at, artifact) in artifacts.iter().enumerate() {
        let entry = place.entry(at, artifact)?;
        let wish = match wish(&entry, &artifact.file) {
            Ok(wish) => wish,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) => return Err(invalid(&field(at, "file"), error)),
        };
        globs += usize::from(matches!(wish, Wish::Glob(_)));
        all.entry(entry).or_default().push(wish);
    }
    few(all.len(), ENTRIES, "too many targets in one call")?;
    few(globs, GLOBS, "too many globs in one call")?;
    Ok(Some(all))
}

fn wish(entry: &EntryKey, file: &str) -> Result<Wish, ArtifactError> {
    if file.is_empty() {
        return Ok(Wish::All);
    }
    let path: ArtifactPath = format!("{entry}/{file}").parse()?;
    if path.entry() != *entry {
        return Err(ArtifactError::Ambiguous);
    }
    Ok(match path.into_wanted()? {
        Wanted::Entry(_) => Wish::All,
        Wanted::Name(name) => Wish::Name(name),
        Wanted::Glob(_, glob) => Wish::Glob(glob),
    })
}

/// The targets that a Delete names.
pub(super) fn targets(os: &str, arch: &str, artifacts: &[Artifact]) -> Result<Vec<TargetKey>, Failure> {
    let os_name = os_name(os, arch)?;
    let target = |(at, artifact): (usize, &Artifact)| {
        target_path(&os_name, at, artifact)?
            .parse()
            .map_err(|error: ArtifactError| invalid(&field(at, "package or target"), error))
    };
    artifacts.iter().enumerate().map(target).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place::new("linux", "amd64", &[7; 20]).unwrap()
    }

    fn artifact(package: &str, target: &str, file: &str) -> Artifact {
        let (package, target, file) = (package.to_owned(), target.to_owned(), file.to_owned());
        Artifact { package, target, file, ..Artifact::default() }
    }

    fn link(file: &str, to: &str) -> Artifact {
        Artifact { symlink: to.to_owned(), ..artifact("p", "t", file) }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (artifact, field) in [
            (artifact("p/../q", "t", "a"), "artifacts[0].package"),
            (artifact("p", "", "a"), "artifacts[0].target"),
            (artifact("p", "a/b", "a"), "artifacts[0].target"),
            (artifact("p", "t", "../a"), "artifacts[0].file"),
            (artifact("p", "t", ""), "artifacts[0].file"),
            (artifact("p", "t", ".larder"), "artifacts[0].file"),
            (link("a", "../b"), "artifacts[0].symlink"),
            (link("a", "/b"), "artifacts[0].symlink"),
            (link("a", "b\0"), "artifacts[0].symlink"),
            (Artifact { body: "x".into(), ..link("a", "b") }, "artifacts[0].symlink"),
        ] {
            let Err(Failure::Invalid(why)) = parts(&place(), vec![artifact], false) else {
                panic!("{field}")
            };
            assert!(why.starts_with(field), "{why}");
        }
        for (os, arch, hash) in
            [("", "amd64", 20), ("linux", "", 20), ("linux", "amd64", 7), ("li/nux", "x", 20)]
        {
            assert!(Place::new(os, arch, &vec![7; hash]).is_err(), "{os} {arch} {hash}");
        }
        let twice = vec![artifact("p", "t", "a"), artifact("p", "t", "a")];
        assert!(parts(&place(), twice, false).is_err());
        assert!(parts(&place(), vec![link("a", "../b")], true).is_ok());
    }

    #[test]
    fn names_find_their_entries() {
        let units =
            parts(&place(), vec![artifact("", "_x#y", "gen/a"), link("gen/l", "../b")], false).unwrap();
        let entries: Vec<String> = units.keys().map(EntryKey::to_string).collect();
        assert_eq!(
            entries,
            ["linux_amd64/_x#y/BwcHBwcHBwcHBwcHBwcHBwcHBwc", "linux_amd64/p/t/BwcHBwcHBwcHBwcHBwcHBwcHBwc"]
        );
        let wish = |file: &str| wishes(&place(), &[artifact("p", "t", file)]);
        let first = |file: &str| wish(file).unwrap().unwrap().into_values().next().unwrap().remove(0);
        assert!(matches!(first(""), Wish::All));
        assert!(matches!(first("gen"), Wish::Name(name) if name.file() == "gen"));
        assert!(matches!(first("gen/*.c"), Wish::Glob(_)));
        assert!(wish(".larder").unwrap().is_none());
        assert!(wish("a//b").is_err());
        assert_eq!(
            targets("linux", "amd64", &[artifact("p", "t", "")]).unwrap()[0].to_string(),
            "linux_amd64/p/t"
        );
    }
}
