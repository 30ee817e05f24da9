//! Promise: memory follows requests, never objects. The real binary (or the one that `LARDER_BIN` names), its peak as the
//! kernel saw it (`VmHWM`).
//!
//! The size of a large object is `LARDER_TEST_BIG`: 64MiB where nothing is said, 1GiB in CI.

use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytesize::ByteSize;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use prost::Message as _;
use tokio::time::{MissedTickBehavior, interval};

use crate::faults::rig::HASH;
use crate::support::backends::{S3Server, servers};
use crate::support::http::{Body, Client, End, Pattern, bare, full as whole, request};
use crate::support::process::Larder;
use crate::support::rpc::{At, Rpc, frame, retrieving};
use crate::support::variable;

/// Streams at once, either way.
const STREAMS: u64 = 8;
/// Connections that say nothing.
const IDLE: usize = 1000;
/// Connections that are busy, half of them each way.
const BUSY: usize = 256;
const MIB: u64 = 1 << 20;

/// A gateway that removes what it has stored.
struct Gateway {
    larder: Larder,
    client: Client,
    name: String,
    place: Place,
}

/// Where it stores.
enum Place {
    Dir(tempfile::TempDir),
    Bucket(S3Server, String),
}

impl Place {
    fn serve(&self) -> Larder {
        let bin = variable("LARDER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_larder").to_owned());
        let mut command = Command::new(bin);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "-q"]).env_clear();
        // The line that says where it listens is no warning.
        command.env("RUST_LOG", "larder::serve=info");
        match self {
            Self::Dir(root) => {
                command.arg("--store").arg(root.path());
            }
            Self::Bucket(server, store) => {
                command.args(["--store", store, "--s3-endpoint", &server.endpoint]);
                command.env("AWS_ACCESS_KEY_ID", &server.key).env("AWS_SECRET_ACCESS_KEY", &server.secret);
            }
        }
        Larder::start(command)
    }
}

impl Gateway {
    fn start(server: Option<&S3Server>) -> Self {
        let place = match server {
            None => Place::Dir(tempfile::tempdir().unwrap()),
            Some(server) => {
                let store = format!("s3://{}/memory-{:016x}", server.bucket, fastrand::u64(..));
                Place::Bucket(server.clone(), store)
            }
        };
        let larder = place.serve();
        let name = server.map_or_else(|| "dir".to_owned(), |server| server.name.clone());
        Self { client: Client::new(larder.addr()), larder, name, place }
    }

    /// Ends the process; another takes its place.
    fn again(self) -> Self {
        let Self { larder, name, place, .. } = self;
        drop(larder);
        let larder = place.serve();
        Self { client: Client::new(larder.addr()), larder, name, place }
    }

    /// The peak so far, which may not be more than so many MiB.
    fn peak(&self, what: &str, most: u64) {
        let (peak, now) = (self.larder.peak_rss_kib(), self.larder.rss_kib());
        eprintln!("{what} over {}: peak {} MiB, now {} MiB", self.name, peak / 1024, now / 1024);
        assert!(peak <= most * 1024, "{what} over {}: {} MiB at the peak", self.name, peak / 1024);
    }

    async fn upload(&self, name: &str, pattern: Pattern) {
        let ask = request("POST", &artifact(name)).header("content-length", pattern.length.to_string());
        self.client.check(ask.body(pattern.body()).unwrap(), 200).await;
    }

    async fn download(&self, name: &str, pattern: Pattern, sum: [u8; 32]) {
        let found = self.client.measure(bare("GET", &artifact(name))).await.unwrap();
        let whole =
            (found.status.as_u16(), found.end) == (200, End::Complete) && found.length == pattern.length;
        assert!(whole && found.sha256 == sum, "{}: {name}: {} bytes", self.name, found.length);
    }
}

fn artifact(name: &str) -> String {
    format!("/artifact/linux_amd64/pkg/memory/{HASH}/{name}")
}

fn places() -> Vec<Option<S3Server>> {
    // One real server is enough: what the others do differently costs no memory of ours.
    let minio = servers().into_iter().filter(|server| server.name == "minio");
    std::iter::once(None).chain(minio.map(Some)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_large_streams_each_way() {
    let size = variable("LARDER_TEST_BIG")
        .map_or(64 * MIB, |size| size.parse::<ByteSize>().expect("a size").as_u64());
    let patterns = [1, 2].map(|seed| Pattern { seed, length: size });
    let sums = patterns.map(Pattern::sha256);
    let of = |number: u64| usize::from(number % 2 == 1);
    for server in places() {
        let gateway = Gateway::start(server.as_ref());
        let started = Instant::now();
        join_all((0..2).map(|number| gateway.upload(["old-0", "old-1"][number], patterns[number]))).await;
        let up = join_all((0..STREAMS).map(async |number| {
            gateway.upload(&format!("new-{number}"), patterns[of(number)]).await;
        }));
        let down = join_all((0..STREAMS).map(async |number| {
            let which = of(number);
            gateway.download(["old-0", "old-1"][which], patterns[which], sums[which]).await;
        }));
        tokio::join!(up, down);
        for number in 0..STREAMS {
            let which = of(number);
            gateway.download(&format!("new-{number}"), patterns[which], sums[which]).await;
        }
        gateway.client.check(bare("DELETE", "/"), 200).await;
        gateway.peak(&format!("8 up and 8 down of {} MiB, {:?}", size / MIB, started.elapsed()), 128);
    }
}

/// Entries that come as one message flow: 64 of 100 MiB take what `docs/operations.md` says, which is what 24 take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_entries_at_once() {
    let full = variable("LARDER_TEST_BIG").is_some();
    let (count, size) = if full { (64, 100 << 20) } else { (64, 8 << 20) };
    let at = At::new("large", 1);
    for server in places() {
        let gateway = Gateway::start(server.as_ref());
        let rpc = Rpc::new(gateway.larder.addr());
        rpc.store(&at, vec![at.file("a", vec![1; size / 2]), at.file("b", vec![2; size / 2])]).await.unwrap();
        // A Store is in memory as a whole: what is looked at here is another process.
        let gateway = gateway.again();
        let started = Instant::now();
        let client = Client::h2(gateway.larder.addr());
        let all = join_all((0..count).map(async |_| retrieved(&client, &at).await)).await;
        // The message, and what it says of the two files.
        assert!(all.iter().all(|bytes| (size..size + 200).contains(bytes)), "{all:?}");
        let what = format!("{count} Retrieves of {} MiB, {:?}", size >> 20, started.elapsed());
        // The process itself, --max-inflight-bytes, --dir-memory, and 64 KiB for each request and connection.
        gateway.peak(&what, 20 + 48 + 24 + 2 * 4);
        gateway.client.check(bare("DELETE", "/"), 200).await;
    }
}

/// The bytes of the answer to a Retrieve of all.
async fn retrieved(client: &Client, at: &At) -> usize {
    let message = retrieving(at, &[""]).encode_to_vec();
    let ask =
        request("POST", "/proto.rpc_cache.RpcCache/Retrieve").header("content-type", "application/grpc");
    let ask = ask.header("te", "trailers").body(whole(frame(false, &message))).unwrap();
    let mut connection = client.connect().await.unwrap();
    let mut body = connection.open(ask).await.unwrap().into_body();
    let (mut bytes, mut ended) = (0, false);
    while let Some(part) = body.frame().await {
        match part.unwrap().into_data() {
            Ok(data) => bytes += data.len(),
            Err(frame) => ended = frame.trailers_ref().unwrap()["grpc-status"] == "0",
        }
    }
    assert!(ended, "the answer has an end");
    bytes - 5
}

/// Pieces at a pace: a peer that is slow, and not silent.
fn paced(pattern: Pattern) -> Body {
    let mut clock = interval(Duration::from_millis(20));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let pieces = stream::unfold((clock, pattern.blocks()), |(mut clock, mut blocks)| async move {
        clock.tick().await;
        Some((Ok(Frame::data(blocks.next()?)), (clock, blocks)))
    });
    StreamBody::new(pieces.boxed()).boxed_unsync()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_idle_connections_and_many_busy_ones() {
    let pattern = Pattern { seed: 3, length: MIB };
    let sum = pattern.sha256();
    for server in places() {
        let gateway = Gateway::start(server.as_ref());
        gateway.upload("old", pattern).await;
        let mut idle = Vec::new();
        for _ in 0..IDLE {
            let mut connection = gateway.client.connect().await.unwrap();
            assert_eq!(connection.send(bare("GET", "/ping")).await.unwrap().body, Bytes::from("pong\n"));
            idle.push(connection);
        }
        gateway.peak("1000 idle connections", 256);
        let started = Instant::now();
        let busy = (0..BUSY).map(async |number| {
            for round in 0..2 {
                if number % 2 == 0 {
                    let path = artifact(&format!("new-{number}-{round}"));
                    let ask = request("POST", &path).header("content-length", pattern.length.to_string());
                    gateway.client.check(ask.body(paced(pattern)).unwrap(), 200).await;
                } else {
                    slowly(&gateway, pattern).await;
                }
            }
        });
        join_all(busy).await;
        gateway.download("new-0-0", pattern, sum).await;
        for connection in &mut idle {
            assert_eq!(connection.send(bare("GET", "/ping")).await.unwrap().status, 200);
        }
        gateway.client.check(bare("DELETE", "/"), 200).await;
        gateway.peak(&format!("1000 idle and 256 busy, {:?}", started.elapsed()), 256);
    }
}

/// Reads a piece at a time, at a pace.
async fn slowly(gateway: &Gateway, pattern: Pattern) {
    let mut connection = gateway.client.connect().await.unwrap();
    let mut body = connection.open(bare("GET", &artifact("old"))).await.unwrap().into_body();
    let mut clock = interval(Duration::from_millis(5));
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut got = 0;
    while let Some(frame) = body.frame().await {
        got += frame.unwrap().into_data().map_or(0, |data| data.len() as u64);
        clock.tick().await;
    }
    assert_eq!(got, pattern.length);
}
