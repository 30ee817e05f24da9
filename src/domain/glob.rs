//! Shell globs over the files of an entry, as Please's servers have always read them: Go's `path.Match`, a segment
//! at a time.
//!
//! `*` and `?` stay within a segment, `**` is `*`, braces are letters. Bounded: the time to match is at most the
//! product of both lengths. Matches characters, not bytes (so `?` is one `ü`), which `globset` does not; never
//! touches a store.

use std::fmt;
use std::str::FromStr;

use crate::store::key::{KeyError, check_segment};

/// Most bytes of a glob.
pub const MAX_GLOB: usize = 1024;

/// Why a text is no glob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// More than [`MAX_GLOB`] bytes.
    #[error("the glob is longer than 1024 bytes")]
    Long,
    /// A `[` that is not closed within its segment, holds nothing, or holds half a range.
    #[error("a [ in the glob is not closed, or holds a bad range")]
    Class,
    /// A segment that no file can have.
    #[error(transparent)]
    Segment(#[from] KeyError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Letter(char),
    Any,
    Star,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Token {
    /// Whether it takes this one character.
    fn takes(&self, letter: char) -> bool {
        match self {
            Self::Letter(own) => *own == letter,
            Self::Any => true,
            Self::Star => false,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&letter)) != *negated
            }
        }
    }
}

/// A glob over paths relative to an entry.
///
/// Invariants: at most 1 024 bytes; every segment could be a file's name, and its brackets are well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    segments: Vec<Vec<Token>>,
}

/// Whether a name is to be read as a glob.
pub fn is_glob(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

impl Glob {
    /// Whether it takes this file: its whole path matches, or that of a directory above it does.
    pub fn takes(&self, file: &str) -> bool {
        let mut names = file.split('/');
        self.segments.iter().all(|tokens| names.next().is_some_and(|name| matches(tokens, name)))
    }

    /// The longest directory, without glob characters and slash at its end, that everything it takes lies below;
    /// empty for the entry itself.
    pub fn literal_prefix(&self) -> &str {
        let special = self.text.find(['*', '?', '[']).unwrap_or(self.text.len());
        let before = self.text.get(..special).unwrap_or_default();
        before.rfind('/').and_then(|slash| before.get(..slash)).unwrap_or_default()
    }
}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, GlobError> {
        if text.len() > MAX_GLOB {
            return Err(GlobError::Long);
        }
        let segments = text.split('/').map(|segment| {
            check_segment(segment)?;
            tokens(segment)
        });
        Ok(Self { segments: segments.collect::<Result<_, GlobError>>()?, text: text.to_owned() })
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn tokens(segment: &str) -> Result<Vec<Token>, GlobError> {
    let (mut tokens, mut letters) = (Vec::new(), segment.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '*' if tokens.last() == Some(&Token::Star) => {}
            '*' => tokens.push(Token::Star),
            '?' => tokens.push(Token::Any),
            '[' => tokens.push(class(&mut letters)?),
            other => tokens.push(Token::Letter(other)),
        }
    }
    Ok(tokens)
}

/// What is between brackets, the closing one included.
fn class(letters: &mut std::str::Chars<'_>) -> Result<Token, GlobError> {
    let negated = letters.as_str().starts_with('^');
    if negated {
        letters.next();
    }
    let mut ranges = Vec::new();
    loop {
        let low = match letters.next() {
            Some(']') if !ranges.is_empty() => return Ok(Token::Class { negated, ranges }),
            Some(']' | '-') | None => return Err(GlobError::Class),
            Some(letter) => letter,
        };
        if !letters.as_str().starts_with('-') {
            ranges.push((low, low));
            continue;
        }
        letters.next();
        match letters.next() {
            Some(']' | '-') | None => return Err(GlobError::Class),
            Some(high) => ranges.push((low, high)),
        }
    }
}

/// Matches one segment. Going back to the last star alone is enough: what an earlier one took is as good as any.
fn matches(tokens: &[Token], name: &str) -> bool {
    let (mut at, mut rest) = (0, name.chars());
    let mut star: Option<(usize, std::str::Chars<'_>)> = None;
    loop {
        let token = tokens.get(at);
        if token == Some(&Token::Star) {
            at += 1;
            star = Some((at, rest.clone()));
            continue;
        }
        let mut ahead = rest.clone();
        match (token, ahead.next()) {
            (None, None) => return true,
            (Some(token), Some(letter)) if token.takes(letter) => (at, rest) = (at + 1, ahead),
            (Some(_) | None, Some(_)) => {
                let Some((behind, from)) = &mut star else { return false };
                from.next();
                (at, rest) = (*behind, from.clone());
            }
            (Some(_), None) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Glob, GlobError, KeyError};
    use proptest::prelude::*;

    fn takes(glob: &str, file: &str) -> bool {
        glob.parse::<Glob>().unwrap().takes(file)
    }

    #[test]
    fn go_semantics() {
        for (glob, file, expected) in [
            ("*", "a.txt", true),
            ("*.txt", "a.txt", true),
            ("*.txt", "gen/a.txt", false),
            ("gen/*", "gen/a.txt", true),
            ("*/a.txt", "gen/a.txt", true),
            ("**", "a/b/c", true),
            ("**.c", "a/b.c", false),
            ("?", "ü", true),
            ("?", "ab", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a]", "ü", true),
            ("[ä-ü]", "ö", true),
            ("{a,b}", "a", false),
            ("{a,b}*", "{a,b}c", true),
            ("[!a]", "!", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("g*n", "gen/deep/a.txt", true),
            ("g*n/deep", "gen/deep/a.txt", true),
            ("g*n/deep/a.txt/x", "gen/deep/a.txt", false),
            ("*", ".hidden", true),
            ("[z-a]", "m", false),
            ("a[b]", "a", false),
            ("*a", "", false),
        ] {
            assert_eq!(takes(glob, file), expected, "{glob:?} {file:?}");
        }
    }

    #[test]
    fn bad_globs_say_why() {
        let long = "abc/".repeat(256) + "x";
        for (text, why) in [
            ("[", GlobError::Class),
            ("[]", GlobError::Class),
            ("[]a]", GlobError::Class),
            ("[a-]", GlobError::Class),
            ("[-a]", GlobError::Class),
            ("[^]", GlobError::Class),
            ("[a/b]", GlobError::Class),
            ("a[b", GlobError::Class),
            (long.as_str(), GlobError::Long),
            ("a//*", GlobError::Segment(KeyError::Empty)),
            ("../*", GlobError::Segment(KeyError::Dots)),
            ("\\*", GlobError::Segment(KeyError::Character)),
        ] {
            assert_eq!(text.parse::<Glob>(), Err(why), "{text:?}");
        }
    }

    #[test]
    fn the_prefix_narrows() {
        for (glob, prefix) in [
            ("*", ""),
            ("a*/b", ""),
            ("gen/*", "gen"),
            ("gen/x/y[0-9].c", "gen/x"),
            ("gen/x", "gen"),
            ("x", ""),
        ] {
            assert_eq!(glob.parse::<Glob>().unwrap().literal_prefix(), prefix, "{glob}");
        }
    }

    #[test]
    fn a_hostile_glob_ends_soon() {
        let glob = "*a".repeat(120) + "b";
        assert!(!takes(&glob, &"a".repeat(255)));
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "\\PC{0,30}", file in "\\PC{0,30}") {
            if let Ok(glob) = text.parse::<Glob>() {
                prop_assert_eq!(glob.to_string(), text);
                let hit = glob.takes(&file);
                prop_assert!(!hit || file.starts_with(glob.literal_prefix()));
            }
        }

        /// On ASCII, where bytes are characters, an independent matcher agrees.
        #[test]
        fn agrees_with_globset(text in "([ab*?]|\\[\\^?[a-c]\\]){1,8}", file in "[abc]{1,8}") {
            let oracle = globset::GlobBuilder::new(&text.replace("**", "*").replace("**", "*").replace("**", "*"))
                .literal_separator(true).build().unwrap().compile_matcher();
            prop_assert_eq!(takes(&text, &file), oracle.is_match(&file), "{} {}", text, file);
        }

        #[test]
        fn a_name_takes_itself_and_all_below(name in "[a-z.]{3,8}", below in "[a-z]{1,5}") {
            prop_assert!(takes(&name, &name));
            let (deeper, longer) = (format!("{name}/{below}"), format!("{name}{below}"));
            prop_assert!(takes(&name, &deeper) && !takes(&name, &longer));
            let stars = format!("*{}*", &name[1..2]);
            prop_assert!(takes(&stars, &name));
        }
    }
}
