//! Whatever of an entry is used, by whichever way: all of it is refreshed, what readers go by last, and nothing else.

use futures_util::TryStreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use larder::domain::Reads;
use larder::domain::artifact::EntryKey;
use larder::domain::layout::wheels::{self, Part};
use larder::domain::reads::Selection;
use larder::domain::refresh::Ages;
use larder::domain::units::fetch::Wish;
use larder::domain::wheels::{DistributionFilename, IndexName};
use larder::metrics::Refreshed;
use larder::payload::{Body, Object, Want};
use larder::store::{Key, Put};

use super::{DAY, FILES, Keeper, Yard, add, ages, came, keys, lay, please, please_key, unit};
use crate::faults::rig::HASH;

type Way<O> = (&'static str, for<'a> fn(&'a Reads, &'a O) -> BoxFuture<'a, bool>);

/// Whether it was found; reads it to its end.
async fn read(object: Option<Object>) -> bool {
    match object.map(|object| object.body) {
        Some(Body::Whole(content) | Body::Part { content, .. }) => content.collect().await.is_ok(),
        Some(Body::Unchanged | Body::Unsatisfiable) => true,
        None => false,
    }
}

async fn all(reads: &Reads, selection: Selection) -> bool {
    let Some(mut members) = reads.members(selection).await.unwrap() else { return false };
    while let Some(member) = members.try_next().await.unwrap() {
        member.content.collect().await.unwrap();
    }
    true
}

const OF_ENTRIES: [Way<EntryKey>; 10] = [
    ("GET", |reads, of| {
        async { read(reads.artifact(&of.file("f2").unwrap(), &Want::default()).await.unwrap()).await }.boxed()
    }),
    ("GET of what is in the manifest too", |reads, of| {
        async { read(reads.artifact(&of.file("f1").unwrap(), &Want::default()).await.unwrap()).await }.boxed()
    }),
    ("GET of what the caller has", |reads, of| {
        async {
            let want = Want { unless_any: true, ..Want::default() };
            read(reads.artifact(&of.file("f2").unwrap(), &want).await.unwrap()).await
        }
        .boxed()
    }),
    ("HEAD", |reads, of| {
        async { reads.artifact_meta(&of.file("f2").unwrap()).await.unwrap().is_some() }.boxed()
    }),
    ("HEAD of a directory", |reads, of| {
        async { reads.any(&Selection::Directory(of.file("gen").unwrap())).await.unwrap() }.boxed()
    }),
    ("GET of a directory", |reads, of| all(reads, Selection::Directory(of.file("gen").unwrap())).boxed()),
    ("GET of a glob", |reads, of| all(reads, Selection::Glob(of.clone(), "f?".parse().unwrap())).boxed()),
    ("GET of all", |reads, of| all(reads, Selection::Entry(of.clone())).boxed()),
    ("Retrieve", |reads, of| {
        async { reads.unit(of, &[Wish::All], 1 << 20).await.unwrap().is_some() }.boxed()
    }),
    ("Retrieve of one", |reads, of| {
        async {
            let one = Wish::Name(of.file("f1").unwrap());
            reads.unit(of, &[one], 1 << 20).await.unwrap().is_some()
        }
        .boxed()
    }),
];

/// Entries with a manifest and without: each way of reading refreshes all of it, and of the neighbours nothing.
#[tokio::test]
async fn one_file_is_used_and_the_entry_is_young() {
    for (way, go) in OF_ENTRIES {
        for manifest in [true, false] {
            let yard = Yard::new();
            let of = unit(&yard.store, "used").await;
            if !manifest {
                for file in FILES {
                    lay(&yard.store, &format!("artifact/{of}/{file}"), 100, None).await;
                }
                yard.store.delete(&[format!("artifact/{of}/.larder").parse().unwrap()]).await.unwrap();
            }
            let mine: Vec<String> =
                keys(&of).into_iter().filter(|key| manifest || !key.ends_with(".larder")).collect();
            let beside = unit(&yard.store, "beside").await;
            let below = format!("artifact/{of}/q/u/{HASH}/f0");
            lay(&yard.store, &below, 10, None).await;
            let others = [keys(&beside), vec![below]].concat();
            for key in mine.iter().chain(&others) {
                yard.age(key, DAY * 20);
            }
            let keeper = Keeper::new(&yard.store, ages(DAY * 15));
            assert!(go(&keeper.reads(), &of).await, "{way}: found");
            let counted = keeper.settle().await;
            assert_eq!(came(&counted, Refreshed::Done), 1, "{way}");
            for key in &mine {
                assert!(yard.is_young(key), "{way}: {key}");
            }
            let last = yard.modified(mine.last().unwrap());
            assert!(
                !manifest || mine.iter().all(|key| yard.modified(key) <= last),
                "{way}: the manifest last"
            );
            for key in &others {
                assert!(!yard.is_young(key), "{way}: {key} is another's");
            }
            // Young now: no use refreshes it.
            let again = Keeper::new(&yard.store, ages(DAY * 15));
            assert!(go(&again.reads(), &of).await, "{way}: found again");
            assert_eq!(came(&again.settle().await, Refreshed::Done), 0, "{way}");
        }
    }
}

#[tokio::test]
async fn what_is_not_found_stays_as_old_as_it_is() {
    let yard = Yard::new();
    let of = unit(&yard.store, "partial").await;
    // What a Store that broke off has left: nothing, to whoever reads.
    yard.store.delete(&[format!("artifact/{of}/.larder").parse().unwrap()]).await.unwrap();
    let files: Vec<String> = keys(&of).into_iter().filter(|key| !key.ends_with(".larder")).collect();
    files.iter().for_each(|key| yard.age(key, DAY * 20));
    let keeper = Keeper::new(&yard.store, ages(DAY * 15));
    for (way, go) in OF_ENTRIES {
        assert!(!go(&keeper.reads(), &of).await, "{way}");
    }
    let counted = keeper.settle().await;
    assert_eq!(
        counted.refreshes.get(&larder::metrics::RefreshLabels { outcome: "done" }).map(|c| c.get()),
        None
    );
    assert!(files.iter().all(|key| !yard.is_young(key)));
}

#[tokio::test]
async fn what_is_kept_for_ever_is_never_copied() {
    let yard = Yard::new();
    let of = unit(&yard.store, "kept").await;
    keys(&of).iter().for_each(|key| yard.age(key, DAY * 2000));
    for ages in [Ages::default(), Ages { artifacts: None, ..ages(DAY) }] {
        let keeper = Keeper::new(&yard.store, ages);
        assert!(OF_ENTRIES[0].1(&keeper.reads(), &of).await);
        assert_eq!(came(&keeper.settle().await, Refreshed::Done), 0);
    }
    assert!(keys(&of).iter().all(|key| !yard.is_young(key)));
}

/// A second Store makes the manifest young, which vouches for files that the first one brought.
#[tokio::test]
async fn an_entry_that_grows_is_of_one_age() {
    let yard = Yard::new();
    let of = unit(&yard.store, "grown").await;
    keys(&of).iter().for_each(|key| yard.age(key, DAY * 10));
    let keeper = Keeper::new(&yard.store, ages(DAY * 15));
    let by = larder::domain::manifest::Provenance::now(None, None, None);
    let part = larder::domain::units::Part::File("new".into());
    let parts = vec![(of.file("new").unwrap(), part)];
    keeper.gateway.writes().unit(&of, parts, &by).await.unwrap();
    assert_eq!(came(&keeper.settle().await, Refreshed::Done), 1);
    assert!(keys(&of).iter().all(|key| yard.is_young(key)));
    // Nothing of it is old: nothing to do.
    let keeper = Keeper::new(&yard.store, ages(DAY * 15));
    add(&yard.store, &of, &["f0"]).await;
    let counted = keeper.settle().await;
    assert_eq!((came(&counted, Refreshed::Done), came(&counted, Refreshed::Young)), (0, 0));
}

#[tokio::test]
async fn entries_of_please_are_refreshed_by_each_use() {
    for (n, (want, head)) in [
        (Want::default(), false),
        (Want { unless_any: true, ..Want::default() }, false),
        (Want::default(), true),
    ]
    .into_iter()
    .enumerate()
    {
        let yard = Yard::new();
        lay(&yard.store, &please_key(1), 100, None).await;
        lay(&yard.store, &please_key(2), 100, None).await;
        [1, 2].iter().for_each(|key| yard.age(&please_key(*key), DAY * 20));
        let keeper = Keeper::new(&yard.store, ages(DAY * 15));
        let hash = please(1).parse().unwrap();
        match head {
            true => assert!(keeper.reads().please_meta(&hash).await.unwrap().is_some()),
            false => assert!(read(keeper.reads().please(&hash, &want).await.unwrap()).await),
        }
        assert_eq!(came(&keeper.settle().await, Refreshed::Done), 1, "{n}");
        assert!(yard.is_young(&please_key(1)) && !yard.is_young(&please_key(2)), "{n}");
    }
}

type Wheel = (IndexName, DistributionFilename);

const OF_WHEELS: [Way<Wheel>; 4] = [
    ("GET", |reads, (index, name)| {
        async { read(reads.distribution(index, name, None, &Want::default()).await.unwrap()).await }.boxed()
    }),
    ("HEAD", |reads, (index, name)| {
        async { reads.distribution_meta(index, name, None).await.unwrap().is_some() }.boxed()
    }),
    ("GET of the metadata", |reads, (index, name)| {
        async {
            read(reads.distribution_metadata(index, name, &"0".repeat(64), &Want::default()).await.unwrap())
                .await
        }
        .boxed()
    }),
    ("by its build key", |reads, (index, _)| {
        async { reads.built(index, "ab".repeat(32).parse().unwrap()).await.unwrap().is_some() }.boxed()
    }),
];

#[tokio::test]
async fn a_distribution_is_refreshed_with_all_that_belongs_to_it() {
    let built = IndexName::Built("e".parse().unwrap());
    for (way, go) in OF_WHEELS {
        for index in [built.clone(), IndexName::Shared] {
            let yard = Yard::new();
            let of: Wheel = (index.clone(), "a-1-py3-none-any.whl".parse().unwrap());
            let sha256 = "0".repeat(64);
            let record = format!(
                "{{\"filename\":\"{}\",\"version\":\"1\",\"size\":3,\"sha256\":\"{sha256}\",\
                 \"upload_time\":\"2026-01-01T00:00:00.000000Z\"}}",
                of.1
            );
            let pointer = format!("{{\"filename\":\"{}\",\"sha256\":\"{sha256}\"}}", of.1);
            let build = wheels::build(&index, "ab".repeat(32).parse().unwrap());
            let parts = [Part::Record, Part::Metadata, Part::Content];
            let mine: Vec<Key> = parts.map(|part| wheels::file(&index, &of.1, part)).into();
            let beside = wheels::file(&index, &"a-2-py3-none-any.whl".parse().unwrap(), Part::Content);
            let texts = [record.as_str(), "metadata", "content", "beside", pointer.as_str()];
            for (key, text) in mine.iter().chain([&beside, &build]).zip(texts) {
                let body = bytes::Bytes::copy_from_slice(text.as_bytes());
                yard.store.put(key, body.into(), Put::default()).await.unwrap();
                yard.age(key.as_str(), DAY * 20);
            }
            let keeper = Keeper::new(&yard.store, ages(DAY * 15));
            assert!(go(&keeper.reads(), &of).await, "{way} {index:?}");
            let by_build = way == "by its build key";
            assert_eq!(
                came(&keeper.settle().await, Refreshed::Done),
                1 + u64::from(by_build),
                "{way} {index:?}"
            );
            for key in &mine {
                assert!(yard.is_young(key.as_str()), "{way} {index:?}: {key}");
            }
            let last = yard.modified(mine.last().unwrap().as_str());
            assert!(
                mine.iter().all(|key| yard.modified(key.as_str()) <= last),
                "{way}: readers go by the file"
            );
            assert_eq!(yard.is_young(build.as_str()), by_build, "{way} {index:?}");
            assert!(!yard.is_young(beside.as_str()), "{way} {index:?}");
        }
    }
}
