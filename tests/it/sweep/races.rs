//! Beside a sweep others read, write, sweep and die: no entry is ever seen in part, none that was used since is lost.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use larder::domain::units::fetch::Wish;
use larder::domain::{Gateway, Wheels, layout};
use larder::payload::{Body, Want};
use larder::store::{Key, Put, Store};
use larder::sweep::{Counters, sweep};
use serde_json::Value;

use super::counted::{on_each, unit};
use super::{bucket, date, everywhere, lay, marks, place, swept};
use crate::killed::Place;
use crate::rpc::race;
use crate::support::backends::{directory, servers};
use crate::support::gateway::each;
use crate::support::proxy::{Fault, FaultProxy};
use crate::support::rpc::{At, Rpc};

const DAY: Duration = Duration::from_secs(86400);

/// Everything that is not newer than the sweep itself goes, again and again, while others store and read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_whole_entries_or_none() {
    each(async |gateway| {
        let (rpc, store) = (Rpc::new(gateway.addr()), gateway.store().await);
        let entries: Vec<At> = (0..3).map(|n| At::new(&format!("t{n}"), n)).collect();
        let (over, numbers) = (AtomicBool::new(false), AtomicU64::new(1));
        let working = || !over.load(Ordering::Relaxed);
        let writer = async {
            for round in 0..60 {
                let at = &entries[round % entries.len()];
                rpc.store(at, race::unit(at, numbers.fetch_add(1, Ordering::Relaxed))).await.unwrap();
            }
            over.store(true, Ordering::Relaxed);
        };
        let reader = async |seed: u64| {
            let (mut chance, mut hits) = (fastrand::Rng::with_seed(seed), 0);
            while working() {
                let at = &entries[chance.usize(..entries.len())];
                let found = rpc.retrieve(at, &[""]).await.unwrap();
                if !found.is_empty() {
                    race::is_whole(&found);
                    hits += 1;
                }
            }
            hits
        };
        let sweeper = async {
            let (mut gone, mut spared) = (0, 0);
            while working() {
                let done = swept(&store, marks(0, 0)).await.unwrap();
                gone += done.removed.objects;
                spared += done.spared;
            }
            (gone, spared)
        };
        let ((), hits, (gone, spared)) = tokio::join!(writer, join_all((0..3).map(reader)), sweeper);
        let hits: u64 = hits.into_iter().sum();
        eprintln!(
            "sweep::races on {}: {hits} hits, {gone} objects gone, {spared} entries spared",
            gateway.name
        );
        assert!(hits > 0 && gone > 0);
        // Whatever is left: one more Store, and it is there.
        for at in &entries {
            rpc.store(at, race::unit(at, 0)).await.unwrap();
            race::is_whole(&rpc.retrieve(at, &[""]).await.unwrap());
        }
        rpc.delete_everything().await.unwrap();
    })
    .await;
}

async fn is_there(store: &Store, entry: &larder::domain::artifact::EntryKey) -> bool {
    let found = Gateway::new(store.clone(), Wheels::default())
        .reads()
        .unit(entry, &[Wish::All], 1 << 20)
        .await
        .unwrap();
    if let Some(found) = &found {
        assert_eq!(found.len(), 4, "{entry}: in part");
    }
    found.is_some()
}

/// A plan is of its time: what was stored or read later stays.
#[tokio::test]
async fn what_is_used_after_the_plan_stays() {
    let at = directory();
    let entries = [unit(&at.store, 1).await, unit(&at.store, 2).await, unit(&at.store, 3).await];
    let now = SystemTime::now();
    let keys = |n: usize| {
        let entry = &entries[n];
        (0..4)
            .map(|n| layout::artifact(&entry.file(&format!("f{n}")).unwrap()))
            .chain([layout::manifest(entry)])
            .collect::<Vec<Key>>()
    };
    for (n, key) in (0..3).flat_map(|n| keys(n).into_iter().map(move |key| (n, key))) {
        // The last one was read since the plan, in part.
        let read = if n == 2 && key.as_str().ends_with("/f1") { now + DAY } else { now - DAY };
        date(at.root(), key.as_str(), now - DAY, read);
    }
    at.store.touch(&keys(1)[0]).await.unwrap();
    let seen = Counters::default();
    let done = sweep(&at.store, &everywhere(marks(0, 0)), now - Duration::from_secs(1), &seen).await.unwrap();
    assert_eq!(done.removed.objects, 5);
    assert!(!done.reached);
    let there = [is_there(&at.store, &entries[0]).await, is_there(&at.store, &entries[1]).await];
    assert_eq!(there, [false, true]);
    assert!(is_there(&at.store, &entries[2]).await);
}

/// The same bytes once more.
async fn store_again(store: &Store, key: &Key) {
    let object = store.get(key, &Want::default()).await.unwrap().unwrap();
    let Body::Whole(content) = object.body else { panic!("{key}: not whole") };
    let bytes = content.collect().await.unwrap();
    store.put(key, bytes.into(), Put::default()).await.unwrap();
}

/// Between listing and deleting, too: the manifest is looked at once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_rewritten_after_it_was_listed_is_spared() {
    on_each(async |at| {
        let entries = [unit(&at.direct, 1).await, unit(&at.direct, 2).await, unit(&at.direct, 3).await];
        at.proxy.set_when(
            |seen| seen.verb() == "HeadObject",
            Fault::Latency(Duration::from_secs(4)),
            Some(3),
        );
        let change = async {
            at.proxy.until_seen(|seen| seen.verb() == "HeadObject").await;
            // Stored again by somebody else, so the manifest grows; or only younger: a bucket tells that in whole seconds.
            unit(&at.direct, 1).await;
            tokio::time::sleep(Duration::from_millis(1100)).await;
            store_again(&at.direct, &layout::manifest(&entries[1])).await;
        };
        let once = async {
            let seen = Counters::default();
            let done = sweep(&at.store, &everywhere(marks(0, 0)), SystemTime::now(), &seen).await;
            done.unwrap()
        };
        let (done, ()) = tokio::join!(once, change);
        // Later rounds have a later plan, by which nothing is new: what counts is that the first one took neither.
        assert_eq!(done.spared, 2, "{}: {done:?}", at.name);
        assert!(!is_there(&at.direct, &entries[2]).await);
    })
    .await;
}

async fn fill(store: &Store, root: Option<&std::path::Path>) -> Vec<larder::domain::artifact::EntryKey> {
    let mut entries = Vec::new();
    for n in 0..40 {
        let entry = unit(store, n).await;
        if let Some(root) = root {
            let then = SystemTime::now() - DAY * u32::try_from(100 - n).unwrap();
            for file in ["f0", "f1", "f2", "f3", ".larder"] {
                date(root, &format!("artifact/{entry}/{file}"), then, then);
            }
        }
        entries.push(entry);
    }
    entries
}

async fn together(store: &Store, root: Option<&std::path::Path>) {
    let entries = fill(store, root).await;
    let look = swept(store, marks(u64::MAX, 0)).await.unwrap();
    let low = look.seen.bytes / 2;
    let sweeps = join_all((0..3).map(|_| swept(store, marks(low, low)))).await;
    let mut left = Vec::new();
    for entry in &entries {
        if is_there(store, entry).await {
            left.push(entry.clone());
        }
    }
    let after = swept(store, marks(u64::MAX, 0)).await.unwrap();
    assert_eq!(after.seen.objects, left.len() as u64 * 5, "whole entries");
    assert!(after.seen.bytes <= low);
    let sweeps: Vec<_> = sweeps.into_iter().map(Result::unwrap).collect();
    assert!(sweeps.iter().any(|done| done.reached), "{sweeps:?}");
    if root.is_some() {
        // Each of another day: no more than one sweep would have taken, and the oldest.
        assert_eq!(left, entries[20..], "the younger half");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweeps_at_once_do_the_work_of_one() {
    let at = directory();
    together(&at.store, Some(at.root())).await;
    for server in servers() {
        together(&bucket(&server, &place(), &server.endpoint, 5).await, None).await;
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command
        .env_clear()
        .args(["sweep", "--high-water", "0", "--low-water", "0", "--min-age", "0s", "--json"])
        .args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Kills it. Whether that was its death, and not an end that it had come to by itself.
#[track_caller]
fn kill(mut child: Child) -> bool {
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    match output.status.signal() {
        Some(signal) => assert_eq!(signal, 9),
        None => drop(sum(&output)),
    }
    output.status.signal().is_some()
}

/// What a sweep says of itself that came to its end, and left no more than there may be: or, where others store beside it, what
/// they did.
#[track_caller]
fn sum(output: &Output) -> Value {
    let (text, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let sum: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{}: {stderr}", output.status));
    let code = if sum["reached"] == true { 0 } else { 1 };
    assert_eq!((output.status.code(), sum["failed"].as_u64()), (Some(code), Some(0)), "{sum}: {stderr}");
    sum
}

/// How many files a directory has below it.
fn files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

/// Dies again and again at any moment; what is left is whole or a miss, and the next one finishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_directory_a_killed_sweep_harms_nothing() {
    let at = directory();
    let entries = fill(&at.store, Some(at.root())).await;
    let mut chance = fastrand::Rng::with_seed(20_261_122);
    let store = at.root().to_str().unwrap();
    let (mut died, mut worked) = (0, 0);
    for round in 0..8 {
        // What the one before has removed is there again.
        for n in 0..2000 {
            lay(&at.store, &super::please(n), 10, None).await;
        }
        let before = files(at.root());
        let first = at.root().join(super::please(0));
        let mut child = command(&["--store", store]).spawn().unwrap();
        if round % 2 == 1 {
            // Half of them once they have begun to remove.
            while first.exists() && child.try_wait().unwrap().is_none() {
                tokio::task::yield_now().await;
            }
        } else {
            // How far it comes until then is the machine's affair.
            tokio::time::sleep(Duration::from_millis(chance.u64(1..60))).await;
        }
        let killed = kill(child);
        died += u32::from(killed);
        worked += u32::from(killed && files(at.root()) < before);
        for entry in &entries {
            is_there(&at.store, entry).await;
        }
    }
    let done = swept(&at.store, marks(0, 0)).await.unwrap();
    eprintln!("sweep::races: {died} sweeps died, {worked} at work, {} objects were left", done.seen.objects);
    assert!(done.reached && died > 0);
    assert!(worked > 0, "none was at work");
}

/// Dies when the manifests are gone and the files are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_bucket_a_killed_sweep_leaves_misses() {
    for server in servers() {
        let name = place();
        let direct = bucket(&server, &name, &server.endpoint, 3).await;
        let entries = fill(&direct, None).await;
        let proxy = FaultProxy::start(server.endpoint.trim_start_matches("http://").parse().unwrap());
        let deletes = |seen: &crate::support::proxy::Seen| seen.verb() == "DeleteObjects";
        proxy.set_when(deletes, Fault::Pass, Some(1));
        proxy.set_when(deletes, Fault::Hang, None);
        let store = format!("s3://{}/{name}", server.bucket);
        let child = command(&["--store", &store, "--s3-endpoint", &proxy.endpoint()])
            .env("AWS_ACCESS_KEY_ID", &server.key)
            .env("AWS_SECRET_ACCESS_KEY", &server.secret)
            .spawn()
            .unwrap();
        proxy.until_seen(|seen| seen.verb() == "HeadObject").await;
        crate::support::gateway::eventually("the files' turn comes", async || {
            proxy.verbs().get("DeleteObjects").is_some_and(|count| *count >= 2)
        })
        .await;
        assert!(kill(child), "{}: it has ended by itself", server.name);
        for entry in &entries {
            assert!(!is_there(&direct, entry).await, "{}: {entry}", server.name);
        }
        // What is left counts as nothing; it goes with the leftovers or, being as old as ever, with the rest.
        let rules = larder::sweep::Rules { marks: None, leftover_age: Duration::ZERO, ..marks(0, 0) };
        let done = swept(&direct, rules).await.unwrap();
        assert_eq!((done.partial, done.removed.objects), (40, 160), "{}", server.name);
        let done = swept(&direct, marks(0, 0)).await.unwrap();
        assert_eq!(done.seen.objects, 0, "{}", server.name);
    }
}

/// A Store that comes while its entry goes is there afterwards, or has to be done again: never half.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_beside_a_sweep_are_whole() {
    let gone = Place::Dir(tempfile::tempdir().unwrap());
    let larder = gone.serve("1d");
    let rpc = Rpc::new(larder.addr());
    let Place::Dir(root) = &gone else { unreachable!("a directory") };
    let root = root.path().to_str().unwrap();
    let at = At::new("beside", 1);
    let (mut removed, mut round) = (0, 0);
    // Until one has met something that it could take.
    while round < 20 || (removed == 0 && round < 200) {
        round += 1;
        rpc.store(&at, race::unit(&at, round)).await.unwrap();
        let child = command(&["--store", root]).spawn().unwrap();
        rpc.store(&at, race::unit(&at, round + 1000)).await.unwrap();
        let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        removed += sum(&output)["removed"]["objects"].as_u64().unwrap();
        let found = rpc.retrieve(&at, &[""]).await.unwrap();
        if !found.is_empty() {
            race::is_whole(&found);
        }
    }
    eprintln!("sweep::races: {removed} objects removed in {round} rounds");
    assert!(removed > 0, "none of the sweeps removed anything");
}
