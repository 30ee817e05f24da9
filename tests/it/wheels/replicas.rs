//! Two gateways over one place are one index: what one takes is on the page of both at once, and of two bodies for one
//! name one wins, whichever gateway each came through.

use futures_util::future::{join, join_all};

use super::{files, page};
use crate::killed::Place;
use crate::support::backends::servers;
use crate::support::http::{Client, bare};
use crate::support::process::Larder;
use crate::support::python::Distribution;

/// Uploads at once.
const FILES: usize = 40;
/// Races for a name.
const RACES: usize = 12;

/// A directory, and a place on each S3 server; each with its name.
pub(super) fn places() -> Vec<(String, Place)> {
    let directory = Place::Dir(tempfile::tempdir().unwrap());
    let buckets = servers()
        .into_iter()
        .map(|server| (server.name.clone(), Place::S3(server, format!("wheels-{:016x}", fastrand::u64(..)))));
    std::iter::once(("dir".to_owned(), directory)).chain(buckets).collect()
}

/// Two gateways, and who speaks to each.
fn pair(place: &Place) -> ([Larder; 2], [Client; 2]) {
    let pair = [place.serve("1d"), place.serve("1d")];
    let clients = pair.each_ref().map(|larder| Client::new(larder.addr()));
    (pair, clients)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forty_at_once_are_on_the_page_of_both() {
    for (name, place) in places() {
        let (_pair, clients) = pair(&place);
        for round in 0..3 {
            let project = format!("forty-{round}");
            let path = format!("/simple/{project}/");
            for client in &clients {
                client.check(bare("GET", &path), 404).await;
            }
            let version = |n: usize| format!("1.{n}");
            let all: Vec<Distribution> =
                (0..FILES).map(|n| Distribution::pure(&project, &version(n))).collect();
            // Each is on the other's page as soon as it is taken, while the rest are on their way.
            join_all(all.iter().enumerate().map(async |(n, file)| {
                clients[n % 2].check(file.upload(), 200).await;
                let there = files(&clients[(n + 1) % 2], &path).await.contains(&file.filename);
                assert!(there, "{name}: {} is not on the other's page", file.filename);
            }))
            .await;
            for (who, client) in clients.iter().enumerate() {
                let page = page(client, &path).await;
                let shown = page["files"].as_array().unwrap();
                assert_eq!(shown.len(), FILES, "{name}: the page of {who}");
                for file in &all {
                    let entry = shown.iter().find(|entry| entry["filename"] == file.filename);
                    let digest = &entry.unwrap_or_else(|| panic!("{name}: no {}", file.filename))["hashes"];
                    assert_eq!(digest["sha256"], file.sha256(), "{name}: {}", file.filename);
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_bodies_for_one_name_one_wins() {
    let mut wins = [0; 2];
    for (name, place) in places() {
        let (_pair, clients) = pair(&place);
        for round in 0..RACES {
            let version = format!("1.{round}");
            let bodies = [b"one", b"two"];
            let files = bodies.map(|body| Distribution::wheel("name-race", &version, "py3-none-any", body));
            let (one, two) =
                join(clients[0].send(files[0].upload()), clients[1].send(files[1].upload())).await;
            let answers = [one, two];
            let statuses = answers.each_ref().map(|answer| answer.status.as_u16());
            let winner = match statuses {
                [200, 400] => 0,
                [400, 200] => 1,
                _ => {
                    panic!("{name}, round {round}: {statuses:?}: {}", answers[0].text() + &answers[1].text())
                }
            };
            wins[winner] += 1;
            let (won, lost) = (&files[winner], &files[1 - winner]);
            let said = answers[1 - winner].text();
            assert!(said.starts_with("File already exists ("), "{name}: {said}");
            for client in &clients {
                let page = page(client, "/simple/name-race/").await;
                let shown = page["files"].as_array().unwrap();
                assert_eq!(shown.len(), round + 1, "{name}");
                let entry = shown.iter().find(|entry| entry["filename"] == won.filename).unwrap();
                assert_eq!(entry["hashes"]["sha256"], won.sha256(), "{name}, round {round}");
                assert_eq!(client.check(bare("GET", &won.path()), 200).await.body, won.bytes, "{name}");
                client.check(bare("GET", &lost.path()), 404).await;
                // It stays so.
                client.check(won.upload(), 200).await;
                let said = client.check(lost.upload(), 400).await.text();
                assert!(said.starts_with("File already exists ("), "{name}: {said}");
            }
        }
    }
    eprintln!("wheels::replicas: wins by gateway {wins:?}");
}
