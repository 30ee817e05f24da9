//! Servers that break one promise each: that one is found, and no other; and ways that end before a bucket.

use super::{Bucket, Told, doctor};
use crate::support::backends::servers;
use crate::support::proxy::{Fault, FaultProxy, Seen};

/// What a server does wrong: when, how; and the check that finds it, with its state.
type Quirk = (fn(&Seen) -> bool, Fault, &'static str, &'static str);

const QUIRKS: &[Quirk] = &[
    (|seen| seen.verb() == "PutObject", Fault::Strip("if-none-match"), "create-only", "fail"),
    (|seen| seen.verb() == "PutObject", Fault::Strip("if-match"), "replace-same", "fail"),
    (|seen| seen.verb() == "CompleteMultipartUpload", Fault::Strip("if-none-match"), "create-large", "fail"),
    (|seen| seen.verb() == "GetObject", Fault::Strip("if-none-match"), "not-modified", "warn"),
    // The one write of which the checksum is wrong.
    (is_wrong_checksum, Fault::Says(""), "checksum-refused", "warn"),
    (
        |seen| seen.verb() == "ListObjectsV2" && seen.target.contains("max-keys=1000"),
        Fault::Says(STALE),
        "list-fresh",
        "fail",
    ),
    (|seen| seen.asks("start-after"), Fault::Says(STALE), "list-order", "fail"),
    (|seen| seen.target.contains("nobody"), Fault::Ahead(120), "clock", "warn"),
    (|seen| seen.target.contains("nobody"), Fault::Ahead(720), "clock", "fail"),
];

const STALE: &str = "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>";

fn is_wrong_checksum(seen: &Seen) -> bool {
    // It is the first that is written under the third name.
    seen.verb() == "PutObject" && seen.path().ends_with("/c-third")
}

#[tokio::test]
async fn each_broken_promise_is_found() {
    for server in servers() {
        let bucket = Bucket::new(&server).await;
        let upstream = server.endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        let healthy = bucket.examined(&server.endpoint, &[], &[]).await;
        for (when, fault, check, state) in QUIRKS {
            let proxy = FaultProxy::start(upstream);
            let times = (*check == "checksum-refused").then_some(1);
            proxy.set_when(*when, fault.clone(), times);
            let told = bucket.examined(&proxy.endpoint(), &[], &[]).await;
            assert_eq!(told.check(check)["state"], *state, "{check} at {}: {}", server.name, told.report);
            assert!(!told.check(check)["mend"].as_str().unwrap().is_empty());
            assert_eq!(told.code, i32::from(*state == "fail"), "{check}: {}", told.report);
            let of = |told: &Told| -> Vec<String> {
                let mut all = [told.that("fail"), told.that("warn")].concat();
                all.retain(|name| name != check && !(*check == "list-fresh" && *name == "list-order"));
                all.into_iter().map(str::to_owned).collect()
            };
            let (mut found, mut known) = (of(&told), of(&healthy));
            found.sort();
            known.sort();
            assert_eq!(found, known, "{check} alone is found at {}", server.name);
        }
        bucket.remove().await;
    }
}

/// One probe that is never answered does not hide the others, and takes its own time only.
#[tokio::test]
async fn one_that_hangs_does_not_hide_the_others() {
    for server in servers().into_iter().filter(|server| server.name == "minio") {
        let bucket = Bucket::new(&server).await;
        let proxy = FaultProxy::start(server.endpoint.strip_prefix("http://").unwrap().parse().unwrap());
        proxy.set_when(|seen| seen.asks("versioning"), Fault::Hang, None);
        let told = bucket.examined(&proxy.endpoint(), &[], &[]).await;
        assert_eq!(told.check("versioning")["state"], "warn", "{}", told.report);
        assert_eq!(told.check("refresh")["state"], "ok", "{}", told.report);
        assert_eq!(told.code, 0);
        bucket.remove().await;
    }
}

#[tokio::test]
async fn ways_that_end_before_the_bucket_are_told_apart() {
    for server in servers() {
        let bucket = Bucket::new(&server).await;
        let upstream = server.endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        let good = [("AWS_ACCESS_KEY_ID", &*server.key), ("AWS_SECRET_ACCESS_KEY", &*server.secret)];
        let refused = FaultProxy::start(upstream);
        refused.set(Fault::Refuse);
        let nowhere = refused.endpoint();
        let tls = server.endpoint.replace("http://", "https://");
        let there = server.endpoint.as_str();
        let own = format!("s3://{}", bucket.name);
        let wrong_secret = [good[0], ("AWS_SECRET_ACCESS_KEY", "wrong")];
        let wrong_key = [("AWS_ACCESS_KEY_ID", "NOBODYATALL000000000"), good[1]];
        type Way<'w> = (&'w str, &'w str, &'w [(&'w str, &'w str)], &'w str);
        let ways: [Way<'_>; 6] = [
            (&nowhere, &own, &good, "nobody listens"),
            (&tls, &own, &good, "no trusted TLS"),
            (there, "s3://no-such-bucket-anywhere", &good, "no such bucket"),
            (there, &own, &wrong_secret, "not accepted"),
            (there, &own, &wrong_key, "not accepted"),
            (
                there,
                &own,
                &[("AWS_EC2_METADATA_DISABLED", "true"), ("HOME", "/nonexistent")],
                "no credentials",
            ),
        ];
        for (endpoint, store, env, means) in ways {
            let args = ["--json", "--store", store, "--s3-endpoint", endpoint];
            let told = Told::of(&doctor(&args, env).output().unwrap());
            assert_eq!((told.code, &told.report["reached"]), (3, &false.into()), "{means}: {}", told.report);
            let reach = told.check("reach");
            assert!(reach["means"].as_str().unwrap().contains(means), "{means}: {}", told.report);
            assert!(!reach["mend"].as_str().unwrap().is_empty());
        }
        bucket.remove().await;
    }
}
