//! Promise: a sweep takes exactly the entries that should go, whole, and at the price that was computed; whatever reads,
//! writes, sweeps or dies beside it.

mod counted;
mod leftovers;
mod model;
mod page;
mod races;

use std::fs::{File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

use larder::store::{Error, Key, Put, Store};
use larder::sweep::{Counters, Leftovers, Marks, Rules, Summary, Terms, sweep};

use crate::support::backends::S3Server;
use crate::support::http::Pattern;

/// A hash as Please spells it, with a number in it.
fn hash(number: usize) -> String {
    use base64::Engine as _;
    let mut bytes: Vec<u8> = (0..20).map(|n: u8| n.wrapping_mul(7)).collect();
    bytes[18] = u8::try_from(number / 256).unwrap();
    bytes[19] = u8::try_from(number % 256).unwrap();
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// An entry of Please v14, by number.
fn please(number: usize) -> String {
    let shard = number % 256;
    format!("please/{shard:02x}/{shard:02x}{number:018x}")
}

/// Rules by which only the marks count.
fn marks(high: u64, low: u64) -> Rules {
    Rules {
        max_age: None,
        min_age: Duration::ZERO,
        marks: Some(Marks { high, low }),
        leftover_age: Duration::from_secs(86400),
        leftovers: Leftovers::Recent,
    }
}

fn everywhere(rules: Rules) -> Terms {
    Terms { places: Vec::new(), rules, dry_run: false }.checked().unwrap()
}

async fn swept(store: &Store, rules: Rules) -> Result<Summary, Error> {
    sweep(store, &everywhere(rules), SystemTime::now(), &Counters::default()).await
}

async fn lay(store: &Store, key: &str, bytes: u64, mark: Option<&str>) {
    let key: Key = key.parse().unwrap();
    let body = Pattern { seed: 1, length: bytes }.bytes();
    let how = Put { mark: mark.map(str::to_owned), ..Put::default() };
    store.put(&key, body.into(), how).await.unwrap();
}

/// Says when a file of a directory store was written and read.
fn date(root: &Path, key: &str, modified: SystemTime, accessed: SystemTime) {
    let file = File::open(root.join(key)).unwrap();
    file.set_times(FileTimes::new().set_modified(modified).set_accessed(accessed)).unwrap();
}

/// A store in a place of its own, at the server's address or a proxy's before it.
async fn bucket(server: &S3Server, prefix: &str, endpoint: &str, attempts: u32) -> Store {
    let mut config = server.config(endpoint);
    config.prefix = Some(prefix.parse().unwrap());
    config.attempts = attempts;
    server.store(config, larder::metrics::Metrics::new()).await
}

fn place() -> String {
    format!("sweep-{:016x}", fastrand::u64(..))
}
