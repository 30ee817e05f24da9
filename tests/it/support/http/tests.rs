//! The client tells whole answers from broken ones.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::super::{Background, loopback};
use super::{Client, End, Pattern, bare, basic, broken, chunked, empty, full, request, with_body};

/// Answers every connection with these bytes once a head has come, then closes.
fn canned(answer: &'static [u8]) -> (SocketAddr, Background) {
    let (listener, addr) = listener();
    let serving = Background::run(move || async move {
        let listener = TcpListener::from_std(listener).unwrap();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer).await.unwrap();
        }
    });
    (addr, serving)
}

fn listener() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// Answers with method, target, version, credentials and the body's length, or its breaking, of
/// HTTP/1.1 and HTTP/2 alike; `HEAD` with a length alone.
fn echo() -> (SocketAddr, Background) {
    let (listener, addr) = listener();
    let service = hyper::service::service_fn(async |request: http::Request<hyper::body::Incoming>| {
        let (parts, body) = request.into_parts();
        let length = body.collect().await.map(|body| body.to_bytes().len())?;
        let auth = parts.headers.get("authorization").map_or("", |auth| auth.to_str().unwrap_or("?"));
        let line = format!("{} {} {:?} {auth} {length}", parts.method, parts.uri.path(), parts.version);
        let builder = http::Response::builder().header("content-length", line.len());
        // Over HTTP/2 hyper leaves it to the service that HEAD has no body.
        let body = if parts.method == http::Method::HEAD { empty() } else { full(line) };
        Ok::<_, hyper::Error>(builder.body(body).unwrap())
    });
    let serving = Background::run(move || async move {
        let listener = TcpListener::from_std(listener).unwrap();
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let stream = hyper_util::rt::TokioIo::new(stream);
            let mut version = [0; 3];
            stream.inner().peek(&mut version).await.unwrap();
            if &version == b"PRI" {
                let builder = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
                connections.spawn(builder.serve_connection(stream, service));
            } else {
                let builder = hyper::server::conn::http1::Builder::new();
                connections.spawn(builder.serve_connection(stream, service));
            }
        }
    });
    (addr, serving)
}

#[tokio::test]
async fn a_body_is_complete_only_by_its_framing() {
    let cases: [(&'static [u8], &str, Option<End>); 6] = [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", "abc", Some(End::Complete)),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabc", "abc", None),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "abc",
            Some(End::Complete),
        ),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", "abc", None),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", "abc", Some(End::Unframed)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "", Some(End::Complete)),
    ];
    for (answer, body, end) in cases {
        let (addr, _serving) = canned(answer);
        let got = Client::new(addr).download(bare("GET", "/")).await.unwrap();
        assert_eq!(got.body, body);
        match end {
            Some(end) => assert_eq!(got.end, end, "{}", String::from_utf8_lossy(answer)),
            None => assert!(matches!(got.end, End::Broken(_)), "{}", String::from_utf8_lossy(answer)),
        }
    }
}

#[tokio::test]
async fn raw_bytes_get_raw_answers() {
    let (addr, _serving) = canned(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\nno\n");
    let client = Client::new(addr);
    assert!(client.raw(b"GET /\x01 HTTP/1.1\r\n\r\n").await.ends_with(b"\r\n\r\nno\n"));
    let head = client.raw_head(b"PUT / HTTP/1.1\r\nexpect: 100-continue\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 400 ") && head.ends_with("\r\n\r\n"), "{head}");
}

#[tokio::test]
async fn both_versions_send_what_they_are_given() {
    let (addr, _serving) = echo();
    for (client, version) in [(Client::new(addr), "HTTP/1.1"), (Client::h2(addr), "HTTP/2.0")] {
        let client = client.with_basic("Aladdin", "open sesame");
        let answer = client.check(with_body("PUT", "/a%2fb", "four"), 200).await;
        assert_eq!(answer.text(), format!("PUT /a%2fb {version} Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ== 4"));
        let own = request("GET", "/").header("authorization", basic("a", "b")).body(chunked([])).unwrap();
        assert_eq!(client.send(own).await.text(), format!("GET / {version} Basic YTpi 0"));
        let head = client.check(bare("HEAD", "/"), 200).await;
        assert!(head.body.is_empty() && head.header("content-length").is_some());

        let large = Pattern { seed: 3, length: 1_000_001 };
        let upload = request("POST", "/").body(large.body()).unwrap();
        assert!(client.send(upload).await.text().ends_with(" 1000001"));
        let promised =
            request("POST", "/").header("content-length", "9").body(broken([Bytes::from("four")])).unwrap();
        client.try_send(promised).await.unwrap_err();
        client.try_send(request("POST", "/").body(broken([])).unwrap()).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_pattern_is_the_same_however_it_is_had() {
    let pattern = Pattern { seed: 9, length: 100_000 };
    assert_eq!(pattern.bytes().len(), 100_000);
    assert_ne!(pattern.bytes(), Pattern { seed: 10, ..pattern }.bytes());
    assert_eq!(pattern.body().collect().await.unwrap().to_bytes(), pattern.bytes());
    let (addr, _serving) = canned(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc");
    let got = Client::new(addr).measure(bare("GET", "/")).await.unwrap();
    assert_eq!((got.status.as_u16(), got.length, got.body.len()), (200, 3, 0));
    assert_eq!(got.headers["content-length"], "3");
    assert_eq!(got.sha256[..4], [0xba, 0x78, 0x16, 0xbf], "SHA-256 of abc (FIPS 180-2)");
}
