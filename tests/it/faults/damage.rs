//! Damage on the disk of a directory store: a flipped byte or a shorter file never reaches a client as a whole answer.

use std::path::{Path, PathBuf};

use super::{LARGE, Promise, SMALL, Seeing, artifact, key};
use crate::support::http::{Client, End, Pattern, bare, empty, request, with_body};
use crate::support::process::Larder;

/// What is done to a file behind Larder's back.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip(u64),
    Truncate(u64),
    Extend,
}

impl Damage {
    fn strike(self, file: &Path) {
        let mut bytes = std::fs::read(file).unwrap();
        match self {
            Self::Flip(at) => bytes[usize::try_from(at).unwrap()] ^= 1,
            Self::Truncate(to) => bytes.truncate(usize::try_from(to).unwrap()),
            Self::Extend => bytes.push(0),
        }
        // In place: the checksum beside the bytes stays.
        std::fs::write(file, bytes).unwrap();
    }
}

struct Gateway {
    root: tempfile::TempDir,
    client: Client,
    _larder: Larder,
}

impl Gateway {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let larder = Larder::serve(&["--store", root.path().to_str().unwrap(), "--dir-sync", "never"], &[]);
        Self { root, client: Client::new(larder.addr()), _larder: larder }
    }

    fn file(&self, path: &str) -> PathBuf {
        self.root.path().join(key(path))
    }

    /// Stores, damages, asks; and stores again.
    async fn check(&self, (path, pattern): (&str, Pattern), damage: Damage, ask: &str, promise: &Promise) {
        let store = || request("POST", path).body(pattern.body()).unwrap();
        self.client.check(store(), 200).await;
        damage.strike(&self.file(path));
        let download = self.client.measure(bare("GET", ask)).await;
        let name = format!("{} bytes, {damage:?} of {path}, GET {ask}", pattern.length);
        promise.hold(&Seeing::of(&download), &name);
        // Stored again, it is good again.
        self.client.check(store(), 200).await;
        let again = self.client.measure(bare("GET", path)).await;
        Promise::Good(200, Some(pattern)).hold(&Seeing::of(&again), &name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_never_a_whole_answer() {
    let gateway = Gateway::start();
    let (first, last) = (artifact("gen/a"), artifact("gen/c"));
    for path in [&first, &artifact("gen/b"), &last] {
        gateway.client.check(with_body("POST", path, SMALL.bytes()), 200).await;
    }
    for (pattern, promise) in [(SMALL, Promise::Unavailable), (LARGE, Promise::Broken)] {
        for damage in [
            Damage::Flip(0),
            Damage::Flip(pattern.length - 1),
            Damage::Truncate(pattern.length - 1),
            Damage::Extend,
        ] {
            gateway.check((&first, pattern), damage, &first, &promise).await;
            // The first of several is found out before a word is said, unless it is large.
            gateway.check((&first, pattern), damage, &artifact("gen"), &promise).await;
            gateway.check((&last, pattern), damage, &artifact("gen"), &Promise::Broken).await;
        }
        // A large file cut down to a small one is small.
        gateway.check((&first, pattern), Damage::Truncate(0), &first, &Promise::Unavailable).await;
        gateway.check((&first, pattern), Damage::Truncate(10), &first, &Promise::Unavailable).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_gone_is_no_empty_store() {
    let gateway = Gateway::start();
    let (file, aside) = (artifact("small"), gateway.root.path().with_extension("aside"));
    gateway.client.check(with_body("POST", &file, SMALL.bytes()), 200).await;
    std::fs::rename(gateway.root.path(), &aside).unwrap();
    for path in [&file, &artifact("nothing")] {
        gateway.client.check(bare("GET", path), 503).await;
        gateway.client.check(bare("HEAD", path), 503).await;
    }
    std::fs::rename(&aside, gateway.root.path()).unwrap();
    assert_eq!(gateway.client.check(bare("GET", &file), 200).await.body, SMALL.bytes());
    gateway.client.check(bare("GET", &artifact("nothing")), 404).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_a_damaged_file_is_never_a_whole_answer() {
    let gateway = Gateway::start();
    let path = artifact("part");
    let ranges = ["bytes=0-99", "bytes=500-70000", "bytes=-1", "bytes=100-"];
    let part = async |range: &str| {
        let ask = request("GET", &path).header("range", range).body(empty()).unwrap();
        gateway.client.measure(ask).await
    };
    let store = || request("POST", &path).body(LARGE.body()).unwrap();
    for damage in [None, Some(Damage::Flip(0)), Some(Damage::Flip(LARGE.length - 1)), Some(Damage::Extend)] {
        gateway.client.check(store(), 200).await;
        if let Some(damage) = damage {
            damage.strike(&gateway.file(&path));
        }
        for range in ranges {
            let found = part(range).await;
            let whole = found.as_ref().is_ok_and(|found| found.end == End::Complete && found.status == 206);
            assert_eq!(whole, damage.is_none(), "{range}, {damage:?}: {found:?}");
        }
    }
}
