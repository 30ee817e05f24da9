//! Random stores, uses, clocks and marks over a real directory, against a person with all of it on the table.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use larder::store::Listing;
use larder::sweep::plan::{class, slot};
use larder::sweep::{Counters, Leftovers, Marks, Rules, Terms, sweep};
use proptest::prelude::*;

use super::{date, hash, lay, please};
use crate::support::backends::{Backend, directory};

const DAY: u64 = 86400;

/// What an entry is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One key of Please v14.
    Single,
    /// Files that came one by one.
    Loose,
    /// Files and their manifest.
    Unit,
    /// Files of a unit whose manifest never came.
    Partial,
    /// A unit within the place of another entry, whose hash is short.
    Nested,
}

#[derive(Debug, Clone)]
struct Thing {
    kind: Kind,
    /// Sizes of its files, and how many seconds ago each was written, and read.
    files: Vec<(u64, u64, u64)>,
}

impl Thing {
    fn dir(&self, number: usize) -> String {
        let target = number % 3;
        let of = hash(number);
        match self.kind {
            Kind::Nested => format!("artifact/linux_a/p/t{target}/dGVzdF9rZXk1/q/u/{of}"),
            Kind::Single | Kind::Loose | Kind::Unit | Kind::Partial => {
                format!("artifact/linux_a/p/t{target}/{of}")
            }
        }
    }

    fn keys(&self, number: usize) -> Vec<String> {
        let dir = self.dir(number);
        let files = (0..self.files.len()).map(|n| match (self.kind, n) {
            (Kind::Single, _) => please(number),
            (Kind::Unit | Kind::Nested, 0) => format!("{dir}/.larder"),
            (_, n) => format!("{dir}/gen/{n}"),
        });
        files.take(if self.kind == Kind::Single { 1 } else { 9 }).collect()
    }

    fn files(&self) -> &[(u64, u64, u64)] {
        if self.kind == Kind::Single { &self.files[..1] } else { &self.files }
    }

    fn bytes(&self) -> u64 {
        self.files().iter().map(|(size, ..)| size).sum()
    }

    /// Seconds since it was last used.
    fn ago(&self) -> u64 {
        self.files().iter().map(|(_, written, read)| *written.min(read)).min().unwrap()
    }

    /// Entries end in the listing behind the last key that can be theirs.
    fn order(&self, number: usize) -> String {
        if self.kind == Kind::Single { please(number) } else { format!("{}/\u{10ffff}", self.dir(number)) }
    }
}

fn things() -> impl Strategy<Value = Vec<Thing>> {
    let ago = || prop_oneof![0..3 * 3600_u64, 0..30 * DAY, 0..900 * DAY];
    let file = (prop_oneof![0..20_u64, 0..3000_u64], ago(), ago());
    let kind = prop_oneof![
        Just(Kind::Single),
        Just(Kind::Loose),
        Just(Kind::Unit),
        Just(Kind::Partial),
        Just(Kind::Nested)
    ];
    let thing = (kind, proptest::collection::vec(file, 1..5)).prop_map(|(kind, files)| Thing { kind, files });
    proptest::collection::vec(thing, 0..25)
}

fn rules() -> impl Strategy<Value = Rules> {
    let marks = proptest::option::of((0..30_000_u64, 0..30_000_u64));
    let leftovers = prop_oneof![Just(Leftovers::None), Just(Leftovers::Recent), Just(Leftovers::All)];
    (proptest::option::of(0..600 * DAY), 0..2 * DAY, marks, leftovers).prop_map(
        |(max_age, min_age, marks, leftovers)| Rules {
            max_age: max_age.map(Duration::from_secs),
            min_age: Duration::from_secs(min_age),
            marks: marks.map(|(a, b)| Marks { high: a.max(b), low: a.min(b) }),
            leftover_age: Duration::from_secs(DAY),
            leftovers,
        },
    )
}

/// Which entries stay, and whether the mark is reached.
fn reference(things: &[Thing], rules: &Rules, now: SystemTime) -> (Vec<bool>, bool) {
    let seconds = |time: Duration| time.as_secs();
    let mut stays: Vec<bool> = things
        .iter()
        .map(|thing| {
            thing.ago() < seconds(rules.min_age)
                || rules.max_age.is_none_or(|most| thing.ago() <= seconds(most))
        })
        .collect();
    let bytes = |stays: &[bool]| -> u64 {
        things.iter().zip(stays).filter(|(_, stays)| **stays).map(|(thing, _)| thing.bytes()).sum()
    };
    let too_much = rules.marks.filter(|marks| bytes(&stays) > marks.high);
    if let Some(marks) = too_much {
        let mut order: Vec<usize> =
            (0..things.len()).filter(|n| stays[*n] && things[*n].ago() >= seconds(rules.min_age)).collect();
        order.sort_by_key(|n| things[*n].order(*n));
        order.sort_by_key(|n| {
            let used = now - Duration::from_secs(things[*n].ago());
            std::cmp::Reverse((slot(used, now), class(things[*n].bytes())))
        });
        for n in order {
            if bytes(&stays) <= marks.low {
                break;
            }
            stays[n] = false;
        }
    }
    for (thing, stays) in things.iter().zip(&mut stays) {
        let until = match rules.leftovers {
            Leftovers::None => 0,
            Leftovers::Recent => 8 * DAY,
            Leftovers::All => u64::MAX,
        };
        let looked_at = thing.ago() >= DAY.max(seconds(rules.min_age)) && thing.ago() < until;
        *stays &= !(thing.kind == Kind::Partial && looked_at);
    }
    let most = rules.marks.map(|marks| if too_much.is_some() { marks.low } else { marks.high });
    let reached = most.is_none_or(|most| bytes(&stays) <= most);
    (stays, reached)
}

async fn fill(at: &Backend, things: &[Thing], now: SystemTime) {
    for (number, thing) in things.iter().enumerate() {
        for (key, (size, written, read)) in thing.keys(number).iter().zip(thing.files()) {
            let marked = matches!(thing.kind, Kind::Partial | Kind::Unit | Kind::Nested);
            lay(&at.store, key, *size, marked.then_some("a mark")).await;
            let back = |seconds: u64| now - Duration::from_secs(seconds);
            date(at.root(), key, back(*written), back(*read));
        }
    }
}

async fn keys(at: &Backend) -> Vec<String> {
    use futures_util::TryStreamExt as _;
    let lines = at.store.list(&larder::store::Prefix::root(), Listing::default());
    let lines: Vec<_> = lines.try_collect().await.unwrap();
    lines
        .into_iter()
        .map(|line| match line {
            larder::store::Listed::Object { key, .. } => key.to_string(),
            larder::store::Listed::Prefix(prefix) => panic!("{prefix}"),
        })
        .collect()
}

async fn check(things: Vec<Thing>, rules: Rules, now: SystemTime) {
    let at = directory();
    fill(&at, &things, now).await;
    let (stays, reached) = reference(&things, &rules, now);
    let mut expected: Vec<String> =
        (0..things.len()).filter(|n| stays[*n]).flat_map(|n| things[n].keys(n)).collect();
    expected.sort();
    let dry = Terms { places: Vec::new(), rules, dry_run: true }.checked().unwrap();
    let before = keys(&at).await;
    let told = sweep(&at.store, &dry, now, &Counters::default()).await.unwrap();
    assert_eq!(keys(&at).await, before, "a dry run takes nothing");
    let wet = Terms { dry_run: false, ..dry };
    let done = sweep(&at.store, &wet, now, &Counters::default()).await.unwrap();
    assert_eq!(keys(&at).await, expected);
    let gone = stays.iter().filter(|stays| !**stays).count() as u64;
    let bytes: u64 =
        things.iter().zip(&stays).filter(|(_, stays)| !**stays).map(|(thing, _)| thing.bytes()).sum();
    assert_eq!((done.removed.entries, done.removed.bytes), (Some(gone), bytes));
    assert_eq!(done.removed.objects, (before.len() - expected.len()) as u64);
    assert_eq!((done.reached, done.spared, done.failed), (reached, 0, 0));
    assert_eq!(told, larder::sweep::Summary { dry_run: true, ..done.clone() }, "a dry run tells the same");
    // Nothing is left to do.
    let again = sweep(&at.store, &wet, now, &Counters::default()).await.unwrap();
    assert_eq!(again.removed.objects, 0, "{again:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn exactly_the_entries_that_should_go_go(things in things(), rules in rules(), clock in 0..400 * DAY) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Any clock will do: nothing looks at this machine's, but for what is staged.
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000 + clock);
        runtime.block_on(check(things, rules, now));
    }
}

/// The grouping that the model is built on holds for what it builds.
#[test]
fn the_model_knows_its_entries() {
    let mut of: BTreeMap<String, usize> = BTreeMap::new();
    let kinds = [Kind::Single, Kind::Loose, Kind::Unit, Kind::Partial, Kind::Nested];
    for (number, kind) in kinds.into_iter().enumerate() {
        let thing = Thing { kind, files: vec![(1, 1, 1); 3] };
        for key in thing.keys(number) {
            let member = larder::domain::layout::member(&key.parse().unwrap());
            assert_eq!(*of.entry(member.entry).or_insert(number), number, "{key}");
        }
    }
    assert_eq!(of.len(), kinds.len());
}
