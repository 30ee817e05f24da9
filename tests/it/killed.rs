//! Promise: acknowledged means stored. The process dies by SIGKILL in the middle of uploads, again and again: what was
//! acknowledged reads back whole, nothing is visible in part, and what was left half-done goes with the documented
//! clean-up (`--leftover-age`, at start).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::faults::rig::HASH;
use crate::support::LIMIT;
use crate::support::backends::{S3Server, servers};
use crate::support::http::{Client, End, Pattern, bare, chunked, request};
use crate::support::process::Larder;

const UPLOADS: u64 = 200;
const KILLS: u64 = 6;
/// Uploads at once.
const WORKERS: usize = 8;
/// Where chance begins: sizes, and the moments of death.
const SEED: u64 = 20_261_122;

/// A store that outlives the processes over it.
pub(crate) enum Place {
    Dir(tempfile::TempDir),
    S3(S3Server, String),
}

impl Place {
    pub(crate) fn serve(&self, leftover_age: &str) -> Larder {
        let common = ["--leftover-age", leftover_age];
        match self {
            Self::Dir(root) => {
                Larder::serve(&[&["--store", root.path().to_str().unwrap()], &common[..]].concat(), &[])
            }
            Self::S3(server, prefix) => {
                let store = format!("s3://{}/{prefix}", server.bucket);
                let place = ["--store", &store, "--s3-endpoint", &server.endpoint];
                let secrets =
                    [("AWS_ACCESS_KEY_ID", &*server.key), ("AWS_SECRET_ACCESS_KEY", &*server.secret)];
                Larder::serve(&[&place[..], &common[..]].concat(), &secrets)
            }
        }
    }

    /// What broken uploads have left, as an operator would see it.
    pub(crate) async fn leftovers(&self) -> usize {
        match self {
            Self::Dir(root) => staged(&root.path().join(".staging")),
            Self::S3(server, prefix) => open_uploads(server, prefix).await,
        }
    }
}

/// Files that wait in staging; the one that swaps are locked with stays.
pub(crate) fn staged(staging: &std::path::Path) -> usize {
    let files = std::fs::read_dir(staging)
        .map(|files| files.filter(|file| file.as_ref().unwrap().file_name() != "lock"));
    files.map_or(0, Iterator::count)
}

/// Multipart uploads under a prefix. MinIO takes a prefix for a whole key, so all are asked for.
async fn open_uploads(server: &S3Server, prefix: &str) -> usize {
    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(Credentials::new(&server.key, &server.secret, None, None, "test"))
        .region(Region::from_static("us-east-1"))
        .endpoint_url(&server.endpoint)
        .force_path_style(true)
        .build();
    let client = aws_sdk_s3::Client::from_conf(config);
    let page = client.list_multipart_uploads().bucket(&server.bucket).send().await.expect("a listing");
    assert_ne!(page.is_truncated(), Some(true), "more uploads than one page");
    page.uploads().iter().filter(|upload| upload.key().is_some_and(|key| key.starts_with(prefix))).count()
}

/// One upload, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Upload {
    number: u64,
    new: Pattern,
    /// What was stored there before, acknowledged.
    old: Option<Pattern>,
}

impl Upload {
    fn path(self) -> String {
        format!("/artifact/linux_amd64/pkg/killed/{HASH}/gen/{}", self.number)
    }
}

/// Mixed sizes, small ones most; every fifth over an older object.
fn uploads() -> VecDeque<Upload> {
    let mut chance = fastrand::Rng::with_seed(SEED);
    let one = |number| {
        let length = match chance.u32(0..100) {
            0..50 => chance.u64(1..2048),
            50..75 => chance.u64(1..200 << 10),
            75..88 => chance.u64(1..2 << 20),
            88..96 => chance.u64(5 << 20..10 << 20),
            _ => chance.u64(16 << 20..20 << 20),
        };
        let old = (number % 5 == 0).then_some(Pattern { seed: 1000 + number, length: 5000 });
        Upload { number, new: Pattern { seed: number, length }, old }
    };
    (0..UPLOADS).map(one).collect()
}

/// Counts blocks as they are sent, and rings at a certain one.
#[derive(Debug, Default)]
struct Clock {
    left: AtomicU64,
    bell: Notify,
}

impl Clock {
    fn tick(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.bell.notify_one();
        }
    }
}

type Queue = Arc<Mutex<VecDeque<Upload>>>;

/// Sends until the queue is empty or the process is gone. What was acknowledged, and what was not.
async fn work(client: Client, queue: Queue, clock: Arc<Clock>) -> (Vec<Upload>, Vec<Upload>) {
    let mut acknowledged = Vec::new();
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(upload) = next else { return (acknowledged, Vec::new()) };
        let ticking = Arc::clone(&clock);
        let body = chunked(upload.new.blocks().inspect(move |_| ticking.tick()));
        match client.try_send(request("POST", &upload.path()).body(body).unwrap()).await {
            Ok(answer) if answer.status == 200 => acknowledged.push(upload),
            Ok(answer) => panic!("{}: {} {}", upload.path(), answer.status, answer.text()),
            Err(_) => return (acknowledged, vec![upload]),
        }
    }
}

async fn look(client: &Client, upload: Upload) -> Option<Pattern> {
    let found = client.measure(bare("GET", &upload.path())).await.unwrap();
    let name = upload.path();
    if found.status == 404 {
        return None;
    }
    assert_eq!((found.status.as_u16(), &found.end), (200, &End::Complete), "{name}");
    let versions = [Some(upload.new), upload.old].into_iter().flatten();
    let same = |pattern: &Pattern| pattern.length == found.length && pattern.sha256() == found.sha256;
    Some(
        versions.into_iter().find(same).unwrap_or_else(|| panic!("{name}: {} bytes of nobody", found.length)),
    )
}

async fn check(place: Place) {
    let all = uploads();
    let larder = place.serve("1d");
    for upload in &all {
        if let Some(old) = upload.old {
            let ask = request("POST", &upload.path()).body(old.body()).unwrap();
            Client::new(larder.addr()).check(ask, 200).await;
        }
    }
    drop(larder);
    let blocks: u64 = all.iter().map(|upload| upload.new.length.div_ceil(64 << 10)).sum();
    let mut chance = fastrand::Rng::with_seed(SEED);
    let queue = Arc::new(Mutex::new(all.clone()));
    let (mut acknowledged, mut broken, mut left) = (Vec::new(), Vec::new(), 0);
    for life in 0..=KILLS {
        let mut larder = place.serve("1d");
        let clock = Arc::new(Clock::default());
        let death = if life == KILLS { u64::MAX } else { chance.u64(1..2 * blocks / (KILLS + 2)) };
        clock.left.store(death, Ordering::Relaxed);
        let client = Client::new(larder.addr());
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(work(client.clone(), Arc::clone(&queue), Arc::clone(&clock)));
        }
        let work = workers.join_all();
        let done = if life == KILLS {
            work.await
        } else {
            let mut work = std::pin::pin!(work);
            tokio::select! {
                () = clock.bell.notified() => {
                    larder.kill9();
                    work.await
                }
                // The queue ran dry before.
                done = &mut work => done,
            }
        };
        for (good, bad) in done {
            acknowledged.extend(good);
            broken.extend(bad);
        }
        left = left.max(place.leftovers().await);
    }
    assert_eq!(acknowledged.len() + broken.len(), all.len());
    assert!(broken.len() > 5, "{} uploads met a death", broken.len());

    // The documented clean-up: what is older than the age goes at start.
    let larder = place.serve("1ms");
    let client = Client::new(larder.addr());
    for upload in &acknowledged {
        assert_eq!(look(&client, *upload).await, Some(upload.new), "{}: acknowledged", upload.path());
    }
    for upload in &broken {
        let found = look(&client, *upload).await;
        assert!(found == Some(upload.new) || found == upload.old, "{}: {found:?}", upload.path());
    }
    let clean = async {
        while place.leftovers().await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, clean).await.is_ok(), "{} leftovers stay", place.leftovers().await);
    eprintln!(
        "killed: {} acknowledged, {} broken off, up to {left} leftovers at a time",
        acknowledged.len(),
        broken.len()
    );
    client.check(bare("DELETE", "/"), 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_directory() {
    check(Place::Dir(tempfile::tempdir().unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_bucket() {
    for server in servers() {
        check(Place::S3(server, format!("killed-{:016x}", fastrand::u64(..)))).await;
    }
}
