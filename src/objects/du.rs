//! `du`: what the store is full of, by place, package or target. Memory does not grow with what is stored.

use std::io::Write;
use std::time::SystemTime;

use bytesize::ByteSize;
use futures_util::TryStreamExt as _;
use serde::Serialize;

use super::{Error, json_line, timestamp};
use crate::domain::entries::{Entries, Entry, Line};
use crate::domain::layout;
use crate::store::{Listed, Listing, Prefix, Store};

/// What is summed up in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// What lies directly below the place that was asked for.
    #[default]
    Prefix,
    /// A package on one operating system, without those below it.
    Package,
    /// A target on one operating system, with all of its hashes.
    Target,
}

/// What to sum up, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Du {
    /// Where; nowhere means everywhere.
    pub places: Vec<Prefix>,
    /// What a line is of.
    pub by: By,
    /// For programs.
    pub json: bool,
}

/// So much of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sum {
    bytes: u64,
    objects: u64,
    entries: u64,
    /// First and last use of its entries; nothing where there is none.
    used: Option<(SystemTime, SystemTime)>,
}

impl Sum {
    const NONE: Self = Self { bytes: 0, objects: 0, entries: 0, used: None };

    fn add(&mut self, entry: &Entry) {
        self.bytes = self.bytes.saturating_add(entry.bytes);
        self.objects += entry.objects;
        self.entries += 1;
        let (first, last) = self.used.unwrap_or((entry.used, entry.used));
        self.used = Some((first.min(entry.used), last.max(entry.used)));
    }
}

/// A sum, as `--json` shows it.
#[derive(Debug, Serialize)]
struct Shown<'s> {
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<&'s str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    total: bool,
    bytes: u64,
    objects: u64,
    entries: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<String>,
}

/// Whose line an entry is in: a place that holds it.
fn line_of(entry: &Entry, by: By, below: &Prefix) -> String {
    let top = |place: &Prefix| {
        let rest = entry.name.strip_prefix(place.as_str()).unwrap_or_default();
        let end = rest.find('/').map_or(entry.name.len(), |slash| place.as_str().len() + slash + 1);
        entry.name.get(..end).unwrap_or_default().to_owned()
    };
    match (by, layout::entry_named(&entry.name)) {
        (By::Prefix, _) => top(below),
        (By::Package, Some(of)) => layout::package(&of).to_string(),
        (By::Target, Some(of)) => layout::target(&of.target_key()).to_string(),
        (By::Package | By::Target, None) => top(&Prefix::root()),
    }
}

/// Lines whose entries are still coming. All of a line's entries lie within its place, so it is over with the first entry
/// that does not.
#[derive(Debug, Default)]
struct Lines {
    /// Each within the one before.
    open: Vec<(String, Sum)>,
}

impl Lines {
    /// Adds an entry to its line; hands over the lines that it ends.
    fn add(&mut self, line: String, entry: &Entry) -> Vec<(String, Sum)> {
        let mut over = Vec::new();
        while let Some(last) = self.open.pop_if(|(place, _)| !entry.name.starts_with(place.as_str())) {
            over.push(last);
        }
        let at = self.open.partition_point(|(place, _)| place.len() < line.len());
        if self.open.get(at).is_none_or(|(place, _)| *place != line) {
            self.open.insert(at, (line, Sum::NONE));
        }
        if let Some((_, sum)) = self.open.get_mut(at) {
            sum.add(entry);
        }
        over
    }

    fn finish(&mut self) -> Vec<(String, Sum)> {
        self.open.drain(..).rev().collect()
    }
}

struct Page<'p, O> {
    what: &'p Du,
    out: &'p mut O,
    lines: Lines,
    total: Sum,
}

impl<O: Write> Page<'_, O> {
    fn entries(&mut self, below: &Prefix, entries: Vec<Entry>) -> Result<(), Error> {
        for entry in entries {
            self.total.add(&entry);
            let over = self.lines.add(line_of(&entry, self.what.by, below), &entry);
            self.show(&over)?;
        }
        Ok(())
    }

    fn show(&mut self, lines: &[(String, Sum)]) -> Result<(), Error> {
        lines.iter().try_for_each(|(place, sum)| self.line(Some(place), sum))
    }

    fn line(&mut self, place: Option<&str>, sum: &Sum) -> Result<(), Error> {
        let Sum { bytes, objects, entries, used } = *sum;
        let (oldest, newest) = used.map(|(first, last)| (timestamp(first), timestamp(last))).unzip();
        if self.what.json {
            let total = place.is_none();
            let shown = Shown { place, total, bytes, objects, entries, oldest, newest };
            return Ok(json_line(self.out, &shown)?);
        }
        let day = |time: Option<String>| {
            time.map_or_else(|| "-".to_owned(), |time| time.chars().take(10).collect())
        };
        let (size, place) = (ByteSize(bytes).to_string(), place.unwrap_or("total"));
        writeln!(self.out, "{size:>10}  {entries:>9}  {:10}  {:10}  {place}", day(oldest), day(newest))?;
        Ok(())
    }
}

/// Sums up. Lines come as the listing passes them; the last one is the total.
pub async fn du(store: &Store, what: &Du, out: &mut impl Write) -> Result<(), Error> {
    let everywhere = vec![Prefix::root()];
    let places = if what.places.is_empty() { everywhere } else { layout::outermost(what.places.clone()) };
    if !what.json {
        writeln!(out, "{:>10}  {:>9}  {:10}  {:10}  place", "size", "entries", "oldest", "newest")?;
    }
    let mut page = Page { what, out, lines: Lines::default(), total: Sum::NONE };
    for place in &places {
        let mut entries = Entries::default();
        let mut listed = store.list(place, Listing { used: true, ..Listing::default() });
        while let Some(line) = listed.try_next().await? {
            if let Listed::Object { key, size, modified } = line {
                page.entries(place, entries.push(Line { key, size, used: modified }))?;
            }
        }
        page.entries(place, entries.finish())?;
        let over = page.lines.finish();
        page.show(&over)?;
    }
    let total = page.total;
    page.line(None, &total)?;
    Ok(page.out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::{By, Entries, Entry, Line, Lines, Prefix, Sum, line_of};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::{Duration, SystemTime};

    const H20: &str = "AAECAwQFBgcICQoLDA0ODxAREhM";

    fn collected(names: impl IntoIterator<Item = String>) -> Vec<Entry> {
        let mut keys: Vec<String> = names.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        let mut entries = Entries::default();
        let mut all = Vec::new();
        for (n, key) in keys.iter().enumerate() {
            let used = SystemTime::UNIX_EPOCH + Duration::from_secs(n as u64);
            let line = Line { key: key.parse().unwrap(), size: 1 << (n % 40), used };
            all.extend(entries.push(line));
        }
        all.extend(entries.finish());
        all
    }

    fn lines(entries: &[Entry], by: By) -> Vec<(String, Sum)> {
        let (mut lines, below) = (Lines::default(), Prefix::root());
        let mut all: Vec<_> =
            entries.iter().flat_map(|entry| lines.add(line_of(entry, by, &below), entry)).collect();
        all.extend(lines.finish());
        all
    }

    #[test]
    fn lines_are_of_what_was_asked_for() {
        let keys = [
            "artifact/linux_a/p/t/@/a",
            "artifact/linux_a/p/u/@/a",
            "artifact/linux_a/p/q/t/@/a",
            "please/ab/x",
        ];
        let found = collected(keys.map(|key| key.replace('@', H20)));
        let names = |by| lines(&found, by).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(By::Prefix), ["artifact/", "please/"]);
        assert_eq!(names(By::Package), ["artifact/linux_a/p/q/", "artifact/linux_a/p/", "please/"]);
        let targets =
            ["artifact/linux_a/p/q/t/", "artifact/linux_a/p/t/", "artifact/linux_a/p/u/", "please/"];
        assert_eq!(names(By::Target), targets);
    }

    proptest! {
        /// One line for each, and in it exactly its entries, however packages and targets lie within each other.
        #[test]
        fn lines_add_up(
            keys in proptest::collection::vec(
                "(artifact/linux_a(/[ab]){1,3}/(@|dGVzdF9rZXk1)(/[ab]/[ab]/@)?/[ab]|please/ab/[ab]|[ab])", 0..40,
            ),
            by in prop_oneof![Just(By::Prefix), Just(By::Package), Just(By::Target)],
        ) {
            let entries = collected(keys.into_iter().map(|key| key.replace('@', H20)));
            let mut expected: BTreeMap<String, Sum> = BTreeMap::new();
            for entry in &entries {
                expected.entry(line_of(entry, by, &Prefix::root())).or_insert(Sum::NONE).add(entry);
            }
            let found = lines(&entries, by);
            prop_assert_eq!(found.len(), expected.len());
            prop_assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), expected);
        }
    }
}
