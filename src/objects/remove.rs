//! `rm`: what may be removed on which terms is decided first, by pure functions; then it is removed batch by batch.
//! Memory does not grow with what is removed.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::SystemTime;

use futures_util::future::ready;
use futures_util::stream::{self, BoxStream, StreamExt};
use futures_util::{TryStreamExt, pin_mut};
use serde::Serialize;

use super::{Error, Shown, Target, json_line, walk};
use crate::domain::layout;
use crate::store::{self, BATCH, Key, Listed, Store};

/// How far objects are counted before a person is asked.
const COUNTED: u64 = 10_000;

/// After so many failures in a row the store is not asked again.
const PATIENCE: u64 = 10;

/// What to remove, and on which terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rm {
    /// Where.
    pub targets: Vec<Target>,
    /// Everything is meant.
    pub all: bool,
    /// Only say what would be removed.
    pub dry_run: bool,
    /// For programs.
    pub json: bool,
    /// More than one object may go unasked.
    pub yes: bool,
}

/// Why nothing was tried: the command asks for too much, or for two things.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The whole store, and not on purpose.
    #[error("this would remove everything in the store: say --all if that is meant")]
    Everything,
    /// `--all`, and a place beside it.
    #[error("--all removes everything: name no prefix with it, or leave it out")]
    Both,
    /// Nobody can be asked.
    #[error("this would remove {0}: say --yes, since there is no terminal to ask on")]
    Unasked(String),
}

/// What a person says when asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Go on.
    Yes,
    /// Leave it.
    No,
    /// There is nobody to ask.
    Nobody,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Sum {
    /// Objects removed, or that would be.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that could not be removed.
    pub failed: u64,
    /// Nothing was removed; this is what would be.
    pub dry_run: bool,
}

/// An object that is to go.
#[derive(Debug, Clone)]
struct Doomed {
    key: Key,
    size: u64,
    modified: SystemTime,
}

#[derive(Debug, Serialize)]
struct Gone<'k> {
    #[serde(flatten)]
    object: Shown<'k>,
    removed: bool,
}

/// The places to remove, none within another, so that nothing is counted or removed twice.
fn plan(what: &Rm) -> Result<Vec<Target>, Refusal> {
    let mut whole = what.targets.is_empty();
    let mut keys = BTreeMap::new();
    for target in &what.targets {
        match target {
            Target::Everything => whole = true,
            Target::Tree(key) => {
                keys.insert(key, true);
            }
            Target::Below(key) => {
                keys.entry(key).or_insert(false);
            }
        }
    }
    match (whole, what.all) {
        (true, false) => return Err(Refusal::Everything),
        (_, true) if !keys.is_empty() => return Err(Refusal::Both),
        (_, true) => return Ok(vec![Target::Everything]),
        (false, false) => {}
    }
    let outer = keys.iter().filter(|(key, _)| !key.ancestors().any(|above| keys.contains_key(&above)));
    Ok(outer
        .map(|(key, tree)| if *tree { Target::Tree((*key).clone()) } else { Target::Below((*key).clone()) })
        .collect())
}

/// What there is to remove, counted as far as [`COUNTED`].
#[derive(Debug, Default)]
struct Survey {
    objects: u64,
    bytes: u64,
    first: Option<Doomed>,
}

impl Survey {
    fn text(&self) -> String {
        if self.objects > COUNTED {
            return format!("more than {COUNTED} objects");
        }
        format!("{} objects ({})", self.objects, bytesize::ByteSize(self.bytes))
    }
}

/// What there is to remove, manifests and records first: nobody is to read what is left of an entry as a whole one, and
/// no index is to list a file that is gone.
fn in_order<'s>(store: &'s Store, places: &'s [Target]) -> BoxStream<'s, Result<Doomed, store::Error>> {
    let first = doomed(store, places).try_filter(|object| ready(goes_first(object)));
    let others = doomed(store, places).try_filter(|object| ready(!goes_first(object)));
    first.chain(others).boxed()
}

fn goes_first(object: &Doomed) -> bool {
    use layout::{Stored, WheelKey, wheels::Part};
    matches!(
        layout::parse(&object.key),
        Some(Stored::Manifest(_) | Stored::Wheel(WheelKey::File(_, _, Part::Record)))
    )
}

fn doomed<'s>(store: &'s Store, places: &'s [Target]) -> BoxStream<'s, Result<Doomed, store::Error>> {
    let listed = stream::iter(places).flat_map(move |place| walk(store, place, false).boxed());
    let objects = listed.try_filter_map(async |line| {
        Ok(match line {
            Listed::Object { key, size, modified } => Some(Doomed { key, size, modified }),
            Listed::Prefix(_) => None,
        })
    });
    objects.boxed()
}

async fn survey(store: &Store, places: &[Target]) -> Result<Survey, store::Error> {
    let mut found = Survey::default();
    let mut objects = doomed(store, places);
    while let Some(object) = objects.try_next().await? {
        found.objects += 1;
        found.bytes = found.bytes.saturating_add(object.size);
        if found.first.is_none() {
            found.first = Some(object);
        }
        if found.objects > COUNTED {
            break;
        }
    }
    Ok(found)
}

/// Removes what lies at the targets. `ask` is given a question for the person at the terminal, where one is needed;
/// what was removed is told on `out`, what could not be on `err`.
pub async fn rm(
    store: &Store,
    what: &Rm,
    ask: impl FnOnce(&str) -> io::Result<Answer>,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<Sum, Error> {
    let places = plan(what)?;
    let mut job =
        Job { store, what, out: Listener::new(out), err: Listener::new(err), sum: Sum::default(), row: 0 };
    job.sum.dry_run = what.dry_run;
    let objects = if what.dry_run {
        doomed(store, &places)
    } else if what.yes {
        in_order(store, &places)
    } else {
        let found = survey(store, &places).await?;
        match (found.objects, found.first.clone()) {
            // Exactly what was counted: more may have come since.
            (0 | 1, first) => stream::iter(first.map(Ok)).boxed(),
            (_, _) => {
                let text = found.text();
                match ask(&format!("Remove {text}?"))? {
                    Answer::Yes => in_order(store, &places),
                    Answer::No => return Err(Error::Declined),
                    Answer::Nobody => return Err(Refusal::Unasked(text).into()),
                }
            }
        }
    };
    let ended = job.work(objects).await;
    job.total()?;
    ended?;
    match job.sum {
        Sum { failed: 1.., .. } => Err(Error::Left(job.sum.failed)),
        Sum { objects: 0, .. } => {
            Err(Error::Nothing(places.iter().map(Target::to_string).collect::<Vec<_>>().join(", ")))
        }
        sum => Ok(sum),
    }
}

struct Job<'j, O, E> {
    store: &'j Store,
    what: &'j Rm,
    out: Listener<'j, O>,
    err: Listener<'j, E>,
    sum: Sum,
    /// Failures in a row.
    row: u64,
}

impl<O: Write, E: Write> Job<'_, O, E> {
    async fn work(&mut self, objects: BoxStream<'_, Result<Doomed, store::Error>>) -> Result<(), Error> {
        let batches = objects.try_chunks(BATCH);
        pin_mut!(batches);
        while let Some(batch) = batches.next().await {
            match batch {
                Ok(batch) => self.batch(&batch).await?,
                // What was listed before the listing broke is not removed: the store is in no state for it.
                Err(stream::TryChunksError(_, error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn batch(&mut self, batch: &[Doomed]) -> Result<(), Error> {
        if self.what.dry_run {
            return batch.iter().try_for_each(|object| Ok(self.gone(object)?));
        }
        let keys: Vec<Key> = batch.iter().map(|object| object.key.clone()).collect();
        if self.store.delete(&keys).await.is_ok() {
            self.row = 0;
            batch.iter().try_for_each(|object| self.gone(object))?;
        } else {
            // Some of them failed, which is not said: one by one it shows.
            for object in batch {
                self.one(object).await?;
            }
        }
        Ok(self.out.flush()?)
    }

    async fn one(&mut self, object: &Doomed) -> Result<(), Error> {
        match self.store.delete(std::slice::from_ref(&object.key)).await {
            Ok(()) => {
                self.row = 0;
                Ok(self.gone(object)?)
            }
            Err(error) => {
                self.sum.failed += 1;
                self.row += 1;
                writeln!(self.err, "larder: {} is not removed: {}", object.key, error.chain())?;
                if self.row >= PATIENCE { Err(error.into()) } else { Ok(()) }
            }
        }
    }

    fn gone(&mut self, object: &Doomed) -> io::Result<()> {
        self.sum.objects += 1;
        self.sum.bytes = self.sum.bytes.saturating_add(object.size);
        let removed = !self.what.dry_run;
        if self.what.json {
            let object = Shown::new(&object.key, object.size, object.modified);
            json_line(&mut self.out, &Gone { object, removed })
        } else {
            writeln!(self.out, "{} {}", if removed { "removed" } else { "would remove" }, object.key)
        }
    }

    fn total(&mut self) -> io::Result<()> {
        if self.what.json {
            json_line(&mut self.out, &self.sum)?;
        } else {
            let Sum { objects, bytes, dry_run, .. } = self.sum;
            let verb = if dry_run { "would remove" } else { "removed" };
            writeln!(self.out, "{verb} {objects} objects, {bytes} bytes")?;
        }
        self.out.flush()
    }
}

/// An output whose reader may leave: the work goes on without one.
struct Listener<'o, O> {
    out: &'o mut O,
    gone: bool,
}

impl<'o, O> Listener<'o, O> {
    fn new(out: &'o mut O) -> Self {
        Self { out, gone: false }
    }
}

impl<O: Write> Write for Listener<'_, O> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gone {
            return Ok(bytes.len());
        }
        match self.out.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(bytes.len())
            }
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.out.flush() {
            Err(error) if self.gone || error.kind() == io::ErrorKind::BrokenPipe => {
                self.gone = true;
                Ok(())
            }
            flushed => flushed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(targets: &[&str], all: bool) -> Result<Vec<String>, Refusal> {
        let targets = targets.iter().map(|text| text.parse().unwrap()).collect();
        let what = Rm { targets, all, dry_run: false, json: false, yes: false };
        plan(&what).map(|places| places.iter().map(Target::to_string).collect())
    }

    #[test]
    fn places_are_distinct_and_everything_is_meant() {
        assert_eq!(planned(&["a/b", "a", "ab", "a"], false).unwrap(), ["a", "ab"]);
        assert_eq!(planned(&["a/", "a", "c/"], false).unwrap(), ["a", "c/"]);
        assert_eq!(planned(&["a/", "a/b"], false).unwrap(), ["a/"]);
        assert_eq!(planned(&[], true).unwrap(), ["/"]);
        assert_eq!(planned(&["/"], true).unwrap(), ["/"]);
        assert_eq!(planned(&["a", ""], false), Err(Refusal::Everything));
        assert_eq!(planned(&[], false), Err(Refusal::Everything));
        assert_eq!(planned(&["a"], true), Err(Refusal::Both));
    }

    #[test]
    fn large_counts_are_not_pretended() {
        let survey = |objects| Survey { objects, bytes: 2048, first: None }.text();
        assert_eq!(survey(3), "3 objects (2.0 KiB)");
        assert!(survey(COUNTED + 1).starts_with("more than 10000"));
    }

    #[test]
    fn a_reader_that_left_does_not_stop_the_work() {
        struct Left;
        impl Write for Left {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut left = Left;
        let mut out = Listener::new(&mut left);
        assert!(out.write_all(b"removed a\n").is_ok() && out.write_all(b"removed b\n").is_ok());
        assert!(out.flush().is_ok());
    }
}
