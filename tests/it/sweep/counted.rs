//! What a sweep costs: one listing request for each thousand keys and pass, one for each thousand that go, one for each
//! manifest; and what it does when the store has enough of it.

use std::collections::BTreeMap;

use futures_util::stream::{self, StreamExt as _};
use larder::domain::artifact::EntryKey;
use larder::domain::manifest::Provenance;
use larder::domain::units::Part;
use larder::domain::{Gateway, Wheels};
use larder::store::{Kind, Listing, Prefix, Store};

use super::{bucket, hash, lay, marks, place, please, swept};
use crate::support::backends::{S3Server, servers};
use crate::support::proxy::{Fault, FaultProxy};

/// A store behind a proxy, and the same one without.
pub(super) struct Behind {
    pub(super) name: String,
    pub(super) proxy: FaultProxy,
    pub(super) store: Store,
    pub(super) direct: Store,
}

impl Behind {
    async fn new(server: &S3Server) -> Self {
        let proxy = FaultProxy::start(server.endpoint.trim_start_matches("http://").parse().unwrap());
        let place = place();
        let store = bucket(server, &place, &proxy.endpoint(), 2).await;
        let direct = bucket(server, &place, &server.endpoint, 3).await;
        Self { name: server.name.clone(), proxy, store, direct }
    }

    pub(super) async fn count(&self) -> usize {
        self.direct.list(&Prefix::root(), Listing::default()).count().await
    }
}

pub(super) async fn on_each(test: impl AsyncFn(&Behind)) {
    for server in servers() {
        test(&Behind::new(&server).await).await;
    }
}

/// A unit of four files and a manifest.
pub(super) async fn unit(store: &Store, number: usize) -> EntryKey {
    let entry: EntryKey = format!("linux_amd64/pkg/unit/{}", hash(number)).parse().unwrap();
    let file = |n: usize| (entry.file(&format!("f{n}")).unwrap(), Part::File(vec![b'x'; n * 20_000].into()));
    let parts = (0..4).map(file).collect();
    let by = Provenance::now(None, None, None);
    Gateway::new(store.clone(), Wheels::default()).writes().unit(&entry, parts, &by).await.unwrap();
    entry
}

async fn singles(store: &Store, numbers: std::ops::Range<usize>) {
    stream::iter(numbers).for_each_concurrent(16, async |n| lay(store, &please(n), 10, None).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_costs_what_was_computed() {
    on_each(async |at| {
        singles(&at.direct, 0..1500).await;
        for n in 0..3 {
            unit(&at.direct, n).await;
        }
        at.proxy.take_requests();
        let done = swept(&at.store, marks(u64::MAX, 0)).await.unwrap();
        assert!(done.reached);
        // Below the mark: a look. The artifacts are one page, the others two.
        let look = [("ListObjectsV2", 1 + 2), ("ListMultipartUploads", 1)];
        assert_eq!(at.proxy.verbs(), BTreeMap::from(look), "{}", at.name);

        at.proxy.take_requests();
        let done = swept(&at.store, marks(0, 0)).await.unwrap();
        assert!(done.reached, "{done:?}");
        assert_eq!((done.removed.entries, done.removed.objects), (Some(1503), 1515));
        // Two passes; 1512 keys in two batches, and before the first one the three manifests.
        let all = [
            ("ListObjectsV2", 2 * (1 + 2)),
            ("HeadObject", 3),
            ("DeleteObjects", 1 + 2),
            ("ListMultipartUploads", 1),
        ];
        assert_eq!(at.proxy.verbs(), BTreeMap::from(all), "{}", at.name);
        assert_eq!(at.count().await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_beyond_measure_go_whole() {
    on_each(async |at| {
        let dir = format!("artifact/linux_amd64/p/t/{}", hash(1));
        let names: Vec<String> = (0..2300).map(|n| format!("{dir}/{n:04}")).collect();
        stream::iter(&names).for_each_concurrent(16, async |name| lay(&at.direct, name, 1, None).await).await;
        lay(&at.direct, &format!("artifact/linux_amd64/p/t/{}/a", hash(2)), 1, None).await;
        at.proxy.take_requests();
        let done = swept(&at.store, marks(2000, 1999)).await.unwrap();
        assert_eq!((done.removed.entries, done.removed.objects), (Some(1), 2300), "{}", at.name);
        assert_eq!(at.count().await, 1);
        // A thousand are held; the rest is listed once more.
        assert_eq!(at.proxy.verbs().get("DeleteObjects"), Some(&3), "{}", at.name);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_has_enough_is_waited_for() {
    on_each(async |at| {
        singles(&at.direct, 0..20).await;
        unit(&at.direct, 1).await;
        for verb in ["ListObjectsV2", "DeleteObjects", "HeadObject", "ListMultipartUploads"] {
            // More often than the store's own client tries.
            at.proxy.set_when(move |seen| seen.verb() == verb, Fault::SlowDown, Some(4));
        }
        let done = swept(&at.store, marks(0, 0)).await.unwrap();
        assert!(done.reached && done.failed == 0, "{}: {done:?}", at.name);
        assert_eq!(at.count().await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_that_breaks_off_is_taken_up_again() {
    on_each(async |at| {
        singles(&at.direct, 0..1200).await;
        let next_page = |seen: &crate::support::proxy::Seen| seen.asks("continuation-token");
        at.proxy.set_when(next_page, Fault::ResetMidBody(2000), Some(3));
        let done = swept(&at.store, marks(0, 0)).await.unwrap();
        assert_eq!((done.seen.objects, done.removed.objects), (1200, 1200), "{}: each once", at.name);
        assert_eq!(at.count().await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_refuses_keeps_entries_whole() {
    on_each(async |at| {
        singles(&at.direct, 0..20).await;
        unit(&at.direct, 1).await;
        at.proxy.set_when(|seen| seen.verb() == "DeleteObjects", Fault::AccessDenied, None);
        let refused = swept(&at.store, marks(0, 0)).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Denied, "{}", at.name);
        assert_eq!(at.count().await, 25, "{}", at.name);
        // Not for ever: ten in a row are enough.
        assert!(at.proxy.verbs()["DeleteObjects"] < 20, "{:?}", at.proxy.verbs());
    })
    .await;
}
