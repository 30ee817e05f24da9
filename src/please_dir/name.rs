//! What the names in a Please directory cache say: which of them are entries, and which of these are whole.
//!
//! Pure values. An entry is named by the hash of its rule's inputs: base64 in the URL alphabet, padded, of 20 bytes (28
//! characters) or, where Please is configured for SHA-256, of 32 (44 characters). While it is written, and while it is
//! deleted, its name has one more `=`; a compressed one while it is written before its `.tar.gz`, while it is deleted
//! behind.

use std::ffi::OsStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;

/// What the name of a compressed entry ends in.
const ARCHIVE: &str = ".tar.gz";

/// How an entry is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A directory of files.
    Directory,
    /// One file, `.tar.gz`.
    Archive,
}

/// The name of an entry. Invariant: the hash is canonical base64 of 20 or 32 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    hash: String,
    /// How the entry is kept.
    pub(super) form: Form,
    /// Whether it is whole: not being written and not being deleted.
    pub(super) whole: bool,
}

impl Name {
    /// What a name says of a directory, or of a file; `None` where it is no entry's.
    pub(super) fn parse(name: &OsStr, form: Form) -> Option<Self> {
        let name = name.to_str()?;
        let (stem, deleted) = match form {
            Form::Directory => (name, false),
            Form::Archive => {
                let kept = name.trim_end_matches('=');
                (kept.strip_suffix(ARCHIVE)?, kept.len() < name.len())
            }
        };
        let bare = stem.trim_end_matches('=');
        // The padding of both lengths is one.
        let hash = stem.get(..=bare.len())?;
        let mut room = [0; 33];
        let known = matches!(hash.len(), 28 | 44) && URL_SAFE.decode_slice(hash, &mut room).is_ok();
        let whole = hash.len() == stem.len() && !deleted;
        known.then(|| Self { hash: hash.to_owned(), form, whole })
    }

    /// The hash as the shared caches spell it: without padding.
    pub(super) fn key(&self) -> &str {
        self.hash.trim_end_matches('=')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const H20: &str = "AAECAwQFBgcICQoLDA0ODxAREhM=";
    const H32: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn parse(name: &str, form: Form) -> Option<(String, bool)> {
        Name::parse(OsStr::new(name), form).map(|name| (name.key().to_owned(), name.whole))
    }

    #[test]
    fn entries_are_told_from_everything_else() {
        for hash in [H20, H32] {
            let key = hash.trim_end_matches('=').to_owned();
            for (name, form, whole) in [
                (hash.to_owned(), Form::Directory, true),
                (format!("{hash}="), Form::Directory, false),
                (format!("{hash}=="), Form::Directory, false),
                (format!("{hash}.tar.gz"), Form::Archive, true),
                (format!("{hash}=.tar.gz"), Form::Archive, false),
                (format!("{hash}.tar.gz="), Form::Archive, false),
                (format!("{hash}=.tar.gz="), Form::Archive, false),
            ] {
                assert_eq!(parse(&name, form), Some((key.clone(), whole)), "{name}");
            }
            for (name, form) in [
                (hash.trim_end_matches('=').to_owned(), Form::Directory),
                (format!("{hash}.tar.gz"), Form::Directory),
                (hash.to_owned(), Form::Archive),
                (format!("{hash}.lock"), Form::Archive),
                (format!("{hash}x.tar.gz"), Form::Archive),
                (format!("A{hash}"), Form::Directory),
                // Stray bits behind the last byte: no encoder writes that.
                (hash.replace('M', "N").replace("h8=", "h9="), Form::Directory),
                (hash.replace("AAEC", "AA+C"), Form::Directory),
                ("core".to_owned(), Form::Directory),
                ("=".to_owned(), Form::Directory),
                (String::new(), Form::Directory),
            ] {
                assert_eq!(parse(&name, form), None, "{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_name_panics(name in "\\PC{0,30}(=|\\.tar\\.gz){0,3}", archive: bool) {
            let form = if archive { Form::Archive } else { Form::Directory };
            prop_assert!(parse(&name, form).is_none_or(|(key, _)| name.starts_with(&key)));
        }

        #[test]
        fn every_hash_is_a_name(bytes: [u8; 20]) {
            let name = URL_SAFE.encode(bytes);
            prop_assert_eq!(parse(&name, Form::Directory), Some((name.trim_end_matches('=').to_owned(), true)));
        }
    }
}
