//! Promise: bad input is refused by one line that says what is wrong, stores nothing, and costs no more than its own
//! request.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};

use crate::support::gateway::{Options, TestGateway, parse};
use crate::support::http::{Response, bare, with_body};

const HASH: &str = "AAECAwQFBgcICQoLDA0ODxAREhM";

const EMPTY: &str = "a path segment is empty\n";
const DOTS: &str = "a path segment is \".\" or \"..\"\n";
const CHARACTER: &str = "a path segment holds a control character or a backslash\n";
const LONG_SEGMENT: &str = "a path segment is longer than 255 bytes\n";
const LONG: &str = "the name is longer than 1024 bytes\n";
const SLASH: &str = "a path segment holds an escaped slash\n";
const ENCODING: &str = "a path segment is not UTF-8\n";
const ESCAPE: &str = "the path holds a bad percent escape\n";
const OS: &str = "the first segment is not an os name like linux_amd64\n";
const NO_HASH: &str = "no path segment is a hash (8 to 64 bytes in base64's URL alphabet, without padding)\n";

fn file(name: &str) -> Vec<u8> {
    format!("/artifact/linux_amd64/p/x/{HASH}/{name}").into_bytes()
}

async fn ask(gateway: &TestGateway, method: &str, target: &[u8]) -> Response {
    let (length, body) = if matches!(method, "POST" | "PUT") { ("1", "x") } else { ("0", "") };
    let head =
        [method.as_bytes(), b" ", target, b" HTTP/1.1\r\ncontent-length: ", length.as_bytes()].concat();
    let shown = String::from_utf8_lossy(target).into_owned();
    gateway.raw(&head, body.as_bytes()).await.unwrap_or_else(|| panic!("{method} {shown}: no answer"))
}

/// Nothing came of it, and the next one is served.
async fn unharmed(gateway: &TestGateway) {
    gateway.holds(&[]).await;
    let path = String::from_utf8(file("after")).unwrap();
    gateway.client().check(with_body("POST", &path, "served"), 200).await;
    assert_eq!(gateway.client().check(bare("GET", &path), 200).await.text(), "served");
    gateway.client().check(bare("DELETE", "/"), 200).await;
    if gateway.name == "dir" {
        let strangers: Vec<_> = std::fs::read_dir(gateway.root().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(strangers, ["store"], "nothing beside the store");
    }
}

#[tokio::test]
async fn names_that_are_none() {
    let long = "x".repeat(256);
    let deep = "d/".repeat(600) + "f";
    // Fits a path, and not a key with the layout's own part.
    let brim = "y/".repeat(490) + "f";
    let rows: Vec<(Vec<u8>, &str)> = vec![
        (file("../f"), DOTS),
        (file("a/../../../../../../etc/passwd"), DOTS),
        (file("./f"), DOTS),
        (file(".."), DOTS),
        (file("%2e%2e/f"), DOTS),
        (file("%2E%2e"), DOTS),
        (file("%2e"), DOTS),
        (file(".%2e/f"), DOTS),
        (file("a//f"), EMPTY),
        (file("a/"), EMPTY),
        (file("/f"), EMPTY),
        (file(&long), LONG_SEGMENT),
        (file(&format!("{}/f", "%C3%BC".repeat(128))), LONG_SEGMENT),
        (file(&deep), LONG),
        (file(&brim), LONG),
        (file(&"z/".repeat(3000)), LONG),
        (file("a%00b"), CHARACTER),
        (file("%00"), CHARACTER),
        (file("a%0Ab"), CHARACTER),
        (file("a%0d%0aset-cookie:%20x"), CHARACTER),
        (file("a%7Fb"), CHARACTER),
        (file("a%1Bb"), CHARACTER),
        (file("a%C2%85b"), CHARACTER),
        (file("a\\b"), CHARACTER),
        (file("a%5cb"), CHARACTER),
        (file("..%5c..%5cf"), CHARACTER),
        (file("a%2fb"), SLASH),
        (file("..%2F..%2Ff"), SLASH),
        (file("%2f"), SLASH),
        (file("a%ffb"), ENCODING),
        (file("%C3"), ENCODING),
        (file("%c0%ae%c0%ae/f"), ENCODING),
        (file("%ed%a0%80"), ENCODING),
        (file("a%"), ESCAPE),
        (file("a%4"), ESCAPE),
        (file("a%zz"), ESCAPE),
        (file("%%30%30"), ESCAPE),
        (file("%u002e"), ESCAPE),
        (format!("/artifact/Linux_amd64/p/x/{HASH}/f").into(), OS),
        (format!("/artifact/linux/p/x/{HASH}/f").into(), OS),
        (format!("/artifact/linux_/p/x/{HASH}/f").into(), OS),
        (format!("/artifact/linux-amd64/p/x/{HASH}/f").into(), OS),
        (format!("/artifact/p/x/{HASH}/f").into(), OS),
        (format!("/artifact/.larder/p/x/{HASH}/f").into(), OS),
        (format!("/artifact/.staging/p/x/{HASH}/f").into(), OS),
        (format!("/artifact/../p/x/{HASH}/f").into(), DOTS),
        (format!("/artifact/linux_amd64/../x/{HASH}/f").into(), DOTS),
        (format!("/artifact/linux_amd64/p/%2e%2e/{HASH}/f").into(), DOTS),
        (format!("/artifact//p/x/{HASH}/f").into(), EMPTY),
    ];
    for gateway in TestGateway::everywhere(&Options::default()) {
        for (target, line) in &rows {
            let shown = String::from_utf8_lossy(target).into_owned();
            for method in ["GET", "POST", "HEAD"] {
                let answer = ask(&gateway, method, target).await;
                assert_eq!(answer.status, 400, "{method} {shown}: {}", answer.text());
                let line = if method == "HEAD" { "" } else { line };
                assert_eq!(answer.text(), line, "{method} {shown}");
                assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
            }
            // An os name is no part of every deletion, and a hash of none.
            if *line != OS && *line != LONG {
                assert_eq!(ask(&gateway, "DELETE", target).await.text(), *line, "DELETE {shown}");
            }
        }
        unharmed(&gateway).await;
    }
}

/// A hash that is none is refused on the way in; on the way out it is one more path where nothing is.
#[tokio::test]
async fn hashes_that_are_none() {
    let gateway = TestGateway::start();
    for hash in [
        "AAECAwQFBgcICQoLDA0ODxAREhM=",
        "AAECAwQFBgcICQoLDA0ODxAREhN",
        "AAECAwQFBgcICQoLDA0ODxARE%2BM",
        "AAECAwQF",
        "aaecawqfbgcicqolda0odxarehm",
        &"A0".repeat(60),
        "x",
    ] {
        let target = format!("/artifact/linux_amd64/p/x/{hash}/f");
        let answer = ask(&gateway, "POST", target.as_bytes()).await;
        assert_eq!((answer.status.as_u16(), answer.text().as_str()), (400, NO_HASH), "{hash}");
        assert_eq!(ask(&gateway, "GET", target.as_bytes()).await.status, 404, "{hash}");
    }
    unharmed(&gateway).await;
}

/// Bytes that are no HTTP are refused by the server itself, before anybody reads them as a name.
#[tokio::test]
async fn request_lines_that_are_none() {
    let gateway = TestGateway::start();
    for line in [
        &b"GET /artifact/\0 HTTP/1.1"[..],
        b"GET /artifact/a\x01b HTTP/1.1",
        b"GET /artifact/a b HTTP/1.1",
        b"GET /artifact/a\tb HTTP/1.1",
        b"GET /artifact/\xff\xfe HTTP/1.1",
        b"GET artifact/x HTTP/1.1",
        b"GET  /ping HTTP/1.1",
        b"G@T /ping HTTP/1.1",
        b"GET /ping HTTP/9.9",
        b"GET /ping",
        b" /ping HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /ping HTTP/1.1\r\nno colon",
        b"GET /ping HTTP/1.1\r\nx: a\0b",
        b"GET /ping HTTP/1.1\r\nx\xff: a",
        b"GET /ping HTTP/1.1\r\n folded: a",
        b"POST /ping HTTP/1.1\r\ncontent-length: -1",
        b"POST /ping HTTP/1.1\r\ncontent-length: 1x",
        b"POST /ping HTTP/1.1\r\ncontent-length: 99999999999999999999",
        b"POST /ping HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2",
        b"POST /ping HTTP/1.1\r\ntransfer-encoding: gzip",
    ] {
        let answer = gateway.raw(line, b"").await;
        let status = answer.map(|answer| answer.status.as_u16());
        assert_eq!(status, Some(400), "{}", String::from_utf8_lossy(line));
    }
    unharmed(&gateway).await;
}

/// Heads that are too much.
#[tokio::test]
async fn heads_that_are_too_large() {
    let gateway = TestGateway::start();
    let many = |count: usize| {
        (0..count).fold(String::new(), |mut lines, n| {
            write!(lines, "\r\nx-{n}: y").unwrap();
            lines
        })
    };
    for (head, status) in [
        (format!("GET /ping HTTP/1.1{}", many(60)), 200),
        (format!("GET /ping HTTP/1.1{}", many(100)), 431),
        (format!("GET /ping HTTP/1.1{}", many(10_000)), 431),
        (format!("GET /ping HTTP/1.1\r\nx: {}", "a".repeat(16_000)), 200),
        (format!("GET /ping HTTP/1.1\r\nx: {}", "a".repeat(200_000)), 431),
        (format!("GET /ping HTTP/1.1\r\n{}: a", "x".repeat(200_000)), 431),
        (format!("GET /please/{} HTTP/1.1", "a".repeat(5_000)), 400),
        (format!("GET /{} HTTP/1.1", "a".repeat(5_000)), 404),
        (format!("GET /ping?{} HTTP/1.1", "a".repeat(5_000)), 200),
        (format!("GET /{} HTTP/1.1", "a".repeat(66_000)), 414),
        (format!("GET /{} HTTP/1.1", "a".repeat(200_000)), 414),
    ] {
        let answer = gateway.raw(head.as_bytes(), b"").await;
        let got = answer.map(|answer| answer.status.as_u16());
        // hyper says 414 of a target over 65 534 bytes, and 431 where the whole head outgrew its buffer first.
        let good = got == Some(status) || (status == 414 && got == Some(431));
        assert!(good, "{:.60}…, {} bytes: {got:?}", head, head.len());
    }
    unharmed(&gateway).await;
}

/// What a server hears to bytes that are followed by the end of what the client has to say.
fn said(gateway: &TestGateway, bytes: &[u8]) -> Option<Response> {
    let mut stream = std::net::TcpStream::connect(gateway.addr()).unwrap();
    stream.set_read_timeout(Some(crate::support::LIMIT)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A reset ends it as well.
    drop(stream.read_to_end(&mut answer));
    parse(&answer)
}

/// A body that is not as long as it says stores nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lengths_that_lie() {
    let server = larder::server::Limits {
        body_timeout: std::time::Duration::from_millis(300),
        ..larder::server::Limits::default()
    };
    let options = Options { server, max_object_size: 1 << 20, ..Options::default() };
    for gateway in TestGateway::everywhere(&options) {
        let artifact = String::from_utf8(file("f")).unwrap();
        let please = format!("/please/{}", "ab".repeat(20));
        for (verb, path) in [("POST", artifact), ("PUT", please)] {
            for (head, body, status) in [
                ("content-length: 10", "short", 408),
                ("content-length: 1048577", "x", 413),
                ("content-length: 9223372036854775807", "x", 413),
                // hyper keeps the largest numbers for itself.
                ("content-length: 18446744073709551615", "x", 431),
                ("transfer-encoding: chunked", "5\r\nab", 408),
                ("transfer-encoding: chunked", "5\r\nabcdefgh\r\n0\r\n\r\n", 400),
                ("transfer-encoding: chunked", "zz\r\nab\r\n0\r\n\r\n", 400),
                ("transfer-encoding: chunked", "-1\r\nab\r\n0\r\n\r\n", 400),
                ("transfer-encoding: chunked", "ffffffffffffffff1\r\nab\r\n0\r\n\r\n", 400),
                ("content-length: 1\r\ncontent-length: 2", "ab", 400),
                ("transfer-encoding: chunked, gzip", "0\r\n\r\n", 400),
            ] {
                let bytes = format!(
                    "{verb} {path} HTTP/1.1\r\nhost: larder\r\nconnection: close\r\n{head}\r\n\r\n{body}"
                );
                let answer = said(&gateway, bytes.as_bytes());
                let got = answer.map(|answer| answer.status.as_u16());
                assert_eq!(got, Some(status), "{verb} {head} {body:?} on {}", gateway.name);
                gateway.client().check(bare("GET", &path), 404).await;
            }
        }
        unharmed(&gateway).await;
    }
}

#[tokio::test]
async fn routes_and_verbs_that_are_none() {
    let gateway = TestGateway::start();
    let hex = "ab".repeat(20);
    for (method, target, status, allow) in [
        ("GET", "/nowhere", 404, None),
        ("GET", "/Artifact/x", 404, None),
        ("GET", "/artifacts/x", 404, None),
        ("GET", "/pleas", 404, None),
        ("GET", "/ping/", 404, None),
        ("GET", "/%70ing", 404, None),
        ("GET", "/apis", 404, None),
        ("GET", "/simples/", 404, None),
        ("GET", "/built/e", 404, None),
        ("GET", "/..", 404, None),
        ("GET", "/../ping", 404, None),
        ("OPTIONS", "*", 404, None),
        ("PUT", "/", 405, Some("GET, HEAD, DELETE")),
        ("FOOBAR", "/ping", 405, Some("GET, HEAD")),
        ("get", "/ping", 405, Some("GET, HEAD")),
        ("TRACE", "/ping", 405, Some("GET, HEAD")),
        ("POST", "/healthz", 405, Some("GET, HEAD")),
        ("PUT", "/artifact/x", 405, Some("GET, HEAD, POST, DELETE")),
        ("DELETE", &format!("/please/{hex}"), 405, Some("GET, HEAD, PUT")),
        ("GET", "http://elsewhere/ping", 200, None),
        ("GET", "/ping?x=/../&%00", 200, None),
    ] {
        let answer = ask(&gateway, method, target.as_bytes()).await;
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
        assert_eq!(answer.header("allow"), allow, "{method} {target}");
        let line = match status {
            404 => "no such route\n".to_owned(),
            405 => format!("this route takes {}\n", allow.unwrap()),
            _ => "pong\n".to_owned(),
        };
        assert_eq!(answer.text(), line, "{method} {target}");
    }
    unharmed(&gateway).await;
}
