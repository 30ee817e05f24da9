//! What a connection is doing, and when it will have done it for too long.
//!
//! Numbers and one waker: never touches a socket. The clock is read when a connection goes from one state to
//! another, not for every byte. Each connection has one timer, however many requests it carries.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

use super::Limits;

/// A connection that was asked to end and has nothing to do gets this long to say goodbye.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long a new connection may take to its first byte before it counts as idle where places are short.
const WARM_UP: Duration = Duration::from_secs(1);

/// No time-out is longer: a month, to keep arithmetic on instants from overflowing.
pub(super) const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a connection is told from outside. Later ones outweigh earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Nothing.
    Go,
    /// End what is under way, take nothing new.
    Finish,
    /// Stop now.
    Cut,
}

/// What is due to a connection, and when (milliseconds of its age).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// When; `u64::MAX` is never.
    pub(super) at: u64,
    /// What.
    pub(super) what: Order,
}

impl Due {
    const NEVER: Self = Self { at: u64::MAX, what: Order::Go };
}

/// One connection's state. All times are milliseconds since it opened.
#[derive(Debug)]
pub(super) struct Activity {
    opened: Instant,
    /// Whether the connection may be idle: it has carried a request, or speaks HTTP/2.
    settled: AtomicBool,
    multiplexed: AtomicBool,
    requests: AtomicUsize,
    /// When the last request ended, or when the first byte of the next head came.
    since: AtomicU64,
    /// Bytes of a head have come.
    head: AtomicBool,
    /// One more than the time since which the peer takes no bytes; 0 while it does.
    blocked: AtomicU64,
    unread: AtomicBool,
    lingering: AtomicBool,
    order: AtomicU8,
    waker: AtomicWaker,
    /// The answer that the next stream task will carry (HTTP/2).
    answer: Mutex<Option<Arc<Turn>>>,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            opened: Instant::now(),
            settled: AtomicBool::new(false),
            multiplexed: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            since: AtomicU64::new(0),
            head: AtomicBool::new(false),
            blocked: AtomicU64::new(0),
            unread: AtomicBool::new(false),
            lingering: AtomicBool::new(false),
            order: AtomicU8::new(Order::Go as u8),
            waker: AtomicWaker::new(),
            answer: Mutex::new(None),
        }
    }

    /// The connection's age.
    pub(super) fn now(&self) -> u64 {
        millis(self.opened.elapsed())
    }

    /// The moment at an age.
    pub(super) fn moment(&self, age: u64) -> Instant {
        self.opened + Duration::from_millis(age).min(LONGEST)
    }

    /// The peer speaks HTTP/2: heads are its framing's business, and nothing is wrong with silence.
    pub(super) fn multiplex(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
        self.settled.store(true, Ordering::Relaxed);
        self.since.store(self.now(), Ordering::Relaxed);
    }

    pub(super) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Ordering::Relaxed)
    }

    /// Bytes came in. The first ones between two requests begin a head.
    pub(super) fn received(&self) {
        if self.requests.load(Ordering::Relaxed) > 0 || self.is_multiplexed() {
            return;
        }
        let first = !self.head.swap(true, Ordering::Relaxed);
        if first && self.settled.load(Ordering::Relaxed) {
            self.since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// The peer takes no more bytes for now.
    pub(super) fn block(&self) {
        if self.blocked.load(Ordering::Relaxed) == 0 {
            self.blocked.store(self.now() + 1, Ordering::Relaxed);
        }
    }

    /// The peer took bytes.
    pub(super) fn unblock(&self) {
        if self.blocked.load(Ordering::Relaxed) != 0 {
            self.blocked.store(0, Ordering::Relaxed);
        }
    }

    /// A request's body was given up before its end: its rest is still on the way.
    pub(super) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Whether the peer may still be sending something that nobody will read: a refused body or a bad head.
    pub(super) fn is_sent_to(&self) -> bool {
        !self.is_multiplexed() && (self.has_unread() || self.head.load(Ordering::Relaxed))
    }

    /// The socket closes by its own clock.
    pub(super) fn linger(&self) {
        self.lingering.store(true, Ordering::Relaxed);
    }

    pub(super) fn order(&self) -> Order {
        match self.order.load(Ordering::Acquire) {
            0 => Order::Go,
            1 => Order::Finish,
            _ => Order::Cut,
        }
    }

    /// Tells the connection something. Wakes it.
    pub(super) fn tell(&self, order: Order) {
        if self.order.fetch_max(order as u8, Ordering::AcqRel) < order as u8 {
            self.waker.wake();
        }
    }

    /// Who is woken by [`tell`](Self::tell). To be called before [`order`](Self::order) is asked.
    pub(super) fn listen(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Since when it has nothing to do, if nobody asked it to end yet. Who only just connected has.
    fn idle_since(&self) -> Option<Instant> {
        let settled = self.settled.load(Ordering::Relaxed) || self.opened.elapsed() >= WARM_UP;
        let idle = settled
            && !self.head.load(Ordering::Relaxed)
            && self.requests.load(Ordering::Relaxed) == 0
            && self.order() == Order::Go;
        idle.then(|| self.moment(self.since.load(Ordering::Relaxed)))
    }

    /// What is due, given the age at which the connection was asked to end, or is to be.
    pub(super) fn due(&self, limits: &Limits, closing: Option<u64>, max_age: u64) -> Due {
        let state = self.due_of_state(limits, closing);
        if closing.is_none() && max_age < state.at {
            return Due { at: max_age, what: Order::Finish };
        }
        state
    }

    fn due_of_state(&self, limits: &Limits, closing: Option<u64>) -> Due {
        let after = |since: u64, time: Duration, what| Due { at: since.saturating_add(millis(time)), what };
        let blocked = self.blocked.load(Ordering::Relaxed);
        let since = self.since.load(Ordering::Relaxed);
        if self.lingering.load(Ordering::Relaxed) {
            Due::NEVER
        } else if blocked != 0 {
            after(blocked - 1, limits.write_timeout, Order::Cut)
        } else if self.requests.load(Ordering::Relaxed) > 0 {
            Due::NEVER
        } else if let Some(asked) = closing {
            after(asked.max(since), limits.header_timeout.min(FAREWELL), Order::Cut)
        } else if self.head.load(Ordering::Relaxed) || !self.settled.load(Ordering::Relaxed) {
            after(since, limits.header_timeout, Order::Cut)
        } else {
            after(since, limits.idle_timeout, Order::Finish)
        }
    }

    /// The turn of the request that was just taken, for the task that will carry its answer.
    pub(super) fn take_turn(&self) -> Option<Arc<Turn>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A request under way, from its head to the end of its answer.
#[derive(Debug)]
pub(super) struct Underway {
    activity: Arc<Activity>,
    /// Whose turn it is; only where a connection carries many answers and its socket does not say.
    turn: Option<Arc<Turn>>,
}

impl Underway {
    /// A request begins.
    pub(super) fn begin(activity: &Arc<Activity>) -> Self {
        activity.requests.fetch_add(1, Ordering::Relaxed);
        activity.head.store(false, Ordering::Relaxed);
        activity.settled.store(true, Ordering::Relaxed);
        let turn = activity.is_multiplexed().then(|| Arc::new(Turn::default()));
        if let Some(turn) = &turn {
            *activity.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(turn));
        }
        Self { activity: Arc::clone(activity), turn }
    }

    /// Part of the answer was handed over: the peer has to take it.
    pub(super) fn offered(&self) {
        if let Some(turn) = &self.turn {
            turn.0.store(self.activity.now() + 1, Ordering::Relaxed);
        }
    }

    /// The answer is not ready yet: the peer waits for us.
    pub(super) fn awaited(&self) {
        if let Some(turn) = &self.turn {
            turn.0.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the answer has to say that it is the connection's last: the rest of a body is in the way.
    pub(super) fn is_last(&self) -> bool {
        !self.activity.is_multiplexed() && self.activity.has_unread()
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        // Before the count: who sees no request must not see the time of the one before.
        self.activity.since.store(self.activity.now(), Ordering::Relaxed);
        self.activity.requests.fetch_sub(1, Ordering::Release);
    }
}

/// Whose turn it is in one answer: one more than the age at which bytes were offered to the peer; 0 is ours.
#[derive(Debug, Default)]
pub(super) struct Turn(AtomicU64);

impl Turn {
    /// Since when it is the peer's turn, as the connection's age.
    pub(super) fn of_peer_since(&self) -> Option<u64> {
        self.0.load(Ordering::Relaxed).checked_sub(1)
    }
}

/// All open connections of a server.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<(u64, HashMap<u64, Arc<Activity>>)>);

impl Connections {
    /// Adds one; it is known by the number.
    pub(super) fn add(&self, activity: Arc<Activity>) -> u64 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.0 += 1;
        let number = all.0;
        all.1.insert(number, activity);
        number
    }

    pub(super) fn remove(&self, number: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&number);
    }

    /// Tells all of them.
    pub(super) fn order(&self, order: Order) {
        for activity in self.0.lock().unwrap_or_else(PoisonError::into_inner).1.values() {
            activity.tell(order);
        }
    }

    /// Asks the one that has been idle longest to end, if any is.
    pub(super) fn yield_one(&self) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = all.1.values().filter_map(|activity| Some((activity.idle_since()?, activity)));
        if let Some((_, activity)) = idle.min_by_key(|(since, _)| *since) {
            activity.tell(Order::Finish);
        }
    }

    /// Requests under way on all of them.
    pub(super) fn requests(&self) -> usize {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.1.values().map(|activity| activity.requests.load(Ordering::Relaxed)).sum()
    }
}

/// A duration in whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
