//! Promise: certificate × password × route → status, or no handshake at all; the stronger of certificate and password
//! counts, and a certificate counts only byte for byte or by its authority.

mod handshakes;
mod pushing;
mod rotation;
mod starting;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use larder::front::auth::certificates::{Certificates, Roles};
use larder::server::tls::{Clients, Files, Tls};
use larder::watch::Place;
use rustls::ClientConfig;
use sha1::{Digest as _, Sha1};

use crate::support::certs::Certs;
use crate::support::gateway::{Options, TestGateway};
use crate::support::http::{Body, Client, Response, full, request};
use crate::support::rpc::{At, FORBIDDEN, Rpc, UNAUTHENTICATED};
use crate::support::tls::Hand;

const ENTRY: &str = "/artifact/linux_amd64/p/x/AAECAwQFBgcICQoLDA0ODxAREhM";
const PLEASE: &str = "/please/da39a3ee5e6b4b0d3255bfef95601890afd80709";
const H2: &[&[u8]] = &[b"h2"];

/// What a route asks of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Reader,
    Writer,
    Admin,
}

/// Verb, path, right, and the status for who is let in.
const ROUTES: [(&str, &str, Needs, u16); 13] = [
    ("GET", "/ping", Needs::Nothing, 200),
    ("GET", "/healthz", Needs::Nothing, 200),
    ("GET", "/metrics", Needs::Nothing, 200),
    ("GET", "/artifact/linux_amd64/p/x/AAECAwQFBgcICQoLDA0ODxAREhM/absent", Needs::Reader, 404),
    ("HEAD", "/artifact/linux_amd64/p/x/AAECAwQFBgcICQoLDA0ODxAREhM/absent", Needs::Reader, 404),
    ("GET", "/artifact/linux_amd64/absent", Needs::Reader, 404),
    ("GET", "/please/0000000000000000000000000000000000000000", Needs::Reader, 404),
    ("HEAD", "/please/0000000000000000000000000000000000000000", Needs::Reader, 404),
    ("POST", "/artifact/linux_amd64/p/x/AAECAwQFBgcICQoLDA0ODxAREhM/a", Needs::Writer, 200),
    ("PUT", PLEASE, Needs::Writer, 200),
    ("DELETE", "/artifact/linux_amd64/p/z", Needs::Writer, 200),
    ("DELETE", "/artifact/p/z", Needs::Writer, 200),
    ("DELETE", "/", Needs::Admin, 200),
];

/// What becomes of reading, writing and deleting everything, in words: `in`, a status, or `cut` for no handshake.
type Rights = &'static str;

fn word(rights: Rights, needs: Needs) -> &'static str {
    let mut words = rights.split(' ');
    let first = words.next().expect("a word");
    match needs {
        Needs::Nothing if first == "cut" => first,
        Needs::Nothing => "in",
        Needs::Reader => first,
        Needs::Writer => words.next().unwrap_or(first),
        Needs::Admin => words.nth(1).unwrap_or(first),
    }
}

/// What files a gateway has.
fn tls(certs: &Certs, clients: Clients) -> Tls {
    let files = Files { cert: certs.pem("server"), key: certs.key("server"), clients };
    Tls::open(files).expect("good files")
}

fn signed(certs: &Certs) -> Clients {
    Clients::Signed(certs.pem("ca"))
}

/// The list of writers is a directory, that of readers a file; who may write is on both.
fn lists(certs: &Certs, writable: bool, readonly: bool) -> Certificates {
    let directory = certs.file("writers");
    std::fs::create_dir_all(&directory).unwrap();
    for name in ["writable", "expired", "selfmade"] {
        std::fs::copy(certs.pem(name), directory.join(format!("{name}.crt"))).unwrap();
    }
    let readers = certs.bundle("readers", &["readonly", "writable"]);
    let writable = writable.then_some(Place::Files(directory));
    Certificates::Listed(Roles::open(writable, readonly.then_some(Place::Files(readers))).unwrap())
}

fn users() -> Option<String> {
    let line = |user: &str| format!("{user}:{{SHA}}{}\n", STANDARD.encode(Sha1::digest(format!("{user}'s"))));
    Some(["bob", "ann", "root"].map(line).concat())
}

fn groups() -> Option<String> {
    Some("writers: ann\nadmins: root\n".to_owned())
}

/// Who asks, in the order of the columns below: the certificate that is shown.
const CALLERS: [Option<&str>; 7] = [
    None,
    Some("unlisted"),
    Some("readonly"),
    Some("writable"),
    Some("expired"),
    Some("foreign"),
    Some("selfmade"),
];

/// Name, set-up, and what each caller may do.
type Setup = (&'static str, Options, [Rights; 7]);

fn setups(certs: &Certs) -> Vec<Setup> {
    let options = |clients: Clients, certificates: Option<Certificates>| Options {
        tls: Some(tls(certs, clients)),
        certificates,
        ..Options::default()
    };
    let both = || Some(lists(certs, true, true));
    let listed = |anonymous_read| Options { anonymous_read, ..options(signed(certs), both()) };
    let with_users = |options: Options| Options { users: users(), groups: groups(), ..options };
    vec![
        (
            "lists and authority",
            listed(false),
            ["401", "403", "in 403 403", "in in 403", "cut", "cut", "cut"],
        ),
        (
            "lists and authority, anonymous reading",
            listed(true),
            ["in 401 401", "in 403 403", "in 403 403", "in in 403", "cut", "cut", "cut"],
        ),
        (
            "lists",
            options(Clients::Any, both()),
            ["401", "403", "in 403 403", "in in 403", "cut", "403", "in in 403"],
        ),
        (
            "writable list and authority",
            options(signed(certs), Some(lists(certs, true, false))),
            ["401", "403", "403", "in in 403", "cut", "cut", "cut"],
        ),
        (
            "readonly list and authority",
            options(signed(certs), Some(lists(certs, false, true))),
            ["401", "403", "in 403 403", "in 403 403", "cut", "cut", "cut"],
        ),
        (
            "authority",
            options(signed(certs), Some(Certificates::Signed)),
            ["401", "in", "in", "in", "cut", "cut", "cut"],
        ),
        (
            "authority and users",
            with_users(options(signed(certs), Some(Certificates::Signed))),
            ["401", "in in 401", "in in 401", "in in 401", "cut", "cut", "cut"],
        ),
        (
            "users, no certificates asked for",
            with_users(options(Clients::Unasked, None)),
            ["401", "401", "401", "401", "401", "401", "401"],
        ),
        ("nobody known", options(Clients::Unasked, None), ["in", "in", "in", "in", "in", "in", "in"]),
    ]
}

/// The two protocols, each by who shows this.
fn clients(gateway: &TestGateway, certs: &Certs, shown: Option<&str>) -> [Client; 2] {
    let hand = Hand::new(certs);
    let hand = match shown {
        Some(name) => hand.showing(name),
        None => hand,
    };
    let (one, two): (Arc<ClientConfig>, _) = (hand.config(), hand.alpn(H2).config());
    [gateway.client().over(&one), Client::h2(gateway.addr()).over(&two)]
}

/// The request of a row.
fn asked(verb: &str, path: &str) -> Request<Body> {
    request(verb, path).body(full("x")).unwrap()
}

/// What came of it.
fn status(answer: &Response) -> u16 {
    answer.status.as_u16()
}

/// The calls of the RPC cache, in the same words.
async fn hold_rpc(said: &str, client: Client, rights: Rights) {
    let (rpc, at) = (Rpc::over(client), At::new("t", 1));
    let answers = [
        ("ListNodes", Needs::Nothing, rpc.nodes().await.map(drop)),
        ("Retrieve", Needs::Reader, rpc.retrieve(&at, &["absent"]).await.map(drop)),
        ("Store", Needs::Writer, rpc.store(&at, vec![at.file("a", "x")]).await),
        ("Delete", Needs::Writer, rpc.delete(&at).await),
        ("Delete everything", Needs::Admin, rpc.delete_everything().await),
    ];
    for (call, needs, answer) in answers {
        let found = match answer.as_ref().map_err(|refused| refused.code) {
            Ok(()) => "in",
            Err(UNAUTHENTICATED) => "401",
            Err(FORBIDDEN) => "403",
            Err(-1) => "cut",
            Err(_) => panic!("{said}: {call}: {answer:?}"),
        };
        assert_eq!(found, word(rights, needs), "{said}: {call}");
    }
}

/// Holds a caller to what it may do, on every route and in every call.
async fn hold(said: &str, clients: [Client; 2], rights: Rights) {
    let [_, two] = &clients;
    hold_rpc(said, two.clone(), rights).await;
    for client in clients {
        for (verb, path, needs, granted) in ROUTES {
            let answer = client.try_send(asked(verb, path)).await;
            let said = format!("{said}: {verb} {path}");
            match (word(rights, needs), answer) {
                ("cut", answer) => assert!(answer.is_err(), "{said}: {answer:?}"),
                ("in", Ok(answer)) => assert_eq!(status(&answer), granted, "{said}: {}", answer.text()),
                (word, Ok(answer)) => {
                    assert_eq!(status(&answer).to_string(), word, "{said}: {}", answer.text());
                    assert_eq!(answer.header("www-authenticate").is_some(), word == "401", "{said}");
                    if verb != "HEAD" {
                        assert_eq!(answer.text().lines().count(), 1, "{said}: {}", answer.text());
                    }
                }
                (word, Err(error)) => panic!("{said}: {word} was expected: {error}"),
            }
        }
    }
}

#[tokio::test]
async fn every_certificate_gives_the_rights_that_it_should() {
    let Some(certs) = Certs::usual() else { return };
    for (setup, options, callers) in setups(&certs) {
        let gateway = TestGateway::with(options);
        for (shown, rights) in CALLERS.into_iter().zip(callers) {
            let said = format!("{setup}, {}", shown.unwrap_or("none"));
            hold(&said, clients(&gateway, &certs, shown), rights).await;
        }
    }
}

#[tokio::test]
async fn the_stronger_of_certificate_and_password_counts() {
    let Some(certs) = Certs::usual() else { return };
    let options = Options {
        users: users(),
        groups: groups(),
        tls: Some(tls(&certs, signed(&certs))),
        certificates: Some(lists(&certs, true, true)),
        ..Options::default()
    };
    let gateway = TestGateway::with(options);
    // By nobody's password, a wrong one, a reader's, a writer's, an admin's.
    let users = [
        None,
        Some(("ann", "bob's")),
        Some(("bob", "bob's")),
        Some(("ann", "ann's")),
        Some(("root", "root's")),
    ];
    let table: [(Option<&str>, [Rights; 5]); 4] = [
        (None, ["401", "401", "in 403 403", "in in 403", "in"]),
        (Some("unlisted"), ["401", "401", "in 403 403", "in in 403", "in"]),
        (Some("readonly"), ["in 401 401", "in 401 401", "in 403 403", "in in 403", "in"]),
        (Some("writable"), ["in in 401", "in in 401", "in in 403", "in in 403", "in"]),
    ];
    for (shown, row) in table {
        for (user, rights) in users.into_iter().zip(row) {
            let clients = clients(&gateway, &certs, shown).map(|client| match user {
                None => client,
                Some((user, password)) => client.with_basic(user, password),
            });
            hold(&format!("{}, {user:?}", shown.unwrap_or("none")), clients, rights).await;
        }
    }
    for shown in ["expired", "foreign", "selfmade"] {
        let clients =
            clients(&gateway, &certs, Some(shown)).map(|client| client.with_basic("root", "root's"));
        hold(&format!("{shown}, the admin's password"), clients, "cut").await;
    }
}

/// Bytes come whole through both protocols, large ones too.
#[tokio::test]
async fn what_goes_in_encrypted_comes_out() {
    use crate::support::http::{End, Pattern, bare};
    let Some(certs) = Certs::usual() else { return };
    let options = Options { tls: Some(tls(&certs, Clients::Unasked)), ..Options::default() };
    let gateway = TestGateway::with(options);
    let large = Pattern { seed: 7, length: 20 << 20 };
    for client in clients(&gateway, &certs, None) {
        let path = format!("{ENTRY}/large");
        client.check(request("POST", &path).body(large.body()).unwrap(), 200).await;
        let answer = client.measure(bare("GET", &path)).await.unwrap();
        assert_eq!((answer.length, answer.end), (large.length, End::Complete));
        assert_eq!(answer.sha256, large.sha256());
    }
}
