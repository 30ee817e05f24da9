//! `larder push` to a gateway that speaks TLS: the authorities of the machine count, and no other.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use larder::server::tls::Clients;

use super::tls;
use crate::support::certs::Certs;
use crate::support::gateway::{Options, TestGateway};
use crate::support::http::bare;

const HASH: &str = "AAECAwQFBgcICQoLDA0ODxAREhM";

/// Pushes a cache by the real binary, on a machine that trusts the certificates in this file.
fn push(gateway: &TestGateway, cache: &Path, trusted: &Path, more: &[&str]) -> Output {
    let url = format!("https://{}", gateway.addr());
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command.args(["push", "--json", "--os", "linux_amd64", "-c", &url, "--please-dir"]).arg(cache).args(more);
    command.env_clear().env("SSL_CERT_FILE", trusted).stdin(Stdio::null()).output().unwrap()
}

#[tokio::test]
async fn who_is_pushed_to_has_to_be_known() {
    let Some(certs) = Certs::usual() else { return };
    let options = Options { tls: Some(tls(&certs, Clients::Unasked)), ..Options::default() };
    let gateway = TestGateway::with(options);
    let cache = tempfile::tempdir().unwrap();
    let entry = cache.path().join(format!("p/x/{HASH}="));
    std::fs::create_dir_all(&entry).unwrap();
    std::fs::write(entry.join("out"), "over TLS").unwrap();

    let stranger = push(&gateway, cache.path(), &certs.pem("stranger"), &[]);
    let stderr = String::from_utf8_lossy(&stranger.stderr);
    assert_eq!(stranger.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("cannot be reached") && stderr.contains("UnknownIssuer"), "{stderr}");
    assert_eq!(gateway.keys().await, [""; 0]);

    let nobody = push(&gateway, cache.path(), Path::new("/dev/null"), &[]);
    let stderr = String::from_utf8_lossy(&nobody.stderr);
    assert_eq!(nobody.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("TLS cannot be set up"), "{stderr}");

    // What the command is told goes before what the machine knows, in both directions.
    let (ca, stranger) = (certs.pem("ca"), certs.pem("stranger"));
    let (ca, stranger) = (ca.to_str().unwrap(), stranger.to_str().unwrap());
    for (machine, told, code) in [("ca", stranger, 3), ("stranger", "/dev/null", 1), ("stranger", "/none", 1)]
    {
        let output = push(&gateway, cache.path(), &certs.pem(machine), &["--cacert", told]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}: {stderr}");
        assert!(code == 3 || stderr.contains(told), "{told}: {stderr}");
    }
    let told = push(&gateway, cache.path(), &certs.pem("stranger"), &["--cacert", ca, "--dry-run"]);
    assert_eq!(told.status.code(), Some(0), "{}", String::from_utf8_lossy(&told.stderr));
    assert_eq!(gateway.keys().await, [""; 0]);

    let known = push(&gateway, cache.path(), &certs.pem("ca"), &[]);
    let stderr = String::from_utf8_lossy(&known.stderr);
    assert_eq!(known.status.code(), Some(0), "{stderr}");
    let path = format!("/artifact/linux_amd64/p/x/{HASH}/out");
    assert_eq!(gateway.keys().await, [&path[1..]]);
    let sum = String::from_utf8(known.stdout).unwrap();
    assert!(sum.lines().last().unwrap().contains("\"pushed\":1"), "{sum}");
    let config = crate::support::tls::Hand::new(&certs).config();
    assert_eq!(gateway.client().over(&config).check(bare("GET", &path), 200).await.body, "over TLS");
}
