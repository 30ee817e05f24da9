//! Promise: whatever is asked, in whatever way, the gateway neither fails nor panics, answers within a bound, and keeps
//! nothing that it could not have been told to keep.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use bytes::Bytes;
use larder::domain::layout;
use larder::store::Key;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof};
use proptest::sample::{select, subsequence};
use proptest::test_runner::{TestCaseError, TestRunner};

use crate::support::gateway::{Options, TestGateway};
use crate::support::http::{Client, bare, chunked, full, request};

/// Longer than this nobody waits for an answer.
const BOUND: Duration = Duration::from_secs(10);

/// Panics seen in the gateway.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts panics of this thread, and of any thread in the gateway's own code. Other tests panic as they like.
fn count_panics(thread: ThreadId) {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let ours = info.location().is_some_and(|place| place.file().starts_with("src/"));
        if ours || std::thread::current().id() == thread {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        before(info);
    }));
}

#[derive(Debug, Clone)]
enum Framing {
    None,
    Length(Vec<u8>),
    /// A length, and fewer bytes than that.
    Short(Vec<u8>),
    Chunked(Vec<Vec<u8>>),
    /// Chunks without the last one.
    Open(Vec<Vec<u8>>),
    /// What is said to be chunks.
    Garbage(Vec<u8>),
}

#[derive(Debug, Clone)]
struct Asked {
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, String)>,
    framing: Framing,
}

const METHODS: [&str; 10] =
    ["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"];

const PLACES: [&str; 14] = [
    "/artifact/linux_amd64/p/x/AAECAwQFBgcICQoLDA0ODxAREhM",
    "/artifact/linux_amd64/p/x/AAECAwQFBgcICQoLDA0ODxAREhM",
    "/artifact/linux_amd64/p/x/AAECAwQFBgcICQoLDA0ODxAREhM",
    "//artifact/linux_amd64/p/x/AAECAwQFBgcICQoLDA0ODxAREhM",
    "/artifact/linux_amd64",
    "/artifact/p",
    "/artifact",
    "/please",
    "/please/00112233445566778899aabbccddeeff00112233",
    "/please/00112233445566778899aabbccddeeff00112233",
    "/ping",
    "/healthz",
    "/metrics",
    "",
];

const SEGMENTS: [&str; 36] = [
    "a",
    "a",
    "b",
    "a/b",
    "gen",
    "gen/a",
    "AAECAwQFBgcICQoLDA0ODxAREhM",
    "dGVzdF9rZXk",
    "linux_amd64",
    ".",
    "..",
    "",
    ".larder",
    ".staging",
    "%2e%2e",
    "%2f",
    "%5c",
    "%00",
    "%0a",
    "%ff",
    "%",
    "%zz",
    "%C3%BC",
    "*",
    "?",
    "**",
    "[a-c]",
    "[",
    "%3F",
    "%5B%5D",
    "%2A%2A%2A%2A%2A%2A%2A%2A%2A%2Ab",
    "a;b",
    "a#b",
    "\"",
    "{}",
    "|",
];

fn target() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        8 => select(&SEGMENTS[..]).prop_map(str::to_owned),
        1 => "[!-~]{0,12}",
        1 => (200_usize..600).prop_map(|length| "x".repeat(length)),
    ];
    let query = prop_oneof![4 => Just(String::new()), 1 => "\\?[!-~]{0,20}"];
    let segments = proptest::collection::vec(segment, 0..4);
    (select(&PLACES[..]), segments, query).prop_map(|(place, segments, query)| {
        let path = segments.iter().fold(place.to_owned(), |path, segment| format!("{path}/{segment}"));
        if path.is_empty() { format!("/{query}") } else { path + &query }
    })
}

fn headers() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let number = prop_oneof![Just(0_u64), 0_u64..20, any::<u64>()];
    let range = (number.clone(), number, select(vec!["=", "=-", "=,", "", "= ", "=1-2,"]));
    let tag =
        select(vec!["*", "\"\"", "\"a\"", "W/\"a\"", "\"a\", W/\"b\",", "x", "\"", "W/", ",,,", "\u{fc}"]);
    let digest = select(vec![
        "",
        "?",
        "AAAA",
        "1B2M2Y8AsgTpgAmY7PhCfg==",
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
        "sha-256=:",
        "md5=::",
        "sha-512=:AAAA:;a=\"",
        "a=(1 2), b",
        "a=((",
        ",",
        "=",
    ]);
    let other = select(vec![
        "100-continue",
        "200-ok",
        "gzip",
        "Basic",
        "Basic QTpi",
        "close",
        "upgrade",
        "trailers",
        "h2c",
    ]);
    (range, tag, digest, other, "[ -~]{0,30}").prop_flat_map(
        |((first, last, dash), tag, digest, other, text)| {
            let all: Vec<(&'static str, String)> = vec![
                ("range", format!("bytes{dash}{first}-{last}")),
                ("range", format!("bytes={first}-")),
                ("range", format!("bytes=-{last}")),
                ("if-range", tag.to_owned()),
                ("if-none-match", tag.to_owned()),
                ("if-match", tag.to_owned()),
                ("if-modified-since", text.clone()),
                ("content-md5", digest.to_owned()),
                ("content-digest", digest.to_owned()),
                ("repr-digest", digest.to_owned()),
                ("x-amz-checksum-sha256", digest.to_owned()),
                ("expect", other.to_owned()),
                ("authorization", other.to_owned()),
                ("accept-encoding", other.to_owned()),
                ("upgrade", other.to_owned()),
                ("te", other.to_owned()),
                ("x-request-id", text),
            ];
            subsequence(all, 0..5)
        },
    )
}

fn asked() -> impl Strategy<Value = Asked> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
    let pieces = || proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..4);
    let framing = prop_oneof![
        4 => Just(Framing::None),
        4 => bytes().prop_map(Framing::Length),
        4 => pieces().prop_map(Framing::Chunked),
        1 => bytes().prop_map(Framing::Short),
        1 => pieces().prop_map(Framing::Open),
        1 => bytes().prop_map(Framing::Garbage),
    ];
    (select(&METHODS[..]), target(), headers(), framing)
        .prop_map(|(method, target, headers, framing)| Asked { method, target, headers, framing })
}

impl Asked {
    fn bytes(&self) -> Vec<u8> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nhost: larder\r\nconnection: close\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        let (line, body) = match &self.framing {
            Framing::None => (String::new(), Vec::new()),
            Framing::Length(bytes) => (format!("content-length: {}\r\n", bytes.len()), bytes.clone()),
            Framing::Short(bytes) => (format!("content-length: {}\r\n", bytes.len() + 9), bytes.clone()),
            Framing::Chunked(pieces) => {
                ("transfer-encoding: chunked\r\n".to_owned(), chunks(pieces, "0\r\n\r\n"))
            }
            Framing::Open(pieces) => ("transfer-encoding: chunked\r\n".to_owned(), chunks(pieces, "")),
            Framing::Garbage(bytes) => ("transfer-encoding: chunked\r\n".to_owned(), bytes.clone()),
        };
        [head.as_bytes(), line.as_bytes(), b"\r\n", &body].concat()
    }
}

fn chunks(pieces: &[Vec<u8>], end: &str) -> Vec<u8> {
    let mut all = Vec::new();
    for piece in pieces {
        all.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        all.extend_from_slice(piece);
        all.extend_from_slice(b"\r\n");
    }
    all.extend_from_slice(end.as_bytes());
    all
}

/// The status of the answer, interim ones passed over.
fn status(addr: SocketAddr, bytes: &[u8]) -> Result<u16, String> {
    let told = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(addr).map_err(told)?;
    stream.set_read_timeout(Some(BOUND)).map_err(told)?;
    // A refusal may come, and the connection go, before all is written.
    drop(stream.write_all(bytes));
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer)
        && matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
    {
        return Err(format!("no end within {BOUND:?}"));
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    let last = text.split("\r\n\r\n").find(|head| !head.starts_with("HTTP/1.1 1")).unwrap_or_default();
    let code = last.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    code.ok_or_else(|| format!("no answer: {text:?}"))
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() })
}

fn impatient() -> Options {
    let server = larder::server::Limits { body_timeout: Duration::from_millis(50), ..Default::default() };
    Options { server, ..Options::default() }
}

/// Whatever was kept is something that Larder keeps, and the gateway serves on.
async fn sound(gateway: &TestGateway) {
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "something panicked");
    for key in gateway.keys().await {
        let parsed: Key = key.parse().unwrap();
        assert!(layout::parse(&parsed).is_some(), "{key} is no key of the layout");
    }
    let mut beside: Vec<_> = std::fs::read_dir(gateway.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    beside.retain(|name| !["artifact", "please", ".staging"].contains(&name.as_str()));
    assert_eq!(beside, [""; 0]);
    assert_eq!(gateway.client().check(bare("GET", "/ping"), 200).await.text(), "pong\n");
    gateway.client().check(bare("DELETE", "/"), 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_fails_over_http1() {
    let gateway = TestGateway::with(impatient());
    count_panics(gateway.thread());
    let ran = tokio::task::block_in_place(|| {
        runner(600).run(&asked(), |asked| match status(gateway.addr(), &asked.bytes()) {
            Ok(code) if code < 500 && PANICS.load(Ordering::SeqCst) == 0 => Ok(()),
            Ok(code) => Err(TestCaseError::fail(format!("answered {code}"))),
            Err(why) => Err(TestCaseError::fail(why)),
        })
    });
    if let Err(failed) = ran {
        panic!("{failed}");
    }
    sound(&gateway).await;
}

/// The same over one HTTP/2 connection, as far as a client's library lets it through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_fails_over_http2() {
    let gateway = TestGateway::with(impatient());
    count_panics(gateway.thread());
    let client = Client::h2(gateway.addr());
    let runtime = tokio::runtime::Handle::current();
    let ran = tokio::task::block_in_place(|| {
        runner(300).run(&asked(), |asked| {
            let builder =
                asked.headers.iter().fold(request(asked.method, &asked.target), |builder, (name, value)| {
                    // What HTTP/2 has no place for.
                    if ["te", "upgrade"].contains(name) { builder } else { builder.header(*name, value) }
                });
            let body = match &asked.framing {
                Framing::None => full(""),
                Framing::Length(bytes) | Framing::Short(bytes) | Framing::Garbage(bytes) => {
                    full(bytes.clone())
                }
                Framing::Chunked(pieces) | Framing::Open(pieces) => {
                    chunked(pieces.clone().into_iter().map(Bytes::from))
                }
            };
            let Ok(request) = builder.body(body) else { return Ok(()) };
            let answer =
                runtime.block_on(async { tokio::time::timeout(BOUND, client.try_send(request)).await });
            match answer {
                Ok(Ok(answer)) if answer.status.as_u16() < 500 => Ok(()),
                Ok(Ok(answer)) => Err(TestCaseError::fail(format!("answered {}", answer.status))),
                Ok(Err(error)) => Err(TestCaseError::fail(error.to_string())),
                Err(late) => Err(TestCaseError::fail(late.to_string())),
            }
        })
    });
    if let Err(failed) = ran {
        panic!("{failed}");
    }
    sound(&gateway).await;
}
