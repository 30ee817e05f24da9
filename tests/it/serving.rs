//! Promise: no peer, however slow, silent, rude or many, costs more than its own connection, and nobody is cut
//! off while the server leaves in order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{Request, Response, StatusCode, header};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use larder::metrics::Metrics;
use larder::payload::BodyError;
use larder::server::{Drain, Drained, Limits, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Nothing here takes so long, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// A time-out that a test waits for.
const SHORT: Duration = Duration::from_millis(200);

/// What handlers tell the test, and wait for.
#[derive(Clone)]
struct Stage {
    entered: mpsc::UnboundedSender<()>,
    left: mpsc::UnboundedSender<()>,
    gate: Arc<Semaphore>,
}

/// Says that its holder is gone.
struct Leaving(mpsc::UnboundedSender<()>);

impl Drop for Leaving {
    fn drop(&mut self) {
        // The test may be over.
        self.0.send(()).ok();
    }
}

/// A server under test, and its handlers' side.
struct Live {
    addr: SocketAddr,
    drain: Drain,
    metrics: Metrics,
    entered: mpsc::UnboundedReceiver<()>,
    left: mpsc::UnboundedReceiver<()>,
    gate: Arc<Semaphore>,
    run: JoinSet<Drained>,
}

impl Live {
    async fn start(limits: Limits) -> Self {
        let (entered_tx, entered) = mpsc::unbounded_channel();
        let (left_tx, left) = mpsc::unbounded_channel();
        let gate = Arc::new(Semaphore::new(0));
        let stage = Stage { entered: entered_tx, left: left_tx, gate: Arc::clone(&gate) };
        let (drain, metrics) = (Drain::new(), Metrics::new());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(any, limits, metrics.clone()).await.expect("port 0 can be bound");
        let addr = server.local_addr();
        let mut run = JoinSet::new();
        run.spawn(server.run(router(stage), drain.clone()));
        Self { addr, drain, metrics, entered, left, gate, run }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.expect("the server accepts")
    }

    /// A connection that has sent this.
    async fn say(&self, words: &str) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(words.as_bytes()).await.expect("the server reads");
        stream
    }

    async fn http2(&self) -> (SendRequest<Empty<Bytes>>, JoinSet<()>) {
        let io = TokioIo::new(self.connect().await);
        let (send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2 is spoken");
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        (send, driver)
    }

    /// Waits until a handler has begun.
    async fn entered(&mut self) {
        within(self.entered.recv()).await.expect("a handler begins");
    }

    /// Waits until a handler, or an answer's body, is gone.
    async fn left(&mut self) {
        within(self.left.recv()).await.expect("a handler ends");
    }

    async fn drained(&mut self) -> Drained {
        within(self.run.join_next()).await.expect("it runs").expect("it does not panic")
    }
}

fn router(stage: Stage) -> Router {
    Router::new()
        .route("/", get(async || "hello"))
        .route("/peer", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()))
        .route("/wait", get(wait))
        .route("/endless", get(endless))
        .route("/refuse", post(async || StatusCode::FORBIDDEN))
        .route("/length", post(length))
        .with_state(stage)
}

async fn wait(State(stage): State<Stage>) -> &'static str {
    let _leaving = Leaving(stage.left.clone());
    stage.entered.send(()).ok();
    match stage.gate.acquire().await {
        Ok(permit) => permit.forget(),
        Err(_) => return "closed",
    }
    "waited"
}

async fn endless(State(stage): State<Stage>) -> Body {
    let chunk = Bytes::from(vec![0_u8; 64 << 10]);
    let leaving = Leaving(stage.left);
    Body::from_stream(stream::repeat_with(move || {
        let _held = &leaving;
        Ok::<_, Infallible>(chunk.clone())
    }))
}

async fn length(request: Request<Body>) -> Response<Body> {
    let answer = |status, text: String| {
        Response::builder().status(status).body(Body::from(text)).expect("a plain answer")
    };
    match request.into_body().collect().await {
        Ok(body) => answer(StatusCode::OK, body.to_bytes().len().to_string()),
        Err(error) => match error.into_inner().downcast_ref::<BodyError>() {
            Some(BodyError::Stalled) => answer(StatusCode::REQUEST_TIMEOUT, String::new()),
            other => answer(StatusCode::BAD_REQUEST, format!("{other:?}")),
        },
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it takes no longer than our patience")
}

/// All that comes until the server closes. A reset counts as an end: what came before it counts.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let result = within(stream.read_to_end(&mut bytes)).await;
    if let Err(error) = result {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// All that comes up to this text.
async fn until(stream: &mut TcpStream, text: &str) -> String {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(text) {
        let byte = within(stream.read_u8()).await.expect("the text comes before the end");
        bytes.push(byte);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn request(path: &str) -> Request<Empty<Bytes>> {
    Request::builder().uri(format!("http://larder{path}")).body(Empty::new()).expect("a plain request")
}

async fn fetch(send: &mut SendRequest<Empty<Bytes>>, path: &str) -> Bytes {
    within(send.ready()).await.expect("the connection is open");
    let response = within(send.send_request(request(path))).await.expect("it is answered");
    within(response.into_body().collect()).await.expect("it is whole").to_bytes()
}

const HELLO: &str = "GET / HTTP/1.1\r\nhost: larder\r\n\r\n";
const WAIT: &str = "GET /wait HTTP/1.1\r\nhost: larder\r\n\r\n";

#[tokio::test]
async fn both_versions_are_answered_on_one_port() {
    let live = Live::start(Limits::default()).await;
    let mut one = live.say(HELLO).await;
    assert!(until(&mut one, "hello").await.starts_with("HTTP/1.1 200"));
    let (mut two, _driver) = live.http2().await;
    assert_eq!(fetch(&mut two, "/").await, "hello");
    let many = (0..100).map(|_| {
        let mut two = two.clone();
        async move { fetch(&mut two, "/").await }
    });
    assert!(futures_util::future::join_all(many).await.iter().all(|answer| answer == "hello"));
    assert_eq!(live.metrics.connections.get(), 2);
}

#[tokio::test]
async fn a_preface_in_pieces_is_still_http2() {
    let live = Live::start(Limits::default()).await;
    let mut stream = live.connect().await;
    for piece in ["PRI * HTTP/2.0\r\n", "\r\nSM\r\n\r\n", "\0\0\0\x04\0\0\0\0\0"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    // The server's SETTINGS: type 4 on stream 0.
    let mut frame = [0; 9];
    within(stream.read_exact(&mut frame)).await.unwrap();
    assert_eq!(frame[3], 4);
}

#[tokio::test]
async fn the_peer_and_a_doubled_slash_reach_the_router() {
    let live = Live::start(Limits::default()).await;
    let mut stream = live.connect().await;
    let own = stream.local_addr().unwrap().to_string();
    stream.write_all(b"GET //peer?a=// HTTP/1.1\r\nhost: larder\r\n\r\n").await.unwrap();
    assert!(until(&mut stream, &own).await.starts_with("HTTP/1.1 200"));
    stream.write_all(b"GET ///peer HTTP/1.1\r\nhost: larder\r\n\r\n").await.unwrap();
    assert!(until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let live = Live::start(Limits { header_timeout: SHORT, ..Limits::default() }).await;
    let began = Instant::now();
    assert_eq!(rest(&mut live.connect().await).await, "");
    assert!(began.elapsed() >= SHORT - Duration::from_millis(20));
}

#[tokio::test]
async fn a_head_that_drips_is_cut() {
    let live = Live::start(Limits { header_timeout: SHORT, ..Limits::default() }).await;
    for start in ["GET / HTTP/1.1\r\n", "PRI * HTTP", &format!("{HELLO}GET /")] {
        let (mut reader, mut writer) = live.say(start).await.into_split();
        let mut dripping = JoinSet::new();
        dripping.spawn(async move {
            let mut drop_by_drop = tokio::time::interval(Duration::from_millis(20));
            loop {
                drop_by_drop.tick().await;
                if writer.write_all(b"a").await.is_err() {
                    return;
                }
            }
        });
        let mut bytes = Vec::new();
        // Ends with or without a reset.
        drop(within(reader.read_to_end(&mut bytes)).await);
    }
}

#[tokio::test]
async fn an_idle_connection_outlives_the_header_timeout_and_not_its_own() {
    let idle = Duration::from_millis(800);
    let limits =
        Limits { header_timeout: Duration::from_millis(100), idle_timeout: idle, ..Limits::default() };
    let live = Live::start(limits).await;
    let mut one = live.say(HELLO).await;
    until(&mut one, "hello").await;
    let (mut two, mut driver) = live.http2().await;
    fetch(&mut two, "/").await;
    let began = Instant::now();
    assert_eq!(rest(&mut one).await, "");
    within(driver.join_next()).await.unwrap().unwrap();
    assert!(began.elapsed() >= idle - Duration::from_millis(100), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_second_head_has_the_header_timeout_again() {
    let limits = Limits { header_timeout: SHORT, idle_timeout: PATIENCE * 2, ..Limits::default() };
    let live = Live::start(limits).await;
    let mut stream = live.say(HELLO).await;
    until(&mut stream, "hello").await;
    stream.write_all(b"GET / HT").await.unwrap();
    rest(&mut stream).await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let live = Live::start(Limits::default()).await;
    let last = "GET /peer HTTP/1.1\r\nhost: larder\r\nconnection: close\r\n\r\n";
    let mut stream = live.say(&format!("{HELLO}{HELLO}{last}")).await;
    let own = stream.local_addr().unwrap().to_string();
    let all = rest(&mut stream).await;
    assert_eq!(all.matches("hello").count(), 2);
    assert!(all.ends_with(&own));
}

#[tokio::test]
async fn bad_heads_are_refused_and_bother_nobody() {
    let mut live = Live::start(Limits::default()).await;
    let mut other = live.say(WAIT).await;
    live.entered().await;
    let many: String = (0..100).map(|n| format!("x-{n}: y\r\n")).collect();
    for (words, status) in [
        ("\0\x01\x02 nonsense\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), "400"),
        ("POST /length HTTP/1.1\r\ncontent-length: 1x\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nlong: {}\r\n\r\n", "a".repeat(200_000)), "431"),
        (format!("GET / HTTP/1.1\r\n{many}\r\n"), "431"),
    ] {
        let answer = rest(&mut live.say(&words).await).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{words:.40?} was answered {answer:?}");
    }
    live.gate.add_permits(1);
    until(&mut other, "waited").await;
}

#[tokio::test]
async fn a_refusal_reaches_who_is_still_sending() {
    let live = Live::start(Limits::default()).await;
    let mut stream =
        live.say("POST /refuse HTTP/1.1\r\nhost: larder\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let mut chunk = b"10000\r\n".to_vec();
    chunk.resize(chunk.len() + (64 << 10), b'a');
    chunk.extend_from_slice(b"\r\n");
    // 50 MiB, and only then a look at the answer.
    for _ in 0..800 {
        within(stream.write_all(&chunk)).await.unwrap();
    }
    within(stream.write_all(b"0\r\n\r\n")).await.unwrap();
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_refusal_comes_before_the_body_is_asked_for() {
    let live = Live::start(Limits::default()).await;
    let head = "POST /refuse HTTP/1.1\r\nhost: larder\r\ncontent-length: 9\r\nexpect: 100-continue\r\n\r\n";
    let mut stream = live.say(head).await;
    assert!(until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 403"));
    let head = head.replace("refuse", "length");
    let mut stream = live.say(&head).await;
    assert!(until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 100"));
    stream.write_all(b"123456789").await.unwrap();
    assert!(until(&mut stream, "\r\n\r\n9").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_upload_that_stalls_is_told_from_one_that_broke() {
    let live = Live::start(Limits { body_timeout: SHORT, ..Limits::default() }).await;
    let head = "POST /length HTTP/1.1\r\nhost: larder\r\ncontent-length: 9\r\n\r\n";
    let answer = rest(&mut live.say(&format!("{head}123")).await).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    let mut whole = live.say(&format!("{head}123456789")).await;
    assert!(until(&mut whole, "\r\n\r\n9").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let mut live = Live::start(Limits::default()).await;
    let one = live.say(WAIT).await;
    live.entered().await;
    drop(one);
    live.left().await;
    let (mut two, _driver) = live.http2().await;
    let answer = two.send_request(request("/wait"));
    live.entered().await;
    drop(answer);
    live.left().await;
}

#[tokio::test]
async fn who_does_not_read_is_cut() {
    let mut live = Live::start(Limits { write_timeout: SHORT, ..Limits::default() }).await;
    let _unread = live.say("GET /endless HTTP/1.1\r\nhost: larder\r\n\r\n").await;
    live.left().await;
}

#[tokio::test]
async fn a_stream_that_is_not_read_is_reset_and_its_connection_lives() {
    let mut live = Live::start(Limits { write_timeout: SHORT, ..Limits::default() }).await;
    let (mut two, _driver) = live.http2().await;
    let unread = within(two.send_request(request("/endless"))).await.unwrap();
    live.left().await;
    assert_eq!(fetch(&mut two, "/").await, "hello");
    let broken = within(unread.into_body().collect()).await;
    assert!(broken.is_err(), "an answer that was cut does not look whole");
}

#[tokio::test]
async fn one_too_many_waits_for_a_place() {
    let mut live = Live::start(Limits { max_connections: 2, ..Limits::default() }).await;
    let mut first = live.say(WAIT).await;
    let _second = live.say(WAIT).await;
    live.entered().await;
    live.entered().await;
    let mut third = live.say(HELLO).await;
    let early = tokio::time::timeout(SHORT, third.read_u8()).await;
    assert!(early.is_err(), "answered beyond the limit");
    assert_eq!(live.metrics.connections.get(), 2);
    // One becomes idle, and makes place.
    live.gate.add_permits(1);
    until(&mut third, "hello").await;
    drop(rest(&mut first).await);
}

#[tokio::test]
async fn the_idle_make_place_for_the_new() {
    let live = Live::start(Limits { max_connections: 1, ..Limits::default() }).await;
    let mut stays = live.say(HELLO).await;
    until(&mut stays, "hello").await;
    let mut comes = live.say(HELLO).await;
    assert_eq!(rest(&mut stays).await, "");
    until(&mut comes, "hello").await;
    let (mut two, _driver) = live.http2().await;
    assert_eq!(fetch(&mut two, "/").await, "hello");
    // The silent count as idle, once they had time to speak.
    let mut silent = live.connect().await;
    let mut again = live.say(HELLO).await;
    assert_eq!(rest(&mut silent).await, "");
    until(&mut again, "hello").await;
}

#[tokio::test]
async fn the_old_end_after_their_request() {
    let limits = Limits { max_age: Some(SHORT), max_age_jitter: 0.0, ..Limits::default() };
    let mut live = Live::start(limits).await;
    let mut busy = live.say(WAIT).await;
    live.entered().await;
    // Opened later: when it has ended of age, the busy one is older still.
    let mut idle = live.say(HELLO).await;
    until(&mut idle, "hello").await;
    assert_eq!(rest(&mut idle).await, "");
    live.gate.add_permits(1);
    let answer = rest(&mut busy).await;
    assert!(answer.contains("connection: close") && answer.ends_with("waited"), "{answer}");
    let (mut two, mut driver) = live.http2().await;
    fetch(&mut two, "/").await;
    within(driver.join_next()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_ends_the_idle_refuses_the_new_and_waits_for_the_busy() {
    let mut live = Live::start(Limits::default()).await;
    let mut idle = live.say(HELLO).await;
    until(&mut idle, "hello").await;
    let mut silent = live.connect().await;
    let (mut two, mut driver) = live.http2().await;
    fetch(&mut two, "/").await;
    let mut busy = live.say(WAIT).await;
    let (mut busy_two, _driver) = live.http2().await;
    let answer = busy_two.send_request(request("/wait"));
    live.entered().await;
    live.entered().await;
    live.drain.begin();
    assert!(live.drain.is_draining());
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(rest(&mut silent).await, "");
    within(driver.join_next()).await.unwrap().unwrap();
    assert!(TcpStream::connect(live.addr).await.is_err(), "new work is refused");
    live.gate.add_permits(2);
    let answered = rest(&mut busy).await;
    assert!(answered.contains("connection: close") && answered.ends_with("waited"), "{answered}");
    assert_eq!(within(answer).await.unwrap().status(), StatusCode::OK);
    assert!(live.drained().await.in_time());
    assert_eq!(live.metrics.connections.get(), 0);
}

#[tokio::test]
async fn a_drain_cuts_what_takes_too_long() {
    let mut live = Live::start(Limits { drain_timeout: SHORT, ..Limits::default() }).await;
    let mut one = live.say(WAIT).await;
    let (mut two, _driver) = live.http2().await;
    let answer = two.send_request(request("/wait"));
    live.entered().await;
    live.entered().await;
    live.drain.begin();
    assert_eq!(live.drained().await, Drained { cut: 2 });
    assert_eq!(rest(&mut one).await, "");
    assert!(within(answer).await.is_err());
    live.left().await;
    live.left().await;
    assert_eq!(live.metrics.connections.get(), 0);
}

#[tokio::test]
async fn two_servers_share_a_drain() {
    let (drain, metrics) = (Drain::new(), Metrics::new());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut both = JoinSet::new();
    for name in ["main", "ops"] {
        let server = Server::bind(any, Limits::default(), metrics.clone()).await.unwrap();
        let mut stream = TcpStream::connect(server.local_addr()).await.unwrap();
        let router = Router::new().route("/", get(async move || ([(header::SERVER, name)], "")));
        both.spawn(server.run(router, drain.clone()));
        stream.write_all(HELLO.as_bytes()).await.unwrap();
        until(&mut stream, &format!("server: {name}")).await;
    }
    drain.begin();
    while let Some(drained) = within(both.join_next()).await {
        assert!(drained.unwrap().in_time());
    }
}
