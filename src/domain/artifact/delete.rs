//! [`DeleteTarget`]: whose versions a deletion drops.
//!
//! Exact on path boundaries: never by a prefix of a name.

use super::os::OsName;
use super::{ArtifactError, EntryKey, KeyError, MAX_PATH, TargetKey, check_segment, cut};

/// Whose versions a `DELETE /artifact/…` drops.
///
/// `{os_name}/{package}/{target}` where Go knows the os name, else `{package}/{target}` on every os. A first segment
/// that only looks like an os name (`linux_tools`) may be either, so both are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteTarget {
    one: Option<TargetKey>,
    every: Option<String>,
}

impl DeleteTarget {
    /// From decoded segments.
    ///
    /// # Errors
    /// [`ArtifactError::NoTarget`] where there is nothing but an os name, or nothing at all.
    pub fn parse<S: AsRef<str>>(segments: impl IntoIterator<Item = S>) -> Result<Self, ArtifactError> {
        let mut path = String::with_capacity(128);
        for segment in segments {
            check_segment(segment.as_ref())?;
            if segment.as_ref().contains('/') {
                return Err(ArtifactError::Slash);
            }
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(segment.as_ref());
            if path.len() > MAX_PATH {
                return Err(KeyError::Long.into());
            }
        }
        let first = path.split('/').next().unwrap_or_default();
        let (looks, known) = match first.parse::<OsName>() {
            Ok(os) => (true, os.is_known()),
            Err(_) => (false, false),
        };
        if path.is_empty() || (known && first.len() == path.len()) {
            return Err(ArtifactError::NoTarget);
        }
        let one = if looks { path.parse().ok() } else { None };
        Ok(Self { one, every: (!known).then_some(path) })
    }

    /// The only operating system that it is about; `None` where it is about every one.
    pub fn os(&self) -> Option<OsName> {
        if self.every.is_some() { None } else { self.one.as_ref().map(TargetKey::os) }
    }

    /// The targets on one operating system that it is about: none, one, or both readings of the path.
    pub fn on(&self, os: &OsName) -> impl Iterator<Item = TargetKey> {
        let one = self.one.clone().filter(|target| target.os() == *os);
        // A path too long for this os holds nothing.
        let every = self.every.as_ref().and_then(|path| format!("{os}/{path}").parse().ok());
        one.into_iter().chain(every)
    }

    /// Whether a version is dropped. Exact: `src/core` takes neither `src/core/x` nor `src/core2`.
    pub fn takes(&self, entry: &EntryKey) -> bool {
        self.one.as_ref().is_some_and(|target| target.takes(entry))
            || self.every.as_ref().is_some_and(|path| {
                let target = cut(&entry.text, 0, entry.marks.hash.saturating_sub(1));
                target.split_once('/').is_some_and(|(_, rest)| rest == path)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::{ArtifactError, DeleteTarget, EntryKey, KeyError};
    use proptest::prelude::*;

    const H20: &str = "AAECAwQFBgcICQoLDA0ODxAREhM";

    fn deleted(path: &str, stored: &str) -> bool {
        let stored = EntryKey::of(&stored.replace('@', H20)).unwrap();
        let delete = DeleteTarget::parse(path.split('/')).unwrap();
        let by_list = delete.on(&stored.os()).any(|target| target.takes(&stored));
        assert_eq!(by_list, delete.takes(&stored), "{path} {stored}");
        by_list
    }

    #[test]
    fn deletes_are_exact() {
        for (path, stored, expected) in [
            ("linux_amd64/src/core", "linux_amd64/src/core/@/a", true),
            ("linux_amd64/src/core", "linux_amd64/src/core/@/.larder", true),
            ("linux_amd64/src/core", "darwin_arm64/src/core/@/a", false),
            ("src/core", "darwin_arm64/src/core/@/a", true),
            ("src/core", "linux_amd64/src/core/x/@/a", false),
            ("src/core", "linux_amd64/src/core2/@/a", false),
            ("src/core", "linux_amd64/a/src/core/@/a", false),
            ("core", "linux_amd64/core/@/a", true),
            ("core", "linux_amd64/src/core/@/a", false),
            ("linux_tools/x", "linux_amd64/linux_tools/x/@/a", true),
            ("linux_tools/x", "linux_tools/x/@/a", true),
            ("linux_tools/x", "linux_tools/linux_tools/x/@/a", true),
            ("linux_tools", "linux_amd64/linux_tools/@/a", true),
            ("linux_amd64/x", "linux_amd64/x/@/a", true),
            ("linux_amd64/x", "darwin_arm64/linux_amd64/x/@/a", false),
            ("src/core", "linux_amd64/src/core/@/core/a", true),
        ] {
            assert_eq!(deleted(path, stored), expected, "{path} {stored}");
        }
        let parse = |path: &str| DeleteTarget::parse(path.split('/'));
        assert_eq!(parse("linux_amd64"), Err(ArtifactError::NoTarget));
        assert_eq!(DeleteTarget::parse([""; 0]), Err(ArtifactError::NoTarget));
        assert_eq!(parse("a/../b"), Err(ArtifactError::Segment(KeyError::Dots)));
        assert_eq!(parse("linux_amd64/x").unwrap().os(), "linux_amd64".parse().ok());
        assert_eq!(parse("linux_tools/x").unwrap().os(), None);
    }

    proptest! {
        #[test]
        fn no_input_panics(text in any::<String>()) {
            prop_assert!(DeleteTarget::parse(text.split('/')).is_err() || !text.is_empty());
        }

        /// A deletion never takes another target, whatever the names are.
        #[test]
        fn deletes_take_one_target(
            a in "[a-c]{1,2}(/[a-c]{1,2}){0,2}", b in "[a-c]{1,2}(/[a-c]{1,2}){0,2}",
        ) {
            prop_assert_eq!(deleted(&a, &format!("linux_amd64/{b}/@/f")), a == b);
            prop_assert_eq!(deleted(&format!("linux_amd64/{a}"), &format!("linux_amd64/{b}/@/f")), a == b);
        }
    }
}
