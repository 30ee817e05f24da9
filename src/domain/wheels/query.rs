//! Curdling's question for one file: `name`, `name==1.0`, `name>=1,<2`, `name (1.0)`, each perhaps with `;whl` or `;~whl`.
//!
//! Text to value, and a page to the file that answers it. Its grammar is older than PEP 508, and smaller.

use std::str::FromStr;

use pep440_rs::{Operator, Version, VersionSpecifier};

use super::name::ProjectName;
use super::pages::{Entry, Page};

/// A text is no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "your query is wrong: it is a name, perhaps with versions (name==1.0, name>=1,<2), perhaps with ;whl or ;~whl"
)]
pub struct QueryError;

/// Which file is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    project: ProjectName,
    versions: Vec<VersionSpecifier>,
    ending: Option<Ending>,
}

/// What the file's name has to end in, or must not.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ending {
    text: String,
    wanted: bool,
}

/// Longer ones before those that they begin with.
const OPERATORS: [(&str, Operator); 6] = [
    ("<=", Operator::LessThanEqual),
    (">=", Operator::GreaterThanEqual),
    ("!=", Operator::NotEqual),
    ("==", Operator::Equal),
    ("<", Operator::LessThan),
    (">", Operator::GreaterThan),
];

impl FromStr for Query {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let (requirement, ending) = match text.split_once(';') {
            None => (text, None),
            Some((requirement, ending)) => (requirement, Some(ending.parse()?)),
        };
        let end = requirement.find(['<', '>', '=', '!', '~', '(', '[']).unwrap_or(requirement.len());
        let (name, mut rest) = requirement.split_at(end);
        if let Some(extras) = rest.strip_prefix('[') {
            rest = extras.split_once(']').ok_or(QueryError)?.1;
        }
        if let Some(inner) = rest.strip_prefix('(') {
            rest = inner.strip_suffix(')').filter(|inner| !inner.is_empty()).ok_or(QueryError)?;
        }
        let project = name.parse().map_err(|_| QueryError)?;
        let pieces = rest.split(',').enumerate().filter(|_| !rest.is_empty());
        let versions = pieces.map(|(at, piece)| version(piece, at == 0)).collect::<Result<_, _>>()?;
        Ok(Self { project, versions, ending })
    }
}

impl FromStr for Ending {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        let (text, wanted) = text.strip_prefix('~').map_or((text, true), |text| (text, false));
        let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if good { Ok(Self { text: format!(".{text}"), wanted }) } else { Err(QueryError) }
    }
}

/// One condition. The first may be a bare version, which means exactly that.
fn version(piece: &str, first: bool) -> Result<VersionSpecifier, QueryError> {
    let known = OPERATORS.iter().find_map(|(text, operator)| Some((piece.strip_prefix(text)?, *operator)));
    let (text, operator) = match known {
        Some(known) => known,
        None if first => (piece, Operator::Equal),
        None => return Err(QueryError),
    };
    // No blanks, no wildcards, no `===`.
    if !text.bytes().next().is_some_and(|b| b.is_ascii_digit()) || text.contains(|c: char| c.is_whitespace())
    {
        return Err(QueryError);
    }
    let version: Version = text.parse().map_err(|_| QueryError)?;
    VersionSpecifier::from_version(operator, version).map_err(|_| QueryError)
}

impl Query {
    /// Whose file is asked for.
    pub fn project(&self) -> &ProjectName {
        &self.project
    }

    /// The file that answers: of the newest release that has one, a wheel where there is one. A yanked one only where its
    /// very version is asked for.
    pub fn pick<'p>(&self, page: &'p Page) -> Option<&'p Entry> {
        let exact = self.versions.iter().any(|version| *version.operator() == Operator::Equal);
        let fits = page.files.iter().filter_map(|entry| {
            let version: Version = entry.record.version.parse().ok()?;
            let within = self.versions.iter().all(|wanted| wanted.contains(&version));
            let ends = self
                .ending
                .as_ref()
                .is_none_or(|ending| entry.record.filename.ends_with(&ending.text) == ending.wanted);
            let shown = exact || entry.yanked.is_none();
            (within && ends && shown).then_some((version, entry))
        });
        let better = |a: &(Version, &Entry), b: &(Version, &Entry)| {
            let wheel = |entry: &Entry| entry.record.filename.ends_with(".whl");
            // Of equals the first listed.
            (&b.0, wheel(b.1)) > (&a.0, wheel(a.1))
        };
        fits.reduce(|a, b| if better(&a, &b) { b } else { a }).map(|(_, entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::{Query, QueryError};
    use crate::domain::wheels::{Entry, Page};
    use proptest::prelude::*;

    fn page(names: &[&str]) -> Page {
        let files = names.iter().map(|name| {
            let (name, yanked) = name.strip_prefix('~').map_or((*name, false), |name| (name, true));
            let parsed: crate::domain::wheels::DistributionFilename = name.parse().unwrap();
            let text = format!(
                "{{\"record\":{{\"filename\":\"{name}\",\"version\":\"{}\",\"size\":1,\"sha256\":\"\",\"upload_time\":\"\"}},\
                 \"stamp\":{{\"size\":1,\"modified\":1}}}}",
                parsed.version()
            );
            let mut entry: Entry = serde_json::from_str(&text).unwrap();
            entry.yanked = yanked.then(String::new);
            entry
        });
        Page { files: files.collect(), whole: true }
    }

    #[test]
    fn the_newest_that_fits_answers() {
        let page = page(&[
            "a-0.9-py3-none-any.whl",
            "a-1.0-py3-none-any.whl",
            "a-1.0.tar.gz",
            "a-1.10.tar.gz",
            "a-1.9-cp39-none-any.whl",
            "a-1.9-py3-none-any.whl",
            "~a-3.0-py3-none-any.whl",
            "a-2.0rc1.zip",
        ]);
        for (query, answer) in [
            ("a", Some("a-2.0rc1.zip")),
            ("A;whl", Some("a-1.9-cp39-none-any.whl")),
            ("a;~whl", Some("a-2.0rc1.zip")),
            ("a;gz", Some("a-1.10.tar.gz")),
            ("a;bz2", None),
            ("a==1.0", Some("a-1.0-py3-none-any.whl")),
            ("a==1.0.0", Some("a-1.0-py3-none-any.whl")),
            ("a==1.0;~whl", Some("a-1.0.tar.gz")),
            ("a>=1,<1.10", Some("a-1.9-cp39-none-any.whl")),
            ("a(>=1,<1.9)", Some("a-1.0-py3-none-any.whl")),
            ("a(1.0)", Some("a-1.0-py3-none-any.whl")),
            ("a[x,y]>0.9,!=1.10,<2", Some("a-1.9-cp39-none-any.whl")),
            ("a==3.0", Some("a-3.0-py3-none-any.whl")),
            ("a>2.0", None),
            ("a<0.1", None),
        ] {
            let query_: Query = query.parse().unwrap();
            assert_eq!(query_.pick(&page).map(|e| e.record.filename.as_str()), answer, "{query}");
        }
    }

    #[test]
    fn what_is_no_question() {
        for text in [
            "",
            "a==",
            "a~=1",
            "a===1",
            "a == 1",
            "a ",
            "a;whl;gz",
            "a;",
            "a;~",
            "a==1.*",
            "a==1,",
            "a>=1,2",
            "a(",
            "a()",
            "a[",
            "a==x",
            "-a",
            "a==1 2",
            "a;w/l",
            "a==1;python_version<'3'",
            "=1",
        ] {
            assert_eq!(text.parse::<Query>(), Err(QueryError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "[ab;=<>~!()\\[\\], .0-9]{0,12}") {
            if let Ok(query) = text.parse::<Query>() {
                prop_assert!(query.pick(&page(&["a-1.tar.gz"])).is_none_or(|_| !text.is_empty()));
            }
        }
    }
}
