//! The few uploads at a time that may hold a file's metadata of more than usual size.
//!
//! Nobody waits for a place: who waited would keep a share of the budget meanwhile, which those who have places may need to
//! give theirs up. Who finds none is turned away; who has had one for long, and waits for its sender only, makes room for
//! the next. Never looks at a file.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Places.
const PLACES: usize = 4;

/// How long a place is its holder's, however slow the sender is.
const PATIENCE: Duration = Duration::from_secs(30);

/// The places. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub(in crate::domain) struct Places(Arc<Mutex<Vec<Holder>>>);

#[derive(Debug)]
struct Holder {
    since: Instant,
    /// Whether it waits for its sender, and would hear at once that it has to go.
    idle: Arc<AtomicBool>,
    leave: CancellationToken,
}

/// A place, given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    all: Places,
    idle: Arc<AtomicBool>,
    leave: CancellationToken,
}

impl Places {
    /// A place, if one is free, or has been another's for long.
    pub(super) fn take(&self, now: Instant) -> Option<Place> {
        let mut holders = self.holders();
        if holders.len() >= PLACES {
            let stale = |holder: &Holder| {
                let long = now.saturating_duration_since(holder.since) >= PATIENCE;
                long && holder.idle.load(Ordering::Relaxed)
            };
            let at = holders.iter().position(stale)?;
            holders.remove(at).leave.cancel();
        }
        let (idle, leave) = (Arc::new(AtomicBool::new(false)), CancellationToken::new());
        holders.push(Holder { since: now, idle: Arc::clone(&idle), leave: leave.clone() });
        drop(holders);
        Some(Place { all: self.clone(), idle, leave })
    }

    fn holders(&self) -> MutexGuard<'_, Vec<Holder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Waits for the sender. `None` where the place is another's by now.
    pub(super) async fn wait<T>(&self, sender: impl Future<Output = T>) -> Option<T> {
        self.idle.store(true, Ordering::Relaxed);
        let came = tokio::select! {
            biased;
            () = self.leave.cancelled() => None,
            came = sender => Some(came),
        };
        self.idle.store(false, Ordering::Relaxed);
        came
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.holders().retain(|holder| !Arc::ptr_eq(&holder.idle, &self.idle));
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Instant;

    use futures_util::poll;

    use super::{PATIENCE, PLACES, Places};

    #[tokio::test]
    async fn places_are_few_and_come_back() {
        let (all, now) = (Places::default(), Instant::now());
        let mut held: Vec<_> = (0..PLACES).map(|_| all.take(now).unwrap()).collect();
        assert!(all.take(now).is_none());
        held.pop();
        held.push(all.take(now).unwrap());
        // At work, however long: its next word with its sender is near.
        assert!(all.take(now + PATIENCE).is_none());
        assert_eq!(held[0].wait(ready(7)).await, Some(7));
        assert!(all.take(now + PATIENCE).is_none());
    }

    #[tokio::test]
    async fn who_waits_for_a_slow_sender_makes_room() {
        let (all, now) = (Places::default(), Instant::now());
        let held: Vec<_> = (0..PLACES).map(|_| all.take(now).unwrap()).collect();
        let mut slow = Box::pin(held[1].wait(pending::<()>()));
        assert!(poll!(slow.as_mut()).is_pending());
        assert!(all.take(now + PATIENCE / 2).is_none());
        let next = all.take(now + PATIENCE).unwrap();
        assert_eq!(slow.await, None);
        assert!(all.take(now + PATIENCE).is_none());
        drop(held);
        let more: Vec<_> = (1..PLACES).map(|_| all.take(now).unwrap()).collect();
        assert!(all.take(now).is_none());
        drop((next, more));
        assert!(all.take(now).is_some());
    }
}
