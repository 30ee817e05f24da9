//! The password file: `user:hash` by line, as Apache's `htpasswd` keeps it.
//!
//! Source: `mod_authn_file` of the Apache HTTP Server. Blank lines and those that begin with `#` are comments, spaces
//! around a line are none of it, the first line of a user counts, and what follows a second colon is ignored. Unlike
//! there, a line that could never let anybody in is an error. Never reads files and never tells a password or a hash.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::str::FromStr;

pub use hash::{HashError, MAX_PASSWORD, PasswordHash};

mod hash;
mod md5crypt;

/// Users and the hashes of their passwords.
#[derive(Clone, Default)]
pub struct Users {
    hashes: HashMap<Box<str>, PasswordHash>,
    dearest: Option<PasswordHash>,
}

/// What is wrong with a password file, and in which line, counted from 1. Never quotes a hash or a whole line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// No `user:hash`.
    #[error("line {line}: expected user:hash")]
    Malformed {
        /// Which.
        line: usize,
    },
    /// The hash cannot be verified.
    #[error("line {line}: user {user:?}: {reason}")]
    Hash {
        /// Which.
        line: usize,
        /// Whose.
        user: String,
        /// What is wrong with it.
        reason: HashError,
    },
}

impl Users {
    /// The hash of a user's password.
    pub fn get(&self, name: &str) -> Option<&PasswordHash> {
        self.hashes.get(name)
    }

    /// The hash that takes longest to verify: what an unknown user is made to cost. `None` where there are no users.
    pub fn dearest(&self) -> Option<&PasswordHash> {
        self.dearest.as_ref()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether nobody can come in.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    fn add(&mut self, name: &str, hash: PasswordHash) {
        if let Entry::Vacant(place) = self.hashes.entry(name.into()) {
            if self.dearest.as_ref().is_none_or(|dearest| dearest.work() < hash.work()) {
                self.dearest = Some(hash.clone());
            }
            place.insert(hash);
        }
    }
}

impl FromStr for Users {
    type Err = UsersError;

    fn from_str(text: &str) -> Result<Self, UsersError> {
        let mut users = Self::default();
        for (number, content) in lines(text) {
            let malformed = UsersError::Malformed { line: number };
            let Some((user, rest)) = content.split_once(':') else { return Err(malformed) };
            if user.is_empty() || user.chars().any(char::is_control) {
                return Err(malformed);
            }
            let hash = rest.split_once(':').map_or(rest, |(hash, _)| hash);
            let hash = hash.parse().map_err(|reason| UsersError::Hash {
                line: number,
                user: user.to_owned(),
                reason,
            })?;
            users.add(user, hash);
        }
        Ok(users)
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The lines that say something, counted from 1, without the spaces around them. Shared with the group file.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let trimmed = text.lines().map(str::trim_ascii).enumerate();
    trimmed
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::path::Path;

    use proptest::prelude::{any, proptest};

    use super::{Users, UsersError};
    use crate::watch::Watched;

    const DES: &str = "aZGJuE6EXrjEE";

    fn error(text: &str) -> String {
        text.parse::<Users>().unwrap_err().to_string()
    }

    #[test]
    fn reads_what_apache_reads() {
        let text = format!(
            "\u{feff}# who\r\n\r\n ann:{DES} \r\nbob:{DES}:Bob of the builds\n\n#bob:x\njürgen w:{DES}\nann:$1$no$hash"
        );
        // The first line of a user counts, but a bad one is told all the same.
        assert_eq!(
            text.parse::<Users>().unwrap_err().to_string(),
            "line 8: user \"ann\": malformed $1$ hash"
        );
        let text = text.replace("$1$no$hash", "{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=");
        let users: Users = text.parse().unwrap();
        assert_eq!(users.len(), 3);
        for user in ["ann", "bob", "jürgen w"] {
            assert!(users.get(user).unwrap().verify(b"test"), "{user}");
        }
        assert!(users.get("Ann").is_none());
        assert!(users.get("").is_none());
        assert!("".parse::<Users>().unwrap().is_empty());
    }

    #[test]
    fn errors_name_the_line_and_no_secret() {
        assert_eq!(error("# a\n\nhunter2"), "line 3: expected user:hash");
        assert_eq!(error(":hunter2"), "line 1: expected user:hash");
        assert_eq!(error("a\u{7}b:hunter2"), "line 1: expected user:hash");
        assert_eq!(
            error(&format!("ann:{DES}\nbob:hunter2")),
            "line 2: user \"bob\": unknown kind of hash; known are bcrypt ($2a$, $2b$, $2y$), $apr1$, {SHA}, and \
             crypt's $1$, $5$, $6$ and traditional DES"
        );
        assert!(matches!("a:".parse::<Users>(), Err(UsersError::Hash { line: 1, .. })));
    }

    #[test]
    fn the_dearest_is_known() {
        let bcrypt = format!("$2y$12${}", "a".repeat(53));
        let users: Users = format!("a:{DES}\nb:{bcrypt}\nc:{DES}").parse().unwrap();
        assert_eq!(users.dearest(), users.get("b"));
        assert_eq!(format!("{users:?}"), "Users { len: 3, .. }");
    }

    /// Every hash of a directory that `scripts/test-passwords` made matches its password and no other.
    fn check(directory: &Path) {
        let whole = |text: &str| Ok::<_, Infallible>(text.to_owned());
        let read = |name: &str| Watched::open(directory.join(name), whole).unwrap().current();
        let users: Users = read("users").parse().unwrap();
        let passwords = read("passwords");
        assert_eq!(passwords.lines().count(), users.len());
        for line in passwords.lines() {
            let (user, password) = line.split_once('\t').unwrap();
            let hash = users.get(user).unwrap();
            assert!(hash.verify(password.as_bytes()), "{user}");
            assert!(!hash.verify(format!("x{password}").as_bytes()), "{user}, wrong password");
            assert!(
                !hash.verify(&password.as_bytes()[..password.len().min(7) / 2]) || password.is_empty(),
                "{user}"
            );
        }
    }

    #[test]
    fn hashes_of_the_real_tools_match() {
        check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/passwords"));
    }

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "scripts/test-passwords says here where its fresh hashes are"
    )]
    fn fresh_hashes_of_the_real_tools_match() {
        if let Some(directory) = std::env::var_os("LARDER_TEST_PASSWORDS") {
            check(Path::new(&directory));
        }
    }

    proptest! {
        #[test]
        fn no_file_is_a_panic(text in any::<String>()) {
            drop(text.parse::<Users>());
        }

        #[test]
        fn who_is_written_is_read(names in proptest::collection::hash_set("[a-zé][a-zé .@-]{0,9}[a-z]", 0..9)) {
            let text: String = names.iter().map(|name| format!("{name}:{DES}\n")).collect();
            let users: Users = text.parse().unwrap();
            assert_eq!(users.len(), names.len());
            assert!(names.iter().all(|name| users.get(name).is_some()));
        }
    }
}
