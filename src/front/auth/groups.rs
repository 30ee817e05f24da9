//! The group file: `group: user user…` by line, as Apache keeps it.
//!
//! Source: `mod_authz_groupfile` of the Apache HTTP Server. Blank lines and those that begin with `#` are comments, a
//! group of several lines is all of them, and a name with spaces stands in quotes. Never says what a group may do.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use super::htpasswd::lines;

/// Which user is in which groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Groups {
    members: HashMap<Box<str>, HashSet<Box<str>>>,
}

/// A line of a group file that cannot be read. Counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GroupsError {
    /// No `group:`.
    #[error("line {line}: expected group: user user …")]
    Malformed {
        /// Which.
        line: usize,
    },
    /// A quote that does not end, or a control character.
    #[error("line {line}: a user of group {group:?} cannot be read")]
    User {
        /// Which.
        line: usize,
        /// Of which group.
        group: String,
    },
}

impl Groups {
    /// Whether the user is in that group. Names are compared byte by byte.
    pub fn has(&self, group: &str, user: &str) -> bool {
        self.members.get(group).is_some_and(|members| members.contains(user))
    }

    /// Whether there is such a group, be it empty.
    pub fn knows(&self, group: &str) -> bool {
        self.members.contains_key(group)
    }
}

impl FromStr for Groups {
    type Err = GroupsError;

    fn from_str(text: &str) -> Result<Self, GroupsError> {
        let mut groups = Self::default();
        for (number, content) in lines(text) {
            let malformed = GroupsError::Malformed { line: number };
            let Some((group, users)) = content.split_once(':') else { return Err(malformed) };
            let group = group.trim_ascii_end();
            if group.is_empty() || group.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
                return Err(malformed);
            }
            let users =
                words(users).ok_or_else(|| GroupsError::User { line: number, group: group.to_owned() })?;
            groups.members.entry(group.into()).or_default().extend(users);
        }
        Ok(groups)
    }
}

/// The words of a line. One that begins with a quote ends with it; `\` before that quote or another `\` makes them
/// part of the word.
fn words(mut rest: &str) -> Option<Vec<Box<str>>> {
    let mut words = Vec::new();
    while !rest.trim_ascii_start().is_empty() {
        rest = rest.trim_ascii_start();
        let (word, tail) = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => quoted(&rest[1..], quote)?,
            Some(_) | None => {
                let end = rest.find(|letter: char| letter.is_ascii_whitespace()).unwrap_or(rest.len());
                let (word, tail) = rest.split_at(end);
                (word.to_owned(), tail)
            }
        };
        if word.chars().any(char::is_control) {
            return None;
        }
        words.push(word.into());
        rest = tail;
    }
    Some(words)
}

fn quoted(text: &str, quote: char) -> Option<(String, &str)> {
    let mut word = String::new();
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if letter == quote {
            return Some((word, &text[at + 1..]));
        }
        let escaped = letters.next_if(|(_, next)| letter == '\\' && (*next == quote || *next == '\\'));
        word.push(escaped.map_or(letter, |(_, next)| next));
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::Groups;

    #[test]
    fn reads_what_apache_reads() {
        let text = "# who may write\r\nwriters: ann bob\r\n\nadmins:\tann\nwriters:  ci 'jane doe' \"o\\\"neil\\\\\"\nempty:\n";
        let groups: Groups = text.parse().unwrap();
        for user in ["ann", "bob", "ci", "jane doe", "o\"neil\\"] {
            assert!(groups.has("writers", user), "{user}");
        }
        assert!(groups.has("admins", "ann"));
        assert!(!groups.has("admins", "bob"));
        assert!(!groups.has("Writers", "ann"));
        assert!(!groups.has("writers", ""));
        assert!(groups.knows("empty") && !groups.knows("readers"));
    }

    #[test]
    fn errors_name_the_line() {
        let error = |text: &str| text.parse::<Groups>().unwrap_err().to_string();
        assert_eq!(error("\nwriters ann"), "line 2: expected group: user user …");
        assert_eq!(error(": ann"), "line 1: expected group: user user …");
        assert_eq!(error("build team: ann"), "line 1: expected group: user user …");
        assert_eq!(error("a: b\nwriters: 'ann"), "line 2: a user of group \"writers\" cannot be read");
        assert_eq!(error("writers: a\u{7}nn"), "line 1: a user of group \"writers\" cannot be read");
    }

    proptest! {
        #[test]
        fn no_file_is_a_panic(text in any::<String>()) {
            drop(text.parse::<Groups>());
        }

        #[test]
        fn any_name_can_be_quoted(names in proptest::collection::vec("[ -~é]{1,9}", 0..5)) {
            let quote = |name: &String| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
            let text = format!("g: {}", names.iter().map(quote).collect::<Vec<_>>().join(" "));
            let groups: Groups = text.parse().unwrap();
            assert!(names.iter().all(|name| groups.has("g", name)), "{text}");
        }
    }
}
