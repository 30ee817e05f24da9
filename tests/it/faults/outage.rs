//! A store that is away for a while: `/readyz` says so and says when it is back; a gateway started meanwhile comes up,
//! warns, and serves as soon as it can. The real binary, since its clock decides (a probe every five seconds or so).

use std::time::Duration;

use super::rig::HASH;
use super::{Fault, SMALL};
use crate::support::LIMIT;
use crate::support::backends::{S3Server, servers};
use crate::support::http::{Client, bare, with_body};
use crate::support::process::Larder;
use crate::support::proxy::FaultProxy;

fn serve(server: &S3Server, proxy: &FaultProxy) -> Larder {
    let store = format!("s3://{}/outage-{:016x}", server.bucket, fastrand::u64(..));
    let endpoint = proxy.endpoint();
    let args = ["--store", &store, "--s3-endpoint", &endpoint, "--s3-attempts", "2"];
    Larder::serve(&args, &[("AWS_ACCESS_KEY_ID", &server.key), ("AWS_SECRET_ACCESS_KEY", &server.secret)])
}

/// Waits until `/readyz` answers so; `/healthz` is well all the time.
async fn until(client: &Client, status: u16, body: &str) {
    let wait = async {
        loop {
            let answer = client.send(bare("GET", "/readyz")).await;
            if answer.status == status {
                return assert_eq!(answer.text(), body);
            }
            client.check(bare("GET", "/healthz"), 200).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(LIMIT, wait).await;
    assert!(waited.is_ok(), "/readyz is never {status}");
}

fn said(larder: &Larder, what: &str) -> usize {
    larder.log().iter().filter(|line| line.contains(what)).count()
}

async fn away_and_back(server: &S3Server) {
    let proxy = FaultProxy::start(server.endpoint.trim_start_matches("http://").parse().unwrap());
    proxy.set(Fault::Refuse);
    let larder = serve(server, &proxy);
    let client = Client::new(larder.addr());
    let path = format!("/artifact/linux_amd64/p/t/{HASH}/a");
    until(&client, 503, "the store does not answer\n").await;
    client.check(bare("GET", &path), 503).await;
    client.check(with_body("POST", &path, SMALL.bytes()), 503).await;
    client.check(bare("GET", "/ping"), 200).await;

    proxy.set(Fault::Pass);
    // Requests need not wait for the probe.
    client.check(with_body("POST", &path, SMALL.bytes()), 200).await;
    assert_eq!(client.check(bare("GET", &path), 200).await.body, SMALL.bytes());
    until(&client, 200, "ready\n").await;
    assert_eq!((said(&larder, "cannot be reached"), said(&larder, "answers again")), (1, 1));

    proxy.set(Fault::AccessDenied);
    until(&client, 503, "the store does not answer\n").await;
    client.check(bare("GET", &path), 503).await;
    proxy.set(Fault::Pass);
    assert_eq!(client.check(bare("GET", &path), 200).await.body, SMALL.bytes());
    until(&client, 200, "ready\n").await;
    assert_eq!((said(&larder, "cannot be reached"), said(&larder, "answers again")), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_missed_and_welcomed_back() {
    let servers = servers();
    futures_util::future::join_all(servers.iter().map(away_and_back)).await;
}
