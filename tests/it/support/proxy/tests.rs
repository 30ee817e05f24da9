//! The proxy is what it says, before a small server that keeps what it is sent, and before the real ones.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::super::http::{Client, Download, End, Pattern, bare, chunked, full, request, with_body};
use super::super::{Background, backends, loopback};
use super::{Fault, FaultProxy};

const OBJECT: Pattern = Pattern { seed: 1, length: 200_000 };

/// What the little server was sent: whole bodies, or `None` for one that broke.
type Kept = Arc<Mutex<Vec<Option<Bytes>>>>;

struct Server {
    addr: SocketAddr,
    kept: Kept,
    _serving: Background,
}

fn server() -> Server {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    let kept = Kept::default();
    let shared = Arc::clone(&kept);
    let serving = Background::run(move || async move {
        let listener = TcpListener::from_std(listener).unwrap();
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let kept = Arc::clone(&shared);
            let service = service_fn(move |request| answer(request, Arc::clone(&kept)));
            let connection = hyper::server::conn::http1::Builder::new();
            connections.spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    Server { addr, kept, _serving: serving }
}

/// GET: the object, with its length unless asked for `/chunked`; the request's `Host` and target in
/// headers. PUT: keeps the body.
async fn answer(
    request: http::Request<Incoming>,
    kept: Kept,
) -> Result<http::Response<super::Body>, Infallible> {
    let target = request.uri().to_string();
    let host = request.headers()["host"].clone();
    let builder = http::Response::builder().header("x-host", host).header("x-target", target.clone());
    if request.method() == http::Method::PUT {
        let body = request.into_body().collect().await.ok().map(|body| body.to_bytes());
        kept.lock().unwrap().push(body);
        return Ok(builder.body(full("kept")).unwrap());
    }
    let stream = futures_util::stream::iter(OBJECT.blocks().map(Frame::data).map(Ok));
    let body = StreamBody::new(stream).boxed_unsync();
    let builder = if target.starts_with("/chunked") {
        builder
    } else {
        builder.header("content-length", OBJECT.length)
    };
    Ok(builder.body(body).unwrap())
}

async fn get(proxy: &FaultProxy, target: &str) -> std::io::Result<Download> {
    Client::new(proxy.addr()).download(bare("GET", target)).await
}

/// What came is a true beginning of the object, of at most `limit` bytes, and is known to be cut.
fn assert_cut(download: &Download, limit: usize) {
    assert!(matches!(download.end, End::Broken(_)), "{:?}", download.end);
    assert!(download.body.len() <= limit && OBJECT.bytes().starts_with(&download.body));
}

#[tokio::test]
async fn everything_passes_untouched_over_one_kept_connection() {
    let server = server();
    let proxy = FaultProxy::start(server.addr);
    let mut connection = Client::new(proxy.addr()).connect().await.unwrap();
    for target in ["/b/a%2fb%20c/+;d?list-type=2&prefix=%2F", "/chunked/x?y", "/b/k"] {
        let answer = connection.send(bare("GET", target)).await.unwrap();
        assert_eq!(answer.body, OBJECT.bytes());
        assert_eq!(answer.header("x-target"), Some(target));
        assert_eq!(answer.header("x-host"), Some(proxy.addr().to_string().as_str()));
    }
    connection.send(with_body("PUT", "/b/k", OBJECT.bytes())).await.unwrap();
    connection.send(request("PUT", "/b/k").body(OBJECT.body()).unwrap()).await.unwrap();
    assert_eq!(*server.kept.lock().unwrap(), [Some(OBJECT.bytes()), Some(OBJECT.bytes())]);
    assert_eq!(proxy.verbs(), [("GetObject", 2), ("ListObjectsV2", 1), ("PutObject", 2)].into());
    assert_eq!(proxy.take_requests()[0].path(), "/b/a%2fb%20c/+;d");
    assert!(proxy.requests().is_empty());
}

#[tokio::test]
async fn answers_are_cut_in_every_way() {
    let server = server();
    let proxy = FaultProxy::start(server.addr);
    for target in ["/b/k", "/chunked"] {
        for fault in [Fault::ResetMidBody(70_000), Fault::CloseMidBody(70_000), Fault::CloseMidBody(0)] {
            proxy.set(fault.clone());
            let limit = if fault == Fault::CloseMidBody(0) { 0 } else { 70_000 };
            // A reset at once may overtake the head.
            if let Ok(download) = get(&proxy, target).await {
                assert_cut(&download, limit);
            } else {
                assert_ne!(limit, 70_000, "{target}: no head before {fault:?}");
            }
        }
        proxy.set(Fault::ResetMidBody(OBJECT.length));
        assert_eq!(get(&proxy, target).await.unwrap().end, End::Complete, "no byte is beyond the count");
    }

    proxy.set(Fault::UnderstateLength(1000));
    let download = get(&proxy, "/b/k").await.unwrap();
    assert_eq!((download.length, download.end), (1000, End::Complete));

    proxy.set(Fault::FlipByte(150_000));
    let mut flipped = OBJECT.bytes().to_vec();
    flipped[150_000] ^= 1;
    let download = get(&proxy, "/b/k").await.unwrap();
    assert!(download.body == flipped && download.end == End::Complete);
    proxy.set(Fault::Pass);
    assert_eq!(get(&proxy, "/b/k").await.unwrap().sha256, OBJECT.sha256());
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let server = server();
    let proxy = FaultProxy::start(server.addr);
    proxy.set_when(|seen| seen.path() == "/reset", Fault::Refuse, None);
    proxy.set_when(|seen| seen.path() == "/lost", Fault::LoseAnswer, None);
    for (target, body) in [("/reset", None), ("/lost", Some(OBJECT.bytes()))] {
        let ask = request("PUT", target).body(full(OBJECT.bytes())).unwrap();
        let error = Client::new(proxy.addr()).try_send(ask).await.unwrap_err();
        let io =
            std::error::Error::source(error.get_ref().unwrap()).unwrap().downcast_ref::<std::io::Error>();
        assert_eq!(io.map(std::io::Error::kind), Some(std::io::ErrorKind::ConnectionReset), "{target}");
        assert_eq!(server.kept.lock().unwrap().pop().flatten(), body, "{target}");
    }
}

#[tokio::test]
async fn uploads_are_struck_before_the_server() {
    let server = server();
    let proxy = FaultProxy::start(server.addr);
    proxy.set(Fault::ResetMidUpload(70_000));
    let upload = request("PUT", "/b/k").header("content-length", OBJECT.length).body(OBJECT.body()).unwrap();
    Client::new(proxy.addr()).try_send(upload).await.unwrap_err();
    let upload = request("PUT", "/b/k").body(chunked(OBJECT.blocks())).unwrap();
    Client::new(proxy.addr()).try_send(upload).await.unwrap_err();
    proxy.set(Fault::FlipUploadByte(199_999));
    Client::new(proxy.addr()).check(with_body("PUT", "/b/k", OBJECT.bytes()), 200).await;
    let whole: Vec<Bytes> = server.kept.lock().unwrap().drain(..).flatten().collect();
    let mut flipped = OBJECT.bytes().to_vec();
    flipped[199_999] ^= 1;
    assert_eq!(whole, [flipped], "of those that broke, nothing is whole");
}

#[tokio::test]
async fn s3_errors_come_in_the_servers_stead() {
    let server = server();
    let proxy = FaultProxy::start(server.addr);
    let client = Client::new(proxy.addr());
    for (fault, status, code) in [
        (Fault::SlowDown, 503, "SlowDown"),
        (Fault::InternalError, 500, "InternalError"),
        (Fault::AccessDenied, 403, "AccessDenied"),
        (Fault::OkWithError, 200, "InternalError"),
        (Fault::OneIn { n: 1, seed: 0 }, 503, "SlowDown"),
    ] {
        proxy.set(fault);
        let answer = client.check(with_body("PUT", "/b/k", OBJECT.bytes()), status).await;
        assert!(answer.text().contains(&format!("<Code>{code}</Code>")), "{}", answer.text());
        assert!(client.check(bare("HEAD", "/b/k"), status).await.body.is_empty());
    }
    assert!(server.kept.lock().unwrap().is_empty());
    proxy.set(Fault::Pass);
    proxy.set_when(|seen| seen.verb() == "GetObject", Fault::SlowDown, Some(2));
    for status in [503, 503, 200] {
        client.check(bare("GET", "/b/k"), status).await;
    }
}

#[tokio::test]
async fn a_hang_hangs_and_latency_ends() {
    let server = server();
    let proxy = FaultProxy::start(server.addr);
    proxy.set_when(|seen| seen.path() == "/never", Fault::Hang, None);
    proxy.set_when(|seen| seen.path() == "/half", Fault::HangMidBody(70_000), None);
    proxy.set_when(|seen| seen.path() == "/late", Fault::Latency(Duration::from_millis(300)), None);

    let never = tokio::time::timeout(Duration::from_millis(300), get(&proxy, "/never"));
    assert!(never.await.is_err());
    proxy.until_seen(|seen| seen.path() == "/never").await;

    let mut connection = Client::new(proxy.addr()).connect().await.unwrap();
    let mut body = connection.open(bare("GET", "/half")).await.unwrap().into_body();
    let mut length = 0;
    while length < 70_000 {
        length += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    assert_eq!(length, 70_000);
    assert!(tokio::time::timeout(Duration::from_millis(300), body.frame()).await.is_err());

    let start = Instant::now();
    assert_eq!(get(&proxy, "/late").await.unwrap().end, End::Complete);
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_closed_port_refuses_cuts_and_opens_again() {
    let server = server();
    let proxy = FaultProxy::start(server.addr);
    let mut kept = Client::new(proxy.addr()).connect().await.unwrap();
    kept.send(bare("GET", "/b/k")).await.unwrap();
    for _ in 0..3 {
        proxy.set(Fault::Refuse);
        let refused = TcpStream::connect(proxy.addr()).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        kept.send(bare("GET", "/b/k")).await.unwrap_err();
        proxy.set(Fault::Pass);
        kept = Client::new(proxy.addr()).connect().await.unwrap();
        kept.send(bare("GET", "/b/k")).await.unwrap();
    }
    assert_eq!(proxy.requests().len(), 4);
}

#[tokio::test]
async fn a_server_that_is_gone_is_gone_through_the_proxy() {
    let Server { addr, _serving: serving, .. } = server();
    let proxy = FaultProxy::start(addr);
    let mut kept = Client::new(proxy.addr()).connect().await.unwrap();
    kept.send(bare("GET", "/b/k")).await.unwrap();
    drop(serving);
    kept.send(bare("GET", "/b/k")).await.unwrap_err();
    get(&proxy, "/b/k").await.unwrap_err();
}

/// What all else rests on: real servers check a signature made for the proxy's address.
#[tokio::test]
async fn signatures_hold_through_the_proxy() {
    for server in backends::servers() {
        let upstream = server.endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        let proxy = FaultProxy::start(upstream);
        let credentials = Credentials::new(&server.key, &server.secret, None, None, "test");
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(proxy.endpoint())
            .force_path_style(true)
            .credentials_provider(credentials)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        let client = aws_sdk_s3::Client::from_conf(config);
        // Several runs may share a server.
        let prefix = format!("proxy-{:016x}/", fastrand::u64(..));
        let key = format!("{prefix}a b+ü");
        let object = |key: &str| client.put_object().bucket(&server.bucket).key(key);
        object(&key).body(OBJECT.bytes().into()).send().await.unwrap();
        let got = client.get_object().bucket(&server.bucket).key(&key).send().await.unwrap();
        assert_eq!(got.body.collect().await.unwrap().into_bytes(), OBJECT.bytes(), "{}", server.name);
        assert_eq!(proxy.verbs(), [("GetObject", 1), ("PutObject", 1)].into(), "{}", server.name);

        // The server's own checks are what stands between a flipped byte and the bucket.
        proxy.set(Fault::FlipUploadByte(3));
        object(&format!("{prefix}flipped"))
            .body(Bytes::from_static(b"flip me").into())
            .send()
            .await
            .unwrap_err();
        proxy.set(Fault::Pass);
        let list = client.list_objects_v2().bucket(&server.bucket).prefix(&prefix).send().await.unwrap();
        assert_eq!(list.key_count(), Some(1), "{}", server.name);
        client.delete_object().bucket(&server.bucket).key(&key).send().await.unwrap();
    }
}
