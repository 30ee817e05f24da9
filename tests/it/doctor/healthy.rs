//! Stores that are well, or have one known habit; and what remains of an examination that is killed.

use std::process::{Command, Stdio};
use std::time::Duration;

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};

use super::{Bucket, doctor};
use crate::support::backends::servers;
use crate::support::proxy::{Fault, FaultProxy};

#[tokio::test]
async fn real_servers_are_well_but_for_their_habits() {
    for server in servers() {
        let bucket = Bucket::new(&server).await;
        let told = bucket.examined(&server.endpoint, &[], &[]).await;
        // A root's credentials may change everything; versitygw moves no dates and knows no rules.
        let expected: &[&str] = match server.name.as_str() {
            "minio" => &["rules", "change-rules", "change-policy"],
            _ => &["rules", "refresh"],
        };
        assert_eq!(told.that("warn"), expected, "{}", told.report);
        assert_eq!((told.code, told.that("fail")), (0, vec![]), "{}", told.report);
        assert_eq!(told.report["reached"], true);
        let strict = bucket.examined(&server.endpoint, &["--strict"], &[]).await;
        assert_eq!(strict.code, 1, "warnings count where they are to");
        let without = bucket.examined(&server.endpoint, &["--s3-checksums", "when-required"], &[]).await;
        assert_eq!((without.code, without.that("fail")), (0, vec![]), "{}", without.report);
        assert_eq!(without.check("metadata")["state"], "ok");
        assert_eq!(without.that("skipped").iter().filter(|name| name.starts_with("checksum")).count(), 2);
        bucket.remove().await;
    }
}

/// The rules that a bucket has are held against the gateway's flags, which are the examination's, too.
#[tokio::test]
async fn rules_are_held_against_the_flags() {
    for server in servers().into_iter().filter(|server| server.name == "minio") {
        let bucket = Bucket::new(&server).await;
        let store = format!("s3://{}/pre", bucket.name);
        let applied = Command::new(env!("CARGO_BIN_EXE_larder"))
            .args(["lifecycle", "apply", "--store", &store, "--s3-endpoint", &server.endpoint])
            .env_clear()
            .envs([("AWS_ACCESS_KEY_ID", &server.key), ("AWS_SECRET_ACCESS_KEY", &server.secret)])
            .output()
            .unwrap();
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        let told = bucket.examined(&server.endpoint, &[], &[]).await;
        assert_eq!(told.that("warn"), ["change-rules", "change-policy"], "{}", told.report);
        let told = bucket.examined(&server.endpoint, &["--expire-please", "7d"], &[]).await;
        assert_eq!((told.code, told.that("warn").contains(&"rules-agree")), (0, true), "{}", told.report);
        let said = told.checks().filter(|check| check["check"] == "rules-agree" && check["state"] == "warn");
        let said: Vec<String> = said.map(|check| check["title"].as_str().unwrap().to_owned()).collect();
        assert_eq!(said, ["lifecycle rules: rule-days, larder-please:pre"], "{}", told.report);
        bucket.remove().await;
    }
}

/// Roles that do not write are examined without a write that could succeed.
#[tokio::test]
async fn roles_that_do_not_write_are_not_made_to() {
    for server in servers() {
        let bucket = Bucket::new(&server).await;
        let proxy = FaultProxy::start(server.endpoint.strip_prefix("http://").unwrap().parse().unwrap());
        for role in ["sweep", "reader"] {
            let told = bucket.examined(&proxy.endpoint(), &["--for", role], &[]).await;
            // The owner may do more than either needs.
            assert!(told.that("warn").contains(&"write"), "{}", told.report);
            assert_eq!((told.code, told.that("fail")), (0, vec![]), "{}", told.report);
            let seen = proxy.take_requests();
            // What asks for a change of the policy is tested on its own.
            let stored = seen.iter().filter(|seen| !seen.asks("policy")).filter(|seen| {
                let hash = seen.headers.get("x-amz-content-sha256").and_then(|hash| hash.to_str().ok());
                matches!(seen.verb(), "PutObject" | "CopyObject") && hash != Some(&"0".repeat(64))
                    || seen.verb() == "CreateMultipartUpload"
            });
            assert_eq!(stored.count(), 0, "{role} at {}: {seen:?}", server.name);
        }
        bucket.remove().await;
    }
}

/// Where versions are kept, those of what was written go, too.
#[tokio::test]
async fn no_version_is_left_where_versions_are_kept() {
    for server in servers().into_iter().filter(|server| server.name == "minio") {
        let bucket = Bucket::new(&server).await;
        let kept = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let put = bucket.client.put_bucket_versioning().bucket(&bucket.name).versioning_configuration(kept);
        put.send().await.unwrap();
        let told = bucket.examined(&server.endpoint, &[], &[]).await;
        assert_eq!((told.code, told.that("fail")), (0, vec![]), "{}", told.report);
        assert!(told.that("warn").contains(&"versioning"), "{}", told.report);
        assert_eq!(told.check("refresh")["state"], "ok", "{}", told.report);
    }
}

/// SIGTERM in the middle, at each of several moments, and with a request of which no answer has come.
#[tokio::test]
async fn an_examination_that_is_ended_leaves_nothing() {
    for server in servers() {
        let bucket = Bucket::new(&server).await;
        let before = bucket.content().await;
        let upstream = server.endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        for verb in
            ["PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "CopyObject"]
        {
            let proxy = FaultProxy::start(upstream);
            // The signal comes while it is on its way, and the server carries it out afterwards.
            proxy.set_when(move |seen| seen.verb() == verb, Fault::Latency(Duration::from_secs(2)), None);
            let mut command = bucket.command(&proxy.endpoint(), &[], &[]);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            proxy.until_seen(|seen| seen.verb() == verb).await;
            let killed = Command::new("/bin/sh").args(["-c", &format!("kill -TERM {}", child.id())]).status();
            assert!(killed.unwrap().success());
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{verb}: {stderr}");
            assert!(stderr.contains("interrupted; nothing is left behind"), "{verb}: {stderr}");
            assert_eq!(bucket.content().await, before, "{verb} at {}: {stderr}", server.name);
        }
        bucket.remove().await;
    }
}

/// People get the same in lines, and no colour where nobody sees it.
#[test]
fn people_read_lines() {
    let root = tempfile::tempdir().unwrap();
    let output = doctor(&["--store", root.path().to_str().unwrap()], &[]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("ok   directory is there") && text.contains(" as gateway\n"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}
