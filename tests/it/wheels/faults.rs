//! Bytes without a record, such as an upload leaves that breaks off: who comes upon them sees to them.

use larder::store::Put;

use super::page;
use crate::support::gateway::{Options, TestGateway};
use crate::support::http::bare;
use crate::support::python::Distribution;

#[tokio::test]
async fn bytes_without_a_record_are_brought_in_by_whoever_comes() {
    for gateway in TestGateway::everywhere(&Options::default()) {
        let client = gateway.client();
        let store = gateway.store().await;
        for (project, same) in [("mine", true), ("theirs", false)] {
            let first = Distribution::pure(project, "1");
            let key = format!("wheels/shared/{project}/{}", first.filename).parse().unwrap();
            store.put(&key, bytes::Bytes::from(first.bytes.clone()).into(), Put::default()).await.unwrap();
            client.check(bare("GET", &format!("/simple/{project}/")), 404).await;
            let next = if same {
                first.clone()
            } else {
                Distribution::wheel(project, "1", "py3-none-any", b"other")
            };
            let answer = client.check(next.upload(), if same { 200 } else { 400 }).await;
            assert_eq!(answer.text().starts_with("File already exists ("), !same, "{}", answer.text());
            let shown = page(&client, &format!("/simple/{project}/")).await;
            assert_eq!(shown["files"][0]["hashes"]["sha256"], first.sha256(), "on {}", gateway.name);
            let metadata = client.check(bare("GET", &format!("{}.metadata", first.path())), 200).await;
            assert_eq!(metadata.body, first.metadata);
        }
    }
}

/// What an operator laid there is no file of ours, and nobody's upload changes it.
#[tokio::test]
async fn strange_bytes_are_left_alone() {
    let gateway = TestGateway::start();
    let file = Distribution::pure("a", "1");
    gateway.plant("wheels/shared/a/a-1-py3-none-any.whl", b"no wheel").await;
    let answer = gateway.client().check(file.upload(), 400).await;
    assert!(answer.text().starts_with("File already exists ("), "{}", answer.text());
    gateway.holds(&["wheels/shared/a/a-1-py3-none-any.whl"]).await;
}
