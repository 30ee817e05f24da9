//! Laws of writing: whole or nothing, old or new, one winner.

use std::time::Duration;

use larder::payload::{BodyError, Payload, Want};
use larder::store::{Key, Kind, Mode, PART, Put, PutError, SMALL};
use tokio::task::JoinSet;

use crate::support::aloud;

use super::{Bytes, Place, Stored, abandon, chunks, laws, noise, stalled};
use futures_util::stream::{self, StreamExt as _};

laws!(
    what_was_put_is_got,
    a_length_that_lies_leaves_nothing,
    a_body_that_breaks_leaves_nothing,
    a_put_that_is_dropped_leaves_nothing,
    readers_see_the_old_or_the_new,
    a_race_to_create_has_one_winner,
    swaps_replace_only_what_was_seen,
    swaps_have_one_winner,
    marks_come_and_go_with_their_object,
    creating_spares_what_is_there,
    no_key_is_object_and_directory,
    deleting_is_about_objects,
    reaping_spares_what_is_fresh,
    neighbours_come_and_go,
);

/// On either side of every boundary.
const SIZES: [usize; 8] = [0, 1, SMALL, SMALL + 1, PART - 1, PART, PART + 1, 20 << 20];

/// Sizes of a body's beginning.
const BEGUN: [usize; 4] = [0, 100, SMALL + 100, 2 * PART + 100];

async fn what_was_put_is_got(at: &Place) {
    for (seed, size) in SIZES.into_iter().enumerate() {
        let bytes = noise(size, seed as u64);
        for (name, payload) in [
            ("one", Payload::from(bytes.clone())),
            ("known", Payload::new(Some(size as u64), chunks(&bytes))),
            ("unknown", Payload::new(None, chunks(&bytes))),
            ("held", Payload::held(bytes.clone())),
        ] {
            at.put_from(name, payload).await.unwrap();
            assert!(at.bytes(name).await.unwrap() == bytes, "{name} of {size} bytes");
        }
    }
    assert_eq!(at.names().await, ["held", "known", "one", "unknown"]);
}

async fn swap(at: &Place, name: &str, etag: &str, bytes: &Bytes) -> Stored {
    let how = Put { mode: Mode::Swap(etag.to_owned()), ..Put::default() };
    at.store.put(&at.key(name), Payload::held(bytes.clone()), how).await.unwrap()
}

async fn swaps_replace_only_what_was_seen(at: &Place) {
    let first = at.put("x", &noise(100, 1)).await;
    let Stored::Done { etag } = swap(at, "x", &first, &noise(100, 2)).await else { panic!("it was as seen") };
    assert_eq!(at.store.head(&at.key("x")).await.unwrap().unwrap().etag, etag);
    assert_eq!(swap(at, "x", &first, &noise(100, 3)).await, Stored::Exists);
    assert_eq!(at.bytes("x").await, Some(noise(100, 2)));
    assert_eq!(swap(at, "gone", &first, &noise(100, 3)).await, Stored::Exists);
    at.store.delete(&[at.key("x")]).await.unwrap();
    assert_eq!(swap(at, "x", &etag, &noise(100, 3)).await, Stored::Exists);
    assert!(at.names().await.is_empty());
}

async fn swaps_have_one_winner(at: &Place) {
    for round in 0..8 {
        let seen = at.put("x", &noise(1000, round)).await;
        let racers = (0..16_u64).map(|racer| {
            let (seen, bytes) = (seen.clone(), noise(1000, 1000 * round + racer + 100));
            async move { (swap(at, "x", &seen, &bytes).await, bytes) }
        });
        let ends = futures_util::future::join_all(racers).await;
        let won: Vec<_> = ends.iter().filter(|(end, _)| *end != Stored::Exists).collect();
        let [(_, bytes)] = won.as_slice() else { panic!("{} winners", won.len()) };
        assert_eq!(at.bytes("x").await.as_ref(), Some(bytes));
    }
}

async fn marks_come_and_go_with_their_object(at: &Place) {
    let mark = "a".repeat(larder::payload::MARK_MOST);
    for size in [0, 100, SMALL + 1, PART + 1] {
        let bytes = noise(size, 1);
        for (name, payload) in [("one", Payload::from(bytes.clone())), ("held", Payload::held(bytes.clone()))]
        {
            let key = at.key(name);
            let how = Put { mark: Some(mark.clone()), ..Put::default() };
            at.store.put(&key, payload, how).await.unwrap();
            let object = at.object(name, &Want::default()).await.unwrap();
            assert_eq!(object.meta.mark.as_ref(), Some(&mark), "{name} of {size}");
            assert!(at.store.touch(&key).await.unwrap());
            assert_eq!(
                at.store.head(&key).await.unwrap().unwrap().mark.as_ref(),
                Some(&mark),
                "{name} of {size}"
            );
            assert!(at.bytes(name).await == Some(bytes.clone()));
            at.put(name, &bytes).await;
            assert_eq!(at.store.head(&key).await.unwrap().unwrap().mark, None);
        }
    }
}

/// Puts that must fail by the sender's fault: nothing is left, or what was there.
async fn fails(at: &Place, why: BodyError, body: impl Fn() -> Payload) {
    let old = noise(77, 0);
    at.put("old", &old).await;
    for name in ["old", "new"] {
        for mode in [Mode::Replace, Mode::Create] {
            // A create-only put over an old object may be told so before its body ends.
            match at.store.put(&at.key(name), body(), Put { mode: mode.clone(), ..Put::default() }).await {
                Err(PutError::Body(error)) => assert_eq!(error, why, "{name} {mode:?}"),
                Ok(Stored::Exists) if name == "old" && mode == Mode::Create => {}
                other => panic!("{name} {mode:?}: {other:?}"),
            }
        }
    }
    assert_eq!(at.bytes("old").await.unwrap(), old);
    assert!(at.object("new", &Want::default()).await.is_none());
    assert_eq!(at.names().await, ["old"]);
}

async fn a_length_that_lies_leaves_nothing(at: &Place) {
    for size in [1, SMALL, SMALL + 1, PART, PART + 1, 2 * PART + 5] {
        let bytes = noise(size, 1);
        for lie in [0, size as u64 - 1, size as u64 + 1, 3 * size as u64] {
            fails(at, BodyError::Length, || Payload::new(Some(lie), chunks(&bytes))).await;
        }
    }
}

async fn a_body_that_breaks_leaves_nothing(at: &Place) {
    for size in BEGUN {
        let bytes = noise(size, 2);
        for len in [None, Some(size as u64), Some(size as u64 + 10)] {
            for why in [BodyError::Incomplete, BodyError::Stalled, BodyError::Digest("sha-256")] {
                fails(at, why, || Payload::new(len, chunks(&bytes).chain(stream::iter([Err(why)])))).await;
            }
        }
    }
}

async fn a_put_that_is_dropped_leaves_nothing(at: &Place) {
    let old = noise(77, 0);
    at.put("old", &old).await;
    for size in BEGUN {
        for name in ["old", "new"] {
            abandon(&at.store, &at.key(name), &noise(size, 3)).await;
        }
        assert_eq!(at.bytes("old").await.unwrap(), old);
        assert!(at.object("new", &Want::default()).await.is_none());
        assert_eq!(at.names().await, ["old"]);
    }
    at.put("new", &old).await;
    assert_eq!(at.bytes("new").await.unwrap(), old);
}

async fn readers_see_the_old_or_the_new(at: &Place) {
    for sizes in [[100, 200], [SMALL + 7, SMALL + 700], [PART + 9, 300_000]] {
        let bodies = sizes.map(|size| noise(size, size as u64));
        at.put("x", &bodies[0]).await;
        let mut readers = JoinSet::new();
        for _ in 0..16 {
            let (at, bodies) = (at.clone(), bodies.clone());
            readers.spawn(async move {
                for _ in 0..6 {
                    let seen = at.bytes("x").await.unwrap();
                    assert!(bodies.contains(&seen), "{} bytes that nobody wrote", seen.len());
                }
            });
        }
        for turn in 1..9 {
            at.put("x", &bodies[turn % 2]).await;
        }
        while let Some(reader) = readers.join_next().await {
            reader.unwrap();
        }
    }
}

async fn a_race_to_create_has_one_winner(at: &Place) {
    for size in [10, SMALL + 10, PART + 10] {
        let (name, rest) = (format!("x{size}"), noise(size, 5));
        let mut racers = JoinSet::new();
        for racer in 0..16_u8 {
            let (at, name, rest) = (at.clone(), name.clone(), rest.clone());
            racers.spawn(async move {
                let body = stream::iter([Ok(Bytes::from(vec![racer]))]).chain(chunks(&rest));
                let len = (racer % 2 == 0).then_some(rest.len() as u64 + 1);
                (racer, at.create(&name, Payload::new(len, body)).await)
            });
        }
        let mut winners = Vec::new();
        while let Some(ended) = racers.join_next().await {
            let (racer, stored) = ended.unwrap();
            winners.extend((stored != Stored::Exists).then_some(racer));
        }
        assert_eq!(winners.len(), 1, "{size}: {winners:?}");
        let stored = at.bytes(&name).await.unwrap();
        assert_eq!(stored.first(), winners.first(), "{size}: the winner's bytes");
        assert!(stored.slice(1..) == rest, "{size}");
    }
}

async fn creating_spares_what_is_there(at: &Place) {
    let old = noise(77, 0);
    at.put("x", &old).await;
    for size in SIZES {
        assert_eq!(
            at.create("x", Payload::new(None, chunks(&noise(size, 9)))).await,
            Stored::Exists,
            "{size}"
        );
        assert_eq!(at.bytes("x").await.unwrap(), old);
    }
    at.store.delete(&[at.key("x")]).await.unwrap();
    assert!(matches!(at.create("x", Payload::from(old.clone())).await, Stored::Done { .. }));
    assert_eq!(at.bytes("x").await.unwrap(), old);
}

async fn no_key_is_object_and_directory(at: &Place) {
    let old = noise(77, 0);
    for (taken, refused) in [("a", "a/y"), ("b", "b/y/z"), ("c/y", "c"), ("d/y/z", "d"), ("e/y/z", "e/y")] {
        at.put(taken, &old).await;
        for size in [0, 10, SMALL + 10, PART + 10] {
            for mode in [Mode::Replace, Mode::Create] {
                let payload = Payload::new(None, chunks(&noise(size, 1)));
                match at
                    .store
                    .put(&at.key(refused), payload, Put { mode: mode.clone(), ..Put::default() })
                    .await
                {
                    Err(PutError::Store(error)) => {
                        assert_eq!(error.kind, Kind::Conflict, "{taken}, {refused}")
                    }
                    other => panic!("{taken}, then {refused} {mode:?}: {other:?}"),
                }
            }
        }
        assert!(at.object(refused, &Want::default()).await.is_none());
        assert_eq!(at.bytes(taken).await.unwrap(), old);
        // What is deleted is in nobody's way.
        at.store.delete(&[at.key(taken)]).await.unwrap();
        at.put(refused, &old).await;
        at.store.delete(&[at.key(refused)]).await.unwrap();
    }
    assert!(at.names().await.is_empty());
}

async fn deleting_is_about_objects(at: &Place) {
    at.store.delete(&[]).await.unwrap();
    for name in ["a/b", "a/c", "d"] {
        at.put(name, &noise(5, 0)).await;
    }
    let keys: Vec<Key> = ["none", "a", "a/b/c", "a/b", "none/at/all"].map(|name| at.key(name)).into();
    for _ in 0..2 {
        at.store.delete(&keys).await.unwrap();
        assert_eq!(at.names().await, ["a/c", "d"]);
    }
}

async fn reaping_spares_what_is_fresh(at: &Place) {
    for size in [100, SMALL + 100, 2 * PART + 100] {
        let bytes = noise(size, 4);
        let (begun, bell) = stalled(&bytes);
        // The body goes on when the sweep is through.
        let swept = async {
            bell.notified().await;
            at.store.reap(&[at.prefix()], Duration::from_secs(3600)).await.unwrap();
        };
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let begun = begun.stream.take_until(gone);
        let put = at.put_from("x", Payload::new(None, begun));
        let (put, ()) = tokio::join!(put, async {
            swept.await;
            go.send(()).unwrap();
        });
        put.unwrap();
        assert!(at.bytes("x").await.unwrap() == bytes);
    }
}

/// Puts, and to MinIO alone again where it is refused: over a single drive it says 403 about once in some thousand puts whose
/// directory a delete beside it has just removed.
async fn put_beside_deletes(at: &Place, name: &str, bytes: &Bytes) {
    for _ in 0..5 {
        match at.put_from(name, Payload::from(bytes.clone())).await {
            Ok(_) => return,
            Err(PutError::Store(error)) if at.name == "minio" && error.kind == Kind::Denied => {
                aloud(&format!("EXCEPTION: minio has refused a put beside a delete: {error}"));
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
    panic!("{name}: refused again and again");
}

async fn neighbours_come_and_go(at: &Place) {
    let mut neighbours = JoinSet::new();
    for n in 0..8_u8 {
        let at = at.clone();
        neighbours.spawn(async move {
            let (name, bytes) = (format!("a/b/{n}"), Bytes::from(vec![n]));
            for _ in 0..25 {
                put_beside_deletes(&at, &name, &bytes).await;
                assert_eq!(at.bytes(&name).await, Some(bytes.clone()));
                at.store.delete(&[at.key(&name)]).await.unwrap();
                assert_eq!(at.bytes(&name).await, None);
            }
        });
    }
    while let Some(neighbour) = neighbours.join_next().await {
        neighbour.unwrap();
    }
    assert!(at.names().await.is_empty());
}
