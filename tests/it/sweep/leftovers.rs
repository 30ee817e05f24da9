//! What broken Stores have left goes, and nothing that looks like it.

use std::time::Duration;

use futures_util::StreamExt as _;
use larder::domain::layout;
use larder::store::{Listing, Prefix, Store};
use larder::sweep::{Leftovers, Rules};

use super::counted::unit;
use super::{hash, lay, marks, place, swept};
use crate::support::backends::{directory, servers};

/// Only leftovers, of any age.
fn rules(leftovers: Leftovers) -> Rules {
    Rules { marks: None, leftover_age: Duration::ZERO, leftovers, ..marks(0, 0) }
}

async fn count(store: &Store) -> usize {
    store.list(&Prefix::root(), Listing::default()).count().await
}

async fn check(store: &Store) {
    // A unit; one without its manifest; files that came one by one; and some of both.
    unit(store, 1).await;
    let broken = unit(store, 2).await;
    store.delete(&[layout::manifest(&broken)]).await.unwrap();
    let loose = format!("artifact/linux_amd64/pkg/loose/{}", hash(3));
    lay(store, &format!("{loose}/a"), 10, None).await;
    let mixed = unit(store, 4).await;
    store.delete(&[layout::manifest(&mixed)]).await.unwrap();
    let over = format!("artifact/{mixed}/f1");
    lay(store, &over, 10, None).await;
    lay(store, "please/ab/abababababababab", 10, None).await;
    assert_eq!(count(store).await, 5 + 4 + 1 + 4 + 1);

    let done = swept(store, rules(Leftovers::None)).await.unwrap();
    assert_eq!(done.removed.objects, 0);
    let done = swept(store, rules(Leftovers::Recent)).await.unwrap();
    assert_eq!((done.removed.objects, done.partial, done.removed.entries), (4 + 3, 2, Some(1)));
    assert_eq!(count(store).await, 5 + 1 + 1 + 1, "the unit, what came one by one, and nothing marked");
    assert!(store.head(&over.parse().unwrap()).await.unwrap().is_some());
    let done = swept(store, rules(Leftovers::All)).await.unwrap();
    assert_eq!(done.removed.objects, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_a_store_left_goes() {
    let dir = directory();
    check(&dir.store).await;
    for server in servers() {
        let store = super::bucket(&server, &place(), &server.endpoint, 3).await;
        check(&store).await;
    }
}

/// Uploads that nobody finishes are staged files in a directory.
#[tokio::test]
async fn broken_uploads_go() {
    let dir = directory();
    let staging = dir.root().join(".staging");
    std::fs::create_dir_all(&staging).unwrap();
    std::fs::write(staging.join("left"), b"half").unwrap();
    let done =
        swept(&dir.store, Rules { leftover_age: Duration::from_secs(60), ..rules(Leftovers::None) }).await;
    assert_eq!(done.unwrap().uploads, 0, "somebody may be at work on it");
    assert_eq!(swept(&dir.store, rules(Leftovers::None)).await.unwrap().uploads, 1);
    assert!(!staging.join("left").exists());
}
