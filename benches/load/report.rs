//! What came of a run: counted, put in order, printed for people or as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::process::Reading;

/// What one connection, or all, did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Of each request that went well.
    times: Vec<Duration>,
    bytes: u64,
    /// How often each thing went wrong.
    failures: BTreeMap<String, u64>,
}

impl Tally {
    /// A request went well.
    pub(crate) fn done(&mut self, time: Duration, bytes: u64) {
        self.times.push(time);
        self.bytes += bytes;
    }

    /// A request went wrong.
    pub(crate) fn failed(&mut self, why: String) {
        *self.failures.entry(why).or_default() += 1;
    }

    /// Takes another's counts in.
    pub(crate) fn add(&mut self, other: Self) {
        self.times.extend(other.times);
        self.bytes += other.bytes;
        for (why, count) in other.failures {
            *self.failures.entry(why).or_default() += count;
        }
    }

    /// Nothing went wrong, or the first thing that did.
    pub(crate) fn faultless(&self) -> Result<(), String> {
        self.failures.iter().next().map_or(Ok(()), |(why, count)| Err(format!("{why} ({count} times)")))
    }
}

/// A server's part.
#[derive(Debug, Serialize)]
struct Cost {
    cpu_us_per_request: f64,
    #[serde(flatten)]
    used: Reading,
}

/// The figures of a run. Times are microseconds; rates count only requests that went well.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    requests: usize,
    errors: u64,
    failures: BTreeMap<String, u64>,
    seconds: f64,
    requests_per_second: f64,
    bytes: u64,
    mib_per_second: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    max_us: f64,
    processes: Vec<Cost>,
}

impl Report {
    /// Works the figures out.
    pub(crate) fn new(mut tally: Tally, elapsed: Duration, used: &[Reading]) -> Self {
        tally.times.sort_unstable();
        let (requests, seconds) = (tally.times.len(), elapsed.as_secs_f64());
        let errors: u64 = tally.failures.values().sum();
        // A refused request costs the server as well: it is in the CPU time, so it is in the count.
        let asked = (requests as u64 + errors).max(1) as f64;
        let cost =
            |used: &Reading| Cost { cpu_us_per_request: used.cpu_seconds * 1e6 / asked, used: used.clone() };
        Self {
            requests,
            errors,
            seconds,
            requests_per_second: requests as f64 / seconds,
            bytes: tally.bytes,
            mib_per_second: tally.bytes as f64 / seconds / f64::from(1 << 20),
            p50_us: quantile(&tally.times, 0.5),
            p90_us: quantile(&tally.times, 0.9),
            p99_us: quantile(&tally.times, 0.99),
            max_us: quantile(&tally.times, 1.0),
            failures: tally.failures,
            processes: used.iter().map(cost).collect(),
        }
    }

    /// Whether there were requests, and all went well.
    pub(crate) const fn faultless(&self) -> bool {
        self.requests > 0 && self.errors == 0
    }
}

/// The least time that so large a share of the requests did not exceed, in microseconds; of no requests, 0.
fn quantile(sorted: &[Duration], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} requests in {:.2} s, {} errors", self.requests, self.seconds, self.errors)?;
        for (why, count) in &self.failures {
            writeln!(f, "  {count} × {why}")?;
        }
        writeln!(f, "{:.0} requests/s, {:.1} MiB/s", self.requests_per_second, self.mib_per_second)?;
        let (p50, p90, p99, max) = (self.p50_us, self.p90_us, self.p99_us, self.max_us);
        writeln!(f, "latency p50 {p50:.0} µs, p90 {p90:.0} µs, p99 {p99:.0} µs, max {max:.0} µs")?;
        for cost in &self.processes {
            let Reading { name, cpu_seconds, rss_kib, peak_rss_kib } = &cost.used;
            let cpu = format!("{:.1} µs CPU a request ({cpu_seconds:.2} s)", cost.cpu_us_per_request);
            writeln!(f, "{name}: {cpu}, {rss_kib} KiB resident, {peak_rss_kib} KiB at most")?;
        }
        Ok(())
    }
}
