//! Promise: a bucket's rules become what the flags say, those of others stay as they are to the byte, and whatever is wrong
//! with them is found and explained.

mod fake;
mod real;
mod seeded;
mod served;

use std::process::{Command, Output};
use std::time::Duration;

use larder::config::Expiry;
use larder::lifecycle::{self, Format};
use larder::store::lifecycle::Place;

use crate::support::backends::S3Server;

const DAY: Duration = Duration::from_secs(86_400);

/// The rules for these times, as S3 takes them.
fn xml(expiry: &Expiry, place: &Place) -> String {
    let rules = lifecycle::wanted(expiry, &place.root).unwrap();
    lifecycle::rules(&rules, place, Format::Xml).trim_end().to_owned()
}

/// Every place expires.
fn everything() -> Expiry {
    Expiry { wheels: Some(400 * DAY), ..Expiry::default() }
}

/// The texts of the rules in a document, in their order: of one that has no comments.
fn texts(document: &str) -> Vec<&str> {
    let each =
        document.split_inclusive("</Rule>").filter_map(|part| part.find("<Rule").map(|at| &part[at..]));
    each.collect()
}

/// The real binary over a bucket.
fn larder(server: &S3Server, prefix: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_larder"));
    command
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", &server.key)
        .env("AWS_SECRET_ACCESS_KEY", &server.secret)
        .env("LARDER_S3_ENDPOINT", &server.endpoint)
        .env("LARDER_S3_REGION", "us-east-1")
        .env("LARDER_STORE", format!("s3://{}/{prefix}", server.bucket))
        .arg("lifecycle")
        .args(args);
    command.output().unwrap()
}

/// How it ended, and all that it said.
fn said(output: &Output) -> (i32, String) {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}
