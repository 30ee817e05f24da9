//! Beside a refresh others store and delete: it undoes neither.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use larder::payload::{Body, Want};
use larder::store::{Key, Put, Store, Touched};

use super::lay;
use crate::support::backends::{S3Server, backends, servers};
use crate::support::proxy::{Fault, FaultProxy};

/// A store in a place of its own, at the server's address or a proxy's before it.
async fn bucket(server: &S3Server, prefix: &str, endpoint: &str) -> Store {
    let mut config = server.config(endpoint);
    config.prefix = Some(prefix.parse().unwrap());
    server.store(config, larder::metrics::Metrics::new()).await
}

async fn bytes(store: &Store, key: &Key) -> Option<Bytes> {
    match store.get(key, &Want::default()).await.unwrap()?.body {
        Body::Whole(content) => Some(content.collect().await.unwrap()),
        other @ (Body::Part { .. } | Body::Unchanged | Body::Unsatisfiable) => panic!("{other:?}"),
    }
}

async fn put(store: &Store, key: &Key, text: &str) {
    store.put(key, Bytes::copy_from_slice(text.as_bytes()).into(), Put::default()).await.unwrap();
}

fn always() -> SystemTime {
    SystemTime::now() + Duration::from_secs(60)
}

/// The object was looked at, and is another, or gone, when the copy arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_since_it_was_looked_at_is_not_copied() {
    for server in servers() {
        let place = format!("beside-{:016x}", fastrand::u64(..));
        let proxy = FaultProxy::start(server.endpoint.trim_start_matches("http://").parse().unwrap());
        let through = bucket(&server, &place, &proxy.endpoint()).await;
        let direct = bucket(&server, &place, &server.endpoint).await;
        for (name, text, came) in
            [("replaced", Some("new"), Touched::Young), ("removed", None, Touched::Gone)]
        {
            let key: Key = name.parse().unwrap();
            lay(&direct, name, 100, None).await;
            proxy.take_requests();
            proxy.set_when(
                |seen| seen.verb() == "CopyObject",
                Fault::Latency(Duration::from_secs(2)),
                Some(1),
            );
            let change = async {
                proxy.until_seen(|seen| seen.verb() == "CopyObject").await;
                match text {
                    Some(text) => put(&direct, &key, text).await,
                    None => direct.delete(std::slice::from_ref(&key)).await.unwrap(),
                }
            };
            let (refreshed, ()) = tokio::join!(through.refresh(&key, always()), change);
            assert_eq!(refreshed.unwrap(), came, "{}: {name}", server.name);
            assert_eq!(
                bytes(&direct, &key).await.as_deref(),
                text.map(str::as_bytes),
                "{}: {name}",
                server.name
            );
            // Both conditions are asked for; not every server knows the second.
            let copy = proxy.requests().into_iter().find(|seen| seen.verb() == "CopyObject").unwrap();
            assert_eq!(copy.headers.get("if-match"), copy.headers.get("x-amz-copy-source-if-match"));
            assert!(copy.headers.contains_key("if-match"));
        }
    }
}

/// Without anybody's help: whoever stores finds his bytes afterwards, whoever deletes finds nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_and_deletes_beside_refreshes_stand() {
    for backend in backends().await {
        let store = &backend.store;
        let key: Key = format!("beside-{:016x}/x", fastrand::u64(..)).parse().unwrap();
        let mut refreshed = 0;
        for round in 0..100 {
            put(store, &key, &format!("{round} before")).await;
            let text = format!("{round} after");
            let refresh = async || {
                let mut done = 0;
                for _ in 0..3 {
                    // A server may stumble over the delete beside it: what counts is what is there in the end.
                    done += usize::from(
                        store.refresh(&key, always()).await.is_ok_and(|came| came != Touched::Gone),
                    );
                }
                done
            };
            let stored = put(store, &key, &text);
            let (done, ()) = tokio::join!(refresh(), stored);
            refreshed += done;
            assert_eq!(bytes(store, &key).await.as_deref(), Some(text.as_bytes()), "{}", backend.name);
            if round % 2 == 0 {
                let keys = [key.clone()];
                let (_, deleted) = tokio::join!(refresh(), store.delete(&keys));
                deleted.unwrap();
                assert_eq!(bytes(store, &key).await, None, "{}: round {round}", backend.name);
            }
        }
        assert!(refreshed > 100, "{}: {refreshed}", backend.name);
        store.delete(&[key]).await.unwrap();
    }
}
