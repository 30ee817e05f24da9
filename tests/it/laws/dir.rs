//! What only a directory store can be held to: the files are there for an operator to see, and to damage.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use larder::budget::Budget;
use larder::metrics::Metrics;
use larder::payload::{BodyError, ByteRange, Payload, ReadError};
use larder::store::{Error, Kind, Mode, Put, PutError, SMALL, dir};
use tempfile::TempDir;
use tokio::time::timeout;

use super::{Body, Bytes, Listing, Place, Prefix, Store, Want, abandon, chunks, noise};
use crate::support::aloud;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

/// Sizes of objects that are read in one piece, and of such that are streamed.
const SIZES: [usize; 4] = [1, 1000, SMALL + 1, 3_000_000];

struct Yard {
    keep: TempDir,
    budget: Budget,
    metrics: Metrics,
    at: Place,
}

fn yard(sync: dir::Sync) -> Yard {
    let (keep, budget, metrics) = (tempfile::tempdir().unwrap(), Budget::new(16 << 20), Metrics::new());
    let config = dir::Config { root: keep.path().join("not/yet/there"), sync, memory: 0 };
    let store = Store::dir(config, budget.clone(), metrics.clone()).unwrap();
    Yard { keep, budget, metrics, at: Place { name: "dir".to_owned(), store, root: "top".parse().unwrap() } }
}

impl Yard {
    fn root(&self) -> PathBuf {
        self.keep.path().join("not/yet/there")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join("top").join(name)
    }

    fn staged(&self) -> usize {
        fs::read_dir(self.root().join(".staging")).unwrap().count()
    }

    /// A whole read, however it fails.
    async fn read(&self, name: &str) -> Result<Bytes, String> {
        let named = |error: Error| format!("{:?}", error.kind);
        match self.at.store.get(&self.at.key(name), &Want::default()).await.map_err(named)?.unwrap().body {
            Body::Whole(content) => content.collect().await.map_err(|error| format!("{error:?}")),
            other @ (Body::Part { .. } | Body::Unchanged | Body::Unsatisfiable) => panic!("{other:?}"),
        }
    }
}

/// Whether the file system of the tests keeps checksums at all.
fn marked(yard: &Yard, name: &str) -> bool {
    let found = rustix::fs::getxattr(yard.path(name), "user.larder.crc64nvme", &mut [0; 64]);
    if found.is_err() {
        aloud("SKIPPED: the temporary directory keeps no extended attributes");
    }
    found.is_ok()
}

/// What is in memory already is read without ever waiting: others have their turn meanwhile all the same, and who wants no
/// more of it ends it.
#[tokio::test]
async fn reading_past_much_keeps_nobody_waiting() {
    const MIB: usize = 1 << 20;
    let yard = yard(dir::Sync::Never);
    let bytes = noise(8 * MIB, 1);
    yard.at.put("x", &bytes).await;
    if !marked(&yard, "x") {
        return;
    }
    let last = Want { range: Some(ByteRange::Suffix(10)), ..Want::default() };
    let Body::Part { content, .. } = yard.at.object("x", &last).await.unwrap().body else {
        panic!("no part")
    };
    let over = Cell::new(false);
    let read = async {
        let got = content.collect().await.unwrap();
        over.set(true);
        got
    };
    // Always ready, as a connection whose requests are all there.
    let neighbour = async {
        let mut turns = 0;
        while !over.get() {
            turns += 1;
            tokio::task::yield_now().await;
        }
        turns
    };
    let (got, turns) = tokio::join!(read, neighbour);
    assert_eq!(got, bytes.slice(bytes.len() - 10..));
    assert!(turns >= 7, "{turns} turns while 8 MiB were read");
}

#[tokio::test]
async fn files_hold_exactly_the_bytes() {
    for sync in [dir::Sync::Always, dir::Sync::Never] {
        let yard = yard(sync);
        for (size, name) in [(0, "a/b/c"), (10, "d"), (SMALL + 1, "a/e"), (3_000_000, "f")] {
            let bytes = noise(size, 1);
            yard.at.put(name, &bytes).await;
            assert!(fs::read(yard.path(name)).unwrap() == bytes);
            let mode = fs::metadata(yard.path(name)).unwrap().mode();
            assert_eq!(mode & 0o7111, 0, "{mode:o}");
            assert_eq!(mode & 0o600, 0o600, "{mode:o}");
        }
        assert_eq!(yard.staged(), 0);
        // Other users may look, as far as the umask of the process lets them.
        let plain = fs::File::create(yard.root().join("plain")).unwrap().metadata().unwrap().mode() & 0o644;
        assert_eq!(fs::metadata(yard.path("d")).unwrap().mode() & 0o777, plain);
        assert_eq!(yard.at.store.to_string(), yard.root().display().to_string());
    }
}

#[tokio::test]
async fn a_flipped_byte_is_never_read_whole() {
    let yard = yard(dir::Sync::Never);
    for size in SIZES {
        for at in [0, size / 2, size - 1] {
            let bytes = noise(size, 1);
            yard.at.put("x", &bytes).await;
            if !marked(&yard, "x") {
                return;
            }
            let file = fs::OpenOptions::new().write(true).open(yard.path("x")).unwrap();
            file.write_all_at(&[!bytes[at]], at as u64).unwrap();
            assert_eq!(yard.read("x").await.unwrap_err(), "Corrupt", "byte {at} of {size}");
            // Nor is a part of what is small enough to be checked.
            let want = Want { range: Some(ByteRange::From(0)), ..Want::default() };
            let part = yard.at.store.get(&yard.at.key("x"), &want).await;
            assert_eq!(part.is_err(), size <= SMALL);
        }
    }
}

#[tokio::test]
async fn a_corrupt_stream_ends_before_its_last_byte() {
    let yard = yard(dir::Sync::Never);
    let bytes = noise(1_000_000, 1);
    yard.at.put("x", &bytes).await;
    if !marked(&yard, "x") {
        return;
    }
    fs::OpenOptions::new().write(true).open(yard.path("x")).unwrap().write_all_at(&[!bytes[7]], 7).unwrap();
    let Body::Whole(content) = yard.at.object("x", &Want::default()).await.unwrap().body else { panic!() };
    let ends: Vec<Result<Bytes, ReadError>> = content.into_stream().collect().await;
    assert_eq!(ends.last(), Some(&Err(ReadError::Corrupt)));
    let sent: usize = ends.iter().flatten().map(Bytes::len).sum();
    assert!(sent < bytes.len(), "{sent}");
    assert_eq!(yard.budget.held(), 0);
}

#[tokio::test]
async fn a_truncated_file_is_never_read_whole() {
    let yard = yard(dir::Sync::Never);
    for size in SIZES {
        for left in [0, size / 2, size - 1] {
            yard.at.put("x", &noise(size, 1)).await;
            if !marked(&yard, "x") {
                return;
            }
            fs::OpenOptions::new().write(true).open(yard.path("x")).unwrap().set_len(left as u64).unwrap();
            assert_eq!(yard.read("x").await.unwrap_err(), "Corrupt", "{left} of {size}");
        }
    }
    // And while it is being read.
    yard.at.put("x", &noise(3_000_000, 1)).await;
    let Body::Whole(content) = yard.at.object("x", &Want::default()).await.unwrap().body else { panic!() };
    let mut stream = content.into_stream();
    stream.next().await.unwrap().unwrap();
    fs::OpenOptions::new().write(true).open(yard.path("x")).unwrap().set_len(1_000_000).unwrap();
    let ended: Result<Vec<Bytes>, ReadError> = stream.try_collect().await;
    assert_eq!(ended, Err(ReadError::Broken));
}

#[tokio::test]
async fn a_file_that_was_copied_in_is_served() {
    let yard = yard(dir::Sync::Never);
    fs::create_dir_all(yard.path("d")).unwrap();
    for size in [0, 10, SMALL + 10, 3_000_000] {
        let bytes = noise(size, 1);
        fs::write(yard.path("d/x"), &bytes).unwrap();
        assert!(yard.read("d/x").await.unwrap() == bytes, "{size}");
        let head = yard.at.store.head(&yard.at.key("d/x")).await.unwrap().unwrap();
        assert_eq!(head.size, size as u64);
        let other = noise(size + 1, 2);
        fs::write(yard.path("d/x"), &other).unwrap();
        assert_ne!(yard.at.store.head(&yard.at.key("d/x")).await.unwrap().unwrap().etag, head.etag);
    }
    assert_eq!(yard.at.names().await, ["d/x"]);
}

#[tokio::test]
async fn failed_puts_leave_nothing_hidden() {
    let yard = yard(dir::Sync::Always);
    yard.at.put("taken", &noise(5, 1)).await;
    for size in [0, 100, SMALL + 100, 5_000_000] {
        let bytes = noise(size, 1);
        let broken = chunks(&bytes).chain(stream::iter([Err(BodyError::Incomplete)]));
        let put = yard.at.put_from("a/b/x", Payload::new(None, broken)).await;
        assert!(matches!(put, Err(PutError::Body(BodyError::Incomplete))), "{put:?}");
        let put = yard.at.put_from("a/b/x", Payload::new(Some(size as u64 + 1), chunks(&bytes))).await;
        assert!(matches!(put, Err(PutError::Body(BodyError::Length))), "{put:?}");
        let put = yard.at.put_from("taken/x", Payload::new(None, chunks(&bytes))).await;
        assert!(matches!(put, Err(PutError::Store(_))), "{put:?}");
        let how = Put { mode: Mode::Create, ..Put::default() };
        yard.at.store.put(&yard.at.key("taken"), Payload::from(bytes.clone()), how).await.unwrap();
        assert_eq!(yard.staged(), 0, "{size}");
        assert!(!yard.path("a").exists());
        abandon(&yard.at.store, &yard.at.key("a/b/x"), &bytes).await;
        // A write under way goes on until it has noticed; there is no event for that.
        let gone = async {
            while yard.staged() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(20), gone).await.unwrap();
        assert!(!yard.path("a").exists());
        assert_eq!(yard.budget.held(), 0);
    }
}

#[test]
fn a_put_that_is_dropped_before_its_commit_is_none() {
    let mut one = tokio::runtime::Builder::new_current_thread();
    // The only thread of the pool is busy, so the commit waits in line until the put is gone.
    one.enable_all().max_blocking_threads(1).build().unwrap().block_on(async {
        let yard = yard(dir::Sync::Always);
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || gone.recv());
        let key = yard.at.key("x");
        tokio::select! {
            biased;
            ended = yard.at.store.put(&key, Payload::from(noise(10, 1)), Put::default()) => panic!("{ended:?}"),
            () = std::future::ready(()) => {}
        }
        go.send(()).unwrap();
        busy.await.unwrap().unwrap();
        assert_eq!(yard.at.store.head(&key).await.unwrap(), None);
        assert_eq!(yard.staged(), 0);
        assert!(!yard.root().join("top").exists());
    });
}

#[tokio::test]
async fn leftovers_are_reaped_by_age() {
    let yard = yard(dir::Sync::Never);
    let day = Duration::from_secs(24 * 3600);
    for (name, age) in [("put-old", 2 * day), ("put-new", day / 2), ("put-ahead", Duration::ZERO)] {
        let file = fs::File::create(yard.root().join(".staging").join(name)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }
    assert_eq!(yard.at.store.reap(&[], day).await.unwrap(), 1);
    assert_eq!(yard.at.store.reap(&[], day).await.unwrap(), 0);
    assert!(!yard.root().join(".staging/put-old").exists());
    assert_eq!(yard.at.store.reap(&[], Duration::ZERO).await.unwrap(), 2);
    assert_eq!(yard.staged(), 0);
}

#[tokio::test]
async fn empty_directories_go() {
    let yard = yard(dir::Sync::Never);
    for name in ["a/b/c/d", "a/b/x", "e/f"] {
        yard.at.put(name, &noise(5, 1)).await;
    }
    yard.at.store.delete(&[yard.at.key("a/b/c/d"), yard.at.key("a/b"), yard.at.key("e/f")]).await.unwrap();
    assert!(yard.path("a/b/x").exists() && !yard.path("a/b/c").exists() && !yard.path("e").exists());
    yard.at.store.delete(&[yard.at.key("a/b/x")]).await.unwrap();
    assert!(!yard.root().join("top").exists() && yard.root().exists());
    // What was left empty by others is in nobody's way, and in no listing.
    fs::create_dir_all(yard.path("g/h/i")).unwrap();
    let shallow = Listing { shallow: true, ..Listing::default() };
    assert!(yard.at.lines(&Prefix::root(), shallow).await.is_empty());
    yard.at.put("g", &noise(5, 1)).await;
    assert!(yard.path("g").is_file());
}

#[tokio::test]
async fn only_objects_are_listed() {
    let yard = yard(dir::Sync::Never);
    yard.at.put("d/x", &noise(5, 1)).await;
    fs::write(yard.root().join(".staging/put-1"), b"").unwrap();
    fs::write(yard.path("back\\slash"), b"").unwrap();
    fs::write(yard.path("line\nfeed"), b"").unwrap();
    symlink(yard.path("d"), yard.path("link")).unwrap();
    symlink(yard.path("none"), yard.path("dangling")).unwrap();
    symlink(yard.root(), yard.path("d/up")).unwrap();
    symlink("self", yard.path("self")).unwrap();
    assert_eq!(yard.at.lines(&Prefix::root(), Listing::default()).await, ["d/x", "link/x"]);
    let shallow = Listing { shallow: true, ..Listing::default() };
    assert_eq!(yard.at.lines(&yard.at.prefix(), shallow).await, ["d/", "link/"]);
    assert_eq!(yard.at.bytes("link/x").await, Some(noise(5, 1)));
    assert_eq!(yard.at.bytes("dangling").await, None);
}

/// A listing that may be an earlier one is never one of other names: whatever comes and goes, before or after it was kept.
#[tokio::test]
async fn names_that_come_and_go_are_in_every_listing() {
    let yard = yard(dir::Sync::Never);
    let at = &yard.at;
    let changed = || {
        let stat = fs::metadata(yard.root().join("top")).unwrap();
        SystemTime::UNIX_EPOCH + Duration::new(stat.ctime() as u64, stat.ctime_nsec() as u32)
    };
    let listed = async || {
        let how = Listing { immutable: true, ..Listing::default() };
        let lines: Vec<_> = at.store.list(&at.prefix(), how).try_collect().await.unwrap();
        let fresh: Vec<_> = at.store.list(&at.prefix(), Listing::default()).try_collect().await.unwrap();
        assert_eq!(lines, fresh);
        lines.len()
    };
    let settled = || {
        crate::support::gateway::eventually("the directory is settled", async || {
            changed().elapsed().is_ok_and(|age| age > Duration::from_millis(2600))
        })
    };
    at.put("a", &noise(5, 1)).await;
    for (names, step) in [(2, "b"), (2, "b"), (3, "c")] {
        settled().await;
        // Read, kept, and told again.
        for _ in 0..3 {
            listed().await;
        }
        at.put(step, &noise(names * 7, 1)).await;
        assert_eq!(listed().await, names);
    }
    settled().await;
    assert_eq!((listed().await, listed().await), (3, 3));
    at.store.delete(&[at.key("b")]).await.unwrap();
    assert_eq!(listed().await, 2);
    // What is below does not move the directory.
    at.put("d/x", &noise(5, 1)).await;
    settled().await;
    assert_eq!((listed().await, listed().await), (3, 3));
    at.put("d/y", &noise(5, 1)).await;
    assert_eq!(listed().await, 4);
}

#[tokio::test]
async fn a_store_that_is_gone_has_no_misses() {
    let yard = yard(dir::Sync::Never);
    let key = yard.at.key("x");
    assert_eq!(yard.at.store.head(&key).await.unwrap(), None);
    fs::remove_dir_all(yard.root()).unwrap();
    assert_eq!(yard.at.store.head(&key).await.unwrap_err().kind, Kind::Unavailable);
    assert_eq!(yard.at.store.get(&key, &Want::default()).await.unwrap_err().kind, Kind::Unavailable);
    assert_eq!(yard.at.store.touch(&key).await.unwrap_err().kind, Kind::Unavailable);
    assert_eq!(yard.at.store.delete(std::slice::from_ref(&key)).await.unwrap_err().kind, Kind::Unavailable);
    assert!(yard.at.store.list(&Prefix::root(), Listing::default()).next().await.unwrap().is_err());
    // It comes back when it can be written to.
    yard.at.store.probe().await.unwrap();
    assert_eq!(yard.at.store.head(&key).await.unwrap(), None);
    fs::remove_dir_all(yard.root()).unwrap();
    yard.at.put("x", &noise(5, 1)).await;
    assert_eq!(yard.at.bytes("x").await, Some(noise(5, 1)));
}

#[tokio::test]
async fn a_store_that_cannot_be_had_opens() {
    let keep = tempfile::tempdir().unwrap();
    fs::write(keep.path().join("file"), b"").unwrap();
    let config = dir::Config { root: keep.path().join("file/below"), sync: dir::Sync::Always, memory: 0 };
    let store = Store::dir(config, Budget::new(1 << 20), Metrics::new()).unwrap();
    assert!(store.probe().await.is_err());
    let key = "x".parse().unwrap();
    assert_eq!(store.head(&key).await.unwrap_err().kind, Kind::Unavailable);
    assert!(store.put(&key, Payload::from(Bytes::new()), Put::default()).await.is_err());
}

#[tokio::test]
async fn refusals_are_refusals() {
    let yard = yard(dir::Sync::Never);
    yard.at.put("d/x", &noise(5, 1)).await;
    fs::set_permissions(yard.path("d"), fs::Permissions::from_mode(0o0)).unwrap();
    if fs::read_dir(yard.path("d")).is_err() {
        let found = yard.at.store.get(&yard.at.key("d/x"), &Want::default()).await;
        assert_eq!(found.unwrap_err().kind, Kind::Denied);
        let listed: Result<Vec<_>, Error> =
            yard.at.store.list(&Prefix::root(), Listing::default()).try_collect().await;
        assert_eq!(listed.unwrap_err().kind, Kind::Denied);
    } else {
        aloud("SKIPPED: this user is refused nothing");
    }
    fs::set_permissions(yard.path("d"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn each_verb_counts_once() {
    let yard = yard(dir::Sync::Never);
    let count = |verb| yard.metrics.calls_of(verb);
    yard.at.put("x", &noise(5_000_000, 1)).await;
    yard.at.put("y", &noise(5, 1)).await;
    abandon(&yard.at.store, &yard.at.key("z"), &noise(5, 1)).await;
    assert_eq!(count("put"), 3);
    yard.at.bytes("x").await.unwrap();
    assert!(yard.at.bytes("none").await.is_none());
    assert_eq!((count("get"), count("head")), (2, 0));
    yard.at.store.head(&yard.at.key("x")).await.unwrap();
    yard.at.store.touch(&yard.at.key("x")).await.unwrap();
    assert_eq!((count("head"), count("copy")), (1, 1));
    fs::create_dir_all(yard.path("many")).unwrap();
    for n in 0..1500 {
        fs::write(yard.path(&format!("many/{n}")), b"").unwrap();
    }
    let names = yard.at.names().await;
    assert_eq!((names.len(), count("list")), (1502, 1));
    yard.at.clear().await;
    assert_eq!(count("delete"), 2);
}
