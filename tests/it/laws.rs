//! The store's contract: each law is one function over a store, and every backend keeps it, but for the exceptions
//! that are named with their server.

#![expect(clippy::unwrap_used, reason = "a law's helpers fail as its test does")]

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use larder::payload::{Body, BodyError, Object, Payload, Want};
use larder::store::{BATCH, Key, Listed, Listing, Mode, Prefix, Put, PutError, Store, Stored};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::support::aloud;
use crate::support::backends::backends;

mod dir;
mod keys;
mod listing;
mod reading;
mod writing;

/// Time for one law on one backend.
const LIMIT: Duration = Duration::from_secs(300);

/// What a server is known not to do: server, law, and what it does instead. Said aloud where it is met.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("versitygw", "touching_makes_young", "a copy onto itself leaves LastModified as it was"),
    (
        "versitygw",
        "neighbours_come_and_go",
        "a put beside a delete of the directory's last object is at times refused with 403 or 409",
    ),
];

/// A place of its own in a backend.
#[derive(Clone)]
pub(crate) struct Place {
    /// `dir`, or the server's name.
    name: String,
    store: Store,
    root: Key,
}

/// Holds every backend to a law.
pub(crate) async fn every(name: &str, law: impl AsyncFn(&Place)) {
    for backend in backends().await {
        if let Some((server, _, why)) = EXCEPTIONS.iter().find(|(s, l, _)| backend.name == *s && name == *l) {
            aloud(&format!("EXCEPTION: {server} does not keep the law {name}: {why}"));
            continue;
        }
        let root = format!("laws/{name}-{:016x}", fastrand::u64(..)).parse().unwrap();
        let place = Place { name: backend.name.clone(), store: backend.store.clone(), root };
        let held = timeout(LIMIT, law(&place)).await;
        assert!(held.is_ok(), "{name} on {}: took longer than {LIMIT:?}", backend.name);
        place.clear().await;
    }
}

/// Makes each law a test of its own.
macro_rules! laws {
    ($($law:ident),+ $(,)?) => {
        mod held {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $law() {
                    $crate::laws::every(stringify!($law), super::$law).await;
                }
            )+
        }
    };
}
use laws;

impl Place {
    fn key(&self, name: &str) -> Key {
        format!("{}/{name}", self.root).parse().unwrap()
    }

    fn prefix(&self) -> Prefix {
        Prefix::below(&self.root)
    }

    async fn put(&self, name: &str, bytes: &Bytes) -> String {
        self.put_from(name, Payload::from(bytes.clone())).await.unwrap()
    }

    async fn put_from(&self, name: &str, payload: Payload) -> Result<String, PutError> {
        match self.store.put(&self.key(name), payload, Put::default()).await? {
            Stored::Done { etag } => Ok(etag),
            Stored::Exists => panic!("{name}: a replacing put never finds that something exists"),
        }
    }

    async fn create(&self, name: &str, payload: Payload) -> Stored {
        let how = Put { mode: Mode::Create, ..Put::default() };
        self.store.put(&self.key(name), payload, how).await.unwrap()
    }

    async fn object(&self, name: &str, want: &Want) -> Option<Object> {
        self.store.get(&self.key(name), want).await.unwrap()
    }

    async fn bytes(&self, name: &str) -> Option<Bytes> {
        match self.object(name, &Want::default()).await?.body {
            Body::Whole(content) => Some(content.collect().await.unwrap()),
            other @ (Body::Part { .. } | Body::Unchanged | Body::Unsatisfiable) => {
                panic!("{name}: {other:?}")
            }
        }
    }

    /// The listing's lines, relative to this place.
    async fn lines(&self, prefix: &Prefix, how: Listing) -> Vec<String> {
        let lines = self.store.list(prefix, how).map_ok(|line| match line {
            Listed::Object { key, .. } => self.prefix().strip(&key).unwrap().to_owned(),
            Listed::Prefix(prefix) => {
                format!("{}/", self.prefix().strip(&prefix.key().unwrap()).unwrap())
            }
        });
        lines.try_collect().await.unwrap()
    }

    async fn names(&self) -> Vec<String> {
        self.lines(&self.prefix(), Listing::default()).await
    }

    async fn clear(&self) {
        let keys: Vec<Key> = self.names().await.iter().map(|name| self.key(name)).collect();
        self.store.delete(&keys).await.unwrap();
    }
}

/// Bytes that differ with their seed, and from one place to the next.
fn noise(size: usize, seed: u64) -> Bytes {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes.into()
}

/// The bytes in uneven chunks, as they come from a socket.
fn chunks(bytes: &Bytes) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + use<> {
    let sizes = [1, 999, 16 * 1024, 70_000, 1 << 20].into_iter().cycle();
    stream::iter(sizes.scan(bytes.clone(), |left, size| {
        let now = left.split_to(size.min(left.len()));
        (!now.is_empty()).then_some(Ok(now))
    }))
}

/// A body that stops after these bytes without an end, and a bell that rings when it has got there.
fn stalled(bytes: &Bytes) -> (Payload, Arc<Notify>) {
    let bell = Arc::new(Notify::new());
    let rung = Arc::clone(&bell);
    let end = stream::once(async move {
        rung.notify_one();
        pending().await
    });
    (Payload::new(None, chunks(bytes).chain(end)), bell)
}

/// Starts a put of a body without an end, and drops it when all that there is of it was taken.
async fn abandon(store: &Store, key: &Key, bytes: &Bytes) {
    let (payload, bell) = stalled(bytes);
    tokio::select! {
        ended = store.put(key, payload, Put::default()) => panic!("ended before its body: {ended:?}"),
        () = bell.notified() => {}
    }
}
