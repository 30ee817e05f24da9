//! One pass over the store: its listing, as whole entries.
//!
//! A listing that breaks off is taken up again behind its last line. Only ever looks.

use std::collections::VecDeque;

use futures_util::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};

use super::report::Counters;
use super::retry;
use crate::domain::entries::{Entries, Entry, Line};
use crate::store::{self, Listed, Listing, Prefix, Store};

/// The lines of one place, to their end.
pub(super) struct Lines<'w> {
    store: &'w Store,
    place: Prefix,
    /// Whether a time of the last reading counts: [`Listing::used`].
    used: bool,
    lines: Option<BoxStream<'static, Result<Listed, store::Error>>>,
    /// The last line that came.
    last: Option<String>,
    tried: u32,
}

impl<'w> Lines<'w> {
    pub(super) const fn new(store: &'w Store, place: Prefix, used: bool) -> Self {
        Self { store, place, used, lines: None, last: None, tried: 0 }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Line>, store::Error> {
        loop {
            let how = || Listing { after: self.last.clone(), used: self.used, ..Listing::default() };
            let lines = self.lines.get_or_insert_with(|| self.store.list(&self.place, how()));
            match lines.next().await {
                Some(Ok(Listed::Object { key, size, modified })) => {
                    self.tried = 0;
                    self.last = Some(key.as_str().to_owned());
                    return Ok(Some(Line { key, size, used: modified }));
                }
                Some(Ok(Listed::Prefix(_))) => {}
                Some(Err(error)) => {
                    self.tried += 1;
                    self.lines = None;
                    if !retry::again(&error, self.tried).await {
                        return Err(error);
                    }
                }
                None => return Ok(None),
            }
        }
    }
}

/// A listing on its way.
struct Walk<'w> {
    store: &'w Store,
    seen: &'w Counters,
    places: VecDeque<Prefix>,
    /// Of the place before these.
    lines: Option<Lines<'w>>,
    entries: Entries,
    /// Whole, and not yet handed over.
    ready: VecDeque<Entry>,
}

/// All entries within these places, in the order in which their last keys are listed.
pub(super) fn entries<'w>(
    store: &'w Store,
    places: &[Prefix],
    seen: &'w Counters,
) -> impl Stream<Item = Result<Entry, store::Error>> + Send + use<'w> {
    let walk = Walk {
        store,
        seen,
        places: places.iter().cloned().collect(),
        lines: None,
        entries: Entries::default(),
        ready: VecDeque::new(),
    };
    stream::try_unfold(walk, async |mut walk| Ok(walk.next().await?.map(|entry| (entry, walk))))
}

/// Shows every entry.
pub(super) async fn each(
    store: &Store,
    places: &[Prefix],
    seen: &Counters,
    mut show: impl FnMut(Entry),
) -> Result<(), store::Error> {
    let mut all = std::pin::pin!(entries(store, places, seen));
    while let Some(entry) = all.try_next().await? {
        show(entry);
    }
    Ok(())
}

impl Walk<'_> {
    async fn next(&mut self) -> Result<Option<Entry>, store::Error> {
        loop {
            if let Some(entry) = self.ready.pop_front() {
                return Ok(Some(entry));
            }
            let Some(lines) = &mut self.lines else {
                let Some(place) = self.places.pop_front() else { return Ok(None) };
                self.lines = Some(Lines::new(self.store, place, true));
                continue;
            };
            match lines.next().await? {
                Some(line) => {
                    self.seen.line(line.size);
                    self.ready.extend(self.entries.push(line));
                }
                None => {
                    self.lines = None;
                    self.ready.extend(self.entries.finish());
                }
            }
        }
    }
}
