//! Promise: what Python's tools upload is checked, in its index at once, and comes back as it went in; what is refused
//! or breaks off leaves nothing.

mod builds;
mod crash;
mod curdling;
mod faults;
mod folder;
mod pages;
mod people;
mod replicas;
mod uploads;

use serde_json::Value;

use crate::support::http::{Client, request};

/// What pip asks for.
const JSON: &str = "application/vnd.pypi.simple.v1+json";

/// A page as JSON.
async fn page(client: &Client, path: &str) -> Value {
    let asked = request("GET", path).header("accept", JSON).body(crate::support::http::empty()).unwrap();
    let answer = client.check(asked, 200).await;
    assert_eq!(answer.header("content-type"), Some(JSON), "{path}");
    serde_json::from_slice(&answer.body).unwrap()
}

/// The names of the files of a page.
async fn files(client: &Client, path: &str) -> Vec<String> {
    let page = page(client, path).await;
    let files = page["files"].as_array().unwrap().iter();
    files.map(|file| file["filename"].as_str().unwrap().to_owned()).collect()
}
