//! Promise: what a request costs in requests to the store. Counted on the wire, and the gateway's own counters agree.

use std::collections::BTreeMap;
use std::time::Duration;

use larder::metrics::Metrics;
use larder::payload::{Body as Content, ByteRange, Want};
use larder::store::{Key, Put, s3};

use crate::faults::rig::{HASH, Patience, Rig, on_each};
use crate::support::backends::servers;
use crate::support::http::{Body, Pattern, bare, request, with_body};
use crate::support::proxy::{Fault, FaultProxy, Seen};
use crate::support::python::Distribution;

const SMALL: Pattern = Pattern { seed: 1, length: 1000 };
const MIB: u64 = 1 << 20;

/// S3's verbs, and the names that they have in our metrics.
const VERBS: [(&str, &str); 8] = [
    ("GetObject", "get"),
    ("HeadObject", "head"),
    ("PutObject", "put"),
    ("CreateMultipartUpload", "create"),
    ("UploadPart", "part"),
    ("CompleteMultipartUpload", "complete"),
    ("ListObjectsV2", "list"),
    ("DeleteObjects", "delete"),
];

fn artifact(name: &str) -> String {
    format!("/artifact/linux_amd64/pkg/target/{HASH}/{name}")
}

fn please(hash: &str) -> String {
    format!("/please/{}", hash.repeat(20))
}

fn conditional(method: &str, path: &str, header: (&str, &str)) -> http::Request<Body> {
    let (name, value) = header;
    request(method, path).header(name, value).body(crate::support::http::empty()).unwrap()
}

fn upload(path: &str, length: u64) -> http::Request<Body> {
    request("POST", path).body(Pattern { seed: 4, length }.body()).unwrap()
}

impl Rig {
    /// Asks once, and insists on the answer's status and on what it cost.
    async fn costs(&self, ask: http::Request<Body>, status: u16, expected: &[(&'static str, usize)]) {
        let name = format!("{}: {} {} {:?}", self.name, ask.method(), ask.uri(), ask.headers());
        let before = self.counted();
        self.proxy.take_requests();
        self.client.check(ask, status).await;
        let expected: BTreeMap<_, _> = expected.iter().copied().collect();
        assert_eq!(self.proxy.verbs(), expected, "{name}: on the wire");
        let after = self.counted();
        let ours = after.iter().zip(&before).map(|((verb, now), (_, then))| (*verb, now - then));
        let ours: BTreeMap<_, _> = ours.filter(|(_, count)| *count > 0).collect();
        assert_eq!(ours, expected, "{name}: in the metrics");
    }

    /// Waits until times tell one record from the next. Where they are told by the second, younger ones are read each time.
    async fn settle(&self) {
        if self.name == "versitygw" {
            tokio::time::sleep(Duration::from_millis(2100)).await;
        }
    }

    fn counted(&self) -> Vec<(&'static str, usize)> {
        let count = |(verb, ours)| (verb, usize::try_from(self.metrics.calls_of(ours)).unwrap());
        VERBS.into_iter().map(count).collect()
    }

    async fn lay_out(&self, names: &[&str]) {
        for name in names {
            self.lay(name.trim_start_matches('/'), SMALL).await;
        }
    }

    async fn etag(&self, path: &str) -> String {
        self.client.check(bare("HEAD", path), 200).await.header("etag").unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_cost_what_they_must() {
    on_each(Patience::Long, async |rig| {
        let (file, large, hit, miss) = (artifact("a"), artifact("large"), please("ab"), please("cd"));
        rig.lay_out(&[&file]).await;
        rig.lay(&format!("please/ab/{}", "ab".repeat(20)), SMALL).await;
        rig.lay(&large[1..], Pattern { seed: 5, length: MIB }).await;
        let (etag, old) = (rig.etag(&file).await, "\"0123456789abcdef\"");

        rig.costs(bare("GET", &file), 200, &[("GetObject", 1)]).await;
        rig.costs(bare("GET", &large), 200, &[("GetObject", 1)]).await;
        // It may be a directory.
        rig.costs(bare("GET", &artifact("b")), 404, &[("GetObject", 1), ("ListObjectsV2", 1)]).await;
        rig.costs(bare("HEAD", &file), 200, &[("HeadObject", 1)]).await;
        // A HEAD's 404 does not say whether the bucket is there: that is asked for.
        let nothing = [("HeadObject", 1), ("ListObjectsV2", 1)];
        rig.costs(bare("HEAD", &artifact("b")), 404, &nothing).await;
        rig.costs(bare("GET", &hit), 200, &[("GetObject", 1)]).await;
        rig.costs(bare("GET", &miss), 404, &[("GetObject", 1)]).await;
        rig.costs(bare("HEAD", &hit), 200, &[("HeadObject", 1)]).await;
        rig.costs(bare("HEAD", &miss), 404, &[("HeadObject", 1), ("GetObject", 1)]).await;

        let when = |method, header| conditional(method, &file, header);
        rig.costs(when("GET", ("if-none-match", &etag)), 304, &[("GetObject", 1)]).await;
        rig.costs(when("GET", ("if-none-match", old)), 200, &[("GetObject", 1)]).await;
        rig.costs(when("GET", ("if-none-match", "*")), 304, &[("HeadObject", 1)]).await;
        rig.costs(when("HEAD", ("if-none-match", &etag)), 304, &[("HeadObject", 1)]).await;

        let range = |path: &str, range| conditional("GET", path, ("range", range));
        rig.costs(range(&large, "bytes=100-200"), 206, &[("GetObject", 1)]).await;
        rig.costs(range(&large, "bytes=-1"), 206, &[("GetObject", 1)]).await;
        // An object is read whole, to be checked, whatever the part.
        rig.costs(range(&file, "bytes=1-2"), 206, &[("GetObject", 1)]).await;
        rig.costs(range(&large, "bytes=1048576-"), 416, &[("GetObject", 1)]).await;
    })
    .await;
}

/// Where nothing can be compared, nothing is read that nobody asked for; a part and what is known of it are of one version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_without_a_checksum_is_asked_for_as_such() {
    for server in servers() {
        let proxy = FaultProxy::start(server.endpoint.trim_start_matches("http://").parse().unwrap());
        let mut config = server.config(&proxy.endpoint());
        config.prefix = Some(format!("unchecked-{:016x}", fastrand::u64(..)).parse().unwrap());
        // So that objects of more than one part have none, but from versitygw, which computes one of its own.
        let far = if server.name == "versitygw" { 1 } else { 2 };
        config.checksums = s3::Checksums::WhenRequired;
        let mut direct = config.clone();
        direct.endpoint = Some(server.endpoint.clone());
        let store = server.store(config, Metrics::new()).await;
        let direct = server.store(direct, Metrics::new()).await;
        let key: Key = "x".parse().unwrap();
        let (old, new) = (Pattern { seed: 1, length: 20 * MIB }, Pattern { seed: 2, length: 18 * MIB });
        store.put(&key, old.bytes().into(), Put::default()).await.unwrap();
        let get = async |range| {
            let found = store.get(&key, &Want { range, ..Want::default() }).await.unwrap().unwrap();
            let (meta, body) = (found.meta, found.body);
            let (first, content) = match body {
                Content::Part { first, content, .. } => (first, content),
                Content::Whole(content) => (0, content),
                Content::Unchanged | Content::Unsatisfiable => panic!("{meta:?}"),
            };
            (meta.size, first as usize, content.collect().await.unwrap())
        };
        for (range, first, length, requests) in [
            (None, 0, 20 * MIB, 1),
            (Some(ByteRange::Between(0, 9)), 0, 10, 1),
            (Some(ByteRange::Between(1000, 2 * MIB)), 1000, 2 * MIB - 999, 1),
            (Some(ByteRange::Between(12 * MIB, 12 * MIB + 99_999)), 12 * MIB, 100_000, far),
            (Some(ByteRange::Suffix(10)), 20 * MIB - 10, 10, far),
            (Some(ByteRange::From(19 * MIB)), 19 * MIB, MIB, far),
        ] {
            proxy.take_requests();
            let (size, at, found) = get(range).await;
            assert_eq!((size, at, found.len()), (20 * MIB, first as usize, length as usize), "{range:?}");
            assert!(found == old.bytes().slice(at..at + found.len()), "{range:?}");
            let expected = BTreeMap::from([("GetObject", requests)]);
            assert_eq!(proxy.verbs(), expected, "{}: {range:?}", server.name);
        }
        if far == 1 {
            continue;
        }
        // Replaced between the two requests: all is of the new one.
        let part = |seen: &Seen| seen.headers.contains_key("range");
        proxy.set_when(part, Fault::Latency(Duration::from_secs(1)), Some(1));
        proxy.take_requests();
        let replace = async {
            proxy.until_seen(part).await;
            direct.put(&key, new.bytes().into(), Put::default()).await.unwrap();
        };
        let ((size, at, found), ()) = tokio::join!(get(Some(ByteRange::Suffix(10))), replace);
        assert_eq!((size, at), (new.length, 18 * MIB as usize - 10), "{}", server.name);
        assert!(found == new.bytes().slice(at..), "{}", server.name);
        assert_eq!(proxy.verbs(), BTreeMap::from([("GetObject", 4)]), "{}", server.name);
        // Gone between them.
        proxy.set_when(part, Fault::Latency(Duration::from_secs(1)), Some(1));
        proxy.take_requests();
        let remove = async {
            proxy.until_seen(part).await;
            direct.delete(std::slice::from_ref(&key)).await.unwrap();
        };
        let want = Want { range: Some(ByteRange::Suffix(10)), ..Want::default() };
        let (found, ()) = tokio::join!(store.get(&key, &want), remove);
        assert!(found.unwrap().is_none(), "{}", server.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whole_directories_cost_a_listing_and_their_files() {
    on_each(Patience::Long, async |rig| {
        let names = ["a", "gen/a", "gen/b", "gen/c/d", "z"].map(artifact);
        rig.lay_out(&names.each_ref().map(String::as_str)).await;
        let entry = artifact("").trim_end_matches('/').to_owned();

        // One asks for the manifest that a unit would have.
        let directory = [("GetObject", 1 + 3 + 1), ("ListObjectsV2", 1)];
        rig.costs(bare("GET", &artifact("gen")), 200, &directory).await;
        let head = [("HeadObject", 2), ("GetObject", 1), ("ListObjectsV2", 1)];
        rig.costs(bare("HEAD", &artifact("gen")), 200, &head).await;
        // As in a shell, a star takes a directory too, and all that is in it.
        rig.costs(bare("GET", &artifact("gen/%2A")), 200, &[("GetObject", 4), ("ListObjectsV2", 1)]).await;
        rig.costs(bare("GET", &artifact("gen/%5Bab%5D")), 200, &[("GetObject", 3), ("ListObjectsV2", 1)])
            .await;
        rig.costs(bare("GET", &artifact("%2A.o")), 404, &[("ListObjectsV2", 1)]).await;
        rig.costs(bare("GET", &entry), 200, &[("GetObject", 6), ("ListObjectsV2", 1)]).await;
        let head = [("HeadObject", 1), ("GetObject", 1), ("ListObjectsV2", 1)];
        rig.costs(bare("HEAD", &entry), 200, &head).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_cost_what_they_must() {
    on_each(Patience::Long, async |rig| {
        rig.costs(upload(&artifact("a"), 1000), 200, &[("PutObject", 1)]).await;
        rig.costs(upload(&artifact("a"), 0), 200, &[("PutObject", 1)]).await;
        // Each directory in a file's name may be a file already.
        rig.costs(upload(&artifact("gen/a.txt"), 1000), 200, &[("HeadObject", 1), ("PutObject", 1)]).await;
        rig.costs(upload(&artifact("gen/c/d"), 1000), 200, &[("HeadObject", 2), ("PutObject", 1)]).await;
        let put = with_body("PUT", &please("ab"), SMALL.bytes());
        rig.costs(put, 200, &[("PutObject", 1)]).await;

        let parts =
            |count| [("CreateMultipartUpload", 1), ("UploadPart", count), ("CompleteMultipartUpload", 1)];
        rig.costs(upload(&artifact("b"), 8 * MIB), 200, &[("PutObject", 1)]).await;
        rig.costs(upload(&artifact("b"), 8 * MIB + 1), 200, &parts(2)).await;
        rig.costs(upload(&artifact("b"), 16 * MIB), 200, &parts(2)).await;
        rig.costs(upload(&artifact("b"), 20 * MIB), 200, &parts(3)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletions_cost_a_listing_and_a_batch() {
    on_each(Patience::Long, async |rig| {
        let (here, there) = (artifact("a"), artifact("a").replace("linux_amd64", "darwin_arm64"));
        let drop_one = || bare("DELETE", "/artifact/linux_amd64/pkg/target");
        let drop_every = || bare("DELETE", "/artifact/pkg/target");
        rig.lay_out(&[&here, &artifact("gen/b")]).await;
        // What is so young may have a manifest by now: another look.
        rig.costs(drop_one(), 200, &[("ListObjectsV2", 2), ("DeleteObjects", 1)]).await;
        rig.costs(drop_one(), 200, &[("ListObjectsV2", 1)]).await;
        rig.lay_out(&[&here, &there]).await;
        // The systems, then each one's.
        rig.costs(drop_every(), 200, &[("ListObjectsV2", 5), ("DeleteObjects", 2)]).await;
        rig.costs(drop_every(), 200, &[("ListObjectsV2", 1)]).await;
        rig.lay_out(&[&here, &there]).await;
        rig.costs(bare("DELETE", "/"), 200, &[("ListObjectsV2", 2), ("DeleteObjects", 1)]).await;
        rig.costs(bare("DELETE", "/"), 200, &[("ListObjectsV2", 1)]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wheel_cache_costs_what_it_must() {
    on_each(Patience::Long, async |rig| {
        let (wheel, source) = (Distribution::pure("a", "1"), Distribution::source("a", "1"));
        rig.costs(wheel.upload(), 200, &[("PutObject", 3)]).await;
        rig.costs(source.upload(), 200, &[("PutObject", 2)]).await;
        rig.costs(wheel.upload(), 200, &[("GetObject", 1), ("PutObject", 1)]).await;
        let of = |form| conditional("GET", "/simple/a/", ("accept", form));
        let page = || of("text/html");
        rig.settle().await;
        rig.costs(page(), 200, &[("ListObjectsV2", 1), ("GetObject", 3), ("PutObject", 1)]).await;
        // One that was not sent before is made of what the last reader left; one that was is at hand.
        rig.costs(of("application/vnd.pypi.simple.v1+json"), 200, &[("ListObjectsV2", 1), ("GetObject", 1)])
            .await;
        // Times by the second do not tell a file from one that takes its name within that second.
        let warm: &[_] = match rig.name.as_str() {
            "versitygw" => &[("ListObjectsV2", 1), ("GetObject", 1)],
            _ => &[("ListObjectsV2", 1)],
        };
        rig.costs(page(), 200, warm).await;
        let tag = rig.client.check(page(), 200).await.header("etag").unwrap().to_owned();
        let same = request("GET", "/simple/a/").header("accept", "text/html").header("if-none-match", tag);
        let same = same.body(crate::support::http::empty()).unwrap();
        rig.costs(same, 304, &[("ListObjectsV2", 1)]).await;
        // Of a page that was read before only what is new is read.
        rig.costs(Distribution::pure("a", "2").upload(), 200, &[("PutObject", 3)]).await;
        rig.settle().await;
        rig.costs(page(), 200, &[("ListObjectsV2", 1), ("GetObject", 2), ("PutObject", 1)]).await;
        rig.costs(bare("GET", "/simple/absent/"), 404, &[("ListObjectsV2", 1)]).await;
        rig.costs(bare("GET", "/simple/"), 200, &[("ListObjectsV2", 1)]).await;
        rig.costs(bare("GET", &wheel.path()), 200, &[("GetObject", 1)]).await;
        rig.costs(bare("HEAD", &wheel.path()), 200, &[("HeadObject", 1)]).await;
        rig.costs(bare("GET", &format!("{}.metadata", wheel.path())), 200, &[("GetObject", 1)]).await;
        rig.costs(wheel.form().set("version", "7").post("/legacy/"), 400, &[]).await;
        let key = "ab".repeat(32);
        let built = || Distribution::pure("b", "1").form().add("build_key", &key).post("/legacy/");
        rig.costs(built(), 200, &[("PutObject", 4)]).await;
        rig.costs(built(), 200, &[("GetObject", 1), ("PutObject", 2)]).await;
        rig.costs(bare("GET", &format!("/by-key/{key}")), 200, &[("GetObject", 3)]).await;
        rig.costs(bare("GET", &format!("/by-key/{}", "0".repeat(64))), 404, &[("GetObject", 1)]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_costs_nothing() {
    on_each(Patience::Long, async |rig| {
        rig.costs(bare("GET", "/ping"), 200, &[]).await;
        rig.costs(bare("GET", "/please/ABCD"), 400, &[]).await;
        rig.costs(bare("GET", "/artifact/linux_amd64/pkg/target"), 404, &[]).await;
        rig.costs(with_body("POST", "/artifact/linux_amd64/pkg/target", "x"), 400, &[]).await;
        rig.costs(bare("GET", &artifact("a/../b")), 400, &[]).await;
        rig.costs(bare("PATCH", &artifact("a")), 405, &[]).await;
        rig.costs(bare("GET", "/nothing"), 404, &[]).await;
        let too_large = request("POST", &artifact("a")).header("content-length", (2_u64 << 30).to_string());
        rig.costs(too_large.body(Pattern { seed: 4, length: 2 << 30 }.body()).unwrap(), 413, &[]).await;
    })
    .await;
}
