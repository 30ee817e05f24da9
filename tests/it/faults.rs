//! Promise: a miss is a miss and an error is an error. Whatever the store or the network before it does, a client gets
//! the right answer, or 503, or an answer that is visibly broken; nothing half-stored stays, and once the fault is over
//! the gateway serves at once.

mod damage;
mod outage;
mod reads;
pub(crate) mod rig;
mod slow;
mod writes;

use std::io;
use std::sync::LazyLock;

use self::rig::{HASH, Rig};
use crate::support::http::{Body, Download, End, Pattern, bare, request, with_body};
use crate::support::proxy::{Fault, Seen};

const SMALL: Pattern = Pattern { seed: 1, length: 1000 };
const LARGE: Pattern = Pattern { seed: 2, length: 20 << 20 };
/// Beyond the first chunks of a large object, and not at a boundary of anything.
const MIDDLE: u64 = 9_000_001;

/// Whether a fault passes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    /// It strikes once.
    Once,
    /// It stays.
    Always,
}

/// What a client sees.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seeing {
    /// A whole answer: its status, length and SHA-256.
    Whole(u16, u64, [u8; 32]),
    /// A head, and a body that is visibly not all.
    Broken(u16),
    /// The connection ended without a head.
    Nothing,
}

impl Seeing {
    fn of(download: &io::Result<Download>) -> Self {
        let Ok(download) = download else { return Self::Nothing };
        let status = download.status.as_u16();
        match &download.end {
            End::Complete => Self::Whole(status, download.length, download.sha256),
            End::Broken(_) => Self::Broken(status),
            End::Unframed => panic!("{status}: an answer whose end cannot be told"),
        }
    }
}

/// What is promised.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Promise {
    /// This status, and these bytes where they matter.
    Good(u16, Option<Pattern>),
    /// 503.
    Unavailable,
    /// 200 and a body that is visibly not all; or, where not even the head had left, no answer.
    Broken,
}

impl Promise {
    fn hold(&self, seen: &Seeing, name: &str) {
        let kept = match (self, seen) {
            (Self::Good(status, None), Seeing::Whole(got, ..)) => status == got,
            (Self::Good(status, Some(pattern)), Seeing::Whole(got, length, sum)) => {
                status == got && pattern.length == *length && sha256(*pattern) == *sum
            }
            (Self::Unavailable, Seeing::Whole(503, ..)) => true,
            (Self::Broken, Seeing::Broken(200) | Seeing::Nothing) => true,
            (Self::Unavailable | Self::Broken, Seeing::Whole(..)) => false,
            (_, Seeing::Broken(_) | Seeing::Nothing) => false,
        };
        assert!(kept, "{name}: promised {self:?}, got {seen:?}");
    }
}

/// As [`Pattern::sha256`]; of what is asked for often, reckoned once.
fn sha256(pattern: Pattern) -> [u8; 32] {
    static OF_LARGE: LazyLock<[u8; 32]> = LazyLock::new(|| LARGE.sha256());
    if pattern == LARGE { *OF_LARGE } else { pattern.sha256() }
}

/// The store's verb that a fault is for.
fn verb(name: &'static str) -> impl Fn(&Seen) -> bool + Send + Clone + 'static {
    move |seen| seen.verb() == name
}

fn artifact(name: &str) -> String {
    format!("/artifact/linux_amd64/pkg/target/{HASH}/{name}")
}

/// The key behind such a path.
fn key(path: &str) -> String {
    path.trim_start_matches('/').to_owned()
}

fn upload(path: &str, pattern: Pattern) -> http::Request<Body> {
    request("POST", path).body(pattern.body()).unwrap()
}

impl Rig {
    /// Lays out what the cases read.
    async fn furnish(&self) {
        for name in ["small", "gen/a", "gen/b", "gen/c/d"] {
            self.lay(&key(&artifact(name)), SMALL).await;
        }
    }

    /// Asks once under a fault, holds the answer to the promise, and sees that all is well without the fault.
    async fn check(
        &self,
        ask: http::Request<Body>,
        on: impl Fn(&Seen) -> bool + Send + Clone + 'static,
        (fault, times): (&Fault, Times),
        promise: &Promise,
    ) {
        let name = format!("{}: {} {} under {fault:?} {times:?}", self.name, ask.method(), ask.uri());
        self.proxy.take_requests();
        self.proxy.set_when(on.clone(), fault.clone(), (times == Times::Once).then_some(1));
        let seen = Seeing::of(&self.client.measure(ask).await);
        let met = self.proxy.requests().iter().filter(|seen| on(seen)).count();
        self.proxy.set(Fault::Pass);
        assert!(met > 0, "{name}: nothing met the fault: {:?}", self.proxy.verbs());
        promise.hold(&seen, &name);
        self.well(&name).await;
    }

    /// Without a fault the gateway serves at once.
    async fn well(&self, after: &str) {
        let answer = self.client.send(bare("GET", &artifact("small"))).await;
        assert!(answer.status == 200 && answer.body == SMALL.bytes(), "after {after}: {}", answer.status);
    }
}

/// 503 for what stays; for what passes, the right answer.
fn unless_once(times: Times, good: Promise) -> Promise {
    match times {
        Times::Once => good,
        Times::Always => Promise::Unavailable,
    }
}

const BOTH: [Times; 2] = [Times::Once, Times::Always];

/// Failures that come instead of an answer, and pass.
const PASSING: [Fault; 3] = [Fault::Refuse, Fault::SlowDown, Fault::InternalError];
