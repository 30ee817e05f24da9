//! `larder push --please-dir` to a real gateway, and to what is none.

use std::os::unix::fs::symlink;
use std::process::Output;

use larder::metrics::{Outcome, Protocol, RequestLabels, Verb};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::tree::{Cache, hash, larder, last_line};
use crate::support::Background;
use crate::support::gateway::{Options, TestGateway};
use crate::support::http::bare;

/// Runs the command on a cache.
fn push(cache: &Cache, url: &str, more: &[&str]) -> Output {
    let mut command = larder(&["push", "--os", "linux_amd64", "-c", url, "--please-dir"]);
    command.arg(cache.dir.path()).args(more).output().unwrap()
}

fn url(gateway: &TestGateway) -> String {
    format!("http://{}", gateway.addr())
}

/// The path of a file as readers ask for it.
fn stored(target: &str, number: u32, file: &str) -> String {
    format!("/artifact/linux_amd64/{target}/{}/{file}", hash(number).trim_end_matches('='))
}

#[track_caller]
fn counts(sum: &Value, expected: [u64; 6]) {
    let names = ["pushed", "present", "left_out", "failed", "files", "bytes"];
    let found = names.map(|name| sum[name].as_u64().unwrap());
    assert_eq!(found, expected, "{names:?}: {sum}");
}

/// Bytes that no two files share, of any length.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

#[tokio::test]
async fn what_is_pushed_can_be_read_and_is_not_pushed_again() {
    let gateway = TestGateway::start();
    let cache = Cache::new();
    let (large, exact) = (bytes(3 << 20), bytes(256 * 1024));
    cache.directory(
        &format!("src/core/core/{}", hash(1)),
        &[("core.a", b"one"), ("gen/\u{fc}ber alles+.txt", b"two"), ("empty", b""), ("large", &large)],
        10,
    );
    cache.archive(&format!("x/{}.tar.gz", hash(2)), &[("out", b"three"), ("d/e", &large), ("f", &exact)], 20);
    cache.directory(&format!("p/_core#srcs/{}", hash(3)), &[("a#b?c%d", b"four")], 30);
    cache.sized(&format!("src/core/core/{}=", hash(4)), 9, 40);
    let total = 3 + 3 + (3 << 20) + 5 + (3 << 20) + (256 << 10) + 4;

    let dry = push(&cache, &url(&gateway), &["--dry-run"]);
    let text = String::from_utf8(dry.stdout).unwrap();
    assert!(text.contains(&format!("would push p/_core#srcs/{}, 1 files, 4 bytes\n", hash(3))), "{text}");
    assert!(
        text.contains(&format!("would push 3 of 3 entries, 8 files, {total} bytes; 0 were there")),
        "{text}"
    );
    assert_eq!(gateway.keys().await, [""; 0]);

    let first = push(&cache, &format!("{}/", url(&gateway)), &["--json", "--jobs", "2"]);
    counts(&last_line(&first, 0), [3, 0, 0, 0, 8, total]);
    for (target, number, file, expected) in [
        ("src/core/core", 1, "core.a", b"one".as_slice()),
        ("src/core/core", 1, "gen/%C3%BCber%20alles+.txt", b"two"),
        ("src/core/core", 1, "empty", b""),
        ("src/core/core", 1, "large", &large),
        ("x", 2, "out", b"three"),
        ("x", 2, "d/e", &large),
        ("x", 2, "f", &exact),
    ] {
        let got = gateway.client().check(bare("GET", &stored(target, number, file)), 200).await;
        assert!(got.body == expected, "{target} {file}: {} bytes", got.body.len());
    }
    assert!(gateway.keys().await.iter().any(|key| key.ends_with("/a#b?c%d")));
    assert_eq!(gateway.counted(&posted()), 8);

    let again = push(&cache, &url(&gateway), &["--json"]);
    // Only what has a `?` in its name cannot be asked for.
    counts(&last_line(&again, 0), [1, 2, 0, 0, 1, 4]);
    assert_eq!(gateway.counted(&posted()), 8 + 1, "not one request more to store");
}

/// To a reader such a name is a glob, which takes other files, or is a bad one: nothing of it is asked.
#[tokio::test]
async fn a_name_that_is_a_glob_is_sent_whatever_it_takes() {
    let gateway = TestGateway::start();
    let cache = Cache::new();
    let path = format!("p/x/{}", hash(1));
    let names = ["a*", "a-b", "a?b", "a[", "a[-]b", "z"];
    cache.directory(&path, &names.map(|name| (name, name.as_bytes())), 10);
    let key = |name: &str| format!("artifact/linux_amd64/p/x/{}/{name}", hash(1).trim_end_matches('='));
    let bytes = names.map(str::len).iter().sum::<usize>() as u64;
    counts(&last_line(&push(&cache, &url(&gateway), &["--json"]), 0), [1, 0, 0, 0, 6, bytes]);
    assert_eq!(gateway.keys().await, names.map(key));
    for name in names {
        assert_eq!(std::fs::read(gateway.root().join(key(name))).unwrap(), name.as_bytes());
    }
    // Those whose names are names are not sent again.
    counts(&last_line(&push(&cache, &url(&gateway), &["--json"]), 0), [1, 0, 0, 0, 4, bytes - 4]);
}

fn posted() -> RequestLabels {
    RequestLabels {
        protocol: Protocol::Artifact.name(),
        verb: Verb::Post.name(),
        outcome: Outcome::Stored.name(),
    }
}

#[tokio::test]
async fn what_http_cannot_carry_is_left_out_whole() {
    let gateway = TestGateway::start();
    let cache = Cache::new();
    let secret = Cache::new();
    secret.lump("secret", 9, 1);
    let paths = [1, 2, 3].map(|number| format!("p/x/{}", hash(number)));
    cache.directory(&paths[0], &[("a", b"a")], 10);
    symlink(secret.path("secret"), cache.path(&paths[0]).join("b")).unwrap();
    cache.directory(&paths[1], &[("a", b"a"), (".larder", b"b")], 10);
    cache.directory(&paths[2], &[("a", b"a"), ("gen/b", b"b")], 10);
    symlink(secret.dir.path(), cache.path("p/out")).unwrap();
    // An archive with a link in it, and one that is none.
    let path = cache.path(&format!("p/x/{}.tar.gz", hash(4)));
    let file = std::fs::File::create(path).unwrap();
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    archive.append_data(&mut header.clone(), "a", b"a".as_slice()).unwrap();
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Symlink);
    archive.append_link(&mut header, "b", "/etc/passwd").unwrap();
    archive.into_inner().unwrap().finish().unwrap();
    cache.lump(&format!("p/x/{}.tar.gz", hash(5)), 100, 10);

    let output = push(&cache, &url(&gateway), &["--json"]);
    counts(&last_line(&output, 1), [1, 0, 3, 1, 2, 2]);
    let key = |file: &str| format!("artifact/linux_amd64/p/x/{}/{file}", hash(3).trim_end_matches('='));
    assert_eq!(gateway.keys().await, [key("a"), key("gen/b")]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("b is a link"), "{text}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("1 entries could not be pushed") && stderr.contains(&hash(5)), "{stderr}");
}

#[tokio::test]
async fn whoever_may_not_write_is_told_so_at_once() {
    // htpasswd -nbB would do: {SHA} is quick.
    let users = "ci:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n".to_owned(); // secret
    let options = Options { users: Some(users), anonymous_read: true, ..Options::default() };
    let gateway = TestGateway::with(options);
    let cache = Cache::new();
    for number in 0..50 {
        cache.sized(&format!("p/x/{}", hash(number)), 10, 10);
    }
    let nobody = push(&cache, &url(&gateway), &[]);
    let stderr = String::from_utf8_lossy(&nobody.stderr);
    assert_eq!(nobody.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("refuses: 401") && stderr.contains("--user"), "{stderr}");
    let wrong = push(&cache, &format!("http://ci:wrong@{}", gateway.addr()), &[]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(!String::from_utf8_lossy(&wrong.stderr).contains("wrong"), "no password is printed");
    assert_eq!(gateway.keys().await, [""; 0]);

    let right = push(&cache, &format!("http://ci:secret@{}", gateway.addr()), &["--json"]);
    counts(&last_line(&right, 0), [50, 0, 0, 0, 50, 500]);
    gateway.client().with_basic("ci", "secret").check(bare("DELETE", "/"), 200).await;
    let mut command = larder(&["push", "--json", "--os", "linux_amd64", "--please-dir"]);
    command.arg(cache.dir.path()).env("LARDER_CACHE", url(&gateway)).env("LARDER_USER", "ci:secret");
    counts(&last_line(&command.output().unwrap(), 0), [50, 0, 0, 0, 50, 500]);
    assert_eq!(gateway.keys().await.len(), 50);
}

/// Answers every request with the next of these, one connection each.
fn stand_in(answers: &'static [&'static str]) -> (std::net::SocketAddr, Background) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = Background::run(move || async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && !request.ends_with(b"BODY") {
                let mut piece = [0; 4096];
                let length = socket.read(&mut piece).await.unwrap();
                request.extend_from_slice(&piece[..length]);
            }
            let head = format!("HTTP/1.1 {answer}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            socket.write_all(head.as_bytes()).await.unwrap();
        }
        std::future::pending().await
    });
    (addr, serving)
}

#[test]
fn what_passes_is_waited_out() {
    let cache = Cache::new();
    cache.directory(&format!("p/x/{}", hash(1)), &[("a", b"BODY")], 1);
    let answers = &[
        "503 Service Unavailable",
        "200 OK",
        "429 Too Many Requests",
        "404 Not Found",
        "500 Internal Server Error",
        "200 OK",
    ];
    let (addr, _serving) = stand_in(answers);
    let output = push(&cache, &format!("http://{addr}"), &["--json"]);
    counts(&last_line(&output, 0), [1, 0, 0, 0, 1, 4]);
}

#[test]
fn what_is_no_cache_is_exit_3() {
    let cache = Cache::new();
    cache.sized(&format!("p/x/{}", hash(1)), 10, 10);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = push(&cache, &format!("http://ci:secret@{free}"), &[]);
    let stderr = String::from_utf8_lossy(&nobody.stderr);
    assert_eq!(nobody.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("cannot be reached") && !stderr.contains("secret"), "{stderr}");
    let (addr, _serving) = stand_in(&["404 Not Found"]);
    let stranger = push(&cache, &format!("http://{addr}"), &[]);
    let stderr = String::from_utf8_lossy(&stranger.stderr);
    assert_eq!(stranger.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("no artifact cache"), "{stderr}");
    for bad in [&["-c", "nowhere"][..], &["--os", "Linux"], &["--jobs", "0"], &["--user", "me"]] {
        let mut command = larder(&["push", "--please-dir", "/nowhere"]);
        let rest: &[&str] = match bad[0] {
            "-c" => &["--os", "linux_amd64"],
            "--os" => &["-c", "http://h"],
            _ => &["--os", "linux_amd64", "-c", "http://h"],
        };
        assert_eq!(command.args(rest).args(bad).output().unwrap().status.code(), Some(2), "{bad:?}");
    }
}
