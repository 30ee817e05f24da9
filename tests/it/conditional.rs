//! Promise: validators, ranges and declared digests mean what their RFCs say (9110, 9530, 1864), for both protocols
//! and over every store; and who is refused is told before sending the body.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512};

use crate::support::gateway::{Options, TestGateway};
use crate::support::http::{Body, Client, Pattern, Response, bare, basic, chunked, full, request, with_body};

/// Where a test writes, by either protocol: verb, path, and the key that it comes to.
const PLACES: [(&str, &str, &str); 2] = [
    (
        "POST",
        "/artifact/linux_amd64/p/x/AAECAwQFBgcICQoLDA0ODxAREhM/f",
        "artifact/linux_amd64/p/x/AAECAwQFBgcICQoLDA0ODxAREhM/f",
    ),
    (
        "PUT",
        "/please/00112233445566778899aabbccddeeff00112233",
        "please/00/00112233445566778899aabbccddeeff00112233",
    ),
];

fn with(method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> http::Request<Body> {
    let asked =
        headers.iter().fold(request(method, path), |asked, (name, value)| asked.header(*name, *value));
    asked.body(body).unwrap()
}

async fn ask(client: &Client, method: &str, path: &str, headers: &[(&str, &str)], status: u16) -> Response {
    let answer = client.send(with(method, path, headers, full(""))).await;
    let start = &answer.body[..answer.body.len().min(100)];
    assert_eq!(answer.status, status, "{method} {path} {headers:?}: {}", start.escape_ascii());
    answer
}

fn etag(answer: &Response) -> String {
    answer.header("etag").unwrap().to_owned()
}

/// The same bytes have one validator however they are asked for; other bytes have another.
#[tokio::test]
async fn validators_follow_the_bytes() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        for (verb, path, _) in PLACES {
            let stored = etag(&client.check(with_body(verb, path, "one"), 200).await);
            let mut seen = vec![stored.clone()];
            for _ in 0..2 {
                assert_eq!(etag(&client.check(bare("GET", path), 200).await), stored);
                assert_eq!(etag(&client.check(bare("HEAD", path), 200).await), stored);
                assert_eq!(etag(&ask(&client, "GET", path, &[("range", "bytes=1-")], 206).await), stored);
            }
            // Same length, within the same second.
            for bytes in ["two", "ten", "twelve"] {
                let now = etag(&client.check(with_body(verb, path, bytes), 200).await);
                assert!(!seen.contains(&now), "{bytes} on {}", gateway.name);
                assert_eq!(etag(&client.check(bare("GET", path), 200).await), now);
                seen.push(now);
            }
            let large = Pattern { seed: 1, length: 9 << 20 };
            let upload = request(verb, path).body(large.body()).unwrap();
            let now = etag(&client.check(upload, 200).await);
            assert_eq!(etag(&client.check(bare("HEAD", path), 200).await), now, "on {}", gateway.name);
        }
    }
}

#[tokio::test]
async fn what_the_client_has_is_not_sent_again() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        for (verb, path, _) in PLACES {
            let tag = etag(&client.check(with_body(verb, path, "bytes"), 200).await);
            for (value, status) in [
                (tag.clone(), 304),
                (format!("W/{tag}"), 304),
                (format!("\"other\", {tag}"), 304),
                (format!("\"a\",W/\"b\" , W/{tag},\"c\""), 304),
                ("*".to_owned(), 304),
                ("\"other\"".to_owned(), 200),
                (tag.replace('"', ""), 200),
                ("\"\"".to_owned(), 200),
                ("garbage".to_owned(), 200),
                (String::new(), 200),
            ] {
                for method in ["GET", "HEAD"] {
                    let answer = ask(&client, method, path, &[("if-none-match", &value)], status).await;
                    assert_eq!(etag(&answer), tag, "{value}");
                    let text = if method == "GET" && status == 200 { "bytes" } else { "" };
                    assert_eq!(answer.text(), text, "{method} {value}");
                }
            }
            let range = [("range", "bytes=0-1"), ("if-none-match", tag.as_str())];
            ask(&client, "GET", path, &range, 304).await;
            let old = [("if-modified-since", "Fri, 01 Jan 2038 00:00:00 GMT")];
            assert_eq!(ask(&client, "GET", path, &old, 200).await.text(), "bytes", "never stale");
            // A miss is a miss, whatever the client has.
            let (tail, other) = path.split_at(path.len() - 1);
            let absent = format!("{tail}{}", if other == "f" { "g" } else { "4" });
            ask(&client, "GET", &absent, &[("if-none-match", "*")], 404).await;
        }
    }
}

#[tokio::test]
async fn ranges_are_slices() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        for (verb, path, _) in PLACES {
            for length in [10, 200_000, (9 << 20) + 5] {
                let bytes = Pattern { seed: length, length }.bytes();
                client.check(with_body(verb, path, bytes.clone()), 200).await;
                let last = length - 1;
                for (value, first, end) in [
                    ("bytes=0-0".to_owned(), 0, 0),
                    ("bytes=0-".to_owned(), 0, last),
                    (format!("bytes={last}-"), last, last),
                    ("bytes=3-7".to_owned(), 3, 7),
                    (format!("bytes=3-{}", length + 5), 3, last),
                    ("bytes=5-99999999999999999999999".to_owned(), 5, last),
                    ("bytes=-1".to_owned(), last, last),
                    ("bytes=-4".to_owned(), last - 3, last),
                    (format!("bytes=-{}", length * 2), 0, last),
                    ("BYTES=2-3".to_owned(), 2, 3),
                ] {
                    let answer = ask(&client, "GET", path, &[("range", &value)], 206).await;
                    let (from, to) = (usize::try_from(first).unwrap(), usize::try_from(end).unwrap());
                    assert!(answer.body == bytes[from..=to], "{value} of {length} on {}", gateway.name);
                    let said = format!("bytes {first}-{end}/{length}");
                    assert_eq!(answer.header("content-range"), Some(said.as_str()), "{value}");
                    let size = (end - first + 1).to_string();
                    assert_eq!(answer.header("content-length"), Some(size.as_str()), "{value}");
                    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
                }
                for value in [format!("bytes={length}-"), format!("bytes={}-{}", length + 1, length + 9)] {
                    let answer = ask(&client, "GET", path, &[("range", &value)], 416).await;
                    let said = format!("bytes */{length}");
                    assert_eq!(answer.header("content-range"), Some(said.as_str()), "{value}");
                    assert_eq!(answer.body, "");
                }
            }
            let bytes = "0123456789";
            client.check(with_body(verb, path, bytes), 200).await;
            ask(&client, "GET", path, &[("range", "bytes=-0")], 416).await;
            // What is malformed, plural or of another unit is as if it were not there.
            for value in
                ["bytes=5-3", "bytes=0-1,3-4", "lines=0-1", "bytes", "bytes=", "bytes=-", "bytes=a-b"]
            {
                assert_eq!(
                    ask(&client, "GET", path, &[("range", value)], 200).await.text(),
                    bytes,
                    "{value}"
                );
            }
            let head = ask(&client, "HEAD", path, &[("range", "bytes=0-1")], 200).await;
            assert_eq!(head.header("content-length"), Some("10"));
            assert_eq!(head.header("accept-ranges"), Some("bytes"));
            client.check(with_body(verb, path, ""), 200).await;
            let answer = ask(&client, "GET", path, &[("range", "bytes=0-")], 416).await;
            assert_eq!(answer.header("content-range"), Some("bytes */0"));
        }
    }
}

/// A range of an object that has changed meanwhile is the whole new one.
#[tokio::test]
async fn a_range_may_hang_on_a_validator() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        for (verb, path, _) in PLACES {
            let old = etag(&client.check(with_body(verb, path, "old bytes"), 200).await);
            let new = etag(&client.check(with_body(verb, path, "new bytes"), 200).await);
            for (value, range, status, text) in [
                (new.clone(), "bytes=0-2", 206, "new"),
                (old, "bytes=0-2", 200, "new bytes"),
                (format!("W/{new}"), "bytes=0-2", 200, "new bytes"),
                ("Fri, 01 Jan 2038 00:00:00 GMT".to_owned(), "bytes=0-2", 200, "new bytes"),
                ("\"other\"".to_owned(), "bytes=99-", 200, "new bytes"),
                (new.clone(), "bytes=99-", 416, ""),
            ] {
                let headers = [("range", range), ("if-range", value.as_str())];
                let answer = ask(&client, "GET", path, &headers, status).await;
                assert_eq!(answer.text(), text, "{value} on {}", gateway.name);
            }
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(bytes))
}

fn sha512(bytes: &[u8]) -> String {
    STANDARD.encode(Sha512::digest(bytes))
}

fn md5(bytes: &[u8]) -> String {
    STANDARD.encode(Md5::digest(bytes))
}

/// Every way to declare what a body hashes to: with it the bytes are stored, with another's nothing is.
#[tokio::test]
async fn declared_digests_are_checked_before_anything_is_stored() {
    type Declare = fn(&[u8]) -> String;
    let ways: [(&str, Declare, &str); 8] = [
        ("content-md5", md5, "MD5"),
        ("x-amz-checksum-sha256", sha256, "SHA-256"),
        ("content-digest", |b| format!("sha-256=:{}:", sha256(b)), "SHA-256"),
        ("content-digest", |b| format!("sha-512=:{}:", sha512(b)), "SHA-512"),
        ("content-digest", |b| format!("md5=:{}:", md5(b)), "MD5"),
        ("repr-digest", |b| format!("sha-256=:{}:", sha256(b)), "SHA-256"),
        ("repr-digest", |b| format!("crc32c=:AAAAAA==:, sha-512=:{}:;q=1", sha512(b)), "SHA-512"),
        ("content-digest", |b| format!("sha-256=:{}: , md5=:{}:", sha256(b), md5(b)), "MD5 or SHA-256"),
    ];
    let large = Pattern { seed: 5, length: 9 << 20 }.bytes();
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        for (verb, path, _) in PLACES {
            for (header, declare, what) in ways {
                for good in [Bytes::from_static(b"good"), Bytes::new(), large.clone()] {
                    if good.len() > 100 && header != "content-digest" {
                        continue;
                    }
                    let mut bad = good.to_vec();
                    match bad.last_mut() {
                        Some(byte) => *byte ^= 1,
                        None => bad.push(b'x'),
                    }
                    let told = declare(&good);
                    let upload = |bytes: Bytes, pieces: bool| {
                        let body = if pieces { chunked([bytes]) } else { full(bytes) };
                        with(verb, path, &[(header, &told)], body)
                    };
                    for pieces in [false, true] {
                        client.check(bare("DELETE", "/"), 200).await;
                        if verb == "PUT" {
                            client.check(with_body(verb, path, "old"), 200).await;
                        }
                        let answer = client.check(upload(bad.clone().into(), pieces), 400).await;
                        let line = answer.text();
                        assert!(line.starts_with("the body does not have the "), "{header}: {line}");
                        assert!(what.contains(" or ") || line.contains(what), "{header}: {line}");
                        if verb == "PUT" {
                            assert_eq!(client.check(bare("GET", path), 200).await.text(), "old");
                        } else {
                            client.check(bare("GET", path), 404).await;
                        }
                        client.check(upload(good.clone(), pieces), 200).await;
                        assert!(client.check(bare("GET", path), 200).await.body == good, "{header}");
                    }
                }
            }
            client.check(bare("DELETE", "/"), 200).await;
        }
        gateway.holds(&[PLACES[1].2]).await;
    }
}

/// A digest that cannot be read is not ignored: its sender thinks that it is checked.
#[tokio::test]
async fn digests_that_cannot_be_read_are_refused() {
    let gateway = TestGateway::start();
    let (good, short) = (sha256(b"x"), STANDARD.encode(b"short"));
    for (header, value) in [
        ("content-md5", "???".to_owned()),
        ("content-md5", short.clone()),
        ("content-md5", good.clone()),
        ("x-amz-checksum-sha256", short.clone()),
        ("x-amz-checksum-sha256", "ü".to_owned()),
        ("content-digest", format!("sha-256={good}")),
        ("content-digest", format!("sha-256=:{short}:")),
        ("content-digest", format!("sha-256=:{good}")),
        ("content-digest", format!("sha-256=:{good}:,")),
        ("repr-digest", format!("sha-256=:{good}:, sha-256=:{}:", sha256(b"y"))),
        ("repr-digest", "sha-512".to_owned()),
    ] {
        for (verb, path, _) in PLACES {
            let upload = with(verb, path, &[(header, &value)], full("x"));
            let answer = gateway.client().check(upload, 400).await;
            assert_eq!(answer.text().lines().count(), 1, "{header}: {value}: {}", answer.text());
        }
    }
    // Unknown algorithms are the sender's own business (RFC 9530 §2).
    for (verb, path, _) in PLACES {
        let upload = with(verb, path, &[("content-digest", "unixsum=:AAAA:")], full("x"));
        gateway.client().check(upload, 200).await;
    }
}

#[tokio::test]
async fn create_only_writes_once() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        for (verb, path, _) in PLACES {
            let create = |bytes: &'static str| with(verb, path, &[("if-none-match", "*")], full(bytes));
            client.check(create("first"), 200).await;
            let answer = client.check(create("second"), 412).await;
            assert_eq!(answer.text(), "it is already there\n");
            assert_eq!(client.check(bare("GET", path), 200).await.text(), "first", "on {}", gateway.name);
            client.check(with_body(verb, path, "third"), 200).await;
            // Preconditions that no store keeps are refused, not ignored.
            for (header, value) in [
                ("if-match", "\"x\""),
                ("if-match", "*"),
                ("if-none-match", "\"x\""),
                ("if-unmodified-since", "Fri, 01 Jan 2038 00:00:00 GMT"),
            ] {
                client.check(with(verb, path, &[(header, value)], full("fourth")), 400).await;
            }
            assert_eq!(client.check(bare("GET", path), 200).await.text(), "third");
        }
    }
}

/// What comes on a socket up to its end, or until nothing came for long enough.
fn hear(stream: &mut std::net::TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut heard = Vec::new();
    let mut some = [0; 4096];
    while !heard.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut some) {
            Ok(length) if length > 0 => heard.extend_from_slice(&some[..length]),
            Ok(_) | Err(_) => break,
        }
    }
    String::from_utf8(heard).unwrap()
}

/// Who asks first (`Expect: 100-continue`) is refused before the body; who is welcome is told to go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_comes_before_the_body() {
    // `secret` for both.
    let hash = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=";
    let gateway = TestGateway::with(Options {
        users: Some(format!("ann:{hash}\nbob:{hash}\n")),
        groups: Some("writers: ann\n".to_owned()),
        max_object_size: 1000,
        ..Options::default()
    });
    let who = |user: &str| format!("authorization: {}\r\n", basic(user, "secret").to_str().unwrap());
    for (verb, path, _) in PLACES {
        for (auth, length, first) in [
            (String::new(), "content-length: 9", "HTTP/1.1 401 "),
            (who("bob"), "content-length: 9", "HTTP/1.1 403 "),
            (who("ann"), "content-length: 1001", "HTTP/1.1 413 "),
            (who("ann"), "content-length: 9", "HTTP/1.1 100 "),
            (String::new(), "transfer-encoding: chunked", "HTTP/1.1 401 "),
            (who("bob"), "transfer-encoding: chunked", "HTTP/1.1 403 "),
            (who("ann"), "transfer-encoding: chunked", "HTTP/1.1 100 "),
            (who("ann") + "content-md5: ?\r\n", "content-length: 9", "HTTP/1.1 400 "),
            (who("ann") + "if-match: *\r\n", "content-length: 9", "HTTP/1.1 400 "),
        ] {
            let mut stream = std::net::TcpStream::connect(gateway.addr()).unwrap();
            let head = format!(
                "{verb} {path} HTTP/1.1\r\nhost: larder\r\nexpect: 100-continue\r\n{auth}{length}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            let heard = hear(&mut stream);
            assert!(heard.starts_with(first), "{verb} {auth:?} {length}: {heard}");
            if first.ends_with("100 ") {
                let body =
                    if length.ends_with("chunked") { "9\r\n123456789\r\n0\r\n\r\n" } else { "123456789" };
                stream.write_all(body.as_bytes()).unwrap();
                let heard = hear(&mut stream);
                assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
            } else {
                // The body may still come, or never: the connection is not used again.
                assert!(heard.contains("connection: close"), "{heard}");
            }
        }
        let missing = path.replace('1', "2").replace("/f", "/none");
        gateway.client().with_basic("bob", "secret").check(bare("GET", &missing), 404).await;
    }
    gateway.holds(&[PLACES[0].2, PLACES[1].2]).await;
}

/// Too large is refused by the length that is said, or where the count gets there.
#[tokio::test]
async fn too_large_is_refused_and_leaves_nothing() {
    let limit = 100_000;
    for gateway in TestGateway::everywhere(&Options { max_object_size: limit, ..Options::default() }) {
        for client in [gateway.client(), Client::h2(gateway.addr())] {
            for (verb, path, _) in PLACES {
                for pattern in [limit + 1, limit * 50].map(|length| Pattern { seed: 2, length }) {
                    let known = request(verb, path).body(full(pattern.bytes())).unwrap();
                    let unknown = request(verb, path).body(pattern.body()).unwrap();
                    for upload in [known, unknown] {
                        let answer = client.check(upload, 413).await;
                        assert_eq!(answer.text(), "the body is larger than the limit of 100000 bytes\n");
                    }
                    client.check(bare("GET", path), 404).await;
                }
            }
        }
        gateway.holds(&[]).await;
        for (verb, path, _) in PLACES {
            let most = Pattern { seed: 2, length: limit };
            let upload = request(verb, path).body(most.body()).unwrap();
            gateway.client().check(upload, 200).await;
        }
    }
}
