//! `larder push --please-dir`: sends a directory cache's entries to a shared one, so that its first build is not the slowest.
//!
//! Entries that were used last go first. A few are under way at a time, each one's files one after the other; what is
//! there already is not sent again, as far as that can be asked. What the shared cache has is never removed, and the tree
//! is only read.

use std::borrow::Cow;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::mpsc;

use super::content::{self, Taker, Unsent};
use super::measure::Times;
use super::name::Name;
use super::plan::Entry;
use super::{Error, at, walk};
use crate::client::{self, Artifacts, Content};
use crate::domain::artifact::{ArtifactKey, EntryKey, OsName};
use crate::domain::glob::is_glob;

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Push {
    /// The cache's directory.
    pub dir: PathBuf,
    /// For which system its entries were built; the tree does not say.
    pub os: OsName,
    /// Entries under way at a time.
    pub jobs: usize,
    /// Only ask what is there.
    pub dry_run: bool,
    /// One JSON object a line for each entry, and one for the sum.
    pub json: bool,
}

/// What was done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pushed {
    /// Whole entries in the tree.
    pub entries: u64,
    /// Those of which something was sent, or would be.
    pub pushed: u64,
    /// Those of which everything was there already.
    pub present: u64,
    /// Those that HTTP cannot carry, or that were in use.
    pub left_out: u64,
    /// Those that were not sent whole.
    pub failed: u64,
    /// Files sent, or that would be.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Whether nothing was sent.
    pub dry_run: bool,
}

/// What came of an entry, as `--json` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    Pushed,
    Present,
    LeftOut,
    Failed,
}

#[derive(Debug, Serialize)]
struct Line<'e> {
    entry: Cow<'e, str>,
    fate: Fate,
    files: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// Sends all whole entries of a Please directory cache.
///
/// # Errors
/// What is [final](client::Error::is_final) at once; [`Error::Unpushed`] at the end, where entries failed.
pub async fn push(what: &Push, artifacts: &Artifacts, out: &mut impl Write) -> Result<Pushed, Error> {
    artifacts.ping().await?;
    let place = |source| Error::Place { path: what.dir.clone(), source };
    let root = Arc::new(at::root(&what.dir).map_err(place)?);
    let times = Times::of(&root).map_err(place)?;
    let mut entries = walk::read(&root, times).map_err(place)?.entries;
    entries.sort_unstable_by(|a, b| b.used.cmp(&a.used).then_with(|| a.path.cmp(&b.path)));
    let mut sum = Pushed { entries: entries.len() as u64, dry_run: what.dry_run, ..Pushed::default() };
    let bar = bar(sum.entries);
    let mut sending = stream::iter(entries)
        .map(|entry| one(what, artifacts, Arc::clone(&root), Arc::new(entry)))
        .buffer_unordered(what.jobs.max(1));
    let ended = loop {
        let Some((entry, sent)) = sending.next().await else { break Ok(()) };
        match sum.add(&entry.path, sent) {
            Ok(line) => tell(what, &line, out)?,
            Err(error) => break Err(error),
        }
        bar.inc(1);
        bar.set_message(format!("{} files, {} bytes", sum.files, sum.bytes));
    };
    bar.finish_and_clear();
    report(what, &sum, out)?;
    ended?;
    if sum.failed > 0 { Err(Error::Unpushed(sum.failed)) } else { Ok(sum) }
}

/// For a person at a terminal; elsewhere nothing is shown.
fn bar(entries: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} entries, {msg}, {eta} left");
    ProgressBar::new(entries).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What was sent of an entry, and what ended it early.
#[derive(Debug, Default)]
struct Sent {
    files: u64,
    bytes: u64,
    ended: Option<Ended>,
}

#[derive(Debug)]
enum Ended {
    Entry(Unsent),
    Cache(String, client::Error),
}

impl Pushed {
    fn add<'e>(&mut self, entry: &'e Path, sent: Sent) -> Result<Line<'e>, Error> {
        self.files += sent.files;
        self.bytes += sent.bytes;
        let (fate, why) = match sent.ended {
            None if sent.files > 0 => (Fate::Pushed, None),
            None => (Fate::Present, None),
            Some(Ended::Entry(why)) if why.is_left_out() => (Fate::LeftOut, Some(why.to_string())),
            Some(Ended::Entry(why)) => (Fate::Failed, Some(why.to_string())),
            Some(Ended::Cache(_, error)) if error.is_final() => return Err(error.into()),
            Some(Ended::Cache(file, error)) => (Fate::Failed, Some(format!("{file}: {error}"))),
        };
        let path = entry.display();
        match fate {
            Fate::Pushed => self.pushed += 1,
            Fate::Present => self.present += 1,
            Fate::LeftOut => {
                self.left_out += 1;
                tracing::info!(%path, cause = why.as_deref(), "left out");
            }
            Fate::Failed => {
                self.failed += 1;
                tracing::warn!(%path, cause = why.as_deref(), "not pushed");
            }
        }
        Ok(Line { entry: entry.to_string_lossy(), fate, files: sent.files, bytes: sent.bytes, why })
    }
}

/// Reads an entry on a thread of its own, and sends what is not there.
async fn one(
    what: &Push,
    artifacts: &Artifacts,
    root: Arc<OwnedFd>,
    entry: Arc<Entry>,
) -> (Arc<Entry>, Sent) {
    let mut sent = Sent::default();
    let key = match key(&what.os, &entry) {
        Ok(key) => key,
        Err(why) => {
            sent.ended = Some(Ended::Entry(why));
            return (entry, sent);
        }
    };
    let (give, mut take) = mpsc::channel(1);
    let read = Arc::clone(&entry);
    let reading =
        tokio::task::spawn_blocking(move || content::hand(&root, &read, &mut Giver { entry: key, give }));
    while let Some((file, content)) = take.recv().await {
        if let Err(error) = file_of(what, artifacts, &file, &content, &mut sent).await {
            sent.ended = Some(Ended::Cache(file.file().to_owned(), error));
            break;
        }
    }
    drop(take);
    let read = reading.await.unwrap_or_else(|died| Err(Unsent::Read(died.into())));
    if let (None, Err(why)) = (&sent.ended, read) {
        sent.ended = Some(Ended::Entry(why));
    }
    (entry, sent)
}

async fn file_of(
    what: &Push,
    artifacts: &Artifacts,
    file: &ArtifactKey,
    content: &Content,
    sent: &mut Sent,
) -> Result<(), client::Error> {
    // A name with a `*` in it can be stored, but not asked for: the answer would be of the files that the glob takes.
    if !is_glob(file.file()) && artifacts.has(file).await? {
        return Ok(());
    }
    if !what.dry_run {
        artifacts.send(file, content).await?;
    }
    sent.files += 1;
    sent.bytes += content.len();
    Ok(())
}

/// What the shared cache calls an entry: with the system's name, and the hash without its padding.
fn key(os: &OsName, entry: &Entry) -> Result<EntryKey, Unsent> {
    let bad = |why: String| Unsent::Name { name: entry.path.display().to_string(), why };
    let name = entry.path.file_name().and_then(|name| Name::parse(name, entry.form));
    let above = entry.path.parent().and_then(Path::to_str);
    let (Some(name), Some(above)) = (name, above) else { return Err(bad("not UTF-8".to_owned())) };
    format!("{os}/{above}/{}", name.key()).parse().map_err(|error| bad(format!("{error}")))
}

/// Hands files from the thread that reads to the task that sends.
struct Giver {
    entry: EntryKey,
    give: mpsc::Sender<(ArtifactKey, Content)>,
}

impl Giver {
    fn key(&self, name: &str) -> Result<ArtifactKey, Unsent> {
        let named = self.entry.file(name);
        named.map_err(|error| Unsent::Name { name: name.to_owned(), why: error.to_string() })
    }
}

impl Taker for Giver {
    fn check(&self, name: &str) -> Result<(), Unsent> {
        self.key(name).map(drop)
    }

    fn take(&mut self, name: &str, content: Content) -> Result<(), Unsent> {
        let key = self.key(name)?;
        self.give.blocking_send((key, content)).map_err(|_| Unsent::Stopped)
    }
}

fn tell(what: &Push, line: &Line<'_>, out: &mut impl Write) -> std::io::Result<()> {
    if what.json {
        serde_json::to_writer(&mut *out, line)?;
        return out.write_all(b"\n");
    }
    if what.dry_run && line.fate == Fate::Pushed {
        let Line { entry, files, bytes, .. } = line;
        return writeln!(out, "would push {entry}, {files} files, {bytes} bytes");
    }
    Ok(())
}

fn report(what: &Push, sum: &Pushed, out: &mut impl Write) -> std::io::Result<()> {
    if what.json {
        serde_json::to_writer(&mut *out, sum)?;
        out.write_all(b"\n")?;
        return out.flush();
    }
    let did = if sum.dry_run { "would push" } else { "pushed" };
    let Pushed { entries, pushed, present, left_out, failed, files, bytes, .. } = sum;
    write!(out, "{did} {pushed} of {entries} entries, {files} files, {bytes} bytes; {present} were there")?;
    if *left_out > 0 {
        write!(out, "; {left_out} left out")?;
    }
    if *failed > 0 {
        write!(out, "; {failed} failed")?;
    }
    writeln!(out)?;
    out.flush()
}
