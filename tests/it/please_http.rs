//! Promise: Please's HTTP cache of v14 and later, over every store alike.

use bytes::Bytes;
use larder::metrics::RequestLabels;

use crate::support::gateway::{Options, TestGateway, eventually};
use crate::support::http::{Client, Pattern, bare, broken, chunked, full, request, with_body};

const HEX: &str = "00112233445566778899aabbccddeeff00112233";

fn at(hex: &str) -> String {
    format!("/please/{hex}")
}

#[tokio::test]
async fn an_entry_comes_back_as_it_went_in() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        for client in [gateway.client(), Client::h2(gateway.addr())] {
            for length in [0, 1, 40_000, 100_000, 9 << 20] {
                let pattern = Pattern { seed: length, length };
                let known = request("PUT", &at(HEX)).body(full(pattern.bytes())).unwrap();
                let unknown = request("PUT", &at(HEX)).body(pattern.body()).unwrap();
                for upload in [known, unknown] {
                    assert_eq!(client.check(upload, 200).await.text(), "stored\n");
                    let got = client.check(bare("GET", &at(HEX)), 200).await;
                    assert!(got.body == pattern.bytes(), "{length} on {}", gateway.name);
                    let head = client.check(bare("HEAD", &at(HEX)), 200).await;
                    assert_eq!(head.body, "");
                    for answer in [got, head] {
                        assert_eq!(answer.header("content-length"), Some(length.to_string().as_str()));
                        assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
                        assert_eq!(answer.header("content-encoding"), None);
                    }
                }
            }
        }
        gateway.holds(&[&format!("please/00/{HEX}")]).await;
    }
}

/// The client offers gzip on every GET; the bytes are a gzipped tar already.
#[tokio::test]
async fn no_answer_is_encoded() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    client.check(with_body("PUT", &at(HEX), "a".repeat(100_000)), 200).await;
    for path in [at(HEX), at(&"a".repeat(40)), "/ping".to_owned(), "/metrics".to_owned()] {
        let asked = request("GET", &path).header("accept-encoding", "gzip, br, zstd, *");
        let answer = client.send(asked.body(full("")).unwrap()).await;
        assert_eq!(answer.header("content-encoding"), None, "{path}");
        assert_eq!(answer.header("transfer-encoding"), None, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_miss() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        for hex in [HEX.to_owned(), "0".repeat(16), "f".repeat(128)] {
            let answer = gateway.client().check(bare("GET", &at(&hex)), 404).await;
            assert_eq!(answer.text(), "not in the cache\n");
            assert_eq!(gateway.client().check(bare("HEAD", &at(&hex)), 404).await.text(), "");
        }
    }
}

#[tokio::test]
async fn odd_keys_are_refused() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let hex = "the key is not 16 to 128 lower-case hex digits, an even number of them\n";
    let path = "the path is not /please/{hash in lower-case hex}\n";
    for (target, line) in [
        (at(&HEX.to_uppercase()), hex),
        (at(&HEX[1..]), hex),
        (at(&HEX[..14]), hex),
        (at(&"a".repeat(130)), hex),
        (at(&"a".repeat(15)), hex),
        (at(&HEX.replace('0', "g")), hex),
        (at(&HEX.replace("00", "%20")), hex),
        (at(&HEX.replace("00", "%C3%BC")), hex),
        (at(&HEX.replace("00", "%2F")), "a path segment holds an escaped slash\n"),
        (at(&HEX.replace("00", "%00")), "a path segment holds a control character or a backslash\n"),
        (at(&HEX.replace("00", "%zz")), "the path holds a bad percent escape\n"),
        (at(".."), "a path segment is \".\" or \"..\"\n"),
        (at(&format!("{HEX}/")), "a path segment is empty\n"),
        (at(&format!("{HEX}/x")), path),
        (at(&format!("00/{HEX}")), path),
        ("/please".to_owned(), path),
    ] {
        for method in ["GET", "PUT"] {
            let asked = request(method, &target).body(full("x")).unwrap();
            let answer = client.check(asked, 400).await;
            assert_eq!(answer.text(), line, "{method} {target}");
        }
        assert_eq!(client.check(bare("HEAD", &target), 400).await.text(), "");
    }
    for method in ["POST", "DELETE", "PATCH", "OPTIONS"] {
        let answer = client.check(bare(method, &at(HEX)), 405).await;
        assert_eq!(answer.header("allow"), Some("GET, HEAD, PUT"));
    }
    gateway.holds(&[]).await;
}

/// A body short of its length, or without its last chunk, leaves the old object or none.
#[tokio::test]
async fn a_short_body_leaves_what_was_there() {
    let labels = RequestLabels { protocol: "please", verb: "put", outcome: "broken" };
    let other = "ff".repeat(20);
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        client.check(with_body("PUT", &at(HEX), "old"), 200).await;
        let mut broken_off = 0;
        for hex in [HEX, &other] {
            let some = || [Bytes::from_static(b"some")];
            let large = Pattern { seed: 1, length: 9 << 20 };
            for (length, body) in [
                (Some(5), broken(some())),
                (Some(1 << 30), broken(some())),
                (Some((9 << 20) + 1), broken(large.blocks())),
                (None, broken(some())),
                (None, broken([])),
                (None, broken(large.blocks())),
            ] {
                let mut upload = request("PUT", &at(hex));
                if let Some(length) = length {
                    upload = upload.header("content-length", length);
                }
                client.try_send(upload.body(body).unwrap()).await.unwrap_err();
                broken_off += 1;
                eventually("the upload ends", async || gateway.counted(&labels) == broken_off).await;
            }
        }
        assert_eq!(client.check(bare("GET", &at(HEX)), 200).await.text(), "old");
        client.check(bare("GET", &at(&other)), 404).await;
        gateway.holds(&[&format!("please/00/{HEX}")]).await;
        // The next one is not disturbed by what came before.
        let upload = request("PUT", &at(&other)).body(chunked(["a", "b"].map(Bytes::from))).unwrap();
        client.check(upload, 200).await;
        assert_eq!(client.check(bare("GET", &at(&other)), 200).await.text(), "ab");
    }
}
