//! A folder full of distributions, served as it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use larder::domain::Wheels;
use larder::store::key::STAGING;
use serde_json::{Value, json};

use super::curdling::put;
use super::{files, page};
use crate::support::gateway::{Options, TestGateway};
use crate::support::http::{Client, bare, empty, request, with_body};
use crate::support::process::Larder;
use crate::support::python::Distribution;

fn over_a_folder() -> TestGateway {
    let wheels = Wheels { linux_tags: true, folder: true };
    TestGateway::with(Options { wheels, ..Options::default() })
}

/// Lays a file there, as a person would: beside it first, then under its name.
fn drop_into(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let aside = path.with_extension("part");
    fs::write(&aside, bytes).unwrap();
    fs::rename(aside, path).unwrap();
}

/// All files, by their names within the folder; without what is hidden.
fn lying(root: &Path) -> BTreeSet<String> {
    let (mut names, mut places) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(place).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true if path.ends_with(STAGING) => {}
                true => places.push(path),
                false => drop(names.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned())),
            }
        }
    }
    names
}

#[tokio::test]
async fn what_lies_there_is_served_as_it_is() {
    let gateway = over_a_folder();
    let (client, root) = (gateway.client(), gateway.root());
    let wheel = Distribution::pure("Foo.Bar", "1.0");
    let source = Distribution::source("foo-bar", "0.9");
    let deep = Distribution::wheel("deep", "2", "cp27-none-linux_x86_64", b"x");
    drop_into(root, &wheel.filename, &wheel.bytes);
    drop_into(root, &source.filename, &source.bytes);
    drop_into(root, &format!("d/deep/2/{}", deep.filename), &deep.bytes);
    drop_into(root, "old-1.0-py2-none-any.whl", b"no wheel that anybody would take today");
    for other in ["README", "foo-1.0.exe", ".hidden/foo-7.zip"] {
        drop_into(root, other, b"?");
    }
    let before = lying(root);
    let names = client.check(bare("GET", "/api/"), 200).await;
    let names: Value = serde_json::from_slice(&names.body).unwrap();
    assert_eq!(names, json!(["deep", "foo-bar", "old"]));
    let found = client.check(bare("GET", "/api/foo-bar"), 200).await;
    let found: Value = serde_json::from_slice(&found.body).unwrap();
    assert_eq!(found[0]["version"], "1.0");
    assert_eq!(found[0]["urls"][0]["sha256"], wheel.sha256());
    assert_eq!(found[1]["urls"][0]["sha256"], source.sha256());
    for file in [&wheel, &source, &deep] {
        let answer = client.check(bare("GET", &format!("/p/{}", file.filename)), 200).await;
        assert_eq!(answer.body, file.bytes, "{}", file.filename);
        assert_eq!(client.check(bare("GET", &file.path()), 200).await.body, file.bytes);
        let head = client.check(bare("HEAD", &file.path()), 200).await;
        assert_eq!(head.header("content-length"), Some(file.bytes.len().to_string().as_str()));
        let wrong = format!("/files/{}/{}", "0".repeat(64), file.filename);
        client.check(bare("GET", &wrong), 404).await;
    }
    assert_eq!(client.check(bare("GET", "/s/deep"), 200).await.body, deep.bytes);
    let json = page(&client, "/simple/foo-bar/").await;
    assert_eq!(json["files"][0]["requires-python"], ">=3.8");
    let metadata = client.check(bare("GET", &format!("{}.metadata", wheel.path())), 200).await;
    assert_eq!(metadata.body, wheel.metadata);
    // Listed, and nothing said of it that nobody could read.
    let old = page(&client, "/simple/old/").await;
    assert_eq!(
        (old["files"][0]["core-metadata"].clone(), old["files"][0]["size"].clone()),
        (json!(false), json!(38))
    );
    assert_eq!(lying(root), before, "nothing is written beside them");
}

#[tokio::test]
async fn what_is_dropped_there_later_is_seen_and_what_is_taken_away_is_gone() {
    let gateway = over_a_folder();
    let (client, root) = (gateway.client(), gateway.root());
    client.check(bare("GET", "/simple/a/"), 404).await;
    let (one, two) = (Distribution::pure("a", "1"), Distribution::pure("a", "2"));
    drop_into(root, &one.filename, &one.bytes);
    assert_eq!(files(&client, "/simple/a/").await, std::slice::from_ref(&one.filename));
    let tag = client.check(bare("GET", "/simple/a/"), 200).await.header("etag").unwrap().to_owned();
    let again = || request("GET", "/simple/a/").header("if-none-match", &tag).body(empty()).unwrap();
    client.check(again(), 304).await;
    drop_into(root, &two.filename, &two.bytes);
    client.check(again(), 200).await;
    assert_eq!(files(&client, "/simple/a/").await, [one.filename.clone(), two.filename.clone()]);
    // Another file in its place: what is remembered of the old one does not count.
    let other = Distribution::wheel("a", "1", "py3-none-any", b"another one, and longer");
    drop_into(root, &one.filename, &other.bytes);
    let json = page(&client, "/simple/a/").await;
    assert_eq!(json["files"][0]["hashes"]["sha256"], other.sha256());
    client.check(bare("GET", &one.path()), 404).await;
    fs::remove_file(root.join(&one.filename)).unwrap();
    assert_eq!(files(&client, "/simple/a/").await, [two.filename]);
}

/// Metadata are read out of a wheel once, not with each request.
#[tokio::test]
async fn metadata_are_remembered() {
    let gateway = over_a_folder();
    let (client, root) = (gateway.client(), gateway.root());
    let wheel = Distribution::pure("a", "1");
    drop_into(root, &wheel.filename, &wheel.bytes);
    let path = root.join(&wheel.filename);
    let then = SystemTime::now() - Duration::from_secs(60);
    let open = || fs::File::options().write(true).open(&path).unwrap();
    open().set_modified(then).unwrap();
    let asked = format!("{}.metadata", wheel.path());
    let answer = client.check(bare("GET", &asked), 200).await;
    assert_eq!(answer.body, wheel.metadata);
    // Nothing tells it from what was read, so whoever reads it again is found out.
    fs::write(&path, vec![0; wheel.bytes.len()]).unwrap();
    open().set_modified(then).unwrap();
    let answer = client.check(bare("GET", &asked), 200).await;
    assert_eq!(answer.body, wheel.metadata);
    let tag = answer.header("etag").unwrap();
    let again = request("GET", &asked).header("if-none-match", tag).body(empty()).unwrap();
    client.check(again, 304).await;
    client.check(put(&wheel), 200).await;
    client.check(bare("GET", &format!("/files/{}/{}.metadata", "0".repeat(64), wheel.filename)), 404).await;
    open().set_modified(then + Duration::from_secs(1)).unwrap();
    client.check(bare("GET", &asked), 404).await;
}

#[tokio::test]
async fn uploads_are_plain_files() {
    let gateway = over_a_folder();
    let (client, root) = (gateway.client(), gateway.root());
    let (wheel, deep) = (Distribution::pure("a", "1"), Distribution::pure("a", "2"));
    drop_into(root, &format!("sub/{}", deep.filename), &deep.bytes);
    client.check(put(&wheel), 200).await;
    client.check(put(&wheel), 200).await;
    client.check(wheel.upload(), 200).await;
    client.check(put(&deep), 200).await;
    let here = [wheel.filename.clone(), format!("sub/{}", deep.filename)];
    assert_eq!(lying(root), here.iter().cloned().collect());
    assert_eq!(fs::read(root.join(&wheel.filename)).unwrap(), wheel.bytes);
    for file in [
        Distribution::wheel("a", "1", "py3-none-any", b"y"),
        Distribution::wheel("a", "2", "py3-none-any", b"y"),
    ] {
        client.check(put(&file), 409).await;
    }
    client.check(wheel.form().set("version", "7").post("/legacy/"), 400).await;
    let refused = client.check(wheel.form().post("/built/e/legacy/"), 400).await;
    assert!(refused.text().contains("one index"), "{}", refused.text());
    client.check(bare("GET", "/built/e/simple/a/"), 404).await;
    assert_eq!(lying(root), here.into_iter().collect());
    // What is not Python's is not here.
    client.check(with_body("PUT", "/please/abababababababab", "x"), 404).await;
    client.check(bare("DELETE", "/"), 405).await;

    let at = |file: &Distribution| format!("/simple/a/{}", file.filename);
    client.check(with_body("PUT", &format!("{}/yank", at(&deep)), "breaks"), 200).await;
    assert_eq!(page(&client, "/simple/a/").await["files"][1]["yanked"], "breaks");
    client.check(bare("DELETE", &format!("{}/yank", at(&deep))), 200).await;
    assert_eq!(page(&client, "/simple/a/").await["files"][1]["yanked"], false);
    client.check(bare("DELETE", &at(&deep)), 200).await;
    client.check(bare("DELETE", &at(&deep)), 404).await;
    assert_eq!(lying(root), BTreeSet::from([wheel.filename]));
}

#[tokio::test]
async fn of_two_uploads_of_one_name_one_wins() {
    let gateway = over_a_folder();
    let bodies: Vec<_> =
        (0..8).map(|n| Distribution::wheel("a", "1", "py3-none-any", &[b'x'; 9][..n + 1])).collect();
    let answers = bodies.iter().map(|file| {
        let client = gateway.client();
        async move { client.send(put(file)).await.status }
    });
    let answers = futures_util::future::join_all(answers).await;
    let stored = answers.iter().filter(|status| **status == StatusCode::OK).count();
    let refused = answers.iter().filter(|status| **status == StatusCode::CONFLICT).count();
    assert_eq!((stored, refused), (1, 7), "{answers:?}");
    let won = answers.iter().position(|status| *status == StatusCode::OK).unwrap();
    assert_eq!(fs::read(gateway.root().join(&bodies[won].filename)).unwrap(), bodies[won].bytes);
}

#[tokio::test]
async fn curdlings_command_line_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    fs::write(&users, "ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n").unwrap();
    let place = folder.path().join("wheels");
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(["curd-server", "-d", "-H", "localhost", "-p", "0", "-u"]).arg(&users).arg(&place);
    let server = Larder::start({
        command.env_clear().args(["--log-format", "json"]);
        command
    });
    let client = Client::new(server.addr());
    let refused = client.check(bare("GET", "/api/"), 401).await;
    assert_eq!(refused.header("www-authenticate"), Some("Basic realm=\"Login Required\""));
    drop_into(&place, "a-1.zip", &Distribution::source("a", "1").bytes);
    let asked =
        request("GET", "/api/").header("authorization", crate::support::http::basic("ann", "password"));
    assert_eq!(client.check(asked.body(empty()).unwrap(), 200).await.text(), "[\"a\"]");
}
