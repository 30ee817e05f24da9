//! One pass over the store: its listing, as whole entries.
//!
//! A listing that breaks off is taken up again behind its last line. Only ever looks.

use std::collections::VecDeque;

use futures_util::stream::{self, BoxStream, Stream, StreamExt as _, TryStreamExt as _};

use super::report::Counters;
use super::retry;
use crate::domain::entries::{Entries, Entry, Line};
use crate::store::{self, Listed, Listing, Prefix, Store};

/// A listing on its way.
struct Walk<'w> {
    store: &'w Store,
    seen: &'w Counters,
    places: VecDeque<Prefix>,
    /// Of the first of the places.
    lines: Option<BoxStream<'static, Result<Listed, store::Error>>>,
    /// The last line that came.
    last: Option<String>,
    tried: u32,
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
        last: None,
        tried: 0,
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
            let Some(place) = self.places.front() else { return Ok(None) };
            let how = || Listing { after: self.last.clone(), used: true, ..Listing::default() };
            let lines = self.lines.get_or_insert_with(|| self.store.list(place, how()));
            match lines.next().await {
                Some(Ok(Listed::Object { key, size, modified })) => {
                    self.tried = 0;
                    self.last = Some(key.as_str().to_owned());
                    self.seen.line(size);
                    self.ready.extend(self.entries.push(Line { key, size, used: modified }));
                }
                Some(Ok(Listed::Prefix(_))) => {}
                Some(Err(error)) => {
                    self.tried += 1;
                    self.lines = None;
                    if !retry::again(&error, self.tried).await {
                        return Err(error);
                    }
                }
                None => {
                    (self.lines, self.last) = (None, None);
                    self.places.pop_front();
                    self.ready.extend(self.entries.finish());
                }
            }
        }
    }
}
