//! Promise: requests to a bucket have their turns, and whoever has one comes to its end: nobody waits for who waits for them.

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt as _, StreamExt as _, poll, stream};
use larder::budget::Budget;
use larder::domain::wheels::{Beside, Claims, IndexName, Landed, Offer, UploadError};
use larder::domain::{Error, Fault, Gateway, Wheels, Writes};
use larder::metrics::Metrics;
use larder::payload::{Body, Want};
use larder::store::s3::Credentials;
use larder::store::{Key, Put, Store, dir};
use tokio::sync::{mpsc, oneshot};

use crate::faults::rig::HASH;
use crate::support::LIMIT;
use crate::support::backends::servers;
use crate::support::gateway::{Options, TestGateway};
use crate::support::http::{bare, full, request};
use crate::support::python::{Distribution, members};
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

/// A store over a directory and over each server, with room for one large body at a time.
async fn narrow(root: &std::path::Path) -> Vec<(String, Store, Budget)> {
    let room = || Budget::new(2 << 20);
    let budget = room();
    let config = dir::Config { root: root.to_owned(), sync: dir::Sync::Never, memory: 0 };
    let store = Store::dir(config, budget.clone(), Metrics::new()).unwrap();
    let mut all = vec![("dir".to_owned(), store, budget)];
    for server in servers() {
        let mut config = server.config(&server.endpoint);
        config.prefix = Some(format!("turns-{:016x}", fastrand::u64(..)).parse().unwrap());
        let credentials = Credentials { key: server.key.clone(), secret: server.secret.clone() };
        let budget = room();
        let store = Store::s3_as(config, credentials, budget.clone(), Metrics::new()).await.unwrap();
        all.push((server.name.clone(), store, budget));
    }
    all
}

/// An upload whose sender stops wherever it likes.
struct Upload {
    bytes: Bytes,
    body: mpsc::UnboundedSender<Bytes>,
    claims: oneshot::Sender<Result<Claims, String>>,
    answer: BoxFuture<'static, Result<Landed, UploadError>>,
}

impl Upload {
    fn begin(writes: &Writes, file: &Distribution) -> Self {
        let (body, bytes) = mpsc::unbounded_channel();
        let (claims, told) = oneshot::channel();
        let stream =
            stream::unfold(bytes, async |mut bytes| bytes.recv().await.map(|chunk| (Ok(chunk), bytes)));
        let offer = Offer {
            filename: file.filename.parse().unwrap(),
            sha256: None,
            beside: Beside::default(),
            body: stream.boxed(),
            claims: told,
        };
        let writes = writes.clone();
        let answer = async move { writes.distribution(&IndexName::Shared, offer).await }.boxed();
        Self { bytes: Bytes::from(file.bytes.clone()), body, claims, answer }
    }

    /// Sends so much, and lets it come as far as it comes by itself.
    async fn send(&mut self, length: usize) {
        self.body.send(self.bytes.split_to(length)).unwrap();
        assert!(poll!(self.answer.as_mut()).is_pending());
    }

    async fn end(self) -> Result<Landed, UploadError> {
        self.body.send(self.bytes).unwrap();
        self.claims.send(Ok(Claims::default())).unwrap();
        drop(self.body);
        self.answer.await
    }
}

/// Whoever has one of the few places for large metadata may wait for room; whoever has room never waits for a place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_with_large_metadata_do_not_wait_for_each_other() {
    let root = tempfile::tempdir().unwrap();
    for (name, store, budget) in narrow(root.path()).await {
        let writes = Gateway::new(store, Wheels::default()).writes();
        let file = |version: &str, content: usize| {
            let mut members = members("a", version, "py3-none-any", &vec![b'x'; content]);
            members[1].1.extend_from_slice(&[b'x'; 100_000]);
            Distribution::of_members("a", version, "py3-none-any", &members)
        };
        // It has all the room that there is before its metadata come.
        let late = file("1", 300_000);
        let mut first = Upload::begin(&writes, &late);
        first.send(200_000).await;
        assert_eq!(budget.held(), 2 << 20, "on {name}");
        let mut others: Vec<_> = (2..6).map(|n| Upload::begin(&writes, &file(&n.to_string(), 10))).collect();
        for other in &mut others {
            other.send(90_000).await;
        }
        let fifth = Upload::begin(&writes, &file("6", 10)).end();
        let busy = |answer: &Result<Landed, UploadError>| {
            matches!(answer, Err(UploadError::Failed(Error::Store(Fault::Unavailable))))
        };
        let all = std::iter::once(first).chain(others).map(Upload::end);
        let all = async { (fifth.await, join_all(all).await) };
        let Ok((fifth, all)) = tokio::time::timeout(LIMIT, all).await else {
            panic!("on {name} they wait for each other")
        };
        assert!(busy(&fifth) && busy(&all[0]), "on {name}: {fifth:?} {all:?}");
        assert!(all[1..].iter().all(|answer| *answer == Ok(Landed::Stored)), "on {name}: {all:?}");
        assert_eq!(Upload::begin(&writes, &late).end().await, Ok(Landed::Stored), "on {name}");
    }
}
