//! Checks credentials against the password file, once: what was found is remembered, never in clear.
//!
//! A hash is made to cost its checker dear, and a build asks a thousand times. So a verdict is kept under a keyed hash of
//! all that it followed from; fresh checks leave the async threads, few at a time, and one for all who ask the same;
//! failures take their time. Never decides what a user may do.

use std::fmt;
use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac as _};
use quick_cache::sync::Cache;
use sha2::Sha256;
use tokio::sync::Semaphore;

use super::basic::Credentials;
use super::htpasswd::{PasswordHash, Users};

const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The password is the user's.
    Good,
    /// It is not, or there is no such user.
    Bad,
    /// Too much is being checked, or fails: ask again in a moment.
    Busy,
}

/// How much the checking of passwords may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Verdicts remembered: so many good ones, and so many of the latest of either kind.
    pub remembered: usize,
    /// Expensive checks at a time, each a thread; at least one.
    pub at_once: usize,
    /// Expensive checks that may wait for those; more are [`Verdict::Busy`].
    pub waiting: usize,
    /// A fresh failure is told no sooner than so long after it was asked; a minute at most.
    pub delay: Duration,
    /// Fresh failures under delay at a time; more are [`Verdict::Busy`].
    pub delayed: usize,
}

impl Default for Limits {
    /// 4096 verdicts, half of the cores, 64 waiting, 250 ms for at most 256 failures.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let delay = Duration::from_millis(250);
        Self { remembered: 4096, at_once: (cores / 2).max(1), waiting: 64, delay, delayed: 256 }
    }
}

/// The system gave no random bytes, so that verdicts cannot be remembered safely.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no random bytes from the system: {0}")]
pub struct NoRandomness(String);

/// A keyed hash of user, password and password hash.
type Key = [u8; 32];

#[derive(Debug, Clone, Copy)]
enum Outcome {
    Good,
    Bad { told: Instant },
}

/// The one checker of a process. Shared by reference.
pub struct Verifier {
    key: Hmac<Sha256>,
    /// Apart from the latest, so that no number of guesses pushes out who is known to be good.
    good: Cache<Key, ()>,
    latest: Cache<Key, Outcome>,
    /// Seats for all who check or wait to; then the checks themselves.
    seats: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    delays: Mutex<Delays>,
    delay: Duration,
    expensive: AtomicU64,
}

impl Verifier {
    /// A checker that remembers nothing yet.
    pub fn new(limits: &Limits) -> Result<Self, NoRandomness> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| NoRandomness(error.to_string()))?;
        let key = Hmac::new_from_slice(&secret).map_err(|error| NoRandomness(error.to_string()))?;
        let (at_once, remembered) = (limits.at_once.max(1), limits.remembered.max(1));
        Ok(Self {
            key,
            good: Cache::new(remembered),
            latest: Cache::new(remembered),
            seats: Arc::new(Semaphore::new(
                at_once.saturating_add(limits.waiting).min(Semaphore::MAX_PERMITS),
            )),
            turns: Arc::new(Semaphore::new(at_once.min(Semaphore::MAX_PERMITS))),
            delays: Mutex::new(Delays { ends: Vec::new(), most: limits.delayed }),
            delay: limits.delay.min(LONGEST_DELAY),
            expensive: AtomicU64::new(0),
        })
    }

    /// Whether these are a user's credentials. A remembered verdict costs some µs and waits for nobody.
    ///
    /// A changed hash is another hash, and a user who is gone an unknown one: no verdict outlives a change of the file.
    /// When dropped, a check that has begun goes on to its end, and counts until then.
    pub async fn check(&self, users: &Users, credentials: &Credentials) -> Verdict {
        let asked = Instant::now();
        let known = users.get(credentials.user());
        // An unknown user costs what the dearest one does, lest time tell who is known.
        let hash = known.or_else(|| users.dearest());
        let key = self.key_of(known.is_some(), hash, credentials);
        if self.good.get(&key).is_some() {
            return Verdict::Good;
        }
        let outcome = match self.latest.get_value_or_guard_async(&key).await {
            Ok(outcome) => outcome,
            Err(guard) => {
                let Some(matches) = self.matches(hash, credentials).await else { return Verdict::Busy };
                let Some(outcome) = self.outcome(known.is_some() && matches, asked) else {
                    return Verdict::Busy;
                };
                if matches!(outcome, Outcome::Good) {
                    self.good.insert(key, ());
                }
                if guard.insert(outcome).is_err() {
                    tracing::debug!("a verdict was pushed out before it was kept");
                }
                outcome
            }
        };
        match outcome {
            Outcome::Good => Verdict::Good,
            // Also who asked the same meanwhile waits: else the delay could be had around by asking twice.
            Outcome::Bad { told } => {
                if told > Instant::now() {
                    tokio::time::sleep_until(told.into()).await;
                }
                Verdict::Bad
            }
        }
    }

    /// Expensive checks begun so far.
    pub fn expensive_checks(&self) -> u64 {
        self.expensive.load(Ordering::Relaxed)
    }

    fn key_of(&self, known: bool, hash: Option<&PasswordHash>, credentials: &Credentials) -> Key {
        let mut mac = self.key.clone();
        mac.update(&[u8::from(known)]);
        let text = hash.map_or("", PasswordHash::text);
        for part in [credentials.user().as_bytes(), credentials.password(), text.as_bytes()] {
            mac.update(&part.len().to_le_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// `None` where the queue is full, or the process ends.
    async fn matches(&self, hash: Option<&PasswordHash>, credentials: &Credentials) -> Option<bool> {
        let Some(hash) = hash else { return Some(false) };
        if hash.is_cheap() {
            return Some(hash.verify(credentials.password()));
        }
        let seat = Arc::clone(&self.seats).try_acquire_owned().ok()?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        self.expensive.fetch_add(1, Ordering::Relaxed);
        let (hash, password) = (hash.clone(), credentials.password().to_vec());
        let check = tokio::task::spawn_blocking(move || {
            let matches = hash.verify(&password);
            // Only now: a client that leaves must not make room for another check beside this one.
            drop((seat, turn));
            matches
        });
        check.await.inspect_err(|error| tracing::error!(%error, "a password check did not end")).ok()
    }

    /// `None` where too many failures are under delay.
    fn outcome(&self, good: bool, asked: Instant) -> Option<Outcome> {
        if good {
            return Some(Outcome::Good);
        }
        let told = asked + self.delay;
        let mut delays = self.delays.lock().unwrap_or_else(PoisonError::into_inner);
        delays.admit(Instant::now(), told).then_some(Outcome::Bad { told })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("expensive_checks", &self.expensive).finish_non_exhaustive()
    }
}

/// The failures under delay. They count until they would have been told, whether or not the client stays for that.
#[derive(Debug)]
struct Delays {
    ends: Vec<Instant>,
    most: usize,
}

impl Delays {
    /// Whether one more may be told only at `end`.
    fn admit(&mut self, now: Instant, end: Instant) -> bool {
        if end <= now {
            return true;
        }
        self.ends.retain(|end| *end > now);
        let room = self.ends.len() < self.most;
        if room {
            self.ends.push(end);
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::{Delays, Limits, Verdict, Verifier};
    use crate::front::auth::basic::Credentials;
    use crate::front::auth::htpasswd::Users;

    /// `secret`, at bcrypt's least cost, and the same as `{SHA}`.
    const BCRYPT: &str = "$2y$04$fqYW4l4m2SOCL0DfHhAm7eEHBN/ndLrX9lrixIoTdG./g/HChtWo2";
    const SHA: &str = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=";

    fn verifier(change: impl FnOnce(&mut Limits)) -> Verifier {
        let mut limits = Limits { delay: Duration::ZERO, ..Limits::default() };
        change(&mut limits);
        Verifier::new(&limits).unwrap()
    }

    fn users() -> Users {
        format!("ann:{BCRYPT}\nsam:{SHA}").parse().unwrap()
    }

    fn who(user: &str, password: &str) -> Credentials {
        Credentials::new(user, password.as_bytes()).unwrap()
    }

    #[tokio::test]
    async fn verdicts_are_remembered_good_and_bad() {
        let (verifier, users) = (verifier(|_| ()), users());
        for _ in 0..3 {
            assert_eq!(verifier.check(&users, &who("ann", "secret")).await, Verdict::Good);
            assert_eq!(verifier.check(&users, &who("ann", "Secret")).await, Verdict::Bad);
            assert_eq!(verifier.check(&users, &who("sam", "secret")).await, Verdict::Good);
            assert_eq!(verifier.check(&users, &who("sam", "Secret")).await, Verdict::Bad);
        }
        assert_eq!(verifier.expensive_checks(), 2);
    }

    #[tokio::test]
    async fn an_unknown_user_costs_as_much_and_is_never_good() {
        let (verifier, users) = (verifier(|_| ()), users());
        for password in ["secret", "Secret"] {
            assert_eq!(verifier.check(&users, &who("nobody", password)).await, Verdict::Bad);
        }
        assert_eq!(verifier.check(&users, &who("", "")).await, Verdict::Bad);
        assert_eq!(verifier.expensive_checks(), 3);
        assert_eq!(verifier.check(&Users::default(), &who("ann", "secret")).await, Verdict::Bad);
    }

    #[tokio::test]
    async fn a_change_of_the_file_is_a_change_of_mind() {
        let verifier = verifier(|_| ());
        assert_eq!(verifier.check(&users(), &who("ann", "secret")).await, Verdict::Good);
        let changed: Users = format!("ann:{}", SHA.replace("5en6", "6en6")).parse().unwrap();
        assert_eq!(verifier.check(&changed, &who("ann", "secret")).await, Verdict::Bad);
        let gone: Users = format!("bob:{BCRYPT}").parse().unwrap();
        assert_eq!(verifier.check(&gone, &who("ann", "secret")).await, Verdict::Bad);
        assert_eq!(verifier.check(&gone, &who("bob", "secret")).await, Verdict::Good);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thousand_at_once_cost_one_check() {
        let (verifier, users) = (Arc::new(verifier(|limits| limits.waiting = 0)), Arc::new(users()));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..1000 {
            let (verifier, users) = (Arc::clone(&verifier), Arc::clone(&users));
            tasks.spawn(async move { verifier.check(&users, &who("ann", "secret")).await });
        }
        assert!(tasks.join_all().await.into_iter().all(|verdict| verdict == Verdict::Good));
        assert_eq!(verifier.expensive_checks(), 1);
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_and_nothing_is_remembered_of_it() {
        let (verifier, users) = (verifier(|limits| (limits.at_once, limits.waiting) = (1, 1)), users());
        let (guess, other, more) = (who("ann", "1"), who("ann", "2"), who("ann", "secret"));
        let verdicts = tokio::join!(
            verifier.check(&users, &guess),
            verifier.check(&users, &other),
            verifier.check(&users, &more),
        );
        assert_eq!(verdicts, (Verdict::Bad, Verdict::Bad, Verdict::Busy));
        assert_eq!(verifier.check(&users, &more).await, Verdict::Good);
    }

    #[tokio::test]
    async fn who_leaves_leaves_the_others_an_answer() {
        let (verifier, users) = (verifier(|_| ()), users());
        let ann = who("ann", "secret");
        let mut first = Box::pin(verifier.check(&users, &ann));
        assert!(futures_util::poll!(&mut first).is_pending());
        let mut second = Box::pin(verifier.check(&users, &ann));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(second.await, Verdict::Good);
    }

    #[tokio::test]
    async fn guesses_push_nobody_out() {
        let (verifier, users) = (verifier(|limits| limits.remembered = 8), users());
        assert_eq!(verifier.check(&users, &who("ann", "secret")).await, Verdict::Good);
        let before = verifier.expensive_checks();
        for guess in 0..100 {
            assert_eq!(verifier.check(&users, &who("sam", &guess.to_string())).await, Verdict::Bad);
        }
        assert_eq!(verifier.check(&users, &who("ann", "secret")).await, Verdict::Good);
        assert_eq!(verifier.expensive_checks(), before);
    }

    #[tokio::test]
    async fn failures_take_their_time_and_good_ones_do_not() {
        let delay = Duration::from_millis(300);
        let (verifier, users) = (verifier(|limits| (limits.delay, limits.delayed) = (delay, 1)), users());
        let (bad, other, good) = (who("sam", "1"), who("sam", "2"), who("sam", "secret"));
        let started = Instant::now();
        let timed = async |credentials: &Credentials| {
            let verdict = verifier.check(&users, credentials).await;
            (verdict, started.elapsed() >= delay)
        };
        let verdicts = tokio::join!(timed(&bad), timed(&bad), timed(&other), timed(&good));
        let slow = (Verdict::Bad, true);
        assert_eq!(verdicts, (slow, slow, (Verdict::Busy, false), (Verdict::Good, false)));
        let again = Instant::now();
        assert_eq!(verifier.check(&users, &bad).await, Verdict::Bad);
        assert!(again.elapsed() < delay, "what is remembered is told at once");
    }

    #[test]
    fn delays_are_counted_until_they_end() {
        let now = Instant::now();
        let at = |millis| now + Duration::from_millis(millis);
        let mut delays = Delays { ends: Vec::new(), most: 2 };
        assert!(delays.admit(at(0), at(250)) && delays.admit(at(100), at(350)));
        assert!(!delays.admit(at(200), at(450)));
        assert!(delays.admit(at(200), at(200)), "what is late already needs no room");
        assert!(delays.admit(at(250), at(500)));
        assert!(!delays.admit(at(260), at(510)));
    }
}
