//! The project's own load tool: many keep-alive HTTP/1.1 connections, one size or the mix of a real cache, bodies
//! checked, and the CPU time and memory of the servers read beside the clock.
//!
//! `cargo bench --bench load -- --help` says how; `benches/compare` runs it over Larder and its peers side by side.
//! Measures only: starts no server, follows no redirect, never repeats a request that failed.

#[path = "load/body.rs"]
mod body;
#[path = "load/link.rs"]
mod link;
#[path = "load/process.rs"]
mod process;
#[path = "load/report.rs"]
mod report;
#[path = "load/sign.rs"]
mod sign;

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{CommandFactory, Parser, ValueEnum};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::body::Size;
use crate::link::{Link, Plan};
use crate::process::Group;
use crate::report::{Report, Tally};
use crate::sign::Access;

/// Whatever ends the run: wrong arguments, a process that is not there.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Loads HTTP/1.1 servers and says what it cost them.
///
/// In a URL, {number} stands for the key's number, {hex} for 40 hex digits made of it, {hex2} for the first two of those,
/// {hash} for the same 20 bytes as 27 characters of URL-safe base64, {sha256} for the digest of the key's bytes.
/// GET picks keys at random, PUT and POST take them in order. A key has the same name, size and bytes in every run.
#[derive(Debug, Parser)]
#[command(name = "load", disable_version_flag = true)]
struct Options {
    /// Where to send requests (http only); connections are dealt out over several
    urls: Vec<String>,
    /// Connections open at once, each with one request under way
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Threads of this tool
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// End after so many seconds
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// End after so many requests instead
    #[arg(long)]
    requests: Option<u64>,
    /// Seconds of the same load before anything is measured
    #[arg(long, default_value_t = 0.0)]
    warmup: f64,
    /// Give one request up after so many seconds: an error
    #[arg(long, default_value_t = 60.0)]
    timeout: f64,
    /// What to ask
    #[arg(long, value_enum, ignore_case = true, default_value = "GET")]
    method: Verb,
    /// Bytes of a body (10, 16KiB, 1GiB), or `mixed`: the sizes of a production build cache
    #[arg(long, default_value = "1KiB")]
    size: Size,
    /// Distinct keys
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    /// Number of the first key
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Store every key first, with PUT or as said
    #[arg(long, value_enum, ignore_case = true, num_args = 0..=1, require_equals = true, default_missing_value = "PUT")]
    prepare: Option<Verb>,
    /// Send bodies without a length, as Please does
    #[arg(long)]
    chunked: bool,
    /// The only status that is no error; otherwise every 2xx
    #[arg(long)]
    expect: Option<u16>,
    /// Compare the bytes of each GET, not only their number
    #[arg(long)]
    verify: bool,
    /// HTTP Basic, NAME:PASSWORD
    #[arg(long)]
    user: Option<String>,
    /// Access key of an S3 server, NAME:SECRET: each GET is signed, once, before the run (of at most 15 minutes)
    #[arg(long, conflicts_with = "user")]
    sign: Option<Access>,
    /// Processes of a server, with their children: [NAME=]PID[,PID]; may be repeated
    #[arg(long)]
    pid: Vec<Group>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
    /// Print the URLs of the keys, ask nothing
    #[arg(long)]
    names: bool,
    /// Print what the processes of --pid have used so far, ask nothing
    #[arg(long)]
    usage: bool,
    /// What cargo adds; means nothing here
    #[arg(long, hide = true)]
    bench: bool,
}

/// A request's method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
enum Verb {
    Get,
    Head,
    Put,
    Post,
}

/// One stretch of load: what all of its connections share.
#[derive(Debug)]
struct Run {
    plan: Arc<Plan>,
    verb: Verb,
    keys: u64,
    first: u64,
    patience: Duration,
    deadline: Option<Instant>,
    requests: Option<u64>,
    turn: AtomicU64,
}

impl Run {
    fn new(
        options: &Options,
        plan: &Arc<Plan>,
        verb: Verb,
        seconds: f64,
        requests: Option<u64>,
    ) -> Result<Self, Failure> {
        let deadline = match requests {
            Some(_) => None,
            None => Some(Instant::now() + Duration::try_from_secs_f64(seconds)?),
        };
        let (keys, first, turn) = (options.keys, options.first, AtomicU64::new(0));
        let patience = Duration::try_from_secs_f64(options.timeout)?;
        Ok(Self { plan: Arc::clone(plan), verb, keys, first, patience, deadline, requests, turn })
    }

    /// The key of the next request, while there is to be one.
    fn next(&self, random: &mut fastrand::Rng) -> Option<u64> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let over = self.requests.is_some_and(|most| turn >= most)
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let key = match self.verb {
            Verb::Get | Verb::Head => random.u64(..self.keys),
            Verb::Put | Verb::Post => self.plan.turn() % self.keys,
        };
        (!over).then(|| self.first + key)
    }

    /// One connection's share of the load.
    async fn connection(self: Arc<Self>, index: usize) -> Tally {
        let mut random = fastrand::Rng::with_seed(index as u64);
        let (mut tally, mut idle) = (Tally::default(), None);
        while let Some(key) = self.next(&mut random) {
            let mut link = match self.open(idle.take(), index).await {
                Ok(link) => link,
                Err(error) => {
                    tally.failed(format!("connect: {error}"));
                    tokio::time::sleep(Duration::from_millis(10)).await; // a refusing server is not to be hammered
                    continue;
                }
            };
            let started = Instant::now();
            match timeout(self.patience, link.ask(&self.plan, self.verb, key)).await {
                Ok(Ok(bytes)) => {
                    tally.done(started.elapsed(), bytes);
                    idle = Some(link);
                }
                Ok(Err(why)) => tally.failed(why),
                Err(_elapsed) => tally.failed("timed out".to_owned()),
            }
        }
        tally
    }

    /// The kept connection while the server keeps it too, else a new one.
    async fn open(&self, idle: Option<Link>, index: usize) -> Result<Link, Failure> {
        if let Some(mut link) = idle
            && link.ready().await
        {
            return Ok(link);
        }
        timeout(self.patience, Link::open(&self.plan, index)).await?
    }

    /// Runs to the end over so many connections: what came of it, and how long it took.
    async fn load(self, connections: usize) -> (Tally, Duration) {
        let (run, started) = (Arc::new(self), Instant::now());
        let mut tasks: JoinSet<Tally> =
            (0..connections).map(|index| Arc::clone(&run).connection(index)).collect();
        let mut tally = Tally::default();
        while let Some(share) = tasks.join_next().await {
            match share {
                Ok(share) => tally.add(share),
                Err(error) => tally.failed(format!("load: {error}")),
            }
        }
        (tally, started.elapsed())
    }
}

/// Prepares, warms up, measures.
async fn measure(options: &Options) -> Result<Report, Failure> {
    let plan = Arc::new(Plan::new(options).await?);
    if let Some(verb) = options.prepare {
        let (stored, _) =
            Run::new(options, &plan, verb, 0.0, Some(options.keys))?.load(options.connections).await;
        stored.faultless().map_err(|why| format!("prepare: {why}"))?;
    }
    if options.warmup > 0.0 {
        Run::new(options, &plan, options.method, options.warmup, None)?.load(options.connections).await;
    }
    let before = process::readings(&options.pid)?;
    let run = Run::new(options, &plan, options.method, options.seconds, options.requests)?;
    let (tally, elapsed) = run.load(options.connections).await;
    let after = process::readings(&options.pid)?;
    Ok(Report::new(tally, elapsed, &process::used(&before, &after)?))
}

fn run(options: &Options) -> Result<bool, Failure> {
    if options.usage {
        writeln!(stdout(), "{}", serde_json::to_string(&process::readings(&options.pid)?)?)?;
        return Ok(true);
    }
    let mut builder = match options.threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        many => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(many);
            builder
        }
    };
    let runtime = builder.enable_all().build()?;
    if options.names {
        for name in runtime.block_on(Plan::new(options))?.names() {
            writeln!(stdout(), "{name}")?;
        }
        return Ok(true);
    }
    let report = runtime.block_on(measure(options))?;
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(report.faultless())
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.urls.is_empty() && !options.usage {
        // As `cargo bench` and `cargo test --benches` start it, with nothing to load.
        print!("{}", Options::command().render_long_help());
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::from(2)
        }
    }
}
