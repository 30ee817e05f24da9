//! Backing off: what the store cannot do just now is asked again later, and more rarely each time.
//!
//! On top of what a store's own client tries. A sweep is never in a hurry; the requests of readers and writers are.

use std::time::Duration;

use crate::store::{self, Kind};

/// How often a request is asked for, the first time included.
pub(super) const TRIES: u32 = 7;
/// The first pause, doubled for each further one: 16 s in all, more or less.
const PAUSE: Duration = Duration::from_millis(250);

/// Waits before another try, longer each time; `false` where this failure will not pass, or has not for too long.
pub(super) async fn again(error: &store::Error, tried: u32) -> bool {
    passes(error, tried, PAUSE).await
}

async fn passes(error: &store::Error, tried: u32, pause: Duration) -> bool {
    if error.kind != Kind::Unavailable || tried >= TRIES {
        return false;
    }
    tracing::debug!(cause = %error.chain(), tried, "the store is asked again in a while");
    let pause = pause * 2_u32.saturating_pow(tried.saturating_sub(1));
    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
    true
}

/// Asks until it is done, will not be, or has been tried too often.
pub(super) async fn patiently<T>(
    ask: impl AsyncFnMut() -> Result<T, store::Error>,
) -> Result<T, store::Error> {
    asked(ask, PAUSE).await
}

async fn asked<T>(
    mut ask: impl AsyncFnMut() -> Result<T, store::Error>,
    pause: Duration,
) -> Result<T, store::Error> {
    let mut tried = 0;
    loop {
        tried += 1;
        match ask().await {
            Err(error) if passes(&error, tried, pause).await => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Kind, TRIES, store};
    use crate::store::Op;

    fn failure(kind: Kind) -> store::Error {
        store::Error::new(kind, Op::Delete, "x", "SlowDown")
    }

    #[tokio::test]
    async fn what_passes_is_waited_for_and_what_does_not_is_told() {
        for (kind, fails, expected) in [
            (Kind::Unavailable, 0, (1, true)),
            (Kind::Unavailable, 3, (4, true)),
            (Kind::Unavailable, 100, (TRIES, false)),
            (Kind::Denied, 100, (1, false)),
        ] {
            let mut asked = 0;
            let ask = async || {
                asked += 1;
                if asked > fails { Ok(()) } else { Err(failure(kind)) }
            };
            let done = super::asked(ask, Duration::from_micros(10)).await;
            assert_eq!((asked, done.is_ok()), expected, "{kind:?} {fails}");
        }
    }
}
