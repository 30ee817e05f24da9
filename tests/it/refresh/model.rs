//! Months of reading, by simulated dates. Once as a model by itself, with any use and any part; once through the real gateway
//! over a directory whose files are made a day older each day.

use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt as _;
use larder::domain::artifact::EntryKey;
use larder::domain::refresh::{Ages, Place};
use larder::payload::{Body, Want};
use larder::store::{Listed, Listing, Prefix};
use proptest::prelude::*;

use super::{DAY, FILES, Keeper, Yard, ages, keys, lay, please, please_key, unit};

const HOUR: Duration = Duration::from_secs(3600);

/// A bucket with one entry of several objects, and the rule that removes what is too old.
struct Bucket {
    expiry: Duration,
    ages: Ages,
    /// The date of each object; `None`: gone.
    objects: Vec<Option<SystemTime>>,
    copies: Vec<u32>,
}

impl Bucket {
    /// The rule removes what is too old.
    fn expire(&mut self, now: SystemTime) {
        for object in &mut self.objects {
            *object = object.filter(|date| now.duration_since(*date).is_ok_and(|age| age < self.expiry));
        }
    }

    /// Somebody reads one of the objects; a hit refreshes all that are not young. Whether it was one.
    fn read(&mut self, which: usize, now: SystemTime) -> bool {
        let Some(date) = self.objects[which] else { return false };
        if self.ages.is_due(Place::Artifacts, date, now) {
            let young = self.ages.young(Place::Artifacts, now).unwrap();
            for (object, copies) in self.objects.iter_mut().zip(&mut self.copies) {
                if object.is_some_and(|date| date < young) {
                    *object = Some(now);
                    *copies += 1;
                }
            }
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Read at least as often as the part of the time of life that is left when a use refreshes: never gone, whichever of its
    /// objects is read. And copied no more often than once in that age.
    #[test]
    fn what_is_used_never_goes_and_is_seldom_copied(
        days in 2..90_u32,
        part in 0.1..0.9_f64,
        gaps in proptest::collection::vec((0.01..1.0_f64, 0..5_usize), 1..300),
        ragged in proptest::collection::vec(0.0..1.0_f64, 5),
    ) {
        let expiry = DAY * days;
        let age = expiry.mul_f64(part);
        // Stored one after the other, within what counts as young.
        let start = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let objects: Vec<_> = ragged.iter().map(|late| Some(start + age.mul_f64(late / 32.0))).collect();
        let ages = Ages { artifacts: Some(age), ..Ages::default() };
        let mut bucket = Bucket { expiry, ages, copies: vec![0; objects.len()], objects };
        let longest = expiry - age - age / 32;
        let mut now = start + age / 32;
        for (gap, which) in gaps {
            now += longest.mul_f64(gap);
            // Sooner than any bucket: at once.
            bucket.expire(now);
            prop_assert!(bucket.read(which, now), "gone after {:?}", now.duration_since(start));
            prop_assert!(bucket.objects.iter().all(Option::is_some), "in part");
        }
        let lived = now.duration_since(start).unwrap();
        let most = lived.as_secs_f64() / (age - age / 32).as_secs_f64();
        for copies in bucket.copies {
            prop_assert!(f64::from(copies) <= most, "{copies} copies in {} ages", lived.as_secs_f64() / age.as_secs_f64());
        }
    }

    /// By chance or never: it goes exactly when its time of life has passed since its date, and whoever reads it then misses.
    #[test]
    fn what_is_not_used_goes(days in 2..90_u32, part in 0.1..0.9_f64, reads in proptest::collection::vec(0..4000_u32, 0..20)) {
        let expiry = DAY * days;
        let start = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let ages = Ages { artifacts: Some(expiry.mul_f64(part)), ..Ages::default() };
        let mut bucket = Bucket { expiry, ages, copies: vec![0], objects: vec![Some(start)] };
        for hour in 0..7000_u32 {
            let now = start + HOUR * hour;
            // S3 looks at midnight, UTC.
            if hour % 24 == 0 {
                bucket.expire(now);
            }
            let there = bucket.objects[0];
            for _ in reads.iter().filter(|read| **read == hour) {
                prop_assert_eq!(bucket.read(0, now), there.is_some());
            }
            if let Some(date) = bucket.objects[0] {
                prop_assert!(now.duration_since(date).unwrap() < expiry + DAY, "outlived its time");
            }
        }
        prop_assert_eq!(bucket.objects[0], None);
    }
}

/// What is simulated through the real code: who is read when.
struct World {
    yard: Yard,
    weekly: EntryKey,
    unread: EntryKey,
}

impl World {
    async fn new() -> Self {
        let yard = Yard::new();
        let (weekly, unread) = (unit(&yard.store, "weekly").await, unit(&yard.store, "unread").await);
        for n in 0..3 {
            lay(&yard.store, &please_key(n), 100, None).await;
        }
        Self { yard, weekly, unread }
    }

    async fn all(&self) -> Vec<(String, SystemTime)> {
        let lines = self.yard.store.list(&Prefix::root(), Listing::default());
        let all = lines.map_ok(|line| match line {
            Listed::Object { key, modified, .. } => (key.to_string(), modified),
            Listed::Prefix(prefix) => panic!("{prefix}"),
        });
        all.try_collect().await.unwrap()
    }

    /// A night: all is a day older, and the rule removes what is too old.
    async fn night(&self, expiry: Duration) {
        for (key, modified) in self.all().await {
            let age = modified.elapsed().unwrap_or_default() + DAY;
            self.yard.age(&key, age);
            if age >= expiry {
                self.yard.store.delete(&[key.parse().unwrap()]).await.unwrap();
            }
        }
    }

    /// A day's reads; which objects were copied.
    async fn day(&self, day: u32) -> Vec<String> {
        // As old as they were this morning, to the second: a refresh shows.
        let before = self.all().await;
        let keeper = Keeper::new(&self.yard.store, ages(DAY * 15));
        let reads = keeper.reads();
        if day.is_multiple_of(7) {
            let file = self.weekly.file(FILES[day as usize / 7 % FILES.len()]).unwrap();
            let object = reads.artifact(&file, &Want::default()).await.unwrap();
            let Some(Body::Whole(content)) = object.map(|object| object.body) else {
                panic!("day {day}: gone")
            };
            content.collect().await.unwrap();
        }
        // Every day, every 14 days, never.
        for (number, every) in [(0, 1), (1, 14)] {
            if day.is_multiple_of(every) {
                let hash = please(number).parse().unwrap();
                assert!(reads.please_meta(&hash).await.unwrap().is_some(), "day {day}: {number} is gone");
            }
        }
        drop(reads);
        keeper.settle().await;
        let after = self.all().await;
        let moved = |(key, then): &(String, SystemTime)| {
            after.iter().any(|(same, now)| same == key && now > then).then(|| key.clone())
        };
        before.iter().filter_map(moved).collect()
    }
}

#[tokio::test]
async fn read_weekly_it_is_never_gone_and_unread_it_goes() {
    const DAYS: u32 = 150;
    let world = World::new().await;
    let mut copies = std::collections::BTreeMap::<String, u32>::new();
    for day in 1..=DAYS {
        world.night(DAY * 30).await;
        for key in world.day(day).await {
            *copies.entry(key).or_default() += 1;
        }
        let there: Vec<String> = world.all().await.into_iter().map(|(key, _)| key).collect();
        for key in keys(&world.weekly) {
            assert!(there.contains(&key), "day {day}: {key} is gone");
        }
        let left =
            keys(&world.unread).into_iter().chain([please_key(2)]).filter(|key| there.contains(key)).count();
        assert_eq!(left, if day < 30 { keys(&world.unread).len() + 1 } else { 0 }, "day {day}");
    }
    // Five times 30 days: what is read each day is copied twice in each, what is read weekly every third week.
    let most = |key: &str| copies.get(key).copied().unwrap_or(0);
    assert_eq!(most(&please_key(0)), DAYS / 15);
    assert_eq!(most(&please_key(1)), DAYS / 28);
    for key in keys(&world.weekly) {
        assert_eq!(most(&key), DAYS / 21, "{key}");
    }
    assert!(keys(&world.unread).iter().chain([&please_key(2)]).all(|key| most(key) == 0), "{copies:?}");
}
