//! [`OsName`]: operating system and machine, in Go's words.
//!
//! Knows what Go can build for, so as to tell an os name from a package; never refuses one that Go does not know yet.

use std::fmt;
use std::str::FromStr;

use super::ArtifactError;

/// Most bytes of an [`OsName`].
const MAX_OS: usize = 64;

/// Go's operating systems (its `internal/syslist`).
const SYSTEMS: &str = "aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 \
                       solaris wasip1 windows zos";

/// Go's architectures (its `internal/syslist`).
const MACHINES: &str = "386 amd64 amd64p32 arm arm64 arm64be armbe loong64 mips mips64 mips64le mips64p32 \
                        mips64p32le mipsle ppc ppc64 ppc64le riscv riscv64 s390 s390x sparc sparc64 wasm";

/// Go's GOOS, `_`, GOARCH: `linux_amd64`.
///
/// Invariants: `[a-z][a-z0-9]*_[a-z0-9][a-z0-9_]*`, at most 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OsName(pub(super) String);

pub(super) fn is_os_name(text: &str) -> bool {
    let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let Some((system, machine)) = text.split_once('_') else { return false };
    text.len() <= MAX_OS
        && system.as_bytes().first().is_some_and(u8::is_ascii_lowercase)
        && system.as_bytes().iter().all(plain)
        && machine.as_bytes().first().is_some_and(plain)
        && machine.as_bytes().iter().all(|b| plain(b) || *b == b'_')
}

impl OsName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether Go knows both halves, so that it can hardly be the name of a package.
    pub fn is_known(&self) -> bool {
        self.0.split_once('_').is_some_and(|(os, arch)| is_in(SYSTEMS, os) && is_in(MACHINES, arch))
    }
}

impl FromStr for OsName {
    type Err = ArtifactError;

    fn from_str(text: &str) -> Result<Self, ArtifactError> {
        if is_os_name(text) { Ok(Self(text.to_owned())) } else { Err(ArtifactError::BadOsName) }
    }
}

impl fmt::Display for OsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_in(list: &str, word: &str) -> bool {
    list.split(' ').any(|known| known == word)
}

#[cfg(test)]
mod tests {
    use super::OsName;
    use proptest::prelude::*;

    #[test]
    fn os_names() {
        for (text, good, known) in [
            ("linux_amd64", true, true),
            ("darwin_arm64", true, true),
            ("plan9_386", true, true),
            ("linux_tools", true, false),
            ("linux_x86_64", true, false),
            ("a_1", true, false),
            ("_amd64", false, false),
            ("linux_", false, false),
            ("linux__a", false, false),
            ("9_a", false, false),
            ("linux_A", false, false),
            ("linux-amd64", false, false),
            ("", false, false),
            ("linux_am d", false, false),
        ] {
            let os = text.parse::<OsName>();
            assert_eq!((os.is_ok(), os.is_ok_and(|os| os.is_known())), (good, known), "{text:?}");
        }
        assert!(format!("linux_{}", "a".repeat(58)).parse::<OsName>().is_ok());
        assert!(format!("linux_{}", "a".repeat(59)).parse::<OsName>().is_err());
    }

    proptest! {
        #[test]
        fn what_parses_prints_the_same(text in "([a-z0-9A-Z_-]{0,9}|\\PC{0,9})_[a-z0-9_]{0,9}") {
            if let Ok(os) = text.parse::<OsName>() {
                prop_assert_eq!(os.to_string(), text);
            }
        }
    }
}
