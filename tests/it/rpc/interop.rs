//! The two protocols over one entry, and what a Store that died has left: nothing that anybody sees.

use larder::domain::artifact::EntryKey;
use larder::domain::layout;
use larder::domain::manifest::Manifest;
use larder::payload::{Body, Want};

use crate::support::gateway::{TestGateway, each};
use crate::support::http::{bare, with_body};
use crate::support::rpc::{At, Rpc, contents};

/// Takes an entry's manifest away, as if its Store had died before it wrote one.
async fn unsay(gateway: &TestGateway, at: &At) {
    gateway.store().await.delete(&[format!("{}/.larder", at.path()).parse().unwrap()]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_protocol_reads_what_the_other_stored() {
    each(async |gateway| {
        let (rpc, http) = (Rpc::new(gateway.addr()), gateway.client());
        let at = At::new("by-rpc", 1);
        let large = vec![7_u8; 200_000];
        let unit = vec![at.file("a", "1"), at.file("gen/b", "22"), at.file("gen/c", large.clone())];
        rpc.store(&at, unit).await.unwrap();
        let path = |name: &str| format!("/{}{name}", at.path());
        assert_eq!(http.check(bare("GET", &path("/a")), 200).await.body, "1");
        assert_eq!(http.check(bare("GET", &path("/gen/c")), 200).await.body, large);
        for name in ["", "/gen", "/gen/*"] {
            let answer = http.check(bare("GET", &path(name)), 200).await;
            assert!(answer.header("content-type").unwrap().starts_with("multipart/"), "{name}");
            assert!(answer.body.len() > 200_000, "{name}");
            http.check(bare("HEAD", &path(name)), 200).await;
        }
        // A link cannot be carried, and less than the whole will not do.
        rpc.store(&at, vec![at.link("gen/l", "b")]).await.unwrap();
        for (name, status) in [("/gen/l", 404), ("/gen", 404), ("", 404), ("/a", 200), ("/gen/b", 200)] {
            http.check(bare("GET", &path(name)), status).await;
            http.check(bare("HEAD", &path(name)), status).await;
        }

        let at = At::new("by-http", 2);
        for (name, body) in [("a", "1"), ("gen/b", "22"), ("gen/c", "333")] {
            http.check(with_body("POST", &format!("/{}/{name}", at.path()), body), 200).await;
        }
        let all = [at.file("a", "1"), at.file("gen/b", "22"), at.file("gen/c", "333")];
        assert_eq!(contents(&rpc.retrieve(&at, &[""]).await.unwrap()), contents(&all));
        assert_eq!(contents(&rpc.retrieve(&at, &["gen"]).await.unwrap()), contents(&all[1..]));
        assert_eq!(
            contents(&rpc.retrieve(&at, &["gen/c", "a"]).await.unwrap()),
            contents(&[all[0].clone(), all[2].clone()])
        );
        assert_eq!(rpc.retrieve(&at, &["a", "nothing"]).await.unwrap(), []);
        http.check(bare("DELETE", "/"), 200).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_without_their_manifest_are_nothing() {
    each(async |gateway| {
        let (rpc, http, at) = (Rpc::new(gateway.addr()), gateway.client(), At::new("dead", 3));
        let unit = vec![at.file("a", "1"), at.file("gen/b", vec![1_u8; 100_000])];
        rpc.store(&at, unit.clone()).await.unwrap();
        unsay(&gateway, &at).await;
        for name in ["", "/a", "/gen", "/gen/b", "/*"] {
            http.check(bare("GET", &format!("/{}{name}", at.path())), 404).await;
            http.check(bare("HEAD", &format!("/{}{name}", at.path())), 404).await;
        }
        for names in [&[""][..], &["a"], &["gen"], &["*"], &["a", "gen/b"]] {
            assert_eq!(rpc.retrieve(&at, names).await.unwrap(), [], "{names:?}");
        }
        // The same Store again makes it whole.
        rpc.store(&at, unit.clone()).await.unwrap();
        assert_eq!(contents(&rpc.retrieve(&at, &[""]).await.unwrap()), contents(&unit));
        http.check(bare("DELETE", "/"), 200).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_in_pieces_is_a_miss() {
    each(async |gateway| {
        let (rpc, at, direct) = (Rpc::new(gateway.addr()), At::new("torn", 4), gateway.store().await);
        let large = vec![1_u8; 100_000];
        let unit = vec![at.file("a", "1"), at.file("b", large.clone())];
        let key = |name: &str| format!("{}/{name}", at.path()).parse().unwrap();
        rpc.store(&at, unit.clone()).await.unwrap();
        // A file that another Store, which died, has written over.
        rpc.store(&at, vec![at.file("b", vec![2_u8; 100_000])]).await.unwrap();
        let manifest = direct.get(&key(".larder"), &Want::default()).await.unwrap().unwrap();
        let Body::Whole(manifest) = manifest.body else { panic!() };
        let manifest = manifest.collect().await.unwrap();
        rpc.store(&at, unit.clone()).await.unwrap();
        direct.put(&key(".larder"), manifest.into(), larder::store::Put::default()).await.unwrap();
        assert_eq!(rpc.retrieve(&at, &[""]).await.unwrap(), []);
        assert_eq!(rpc.retrieve(&at, &["a"]).await.unwrap().len(), 1, "what is wanted is whole");
        gateway.client().check(bare("GET", &format!("/{}/b", at.path())), 404).await;
        // A file that is gone.
        rpc.store(&at, unit.clone()).await.unwrap();
        direct.delete(&[key("b")]).await.unwrap();
        assert_eq!(rpc.retrieve(&at, &[""]).await.unwrap(), []);
        rpc.store(&at, unit.clone()).await.unwrap();
        assert_eq!(contents(&rpc.retrieve(&at, &[""]).await.unwrap()), contents(&unit));
        // A manifest that cannot be read is no miss.
        gateway.plant(&format!("{}/.larder", at.path()), b"{}").await;
        assert_eq!(rpc.retrieve(&at, &["a"]).await.unwrap_err().code, crate::support::rpc::UNAVAILABLE);
        gateway.client().check(bare("DELETE", "/"), 200).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifest_tells_who_and_when() {
    let gateway = TestGateway::start();
    let (rpc, at) = (Rpc::new(gateway.addr()), At::new("told", 5));
    rpc.store(&at, vec![at.file("a", "1"), at.link("l", "a")]).await.unwrap();
    let text = std::fs::read_to_string(gateway.root().join(at.path()).join(".larder")).unwrap();
    let entry: EntryKey = at.path().strip_prefix("artifact/").unwrap().parse().unwrap();
    assert_eq!(layout::manifest(&entry).as_str(), format!("{}/.larder", at.path()));
    assert_eq!(Manifest::parse(&entry, text.as_bytes()).unwrap().items().count(), 2);
    let read: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(read["version"], 1);
    assert_eq!(read["stored"][0]["host"], "ci-7");
    assert_eq!(read["stored"][0]["from"], "127.0.0.1");
    assert!(read["stored"][0]["at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(read["files"][0]["path"], "a");
    assert_eq!(read["files"][0]["size"], 1);
    assert_eq!(
        read["files"][0]["sha256"],
        "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    );
    assert_eq!(read["files"][0]["inline"], "MQ==");
    assert_eq!(read["files"][1]["symlink"], "a");
}
