//! A distribution, looked at as it arrives: its digests, its metadata, and whether it is what its file name says.
//!
//! Bytes to values; holds no more of a file than its metadata. Never writes and never waits.

use bytes::Bytes;
use md5::Md5;
use sha2::{Digest as _, Sha256};

use super::filename::{Archive, DistributionFilename, Kind};
use super::metadata::{CoreMetadata, MetadataError};
use super::tar::{TarError, TarGz};
use super::zip::{Pick, Zip, ZipError};

const METADATA: &str = "METADATA";
const RECORD: &str = "RECORD";
const WHEEL: &str = "WHEEL";
const PKG_INFO: &str = "PKG-INFO";

/// Bytes of the BLAKE2 digest that is declared.
const BLAKE2: usize = 32;

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
}

/// Digests of a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// SHA-256.
    pub sha256: [u8; 32],
    /// BLAKE2b of 256 bits.
    pub blake2: [u8; 32],
    /// MD5.
    pub md5: [u8; 16],
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
    blake2: blake2b_simd::State,
    md5: Md5,
}

/// Members of a wheel.
fn of_wheel(name: &str) -> Pick {
    match name.split_once('/') {
        Some((top, file)) if top.ends_with(".dist-info") => match file {
            METADATA => Pick::Take(METADATA),
            WHEEL => Pick::Take(WHEEL),
            RECORD => Pick::See(RECORD),
            _ => Pick::Pass,
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
        Self {
            filename: filename.clone(),
            opened,
            size: 0,
            sha256: Sha256::new(),
            blake2: blake2b_simd::Params::new().hash_length(BLAKE2).to_state(),
            md5: Md5::new(),
        }
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
        self.blake2.update(bytes);
        self.md5.update(bytes);
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
            blake2: self.blake2.finalize().as_bytes().try_into().unwrap_or([0; BLAKE2]),
            md5: self.md5.clone().finalize().into(),
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
                let mut taken = picked.taken.into_iter();
                if self.filename.is_wheel() {
                    let members: Vec<_> = taken.collect();
                    let metadata = wheel(&self.filename, members, &picked.seen)?;
                    let core = CoreMetadata::parse(&metadata)?;
                    (Some(Bytes::from(metadata)), Some(core))
                } else {
                    let (.., info) = taken.next().ok_or(Unsound::Missing(PKG_INFO))?;
                    (None, Some(CoreMetadata::parse(&info)?))
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
fn wheel(
    filename: &DistributionFilename,
    members: Vec<(&'static str, String, Vec<u8>)>,
    seen: &[&'static str],
) -> Result<Vec<u8>, Unsound> {
    let (mut metadata, mut tags) = (None, None);
    for (what, name, bytes) in members {
        let directory = name.split('/').next().unwrap_or_default();
        if !is_of(filename, directory) {
            return Err(Unsound::Directory(directory.to_owned()));
        }
        if what == METADATA {
            metadata = Some(bytes);
        } else {
            tags = Some(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    if !seen.contains(&RECORD) {
        return Err(Unsound::Missing(RECORD));
    }
    if let Some(tags) = tags {
        claims(filename, &tags)?;
    }
    metadata.ok_or(Unsound::Missing(METADATA))
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

/// Every single tag that compressed ones stand for.
fn expanded(tags: &str) -> Vec<String> {
    let mut parts = tags.trim().rsplitn(3, '-').collect::<Vec<_>>();
    parts.reverse();
    let [python, abi, platform] = parts.as_slice() else { return Vec::new() };
    let each = python.split('.').flat_map(|python| abi.split('.').map(move |abi| (python, abi)));
    each.flat_map(|(python, abi)| platform.split('.').map(move |on| format!("{python}-{abi}-{on}"))).collect()
}

/// Holds the tags in the file name to those in `WHEEL`: a wheel that was only renamed runs nowhere new.
fn claims(filename: &DistributionFilename, wheel: &str) -> Result<(), Unsound> {
    let lines = wheel.lines().filter_map(|line| line.split_once(':'));
    let claimed: Vec<String> = lines
        .filter(|(field, _)| field.trim().eq_ignore_ascii_case("tag"))
        .flat_map(|(_, tags)| expanded(tags))
        .map(|tag| tag.to_ascii_lowercase())
        .collect();
    if claimed.is_empty() {
        return Ok(());
    }
    let stem = filename.as_str().strip_suffix(".whl").unwrap_or_default();
    let tags =
        stem.rsplitn(4, '-').take(3).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("-");
    match expanded(&tags).into_iter().find(|tag| !claimed.contains(&tag.to_ascii_lowercase())) {
        Some(tag) => Err(Unsound::Tag(tag)),
        None => Ok(()),
    }
}
