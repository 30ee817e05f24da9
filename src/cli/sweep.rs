//! `larder sweep`: its flags, how far it is while a person waits, and how it ends.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::{Instant, interval, sleep};

use super::flags::StoreFlags;
use super::run::{Exit, Leaves, fail, interrupted, with_counted_store};
use super::{please_dir, values};
use crate::metrics::{Metrics, Swept, SweptAmounts};
use crate::serve;
use crate::store::{Prefix, Store};
use crate::sweep::{self, Counters, Leftovers, Marks, Rules, Stage, Summary, Terms};

/// How often what a person sees is drawn anew.
const DRAWN: Duration = Duration::from_millis(100);

/// Flags of `larder sweep`.
#[derive(Debug, Args)]
pub(super) struct Sweep {
    /// Instead of a store, a directory cache of Please: the directory that is `dir` in its `[cache]`
    #[arg(long, value_name = "DIR", conflicts_with_all = ["max_age", "min_age", "prefixes", "leftovers", "every"])]
    please_dir: Option<PathBuf>,
    /// Remove entries whose last use is longer ago than this
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    max_age: Option<Duration>,
    /// Above this size, remove the least recently used entries
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    high_water: Option<u64>,
    /// The size to come down to then
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    low_water: Option<u64>,
    /// Keep what was used or stored since, whatever else is said
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = values::time)]
    min_age: Duration,
    /// Sweep only what lies below this; may be repeated. The marks are of that then [default: artifact and please, not wheels]
    #[arg(long = "prefix", value_name = "PREFIX")]
    prefixes: Vec<Prefix>,
    /// Where to look for what broken Stores of the RPC cache have left: one request for each entry without a manifest
    #[arg(long, value_name = "WHICH", default_value = "recent")]
    leftovers: LeftoversArg,
    /// How old leftovers and broken uploads are that nobody works on any more
    #[arg(long, env = "LARDER_LEFTOVER_AGE", value_name = "TIME", default_value = "1d", value_parser = values::time)]
    leftover_age: Duration,
    /// Say what would be removed, and remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Say what came of it as one JSON object
    #[arg(long)]
    json: bool,
    /// Go on, and sweep again after each such time, a tenth more or less, until SIGTERM
    #[arg(long, value_name = "TIME", value_parser = period)]
    every: Option<Duration>,
    /// With --every: address of /healthz, /readyz and /metrics [default: none]
    #[arg(long, env = "LARDER_OPS_LISTEN", value_name = "ADDR")]
    ops_listen: Option<SocketAddr>,
    #[command(flatten)]
    store: StoreFlags,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LeftoversArg {
    /// Nowhere
    None,
    /// Among entries that became --leftover-age old in the last seven days
    Recent,
    /// Among all entries that are older than --leftover-age
    All,
}

impl From<LeftoversArg> for Leftovers {
    fn from(arg: LeftoversArg) -> Self {
        match arg {
            LeftoversArg::None => Self::None,
            LeftoversArg::Recent => Self::Recent,
            LeftoversArg::All => Self::All,
        }
    }
}

fn period(text: &str) -> Result<Duration, &'static str> {
    values::time(text).and_then(|time| if time.is_zero() { Err("more than 0 is needed") } else { Ok(time) })
}

impl Sweep {
    fn terms(&self) -> Result<Terms, sweep::Refusal> {
        let marks = self.high_water.zip(self.low_water).map(|(high, low)| Marks { high, low });
        let rules = Rules {
            max_age: self.max_age,
            min_age: self.min_age,
            marks,
            leftover_age: self.leftover_age,
            leftovers: self.leftovers.into(),
        };
        Terms { places: self.prefixes.clone(), rules, dry_run: self.dry_run }.checked()
    }
}

/// Sweeps, once or until a signal comes.
pub(super) async fn run(args: Sweep) -> Exit {
    if let Some(dir) = args.please_dir {
        return please_dir::sweep(dir, (args.high_water, args.low_water), args.dry_run, args.json);
    }
    if args.high_water.is_some() != args.low_water.is_some() {
        return fail(&io::Error::other("--high-water and --low-water need each other"), Exit::Usage);
    }
    let terms = match args.terms() {
        Ok(terms) => terms,
        Err(error) => return fail(&error, Exit::Usage),
    };
    let (json, every, listen) = (args.json, args.every, args.ops_listen);
    let metrics = Metrics::new();
    // A sweep that is killed leaves nothing that the next one does not find.
    with_counted_store(args.store, metrics.clone(), Leaves::Nothing, async |store| match (every, listen) {
        (None, _) => once(store, &terms, json, &metrics).await,
        (Some(every), None) => repeat(store, &terms, json, every, &metrics).await,
        (Some(every), Some(listen)) => {
            let work = repeat(store, &terms, json, every, &metrics);
            match serve::beside(listen, store, &metrics, work).await {
                Ok(exit) => exit,
                Err(error) => fail(&error, Exit::Failed),
            }
        }
    })
    .await
}

/// A round that fails is told of, and the next one tries again.
async fn repeat(store: &Store, terms: &Terms, json: bool, every: Duration, metrics: &Metrics) -> Exit {
    let rounds = async {
        loop {
            once(store, terms, json, metrics).await;
            sleep(sweep::jittered(every)).await;
        }
    };
    tokio::select! {
        ended = rounds => ended,
        signalled = interrupted() => signalled.map_or_else(|error| fail(&error, Exit::Failed), |()| Exit::Done),
    }
}

async fn once(store: &Store, terms: &Terms, json: bool, metrics: &Metrics) -> Exit {
    let (seen, began) = (Counters::default(), Instant::now());
    let swept = watched(sweep::sweep(store, terms, SystemTime::now(), &seen), &seen).await;
    let summary = match &swept {
        Ok(summary) => summary.clone(),
        Err(_) => seen.summary(terms, false),
    };
    let result = result(&swept, &summary);
    metrics.sweeps.swept(result, amounts(&summary), began.elapsed(), SystemTime::now());
    let told = tell(&summary, json);
    let exit = ended(swept.map(drop), &summary);
    match told {
        Err(error) if exit == Exit::Done && error.kind() != io::ErrorKind::BrokenPipe => {
            fail(&error, Exit::Failed)
        }
        // What the sweep came to says more than who listens.
        Ok(()) | Err(_) => exit,
    }
}

const fn result(swept: &Result<Summary, sweep::Error>, summary: &Summary) -> Swept {
    match swept {
        Err(_) => Swept::Failed,
        Ok(_) if summary.failed > 0 => Swept::Failed,
        Ok(_) if !summary.reached => Swept::Short,
        Ok(_) => Swept::Done,
    }
}

fn ended(swept: Result<(), sweep::Error>, summary: &Summary) -> Exit {
    match swept {
        Err(error) => fail(&error, Exit::Store),
        Ok(()) if summary.failed > 0 => {
            fail(&io::Error::other(format!("{} objects could not be removed", summary.failed)), Exit::Store)
        }
        Ok(()) if !summary.reached => fail(
            &io::Error::other("there is more left than the mark, and nothing more that may go"),
            Exit::Failed,
        ),
        Ok(()) => Exit::Done,
    }
}

fn amounts(summary: &Summary) -> SweptAmounts {
    // What would go is not gone.
    let gone = if summary.dry_run { 0 } else { 1 };
    SweptAmounts {
        entries: gone * summary.removed.entries.unwrap_or_default(),
        objects: gone * summary.removed.objects,
        bytes: gone * summary.removed.bytes,
        seen_objects: summary.seen.objects,
        seen_bytes: summary.seen.bytes,
    }
}

fn tell(summary: &Summary, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, summary)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{summary}")?;
    }
    out.flush()
}

/// Shows on a terminal how far work is.
async fn watched<T>(work: impl Future<Output = T>, seen: &Counters) -> T {
    if !values::on_terminal() {
        return work.await;
    }
    let (bar, mut tick) = (ProgressBar::new_spinner(), interval(DRAWN));
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                bar.finish_and_clear();
                return done;
            }
            _ = tick.tick() => draw(&bar, seen),
        }
    }
}

fn draw(bar: &ProgressBar, seen: &Counters) {
    let (objects, bytes) = seen.listed();
    let template = match (seen.stage(), seen.wanted()) {
        // Before anything is gone nobody knows how long the rest takes.
        (Stage::Removing, Some(wanted)) if seen.freed() > 0 => {
            bar.set_length(wanted);
            bar.set_position(seen.freed().min(wanted));
            "{spinner} {wide_bar} {binary_bytes} of {binary_total_bytes} freed, {msg}, about {eta} to go"
        }
        (Stage::Removing | Stage::Looking, _) => "{spinner} {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(format!("{objects} objects seen ({})", ByteSize(bytes)));
    bar.tick();
}
