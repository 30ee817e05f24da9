//! One budget of in-flight bytes for the whole process: when it is spent, requests wait.
//!
//! Whoever buffers more than [`FREE`] bytes of a body holds that much of the budget while it does. A holder never
//! asks for a second share while others wait ([`Budget::try_take`] is for that), so waiting always ends.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What each request may buffer without asking, in bytes. The number of connections bounds the sum.
pub const FREE: usize = 64 * 1024;

/// Granularity of the budget, in bytes.
const UNIT: u64 = 1024;

/// The shared budget. Clones are the same budget.
#[derive(Debug, Clone)]
pub struct Budget {
    units: Arc<Semaphore>,
    total: u32,
}

/// A share of the budget, given back on drop.
#[derive(Debug)]
pub struct Held {
    _permit: OwnedSemaphorePermit,
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: u64) -> Self {
        let total = units(bytes).max(1);
        Self { units: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits, in order of arrival, until so many bytes are free. More than the whole budget counts as the whole.
    pub async fn take(&self, bytes: u64) -> Held {
        let wanted = units(bytes).min(self.total);
        match Arc::clone(&self.units).acquire_many_owned(wanted).await {
            Ok(permit) => Held { _permit: permit },
            Err(_) => unreachable!("the semaphore is never closed"),
        }
    }

    /// So many bytes, if they are free and nobody waits for them.
    pub fn try_take(&self, bytes: u64) -> Option<Held> {
        let permit = Arc::clone(&self.units).try_acquire_many_owned(units(bytes).min(self.total)).ok()?;
        Some(Held { _permit: permit })
    }

    /// Bytes held at the moment.
    pub fn held(&self) -> u64 {
        u64::from(self.total).saturating_sub(self.units.available_permits() as u64) * UNIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_share_comes_back() {
        let budget = Budget::new(10 * UNIT);
        let held = budget.take(8 * UNIT).await;
        assert_eq!(budget.held(), 8 * UNIT);
        assert!(budget.try_take(4 * UNIT).is_none());
        drop(held);
        assert!(budget.try_take(100 * UNIT).is_some(), "more than all counts as all");
        assert_eq!(budget.held(), 0);
    }
}
