//! Promise: what is used lives. A hit on what is getting old makes it young again, whole entries at once, a bounded number of
//! times, and no answer waits for it.

mod beside;
mod bounds;
mod living;
mod model;
mod whole;

use std::fs::{File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

use larder::budget::Budget;
use larder::domain::artifact::EntryKey;
use larder::domain::manifest::Provenance;
use larder::domain::refresh::{Ages, Refresh, Workers};
use larder::domain::units::Part;
use larder::domain::{Gateway, Reads, Wheels};
use larder::metrics::{Metrics, RefreshLabels, Refreshed};
use larder::store::{Put, Store, dir};

use crate::faults::rig::HASH;
use crate::support::http::Pattern;

const DAY: Duration = Duration::from_secs(86_400);

/// The same age everywhere.
fn ages(age: Duration) -> Ages {
    Ages { artifacts: Some(age), please: Some(age), shared: Some(age), built: Some(age) }
}

/// How often this came of a refresh.
fn came(metrics: &Metrics, what: Refreshed) -> u64 {
    metrics.refreshes.get(&RefreshLabels { outcome: what.name() }).map_or(0, |counter| counter.get())
}

/// A directory with its counters.
struct Yard {
    root: tempfile::TempDir,
    store: Store,
    metrics: Metrics,
}

impl Yard {
    fn new() -> Self {
        let (root, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
        let config = dir::Config { root: root.path().to_owned(), sync: dir::Sync::Never, memory: 1 << 20 };
        let store = Store::dir(config, Budget::new(64 << 20), metrics.clone()).unwrap();
        Self { root, store, metrics }
    }

    /// Says how long ago an object was stored.
    fn age(&self, key: &str, ago: Duration) {
        age(self.root.path(), key, ago);
    }

    /// How long ago it was stored or refreshed.
    fn is_young(&self, key: &str) -> bool {
        self.modified(key).elapsed().is_ok_and(|age| age < DAY / 2)
    }

    fn modified(&self, key: &str) -> SystemTime {
        self.root.path().join(key).metadata().unwrap().modified().unwrap()
    }
}

fn age(root: &Path, key: &str, ago: Duration) {
    let file = File::open(root.join(key)).unwrap();
    file.set_times(FileTimes::new().set_modified(SystemTime::now() - ago)).unwrap();
}

/// A gateway whose refreshing waits until it is told to go on.
struct Keeper {
    gateway: Gateway,
    workers: Workers,
    metrics: Metrics,
}

impl Keeper {
    fn new(store: &Store, ages: Ages) -> Self {
        let metrics = Metrics::new();
        let (refresh, workers) = Refresh::new(store.clone(), ages, metrics.clone());
        let gateway = Gateway::new(store.clone(), Wheels::default()).refreshing(refresh);
        Self { gateway, workers, metrics }
    }

    fn reads(&self) -> Reads {
        self.gateway.reads()
    }

    /// No more uses; refreshes all that waits.
    async fn settle(self) -> Metrics {
        drop(self.gateway);
        self.workers.run().await;
        self.metrics
    }
}

async fn lay(store: &Store, key: &str, bytes: u64, mark: Option<&str>) {
    let body = Pattern { seed: 1, length: bytes }.bytes();
    let how = Put { mark: mark.map(str::to_owned), ..Put::default() };
    store.put(&key.parse().unwrap(), body.into(), how).await.unwrap();
}

/// An entry of Please v14, by number.
fn please(number: usize) -> String {
    format!("{:02x}{number:018x}", number % 256)
}

/// Its key in the store.
fn please_key(number: usize) -> String {
    format!("please/{:02x}/{}", number % 256, please(number))
}

/// Names of a unit's files: two in its manifest as well, two not.
const FILES: [&str; 4] = ["f0", "f1", "f2", "gen/f3"];

/// A unit of these files and a manifest.
async fn unit(store: &Store, target: &str) -> EntryKey {
    let entry: EntryKey = format!("linux_amd64/pkg/{target}/{HASH}").parse().unwrap();
    add(store, &entry, &FILES).await;
    entry
}

/// Adds files of the unit to an entry.
async fn add(store: &Store, entry: &EntryKey, files: &[&str]) {
    let file = |name: &&str| {
        let size = [0, 10, 20_000, 100_000][FILES.iter().position(|file| file == name).unwrap()];
        (entry.file(name).unwrap(), Part::File(vec![b'x'; size].into()))
    };
    let parts = files.iter().map(file).collect();
    let by = Provenance::now(None, None, None);
    Gateway::new(store.clone(), Wheels::default()).writes().unit(entry, parts, &by).await.unwrap();
}

/// All keys of a unit, its manifest last.
fn keys(entry: &EntryKey) -> Vec<String> {
    FILES.iter().chain(&[".larder"]).map(|file| format!("artifact/{entry}/{file}")).collect()
}
