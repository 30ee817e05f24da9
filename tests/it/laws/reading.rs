//! Laws of reading: absence, validators, ranges.

use std::time::{Duration, SystemTime};

use larder::payload::{Body, ByteRange, Meta, Want};
use larder::store::{PART, SMALL, Touched};

use super::{Place, laws, noise};

laws!(
    absence_is_a_value,
    validators_follow_the_bytes,
    a_copy_that_is_good_is_not_sent,
    ranges_agree_with_slicing,
    a_range_of_another_version_is_the_whole,
    touching_makes_young,
    only_what_is_older_is_refreshed,
    the_store_answers,
);

async fn absence_is_a_value(at: &Place) {
    for name in ["x", "x/y", "x/y/z"] {
        assert!(at.object(name, &Want::default()).await.is_none());
        assert_eq!(at.store.head(&at.key(name)).await.unwrap(), None);
        assert!(!at.store.touch(&at.key(name)).await.unwrap());
        let any = Want { unless_any: true, range: Some(ByteRange::From(0)), ..Want::default() };
        assert!(at.object(name, &any).await.is_none());
    }
    assert!(at.names().await.is_empty());
    // Neither the name above an object nor one below it is an object.
    at.put("d/x", &noise(5, 0)).await;
    for name in ["d", "d/x/y"] {
        assert!(at.object(name, &Want::default()).await.is_none(), "{name}");
        assert_eq!(at.store.head(&at.key(name)).await.unwrap(), None, "{name}");
        assert!(!at.store.touch(&at.key(name)).await.unwrap(), "{name}");
    }
}

async fn validators_follow_the_bytes(at: &Place) {
    for size in [0, 10, SMALL + 1, PART + 1] {
        let mut seen = Vec::new();
        for seed in 1..4 {
            let etag = at.put("x", &noise(size, seed)).await;
            let head = at.store.head(&at.key("x")).await.unwrap().unwrap();
            let got = at.object("x", &Want::default()).await.unwrap().meta;
            assert_eq!((head.size, &head.etag), (size as u64, &etag));
            assert_eq!(head, got);
            assert!(!etag.contains('"'));
            assert!(size == 0 || !seen.contains(&etag), "{size}: other bytes, another validator");
            seen.push(etag);
        }
    }
}

async fn a_copy_that_is_good_is_not_sent(at: &Place) {
    for size in [0, 10, SMALL + 1] {
        let etag = at.put("x", &noise(size, 1)).await;
        for (want, unchanged) in [
            (Want { unless: vec!["other".to_owned(), etag.clone()], ..Want::default() }, true),
            (Want { unless_any: true, ..Want::default() }, true),
            (Want { unless: vec![etag.clone()], range: Some(ByteRange::From(3)), ..Want::default() }, true),
            (Want { unless: vec!["other".to_owned()], ..Want::default() }, false),
        ] {
            let object = at.object("x", &want).await.unwrap();
            assert_eq!(matches!(object.body, Body::Unchanged), unchanged, "{want:?}");
            assert_eq!(object.meta.etag, etag, "{want:?}");
            assert!(unchanged || object.meta.size == size as u64, "{want:?}");
        }
    }
}

async fn ranges_agree_with_slicing(at: &Place) {
    for size in [0, 1, 1000, SMALL, SMALL + 1000, PART + 5000] {
        let bytes = noise(size, 7);
        at.put("x", &bytes).await;
        let (end, big) = (size as u64, 1 << 40);
        let mut ranges = vec![ByteRange::From(0), ByteRange::From(end), ByteRange::From(big)];
        ranges.extend([0, 1, 500, end, end + 1, big].map(ByteRange::Suffix));
        ranges.extend(
            [(0, 0), (0, big), (0, end), (1, 2), (end, big), (5, 4)].map(|(a, b)| ByteRange::Between(a, b)),
        );
        if let Some(last) = end.checked_sub(1) {
            ranges.extend([
                ByteRange::From(last),
                ByteRange::Between(last, last),
                ByteRange::Between(end / 2, last),
            ]);
        }
        for range in ranges {
            check(at, &bytes, range).await;
        }
    }
}

async fn check(at: &Place, bytes: &bytes::Bytes, range: ByteRange) {
    let size = bytes.len() as u64;
    let object = at.object("x", &Want { range: Some(range), ..Want::default() }).await.unwrap();
    assert_eq!(object.meta.size, size, "{range}: the size is of the whole");
    match (object.body, range.resolve(size)) {
        (Body::Part { first, last, content }, Some(expected)) => {
            assert_eq!((first, last), expected, "{range} of {size}");
            assert_eq!(
                content.collect().await.unwrap(),
                bytes.slice(first as usize..=last as usize),
                "{range} of {size}"
            );
        }
        (Body::Unsatisfiable, None) => {}
        (body, expected) => panic!("{range} of {size}: {body:?} for {expected:?}"),
    }
}

async fn a_range_of_another_version_is_the_whole(at: &Place) {
    for size in [1000, SMALL + 1000] {
        let bytes = noise(size, 3);
        let etag = at.put("x", &bytes).await;
        let want = |range_if: &str, range| Want {
            range: Some(range),
            range_if: Some(range_if.to_owned()),
            ..Want::default()
        };
        let part = at.object("x", &want(&etag, ByteRange::Between(2, 5))).await.unwrap();
        assert!(matches!(part.body, Body::Part { first: 2, last: 5, .. }), "{:?}", part.body);
        for range in [ByteRange::Between(2, 5), ByteRange::From(1 << 40)] {
            let whole = at.object("x", &want("other", range)).await.unwrap();
            let Body::Whole(content) = whole.body else { panic!("{:?}", whole.body) };
            assert_eq!(content.collect().await.unwrap(), bytes);
        }
    }
}

async fn touching_makes_young(at: &Place) {
    let bytes = noise(100, 1);
    at.put("x", &bytes).await;
    let head = async || -> Meta { at.store.head(&at.key("x")).await.unwrap().unwrap() };
    let before = head().await;
    // Clocks of stores tick at anything up to a second; the law's own time limit ends this.
    while head().await.modified <= before.modified {
        assert!(at.store.touch(&at.key("x")).await.unwrap());
    }
    assert_eq!(head().await.size, before.size);
    assert_eq!(at.bytes("x").await, Some(bytes));
}

async fn only_what_is_older_is_refreshed(at: &Place) {
    let epoch = SystemTime::UNIX_EPOCH;
    assert_eq!(at.store.refresh(&at.key("x"), epoch).await.unwrap(), Touched::Gone);
    let bytes = noise(100, 1);
    at.put("x", &bytes).await;
    let before = at.store.head(&at.key("x")).await.unwrap().unwrap();
    assert_eq!(at.store.refresh(&at.key("x"), before.modified).await.unwrap(), Touched::Young);
    assert_eq!(at.store.head(&at.key("x")).await.unwrap().unwrap(), before);
    let later = SystemTime::now() + Duration::from_secs(1);
    // Within the second there is no telling whether the date has moved.
    assert_ne!(at.store.refresh(&at.key("x"), later).await.unwrap(), Touched::Gone);
    assert_eq!(at.bytes("x").await, Some(bytes));
}

async fn the_store_answers(at: &Place) {
    at.store.probe().await.unwrap();
    assert!(at.names().await.is_empty(), "asking leaves nothing");
}
