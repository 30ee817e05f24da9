//! Core metadata: what `METADATA` in a wheel and `PKG-INFO` in a source archive say of it, in headers like a mail's.
//!
//! Reads what an index needs and keeps nothing else; the bytes themselves are stored as they are.

use mail_parser::{HeaderValue, Message, MessageParser};
use pep440_rs::{Version, VersionSpecifiers};

use super::name::ProjectName;

/// Why metadata is not good. Each prints as one line that a client may see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Without a field that every version of the format wants, or with a value that cannot be read.
    #[error("the metadata in the file has no good {0}")]
    Field(&'static str),
    /// A field that may stand once only.
    #[error("the metadata in the file has more than one {0}")]
    Twice(&'static str),
}

/// What a distribution says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreMetadata {
    /// Whose it is.
    pub name: ProjectName,
    /// Of which release.
    pub version: Version,
    /// Which Pythons it is for, as it is written; `None` where nothing is said.
    pub requires_python: Option<String>,
}

impl CoreMetadata {
    /// Reads the headers. A `Requires-Python` that no installer could read counts as none: there are old files with such.
    ///
    /// # Errors
    /// Where it is no metadata: no version of the format, no name, no version, or two of one.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        let parser = MessageParser::new().default_header_text();
        let message = parser.parse_headers(bytes).ok_or(MetadataError::Field("Metadata-Version"))?;
        one(&message, "Metadata-Version")?.ok_or(MetadataError::Field("Metadata-Version"))?;
        let name = one(&message, "Name")?.and_then(|text| text.parse().ok());
        let version = one(&message, "Version")?.and_then(|text| text.parse().ok());
        let requires = one(&message, "Requires-Python")?;
        Ok(Self {
            name: name.ok_or(MetadataError::Field("Name"))?,
            version: version.ok_or(MetadataError::Field("Version"))?,
            requires_python: requires.filter(|text| {
                text.len() <= 512 && !text.is_empty() && text.parse::<VersionSpecifiers>().is_ok()
            }),
        })
    }
}

/// The one value of a field.
fn one(message: &Message<'_>, field: &'static str) -> Result<Option<String>, MetadataError> {
    let mut values = message
        .headers()
        .iter()
        .filter(|header| header.name.as_str().eq_ignore_ascii_case(field))
        .filter_map(|header| match &header.value {
            // A value that goes over several lines is one line.
            HeaderValue::Text(text) => Some(text.split_whitespace().collect::<Vec<_>>().join(" ")),
            HeaderValue::Address(_)
            | HeaderValue::TextList(_)
            | HeaderValue::DateTime(_)
            | HeaderValue::ContentType(_)
            | HeaderValue::Received(_)
            | HeaderValue::Empty => None,
        });
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(MetadataError::Twice(field)),
    }
}

#[cfg(test)]
mod tests {
    use super::{CoreMetadata, MetadataError};
    use proptest::prelude::*;

    #[test]
    fn the_fields_of_an_index() {
        let text = b"Metadata-Version: 2.1\r\nName: Foo.Bar\nVersion: 1.0.0\nSummary: x\n  y\nRequires-Python: >=3.8,\n        <4\n\
                     Classifier: a\nClassifier: b\n\nName: not me\n";
        let found = CoreMetadata::parse(text).unwrap();
        assert_eq!((found.name.as_str(), found.version.to_string().as_str()), ("foo-bar", "1.0.0"));
        assert_eq!(found.requires_python.as_deref().map(|s| s.replace(' ', "")).as_deref(), Some(">=3.8,<4"));
        let none = |line: &str| {
            let text = format!("Metadata-Version: 2.4\nName: a\nVersion: 1\n{line}\n\n");
            CoreMetadata::parse(text.as_bytes()).unwrap().requires_python
        };
        assert_eq!(none("Requires-Python: whatever"), None);
        assert_eq!(none("Requires-Python: "), None);
        assert_eq!(none("Author: \u{fc}"), None);
        assert_eq!(none("requires-python: ~=3.9").as_deref(), Some("~=3.9"));
    }

    #[test]
    fn what_is_missing_or_twice_is_said() {
        for (text, why) in [
            ("", MetadataError::Field("Metadata-Version")),
            ("Name: a\nVersion: 1\n", MetadataError::Field("Metadata-Version")),
            ("Metadata-Version: 2.1\nVersion: 1\n", MetadataError::Field("Name")),
            ("Metadata-Version: 2.1\nName: a\n", MetadataError::Field("Version")),
            ("Metadata-Version: 2.1\nName: a\nVersion: x y\n", MetadataError::Field("Version")),
            ("Metadata-Version: 2.1\nName: a\nName: b\nVersion: 1\n", MetadataError::Twice("Name")),
        ] {
            assert_eq!(CoreMetadata::parse(text.as_bytes()), Err(why), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in any::<Vec<u8>>()) {
            prop_assert!(CoreMetadata::parse(&bytes).is_err() || bytes.len() > 20);
        }
    }
}
