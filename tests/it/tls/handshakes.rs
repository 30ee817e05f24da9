//! Who may shake hands, in which version, how long, and what it costs others: nothing.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use larder::metrics::{Handshake, HandshakeLabels, Metrics};
use larder::server::tls::Clients;
use larder::server::{Drain, Limits, Server};
use rustls::HandshakeKind;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{ENTRY, lists, signed, tls};
use crate::support::certs::Certs;
use crate::support::gateway::{Options, TestGateway, eventually};
use crate::support::http::{Client, Pattern, bare, request};
use crate::support::tls::{Hand, VERSIONS, connect};
use crate::support::{LIMIT, loopback};

/// What is asked for, what is agreed upon, and whether HTTP/2 is spoken then.
type Asked = (&'static [&'static [u8]], Option<&'static [u8]>, bool);

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it takes no longer than our patience")
}

fn counted(metrics: &Metrics, result: Handshake) -> u64 {
    metrics.handshakes.get(&HandshakeLabels { result: result.name() }).map_or(0, |counter| counter.get())
}

/// A peer hears of its refusal before it is counted.
async fn come_to(metrics: &Metrics, result: Handshake, count: u64) {
    let what = format!("{count} handshakes are {}", result.name());
    eventually(&what, async || counted(metrics, result) == count).await;
}

fn open(certs: &Certs) -> Options {
    Options { tls: Some(tls(certs, Clients::Unasked)), ..Options::default() }
}

/// What a peer is told that says `GET /ping` after its handshake: an answer, or an alert.
async fn told(gateway: &TestGateway, hand: &Hand<'_>) -> Result<String, String> {
    let stream = TcpStream::connect(gateway.addr()).await.unwrap();
    let exchange = async {
        let mut stream = connect(&hand.config(), stream).await?;
        stream.write_all(b"GET /ping HTTP/1.1\r\nhost: larder\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    within(exchange).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn versions_and_protocols_are_agreed_upon() {
    let Some(certs) = Certs::usual() else { return };
    let gateway = TestGateway::with(open(&certs));
    for version in VERSIONS {
        let versions = [version];
        let hand = Hand::new(&certs).versions(&versions);
        let protocols: [Asked; 6] = [
            (&[b"h2"], Some(b"h2"), true),
            (&[b"http/1.1"], Some(b"http/1.1"), false),
            (&[b"http/1.1", b"h2"], Some(b"h2"), true),
            (&[b"spdy/1", b"http/1.1"], Some(b"http/1.1"), false),
            // Nothing: the first bytes tell.
            (&[], None, true),
            (&[], None, false),
        ];
        for (asked, agreed, two) in protocols {
            let config = hand.clone().alpn(asked).config();
            let stream = TcpStream::connect(gateway.addr()).await.unwrap();
            let stream = connect(&config, stream).await.unwrap();
            let session = stream.get_ref().1;
            assert_eq!(session.alpn_protocol(), agreed, "{asked:?}");
            assert_eq!(session.protocol_version(), Some(version.version));
            let client = if two { Client::h2(gateway.addr()) } else { gateway.client() };
            client.over(&config).check(bare("GET", "/ping"), 200).await;
        }
        let refused = told(&gateway, &hand.alpn(&[b"gopher"])).await.unwrap_err();
        assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    }
    assert_eq!(counted(&gateway.metrics, Handshake::Done), 2 * 2 * 6);
    come_to(&gateway.metrics, Handshake::Failed, 2).await;
}

/// A refusal is heard: the alert is not lost with the connection.
#[tokio::test]
async fn a_certificate_that_is_not_good_is_told_so() {
    let Some(certs) = Certs::usual() else { return };
    let options = Options {
        tls: Some(tls(&certs, signed(&certs))),
        certificates: Some(lists(&certs, true, true)),
        ..Options::default()
    };
    let gateway = TestGateway::with(options);
    for version in VERSIONS {
        let versions = [version];
        let hand = Hand::new(&certs).versions(&versions);
        assert!(told(&gateway, &hand.clone().showing("writable")).await.unwrap().starts_with("HTTP/1.1 200"));
        for (shown, alert) in
            [("expired", "CertificateExpired"), ("foreign", "UnknownCA"), ("selfmade", "CertificateUnknown")]
        {
            let refused = told(&gateway, &hand.clone().showing(shown)).await.unwrap_err();
            assert!(refused.contains(alert), "{version:?} {shown}: {refused}");
        }
        let distrusting = told(&gateway, &hand.trusting("stranger")).await.unwrap_err();
        assert!(distrusting.contains("UnknownIssuer"), "{distrusting}");
    }
    come_to(&gateway.metrics, Handshake::Certificate, 6).await;
    come_to(&gateway.metrics, Handshake::Declined, 2).await;
}

/// Certificates are public: whoever has one without its key gets nowhere, listed or signed.
#[tokio::test]
async fn a_certificate_without_its_key_is_worth_nothing() {
    let Some(certs) = Certs::usual() else { return };
    for clients in [Clients::Any, signed(&certs)] {
        let options = Options {
            tls: Some(tls(&certs, clients)),
            certificates: Some(lists(&certs, true, true)),
            ..Options::default()
        };
        let gateway = TestGateway::with(options);
        for version in VERSIONS {
            let versions = [version];
            let thief = Hand::new(&certs).versions(&versions).stealing("writable", "unlisted");
            let refused = told(&gateway, &thief).await.unwrap_err();
            assert!(refused.contains("alert"), "{version:?}: {refused}");
        }
        come_to(&gateway.metrics, Handshake::Certificate, 2).await;
        assert_eq!(counted(&gateway.metrics, Handshake::Done), 0);
    }
}

/// A certificate is looked at on every connection; where none is asked for, sessions go on.
#[tokio::test]
async fn sessions_are_resumed_only_where_no_certificate_is_asked_for() {
    let Some(certs) = Certs::usual() else { return };
    for (clients, second) in [
        (Clients::Unasked, HandshakeKind::Resumed),
        (Clients::Any, HandshakeKind::Full),
        (signed(&certs), HandshakeKind::Full),
    ] {
        let gateway = TestGateway::with(Options { tls: Some(tls(&certs, clients)), ..Options::default() });
        for version in VERSIONS {
            let versions = [version];
            let config = Hand::new(&certs).versions(&versions).showing("writable").config();
            for expected in [HandshakeKind::Full, second] {
                let stream = TcpStream::connect(gateway.addr()).await.unwrap();
                let mut stream = connect(&config, stream).await.unwrap();
                stream.write_all(b"GET /ping HTTP/1.0\r\n\r\n").await.unwrap();
                let mut answer = Vec::new();
                within(stream.read_to_end(&mut answer)).await.unwrap();
                assert!(answer.starts_with(b"HTTP/1.0 200"));
                assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected), "{version:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_tls_is_closed_without_harm() {
    let Some(certs) = Certs::usual() else { return };
    let gateway = TestGateway::with(open(&certs));
    let hand = Hand::new(&certs);
    let mut failed = 0;
    for words in
        [&b"GET /ping HTTP/1.1\r\nhost: larder\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0; 4096]]
    {
        let answer = gateway.client().raw(words).await;
        assert!(!answer.windows(4).any(|four| four == b"HTTP"), "{answer:?}");
        failed += 1;
        come_to(&gateway.metrics, Handshake::Failed, failed).await;
    }
    drop(TcpStream::connect(gateway.addr()).await.unwrap());
    come_to(&gateway.metrics, Handshake::Closed, 1).await;
    assert!(told(&gateway, &hand).await.unwrap().starts_with("HTTP/1.1 200"));
    eventually("all are gone", async || gateway.metrics.connections.get() == 0).await;
}

/// Silence, and a byte now and then: neither lasts longer than a head may take, and nobody waits for it.
#[tokio::test]
async fn a_slow_handshake_is_cut_and_holds_up_nobody() {
    let Some(certs) = Certs::usual() else { return };
    let header_timeout = Duration::from_secs(1);
    let server = Limits { header_timeout, ..Options::default().server };
    let gateway = TestGateway::with(Options { server, ..open(&certs) });
    let began = tokio::time::Instant::now();
    let mut silent = TcpStream::connect(gateway.addr()).await.unwrap();
    let mut trickling = TcpStream::connect(gateway.addr()).await.unwrap();
    let mut peers = JoinSet::new();
    peers.spawn(async move { drop(silent.read(&mut [0]).await) });
    peers.spawn(async move {
        // The beginning of a record that is longer than what comes of it.
        let mut steps = tokio::time::interval(header_timeout / 20);
        for byte in [22, 3, 1, 2, 0].into_iter().chain(std::iter::repeat(1)) {
            steps.tick().await;
            if trickling.write_all(&[byte]).await.is_err() {
                break;
            }
        }
    });
    eventually("both are connected", async || gateway.metrics.connections.get() == 2).await;
    assert!(told(&gateway, &Hand::new(&certs)).await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(began.elapsed() < header_timeout, "nobody waited for them");
    within(peers.join_all()).await;
    assert!(began.elapsed() >= header_timeout);
    come_to(&gateway.metrics, Handshake::Slow, 2).await;
}

/// A place is taken before the handshake; who dawdles at it gives way.
#[tokio::test]
async fn connections_are_counted_before_they_are_encrypted() {
    let Some(certs) = Certs::usual() else { return };
    let server = Limits { max_connections: 1, ..Options::default().server };
    let gateway = TestGateway::with(Options { server, ..open(&certs) });
    let mut silent = TcpStream::connect(gateway.addr()).await.unwrap();
    eventually("it has the place", async || gateway.metrics.connections.get() == 1).await;
    assert!(told(&gateway, &Hand::new(&certs)).await.unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(within(silent.read(&mut [0])).await.unwrap_or(0), 0, "the dawdler had to go");
}

/// A peer that takes nothing of its answer, though encryption holds some of it back.
#[tokio::test]
async fn who_takes_no_answer_is_cut() {
    let Some(certs) = Certs::usual() else { return };
    let server = Limits { write_timeout: Duration::from_millis(300), ..Options::default().server };
    let gateway = TestGateway::with(Options { server, ..open(&certs) });
    let config = Hand::new(&certs).config();
    let large = Pattern { seed: 3, length: 64 << 20 };
    let path = format!("{ENTRY}/large");
    gateway.client().over(&config).check(request("POST", &path).body(large.body()).unwrap(), 200).await;
    let stream = TcpStream::connect(gateway.addr()).await.unwrap();
    let mut stream = connect(&config, stream).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: larder\r\n\r\n").as_bytes()).await.unwrap();
    stream.read_u8().await.unwrap();
    eventually("it is cut", async || gateway.metrics.connections.get() == 0).await;
}

#[tokio::test]
async fn a_drain_does_not_wait_for_handshakes() {
    let Some(certs) = Certs::usual() else { return };
    let (drain, metrics) = (Drain::new(), Metrics::new());
    let server = Server::bind(loopback(), Limits::default(), metrics.clone()).await.unwrap();
    let server = server.with_tls(tls(&certs, Clients::Unasked));
    let addr = server.local_addr();
    let mut run = JoinSet::new();
    run.spawn(server.run(Router::new().route("/", get(async || "hello")), drain.clone()));
    let mut silent = TcpStream::connect(addr).await.unwrap();
    let mut idle = Vec::new();
    for alpn in [&[][..], &[&b"http/1.1"[..]]] {
        let config = Hand::new(&certs).alpn(alpn).config();
        idle.push(connect(&config, TcpStream::connect(addr).await.unwrap()).await.unwrap());
    }
    come_to(&metrics, Handshake::Done, 2).await;
    eventually("three are there", async || metrics.connections.get() == 3).await;
    drain.begin();
    let ends = async {
        assert_eq!(silent.read(&mut [0]).await.unwrap_or(0), 0);
        for mut idle in idle {
            // With a goodbye, or this is an error.
            assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
        }
        run.join_next().await.unwrap().unwrap()
    };
    let began = tokio::time::Instant::now();
    assert!(within(ends).await.in_time());
    assert!(began.elapsed() < Duration::from_secs(5), "long before a head's time is over");
}
