//! An upload whose gateway or store dies at any step: the file is wholly there or wholly absent, and the same upload
//! again brings it in. Who comes upon bytes without a record sees to them.

use larder::store::Put;

use super::{files, page};
use crate::faults::rig::{Patience, on_each};
use crate::support::gateway::{Options, TestGateway};
use crate::support::http::bare;
use crate::support::proxy::Fault;
use crate::support::python::Distribution;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_fails_is_mended_by_the_next_upload() {
    on_each(Patience::Long, async |rig| {
        for (step, end) in [".whl", ".whl.metadata", ".whl.json"].into_iter().enumerate() {
            for (n, fault) in
                [Fault::InternalError, Fault::LoseAnswer, Fault::ResetMidUpload(10)].into_iter().enumerate()
            {
                let project = format!("step-{step}-{n}");
                let (file, path) = (Distribution::pure(&project, "1"), format!("/simple/{project}/"));
                let lost = fault == Fault::LoseAnswer;
                let name = format!("{}: {end} under {fault:?}", rig.name);
                rig.proxy.set_when(
                    move |seen| seen.verb() == "PutObject" && seen.path().ends_with(end),
                    fault,
                    None,
                );
                let first = rig.client.send(file.upload()).await;
                assert!(first.status == 503 || (lost && first.status == 200), "{name}: {}", first.text());
                // Wholly there, or wholly absent.
                let there = rig.client.send(bare("GET", &path)).await.status;
                assert!(there == 404 || lost, "{name}: {there}");
                assert!(there == 200 || first.status == 503, "{name}: {there}");
                rig.proxy.set(Fault::Pass);
                rig.client.check(file.upload(), 200).await;
                assert_eq!(files(&rig.client, &path).await, std::slice::from_ref(&file.filename), "{name}");
                assert_eq!(rig.client.check(bare("GET", &file.path()), 200).await.body, file.bytes);
            }
        }
    })
    .await;
}

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
