//! Who may try what, and when.

use super::*;

fn common() -> Common {
    Common {
        ages: Ages::default(),
        metrics: Metrics::new(),
        names: RandomState::new(),
        tried: Cache::new(REMEMBERED),
        paused: AtomicU64::new(0),
    }
}

#[test]
fn a_unit_is_tried_once_in_a_while() {
    let (common, now) = (common(), SystemTime::now());
    assert!(common.claims(1, now) && !common.claims(1, now) && common.claims(2, now));
    let later = now + AGAIN;
    assert!(!common.claims(1, later - Duration::from_secs(1)));
    assert!(common.claims(1, later) && !common.claims(1, later));
    // As a worker leaves it.
    common.tried.insert(1, now + Duration::from_secs(5));
    assert!(!common.claims(1, now) && common.claims(1, now + Duration::from_secs(5)));
}

#[test]
fn of_many_who_claim_at_once_one_is_given_it() {
    let (common, now) = (common(), SystemTime::now());
    let won = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for hash in 0..1000 {
                    won.fetch_add(u64::from(common.claims(hash, now)), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(won.into_inner(), 1000);
}

#[test]
fn what_is_remembered_is_bounded() {
    let (common, now) = (common(), SystemTime::now());
    let given = (0..10 * REMEMBERED as u64).filter(|hash| common.claims(*hash, now)).count();
    assert_eq!(given, 10 * REMEMBERED);
    assert!(common.tried.len() <= REMEMBERED);
}

#[test]
fn a_pause_ends() {
    let (common, now) = (common(), SystemTime::now());
    common.pause(now, Duration::from_secs(10));
    assert!(common.is_paused(now) && common.is_paused(now + Duration::from_secs(9)));
    assert!(!common.is_paused(now + Duration::from_secs(10)));
}
