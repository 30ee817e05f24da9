//! However much is used at once: each entry once, no more than fit, nothing where the store refuses or copies are of no use.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use larder::domain::units::fetch::Wish;
use larder::metrics::Refreshed;
use larder::payload::Want;

use super::{DAY, FILES, Keeper, Yard, age, ages, came, keys, lay, please, please_key, unit};
use crate::support::backends::{S3Server, servers};
use crate::support::gateway::{Options, TestGateway, eventually};
use crate::support::http::bare;
use crate::support::proxy::{Fault, FaultProxy};

/// A gateway over a bucket, that refreshes what is a second old.
struct Behind {
    proxy: FaultProxy,
    gateway: TestGateway,
}

impl Behind {
    fn new(server: &S3Server) -> Self {
        let proxy = FaultProxy::start(server.endpoint.trim_start_matches("http://").parse().unwrap());
        let options = Options { refresh: Some(ages(Duration::from_secs(1))), ..Options::default() };
        let gateway = TestGateway::over(server, &proxy.endpoint(), 2, options);
        Self { proxy, gateway }
    }

    /// Entries of Please, as old as need be: a bucket tells that in whole seconds.
    async fn lay(&self, numbers: std::ops::Range<usize>) {
        for number in numbers {
            lay(&self.gateway.store().await, &please_key(number), 100, None).await;
        }
        tokio::time::sleep(Duration::from_millis(2500)).await;
        self.proxy.take_requests();
    }

    async fn read(&self, number: usize) {
        self.gateway.client().check(bare("GET", &format!("/please/{}", please(number))), 200).await;
    }

    async fn until(&self, what: Refreshed, count: u64) {
        let so = async || came(&self.gateway.metrics, what) >= count;
        eventually(&format!("{} {what:?} on {}", count, self.gateway.name), so).await;
    }

    fn copies(&self) -> usize {
        self.proxy.verbs().get("CopyObject").copied().unwrap_or(0)
    }
}

#[tokio::test]
async fn a_hundred_uses_at_once_are_one_refresh() {
    let yard = Yard::new();
    let of = unit(&yard.store, "hot").await;
    keys(&of).iter().for_each(|key| yard.age(key, DAY * 20));
    let keeper = Keeper::new(&yard.store, ages(DAY * 15));
    let reads = keeper.reads();
    join_all((0..100).map(async |n| {
        let file = of.file(FILES[n % FILES.len()]).unwrap();
        assert!(reads.artifact_meta(&file).await.unwrap().is_some());
        assert!(reads.unit(&of, &[Wish::All], 1 << 20).await.unwrap().is_some());
    }))
    .await;
    drop(reads);
    let before = yard.metrics.calls_of("copy");
    let counted = keeper.settle().await;
    let all = [Refreshed::Done, Refreshed::Young, Refreshed::Gone, Refreshed::Failed, Refreshed::Dropped];
    assert_eq!(all.map(|what| came(&counted, what)), [1, 0, 0, 0, 0]);
    assert_eq!(yard.metrics.calls_of("copy") - before, keys(&of).len() as u64);
}

#[tokio::test]
async fn more_than_fit_are_forgotten_until_their_next_use() {
    const ALL: u64 = 600;
    let yard = Yard::new();
    for number in 0..ALL as usize {
        lay(&yard.store, &please_key(number), 1, None).await;
        yard.age(&please_key(number), DAY * 20);
    }
    let mut refreshed = 0;
    for _ in 0..2 {
        // Nobody works while these are read.
        let keeper = Keeper::new(&yard.store, ages(DAY * 15));
        for number in 0..ALL as usize {
            let hash = please(number).parse().unwrap();
            assert!(keeper.reads().please(&hash, &Want::default()).await.unwrap().is_some());
        }
        let dropped = came(&keeper.metrics, Refreshed::Dropped);
        let done = came(&keeper.settle().await, Refreshed::Done);
        assert_eq!(refreshed + done + dropped, ALL);
        assert!(refreshed > 0 || (done < ALL && done > 100), "{done}");
        refreshed += done;
    }
    assert_eq!(refreshed, ALL);
}

/// What cannot be refreshed is not tried at each use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_no_ones_but_its_own() {
    for server in servers() {
        let at = Behind::new(&server);
        at.lay(0..2).await;
        at.proxy.set_when(
            |seen| seen.verb() == "CopyObject" && seen.path().ends_with(&please(0)),
            Fault::InternalError,
            None,
        );
        at.read(0).await;
        at.until(Refreshed::Failed, 1).await;
        // As often as the SDK tries.
        let tried = at.copies();
        assert_eq!(tried, 2, "{}", server.name);
        for _ in 0..20 {
            at.read(0).await;
        }
        at.read(1).await;
        match server.name.as_str() {
            "versitygw" => at.until(Refreshed::Failed, 2).await,
            _ => at.until(Refreshed::Done, 1).await,
        }
        // It is left alone for as long as it takes to grow old once more: a second, here.
        assert!(at.copies() <= tried + 1 + 2 * 2, "{}: {}", server.name, at.copies());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_refuses_is_left_alone() {
    for server in servers() {
        let at = Behind::new(&server);
        at.lay(0..8).await;
        at.proxy.set_when(|seen| seen.verb() == "CopyObject", Fault::AccessDenied, None);
        for number in 0..3 {
            at.read(number).await;
            at.until(Refreshed::Failed, number as u64 + 1).await;
        }
        for number in 0..8 {
            at.read(number).await;
        }
        let gets = BTreeMap::from([("GetObject", 11), ("HeadObject", 3), ("CopyObject", 3)]);
        assert_eq!(at.proxy.verbs(), gets, "{}", server.name);
        assert_eq!(came(&at.gateway.metrics, Refreshed::Failed), 3, "{}", server.name);
    }
}

/// The date is moved, or it is noticed that it is not; either is one copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_that_move_no_dates_are_noticed() {
    for server in servers() {
        let at = Behind::new(&server);
        at.lay(0..4).await;
        let moves = server.name != "versitygw";
        let store = at.gateway.store().await;
        let key = please_key(0).parse().unwrap();
        let before = store.head(&key).await.unwrap().unwrap();
        at.read(0).await;
        at.until(if moves { Refreshed::Done } else { Refreshed::Failed }, 1).await;
        let after = store.head(&key).await.unwrap().unwrap();
        assert_eq!(after.modified > before.modified, moves, "{}", server.name);
        assert_eq!((after.etag, after.size), (before.etag, before.size), "{}", server.name);
        assert_eq!(at.copies(), 1, "{}", server.name);
        for number in 1..4 {
            at.read(number).await;
        }
        if moves {
            at.until(Refreshed::Done, 4).await;
        }
        assert_eq!(at.copies(), if moves { 4 } else { 1 }, "{}", server.name);
    }
}

/// Another gateway was first: its copies are seen, and none is made again.
#[tokio::test]
async fn gateways_side_by_side_copy_once() {
    let yard = Yard::new();
    let of = unit(&yard.store, "shared").await;
    keys(&of).iter().for_each(|key| age(yard.root.path(), key, DAY * 20));
    let keepers = [(); 3].map(|()| Keeper::new(&yard.store, ages(DAY * 15)));
    for keeper in &keepers {
        assert!(keeper.reads().unit(&of, &[Wish::All], 1 << 20).await.unwrap().is_some());
    }
    let mut ends = Vec::new();
    let before = yard.metrics.calls_of("copy");
    for keeper in keepers {
        let counted = keeper.settle().await;
        ends.push((came(&counted, Refreshed::Done), came(&counted, Refreshed::Young)));
    }
    assert_eq!(ends, [(1, 0), (0, 1), (0, 1)]);
    assert_eq!(yard.metrics.calls_of("copy") - before, keys(&of).len() as u64, "one listing told the others");
}
