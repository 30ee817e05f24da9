//! Through the real gateway: a reader who may not write keeps things alive, and waits for nothing.

use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt as _;
use larder::metrics::{Metrics, Refreshed};
use larder::store::{Listed, Listing, Prefix, Store};

use super::{DAY, age, ages, came, keys, lay, please, please_key, unit};
use crate::support::LIMIT;
use crate::support::backends::servers;
use crate::support::gateway::{Options, TestGateway, eventually};
use crate::support::http::{Client, bare, request};
use crate::support::process::Larder;
use crate::support::proxy::{Fault, FaultProxy, Seen};
use crate::support::rpc::{At, Rpc};

/// Bob reads; Ann, who is not here, writes.
fn readers(refresh: Option<Duration>) -> Options {
    Options {
        users: Some("bob:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n".to_owned()), // secret
        groups: Some("writers: ann\n".to_owned()),
        refresh: refresh.map(ages),
        ..Options::default()
    }
}

fn bob(gateway: &TestGateway) -> Client {
    gateway.client().with_basic("bob", "secret")
}

/// Everything that is stored, with its date.
async fn dates(store: &Store) -> Vec<(String, SystemTime)> {
    let lines = store.list(&Prefix::root(), Listing::default()).map_ok(|line| match line {
        Listed::Object { key, modified, .. } => (key.to_string(), modified),
        Listed::Prefix(prefix) => panic!("{prefix}"),
    });
    lines.try_collect().await.unwrap()
}

async fn until_done(gateway: &TestGateway, count: u64) {
    eventually(&format!("{count} refreshes"), async || came(&gateway.metrics, Refreshed::Done) >= count)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_keeps_alive_what_it_could_not_write() {
    let gateway = TestGateway::with(readers(Some(DAY * 15)));
    let store = gateway.store().await;
    let of = unit(&store, "read").await;
    lay(&store, &please_key(1), 100, None).await;
    let all: Vec<String> = keys(&of).into_iter().chain([please_key(1)]).collect();
    all.iter().for_each(|key| age(gateway.root(), key, DAY * 20));
    let path = format!("/please/{}", please(1));
    bob(&gateway).check(request("PUT", &path).body(crate::support::http::full("new")).unwrap(), 403).await;
    // In memory or not: its date is looked at.
    for _ in 0..3 {
        bob(&gateway).check(bare("GET", &path), 200).await;
    }
    bob(&gateway).check(bare("GET", &format!("/artifact/{of}/f2")), 200).await;
    until_done(&gateway, 2).await;
    for (key, date) in dates(&store).await {
        assert!(date.elapsed().is_ok_and(|age| age < DAY), "{key}");
    }
    for _ in 0..3 {
        bob(&gateway).check(bare("GET", &path), 200).await;
    }
    assert_eq!(came(&gateway.metrics, Refreshed::Done), 2, "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_keeps_alive_what_is_in_a_bucket() {
    for server in servers().into_iter().filter(|server| server.name != "versitygw") {
        let gateway = TestGateway::over(&server, &server.endpoint, 3, readers(Some(Duration::from_secs(1))));
        let store = gateway.store().await;
        let of = unit(&store, "read").await;
        lay(&store, &please_key(1), 100, None).await;
        tokio::time::sleep(Duration::from_millis(2100)).await;
        let before = dates(&store).await;
        let etag = store.head(&please_key(1).parse().unwrap()).await.unwrap().unwrap().etag;
        let know =
            request("GET", &format!("/please/{}", please(1))).header("if-none-match", format!("\"{etag}\""));
        // Where the server tells the date with its 304; it does here.
        bob(&gateway).check(know.body(crate::support::http::empty()).unwrap(), 304).await;
        until_done(&gateway, 1).await;
        bob(&gateway).check(bare("GET", &format!("/artifact/{of}/gen/f3")), 200).await;
        until_done(&gateway, 2).await;
        for ((key, then), (_, now)) in before.iter().zip(dates(&store).await) {
            assert!(now > *then, "{}: {key}", server.name);
        }
        // The marks went along: it is a unit still.
        bob(&gateway).check(bare("GET", &format!("/artifact/{of}/f2")), 200).await;
        assert_eq!(bob(&gateway).check(bare("GET", &format!("/artifact/{of}")), 200).await.status, 200);
    }
}

/// Every request that refreshing makes hangs for ever; the answers come, after the very requests that they take of young things.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_waits_for_a_refresh() {
    for server in servers() {
        let mut costs = Vec::new();
        for refresh in [None, Some(Duration::from_secs(1))] {
            let proxy = FaultProxy::start(server.endpoint.trim_start_matches("http://").parse().unwrap());
            let gateway = TestGateway::over(
                &server,
                &proxy.endpoint(),
                1,
                Options { users: None, groups: None, ..readers(refresh) },
            );
            let store = gateway.store().await;
            let (at, client) = (At::new("rpc", 1), gateway.client());
            Rpc::new(gateway.addr()).store(&at, vec![at.file("big", vec![1; 30_000])]).await.unwrap();
            lay(&store, &please_key(1), 100_000, None).await;
            let file = at.path().replace("/rpc/", "/http/") + "/a";
            lay(&store, &file, 10, None).await;
            tokio::time::sleep(Duration::from_millis(2100)).await;
            proxy.take_requests();
            let of_refreshing =
                |seen: &Seen| ["HeadObject", "CopyObject", "ListObjectsV2"].contains(&seen.verb());
            proxy.set_when(of_refreshing, Fault::Hang, None);
            client.check(bare("GET", &format!("/please/{}", please(1))), 200).await;
            client.check(bare("GET", &format!("/{file}")), 200).await;
            assert_eq!(Rpc::new(gateway.addr()).retrieve(&at, &["big"]).await.unwrap().len(), 1);
            if refresh.is_some() {
                proxy.until_seen(|seen| seen.verb() == "HeadObject").await;
                proxy.until_seen(|seen| seen.verb() == "ListObjectsV2").await;
            }
            let seen = proxy.requests();
            costs.push(seen.iter().filter(|seen| !of_refreshing(seen)).map(Seen::verb).collect::<Vec<_>>());
            assert_eq!(seen.len() > costs[0].len(), refresh.is_some(), "{}", server.name);
        }
        assert_eq!(costs[0], costs[1], "{}", server.name);
    }
}

/// The binary refreshes by its flags, and does not wait for a copy when it is to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_waits_for_no_refresh() {
    for server in servers() {
        let proxy = FaultProxy::start(server.endpoint.trim_start_matches("http://").parse().unwrap());
        let mut config = server.config(&server.endpoint);
        let prefix = format!("refresh-{:016x}", fastrand::u64(..));
        config.prefix = Some(prefix.parse().unwrap());
        let store = server.store(config, Metrics::new()).await;
        let url = format!("s3://{}/{prefix}", server.bucket);
        let credentials =
            [("AWS_ACCESS_KEY_ID", server.key.as_str()), ("AWS_SECRET_ACCESS_KEY", server.secret.as_str())];
        for number in 0..2 {
            lay(&store, &please_key(number), 100, None).await;
        }
        tokio::time::sleep(Duration::from_millis(2100)).await;
        for (refresh, copies) in [("off", false), ("0.1", true)] {
            let endpoint = proxy.endpoint();
            let flags =
                ["--store", &url, "--s3-endpoint", &endpoint, "--refresh", refresh, "--expire-please", "10s"];
            let mut larder = Larder::serve(&flags, &credentials);
            proxy.set_when(|seen| seen.verb() == "CopyObject", Fault::Hang, None);
            proxy.take_requests();
            Client::new(larder.addr()).check(bare("GET", &format!("/please/{}", please(0))), 200).await;
            if copies {
                proxy.until_seen(|seen| seen.verb() == "CopyObject").await;
            }
            larder.terminate();
            assert!(larder.ended(LIMIT).await.success(), "{}: {:?}", server.name, larder.log());
            assert_eq!(proxy.verbs().contains_key("CopyObject"), copies, "{}", server.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_binary_refreshes_a_directory_by_its_flags() {
    let root = tempfile::tempdir().unwrap();
    let store = root.path().to_str().unwrap();
    for (flags, young) in [
        (vec!["--refresh", "off"], false),
        (vec!["--expire-please", "41d"], false),
        (vec!["--expire-please", "never"], false),
        (vec![], true),
    ] {
        let larder = Larder::serve(&[vec!["--store", store], flags.clone()].concat(), &[]);
        let client = Client::new(larder.addr());
        let path = format!("/please/{}", please(1));
        client.check(request("PUT", &path).body(crate::support::http::full("bytes")).unwrap(), 200).await;
        age(root.path(), &please_key(1), DAY * 20);
        client.check(bare("GET", &path), 200).await;
        let file = root.path().join(please_key(1));
        let is_young = || file.metadata().unwrap().modified().unwrap().elapsed().is_ok_and(|age| age < DAY);
        if young {
            eventually("it is young", async || is_young()).await;
        }
        let page = client.check(bare("GET", "/metrics"), 200).await.text();
        assert_eq!(page.contains("larder_refreshes_total{outcome=\"done\"} 1"), young, "{flags:?}");
        assert_eq!(is_young(), young, "{flags:?}");
    }
}
