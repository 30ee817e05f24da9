//! Files that are not good keep Larder from starting, and it says what to do; a healthcheck asks it over TLS too.

use std::fs;
use std::process::{Command, Output};

use crate::support::certs::Certs;
use crate::support::gateway::eventually;
use crate::support::process::Larder;

fn larder(certs: &Certs, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .current_dir(certs.dir())
        .output()
        .expect("it runs")
}

#[test]
fn bad_files_are_told_at_the_start() {
    let Some(certs) = Certs::usual() else { return };
    fs::write(certs.file("empty.pem"), "").unwrap();
    fs::write(certs.file("text.pem"), "hello").unwrap();
    certs.openssl(&["x509", "-in", "server.pem", "-outform", "der", "-out", "server.der"]);
    certs.openssl(&["ec", "-in", "server.key", "-aes128", "-passout", "pass:x", "-out", "locked.key"]);
    let old = ["req", "-new", "-key", "readonly.key", "-subj", "/CN=old", "-out", "old.csr"];
    certs.openssl(&old);
    certs.openssl(&["x509", "-req", "-in", "old.csr", "-signkey", "readonly.key", "-out", "old.pem"]);
    certs.openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024", "-out", "weak.key"]);
    let mixed = certs.file("mixed");
    fs::create_dir(&mixed).unwrap();
    fs::copy(certs.pem("writable"), mixed.join("good.pem")).unwrap();
    fs::write(mixed.join("README"), "hello").unwrap();
    let good =
        [("cert", "server.pem"), ("key", "server.key"), ("ca", "ca.pem"), ("writable", "writable.pem")];
    for (spoilt, file, words) in [
        ("cert", "absent.pem", "absent.pem: No such file"),
        ("cert", "text.pem", "text.pem: holds no certificate: one begins with -----BEGIN CERTIFICATE-----"),
        ("cert", "server.der", "server.der: holds no certificate"),
        ("cert", "readonly.pem", "server.key: is not the key of readonly.pem"),
        ("cert", "old.pem", "old.pem: cannot be used ("),
        ("cert", "mixed", "mixed: not a regular file"),
        ("key", "readonly.key", "readonly.key: is not the key of server.pem"),
        ("key", "server.pem", "server.pem: holds no private key"),
        ("key", "locked.key", "locked.key: holds no private key"),
        ("key", "weak.key", "weak.key: cannot be used ("),
        ("ca", "empty.pem", "empty.pem: holds no certificate"),
        ("writable", "absent", "absent: No such file"),
        ("writable", "text.pem", "text.pem: holds no certificate"),
        ("writable", "old.pem", "old.pem: certificate 1 cannot be used (invalid peer certificate: "),
        ("writable", "mixed", "mixed/README: holds no certificate"),
    ] {
        let file_of = |flag: &str| {
            let usual = good.iter().find(|(name, _)| *name == flag).unwrap().1;
            if flag == spoilt { file } else { usual }
        };
        let output = larder(
            &certs,
            &[
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--store",
                "store",
                "--tls-cert",
                file_of("cert"),
                "--tls-key",
                file_of("key"),
                "--client-ca",
                file_of("ca"),
                "--writable-certs",
                file_of("writable"),
            ],
            &[],
        );
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{spoilt} {file}: {said}");
        assert!(said.starts_with("larder: ") && said.contains(words), "{spoilt} {file}: {said}");
        assert!(!said.contains("is listening"), "{said}");
    }
}

#[tokio::test]
async fn a_healthcheck_asks_over_tls() {
    let Some(certs) = Certs::usual() else { return };
    let paths = [certs.file("store"), certs.pem("server"), certs.key("server"), certs.pem("ca")];
    let [store, cert, key, ca] = paths.each_ref().map(|path| path.to_str().unwrap());
    let settings = [("LARDER_TLS_CERT", cert), ("LARDER_TLS_KEY", key), ("LARDER_CLIENT_CA", ca)];
    let larder_running = Larder::serve(&["--store", store, "--ops-listen", "127.0.0.1:0"], &settings);
    let line: serde_json::Value =
        larder_running.log().iter().find_map(|line| serde_json::from_str(line).ok()).unwrap();
    assert_eq!(
        (&line["tls"], &line["writers"]),
        (&true.into(), &"every certificate of the client authority".into())
    );
    let ops = line["ops_listen"].as_str().unwrap();
    drop(larder_running);

    // With health on the main port, as a container has it.
    let larder_running = Larder::serve(&["--store", store], &settings);
    let addr = larder_running.addr().to_string();
    let code = |args: &[&str], env: &[(&str, &str)]| larder(&certs, args, env).status.code();
    assert_eq!(code(&["healthcheck", &format!("https://{addr}/healthz")], &[]), Some(0));
    assert_eq!(code(&["healthcheck", &format!("http://{addr}/healthz")], &[]), Some(1));
    // Ready once the store was asked.
    let ready =
        async || code(&["healthcheck"], &[("LARDER_LISTEN", &addr), ("LARDER_TLS_CERT", cert)]) == Some(0);
    eventually("it is ready", ready).await;
    assert_eq!(code(&["healthcheck"], &[("LARDER_LISTEN", &addr)]), Some(1));
    // The second address is plain, and nobody listens there any more.
    let output = larder(&certs, &["healthcheck"], &[("LARDER_OPS_LISTEN", ops), ("LARDER_TLS_CERT", cert)]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("http://{ops}/readyz cannot be reached")), "{said}");
}
