//! Certificates change while connections live: these go on, and what comes after them sees the new state.

use std::net::SocketAddr;
use std::{fs, io};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use larder::front::auth::certificates::{Certificates, Roles};
use larder::server::tls::Clients;
use larder::watch::Place;
use tokio::sync::mpsc;

use super::{ENTRY, H2, signed, tls};
use crate::support::certs::Certs;
use crate::support::gateway::{Options, TestGateway, eventually};
use crate::support::http::{Body, Client, Connection, bare, request, with_body};
use crate::support::process::Larder;
use crate::support::tls::Hand;

/// A body that comes as the test sends it.
fn slow() -> (mpsc::UnboundedSender<Bytes>, Body) {
    let (send, mut receive) = mpsc::unbounded_channel();
    let pieces = futures_util::stream::poll_fn(move |cx| receive.poll_recv(cx));
    (send, StreamBody::new(pieces.map(Frame::data).map(Ok)).boxed_unsync())
}

/// A connection that outlives refusals: over HTTP/1.1 one whose body was not read ends with it.
async fn connect(addr: SocketAddr, hand: Hand<'_>) -> io::Result<Connection> {
    Client::h2(addr).over(&hand.alpn(H2).config()).connect().await
}

async fn get(connection: &mut Connection) -> u16 {
    connection.send(bare("GET", &format!("{ENTRY}/absent"))).await.unwrap().status.as_u16()
}

async fn put(connection: &mut Connection) -> u16 {
    connection.send(with_body("POST", &format!("{ENTRY}/a"), "x")).await.unwrap().status.as_u16()
}

/// One file in another's place, as an editor or a mounted secret does it.
fn replace(certs: &Certs, from: &str, to: &str) {
    let staged = certs.file("staged");
    fs::copy(certs.file(from), &staged).unwrap();
    fs::rename(staged, certs.file(to)).unwrap();
}

#[tokio::test]
async fn certificate_key_and_authority_change_under_open_connections() {
    let Some(certs) = Certs::usual() else { return };
    certs.server("next", "stranger");
    let clients = certs.file("clients.pem");
    fs::copy(certs.pem("ca"), &clients).unwrap();
    let secured = tls(&certs, Clients::Signed(clients));
    let options = Options {
        tls: Some(secured.clone()),
        certificates: Some(Certificates::Signed),
        ..Options::default()
    };
    let gateway = TestGateway::with(options);
    let before = Hand::new(&certs).showing("unlisted");
    let after = Hand::new(&certs).trusting("stranger").showing("foreign");
    let one = gateway.client().over(&before.config());
    let two = Client::h2(gateway.addr()).over(&before.clone().alpn(H2).config());
    let (mut one, mut two) = (one.connect().await.unwrap(), two.connect().await.unwrap());
    let works = async |hand: &Hand<'_>| {
        let client = gateway.client().over(&hand.config());
        client
            .try_send(bare("GET", &format!("{ENTRY}/absent")))
            .await
            .is_ok_and(|answer| answer.status == 404)
    };
    assert!(works(&before).await && !works(&after).await);

    let (pieces, body) = slow();
    pieces.send(Bytes::from_static(b"before ")).unwrap();
    let uploading = one.send(request("POST", &format!("{ENTRY}/slow")).body(body).unwrap());
    let changing = async {
        replace(&certs, "next.pem", "server.pem");
        let said = secured.reload_now().unwrap_err().to_string();
        assert!(said.contains("server.key") && said.contains("is not the key of"), "{said}");
        assert!(works(&before).await && !works(&after).await, "half a change is none");
        replace(&certs, "next.key", "server.key");
        replace(&certs, "stranger.pem", "clients.pem");
        assert!(secured.reload_now().unwrap());
        assert!(works(&after).await && !works(&before).await);
        // Either half by itself: the new server to the old authority's clients, and the other way round.
        assert!(!works(&after.clone().showing("unlisted")).await);
        assert!(!works(&after.clone().trusting("ca")).await);
        for damaged in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
            fs::write(certs.file("clients.pem"), damaged).unwrap();
            assert!(secured.reload_now().is_err());
            assert!(works(&after).await, "the state before stays");
        }
        pieces.send(Bytes::from_static(b"after")).unwrap();
        drop(pieces);
    };
    let (uploaded, ()) = tokio::join!(uploading, changing);
    assert_eq!(uploaded.unwrap().status, 200);
    let stored = one.send(bare("GET", &format!("{ENTRY}/slow"))).await.unwrap();
    assert_eq!(stored.text(), "before after");
    assert_eq!((get(&mut one).await, get(&mut two).await), (404, 404), "they live on");
}

/// Lists are about rights: who is taken off one has lost them with the next request.
#[tokio::test]
async fn lists_change_under_open_connections() {
    let Some(certs) = Certs::usual() else { return };
    let writers = certs.file("writers");
    fs::create_dir(&writers).unwrap();
    fs::copy(certs.pem("writable"), writers.join("one.pem")).unwrap();
    let readers = certs.bundle("readers", &["readonly"]);
    let roles =
        Roles::open(Some(Place::Files(writers.clone())), Some(Place::Files(readers.clone()))).unwrap();
    let options = Options {
        tls: Some(tls(&certs, signed(&certs))),
        certificates: Some(Certificates::Listed(roles.clone())),
        ..Options::default()
    };
    let gateway = TestGateway::with(options);
    let mut connections = Vec::new();
    for name in ["writable", "readonly", "unlisted"] {
        connections.push(connect(gateway.addr(), Hand::new(&certs).showing(name)).await.unwrap());
    }
    let [writable, readonly, unlisted] = connections.as_mut_slice() else { unreachable!("three") };
    assert_eq!((put(writable).await, get(readonly).await, get(unlisted).await), (200, 404, 403));
    fs::copy(certs.pem("unlisted"), writers.join("two.pem")).unwrap();
    assert!(roles.reload_now().unwrap());
    assert_eq!((put(writable).await, put(unlisted).await), (200, 200), "one more");
    fs::remove_file(writers.join("one.pem")).unwrap();
    certs.bundle("readers", &["writable"]);
    assert!(roles.reload_now().unwrap());
    assert_eq!((get(writable).await, put(unlisted).await, get(readonly).await), (404, 200, 403), "moved");
    assert_eq!(put(writable).await, 403);
    // On both: the stronger counts.
    fs::copy(certs.pem("writable"), writers.join("three.pem")).unwrap();
    assert!(roles.reload_now().unwrap());
    let mut writable = connect(gateway.addr(), Hand::new(&certs).showing("writable")).await.unwrap();
    assert_eq!(put(&mut writable).await, 200);
    fs::write(writers.join("notes.txt"), "no certificate").unwrap();
    let said = roles.reload_now().unwrap_err().to_string();
    assert!(said.contains("notes.txt") && said.contains("holds no certificate"), "{said}");
    assert_eq!(put(&mut writable).await, 200, "the state before");
    fs::remove_dir_all(&writers).unwrap();
    fs::create_dir(&writers).unwrap();
    assert!(roles.reload_now().unwrap());
    assert_eq!((put(&mut writable).await, get(&mut writable).await), (403, 404), "an empty list is nobody's");
}

/// The same with the real binary and the old server's names of flags, which looks after its files by itself. Takes some
/// seconds: it looks once a second.
#[tokio::test]
async fn the_binary_takes_up_changed_certificates() {
    let Some(certs) = Certs::usual() else { return };
    certs.server("next", "stranger");
    let writers = certs.file("writers");
    fs::create_dir(&writers).unwrap();
    fs::copy(certs.pem("selfmade"), writers.join("one.pem")).unwrap();
    let paths = [
        certs.file("store"),
        certs.pem("server"),
        certs.key("server"),
        writers.clone(),
        certs.pem("readonly"),
    ];
    let [store, cert, key, writable, readonly] = paths.each_ref().map(|path| path.to_str().unwrap());
    let args = [
        "--store",
        store,
        "--cert_file",
        cert,
        "--key_file",
        key,
        "--writable_certs",
        writable,
        "--readonly_certs",
        readonly,
    ];
    let larder = Larder::serve(&args, &[]);
    let connect = async |hand: Hand<'_>| connect(larder.addr(), hand).await;
    let mut old = connect(Hand::new(&certs).showing("selfmade")).await.unwrap();
    let mut reader = connect(Hand::new(&certs).showing("readonly")).await.unwrap();
    let mut later = connect(Hand::new(&certs).showing("unlisted")).await.unwrap();
    assert_eq!((put(&mut old).await, put(&mut reader).await, put(&mut later).await), (200, 403, 403));

    fs::copy(certs.pem("unlisted"), writers.join("two.pem")).unwrap();
    eventually("the list is in force", async || put(&mut later).await == 200).await;
    replace(&certs, "next.pem", "server.pem");
    let warnings = || larder.log().iter().filter(|line| line.contains("is not the key of")).count();
    eventually("the half change is warned of", async || warnings() == 1).await;
    assert!(connect(Hand::new(&certs)).await.is_ok(), "the state before");
    replace(&certs, "next.key", "server.key");
    eventually("the change is in force", async || {
        connect(Hand::new(&certs).trusting("stranger")).await.is_ok()
    })
    .await;
    assert!(connect(Hand::new(&certs)).await.is_err());
    assert_eq!((put(&mut old).await, put(&mut later).await, warnings()), (200, 200, 1));
}
