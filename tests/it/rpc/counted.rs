//! What a call costs in requests to the store, counted on the wire.

use std::collections::BTreeMap;

use bytes::Bytes;
use larder::store::Put;

use crate::faults::rig::{Patience, Rig, on_each};
use crate::support::http::bare;
use crate::support::rpc::{At, Rpc};

async fn costs(rig: &Rig, call: impl Future<Output = ()>, expected: &[(&'static str, usize)]) {
    rig.proxy.take_requests();
    call.await;
    let expected: BTreeMap<_, _> = expected.iter().copied().collect();
    assert_eq!(rig.proxy.verbs(), expected, "{}", rig.name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_cost_what_they_must() {
    on_each(Patience::Long, async |rig| {
        let (rpc, at) = (Rpc::over(rig.client.clone().over_h2()), At::new("t", 1));
        let small: Vec<_> = (0..10).map(|n| at.file(&format!("gen/{n}"), vec![n; 2000])).collect();
        let n = small.len();
        let store = async || rpc.store(&at, small.clone()).await.unwrap();
        let get = async |at: &At, names: &[&str], found: usize| {
            assert_eq!(rpc.retrieve(at, names).await.unwrap().len(), found, "{names:?}");
        };
        costs(rig, get(&at, &["gen/1"], 0), &[("GetObject", 2), ("ListObjectsV2", 1)]).await;
        costs(rig, store(), &[("GetObject", 1), ("PutObject", n + 1)]).await;
        costs(rig, store(), &[("GetObject", 1), ("PutObject", n + 1)]).await;
        // Small files are in the manifest.
        costs(rig, get(&at, &[""], n), &[("GetObject", 1)]).await;
        costs(rig, get(&at, &["gen/1", "gen/2"], 2), &[("GetObject", 1)]).await;
        costs(rig, get(&at, &["gen/1", "no"], 0), &[("GetObject", 1)]).await;
        let nodes = async || assert_eq!(rpc.nodes().await, Ok(0));
        costs(rig, nodes(), &[]).await;
        // Larger ones are not.
        let at = At::new("large", 2);
        let large: Vec<_> = (0..5).map(|n| at.file(&n.to_string(), vec![n; 100_000])).collect();
        let store = async || rpc.store(&at, large.clone()).await.unwrap();
        costs(rig, store(), &[("GetObject", 1), ("PutObject", 6)]).await;
        costs(rig, get(&at, &[""], 5), &[("GetObject", 6)]).await;
        costs(rig, get(&at, &["3"], 1), &[("GetObject", 2)]).await;
        // One look at what is there, manifests and files each in a batch, and another look.
        let delete = async || rpc.delete(&at).await.unwrap();
        costs(rig, delete(), &[("ListObjectsV2", 2), ("DeleteObjects", 2)]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_another_length_is_not_read() {
    on_each(Patience::Long, async |rig| {
        let (rpc, at) = (Rpc::over(rig.client.clone().over_h2()), At::new("t", 3));
        rpc.store(&at, vec![at.file("gen/big", vec![1; 200_000])]).await.unwrap();
        let path = format!("/{}/gen", at.path());
        let key = format!("{}/gen/big", at.path()).parse().unwrap();
        let reads = || rig.proxy.take_requests().iter().filter(|seen| seen.path().ends_with("/big")).count();
        // Without a mark, as others store, its bytes are what tells.
        for (length, byte, status, requests) in [
            (200_000, 1, 200, ["HeadObject", "GetObject", "GetObject"].len()),
            (200_000, 2, 404, ["HeadObject", "GetObject"].len()),
            (199_999, 1, 404, ["HeadObject"].len()),
        ] {
            rig.direct.put(&key, Bytes::from(vec![byte; length]).into(), Put::default()).await.unwrap();
            rig.proxy.take_requests();
            rig.client.check(bare("GET", &path), status).await;
            assert_eq!(reads(), requests, "{}: {length} bytes of {byte}", rig.name);
        }
        rpc.delete(&at).await.unwrap();
    })
    .await;
}
