//! Uploads: what is taken, what is refused and what its sender is told, and who wins where several want one name.

use futures_util::future::join_all;
use http::StatusCode;
use larder::metrics::RequestLabels;

use super::{files, page};
use crate::support::gateway::{Options, TestGateway, eventually};
use crate::support::http::{Client, bare, broken, empty, request};
use crate::support::python::{Distribution, Field, Form, members};

fn places(of: &Distribution, index: &str, project: &str) -> Vec<String> {
    let mut keys = vec![
        format!("wheels/{index}/{project}/.records/{}.json", of.filename),
        format!("wheels/{index}/{project}/{}", of.filename),
    ];
    if of.filename.ends_with(".whl") {
        keys.push(format!("wheels/{index}/{project}/{}.metadata", of.filename));
    }
    keys
}

async fn holds(gateway: &TestGateway, expected: &[String]) {
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    gateway.holds(&expected).await;
}

#[tokio::test]
async fn a_file_is_there_once_and_stays_what_it_is() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        let first = Distribution::pure("Foo.Bar", "1.0");
        let other = Distribution::wheel("Foo.Bar", "1.0", "py3-none-any", b"other");
        assert_eq!(client.check(first.upload(), 200).await.text(), "stored\n");
        holds(&gateway, &places(&first, "shared", "foo-bar")).await;
        assert_eq!(client.check(first.upload(), 200).await.text(), "the same file was there\n");
        let refused = client.check(other.upload(), 400).await;
        assert!(refused.text().starts_with("File already exists ("), "{}", refused.text());
        assert_eq!(client.check(bare("GET", &first.path()), 200).await.body, first.bytes);
        client.check(bare("GET", &other.path()), 404).await;
        holds(&gateway, &places(&first, "shared", "foo-bar")).await;
    }
}

/// Large ones go another way: in parts, and a store that has the name need not take them at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_files_go_the_same_way() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        let large = |byte: u8| Distribution::wheel("big", "1", "py3-none-any", &vec![byte; 20 << 20]);
        let (first, other) = (large(1), large(2));
        client.check(first.form().without("sha256_digest").post("/legacy/"), 200).await;
        client.check(first.upload(), 200).await;
        let refused = client.check(other.upload(), 400).await;
        assert!(refused.text().starts_with("File already exists ("), "{}", refused.text());
        assert_eq!(client.check(bare("GET", &first.path()), 200).await.body, first.bytes);
        holds(&gateway, &places(&first, "shared", "big")).await;
    }
}

#[tokio::test]
async fn fields_come_in_any_order() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let count = Distribution::pure("a", "1").form().fields.len();
    for turn in 0..count {
        let file = Distribution::pure("turned", &format!("1.{turn}"));
        let mut form = file.form();
        form.fields.rotate_left(turn);
        client.check(form.post("/legacy/"), 200).await;
        let mut wrong =
            Distribution::pure("turned", &format!("2.{turn}")).form().set("sha256_digest", &"0".repeat(64));
        wrong.fields.rotate_left(turn);
        let answer = client.check(wrong.post("/legacy/"), 400).await;
        assert_eq!(answer.text(), "the sha256_digest that was sent does not agree with the file\n");
    }
    assert_eq!(files(&client, "/simple/turned/").await.len(), count);
}

#[tokio::test]
async fn every_digest_is_checked() {
    use md5::{Digest as _, Md5};
    let gateway = TestGateway::start();
    let file = Distribution::pure("digests", "1");
    let md5 = crate::support::python::hex(&Md5::digest(&file.bytes));
    let blake =
        crate::support::python::hex(&blake2::Blake2b::<blake2::digest::consts::U32>::digest(&file.bytes));
    for (field, right) in
        [("md5_digest", md5), ("blake2_256_digest", blake), ("sha256_digest", file.sha256())]
    {
        let wrong = right.replace(&right[..1], if right.starts_with('0') { "1" } else { "0" });
        for (value, status) in
            [(wrong, 400), ("zz".to_owned(), 400), (right.to_uppercase(), 200), (right, 200)]
        {
            let form = file.form().without("sha256_digest").set(field, &value);
            gateway.client().check(form.post("/legacy/"), status).await;
        }
    }
}

#[tokio::test]
async fn a_form_that_is_not_good_is_refused_and_leaves_nothing() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let file = Distribution::pure("a", "1");
    let form = || file.form();
    let renamed = |name: &str| {
        let mut form = form().without("content").without("sha256_digest");
        form.file("content", name, &file.bytes);
        form
    };
    let mut two = form();
    two.file("content", &file.filename, &file.bytes);
    let mut strange = form();
    strange.file("picture", "a.png", b"x");
    let mut no_name = form();
    no_name.fields.push(Field { name: "name".to_owned(), filename: None, value: vec![0xff] });
    for (form, why) in [
        (two, "more than one file"),
        (strange, "more than one file"),
        (no_name, "not UTF-8"),
        (form().without("content"), "no file \"content\""),
        (form().without("name"), "no field name"),
        (form().without("version"), "no field version"),
        (form().set("name", "b"), "the name that was sent"),
        (form().set("name", "-"), "no project's name"),
        (form().set("version", "2"), "the version that was sent"),
        (form().set("version", "x y"), "PEP 440"),
        (form().set("filetype", "sdist"), "the filetype that was sent"),
        (form().set("filetype", "bdist_egg"), "neither sdist nor bdist_wheel"),
        (form().set(":action", "doc_upload"), "not file_upload"),
        (form().add("name", "b"), "disagree"),
        (form().add("name", &"n".repeat(5000)), "larger than 4 KiB"),
        (form().add("description", &"d".repeat(9 << 20)), "larger than 8 MiB"),
        (renamed("../a-1-py3-none-any.whl"), "no distribution's"),
        (renamed("a/b-1-py3-none-any.whl"), "no distribution's"),
        (renamed("a-1.exe"), "no distribution's"),
        (renamed("a-1-py3-none.whl"), "no wheel's"),
        (renamed("b-1-py3-none-any.whl"), "the name that was sent"),
        (renamed("a-1-py2-none-any.whl"), "has the tag py2-none-any"),
        (renamed("a-1.zip"), "the filetype that was sent"),
    ] {
        let answer = client.check(form.post("/legacy/"), 400).await;
        assert!(answer.text().contains(why), "{why}: {}", answer.text());
        assert_eq!(answer.text().lines().count(), 1, "{why}");
    }
    let said = |body: Vec<u8>, kind: &str| {
        request("POST", "/legacy/")
            .header("content-type", kind)
            .body(crate::support::http::full(body))
            .unwrap()
    };
    client.check(said(form().bytes(), "text/plain"), 400).await;
    client.check(said(form().bytes(), "multipart/form-data"), 400).await;
    client.check(said(b"nonsense".to_vec(), &Form::kind()), 400).await;
    for length in [100 << 10, 3 << 20] {
        let mut endless = b"--0123456789abcdef\r\nX: ".to_vec();
        endless.resize(length, b'x');
        let answer = client.check(said(endless, &Form::kind()), 400).await;
        assert!(answer.text().contains("head does not end"), "{}", answer.text());
    }
    client
        .check(said(form().bytes(), &format!("multipart/form-data; boundary={}", "b".repeat(71))), 400)
        .await;
    client.check(said(Vec::new(), &Form::kind()), 400).await;
    client.check(request("GET", "/legacy/").body(empty()).unwrap(), 405).await;
    // Of old, and without effect.
    client.check(Form::default().add(":action", "verify").post("/legacy/"), 200).await;
    gateway.holds(&[]).await;
}

#[tokio::test]
async fn a_file_that_is_not_what_it_says_is_refused_and_leaves_nothing() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        let tag = "py3-none-any";
        let all = || members("a", "1", tag, b"x");
        let without =
            |end: &str| all().into_iter().filter(|(name, _)| !name.ends_with(end)).collect::<Vec<_>>();
        let with = |name: &str, bytes: Vec<u8>| [all(), vec![(name.to_owned(), bytes)]].concat();
        let other = |name: &str, version: &str| members(name, version, tag, b"x");
        let large = with("a-1.dist-info/METADATA", vec![b'x'; 5 << 20]).split_off(2);
        for (members, why) in [
            (without("/METADATA"), "no METADATA"),
            (without("/RECORD"), "no RECORD"),
            (without("/WHEEL"), "no WHEEL"),
            (with("b-1.dist-info/entry_points.txt", Vec::new()), "more than one directory of metadata"),
            (with("a/__init__.py", Vec::new()), "two members of one name"),
            (with("/etc/passwd", Vec::new()), "leads upwards"),
            (with("a/../../x", Vec::new()), "leads upwards"),
            (with("a-1.dist-info/METADATA", Vec::new()), "more than one METADATA"),
            (with("b-1.dist-info/METADATA", Vec::new()), "more than one METADATA"),
            (large, "METADATA in the archive is larger than 2 MiB"),
            (other("b", "1"), "does not agree with the file name"),
            (other("a", "2"), "does not agree with the file name"),
        ] {
            let file = Distribution::of_members("a", "1", tag, &members);
            let answer = client.check(file.upload(), 400).await;
            assert!(answer.text().contains(why), "{why}: {}", answer.text());
        }
        let mut cut = Distribution::pure("a", "1");
        cut.bytes.truncate(cut.bytes.len() - 1);
        assert!(client.check(cut.upload(), 400).await.text().contains("cut off"));
        let mut text = Distribution::pure("a", "1");
        text.bytes = b"no zip".to_vec();
        assert!(client.check(text.upload(), 400).await.text().contains("no zip archive"));
        text.bytes = Vec::new();
        client.check(text.upload(), 400).await;
        gateway.holds(&[]).await;
    }
}

/// Before the file, behind it, or some here and some there.
#[tokio::test]
async fn digests_are_checked_wherever_they_stand() {
    use md5::{Digest as _, Md5};
    let gateway = TestGateway::start();
    let file = Distribution::pure("sides", "1");
    let md5 = crate::support::python::hex(&Md5::digest(&file.bytes));
    let behind = |form: Form, name: &str, value: &str| {
        let mut form = form;
        form.fields.push(Field { name: name.to_owned(), filename: None, value: value.into() });
        form
    };
    let none = || file.form().without("sha256_digest");
    for (form, why) in [
        (behind(file.form(), "md5_digest", &"0".repeat(32)), "the md5_digest that was sent"),
        (behind(file.form(), "blake2_256_digest", &"0".repeat(64)), "the blake2_256_digest that was sent"),
        (behind(none(), "md5_digest", &"0".repeat(32)), "the md5_digest that was sent"),
        (behind(none(), "blake2_256_digest", &"0".repeat(64)), "the blake2_256_digest that was sent"),
        (behind(none(), "sha256_digest", &"0".repeat(64)), "the sha256_digest that was sent"),
    ] {
        let answer = gateway.client().check(form.post("/legacy/"), 400).await;
        assert!(answer.text().contains(why), "{why}: {}", answer.text());
    }
    gateway.holds(&[]).await;
    let all = behind(behind(none(), "md5_digest", &md5), "sha256_digest", &file.sha256());
    gateway.client().check(all.post("/legacy/"), 200).await;
    gateway.client().check(behind(file.form(), "md5_digest", &md5).post("/legacy/"), 200).await;
}

/// What a header declares of the whole body holds for a form too, whether or not its length is known before.
#[tokio::test]
async fn the_digest_of_a_form_is_checked() {
    use base64::Engine as _;
    use sha2::{Digest as _, Sha256};
    let gateway = TestGateway::start();
    let form = Distribution::pure("a", "1").form().bytes();
    for (of, status) in [(&b"another"[..], 400), (&form[..], 200)] {
        let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(of));
        for length in [true, false] {
            let body = match length {
                true => crate::support::http::full(form.clone()),
                false => crate::support::http::chunked([bytes::Bytes::from(form.clone())]),
            };
            let asked = request("POST", "/legacy/")
                .header("content-type", Form::kind())
                .header("content-digest", format!("sha-256=:{digest}:"));
            gateway.client().check(asked.body(body).unwrap(), status).await;
        }
        if status == 400 {
            gateway.holds(&[]).await;
        }
    }
}

/// A file that was deleted while it was uploaded may leave its record behind, which names what nobody can have.
#[tokio::test]
async fn a_record_without_bytes_makes_room_for_the_next_upload() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let (client, store) = (gateway.client(), gateway.store().await);
        let first = Distribution::pure("a", "1");
        let other = Distribution::wheel("a", "1", "py3-none-any", b"other");
        let keys = places(&first, "shared", "a");
        for (next, metadata) in [(&other, false), (&first, true), (&first, false)] {
            client.check(first.upload(), 200).await;
            let gone = if metadata { &keys[1..2] } else { &keys[1..] };
            let gone: Vec<larder::store::Key> = gone.iter().map(|key| key.parse().unwrap()).collect();
            store.delete(&gone).await.unwrap();
            assert_eq!(files(&client, "/simple/a/").await, std::slice::from_ref(&first.filename));
            client.check(next.upload(), 200).await;
            let shown = page(&client, "/simple/a/").await;
            assert_eq!(shown["files"][0]["hashes"]["sha256"], next.sha256(), "on {}", gateway.name);
            assert_eq!(client.check(bare("GET", &next.path()), 200).await.body, next.bytes);
            let metadata = client.check(bare("GET", &format!("{}.metadata", next.path())), 200).await;
            assert_eq!(metadata.body, next.metadata);
            client.check(bare("DELETE", &format!("/simple/a/{}", first.filename)), 200).await;
        }
    }
}

/// Refused however large it is, and its sender gets to read why: the rest of its body is taken first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_early_reads_why() {
    let gateway = TestGateway::start();
    let mut file = Distribution::wheel("a", "1", "py3-none-any", &vec![7; 30 << 20]);
    file.bytes[0] = b'X';
    let answer = gateway.client().check(file.upload(), 400).await;
    assert!(answer.text().contains("no zip archive"), "{}", answer.text());
    let linux = Distribution::wheel("a", "1", "cp39-cp39-linux_x86_64", &vec![7; 30 << 20]);
    gateway.client().check(linux.upload(), 400).await;
    // Of a form that is none, too.
    let mut broken = file.form().bytes();
    broken.splice(0..0, *b"--0123456789abcdef\r\n\r\nno name\r\n");
    for (method, path) in [("POST", "/legacy/"), ("PUT", "/p/a-1-py3-none-any.whl")] {
        let asked = request(method, path).header("content-type", Form::kind());
        let body = crate::support::http::full(broken.clone());
        let answer = gateway.client().check(asked.body(body).unwrap(), 400).await;
        assert!(answer.text().contains("the form"), "{}", answer.text());
    }
    gateway.holds(&[]).await;
}

#[tokio::test]
async fn linux_wheels_stay_in_their_environment() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let built = |tag: &str| Distribution::wheel("a", "1", tag, b"x");
    let linux = built("cp312-cp312-linux_x86_64");
    let refused = client.check(linux.upload(), 400).await.text();
    assert!(refused.contains("linux_x86_64") && refused.contains("/built/"), "{refused}");
    for tag in [
        "cp312-cp312-manylinux_2_17_x86_64",
        "py3-none-any",
        "cp312-cp312-musllinux_1_2_x86_64",
        "cp312-cp312-win_amd64",
    ] {
        client.check(built(tag).upload(), 200).await;
    }
    client.check(linux.form().post("/built/cp312-debian12/legacy/"), 200).await;
    client.check(linux.form().post("/built/Not%20one/legacy/"), 400).await;
    assert_eq!(
        files(&client, "/built/cp312-debian12/simple/a/").await,
        std::slice::from_ref(&linux.filename)
    );
    assert_eq!(files(&client, "/simple/a/").await.len(), 4);
    client.check(bare("GET", "/built/other/simple/a/"), 404).await;
    client.check(bare("GET", &format!("/built/cp312-debian12{}", linux.path())), 200).await;
    client.check(bare("GET", &linux.path()), 404).await;
    holds_built(&gateway, &linux).await;
}

async fn holds_built(gateway: &TestGateway, linux: &Distribution) {
    let keys = gateway.keys().await;
    for key in places(linux, "built/cp312-debian12", "a") {
        assert!(keys.contains(&key), "{key}");
    }
}

/// Clients show their users the status line, or the body, or a problem document.
#[tokio::test]
async fn a_refusal_is_said_wherever_it_may_be_read() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    client.check(Distribution::pure("a", "1").upload(), 200).await;
    let other = Distribution::wheel("a", "1", "py3-none-any", b"other").form();
    let body = other.bytes();
    let head = format!(
        "POST /legacy/ HTTP/1.1\r\nhost: larder\r\nconnection: close\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n",
        Form::kind(),
        body.len()
    );
    let answer = client.raw(&[head.as_bytes(), &body].concat()).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        answer.starts_with("HTTP/1.1 400 File already exists (a-1-py3-none-any.whl), with other"),
        "{answer}"
    );
    let asked = request("POST", "/legacy/")
        .header("content-type", Form::kind())
        .header("accept", "application/problem+json");
    let answer = client.check(asked.body(crate::support::http::full(other.bytes())).unwrap(), 400).await;
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["status"], 400);
    assert!(problem["detail"].as_str().unwrap().starts_with("File already exists ("));
    Client::h2(gateway.addr()).check(other.post("/legacy/"), 400).await;
}

#[tokio::test]
async fn an_upload_that_dies_midway_leaves_nothing() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let file = Distribution::wheel("a", "1", "py3-none-any", &vec![3; 200_000]);
        let whole = file.form().bytes();
        for sent in [10, 700, 100_000, whole.len() - 10] {
            let body = broken([bytes::Bytes::copy_from_slice(&whole[..sent])]);
            let asked = request("POST", "/legacy/")
                .header("content-type", Form::kind())
                .header("content-length", whole.len())
                .body(body)
                .unwrap();
            assert!(gateway.client().try_send(asked).await.is_err(), "{sent}");
        }
        // The client knows before the gateway does.
        let over = |outcome| gateway.counted(&RequestLabels { protocol: "legacy", verb: "post", outcome });
        let all = || ["broken", "invalid", "failed", "ok"].into_iter().map(over).sum::<u64>();
        eventually("the gateway notices that they are over", async || all() == 4).await;
        gateway.holds(&[]).await;
        gateway.client().check(file.upload(), 200).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_writers_of_one_name_one_wins() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        for round in 0..4 {
            let version = format!("1.{round}");
            let all: Vec<Distribution> = (0..8_u8)
                .map(|who| Distribution::wheel("race", &version, "py3-none-any", &[who; 100]))
                .collect();
            let client = gateway.client();
            let answers = join_all(all.iter().map(|file| client.send(file.upload()))).await;
            let (mut won, mut lost) = (Vec::new(), 0);
            for (file, answer) in all.iter().zip(&answers) {
                match answer.status {
                    StatusCode::OK => won.push(file),
                    _ => {
                        lost += 1;
                        let said = answer.text();
                        assert!(answer.status == 400 && said.starts_with("File already exists ("), "{said}");
                    }
                }
            }
            assert_eq!((won.len(), lost), (1, 7), "on {}", gateway.name);
            assert_eq!(client.check(bare("GET", &won[0].path()), 200).await.body, won[0].bytes);
            let shown = page(&client, "/simple/race/").await;
            let shown = shown["files"].as_array().unwrap().last().unwrap();
            assert_eq!(shown["hashes"]["sha256"], won[0].sha256());
        }
        let same = Distribution::pure("same", "1");
        let client = gateway.client();
        for answer in join_all((0..8).map(|_| client.send(same.upload()))).await {
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
}
