//! `docs/metrics.md` says what the code counts: the page is generated from it, and compared.
//!
//! `UPDATE_DOCS=1 cargo test --test it page::` writes the generated pages anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use larder::metrics::{Handshake, Metrics, Outcome, Protocol, Refreshed, Swept, SweptAmounts, Verb};

use crate::support::variable;

/// Where the labels' values are described.
const SOURCE: &str =
    concat!(include_str!("../../src/metrics.rs"), include_str!("../../src/metrics/sweeps.rs"));

/// Which struct holds the labels of metrics whose names begin so.
const STRUCTS: [(&str, &str); 7] = [
    ("larder_refresh", "RefreshLabels"),
    ("larder_sweep", "SweptLabels"),
    ("larder_sweep", "AmountLabels"),
    ("larder_tls", "HandshakeLabels"),
    ("larder_store", "CallLabels"),
    ("larder_", "RequestLabels"),
    ("larder_", "VerbLabels"),
];

const HEAD: &str = "\
<!-- Generated from src/metrics.rs by tests/it/metrics_page.rs: UPDATE_DOCS=1 cargo test --test it page:: -->

# Metrics

`GET /metrics` answers in OpenMetrics text, which Prometheus reads. It is never behind a password: with
`--ops-listen` it is on that address alone, else on the main port. Counters begin at 0 with the process, and a series
appears with the first thing that it counts.

";

/// A file of the project.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Holds a page of the project to what the code says, or writes it where that is asked for.
#[track_caller]
pub(crate) fn held(name: &str, generated: &str) {
    let path = file(name);
    if variable("UPDATE_DOCS").is_some() {
        fs::write(&path, generated).unwrap();
    }
    let page = fs::read_to_string(&path).unwrap_or_default();
    let odd = page.lines().zip(generated.lines()).position(|(page, code)| page != code);
    assert!(
        page == generated,
        "{name} is not what the code says, first in line {:?}: UPDATE_DOCS=1 cargo test --test it page::",
        odd.map_or(page.lines().count().min(generated.lines().count()), |line| line) + 1
    );
}

/// A metric as its page describes it, and the labels of its series.
#[derive(Debug, PartialEq, Eq)]
struct Described {
    name: String,
    kind: String,
    unit: String,
    help: String,
    labels: Vec<String>,
}

/// Every metric of a page that holds a series of each.
fn described(page: &str) -> Vec<Described> {
    let mut all: Vec<Described> = Vec::new();
    for line in page.lines() {
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["#", "HELP", name, help @ ..] => all.push(Described {
                name: (*name).to_owned(),
                kind: String::new(),
                unit: String::new(),
                help: help.join(" "),
                labels: Vec::new(),
            }),
            ["#", "TYPE", _, kind] => all.last_mut().unwrap().kind = (*kind).to_owned(),
            ["#", "UNIT", _, unit] => all.last_mut().unwrap().unit = (*unit).to_owned(),
            ["#", "EOF"] => {}
            [series, ..] => {
                let last = all.last_mut().unwrap();
                assert!(series.starts_with(&last.name), "{series} stands below {}", last.name);
                let labels = series.split_once('{').map_or("", |(_, labels)| labels);
                let names = labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name);
                last.labels = names.filter(|name| *name != "le").map(str::to_owned).collect();
            }
            [] => {}
        }
    }
    all
}

/// A label and the text that describes its values.
type Label = (String, String);

/// The labels of a struct of [`SOURCE`], in its order.
fn labels_of(name: &str) -> Vec<Label> {
    let (_, rest) = SOURCE.split_once(&format!("pub struct {name} {{\n")).unwrap();
    let (fields, _) = rest.split_once("\n}").unwrap();
    let (mut text, mut labels) = (Vec::new(), Vec::new());
    for line in fields.lines().map(str::trim) {
        if let Some(doc) = line.strip_prefix("/// ") {
            text.push(doc);
        } else {
            let label = line.strip_prefix("pub ").and_then(|field| field.split_once(':')).unwrap().0;
            labels.push((label.to_owned(), text.join(" ")));
            text.clear();
        }
    }
    labels
}

/// What the label of a struct may be.
fn meaning(of: &str, label: &str) -> String {
    let text = labels_of(of).into_iter().find(|(name, _)| name == label).unwrap().1;
    match text.strip_prefix("[`").and_then(|text| text.strip_suffix("::name`].")) {
        Some(name) => values(name),
        None => text,
    }
}

/// Each value of an enum of [`SOURCE`] as a label, and what it stands for.
fn values(name: &str) -> String {
    let between = |start: &str| SOURCE.split_once(start).unwrap().1.split_once("\n}").unwrap().0;
    let (variants, arms) = (between(&format!("pub enum {name} {{\n")), between(&format!("impl {name} {{\n")));
    let mut text = Vec::new();
    let mut doc = "";
    for line in variants.lines().map(str::trim) {
        match line.strip_prefix("/// ") {
            Some(said) => doc = said,
            None => {
                let arm = format!("Self::{} => \"", line.trim_end_matches(','));
                let value = arms.split_once(&arm).unwrap().1.split_once('"').unwrap().0;
                text.push(format!("`{value}`: {}", doc.trim_end_matches('.')));
            }
        }
    }
    text.join("; ")
}

/// One series of each metric, so that the page shows its labels.
fn every_metric() -> Metrics {
    let metrics = Metrics::new();
    metrics.request(Protocol::Artifact, Verb::Get, Outcome::Hit, Duration::from_millis(3));
    metrics.receive(Protocol::Artifact, Verb::Post, 1);
    metrics.send(Protocol::Artifact, Verb::Get, 1);
    metrics.call("get", "ok");
    metrics.handshake(Handshake::Done);
    let (amounts, took) = (SweptAmounts::default(), Duration::from_secs(1));
    metrics.sweeps.swept(Swept::Done, amounts, took, SystemTime::now());
    metrics.refresh(Refreshed::Done);
    metrics
}

/// What Prometheus calls the series of a metric.
fn series(metric: &Described) -> String {
    let name = &metric.name;
    match metric.kind.as_str() {
        "counter" => format!("`{name}_total`"),
        "histogram" => format!("`{name}_bucket`, `{name}_sum`, `{name}_count`"),
        "gauge" => format!("`{name}`"),
        other => panic!("{name} is of the unknown kind {other}"),
    }
}

fn generated() -> String {
    let page = every_metric().page();
    let mut text = HEAD.to_owned();
    for metric in described(&page) {
        writeln!(text, "## `{}`\n\n{}\n", metric.name, metric.help).unwrap();
        let unit = if metric.unit.is_empty() { String::new() } else { format!(", in {}", metric.unit) };
        writeln!(text, "{}{unit}: {}.\n", metric.kind, series(&metric)).unwrap();
        if metric.labels.is_empty() {
            continue;
        }
        let of = STRUCTS.iter().find(|(start, of)| {
            metric.name.starts_with(start) && labels_of(of).iter().map(|(name, _)| name).eq(&metric.labels)
        });
        text.push_str("| label | values |\n|---|---|\n");
        for label in &metric.labels {
            writeln!(text, "| `{label}` | {} |", meaning(of.unwrap().1, label)).unwrap();
        }
        text.push('\n');
    }
    let bounds: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("larder_request_duration_seconds_bucket"))
        .filter_map(|line| line.split_once("le=\"")?.1.split_once('"').map(|(bound, _)| bound))
        .collect();
    writeln!(text, "Upper bounds of the histogram's buckets, in seconds: {}.", bounds.join(", ")).unwrap();
    text
}

#[test]
fn the_page_is_what_is_counted() {
    held("docs/metrics.md", &generated());
}

#[test]
fn every_metric_says_what_it_is() {
    let all = described(&every_metric().page());
    assert!(all.len() >= 8, "{all:?}");
    for metric in all {
        assert!(metric.name.starts_with("larder_") && !metric.help.is_empty(), "{metric:?}");
    }
}
