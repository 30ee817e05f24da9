//! The file name of a distribution, which tells what is in it: a wheel's as the binary distribution format has it (with
//! PEP 427's and PEP 440's words), a source archive's as PEP 625 has it, and as it was before.
//!
//! A name is kept as it was given: two spellings of one release are two files.

use std::fmt;
use std::str::FromStr;

use pep440_rs::Version;

use super::name::ProjectName;

/// Most bytes: room for what is stored beside a file under its name.
const MOST: usize = 240;

/// What a source archive's name ends in.
const ARCHIVES: [(&str, Archive); 3] =
    [(".tar.gz", Archive::TarGz), (".tar.bz2", Archive::TarBz2), (".zip", Archive::Zip)];

/// Why a text is no file name of a distribution. Each prints as one line that a client may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilenameError {
    /// Another ending, a slash, a blank, a control character.
    #[error(
        "the file name is no distribution's: it ends in .whl, .tar.gz, .zip or .tar.bz2 and holds no path"
    )]
    Kind,
    /// Not name, version, perhaps build, Python, ABI and platform.
    #[error(
        "the file name is no wheel's: it is name-version(-build)-python-abi-platform.whl, and a build begins with a digit"
    )]
    Wheel,
    /// Not name and version.
    #[error("the file name is no source archive's: it is name-version and the ending")]
    Source,
    /// The part before the version.
    #[error("the file name does not begin with a project's name")]
    Name,
    /// The part behind the name.
    #[error("the version in the file name is none that PEP 440 knows")]
    Version,
    /// Too long.
    #[error("the file name is longer than {MOST} bytes")]
    Long,
}

/// How a source archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Archive {
    /// What PEP 625 wants.
    TarGz,
    /// Of old.
    TarBz2,
    /// Of old.
    Zip,
}

/// What kind of distribution a file is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Built.
    Wheel {
        /// The platform tags, of which a wheel may have several, divided by dots.
        platform: String,
        /// The interpreter tags, likewise.
        python: String,
    },
    /// To be built.
    Source(Archive),
}

/// The file name of a wheel or of a source archive.
///
/// Invariants: at most 240 bytes of ASCII letters, digits and `. _ - + !`, the first a letter or digit, with one of
/// the known endings; the parts are a project's name and a version. So it is a segment of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DistributionFilename {
    text: String,
    project: ProjectName,
    version: Version,
    kind: Kind,
}

impl DistributionFilename {
    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whose it is.
    pub fn project(&self) -> &ProjectName {
        &self.project
    }

    /// Of which release.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Built or not, and for what.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Whether it is a wheel.
    pub fn is_wheel(&self) -> bool {
        matches!(self.kind, Kind::Wheel { .. })
    }
}

impl FromStr for DistributionFilename {
    type Err = FilenameError;

    fn from_str(text: &str) -> Result<Self, FilenameError> {
        if text.len() > MOST {
            return Err(FilenameError::Long);
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+' | b'!');
        if !text.bytes().all(plain) || !text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) {
            return Err(FilenameError::Kind);
        }
        if let Some(stem) = text.strip_suffix(".whl") {
            return wheel(text, stem);
        }
        let ending = ARCHIVES.iter().find_map(|(end, kind)| Some((text.strip_suffix(end)?, *kind)));
        let (stem, archive) = ending.ok_or(FilenameError::Kind)?;
        let (project, version) = source(stem)?;
        Ok(Self { text: text.to_owned(), project, version, kind: Kind::Source(archive) })
    }
}

fn wheel(text: &str, stem: &str) -> Result<DistributionFilename, FilenameError> {
    let parts: Vec<&str> = stem.split('-').collect();
    let (name, version, build, python, abi, platform) = match parts.as_slice() {
        [name, version, python, abi, platform] => (name, version, None, python, abi, platform),
        [name, version, build, python, abi, platform] => (name, version, Some(build), python, abi, platform),
        _ => return Err(FilenameError::Wheel),
    };
    let builds = build.is_none_or(|build| build.starts_with(|first: char| first.is_ascii_digit()));
    let tags = [python, abi, platform].into_iter().all(|tags| {
        !tags.is_empty() && tags.split('.').all(|tag| !tag.is_empty() && !tag.contains(['+', '!']))
    });
    if !builds || !tags {
        return Err(FilenameError::Wheel);
    }
    let project = name.parse().map_err(|_| FilenameError::Name)?;
    // A version's `-` is written `_` in a wheel's name.
    let version = version.replace('_', "-").parse().map_err(|_| FilenameError::Version)?;
    let kind = Kind::Wheel { platform: (*platform).to_owned(), python: (*python).to_owned() };
    Ok(DistributionFilename { text: text.to_owned(), project, version, kind })
}

/// The last `-` with a version behind it divides: of old, names held dashes too.
fn source(stem: &str) -> Result<(ProjectName, Version), FilenameError> {
    let (name, version) = stem.rsplit_once('-').ok_or(FilenameError::Source)?;
    let version = version.replace('_', "-").parse().map_err(|_| FilenameError::Version)?;
    Ok((name.parse().map_err(|_| FilenameError::Name)?, version))
}

impl fmt::Display for DistributionFilename {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::{Archive, DistributionFilename, FilenameError, Kind};
    use proptest::prelude::*;

    #[test]
    fn names_tell_what_is_in_them() {
        for (text, project, version, wheel) in [
            ("Flask-0.10.1.tar.gz", "flask", "0.10.1", false),
            ("lxml-3.3.0-cp27-none-linux_x86_64.whl", "lxml", "3.3.0", true),
            ("zope.interface-4.0.5.zip", "zope-interface", "4.0.5", false),
            ("zope-interface-4.0.5.tar.bz2", "zope-interface", "4.0.5", false),
            ("foo-10-py3-none-any.whl", "foo", "10", true),
            ("foo-1.0.post1-py3-none-any.whl", "foo", "1.0.post1", true),
            ("torch-2.1.0+cu121-cp311-cp311-linux_x86_64.whl", "torch", "2.1.0+cu121", true),
            ("foo-1.0rc1-py2.py3-none-any.whl", "foo", "1.0rc1", true),
            ("foo-1!2.0-1a-py3-none-any.whl", "foo", "1!2.0", true),
            ("Foo.Bar_baz-1.0-py3-none-any.whl", "foo-bar-baz", "1.0", true),
            ("foo-1.0_1.tar.gz", "foo", "1.0.post1", false),
        ] {
            let name: DistributionFilename = text.parse().unwrap();
            assert_eq!(name.project().as_str(), project, "{text}");
            assert_eq!(name.version(), &version.parse().unwrap(), "{text}");
            assert_eq!((name.is_wheel(), name.to_string().as_str()), (wheel, text));
        }
        let name: DistributionFilename =
            "a-1-cp39-abi3-manylinux_2_17_x86_64.linux_x86_64.whl".parse().unwrap();
        let Kind::Wheel { platform, python } = name.kind() else { panic!("a wheel") };
        assert_eq!((platform.as_str(), python.as_str()), ("manylinux_2_17_x86_64.linux_x86_64", "cp39"));
        let zip: DistributionFilename = "a-1.zip".parse().unwrap();
        assert_eq!(zip.kind(), &Kind::Source(Archive::Zip));
    }

    #[test]
    fn others_say_why() {
        let long = format!("{}-1.tar.gz", "a".repeat(240));
        for (text, why) in [
            ("", FilenameError::Kind),
            ("README", FilenameError::Kind),
            (".index.json", FilenameError::Kind),
            ("../a-1.tar.gz", FilenameError::Kind),
            ("a/b-1.tar.gz", FilenameError::Kind),
            ("a b-1.tar.gz", FilenameError::Kind),
            ("a-1.exe", FilenameError::Kind),
            (".a-1.tar.gz", FilenameError::Kind),
            ("a-1.tar.gz.asc", FilenameError::Kind),
            ("a-1.whl", FilenameError::Wheel),
            ("a-1-x-py3-none-any.whl", FilenameError::Wheel),
            ("a-1-py3--any.whl", FilenameError::Wheel),
            ("foo-1.0-2.0-py3-none-any-x.whl", FilenameError::Wheel),
            ("a.tar.gz", FilenameError::Source),
            ("a-x.tar.gz", FilenameError::Version),
            ("a-x-py3-none-any.whl", FilenameError::Version),
            ("_-1-py3-none-any.whl", FilenameError::Kind),
            ("a_-1-py3-none-any.whl", FilenameError::Name),
            (long.as_str(), FilenameError::Long),
        ] {
            assert_eq!(text.parse::<DistributionFilename>().unwrap_err(), why, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(text in "[a-c0-2._+!-]{1,12}(-py3-none-any\\.whl|\\.tar\\.gz|\\.zip)") {
            if let Ok(name) = text.parse::<DistributionFilename>() {
                prop_assert_eq!(name.to_string(), text);
                prop_assert!(!name.as_str().contains(['/', '\\']));
            }
        }

        #[test]
        fn no_input_panics(text in any::<String>()) {
            prop_assert!(text.parse::<DistributionFilename>().is_err() || text.is_ascii());
        }
    }
}
