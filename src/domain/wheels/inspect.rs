//! A distribution, looked at as it arrives: its digests, its metadata, and whether it is what its file name says.
//!
//! Bytes to values; holds no more of a file than its metadata. Never writes and never waits.

use bytes::Bytes;
use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::filename::{Archive, DistributionFilename, Kind};
use super::metadata::{CoreMetadata, MetadataError};
use super::tar::{TarError, TarGz};
use super::zip::{Pick, Picked, Zip, ZipError};

const METADATA: &str = "METADATA";
const RECORD: &str = "RECORD";
const WHEEL: &str = "WHEEL";
const PKG_INFO: &str = "PKG-INFO";

/// Bytes of the BLAKE2 digest that is declared.
const BLAKE2: usize = 32;

/// Most tags that a file name may stand for, all in all: real ones stand for a few dozen.
const MOST_TAGS: usize = 256;

/// Most bytes of all lines of `WHEEL` that claim tags.
const MOST_CLAIMED: usize = 64 << 10;

/// Why a file is not taken for what its name says. Each prints as one line that a client may see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// As an archive.
    #[error(transparent)]
    Zip(#[from] ZipError),
    /// As an archive.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// As metadata.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// Without a member that has to be there.
    #[error("the archive has no {0}")]
    Missing(&'static str),
    /// Another project's, or another release.
    #[error("the metadata in the file is of {found}, and the file name says {named}")]
    Other {
        /// Name and version in the metadata.
        found: String,
        /// Name and version in the file name.
        named: String,
    },
    /// The directory that holds the metadata is of another project or release.
    #[error("the directory {0} in the wheel does not agree with the file name")]
    Directory(String),
    /// What was wrong was said before.
    #[error("the file is not good")]
    Spoilt,
    /// A tag that the wheel does not claim.
    #[error("the file name has the tag {0}, and WHEEL in the file does not")]
    Tag(String),
    /// More tags than any wheel has.
    #[error(
        "the file name stands for more than {MOST_TAGS} tags, or WHEEL in the file has more than 64 KiB of them"
    )]
    Tags,
}

/// Digests of a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// SHA-256.
    pub sha256: [u8; 32],
    /// BLAKE2b of 256 bits, where it was asked for.
    pub blake2: Option<[u8; 32]>,
    /// MD5, where it was asked for.
    pub md5: Option<[u8; 16]>,
}

/// Digests that somebody will look at, beside SHA-256.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Beside {
    /// BLAKE2b of 256 bits.
    pub blake2: bool,
    /// MD5.
    pub md5: bool,
}

/// What a file turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspected {
    /// Its length, in bytes.
    pub size: u64,
    /// Its digests.
    pub digests: Digests,
    /// `METADATA` of a wheel, to the byte.
    pub metadata: Option<Bytes>,
    /// What it says of itself. Unknown of archives that are not opened here (`.tar.bz2`).
    pub core: Option<CoreMetadata>,
}

#[derive(Debug)]
enum Opened {
    Zip(Box<Zip>),
    Tar(Box<TarGz>),
    /// Begins like bzip2, as far as was seen.
    Bz2(Vec<u8>),
    /// Not good, as was said: only its digests are still of interest.
    Spoilt,
}

/// A file under way.
#[derive(Debug)]
pub struct Inspector {
    filename: DistributionFilename,
    opened: Opened,
    size: u64,
    sha256: Sha256,
    blake2: Option<blake2b_simd::State>,
    md5: Option<Md5>,
}

/// Members of a wheel.
fn of_wheel(name: &str) -> Pick {
    match name.split_once('/') {
        Some((top, file)) if top.ends_with(".dist-info") => match file {
            METADATA => Pick::Take(METADATA),
            WHEEL => Pick::Take(WHEEL),
            RECORD => Pick::See(RECORD),
            // Installers want one such directory.
            _ => Pick::Place,
        },
        Some(_) | None => Pick::Pass,
    }
}

/// Members of a zipped source archive.
fn of_source(name: &str) -> Pick {
    match name.split_once('/') {
        Some((_, PKG_INFO)) => Pick::Take(PKG_INFO),
        Some(_) | None => Pick::Pass,
    }
}

impl Inspector {
    /// Before the first byte of a file of this name.
    pub fn new(filename: &DistributionFilename) -> Self {
        let opened = match filename.kind() {
            Kind::Wheel { .. } => Opened::Zip(Box::new(Zip::new(of_wheel))),
            Kind::Source(Archive::Zip) => Opened::Zip(Box::new(Zip::new(of_source))),
            Kind::Source(Archive::TarGz) => Opened::Tar(Box::new(TarGz::new())),
            Kind::Source(Archive::TarBz2) => Opened::Bz2(Vec::new()),
        };
        Self { filename: filename.clone(), opened, size: 0, sha256: Sha256::new(), blake2: None, md5: None }
    }

    /// With these digests too.
    #[must_use]
    pub fn with(self, beside: Beside) -> Self {
        let blake2 = || blake2b_simd::Params::new().hash_length(BLAKE2).to_state();
        Self { blake2: beside.blake2.then(blake2), md5: beside.md5.then(Md5::new), ..self }
    }

    /// Bytes of the file that are held.
    pub fn held(&self) -> usize {
        match &self.opened {
            Opened::Zip(zip) => zip.held(),
            Opened::Tar(tar) => tar.held(),
            Opened::Bz2(_) | Opened::Spoilt => 0,
        }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// As soon as it is known that the file is not good. It may be pushed on all the same, for [`Inspector::survey`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Unsound> {
        self.size += bytes.len() as u64;
        self.sha256.update(bytes);
        if let Some(blake2) = &mut self.blake2 {
            blake2.update(bytes);
        }
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        let looked = match &mut self.opened {
            Opened::Zip(zip) => zip.push(bytes).map_err(Unsound::from),
            Opened::Tar(tar) => tar.push(bytes).map_err(Unsound::from),
            Opened::Bz2(begun) => {
                begun.extend(bytes.iter().take(4 - begun.len()));
                Ok(())
            }
            Opened::Spoilt => Ok(()),
        };
        if looked.is_err() {
            self.opened = Opened::Spoilt;
        }
        looked
    }

    /// What can be told of a file that is there in any case: where it is not good, its length and its digests.
    pub fn survey(self) -> Inspected {
        let spoilt = Inspected { size: self.size, digests: self.digests(), metadata: None, core: None };
        self.finish().unwrap_or(spoilt)
    }

    fn digests(&self) -> Digests {
        Digests {
            sha256: self.sha256.clone().finalize().into(),
            blake2: self.blake2.as_ref().and_then(|hash| hash.finalize().as_bytes().try_into().ok()),
            md5: self.md5.clone().map(|hash| hash.finalize().into()),
        }
    }

    /// What it is, once all bytes have been pushed.
    ///
    /// # Errors
    /// Where it is cut off, lacks what it has to have, or is another's.
    pub fn finish(self) -> Result<Inspected, Unsound> {
        let digests = self.digests();
        let (metadata, core) = match self.opened {
            Opened::Zip(zip) => {
                let picked = zip.finish()?;
                if self.filename.is_wheel() {
                    let metadata = wheel(&self.filename, picked)?;
                    let core = CoreMetadata::parse(&metadata)?;
                    (Some(Bytes::from(metadata)), Some(core))
                } else {
                    let info = picked.taken.into_iter().next().ok_or(Unsound::Missing(PKG_INFO))?;
                    (None, Some(CoreMetadata::parse(&info.2)?))
                }
            }
            Opened::Tar(tar) => (None, Some(CoreMetadata::parse(&tar.finish()?)?)),
            Opened::Bz2(begun) if begun.starts_with(b"BZh") => (None, None),
            Opened::Bz2(_) => return Err(TarError::Packing.into()),
            Opened::Spoilt => return Err(Unsound::Spoilt),
        };
        if let Some(core) = &core {
            agrees(&self.filename, core)?;
        }
        Ok(Inspected { size: self.size, digests, metadata, core })
    }
}

fn agrees(filename: &DistributionFilename, core: &CoreMetadata) -> Result<(), Unsound> {
    if core.name == *filename.project() && core.version == *filename.version() {
        return Ok(());
    }
    Err(Unsound::Other {
        found: format!("{} {}", core.name, core.version),
        named: format!("{} {}", filename.project(), filename.version()),
    })
}

/// The metadata of a wheel that has all that it must.
fn wheel(filename: &DistributionFilename, mut picked: Picked) -> Result<Vec<u8>, Unsound> {
    if let Some(directory) = picked.place.filter(|directory| !is_of(filename, directory)) {
        return Err(Unsound::Directory(directory));
    }
    let mut taken = |wanted| {
        let at = picked.taken.iter().position(|(what, ..)| *what == wanted);
        at.map(|at| picked.taken.swap_remove(at).2).ok_or(Unsound::Missing(wanted))
    };
    let (metadata, tags) = (taken(METADATA)?, taken(WHEEL)?);
    if !picked.seen.contains(&RECORD) {
        return Err(Unsound::Missing(RECORD));
    }
    claims(filename, &String::from_utf8_lossy(&tags))?;
    Ok(metadata)
}

/// Whether `{name}-{version}.dist-info` is of this file.
fn is_of(filename: &DistributionFilename, directory: &str) -> bool {
    let stem = directory.strip_suffix(".dist-info").unwrap_or_default();
    stem.rsplit_once('-').is_some_and(|(name, version)| {
        let version = version.replace('_', "-").parse();
        name.parse().is_ok_and(|name: super::name::ProjectName| name == *filename.project())
            && version.is_ok_and(|version: pep440_rs::Version| version == *filename.version())
    })
}

/// Tags as they are written: three sets whose members are divided by dots. Stands for one of each.
#[derive(Debug, Clone, Copy)]
struct Tags<'t>([&'t str; 3]);

impl<'t> Tags<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let mut parts = text.trim().rsplitn(3, '-');
        let (platform, abi, python) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self([python, abi, platform]))
    }

    /// For how many tags they stand.
    fn count(self) -> usize {
        self.0.iter().map(|set| set.split('.').count()).fold(1, usize::saturating_mul)
    }

    /// Each tag by itself.
    fn each(self) -> impl Iterator<Item = [&'t str; 3]> {
        let [python, abi, platform] = self.0;
        let pairs = python.split('.').flat_map(move |python| abi.split('.').map(move |abi| (python, abi)));
        pairs.flat_map(move |(python, abi)| platform.split('.').map(move |on| [python, abi, on]))
    }

    /// Whether a tag is one of them. They are never spelled out: few bytes stand for very many.
    fn hold(self, tag: [&str; 3]) -> bool {
        let in_set = |(set, part): (&str, &str)| set.split('.').any(|one| one.eq_ignore_ascii_case(part));
        self.0.into_iter().zip(tag).all(in_set)
    }
}

/// Holds the tags in the file name to those in `WHEEL`: a wheel that was only renamed runs nowhere new.
fn claims(filename: &DistributionFilename, wheel: &str) -> Result<(), Unsound> {
    let stem = filename.as_str().strip_suffix(".whl").unwrap_or_default();
    let mut parts = stem.rsplitn(4, '-');
    let (platform, abi, python) = (parts.next(), parts.next(), parts.next());
    let named = Tags([python, abi, platform].map(Option::unwrap_or_default));
    let (mut claimed, mut length) = (Vec::new(), 0);
    for line in wheel.lines() {
        let Some((field, tags)) = line.split_once(':') else { continue };
        if field.trim().eq_ignore_ascii_case("tag") {
            length += line.len();
            claimed.extend(Tags::parse(tags));
        }
    }
    if length > MOST_CLAIMED || named.count() > MOST_TAGS {
        return Err(Unsound::Tags);
    }
    // Some that are published, and that installers take, have none, or none that can be read: nothing disagrees.
    if claimed.is_empty() {
        return Ok(());
    }
    match named.each().find(|tag| !claimed.iter().any(|tags| tags.hold(*tag))) {
        Some(tag) => Err(Unsound::Tag(tag.join("-"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST_CLAIMED, Unsound, claims};

    fn held(filename: &str, wheel: &str) -> Result<(), Unsound> {
        claims(&filename.parse().unwrap(), wheel)
    }

    #[test]
    fn a_wheel_claims_the_tags_in_its_name() {
        let both = "Wheel-Version: 1.0\nTag: py2-none-any\ntag : PY3-none-any\n";
        for (name, wheel, expected) in [
            ("a-1-py2.py3-none-any.whl", both, Ok(())),
            ("a-1-1b-py3-none-any.whl", both, Ok(())),
            ("a-1-py2.py3-none-any.whl", "Tag: py2.py3-none-any", Ok(())),
            ("a-1-py4-none-any.whl", both, Err(Unsound::Tag("py4-none-any".to_owned()))),
            // Part by part, and of one line.
            (
                "a-1-cp39-abi3-any.whl",
                "Tag: cp39-none-any\nTag: cp38-abi3-any\n",
                Err(Unsound::Tag("cp39-abi3-any".to_owned())),
            ),
            ("a-1-py3-none-any.whl", "Wheel-Version: 1.0\n", Ok(())),
            ("a-1-py3-none-any.whl", "Tag: any\n", Ok(())),
        ] {
            assert_eq!(held(name, wheel), expected, "{name}");
        }
    }

    /// Few bytes stand for a great many tags.
    #[test]
    fn no_claim_is_spelled_out() {
        let set = vec!["a"; 1000].join(".");
        let billion = format!("Tag: {set}-{set}-{set}\n");
        let foreign = Err(Unsound::Tag("py3-none-any".to_owned()));
        assert_eq!(held("a-1-py3-none-any.whl", &billion), foreign);
        assert_eq!(held("a-1-py3-none-any.whl", &(billion + "Tag: py3-none-any")), Ok(()));
        let line = "Tag: py3-none-any\n";
        let most = MOST_CLAIMED / (line.len() - 1);
        assert_eq!(held("a-1-py3-none-any.whl", &line.repeat(most)), Ok(()));
        assert_eq!(held("a-1-py3-none-any.whl", &line.repeat(most + 1)), Err(Unsound::Tags));
        let set = |many| vec!["b"; many].join(".");
        assert_eq!(held(&format!("a-1-{}-{}-b.whl", set(16), set(16)), "Tag: b-b-b"), Ok(()));
        assert_eq!(held(&format!("a-1-{}-{}-b.whl", set(16), set(17)), "Tag: b-b-b"), Err(Unsound::Tags));
    }
}
