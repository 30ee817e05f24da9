//! Each permission taken away in turn, by a real policy on a real server: temporary credentials of MinIO that carry one.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{Bucket, Told, doctor};
use crate::support::backends::{S3Server, servers};
use crate::support::http::{Client, with_body};

/// Key, secret and token of a session that may do what the policy allows.
type Session = [(&'static str, String); 3];

/// STS "AssumeRole", as MinIO has it.
async fn session(server: &S3Server, policy: &str) -> Session {
    let escaped = utf8_percent_encode(policy, NON_ALPHANUMERIC);
    let body = format!("Action=AssumeRole&Version=2011-06-15&DurationSeconds=3600&Policy={escaped}");
    let host = server.endpoint.strip_prefix("http://").unwrap();
    let identity = Credentials::new(&server.key, &server.secret, None, None, "test").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("sts")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let headers = [("host", host), ("content-type", "application/x-www-form-urlencoded")];
    let signable = SignableRequest::new(
        "POST",
        format!("{}/", server.endpoint),
        headers.into_iter(),
        SignableBody::Bytes(body.as_bytes()),
    )
    .unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    let mut request = with_body("POST", "/", body.clone());
    for (name, value) in headers {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (signed, _) = instructions.into_parts();
    for header in signed {
        request.headers_mut().insert(header.name(), header.value().parse().unwrap());
    }
    let answer = Client::new(host.parse().unwrap()).check(request, 200).await.text();
    let part = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>")).expect(name);
        rest.split_once("</").unwrap().0.to_owned()
    };
    [
        ("AWS_ACCESS_KEY_ID", part("AccessKeyId")),
        ("AWS_SECRET_ACCESS_KEY", part("SecretAccessKey")),
        ("AWS_SESSION_TOKEN", part("SessionToken")),
    ]
}

fn env(session: &Session) -> Vec<(&str, &str)> {
    session.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// What `--policy` prints, which is all that these credentials get.
fn printed(bucket: &Bucket, role: &str) -> Value {
    let store = format!("s3://{}/pre", bucket.name);
    let output = doctor(&["--store", &store, "--policy", role], &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The policy without one action.
fn without(policy: &Value, action: &str) -> Value {
    let mut policy = policy.clone();
    let mut taken = 0;
    for statement in policy["Statement"].as_array_mut().unwrap() {
        let actions = statement["Action"].as_array_mut().unwrap();
        let before = actions.len();
        actions.retain(|of| of != action);
        taken += before - actions.len();
    }
    policy["Statement"]
        .as_array_mut()
        .unwrap()
        .retain(|statement| statement["Action"] != Value::Array(Vec::new()));
    assert_eq!(taken, 1, "{action}");
    policy
}

#[tokio::test]
async fn the_printed_policies_are_enough_and_no_more() {
    for server in servers().into_iter().filter(|server| server.name == "minio") {
        let bucket = Bucket::new(&server).await;
        for role in ["gateway", "sweep", "reader"] {
            let session = session(&server, &printed(&bucket, role).to_string()).await;
            let told = bucket.examined(&server.endpoint, &["--for", role], &env(&session)).await;
            assert_eq!(
                (told.code, told.that("fail"), told.missing().len()),
                (0, vec![], usize::from(role == "reader"))
            );
            // There are no rules; a reader may not look for broken uploads.
            let expected: &[&str] = if role == "reader" { &["rules", "uploads"] } else { &["rules"] };
            assert_eq!(told.that("warn"), expected, "{}", told.report);
        }
        bucket.remove().await;
    }
}

/// The Must: a policy that lacks each needed permission in turn; that one is named, and no other.
#[tokio::test]
async fn the_permission_that_is_missing_is_named_and_no_other() {
    let roles: [(&str, &[&str]); 3] = [
        (
            "gateway",
            &[
                "s3:AbortMultipartUpload",
                "s3:DeleteObject",
                "s3:GetObject",
                "s3:ListBucket",
                "s3:ListBucketMultipartUploads",
                "s3:PutObject",
            ],
        ),
        (
            "sweep",
            &[
                "s3:AbortMultipartUpload",
                "s3:DeleteObject",
                "s3:GetObject",
                "s3:ListBucket",
                "s3:ListBucketMultipartUploads",
            ],
        ),
        ("reader", &["s3:GetObject", "s3:ListBucket"]),
    ];
    for server in servers().into_iter().filter(|server| server.name == "minio") {
        let bucket = Bucket::new(&server).await;
        for (role, needed) in roles {
            let whole = printed(&bucket, role);
            for action in needed {
                let session = session(&server, &without(&whole, action).to_string()).await;
                let told = bucket.examined(&server.endpoint, &["--for", role], &env(&session)).await;
                let mut named = told.missing();
                named.retain(|named| role != "reader" || *named != "s3:ListBucketMultipartUploads");
                assert_eq!((told.code, named), (1, vec![*action]), "{role}: {}", told.report);
                let failed: Vec<_> = told.checks().filter(|check| check["state"] == "fail").collect();
                assert!(
                    failed.iter().all(|check| check["permission"]["action"] == *action),
                    "{}",
                    told.report
                );
                let resource = failed[0]["permission"]["resource"].as_str().unwrap();
                let of_bucket = action.starts_with("s3:List");
                let arn = format!("arn:aws:s3:::{}{}", bucket.name, if of_bucket { "" } else { "/pre/*" });
                assert_eq!(resource, arn);
                assert!(failed[0]["mend"].as_str().unwrap().contains(&arn));
            }
        }
        for action in ["s3:GetBucketVersioning", "s3:GetLifecycleConfiguration"] {
            let session = session(&server, &without(&printed(&bucket, "gateway"), action).to_string()).await;
            let told = bucket.examined(&server.endpoint, &[], &env(&session)).await;
            assert_eq!((told.code, told.missing()), (0, vec![action]), "{}", told.report);
        }
        bucket.remove().await;
    }
}

/// Where versions are kept and may not be removed: nothing is written where that is known, and once where it is not.
#[tokio::test]
async fn versions_that_could_not_be_removed_are_not_made() {
    use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
    for server in servers().into_iter().filter(|server| server.name == "minio") {
        let bucket = Bucket::new(&server).await;
        let kept = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
        let put = bucket.client.put_bucket_versioning().bucket(&bucket.name).versioning_configuration(kept);
        put.send().await.unwrap();
        let whole = printed(&bucket, "gateway");
        let known = session(&server, &whole.to_string()).await;
        let told = bucket.examined(&server.endpoint, &[], &env(&known)).await;
        assert_eq!(told.check("create-only")["state"], "skipped", "{}", told.report);
        assert_eq!((told.code, told.check("left")["state"].as_str()), (0, Some("ok")), "{}", told.report);
        let blind = session(&server, &without(&whole, "s3:GetBucketVersioning").to_string()).await;
        let before = bucket.content().await;
        let told = Told::of(&bucket.command(&server.endpoint, &[], &env(&blind)).output().unwrap());
        assert_eq!(told.check("left")["state"], "warn", "{}", told.report);
        assert_eq!(told.check("create-only")["state"], "skipped", "{}", told.report);
        let after = bucket.content().await;
        assert_eq!(after["objects"], before["objects"]);
        assert!(after["versions"].len() <= before["versions"].len() + 2, "{after:?}");
    }
}

/// Rights over the bucket itself are found by requests that change nothing.
#[tokio::test]
async fn rights_that_should_be_missing_are_found_and_not_used() {
    for server in servers().into_iter().filter(|server| server.name == "minio") {
        let bucket = Bucket::new(&server).await;
        let policy = serde_json::json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Principal": {"AWS": ["*"]}, "Action": ["s3:GetObject"], "Resource": [format!("arn:aws:s3:::{}/*", bucket.name)]}]});
        bucket
            .client
            .put_bucket_policy()
            .bucket(&bucket.name)
            .policy(policy.to_string())
            .send()
            .await
            .unwrap();
        let read =
            async || bucket.client.get_bucket_policy().bucket(&bucket.name).send().await.unwrap().policy;
        let before = read().await;
        let told = bucket.examined(&server.endpoint, &[], &[]).await;
        assert_eq!(read().await, before, "the policy is as it was");
        let lifecycle = bucket.client.get_bucket_lifecycle_configuration().bucket(&bucket.name).send().await;
        assert!(lifecycle.is_err(), "there are still no rules");
        assert_eq!(told.check("change-rules")["state"], "warn");
        assert_eq!(told.check("change-policy")["state"], "warn");
        // And the bucket is open to strangers, who may read and do nothing else.
        assert_eq!(
            (told.code, told.check("public-read")["state"].as_str()),
            (1, Some("fail")),
            "{}",
            told.report
        );
        assert_eq!(told.check("public-write")["state"], "ok");
        assert_eq!(told.check("public-list")["state"], "ok");
        let session = session(&server, &printed(&bucket, "gateway").to_string()).await;
        let told = bucket.examined(&server.endpoint, &[], &env(&session)).await;
        assert_eq!(told.check("change-rules")["state"], "ok", "{}", told.report);
        assert_eq!(told.check("change-policy")["state"], "ok", "{}", told.report);
        bucket.remove().await;
    }
}
