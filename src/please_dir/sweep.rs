//! `larder sweep --please-dir` and `larder cache_cleaner`: keeps a tree between its marks.
//!
//! Reads the tree once, plans, removes. Under the high mark nothing is touched at all. From there on, first goes what was
//! left unfinished more than a day ago and directories that were empty for as long, then entries, until the tree is under
//! the low mark. Of two sweeps at once one waits for the other, by a lock on the directory, and then finds little to do.

use std::borrow::Cow;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::at::{self, Nanos};
use super::measure::Times;
use super::plan::{self, Entry, Ledger, Marks};
use super::remove::{self, Outcome, Spared};
use super::walk::{self, Tree};
use super::{Error, timestamp};

/// After this time whoever wrote or deleted an unfinished entry is dead.
const LEFT_OVER: Duration = Duration::from_hours(24);

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// The cache's directory.
    pub dir: PathBuf,
    /// Between which sizes it is kept.
    pub marks: Marks,
    /// Only say what would go.
    pub dry_run: bool,
    /// One JSON object a line for each entry, and one for the sum.
    pub json: bool,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Whole entries that were there.
    pub entries: u64,
    /// Size of the tree before, bytes as `du` counts.
    pub before: u64,
    /// And after.
    pub after: u64,
    /// Entries removed, or that would be.
    pub removed: u64,
    /// Unfinished entries and empty directories removed, or that would be.
    pub leftovers: u64,
    /// Bytes that this freed.
    pub freed: u64,
    /// Entries that were used, locked or rewritten when their turn came.
    pub spared: u64,
    /// Entries that could not be removed.
    pub failed: u64,
    /// Places that could not be read; they count as nothing.
    pub unread: u64,
    /// Whether nothing was removed.
    pub dry_run: bool,
}

/// An entry that went, as `--json` shows it.
#[derive(Debug, Serialize)]
struct Line<'e> {
    entry: Cow<'e, str>,
    bytes: u64,
    used: String,
    removed: bool,
}

/// Keeps a Please directory cache between its marks. Blocks: for a command that does nothing else.
///
/// # Errors
/// [`Error::Unreached`] where the tree is not under the low mark at the end though it was not under the high one.
pub fn sweep(what: &Sweep, now: SystemTime, out: &mut impl Write) -> Result<Swept, Error> {
    let place = |source| Error::Place { path: what.dir.clone(), source };
    let root = at::root(&what.dir).map_err(place)?;
    if !what.dry_run {
        at::wait_for(&root).map_err(place)?;
    }
    let times = Times::of(&root).map_err(place)?;
    let tree = walk::read(&root, times).map_err(place)?;
    let ledger = tree.ledger();
    let sum = Swept {
        entries: tree.entries.len() as u64,
        before: ledger.total(),
        after: ledger.total(),
        unread: tree.unread,
        dry_run: what.dry_run,
        ..Swept::default()
    };
    let needed = !what.marks.is_under_high(sum.before);
    let mut run = Run { what, root, times, ledger, sum, out };
    if needed {
        run.clean(&tree, at::since_1970(now))?;
    }
    run.report()?;
    if needed && !what.marks.is_under_low(run.sum.after) {
        return Err(Error::Unreached { left: run.sum.after });
    }
    Ok(run.sum)
}

struct Run<'r, W> {
    what: &'r Sweep,
    root: OwnedFd,
    times: Times,
    ledger: Ledger,
    sum: Swept,
    out: &'r mut W,
}

impl<W: Write> Run<'_, W> {
    fn clean(&mut self, tree: &Tree, now: Nanos) -> io::Result<()> {
        let day = i64::try_from(LEFT_OVER.as_nanos()).unwrap_or(i64::MAX);
        let old = |written: Nanos| now.saturating_sub(written) > day;
        for entry in tree.unfinished.iter().filter(|entry| old(entry.written)) {
            if self.entry(entry)? {
                self.sum.leftovers += 1;
            }
        }
        for hollow in tree.hollow.iter().filter(|hollow| old(hollow.written)) {
            self.hollow(&hollow.path, hollow.disk);
        }
        for index in plan::order(&tree.entries) {
            if self.what.marks.is_under_low(self.sum.after) {
                break;
            }
            let Some(entry) = tree.entries.get(index) else { break };
            if self.entry(entry)? {
                self.sum.removed += 1;
            }
        }
        Ok(())
    }

    /// Whether it went, or would.
    fn entry(&mut self, entry: &Entry) -> io::Result<bool> {
        let outcome =
            if self.what.dry_run { Outcome::Removed } else { remove::entry(&self.root, entry, self.times) };
        let path = entry.path.display();
        match outcome {
            // Another's work: it takes no room either.
            Outcome::Removed | Outcome::Spared(Spared::Gone) => {
                let freed = self.ledger.remove(entry.own, &entry.shared);
                self.sum.after = self.ledger.total();
                if matches!(outcome, Outcome::Spared(_)) {
                    self.sum.spared += 1;
                    return Ok(false);
                }
                self.sum.freed += freed;
                tracing::info!(%path, freed, "removed");
                self.tell(entry, freed)?;
                return Ok(true);
            }
            Outcome::Spared(why) => {
                self.sum.spared += 1;
                tracing::info!(%path, ?why, "spared");
            }
            Outcome::Failed(error) => {
                self.sum.failed += 1;
                tracing::warn!(%path, cause = %error, "cannot be removed");
            }
        }
        Ok(false)
    }

    fn hollow(&mut self, path: &Path, disk: u64) {
        let gone = if self.what.dry_run { Ok(true) } else { remove::hollow(&self.root, path) };
        match gone {
            Ok(true) => {
                self.sum.leftovers += 1;
                self.sum.freed += self.ledger.remove(disk, &[]);
                self.sum.after = self.ledger.total();
            }
            Ok(false) => {}
            Err(error) => {
                self.sum.failed += 1;
                tracing::warn!(path = %path.display(), cause = %error, "cannot be removed");
            }
        }
    }

    fn tell(&mut self, entry: &Entry, freed: u64) -> io::Result<()> {
        let used = timestamp(at::moment(entry.used));
        if self.what.json {
            let removed = !self.what.dry_run;
            let line = Line { entry: entry.path.to_string_lossy(), bytes: freed, used, removed };
            serde_json::to_writer(&mut *self.out, &line)?;
            return self.out.write_all(b"\n");
        }
        if self.what.dry_run {
            return writeln!(self.out, "would remove {}, {freed} bytes, used {used}", entry.path.display());
        }
        Ok(())
    }

    fn report(&mut self) -> io::Result<()> {
        let sum = &self.sum;
        if self.what.json {
            serde_json::to_writer(&mut *self.out, sum)?;
            self.out.write_all(b"\n")?;
            return self.out.flush();
        }
        let did = if sum.dry_run { "would remove" } else { "removed" };
        write!(self.out, "{did} {} of {} entries, {} bytes", sum.removed, sum.entries, sum.freed)?;
        write!(self.out, "; the tree takes {} of {} bytes", sum.after, sum.before)?;
        for (count, text) in [
            (sum.leftovers, "leftovers removed"),
            (sum.spared, "in use or gone"),
            (sum.failed, "could not be removed"),
            (sum.unread, "places could not be read"),
        ] {
            if count > 0 {
                write!(self.out, "; {count} {text}")?;
            }
        }
        writeln!(self.out)?;
        self.out.flush()
    }
}
