//! On real servers: rules that others wrote come back as they were, ours do what they say, and a server that has no rules is
//! told of.

use std::collections::BTreeMap;
use std::process::Output;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use larder::config::{Expiry, Fraction};
use larder::lifecycle::{Weight, apply, examine, remove};
use larder::metrics::Metrics;
use larder::payload::Payload;
use larder::store::lifecycle::{Lifecycle, Replaced, Rules};
use larder::store::{Put, Store};

use super::{everything, larder, said, texts, xml};
use crate::support::backends::{S3Server, servers};
use crate::support::http::Pattern;
use crate::support::proxy::FaultProxy;

/// Rules of others, as MinIO writes them itself.
const THEIRS: &str = "<LifecycleConfiguration><Rule><ID>logs</ID><Status>Enabled</Status><Filter><And><Prefix>logs/</Prefix><Tag>\
    <Key>a</Key><Value>b</Value></Tag></And></Filter><Expiration><Days>7</Days></Expiration></Rule><Rule><ID>old</ID>\
    <Status>Disabled</Status><Prefix>x/</Prefix><Expiration><Days>3</Days></Expiration></Rule><Rule>\
    <ID>larder-artifacts:elsewhere</ID><Status>Enabled</Status><Filter><Prefix>elsewhere/artifact/</Prefix></Filter>\
    <Expiration><Days>9</Days></Expiration></Rule></LifecycleConfiguration>";

/// A bucket of its own: its rules are one text for all of it.
async fn bucket(server: &S3Server, versioned: bool) -> S3Server {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .credentials_provider(Credentials::new(&server.key, &server.secret, None, None, "test"))
        .region(Region::from_static("us-east-1"))
        .endpoint_url(&server.endpoint)
        .force_path_style(true)
        .build();
    let client = Client::from_conf(config);
    let bucket = format!("rules-{:016x}", fastrand::u64(..));
    client.create_bucket().bucket(&bucket).send().await.expect("a bucket");
    if versioned {
        let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        client
            .put_bucket_versioning()
            .bucket(&bucket)
            .versioning_configuration(on)
            .send()
            .await
            .expect("versions");
    }
    S3Server { bucket, ..server.clone() }
}

async fn store(server: &S3Server, endpoint: &str, prefix: Option<&str>) -> Store {
    let mut config = server.config(endpoint);
    config.prefix = prefix.map(|prefix| prefix.parse().unwrap());
    server.store(config, Metrics::new()).await
}

fn of(name: &str) -> Option<S3Server> {
    servers().into_iter().find(|server| server.name == name)
}

async fn rules(store: &Store) -> Option<Lifecycle> {
    match store.lifecycle().await.unwrap() {
        Rules::Are { now, .. } => now,
        other @ (Rules::Never | Rules::Unsupported { .. }) => panic!("{other:?}"),
    }
}

async fn set(store: &Store, text: &str) {
    let new = Lifecycle { text: text.to_owned(), minimum: None };
    let now = rules(store).await;
    assert_eq!(store.replace_lifecycle(now.as_ref(), Some(&new)).await.unwrap(), Replaced::Done, "{text}");
}

async fn lay(store: &Store, key: &str) {
    let pattern = Pattern { seed: 1, length: 10 };
    let body = futures_util::stream::iter(pattern.blocks().map(Ok));
    store.put(&key.parse().unwrap(), Payload::new(Some(10), body), Put::default()).await.unwrap();
}

#[tokio::test]
async fn minio_keeps_others_rules_and_gets_ours_once() {
    let Some(server) = of("minio") else { return };
    for (versioned, prefix) in [(false, Some("cache/team")), (true, None)] {
        let server = bucket(&server, versioned).await;
        let proxy = FaultProxy::start(server.endpoint.trim_start_matches("http://").parse().unwrap());
        let store = store(&server, &proxy.endpoint(), prefix).await;
        set(&store, THEIRS).await;
        let before = rules(&store).await.unwrap().text;
        assert_eq!(texts(&before), texts(THEIRS));
        let found = examine(&store, &everything(), None).await.unwrap();
        assert_eq!(
            found.iter().map(|finding| finding.id).collect::<Vec<_>>(),
            ["server-uploads", "rules-missing", "refresh-off"]
        );
        proxy.take_requests();

        let mut out = Vec::new();
        apply(&store, &everything(), false, &mut out).await.unwrap();
        let said = String::from_utf8(out).unwrap();
        assert_eq!(said.matches("this server carries no such rule; left out").count(), 3, "{said}");
        assert_eq!(said.matches("\n+ larder-").count(), 7, "{said}");
        let verbs = |gets, puts| BTreeMap::from([("GetBucketLifecycle", gets), ("PutBucketLifecycle", puts)]);
        assert_eq!(proxy.verbs(), verbs(3, 1));
        let after = rules(&store).await.unwrap().text;
        assert_eq!(texts(&after)[..3], texts(&before)[..]);
        assert_eq!(texts(&after).len(), 3 + 7);
        proxy.take_requests();

        let mut out = Vec::new();
        apply(&store, &everything(), false, &mut out).await.unwrap();
        assert_eq!(proxy.verbs(), BTreeMap::from([("GetBucketLifecycle", 1)]));
        assert_eq!(rules(&store).await.unwrap().text, after);
        let found = examine(&store, &everything(), Some(Fraction::default())).await.unwrap();
        assert!(found.iter().all(|finding| finding.weight == Weight::Note), "{found:#?}");
        assert_eq!(found.len(), 1);

        remove(&store, false, &mut Vec::new()).await.unwrap();
        assert_eq!(rules(&store).await.unwrap().text, before);
    }
}

#[tokio::test]
async fn minio_without_rules_of_others_is_left_without_any() {
    let Some(server) = of("minio") else { return };
    let server = bucket(&server, false).await;
    let store = store(&server, &server.endpoint, Some("a b/\u{e9}&'")).await;
    apply(&store, &Expiry::default(), false, &mut Vec::new()).await.unwrap();
    assert_eq!(texts(&rules(&store).await.unwrap().text).len(), 6);
    let found = examine(&store, &Expiry::default(), Some(Fraction::default())).await.unwrap();
    assert_eq!(found.iter().map(|finding| finding.id).collect::<Vec<_>>(), ["server-uploads"]);
    remove(&store, false, &mut Vec::new()).await.unwrap();
    assert_eq!(rules(&store).await, None);
}

/// The rules that are wanted, about the same places, but by a day that has passed: MinIO hides what is under them at once.
async fn expire_now(store: &Store, expiry: &Expiry) {
    let place = store.place().unwrap();
    let text = xml(expiry, &place);
    let (head, _) = text.split_once("<Rule").unwrap();
    let dated = texts(&text).into_iter().filter(|rule| rule.contains("<Expiration><Days>")).map(|rule| {
        let (before, rest) = rule.split_once("<Days>").unwrap();
        let (_, after) = rest.split_once("</Days>").unwrap();
        format!("{before}<Date>2020-01-01T00:00:00Z</Date>{after}")
    });
    set(store, &format!("{head}{}</LifecycleConfiguration>", dated.collect::<String>())).await;
}

const OURS: [&str; 4] = [
    "artifact/linux_amd64/a/b/c",
    "please/ab/abab",
    "wheels/shared/foo/foo.whl",
    "wheels/built/e/foo/foo.whl",
];

#[tokio::test]
async fn the_rules_are_about_our_places_and_nothing_else() {
    let Some(server) = of("minio") else { return };
    let server = bucket(&server, false).await;
    let whole = store(&server, &server.endpoint, None).await;
    let team = store(&server, &server.endpoint, Some("cache/team")).await;
    let near = [
        "artifact2/x",
        "artifact",
        "please.txt",
        "wheels/sharedx",
        "wheels/other/x",
        "notes/please/x",
        "README",
    ];
    for (store, place) in [(&whole, ""), (&whole, "cache/"), (&whole, "cache/team2/"), (&team, "")] {
        for key in OURS.into_iter().chain(near.into_iter().filter(|key| *key != "artifact")) {
            lay(store, &format!("{place}{key}")).await;
        }
    }
    // All names of the bucket that are still there.
    let left = async || {
        let mut found = Vec::new();
        for place in ["", "cache/", "cache/team2/", "cache/team/"] {
            for key in OURS.into_iter().chain(near) {
                let name = format!("{place}{key}");
                if whole.head(&name.parse().unwrap()).await.unwrap().is_some() {
                    found.push(name);
                }
            }
        }
        found
    };
    let all = left().await;
    assert_eq!(all.len(), 4 * (4 + 6));
    let without = |gone: &[&str], place: &str| -> Vec<String> {
        let is_gone = |name: &String| gone.iter().any(|key| *name == format!("{place}{key}"));
        all.iter().filter(|name| !is_gone(name)).cloned().collect()
    };
    // By default the shared index stays; then all of one store; then all of the other.
    expire_now(&team, &Expiry::default()).await;
    assert_eq!(left().await, without(&[OURS[0], OURS[1], OURS[3]], "cache/team/"));
    expire_now(&team, &everything()).await;
    assert_eq!(left().await, without(&OURS, "cache/team/"));
    // What was hidden there may have been removed by now, or not.
    expire_now(&whole, &everything()).await;
    let elsewhere = |names: Vec<String>| -> Vec<String> {
        names.into_iter().filter(|name| !name.starts_with("cache/team/")).collect()
    };
    assert_eq!(elsewhere(left().await), elsewhere(without(&OURS, "")));
}

#[tokio::test]
async fn versitygw_has_no_rules_and_that_is_said() {
    let Some(server) = of("versitygw") else { return };
    let run = |args: &[&str]| -> (i32, String) {
        let output: Output = larder(&server, "team", args);
        said(&output)
    };
    let (code, text) = run(&["check"]);
    assert!(
        code == 1 && text.contains("PROBLEM server-rules: the server of this bucket carries no rules at all"),
        "{text}"
    );
    assert!(text.contains("mend:  larder sweep --store "), "{text}");
    for args in [&["apply"][..], &["remove"]] {
        let (code, text) = run(args);
        assert!(
            code == 1 && text.contains("the server of this bucket carries no rules (NotImplemented"),
            "{text}"
        );
    }
}
