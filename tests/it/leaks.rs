//! Promise: who asks a gateway whose store fails is told so by one fixed phrase, and nothing of what is behind it.

use crate::support::backends::{S3Server, servers};
use crate::support::gateway::{Options, TestGateway};
use crate::support::http::{Pattern, bare, full, request};

const FILE: &str = "/artifact/linux_amd64/p/x/AAECAwQFBgcICQoLDA0ODxAREhM/f";
const PLEASE: &str = "/please/00112233445566778899aabbccddeeff00112233";

const SILENT: &str = "the store does not answer; try again\n";
const REFUSES: &str = "the store refuses the gateway; ask its operator\n";
const DAMAGED: &str = "what is stored is damaged; ask the operator\n";

/// What no client is to read, whatever breaks.
const SECRETS: [&str; 22] = [
    "aws",
    "amz",
    "s3",
    "sdk",
    "hyper",
    "tokio",
    "os error",
    "errno",
    "refused",
    "127.0.0.1",
    "localhost",
    "hidden-bucket",
    "hidden-key",
    "hidden-word",
    "signature",
    "nosuch",
    "/tmp",
    "store/",
    "artifact/",
    "panic",
    "src/",
    ".rs",
];

/// A bucket that nobody serves.
fn unreachable() -> S3Server {
    // Bound and let go again: nothing listens there.
    let listener = std::net::TcpListener::bind(crate::support::loopback()).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let [bucket, key, secret] = ["hidden-bucket", "hidden-key", "hidden-word"].map(str::to_owned);
    S3Server { name: "unreachable".to_owned(), endpoint, bucket, key, secret }
}

/// Every verb that asks the store is told of its failure in these words, and of nothing else.
async fn fails(gateway: &TestGateway, verbs: &[(&str, &str)], phrase: &str) {
    let small = || full("small");
    let large = || Pattern { seed: 1, length: 9 << 20 }.body();
    for (verb, path) in verbs {
        for body in [small(), large()] {
            let asked = request(verb, path).body(body).unwrap();
            let answer = gateway.client().check(asked, 503).await;
            let told = if *verb == "HEAD" { "" } else { phrase };
            assert_eq!(answer.text(), told, "{verb} {path} on {}", gateway.name);
            let retry = (phrase == SILENT).then_some("1");
            assert_eq!(answer.header("retry-after"), retry, "{verb} {path}");
            let all = format!("{:?} {}", answer.headers, answer.text()).to_lowercase();
            for secret in SECRETS {
                assert!(!all.contains(secret), "{verb} {path}: {secret} in {all}");
            }
            if !matches!(*verb, "PUT" | "POST") {
                break;
            }
        }
    }
    // It is the store that fails, not the gateway.
    gateway.client().check(bare("GET", "/ping"), 200).await;
    gateway.client().check(bare("GET", "/nowhere"), 404).await;
    gateway.client().check(bare("GET", "/please/xyz"), 400).await;
}

/// All that asks the store.
fn everything() -> Vec<(&'static str, &'static str)> {
    let entry = FILE.trim_end_matches("/f");
    vec![
        ("GET", FILE),
        ("HEAD", FILE),
        ("GET", entry),
        ("HEAD", entry),
        ("GET", "/artifact/linux_amd64/p/x/AAECAwQFBgcICQoLDA0ODxAREhM/*"),
        ("POST", FILE),
        ("DELETE", "/artifact/linux_amd64/p/x"),
        ("DELETE", "/artifact/p/x"),
        ("DELETE", "/"),
        ("GET", PLEASE),
        ("HEAD", PLEASE),
        ("PUT", PLEASE),
    ]
}

#[tokio::test]
async fn a_bucket_that_cannot_be_reached() {
    let server = unreachable();
    let gateway = TestGateway::over(&server, &server.endpoint, 1, Options::default());
    fails(&gateway, &everything(), SILENT).await;
}

#[tokio::test]
async fn a_bucket_that_refuses_us() {
    for mut server in servers() {
        "hidden-word".clone_into(&mut server.secret);
        let gateway = TestGateway::over(&server, &server.endpoint.clone(), 1, Options::default());
        fails(&gateway, &everything(), REFUSES).await;
    }
}

/// That there is no bucket does not mean that there is no object.
#[tokio::test]
async fn a_bucket_that_is_not_there() {
    for mut server in servers() {
        "hidden-bucket".clone_into(&mut server.bucket);
        let gateway = TestGateway::over(&server, &server.endpoint.clone(), 1, Options::default());
        for (verb, path) in everything() {
            let asked = request(verb, path).body(full("x")).unwrap();
            let answer = gateway.client().check(asked, 503).await;
            let all = format!("{:?} {}", answer.headers, answer.text()).to_lowercase();
            assert!(verb == "HEAD" || [SILENT, REFUSES].contains(&answer.text().as_str()), "{all}");
            assert!(!SECRETS.iter().any(|secret| all.contains(secret)), "{verb} {path}: {all}");
        }
    }
}

/// A directory whose place a file has taken is neither empty nor a conflict of names.
#[tokio::test]
async fn a_directory_that_is_none_any_more() {
    let gateway = TestGateway::start();
    std::fs::remove_dir_all(gateway.root()).unwrap();
    std::fs::write(gateway.root(), "in the way").unwrap();
    fails(&gateway, &everything(), SILENT).await;
}

/// A byte that changed where it lay.
#[tokio::test]
async fn a_damaged_object() {
    let gateway = TestGateway::start();
    for (verb, path, key) in [
        ("POST", FILE, FILE.trim_start_matches('/').to_owned()),
        ("PUT", PLEASE, PLEASE.replace("/please/", "please/00/")),
    ] {
        let upload = request(verb, path).body(full("some bytes")).unwrap();
        gateway.client().check(upload, 200).await;
        let on_disk = gateway.root().join(key);
        std::fs::write(&on_disk, "some bytex").unwrap();
        if gateway.client().send(bare("GET", path)).await.status == 200 {
            crate::support::aloud("LEFT OUT: this file system keeps no checksums");
            return;
        }
        fails(&gateway, &[("GET", path)], DAMAGED).await;
    }
}
