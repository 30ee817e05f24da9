//! Pages and files: what they say, in which form, and that they are never behind.

use std::time::{Duration, SystemTime};

use super::{JSON, files, page};
use crate::support::gateway::{Options, TestGateway, eventually};
use crate::support::http::{Client, bare, empty, request, with_body};
use crate::support::python::Distribution;

fn with(method: &str, path: &str, header: (&str, &str)) -> http::Request<crate::support::http::Body> {
    request(method, path).header(header.0, header.1).body(empty()).unwrap()
}

#[tokio::test]
async fn a_page_says_what_installers_need() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        let wheel = Distribution::wheel("Foo.Bar_baz", "1.10+cu12", "py3-none-any", b"x");
        let source = Distribution::source("Foo.Bar_baz", "1.9");
        for file in [&wheel, &source] {
            client.check(file.upload(), 200).await;
        }
        let json = page(&client, "/simple/foo-bar-baz/").await;
        assert_eq!(json["meta"]["api-version"], "1.1");
        assert_eq!(json["name"], "foo-bar-baz");
        assert_eq!(json["versions"], serde_json::json!(["1.9", "1.10+cu12"]));
        let (first, second) = (&json["files"][1], &json["files"][0]);
        assert_eq!(
            (&first["filename"], &second["filename"]),
            (&wheel.filename.clone().into(), &source.filename.clone().into())
        );
        assert_eq!(first["size"], wheel.bytes.len());
        assert_eq!(first["requires-python"], ">=3.8");
        assert_eq!(first["yanked"], false);
        assert_eq!(second["core-metadata"], false);
        assert!(second.get("requires-python").is_none());
        let time = first["upload-time"].as_str().unwrap();
        assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
        let url = first["url"].as_str().unwrap();
        assert_eq!(url, format!("../..{}", wheel.path().replace('+', "%2B")));
        // As clients ask: escaped and not, the sidecar beside it.
        for path in [wheel.path(), wheel.path().replace('+', "%2B")] {
            assert_eq!(client.check(bare("GET", &path), 200).await.body, wheel.bytes);
            let metadata = client.check(bare("GET", &format!("{path}.metadata")), 200).await;
            assert_eq!(metadata.body, wheel.metadata);
        }
        let digest = {
            use sha2::Digest as _;
            crate::support::python::hex(&sha2::Sha256::digest(&wheel.metadata))
        };
        assert_eq!(first["core-metadata"]["sha256"], digest);
        let html =
            client.check(with("GET", "/simple/foo-bar-baz/", ("accept", "text/html")), 200).await.text();
        for part in [
            format!("href=\"{url}#sha256={}\"", wheel.sha256()),
            "data-requires-python=\"&gt;=3.8\"".to_owned(),
            format!("data-core-metadata=\"sha256={digest}\""),
            format!(">{}</a>", wheel.filename),
        ] {
            assert!(html.contains(&part), "{part} in {html}");
        }
        client.check(bare("GET", &format!("{}.metadata", source.path())), 404).await;
        let root = page(&client, "/simple/").await;
        assert_eq!(root["projects"], serde_json::json!([{ "name": "foo-bar-baz" }]));
        assert!(
            client.check(bare("GET", "/simple/"), 200).await.text().contains("<a href=\"foo-bar-baz/\">")
        );
    }
}

#[tokio::test]
async fn every_form_has_a_validator_of_its_own() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    client.check(Distribution::pure("a", "1").upload(), 200).await;
    for path in ["/simple/", "/simple/a/"] {
        let mut tags = Vec::new();
        for (accept, kind) in [
            (JSON, JSON),
            ("application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.v1+html; charset=utf-8"),
            ("text/html", "text/html; charset=utf-8"),
        ] {
            for method in ["GET", "HEAD"] {
                let answer = client.check(with(method, path, ("accept", accept)), 200).await;
                assert_eq!(answer.header("content-type"), Some(kind));
                assert_eq!(answer.header("vary"), Some("Accept"));
                assert_eq!(answer.header("cache-control"), Some("no-cache"));
                let tag = answer.header("etag").unwrap().to_owned();
                let again = request(method, path).header("accept", accept).header("if-none-match", &tag);
                let same = client.check(again.body(empty()).unwrap(), 304).await;
                assert_eq!((same.header("etag"), same.header("vary")), (Some(tag.as_str()), Some("Accept")));
                tags.push(tag);
            }
        }
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 3, "{path}");
        let none = client.check(with("GET", path, ("accept", "image/png")), 406).await;
        assert_eq!(none.header("vary"), Some("Accept"));
    }
}

#[tokio::test]
async fn names_have_one_address() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    client.check(Distribution::pure("foo-bar", "1").upload(), 200).await;
    for (path, to) in [
        ("/simple", "simple/"),
        ("/simple/foo-bar", "foo-bar/"),
        ("/simple/Foo.Bar", "foo-bar/"),
        ("/simple/Foo.Bar/", "../foo-bar/"),
        ("/simple/foo_bar/", "../foo-bar/"),
        ("/built/e/simple/Foo/", "../foo/"),
    ] {
        assert_eq!(client.check(bare("GET", path), 301).await.header("location"), Some(to), "{path}");
    }
    for path in [
        "/simple/absent/",
        "/simple/-/",
        "/simple/a%20b/",
        "/built/UPPER/simple/a/",
        "/files/x/foo_bar-1-py3-none-any.whl",
    ] {
        client.check(bare("GET", path), 404).await;
    }
    for path in ["/simple/%2e%2e/", "/simple/a%2fb/", "/simple//"] {
        client.check(bare("GET", path), 400).await;
    }
    client.check(with_body("POST", "/simple/foo-bar/", "x"), 405).await;
    // Where hatch looks before it uploads. Were the name found there, it would take other bytes for the same.
    client.check(bare("GET", "/legacy/%2Bsimple/foo-bar/"), 404).await;
}

#[tokio::test]
async fn files_are_read_in_parts_and_kept_for_good() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let file = Distribution::wheel("a", "1", "py3-none-any", &vec![9; 100_000]);
        gateway.client().check(file.upload(), 200).await;
        for client in [gateway.client(), Client::h2(gateway.addr())] {
            let head = client.check(bare("HEAD", &file.path()), 200).await;
            assert_eq!(head.header("content-length"), Some(file.bytes.len().to_string().as_str()));
            assert_eq!(head.header("accept-ranges"), Some("bytes"));
            assert_eq!(head.header("cache-control"), Some("max-age=365000000, immutable"));
            let tag = head.header("etag").unwrap();
            for (range, part) in
                [("bytes=-100", file.bytes.len() - 100..file.bytes.len()), ("bytes=10-19", 10..20)]
            {
                let asked = request("GET", &file.path()).header("range", range).header("if-range", tag);
                let answer = client.check(asked.body(empty()).unwrap(), 206).await;
                assert_eq!(answer.body, file.bytes[part], "{range}");
            }
            client.check(with("GET", &file.path(), ("if-none-match", tag)), 304).await;
            let head = client.check(bare("HEAD", &format!("{}.metadata", file.path())), 200).await;
            assert_eq!(head.header("content-length"), Some(file.metadata.len().to_string().as_str()));
        }
    }
}

#[tokio::test]
async fn a_change_is_seen_at_once() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        let all: Vec<Distribution> = (0..5).map(|n| Distribution::pure("a", &format!("1.{n}"))).collect();
        for (n, file) in all.iter().enumerate() {
            client.check(file.upload(), 200).await;
            assert_eq!(files(&client, "/simple/a/").await.len(), n + 1);
            assert_eq!(files(&client, "/simple/a/").await.len(), n + 1);
        }
        let one = format!("/simple/a/{}", all[1].filename);
        client.check(with_body("PUT", &format!("{one}/yank"), "does <not> work"), 200).await;
        let yanked = async || page(&client, "/simple/a/").await["files"][1]["yanked"].clone();
        assert_eq!(yanked().await, "does <not> work");
        let html = client.check(bare("GET", "/simple/a/"), 200).await.text();
        assert!(html.contains("data-yanked=\"does &lt;not&gt; work\""), "{html}");
        client.check(bare("DELETE", &format!("{one}/yank")), 200).await;
        assert_eq!(yanked().await, false);
        client.check(with_body("PUT", &format!("{one}/yank"), ""), 200).await;
        assert_eq!(yanked().await, true);
        client.check(bare("DELETE", &one), 200).await;
        client.check(bare("DELETE", &one), 404).await;
        assert_eq!(files(&client, "/simple/a/").await.len(), 4);
        client.check(bare("GET", &all[1].path()), 404).await;
        client.check(with_body("PUT", &format!("{one}/yank"), "x"), 404).await;
        client.check(bare("DELETE", "/simple/b/a-1.0-py3-none-any.whl"), 404).await;
        // A name that was deleted may be used again, for other bytes too: the page says so.
        let other = Distribution::wheel("a", "1.1", "py3-none-any", b"other");
        client.check(other.upload(), 200).await;
        let shown = page(&client, "/simple/a/").await["files"][1]["hashes"]["sha256"].clone();
        assert_eq!(shown, other.sha256());
        assert_eq!(client.check(bare("GET", &other.path()), 200).await.body, other.bytes);
        client.check(bare("GET", &all[1].path()), 404).await;
    }
}

/// Snapshots save time; what they hold is never believed against the records.
#[tokio::test]
async fn snapshots_that_are_lost_or_wrong_do_no_harm() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        client.check(Distribution::pure("a", "1").upload(), 200).await;
        let before = page(&client, "/simple/a/").await;
        let key = "wheels/shared/a/.snapshot";
        // Not at once where times are told by the second.
        eventually("a snapshot is left", async || {
            assert_eq!(page(&client, "/simple/a/").await, before);
            gateway.keys().await.contains(&key.to_owned())
        })
        .await;
        for damage in [b"".as_slice(), b"{", b"[]", b"{\"fingerprint\":\"\",\"files\":[]}"] {
            gateway.plant(key, damage).await;
            assert_eq!(page(&client, "/simple/a/").await, before);
        }
        gateway.store().await.delete(&[key.parse().unwrap()]).await.unwrap();
        assert_eq!(page(&client, "/simple/a/").await, before);
        client.check(Distribution::pure("a", "2").upload(), 200).await;
        assert_eq!(files(&client, "/simple/a/").await.len(), 2);
    }
}

/// A file under the same name could have the same time: a page of such times is made anew until they tell.
#[tokio::test]
async fn a_snapshot_is_not_left_of_times_that_tell_nothing_yet() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    client.check(Distribution::pure("a", "1").upload(), 200).await;
    let key = "wheels/shared/a/.records/a-1-py3-none-any.whl.json";
    let path = gateway.root().join(key);
    let text = std::fs::read_to_string(&path).unwrap();
    let (key, store) = (key.parse().unwrap(), gateway.store().await);
    let stamp = async |text: &str, seconds: u64| {
        let bytes = bytes::Bytes::from(text.to_owned());
        store.put(&key, bytes.into(), larder::store::Put::default()).await.unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    let left = async || gateway.keys().await.contains(&"wheels/shared/a/.snapshot".to_owned());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    for (seconds, settled) in [(now + 600, false), (now - 600, true)] {
        stamp(&text, seconds).await;
        assert_eq!(files(&client, "/simple/a/").await.len(), 1);
        assert_eq!(left().await, settled);
    }
    // Nor is anything remembered of such times.
    for requires in [">=3.8", ">=3.9"] {
        stamp(&text.replace(">=3.8", requires), now + 600).await;
        let shown = page(&client, "/simple/a/").await;
        assert_eq!(shown["files"][0]["requires-python"], requires);
    }
}

/// A record that is none costs its own line, and not the snapshot of the page.
#[tokio::test]
async fn a_damaged_record_keeps_no_page_from_being_left() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        client.check(Distribution::pure("a", "1").upload(), 200).await;
        gateway.plant("wheels/shared/a/.records/a-2-py3-none-any.whl.json", b"{}").await;
        eventually("a snapshot is left", async || {
            assert_eq!(files(&client, "/simple/a/").await, ["a-1-py3-none-any.whl"]);
            gateway.keys().await.contains(&"wheels/shared/a/.snapshot".to_owned())
        })
        .await;
    }
}

/// An address holds a digest, and for good: what is under it has that digest, also where nothing is noted beside it.
#[tokio::test]
async fn no_address_lies() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        let (marked, plain) = (Distribution::pure("a", "1"), Distribution::pure("a", "2"));
        client.check(marked.upload(), 200).await;
        client.check(plain.form().without("sha256_digest").post("/legacy/"), 200).await;
        let old = Distribution::pure("a", "3");
        client.check(old.upload(), 200).await;
        // As it was written before metadata were marked.
        let bytes = bytes::Bytes::from(old.metadata.clone());
        let key = format!("wheels/shared/a/{}.metadata", old.filename).parse().unwrap();
        gateway.store().await.put(&key, bytes.into(), larder::store::Put::default()).await.unwrap();
        for file in [&marked, &plain, &old] {
            for end in ["", ".metadata"] {
                let (right, wrong) = (file.path(), format!("/files/{}/{}", "0".repeat(64), file.filename));
                for method in ["GET", "HEAD"] {
                    client.check(bare(method, &format!("{right}{end}")), 200).await;
                    client.check(bare(method, &format!("{wrong}{end}")), 404).await;
                }
            }
        }
    }
}
