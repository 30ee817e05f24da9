//! Builds that are named before they are done.

use serde_json::Value;

use crate::support::gateway::{Options, TestGateway};
use crate::support::http::{Client, bare, with_body};
use crate::support::python::Distribution;

const TAG: &str = "cp312-cp312-linux_x86_64";

async fn built(client: &Client, key: &str, status: u16) -> Value {
    let answer = client.check(bare("GET", &format!("/built/e/by-key/{key}")), status).await;
    if status == 200 { serde_json::from_slice(&answer.body).unwrap() } else { Value::Null }
}

#[tokio::test]
async fn what_a_build_came_to_is_found_by_its_key() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        let (key, other) = ("ab".repeat(32), "cd".repeat(32));
        let wheel = Distribution::wheel("a", "1", TAG, b"x");
        let upload =
            |wheel: &Distribution, key: &str| wheel.form().add("build_key", key).post("/built/e/legacy/");
        built(&client, &key, 404).await;
        client.check(upload(&wheel, &key), 200).await;
        let found = built(&client, &key, 200).await;
        assert_eq!(found["filename"], wheel.filename);
        assert_eq!(found["hashes"]["sha256"], wheel.sha256());
        let url = found["url"].as_str().unwrap().replace("..", "/built/e");
        assert_eq!(client.check(bare("GET", &url), 200).await.body, wheel.bytes);
        // It is the record's too, and its index's alone.
        let record = format!("wheels/built/e/a/.records/{}.json", wheel.filename).parse().unwrap();
        let record =
            gateway.store().await.get(&record, &larder::payload::Want::default()).await.unwrap().unwrap();
        let larder::payload::Body::Whole(json) = record.body else { panic!("a record") };
        let record: Value = serde_json::from_slice(&json.collect().await.unwrap()).unwrap();
        assert_eq!(record["build_key"], key);
        client.check(bare("GET", &format!("/by-key/{key}")), 404).await;
        client.check(bare("GET", &format!("/built/e2/by-key/{key}")), 404).await;

        // The same file may be what another build comes to, and a build may come to another file.
        client.check(upload(&wheel, &other), 200).await;
        assert_eq!(built(&client, &other, 200).await["filename"], wheel.filename);
        let again = Distribution::wheel("a", "1.1", TAG, b"y");
        client.check(upload(&again, &key), 200).await;
        assert_eq!(built(&client, &key, 200).await["filename"], again.filename);

        // Yanked and deleted files are no answer.
        let at = format!("/built/e/simple/a/{}", again.filename);
        client.check(with_body("PUT", &format!("{at}/yank"), ""), 200).await;
        built(&client, &key, 404).await;
        client.check(bare("DELETE", &format!("{at}/yank")), 200).await;
        built(&client, &key, 200).await;
        client.check(bare("DELETE", &at), 200).await;
        built(&client, &key, 404).await;
        // Another file under the name is not what was built.
        let replaced = Distribution::wheel("a", "1.1", TAG, b"z");
        client.check(replaced.form().post("/built/e/legacy/"), 200).await;
        built(&client, &key, 404).await;
        client.check(upload(&replaced, &key), 200).await;
        assert_eq!(built(&client, &key, 200).await["hashes"]["sha256"], replaced.sha256());
    }
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    let gateway = TestGateway::start();
    let client = gateway.client();
    let (wheel, source) = (Distribution::pure("a", "1"), Distribution::source("a", "1"));
    for key in ["x", &"AB".repeat(32), &"ab".repeat(31)] {
        let answer = client.check(wheel.form().add("build_key", key).post("/legacy/"), 400).await;
        assert!(answer.text().contains("build_key"), "{}", answer.text());
        client.check(bare("GET", &format!("/by-key/{key}")), 404).await;
    }
    client.check(source.form().add("build_key", &"ab".repeat(32)).post("/legacy/"), 400).await;
    gateway.holds(&[]).await;
}
