//! Promise: any number of Larders over one bucket are one cache. What one stored the others serve at once; when one is
//! killed only its requests under way fail; when one is asked to leave none does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::faults::rig::HASH;
use crate::support::LIMIT;
use crate::support::backends::{S3Server, servers};
use crate::support::balancer::Balancer;
use crate::support::http::{Body, Client, Pattern, bare, request, with_body};
use crate::support::process::Larder;

/// Clients at once.
const CLIENTS: usize = 16;
/// Uploads of each client.
const EACH: usize = 30;

/// Two gateways over one place, and a balancer before them.
struct Pair {
    one: Larder,
    two: Larder,
    balancer: Balancer,
}

impl Pair {
    fn start(server: &S3Server) -> Self {
        let store = format!("s3://{}/replicas-{:016x}", server.bucket, fastrand::u64(..));
        let serve = || {
            let secrets = [("AWS_ACCESS_KEY_ID", &*server.key), ("AWS_SECRET_ACCESS_KEY", &*server.secret)];
            Larder::serve(&["--store", &store, "--s3-endpoint", &server.endpoint], &secrets)
        };
        let (one, two) = (serve(), serve());
        let balancer = Balancer::start(&[one.addr(), two.addr()]);
        Self { one, two, balancer }
    }
}

fn artifact(name: &str) -> String {
    format!("/artifact/linux_amd64/pkg/replica/{HASH}/{name}")
}

fn pattern(seed: usize) -> Pattern {
    Pattern { seed: seed as u64, length: 1 + (seed as u64 * 7919) % (300 << 10) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_stored_the_other_serves_at_once() {
    for server in servers() {
        let pair = Pair::start(&server);
        let (one, two) = (Client::new(pair.one.addr()), Client::new(pair.two.addr()));
        for round in 0..50 {
            let (from, to) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
            // A new name, one that is stored again and again, and one that the other has just missed.
            let names =
                [artifact(&format!("new-{round}")), artifact("again"), format!("/please/{round:040x}")];
            for (path, verb) in names.iter().zip(["POST", "POST", "PUT"]) {
                if path != &names[1] {
                    to.check(bare("GET", path), 404).await;
                }
                let bytes = pattern(round).bytes();
                from.check(with_body(verb, path, bytes.clone()), 200).await;
                let read = to.check(bare("GET", path), 200).await;
                assert!(read.body == bytes, "{}: {path} in round {round}", server.name);
            }
            from.check(bare("DELETE", "/artifact/linux_amd64/pkg/replica"), 200).await;
            to.check(bare("GET", &names[0]), 404).await;
            to.check(bare("HEAD", &names[1]), 404).await;
        }
    }
}

/// Uploads one after the other, each over a new connection, and again where it fails. How many failed.
async fn insist(client: Client, number: usize, done: Arc<AtomicUsize>) -> usize {
    let mut failed = 0;
    for round in 0..EACH {
        let seed = number * EACH + round;
        let path = artifact(&seed.to_string());
        while let Err(error) =
            client.try_send(request("POST", &path).body(pattern(seed).body()).unwrap()).await
        {
            failed += 1;
            assert!(failed < 3, "{path} fails again and again: {error}");
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_one_takes_along_only_what_it_was_doing() {
    for server in servers() {
        let mut pair = Pair::start(&server);
        let client = Client::new(pair.balancer.addr());
        let done = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(insist(client.clone(), number, Arc::clone(&done)));
        }
        let under_load = async {
            while done.load(Ordering::Relaxed) < CLIENTS * EACH / 3 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, under_load).await.expect("the load goes on");
        pair.one.kill9();
        assert!(done.load(Ordering::Relaxed) < CLIENTS * EACH * 9 / 10, "killed too late to matter");

        let failed = clients.join_all().await.into_iter().sum::<usize>();
        // A client has one request under way at a time, and the other gateway takes the next.
        assert!(failed <= CLIENTS, "{}: {failed} requests failed", server.name);
        let other = Client::new(pair.two.addr());
        for seed in 0..CLIENTS * EACH {
            let read = other.check(bare("GET", &artifact(&seed.to_string())), 200).await;
            assert!(read.body == pattern(seed).bytes(), "{}: {seed}", server.name);
        }
        eprintln!("replicas over {}: {failed} of {} requests met the death", server.name, CLIENTS * EACH);
    }
}

/// A body whose second half waits for the gate; says when the first has been taken.
fn halved(bytes: &Bytes, begun: mpsc::UnboundedSender<()>, gate: Arc<Semaphore>) -> Body {
    let (first, second) = (bytes.slice(..bytes.len() / 2), bytes.slice(bytes.len() / 2..));
    let pieces = stream::unfold(0, move |step| {
        let (first, second, begun, gate) = (first.clone(), second.clone(), begun.clone(), Arc::clone(&gate));
        async move {
            match step {
                0 => Some((Ok(Frame::data(first)), 1)),
                1 => {
                    begun.send(()).unwrap();
                    gate.acquire().await.unwrap().forget();
                    Some((Ok(Frame::data(second)), 2))
                }
                _ => None,
            }
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// Waits until nobody listens there.
async fn closed(addr: SocketAddr) {
    let wait = async { while TcpStream::connect(addr).await.is_ok() {} };
    tokio::time::timeout(LIMIT, wait).await.expect("the port closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_asked_to_leave_ends_its_work_first() {
    for server in servers() {
        let mut pair = Pair::start(&server);
        let (leaving, balanced) = (Client::new(pair.one.addr()), Client::new(pair.balancer.addr()));
        let (begun, mut begins) = mpsc::unbounded_channel();
        let gate = Arc::new(Semaphore::new(0));
        // Small ones, and some that are in the middle of a multipart upload.
        let mut uploads = JoinSet::new();
        for number in 0..CLIENTS {
            let length = if number % 4 == 0 { 20 << 20 } else { 100_000 };
            let bytes = Pattern { seed: number as u64, length }.bytes();
            let body = halved(&bytes, begun.clone(), Arc::clone(&gate));
            let ask = request("POST", &artifact(&format!("leaving-{number}"))).body(body).unwrap();
            let client = leaving.clone();
            uploads.spawn(async move { (number, client.try_send(ask).await, bytes) });
        }
        for _ in 0..CLIENTS {
            tokio::time::timeout(LIMIT, begins.recv()).await.expect("the uploads begin");
        }
        let mut reading = leaving.connect().await.unwrap();
        balanced.check(with_body("POST", &artifact("read"), Bytes::from(vec![7; 4 << 20])), 200).await;
        let read = reading.open(bare("GET", &artifact("read"))).await.unwrap();

        pair.one.terminate();
        closed(pair.one.addr()).await;
        for number in 0..50 {
            let path = artifact(&format!("after-{number}"));
            balanced.check(with_body("POST", &path, pattern(number).bytes()), 200).await;
            assert!(balanced.check(bare("GET", &path), 200).await.body == pattern(number).bytes());
        }

        gate.add_permits(CLIENTS);
        assert_eq!(read.into_body().collect().await.expect("a whole body").to_bytes().len(), 4 << 20);
        for (number, answer, bytes) in uploads.join_all().await {
            let answer = answer.unwrap_or_else(|error| panic!("{}: upload {number}: {error}", server.name));
            assert_eq!(answer.status, 200, "{}: upload {number}", server.name);
            let stored = balanced.check(bare("GET", &artifact(&format!("leaving-{number}"))), 200).await;
            assert!(stored.body == bytes, "{}: upload {number}", server.name);
        }
        assert_eq!(pair.one.ended(Duration::from_secs(20)).await.code(), Some(0));
        drop(pair.two);
    }
}
