//! An upload that breaks off at any of its requests to the store, by a fault or by its gateway's death: the file is
//! wholly there or wholly absent, and the same upload again brings it in.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use http::Request;
use larder::store::{Put, Store};
use serde_json::Value;
use tokio::sync::Notify;

use super::page;
use super::replicas::places;
use crate::faults::rig::{Patience, Rig, on_each};
use crate::killed::Place;
use crate::support::LIMIT;
use crate::support::backends::{S3Server, servers};
use crate::support::gateway::eventually;
use crate::support::http::{Body, Client, bare};
use crate::support::proxy::{Fault, FaultProxy, Seen};
use crate::support::python::Distribution;

/// What is uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Bytes, metadata, record.
    Wheel,
    /// Bytes, record.
    Source,
    /// Bytes, metadata, record, and which build it came of.
    Built,
    /// Bytes in parts, metadata, record.
    Large,
    /// A wheel whose bytes are there, left by a gateway that died.
    Orphan,
}

/// An upload.
#[derive(Debug)]
struct Case {
    kind: Kind,
    file: Distribution,
    /// What it is called where it fails.
    name: String,
}

impl Case {
    fn new(kind: Kind, project: &str, name: &str) -> Self {
        let file = match kind {
            Kind::Wheel | Kind::Orphan => Distribution::pure(project, "1"),
            Kind::Source => Distribution::source(project, "1"),
            Kind::Built => Distribution::wheel(project, "1", "cp312-cp312-linux_x86_64", b"x"),
            Kind::Large => Distribution::wheel(project, "1", "py3-none-any", &vec![7; 9 << 20]),
        };
        Self { kind, file, name: format!("{name}: {project}") }
    }

    fn index(&self) -> &'static str {
        if self.kind == Kind::Built { "/built/e" } else { "" }
    }

    /// The digest of its project's name, which serves as its build's key.
    fn build(&self) -> String {
        self.file.sha256()
    }

    async fn prepare(&self, store: &Store) {
        if self.kind == Kind::Orphan {
            let key = format!("wheels/shared/{}/{}", self.file.name, self.file.filename).parse().unwrap();
            let bytes = bytes::Bytes::from(self.file.bytes.clone());
            store.put(&key, bytes.into(), Put::default()).await.unwrap();
        }
    }

    fn upload(&self) -> Request<Body> {
        let form = self.file.form();
        let form = if self.kind == Kind::Built { form.add("build_key", &self.build()) } else { form };
        form.post(&format!("{}/legacy/", self.index()))
    }

    /// Whether it is there: all of it is, or nothing.
    async fn there(&self, client: &Client) -> bool {
        let path = format!("{}/simple/{}/", self.index(), self.file.name);
        let there = client.send(bare("GET", &path)).await.status != 404;
        let page = if there { page(client, &path).await } else { Value::Null };
        look(client, self.index(), &self.file, &page, &self.name).await
    }

    /// The same upload again brings it in.
    async fn mend(&self, client: &Client) {
        let again = client.send(self.upload()).await;
        assert_eq!(again.status, 200, "{}: again: {}", self.name, again.text());
        assert!(self.there(client).await, "{}: not there after the next upload", self.name);
        if self.kind == Kind::Built {
            let path = format!("/built/e/by-key/{}", self.build());
            let found = client.check(bare("GET", &path), 200).await.text();
            assert!(found.contains(&self.file.sha256()), "{}: {found}", self.name);
        }
    }
}

/// Whether a file is on the page, and holds it to all or nothing.
async fn look(client: &Client, index: &str, file: &Distribution, page: &Value, name: &str) -> bool {
    let (path, name) = (format!("{index}{}", file.path()), format!("{name}: {}", file.filename));
    let shown = page["files"].as_array();
    let entry = shown.and_then(|files| files.iter().find(|entry| entry["filename"] == file.filename));
    let bytes = client.send(bare("GET", &path)).await;
    let metadata = client.send(bare("GET", &format!("{path}.metadata"))).await;
    let Some(entry) = entry else {
        // Nobody is sent to its address. Who knows it gets what is there by then, and never a part.
        assert!(bytes.status == 404 || (bytes.status == 200 && bytes.body == file.bytes), "{name}");
        assert!(
            metadata.status == 404 || (metadata.status == 200 && metadata.body == file.metadata),
            "{name}"
        );
        return false;
    };
    assert_eq!(entry["hashes"]["sha256"], file.sha256(), "{name}");
    assert_eq!(entry["size"], file.bytes.len(), "{name}");
    assert!(bytes.status == 200 && bytes.body == file.bytes, "{name}: {}", bytes.status);
    if file.filename.ends_with(".whl") {
        let digest = crate::support::python::hex(&<sha2::Sha256 as sha2::Digest>::digest(&file.metadata));
        assert_eq!(entry["core-metadata"]["sha256"], digest, "{name}");
        assert!(metadata.status == 200 && metadata.body == file.metadata, "{name}: {}", metadata.status);
    } else {
        assert_eq!((&entry["core-metadata"], metadata.status.as_u16()), (&false.into(), 404), "{name}");
    }
    true
}

/// Picks the requests of an upload from this one on, and rings at each.
fn from(step: usize, bell: &Arc<Notify>) -> impl Fn(&Seen) -> bool + Send + 'static {
    let (count, bell) = (AtomicUsize::new(0), Arc::clone(bell));
    move |seen| {
        let hit = of_an_upload(seen) && count.fetch_add(1, Ordering::Relaxed) >= step;
        if hit {
            bell.notify_one();
        }
        hit
    }
}

fn of_an_upload(seen: &Seen) -> bool {
    seen.path().contains("/wheels/")
}

/// What an upload asks its store for, and the step that is its commit.
async fn steps(kind: Kind, proxy: &FaultProxy, client: &Client, store: &Store) -> (Vec<&'static str>, usize) {
    let case = Case::new(kind, &format!("clean-{kind:?}").to_lowercase(), "clean");
    case.prepare(store).await;
    proxy.take_requests();
    client.check(case.upload(), 200).await;
    let seen: Vec<Seen> = proxy.take_requests().into_iter().filter(of_an_upload).collect();
    let record = |seen: &Seen| seen.verb() == "PutObject" && seen.path().contains("/.records/");
    let commit = seen.iter().position(record).unwrap();
    assert!(case.there(client).await);
    let verbs: Vec<&str> = seen.iter().map(Seen::verb).collect();
    let expected: &[&str] = match kind {
        Kind::Wheel => &["PutObject"; 3],
        Kind::Source => &["PutObject"; 2],
        Kind::Built => &["PutObject"; 4],
        Kind::Orphan => &["PutObject", "GetObject", "GetObject", "PutObject", "PutObject"],
        Kind::Large => &["CreateMultipartUpload"],
    };
    assert!(
        verbs.starts_with(expected) && (kind == Kind::Large || verbs.len() == expected.len()),
        "{verbs:?}"
    );
    (verbs, commit)
}

/// An upload whose request of this number meets the fault, once or with all after it.
async fn strike(rig: &Rig, kind: Kind, (step, commit): (usize, usize), fault: &Fault, times: Option<usize>) {
    let project = format!("p{:016x}", fastrand::u64(..));
    let name = format!("{}: {kind:?}, step {step}, {fault:?}, times {times:?}", rig.name);
    let case = Case::new(kind, &project, &name);
    case.prepare(&rig.direct).await;
    let bell = Arc::new(Notify::new());
    rig.proxy.set_when(from(step, &bell), fault.clone(), times);
    let first = rig.client.send(case.upload()).await;
    rig.proxy.set(Fault::Pass);
    assert!(bell.notified().now_or_never().is_some(), "{name}: nothing met the fault");
    let (status, there) = (first.status.as_u16(), case.there(&rig.client).await);
    assert!(status == 503 || (status == 200 && there), "{name}: {status}, there: {there}: {}", first.text());
    // What is known of these: one is tried again and unnoticed, and the store does nothing under all of them.
    let (passes, lost) = (times.is_some(), *fault == Fault::LoseAnswer);
    if [Fault::Refuse, Fault::SlowDown, Fault::InternalError, Fault::LoseAnswer].contains(fault) {
        assert_eq!(status, if passes { 200 } else { 503 }, "{name}: {}", first.text());
        assert_eq!(there, passes || step > commit || (lost && step == commit), "{name}");
    }
    case.mend(&rig.client).await;
}

async fn struck_at_each_step(kind: Kind, faults: &[Fault]) {
    on_each(Patience::Long, async |rig| {
        let (verbs, commit) = steps(kind, &rig.proxy, &rig.client, &rig.direct).await;
        for step in 0..verbs.len() {
            for fault in faults {
                for times in [Some(1), None] {
                    strike(rig, kind, (step, commit), fault, times).await;
                }
            }
        }
    })
    .await;
}

/// All that can become of a small write.
const WRITES: [Fault; 7] = [
    Fault::Refuse,
    Fault::SlowDown,
    Fault::InternalError,
    Fault::AccessDenied,
    Fault::LoseAnswer,
    Fault::ResetMidUpload(10),
    Fault::FlipUploadByte(10),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wheel_is_whole_or_absent() {
    struck_at_each_step(Kind::Wheel, &WRITES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_archive_is_whole_or_absent() {
    struck_at_each_step(Kind::Source, &WRITES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_build_came_to_is_whole_or_absent() {
    struck_at_each_step(Kind::Built, &WRITES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_gateway_left_is_whole_or_absent() {
    struck_at_each_step(Kind::Orphan, &WRITES).await;
    let reads =
        [Fault::ResetMidBody(10), Fault::CloseMidBody(10), Fault::UnderstateLength(10), Fault::FlipByte(10)];
    struck_at_each_step(Kind::Orphan, &reads).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_wheel_is_whole_or_absent() {
    on_each(Patience::Long, async |rig| {
        let (verbs, commit) = steps(Kind::Large, &rig.proxy, &rig.client, &rig.direct).await;
        let last = verbs.iter().position(|verb| *verb == "CompleteMultipartUpload").unwrap();
        for step in 0..=last {
            for fault in [Fault::Refuse, Fault::LoseAnswer, Fault::ResetMidUpload(100_000)] {
                strike(rig, Kind::Large, (step, commit), &fault, None).await;
            }
        }
        for times in [Some(1), None] {
            for fault in [Fault::OkWithError, Fault::LoseAnswer] {
                strike(rig, Kind::Large, (last, commit), &fault, times).await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_falls_silent_leaves_a_file_whole_or_absent() {
    on_each(Patience::Short, async |rig| {
        for kind in [Kind::Wheel, Kind::Source] {
            let (verbs, commit) = steps(kind, &rig.proxy, &rig.client, &rig.direct).await;
            for step in 0..verbs.len() {
                strike(rig, kind, (step, commit), &Fault::Hang, None).await;
            }
        }
    })
    .await;
}

/// Kills the gateway at one request of an upload, `carried` out or not; another gateway sees to what is left.
async fn kill_at(proxy: &FaultProxy, place: &Place, case: &Case, step: usize, carried: bool) {
    let mut larder = place.serve("1d");
    let client = Client::new(larder.addr());
    let bell = Arc::new(Notify::new());
    if carried {
        // Its answer is lost; who rings is the one who tries again, and he gets no further.
        proxy.set_when(from(step, &Arc::new(Notify::new())), Fault::LoseAnswer, Some(1));
    }
    proxy.set_when(from(step, &bell), Fault::Hang, None);
    let dies = async {
        let rung = tokio::time::timeout(LIMIT, bell.notified()).await;
        assert!(rung.is_ok(), "{}: never got there", case.name);
        larder.kill9();
    };
    let (answer, ()) = tokio::join!(client.try_send(case.upload()), dies);
    proxy.set(Fault::Pass);
    assert!(answer.is_err(), "{}: an answer of the dead", case.name);
}

async fn killed_at_each_step(server: &S3Server) {
    let proxy = FaultProxy::start(server.endpoint.trim_start_matches("http://").parse().unwrap());
    let prefix = format!("crash-{:016x}", fastrand::u64(..));
    let behind = S3Server { endpoint: proxy.endpoint(), ..server.clone() };
    let (place, direct) = (Place::S3(behind, prefix.clone()), Place::S3(server.clone(), prefix.clone()));
    let mut config = server.config(&server.endpoint);
    config.prefix = Some(prefix.parse().unwrap());
    let store = server.store(config, larder::metrics::Metrics::new()).await;
    let other = direct.serve("1d");
    let other = (Client::new(other.addr()), other);
    for kind in [Kind::Wheel, Kind::Source, Kind::Built, Kind::Orphan, Kind::Large] {
        let clean = place.serve("1d");
        let (verbs, commit) = steps(kind, &proxy, &Client::new(clean.addr()), &store).await;
        drop(clean);
        for step in 0..verbs.len() {
            for carried in [false, true] {
                let name = format!("{}: {kind:?} killed at {step} ({carried})", server.name);
                let case = Case::new(kind, &format!("p{:016x}", fastrand::u64(..)), &name);
                case.prepare(&store).await;
                kill_at(&proxy, &place, &case, step, carried).await;
                let expected = step > commit || (carried && step == commit);
                assert_eq!(case.there(&other.0).await, expected, "{name}");
                case.mend(&other.0).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_at_each_step_leaves_a_file_whole_or_absent() {
    for server in servers() {
        killed_at_each_step(&server).await;
    }
}

/// Files of one project, every fifth a source archive.
const FILES: usize = 240;
/// Uploads of one life.
const LIFE: usize = 40;

fn many() -> Vec<Distribution> {
    let one = |n: usize| match n % 5 {
        0 => Distribution::source("crash", &format!("1.{n}")),
        _ => Distribution::wheel("crash", &format!("1.{n}"), "py3-none-any", &vec![1; n * 97]),
    };
    (0..FILES).map(one).collect()
}

/// Uploads these, and dies in the midst of it. Which were acknowledged.
async fn life(place: &Place, files: &[Distribution], death: usize) -> Vec<String> {
    let mut larder = place.serve("1d");
    let client = Client::new(larder.addr());
    let mut uploads = stream::iter(files)
        .map(async |file| (file, client.try_send(file.upload()).await))
        .buffer_unordered(8);
    let mut acknowledged = Vec::new();
    while let Some((file, answer)) = uploads.next().await {
        let Ok(answer) = answer else { continue };
        assert_eq!(answer.status, 200, "{}: {}", file.filename, answer.text());
        acknowledged.push(file.filename.clone());
        if acknowledged.len() == death {
            larder.kill9();
        }
    }
    acknowledged
}

async fn killed_again_and_again(name: &str, place: Place) {
    let (all, mut chance) = (many(), fastrand::Rng::with_seed(20_261_122));
    let (mut acknowledged, mut left) = (BTreeSet::new(), 0);
    for files in all.chunks(LIFE) {
        let death = chance.usize(3..LIFE - 8);
        acknowledged.extend(life(&place, files, death).await);
        left = left.max(place.leftovers().await);
        // Read in between, the page is one that was kept, and not behind what is there now.
        let larder = place.serve("1d");
        let shown = super::files(&Client::new(larder.addr()), "/simple/crash/").await;
        assert!(acknowledged.iter().all(|file| shown.contains(file)), "{name}: not all are on the page");
    }
    let larder = place.serve("1ms");
    let client = Client::new(larder.addr());
    let shown = page(&client, "/simple/crash/").await;
    let mut unsaid = 0;
    for file in &all {
        let there = look(&client, "", file, &shown, name).await;
        let said = acknowledged.contains(&file.filename);
        assert!(there || !said, "{name}: {} was acknowledged", file.filename);
        unsaid += usize::from(there && !said);
        let again = client.send(file.upload()).await;
        assert_eq!(again.status, 200, "{name}: {}: {}", file.filename, again.text());
    }
    let shown = page(&client, "/simple/crash/").await;
    assert_eq!(shown["files"].as_array().unwrap().len(), FILES, "{name}");
    for file in &all {
        assert!(look(&client, "", file, &shown, name).await, "{name}: {} is not there", file.filename);
    }
    let broken = FILES - acknowledged.len();
    assert!(broken > FILES / LIFE, "{name}: {broken} uploads met a death");
    eventually("what deaths left is cleared away", async || place.leftovers().await == 0).await;
    eprintln!(
        "wheels::crash on {name}: {} acknowledged, {broken} not and {unsaid} of them there, {left} leftovers",
        acknowledged.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deaths_in_the_midst_leave_files_whole_or_absent() {
    for (name, place) in places() {
        killed_again_and_again(&name, place).await;
    }
}
