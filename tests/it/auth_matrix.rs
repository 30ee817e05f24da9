//! Promise: protocol × route × verb × caller → status, and nobody burns the CPU by guessing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use http::HeaderValue;
use larder::front::auth::basic::Credentials;
use larder::front::auth::htpasswd::Users;
use larder::front::auth::verify::{Limits, Verdict, Verifier};
use pwhash::bcrypt::{self, BcryptSetup, BcryptVariant};
use sha1::{Digest as _, Sha1};
use tokio::task::JoinSet;

use crate::support::gateway::{Options, TestGateway, eventually};
use crate::support::http::{Client, bare, basic, full, request};
use crate::support::process::Larder;

const ENTRY: &str = "/artifact/linux_amd64/p/x/AAECAwQFBgcICQoLDA0ODxAREhM";
const CHALLENGE: &str = "Basic realm=\"larder\", charset=\"UTF-8\"";

/// Apache's `{SHA}`.
fn sha(password: &str) -> String {
    format!("{{SHA}}{}", STANDARD.encode(Sha1::digest(password)))
}

/// Reader, writer and admin, each with a password of its own.
fn users() -> String {
    ["bob", "ann", "root"].map(|user| format!("{user}:{}\n", sha(&format!("{user}'s")))).concat()
}

const GROUPS: &str = "writers: ann\nadmins: root\n";

/// Who asks, in the order of the matrix's columns.
fn callers() -> Vec<(&'static str, Vec<Option<HeaderValue>>)> {
    let good = |user: &str| vec![Some(basic(user, &format!("{user}'s")))];
    let text =
        |values: &[&str]| values.iter().map(|value| Some(HeaderValue::from_str(value).unwrap())).collect();
    let mut malformed: Vec<Option<HeaderValue>> =
        text(&["Basic", "Basic ???", "Basic bm9jb2xvbg==", "Bearer abc", "", "QQ==", "Basic Og== Og=="]);
    malformed.push(Some(HeaderValue::from_bytes(b"Basic \xff\xfe").unwrap()));
    malformed.push(Some(HeaderValue::from_str(&format!("Basic {}", "A".repeat(10_000))).unwrap()));
    vec![
        ("none", vec![None]),
        ("wrong", vec![Some(basic("ann", "bob's")), Some(basic("eve", "eve's")), Some(basic("", ""))]),
        ("malformed", malformed),
        ("reader", good("bob")),
        ("writer", good("ann")),
        ("admin", good("root")),
    ]
}

/// What a route asks of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Needs {
    Nothing,
    Reader,
    Writer,
    Admin,
}

/// Who is let in, marked by this.
const IN: u16 = 0;

/// How a gateway is set up, and for each right what callers get: none, wrong, malformed, reader, writer, admin.
type Setup = (&'static str, Options, [(Needs, [u16; 6]); 4]);

fn setups() -> Vec<Setup> {
    let groups = Some(GROUPS.to_owned());
    let users = Some(users());
    let anybody = (Needs::Nothing, [IN; 6]);
    let all = [IN, IN, IN, IN, IN, IN];
    let known = [401, 401, 401, IN, IN, IN];
    let known_or_nobody = [IN, 401, 401, IN, IN, IN];
    let writers = [401, 401, 401, 403, IN, IN];
    let admins = [401, 401, 401, 403, 403, IN];
    vec![
        (
            "users and groups",
            Options { users: users.clone(), groups: groups.clone(), ..Options::default() },
            [anybody, (Needs::Reader, known), (Needs::Writer, writers), (Needs::Admin, admins)],
        ),
        (
            "users and groups, anonymous reading",
            Options { users: users.clone(), groups, anonymous_read: true, ..Options::default() },
            [anybody, (Needs::Reader, known_or_nobody), (Needs::Writer, writers), (Needs::Admin, admins)],
        ),
        (
            "users",
            Options { users: users.clone(), ..Options::default() },
            [anybody, (Needs::Reader, known), (Needs::Writer, known), (Needs::Admin, known)],
        ),
        (
            "users, anonymous reading",
            Options { users, anonymous_read: true, ..Options::default() },
            [anybody, (Needs::Reader, known_or_nobody), (Needs::Writer, known), (Needs::Admin, known)],
        ),
        (
            "nobody",
            Options::default(),
            [anybody, (Needs::Reader, all), (Needs::Writer, all), (Needs::Admin, all)],
        ),
    ]
}

/// Verb, path, right, and the status for who is let in.
fn routes() -> Vec<(&'static str, String, Needs, u16)> {
    let please = |digit: &str| format!("/please/{}", digit.repeat(40));
    let entry = |rest: &str| format!("{ENTRY}{rest}");
    vec![
        ("GET", "/ping".to_owned(), Needs::Nothing, 200),
        ("HEAD", "/ping".to_owned(), Needs::Nothing, 200),
        ("POST", "/ping".to_owned(), Needs::Nothing, 405),
        ("GET", "/healthz".to_owned(), Needs::Nothing, 200),
        ("GET", "/readyz".to_owned(), Needs::Nothing, 503),
        ("GET", "/metrics".to_owned(), Needs::Nothing, 200),
        ("GET", "/nowhere".to_owned(), Needs::Nothing, 404),
        ("PATCH", "/".to_owned(), Needs::Nothing, 405),
        ("PUT", entry("/a"), Needs::Nothing, 405),
        ("POST", please("a"), Needs::Nothing, 405),
        // Artifacts.
        ("GET", entry("/absent"), Needs::Reader, 404),
        ("HEAD", entry("/absent"), Needs::Reader, 404),
        ("GET", entry("/*.absent"), Needs::Reader, 404),
        ("HEAD", entry("/*.absent"), Needs::Reader, 404),
        ("GET", entry("").replace("/x/", "/y/"), Needs::Reader, 404),
        ("GET", entry("/../a"), Needs::Reader, 400),
        ("GET", "/artifact/linux_amd64/_core".to_owned(), Needs::Reader, 404),
        ("GET", format!("/{}", entry("/absent")), Needs::Reader, 404),
        ("POST", entry("/a"), Needs::Writer, 200),
        ("POST", entry(""), Needs::Writer, 400),
        ("DELETE", "/artifact/linux_amd64/p/z".to_owned(), Needs::Writer, 200),
        ("DELETE", "/artifact/p/z".to_owned(), Needs::Writer, 200),
        ("DELETE", "/artifact".to_owned(), Needs::Writer, 400),
        ("DELETE", "/".to_owned(), Needs::Admin, 200),
        // Python's index, and uploads to it.
        ("GET", "/simple/".to_owned(), Needs::Reader, 200),
        ("GET", "/simple/absent/".to_owned(), Needs::Reader, 404),
        ("GET", "/simple/Absent/".to_owned(), Needs::Reader, 301),
        ("GET", "/built/e/simple/absent/".to_owned(), Needs::Reader, 404),
        ("GET", format!("/files/{}/a-1.zip", "a".repeat(64)), Needs::Reader, 404),
        ("HEAD", format!("/files/{}/a-1.zip", "a".repeat(64)), Needs::Reader, 404),
        ("GET", "/legacy/%2Bsimple/absent/".to_owned(), Needs::Reader, 404),
        ("POST", "/legacy/".to_owned(), Needs::Writer, 400),
        ("POST", "/built/e/legacy/".to_owned(), Needs::Writer, 400),
        ("GET", "/legacy/".to_owned(), Needs::Nothing, 405),
        ("POST", "/simple/absent/".to_owned(), Needs::Nothing, 405),
        ("DELETE", "/simple/a/a-1.zip".to_owned(), Needs::Admin, 404),
        ("PUT", "/simple/a/a-1.zip/yank".to_owned(), Needs::Admin, 404),
        ("DELETE", "/simple/a/a-1.zip/yank".to_owned(), Needs::Admin, 404),
        // Curdling.
        ("GET", "/".to_owned(), Needs::Reader, 200),
        ("GET", "/project/absent".to_owned(), Needs::Reader, 404),
        ("GET", format!("/by-key/{}", "0".repeat(64)), Needs::Reader, 404),
        ("GET", format!("/built/e/by-key/{}", "0".repeat(64)), Needs::Reader, 404),
        ("PUT", format!("/by-key/{}", "0".repeat(64)), Needs::Nothing, 405),
        ("GET", "/api".to_owned(), Needs::Reader, 200),
        ("GET", "/api/absent".to_owned(), Needs::Reader, 404),
        ("GET", "/p/a-1.zip".to_owned(), Needs::Reader, 404),
        ("HEAD", "/p/a-1.zip".to_owned(), Needs::Reader, 404),
        ("GET", "/s/absent".to_owned(), Needs::Reader, 404),
        ("PUT", "/p/a-1.zip".to_owned(), Needs::Writer, 400),
        // Please v14 and later.
        ("GET", please("a"), Needs::Reader, 404),
        ("HEAD", please("a"), Needs::Reader, 404),
        ("GET", please("A"), Needs::Reader, 400),
        ("PUT", please("b"), Needs::Writer, 200),
        ("PUT", please("B"), Needs::Writer, 400),
    ]
}

#[tokio::test]
async fn every_route_lets_in_whom_it_should() {
    for (setup, options, rights) in setups() {
        let gateway = TestGateway::with(options);
        let rights = BTreeMap::from(rights);
        for client in [gateway.client(), Client::h2(gateway.addr())] {
            // Connections are kept, as by clients: what one request was allowed is not the next one's.
            let mut connection = client.connect().await.unwrap();
            for (verb, path, needs, granted) in routes() {
                for ((caller, headers), status) in callers().into_iter().zip(rights[&needs]) {
                    let status = if status == IN { granted } else { status };
                    for header in headers {
                        let mut asked = request(verb, &path).body(full("x")).unwrap();
                        if let Some(header) = header.clone() {
                            asked.headers_mut().insert("authorization", header);
                        }
                        if client_is_gone(&mut connection).await {
                            connection = client.connect().await.unwrap();
                        }
                        let answer = match connection.send(asked).await {
                            Ok(answer) => answer,
                            Err(error) => panic!("{setup}: {verb} {path} by {caller}: {error}"),
                        };
                        let said =
                            format!("{setup}: {verb} {path} by {caller} {header:.60?}: {}", answer.text());
                        assert_eq!(answer.status, status, "{said}");
                        let curdling = verb != "DELETE"
                            && ["/", "/api", "/p/", "/s/", "/project/"]
                                .iter()
                                .any(|at| if *at == "/" { path == "/" } else { path.starts_with(at) });
                        let words = if curdling { "Basic realm=\"Login Required\"" } else { CHALLENGE };
                        let challenge = (status == 401).then_some(words);
                        assert_eq!(answer.header("www-authenticate"), challenge, "{said}");
                        if matches!(status, 401 | 403) && verb != "HEAD" {
                            assert_eq!(answer.text().lines().count(), 1, "{said}");
                        }
                        if answer.header("connection") == Some("close") {
                            connection = client.connect().await.unwrap();
                        }
                    }
                }
            }
        }
    }
}

/// A server may end a connection whose body it did not read.
async fn client_is_gone(connection: &mut crate::support::http::Connection) -> bool {
    connection.send(bare("GET", "/ping")).await.is_err()
}

/// Padded or not, of either alphabet.
#[tokio::test]
async fn every_base64_is_read() {
    let password = "~~~???>>>üü";
    let users = Some(format!("ann:{}\n", sha(password)));
    let gateway = TestGateway::with(Options { users, ..Options::default() });
    let pair = format!("ann:{password}");
    assert_ne!(STANDARD.encode(&pair), URL_SAFE.encode(&pair), "the alphabets differ on it");
    assert_ne!(STANDARD.encode(&pair), STANDARD_NO_PAD.encode(&pair), "the paddings differ on it");
    for encoded in [
        STANDARD.encode(&pair),
        STANDARD_NO_PAD.encode(&pair),
        URL_SAFE.encode(&pair),
        URL_SAFE_NO_PAD.encode(&pair),
    ] {
        for scheme in ["Basic", "basic", "BASIC"] {
            let asked =
                request("GET", &format!("{ENTRY}/a")).header("authorization", format!("{scheme} {encoded}"));
            gateway.client().check(asked.body(full("")).unwrap(), 404).await;
        }
    }
}

/// The status that a password of `ann`'s gets for a write.
async fn ann(gateway: &TestGateway, password: &str) -> u16 {
    let asked = request("POST", &format!("{ENTRY}/a")).body(full("x")).unwrap();
    gateway.client().with_basic("ann", password).send(asked).await.status.as_u16()
}

#[tokio::test]
async fn changed_files_are_in_force_and_broken_ones_are_not() {
    let users = Some(format!("ann:{}\n", sha("one")));
    let groups = Some("writers: ann\n".to_owned());
    let gateway = TestGateway::with(Options { users, groups, ..Options::default() });
    let (file, group_file) = (gateway.file("users"), gateway.file("groups"));
    let (known, groups) = (gateway.users.as_ref().unwrap(), gateway.groups.as_ref().unwrap());
    let two = format!("ann:{}\n", sha("two"));
    for (text, read, expected) in [
        (Some("# nobody\n"), true, [401, 401]),
        (Some(two.as_str()), true, [401, 200]),
        (Some(two.as_str()), true, [401, 200]),
        (Some("ann\n"), false, [401, 200]),
        (Some("ann:nonsense\n"), false, [401, 200]),
        (None, false, [401, 200]),
    ] {
        match text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        assert_eq!(known.reload_now().is_ok(), read, "{text:?}");
        assert_eq!([ann(&gateway, "one").await, ann(&gateway, "two").await], expected, "{text:?}");
    }
    for (text, read, expected) in [
        ("", true, 403),
        ("admins: ann\n", true, 200),
        ("readers: ann\n", true, 403),
        ("writers: bob ann\n", true, 200),
        ("writers\n", false, 200),
    ] {
        std::fs::write(&group_file, text).unwrap();
        assert_eq!(groups.reload_now().is_ok(), read, "{text:?}");
        assert_eq!(ann(&gateway, "two").await, expected, "{text:?}");
    }
}

/// The same with the real binary, which looks after its files by itself. Takes some seconds: it looks once a second.
#[tokio::test]
async fn the_binary_takes_up_changed_files() {
    let place = tempfile::tempdir().unwrap();
    let (store, file) = (place.path().join("store"), place.path().join("users"));
    std::fs::write(&file, format!("ann:{}\n", sha("one"))).unwrap();
    let args = ["--store", store.to_str().unwrap(), "--users", file.to_str().unwrap()];
    let larder = Larder::serve(&args, &[]);
    let status = async |password: &str| {
        let client = Client::new(larder.addr()).with_basic("ann", password);
        client.send(bare("GET", &format!("{ENTRY}/a"))).await.status.as_u16()
    };
    assert_eq!([status("one").await, status("two").await], [404, 401]);
    // As an editor or a mounted secret does it: another file in its place.
    let next = place.path().join("next");
    std::fs::write(&next, format!("ann:{}\n", sha("two"))).unwrap();
    std::fs::rename(&next, &file).unwrap();
    eventually("the change is in force", async || status("two").await == 404).await;
    assert_eq!(status("one").await, 401);
    std::fs::remove_file(&file).unwrap();
    let warned = || larder.log().iter().any(|line| line.contains("WARN") && line.contains("users"));
    eventually("the loss is warned of", async || warned()).await;
    assert_eq!([status("one").await, status("two").await], [401, 404]);
}

/// `secret` at a cost that takes some 50 ms.
fn bcrypted() -> String {
    let setup = BcryptSetup { cost: Some(10), variant: Some(BcryptVariant::V2y), ..BcryptSetup::default() };
    bcrypt::hash_with(setup, "secret").unwrap()
}

fn strict() -> Limits {
    Limits { at_once: 1, waiting: 8, delay: Duration::ZERO, ..Limits::default() }
}

/// Hundreds of guesses at once: most are turned away, and who is known is served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_keep_nobody_waiting() {
    let users = Some(format!("ann:{}\n", bcrypted()));
    let gateway = TestGateway::with(Options { users, verify: strict(), ..Options::default() });
    assert_eq!(ann(&gateway, "secret").await, 200);
    let mut guesses = JoinSet::new();
    for guess in 0..300 {
        let client =
            gateway.client().with_basic(if guess % 2 == 0 { "ann" } else { "eve" }, &guess.to_string());
        guesses.spawn(async move { client.send(bare("GET", &format!("{ENTRY}/a"))).await });
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let began = Instant::now();
        assert_eq!(ann(&gateway, "secret").await, 200);
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < Duration::from_secs(2), "a known user waited for {slowest:?}");
    let mut statuses = BTreeMap::new();
    for answer in guesses.join_all().await {
        match answer.status.as_u16() {
            429 => assert_eq!(answer.header("retry-after"), Some("1")),
            status => assert_eq!((status, answer.header("www-authenticate")), (401, Some(CHALLENGE))),
        }
        *statuses.entry(answer.status.as_u16()).or_insert(0) += 1;
    }
    assert!(statuses[&429] > statuses[&401], "{statuses:?}");
    assert!(statuses[&401] >= 1, "{statuses:?}");
    assert_eq!(ann(&gateway, "secret").await, 200);
    assert_eq!(ann(&gateway, "Secret").await, 401);
}

/// What those guesses cost: one check for each that was told, and none for those turned away.
#[tokio::test]
async fn what_is_turned_away_costs_nothing() {
    let verifier = Verifier::new(&strict()).unwrap();
    let users: Users = format!("ann:{}\n", bcrypted()).parse().unwrap();
    let guesses: Vec<Credentials> =
        (0..300).map(|guess| Credentials::new("ann", guess.to_string().as_bytes()).unwrap()).collect();
    let checks = guesses.iter().map(|guess| verifier.check(&users, guess));
    let verdicts = futures_util::future::join_all(checks).await;
    let bad = verdicts.iter().filter(|verdict| **verdict == Verdict::Bad).count();
    let busy = verdicts.iter().filter(|verdict| **verdict == Verdict::Busy).count();
    assert_eq!((bad, busy), (9, 291), "one is checked and eight wait");
    assert_eq!(verifier.expensive_checks(), 9);
}
