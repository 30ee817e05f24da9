//! The second pass: what the plan takes is removed as it is listed, batch by batch, several batches at a time.
//!
//! Of each batch the heads go first and the rest only once they are gone: whoever reads an entry that is half gone finds none.
//! A head that is not the one that was listed saves its entry. Never goes on where the store refuses again and again.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};

use super::plan::{Plan, Verdict};
use super::{Counters, Terms, leftover, pass, retry};
use crate::domain::entries::{Entry, Line};
use crate::domain::layout;
use crate::store::{self, BATCH, Key, Kind, Prefix, Store};

/// Batches at a time.
const AT_ONCE: usize = 4;
/// Heads that are looked at at a time, for each batch.
const LOOKS: usize = 16;
/// A batch that is not full by then goes as it is, so that nothing is removed long after it was looked at.
const WAITS: usize = 10_000;
/// After so many refusals in a row the store is not asked again.
const PATIENCE: u32 = 10;

/// An entry that is to go, as the plan says.
#[derive(Debug)]
struct Doomed {
    entry: Entry,
    why: Verdict,
}

impl Doomed {
    /// Its share of a batch.
    fn keys(&self) -> usize {
        self.entry.keys.len().max(1)
    }
}

/// An entry, or what is left of one, that goes.
#[derive(Debug)]
struct Going {
    entry: Entry,
    why: Verdict,
    /// What of it goes beside its head.
    keys: Vec<Key>,
    /// Bytes of all that goes.
    bytes: u64,
}

/// Fills batches from a listing.
struct Picker<'w> {
    entries: BoxStream<'w, Result<Entry, store::Error>>,
    plan: Plan,
    /// What found no room in the last batch.
    spilt: Option<Doomed>,
}

impl Picker<'_> {
    /// The next entries that go, [`BATCH`] keys of them; none once all were seen.
    async fn batch(&mut self) -> Result<Vec<Doomed>, store::Error> {
        let mut batch: Vec<Doomed> = self.spilt.take().into_iter().collect();
        let mut keys: usize = batch.iter().map(Doomed::keys).sum();
        let mut waited = 0;
        while keys < BATCH && waited < WAITS {
            let Some(entry) = self.entries.try_next().await? else { break };
            waited += usize::from(!batch.is_empty());
            let why = self.plan.judge(&entry);
            if why == Verdict::Keep {
                continue;
            }
            let doomed = Doomed { entry, why };
            keys += doomed.keys();
            if keys > BATCH && !batch.is_empty() {
                self.spilt = Some(doomed);
                break;
            }
            batch.push(doomed);
        }
        Ok(batch)
    }
}

/// What all batches share.
#[derive(Debug)]
pub(super) struct Work<'w> {
    store: &'w Store,
    terms: &'w Terms,
    now: SystemTime,
    seen: &'w Counters,
    /// Refusals in a row.
    refusals: AtomicU32,
}

impl<'w> Work<'w> {
    pub(super) fn new(store: &'w Store, terms: &'w Terms, now: SystemTime, seen: &'w Counters) -> Self {
        Self { store, terms, now, seen, refusals: AtomicU32::new(0) }
    }

    /// Lists, and removes what the plan takes.
    pub(super) async fn remove(&self, plan: Plan) -> Result<(), store::Error> {
        let entries = pass::entries(self.store, &self.terms.places, self.seen).boxed();
        let picker = Picker { entries, plan, spilt: None };
        let batches = stream::try_unfold(picker, async |mut picker| {
            let batch = picker.batch().await?;
            Ok::<_, store::Error>((!batch.is_empty()).then_some((batch, picker)))
        });
        batches.map_ok(|batch| self.batch(batch)).try_buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn batch(&self, batch: Vec<Doomed>) -> Result<(), store::Error> {
        let looks = stream::iter(batch).map(|doomed| self.look(doomed)).buffered(LOOKS);
        let going: Vec<Option<Going>> = looks.try_collect().await?;
        let mut going: Vec<Going> = going.into_iter().flatten().collect();
        if self.terms.dry_run {
            going.iter().for_each(|going| self.count(going));
            return Ok(());
        }
        let head = |going: &Going| going.entry.head.as_ref().map(|head| head.key.clone());
        let left = self.delete(going.iter().filter_map(head).collect()).await?;
        // Without its files a head is a lie; so where the head stays, all stays.
        going.retain(|going| head(going).is_none_or(|head| !left.contains(&head)));
        let keys = going.iter().flat_map(|going| going.keys.iter().cloned()).collect();
        let left = self.delete(keys).await?;
        for going in going {
            let stays = going.keys.iter().filter(|key| left.contains(*key)).count();
            if stays > 0 {
                continue;
            }
            if !self.is_endless(&going) || self.rest(&going.entry).await? {
                self.count(&going);
            }
        }
        Ok(())
    }

    fn count(&self, going: &Going) {
        if going.why == Verdict::Suspect && going.keys.len() as u64 != going.entry.objects {
            self.seen.part_gone(going.keys.len() as u64, going.bytes, going.why);
        } else {
            self.seen.gone(&going.entry, going.why);
        }
    }

    /// What of an entry goes, looked at once more: `None` where it stays.
    async fn look(&self, Doomed { mut entry, why }: Doomed) -> Result<Option<Going>, store::Error> {
        if why == Verdict::Suspect {
            let found = leftover::of(self.store, &entry).await?;
            let bytes = found.iter().map(|file| file.size).sum();
            let keys = found.into_iter().map(|file| file.key).collect::<Vec<_>>();
            return Ok((!keys.is_empty()).then_some(Going { entry, why, keys, bytes }));
        }
        if let (Some(head), false) = (&entry.head, self.terms.dry_run)
            && self.has_changed(head, entry.used).await?
        {
            self.seen.spared();
            return Ok(None);
        }
        let keys = std::mem::take(&mut entry.keys);
        Ok(Some(Going { why, keys, bytes: entry.bytes, entry }))
    }

    /// Whether a head is another than was listed, or has been used since. One request.
    async fn has_changed(&self, head: &Line, used: SystemTime) -> Result<bool, store::Error> {
        let now = retry::patiently(|| self.store.head(&head.key)).await?;
        // Where it is gone, another sweep is at work on the rest.
        Ok(now.is_some_and(|now| now.size != head.size || now.modified > used))
    }

    fn is_endless(&self, going: &Going) -> bool {
        let held = going.keys.len() as u64 + u64::from(going.entry.head.is_some());
        going.why != Verdict::Suspect && held < going.entry.objects
    }

    /// Removes what is left of an entry with more keys than are held: they are listed once more. `false` where the store
    /// refuses to remove some.
    async fn rest(&self, entry: &Entry) -> Result<bool, store::Error> {
        let place = entry.within.clone().unwrap_or_else(Prefix::root);
        let mut lines = pass::Lines::new(self.store, place, false);
        let (mut batch, mut whole) = (Vec::new(), true);
        while let Some(line) = lines.next().await? {
            if line.used <= self.now && layout::member(&line.key).entry == entry.name {
                batch.push(line.key);
            }
            if batch.len() == BATCH {
                whole &= self.delete(std::mem::take(&mut batch)).await?.is_empty();
            }
        }
        Ok(self.delete(batch).await?.is_empty() && whole)
    }

    /// Removes keys; returns those that the store refuses to remove.
    async fn delete(&self, keys: Vec<Key>) -> Result<HashSet<Key>, store::Error> {
        let mut left = HashSet::new();
        if keys.is_empty() {
            return Ok(left);
        }
        match retry::patiently(|| self.store.delete(&keys)).await {
            Ok(()) => self.refusals.store(0, Ordering::Relaxed),
            Err(error) if error.kind == Kind::Unavailable => return Err(error),
            // Some of them failed, which is not said: one by one it shows.
            Err(_) => {
                for key in keys {
                    if !self.delete_one(&key).await? {
                        left.insert(key);
                    }
                }
            }
        }
        Ok(left)
    }

    async fn delete_one(&self, key: &Key) -> Result<bool, store::Error> {
        let done = retry::patiently(|| self.store.delete(std::slice::from_ref(key))).await;
        let Err(error) = done else {
            self.refusals.store(0, Ordering::Relaxed);
            return Ok(true);
        };
        tracing::warn!(key = %key, cause = %error.chain(), "an object cannot be removed");
        self.seen.fails(1);
        let refused = self.refusals.fetch_add(1, Ordering::Relaxed) + 1;
        if error.kind == Kind::Unavailable || refused >= PATIENCE { Err(error) } else { Ok(false) }
    }
}
