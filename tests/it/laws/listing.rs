//! Laws of listing: complete, in byte order, exactly what lies below; and of deleting what was listed.

use larder::payload::Payload;
use larder::store::Put;
use std::time::{Duration, SystemTime};

use super::{BATCH, Bytes, Key, Listed, Listing, Place, Prefix, laws};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

laws!(
    listings_are_complete_past_a_page,
    listings_are_in_byte_order,
    prefixes_end_at_path_boundaries,
    shallow_listings_show_one_level,
    listings_go_on_where_they_are_told,
    lines_tell_size_and_age,
);

async fn fill(at: &Place, names: &[String]) {
    stream::iter(names.iter().map(|name| at.key(name)).collect::<Vec<Key>>())
        .for_each_concurrent(16, async |key| {
            at.store.put(&key, Payload::from(Bytes::from_static(b"x")), Put::default()).await.unwrap();
        })
        .await;
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

async fn listings_are_complete_past_a_page(at: &Place) {
    let mut names: Vec<String> = (0..1003).map(|n| format!("many/{n:04}")).collect();
    names.extend((0..60).map(|n| format!("dirs/{n}/x")));
    fill(at, &names).await;
    names.sort_unstable();
    assert_eq!(at.names().await, names);
    for limit in [0, 1, 999, 1000, 1001, 5000] {
        let first = at.lines(&at.prefix(), Listing { limit: Some(limit), ..Listing::default() }).await;
        assert!(first.iter().eq(names.iter().take(limit)), "{limit}");
    }
    let shallow = Listing { shallow: true, ..Listing::default() };
    let many = Prefix::below(&at.key("many"));
    assert_eq!(at.lines(&many, shallow).await.len(), 1003);
    // One more than a batch goes at once.
    let keys: Vec<Key> =
        names.iter().filter(|name| name.starts_with("many/")).map(|name| at.key(name)).collect();
    assert!(keys.len() > BATCH);
    at.store.delete(keys.get(..=BATCH).unwrap()).await.unwrap();
    let left: Vec<String> =
        names.iter().filter(|name| !name.starts_with("many/0") && *name != "many/1000").cloned().collect();
    assert_eq!(at.names().await, left);
}

async fn listings_are_in_byte_order(at: &Place) {
    let mut names = owned(&[
        "a/b", "a.b", "a-b", "a b", "a0", "aa", "A", "a/b.c", "ab/c", "ab.c", "a!/x", "a~", "\u{e9}/x",
        "\u{e9}.x", "z", "a.d/x", "a.d.e", "0/1/2/3", "0/1.2", "0/1/2.3",
    ]);
    fill(at, &names).await;
    names.sort_unstable();
    assert_eq!(at.names().await, names);
}

async fn prefixes_end_at_path_boundaries(at: &Place) {
    fill(at, &owned(&["a/x", "a/y/z", "abc", "ab/x", "a.b", "b"])).await;
    let below = |name: &str| Prefix::below(&at.key(name));
    assert_eq!(at.lines(&below("a"), Listing::default()).await, ["a/x", "a/y/z"]);
    assert_eq!(at.lines(&below("a/y"), Listing::default()).await, ["a/y/z"]);
    for nothing in ["b", "a/x", "none", "none/at/all", "a/y/z/w"] {
        assert!(at.lines(&below(nothing), Listing::default()).await.is_empty(), "{nothing}");
    }
}

async fn shallow_listings_show_one_level(at: &Place) {
    fill(at, &owned(&["a.b", "a/x", "a/y/z", "b/c/d/e", "f", "a0"])).await;
    let shallow = Listing { shallow: true, ..Listing::default() };
    assert_eq!(at.lines(&at.prefix(), shallow.clone()).await, ["a.b", "a/", "a0", "b/", "f"]);
    assert_eq!(at.lines(&Prefix::below(&at.key("a")), shallow.clone()).await, ["a/x", "a/y/"]);
    at.store.delete(&[at.key("b/c/d/e")]).await.unwrap();
    assert_eq!(at.lines(&at.prefix(), shallow).await, ["a.b", "a/", "a0", "f"], "no empty places");
}

async fn listings_go_on_where_they_are_told(at: &Place) {
    let names = ["a.b", "a/x", "a/y/z", "a0", "b/c", "b/d", "f"];
    fill(at, &owned(&names)).await;
    for shallow in [false, true] {
        let all = at.lines(&at.prefix(), Listing { shallow, ..Listing::default() }).await;
        // Behind each line, and behind texts that are no line.
        for text in all
            .iter()
            .map(String::as_str)
            .chain(["", "a", "a/", "a/y", "a/y/", "a/y/zz", "b/", "b/cc", "zzz"])
        {
            let after = Some(format!("{}{text}", at.prefix()));
            let rest = at.lines(&at.prefix(), Listing { shallow, after, ..Listing::default() }).await;
            let expected: Vec<&String> = all.iter().filter(|line| line.as_str() > text).collect();
            assert!(rest.iter().eq(expected.iter().copied()), "shallow {shallow}, after {text:?}: {rest:?}");
        }
        for (after, expected) in [("", all.len()), ("\u{10ffff}", 0)] {
            let how = Listing { shallow, after: Some(after.to_owned()), ..Listing::default() };
            assert_eq!(
                at.lines(&at.prefix(), how).await.len(),
                expected,
                "shallow {shallow}, after {after:?}"
            );
        }
    }
}

async fn lines_tell_size_and_age(at: &Place) {
    at.put("x", &Bytes::from_static(b"twelve bytes")).await;
    let lines: Vec<Listed> = at.store.list(&at.prefix(), Listing::default()).try_collect().await.unwrap();
    let head = at.store.head(&at.key("x")).await.unwrap().unwrap();
    let [Listed::Object { key, size: 12, modified }] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(*key, at.key("x"));
    let second = Duration::from_secs(1);
    // One of the two may come without its fraction of a second.
    assert!(*modified < head.modified + second && head.modified < *modified + second);
    let now = SystemTime::now();
    assert!(
        now.duration_since(*modified).unwrap_or_else(|ahead| ahead.duration()) < Duration::from_secs(300)
    );
}
