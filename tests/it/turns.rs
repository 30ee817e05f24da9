//! Promise: requests to a bucket have their turns, and whoever has one comes to its end: nobody waits for who waits for them.

use futures_util::future::join_all;
use futures_util::poll;
use larder::budget::Budget;
use larder::metrics::Metrics;
use larder::payload::{Body, Want};
use larder::store::s3::Credentials;
use larder::store::{Key, Put, Store};

use crate::faults::rig::HASH;
use crate::support::LIMIT;
use crate::support::backends::servers;
use crate::support::gateway::{Options, TestGateway};
use crate::support::http::{bare, full, request};
use crate::support::rpc::{At, Rpc};

/// What is read ahead, of a directory whose first file is large, has its turns before that file has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_ahead_do_not_starve_the_large_one_before_them() {
    for server in servers() {
        let options = Options { store_requests: 2, ..Options::default() };
        let gateway = TestGateway::over(&server, &server.endpoint, 5, options);
        let (rpc, at) = (Rpc::new(gateway.addr()), At::new("unit", 1));
        let body = |n: u32| vec![7; if n == 0 { 100_000 } else { 20_000 }];
        rpc.store(&at, (0..9).map(|n| at.file(&format!("d/{n}"), body(n))).collect()).await.unwrap();
        let plain = format!("/artifact/linux_amd64/p/plain/{HASH}");
        for n in 0..9 {
            let post = request("POST", &format!("{plain}/d/{n}")).body(full(body(n))).unwrap();
            gateway.client().check(post, 200).await;
        }
        for directory in [format!("/{}/d", at.path()), format!("{plain}/d")] {
            let reads = (0..4).map(|_| async {
                let answer = gateway.client().check(bare("GET", &directory), 200).await;
                assert!(answer.body.len() > 260_000, "all nine files of {directory}");
            });
            let all = tokio::time::timeout(LIMIT, join_all(reads)).await;
            assert!(all.is_ok(), "{directory} on {} is never read to its end", server.name);
        }
    }
}

/// Who waits for room in memory keeps nobody from a turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_room_takes_no_turn() {
    for server in servers() {
        let mut config = server.config(&server.endpoint);
        config.prefix = Some(format!("turns-{:016x}", fastrand::u64(..)).parse().unwrap());
        config.max_requests = 2;
        let credentials = Credentials { key: server.key.clone(), secret: server.secret.clone() };
        // For one stream.
        let budget = Budget::new(256 << 10);
        let store = Store::s3_as(config, credentials, budget, Metrics::new()).await.unwrap();
        let (large, small): (Key, Key) = ("large".parse().unwrap(), "small".parse().unwrap());
        for (key, size) in [(&large, 200_000), (&small, 10)] {
            let bytes = bytes::Bytes::from(vec![1; size]);
            store.put(key, bytes.into(), Put::default()).await.unwrap();
        }
        let want = Want::default();
        let first = store.get(&large, &want).await.unwrap().unwrap();
        let mut waiting = Box::pin(join_all((0..4).map(|_| store.get(&large, &want))));
        assert!(poll!(waiting.as_mut()).is_pending());
        let read = async {
            for _ in 0..8 {
                assert!(store.get(&small, &want).await.unwrap().is_some());
            }
        };
        tokio::select! {
            biased;
            _ = waiting.as_mut() => panic!("there is no room yet on {}", server.name),
            read = tokio::time::timeout(LIMIT, read) => assert!(read.is_ok(), "{}: no turn for small ones", server.name),
        }
        // Who gives up waiting gives up what it had; who ends makes room for the next.
        drop((waiting, first));
        let Some(object) = store.get(&large, &want).await.unwrap() else { panic!() };
        let Body::Whole(content) = object.body else { panic!() };
        assert_eq!(content.collect().await.unwrap().len(), 200_000);
        store.delete(&[large.clone(), small.clone()]).await.unwrap();
    }
}
