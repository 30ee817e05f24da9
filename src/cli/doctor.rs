//! `larder doctor`: its flags, how what it wrote is removed however it ends, and how it ends.

use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::expiry::{RefreshFlags, Times};
use super::flags::StoreFlags;
use super::run::{Exit, fail, interrupted};
use super::values;
use crate::budget::Budget;
use crate::config::{Expiry, Fraction, Limits, StoreConfig};
use crate::doctor::{self, Check, Place, Report, Role, State};
use crate::healthcheck::{self, Target};
use crate::lifecycle::{self, Finding, Weight};
use crate::metrics::Metrics;
use crate::store::examine::{Depth, Examination, Fact, NoEntry, Observation, PATIENCE, Probe, Seen};

/// How long removing what was written may take.
const CLEANING: Duration = Duration::from_secs(30);

/// Flags of `larder doctor`.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// What the credentials are for: which permissions are needed, and which should be missing
    #[arg(long = "for", value_name = "ROLE", default_value = "gateway")]
    role: RoleArg,
    /// Print the smallest policy that does for --for, or for this role, and ask the bucket nothing
    #[arg(long, value_name = "ROLE", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "a flag whose value may be left out")]
    policy: Option<Option<RoleArg>>,
    /// A gateway that runs: whether it is alive and ready is asked, too
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// In a bucket that keeps versions: write, although versions of what was written remain
    #[arg(long)]
    leave_versions: bool,
    /// Exit 1 for warnings, too
    #[arg(long)]
    strict: bool,
    /// Say what came of it as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    refresh: RefreshFlags,
    #[command(flatten)]
    store: StoreFlags,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    /// `larder serve`
    Gateway,
    /// `larder sweep`
    Sweep,
    /// `larder serve` where nobody may write
    Reader,
}

impl From<RoleArg> for Role {
    fn from(arg: RoleArg) -> Self {
        match arg {
            RoleArg::Gateway => Self::Gateway,
            RoleArg::Sweep => Self::Sweep,
            RoleArg::Reader => Self::Reader,
        }
    }
}

/// Where it is, and what it is called.
fn place(config: &StoreConfig) -> (Place, String) {
    match config {
        StoreConfig::Dir(dir) => (Place::Directory, dir.root.display().to_string()),
        StoreConfig::S3(s3) => {
            let prefix = s3.prefix.as_ref().map(ToString::to_string);
            let below = prefix.as_ref().map_or_else(String::new, |prefix| format!("/{prefix}"));
            (Place::Bucket { name: s3.bucket.clone(), prefix }, format!("s3://{}{below}", s3.bucket))
        }
    }
}

/// Examines, and says what came of it.
pub(super) async fn run(args: Doctor) -> Exit {
    let role = args.role.into();
    let gateway = match args.url.as_deref().map(targets).transpose() {
        Ok(gateway) => gateway,
        Err(error) => return fail(&error, Exit::Usage),
    };
    let config = match args.store.store() {
        Ok(config) => config,
        Err(error) => return fail(&error, Exit::Usage),
    };
    let (place, name) = place(&config);
    if let Some(of) = args.policy {
        return policy(of.map_or(role, Into::into), &place);
    }
    let depth = Depth { write: role == Role::Gateway, versions: args.leave_versions };
    let rules = (args.times.expiry(), args.refresh.part());
    let mut seen = match examined(config.clone(), depth).await {
        Ok(seen) => seen,
        Err(exit) => return exit,
    };
    if let Some(targets) = gateway {
        seen.extend(asked(&targets).await);
    }
    let report = doctor::diagnose(&name, role, &place, &seen);
    let has_rules = seen.iter().any(|seen| matches!(seen.seen, Seen::Fact(Fact::Rules(Some(_)))));
    let report = report.with(if has_rules { rules_of(config, rules).await } else { Vec::new() });
    match told(&report, args.json) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ended(&report, args.strict),
        Err(error) => fail(&error, Exit::Failed),
        Ok(()) => ended(&report, args.strict),
    }
}

/// What is between the bucket's rules and the gateway's flags.
async fn rules_of(config: StoreConfig, (expiry, refresh): (Expiry, Option<Fraction>)) -> Vec<Check> {
    let found = async {
        let budget = Budget::new(Limits::default().max_inflight_bytes);
        let store = config.open(budget, Metrics::new()).await.map_err(|error| error.chain())?;
        lifecycle::examine(&store, &expiry, refresh).await.map_err(|error| error.to_string())
    };
    let found = tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|late| Err(late.to_string()));
    match found {
        Ok(findings) => findings.into_iter().map(ruled).collect(),
        Err(why) => vec![Check {
            check: "rules-agree",
            title: "lifecycle rules and the gateway's flags".to_owned(),
            state: State::Skipped,
            seen: why,
            means: "".into(),
            mend: String::new(),
            permission: None,
        }],
    }
}

fn ruled(found: Finding) -> Check {
    let Finding { id, weight, rule, what, means, mend } = found;
    let title = rule.map_or_else(|| id.to_owned(), |rule| format!("{id}, {rule}"));
    Check {
        check: "rules-agree",
        title: format!("lifecycle rules: {title}"),
        state: match weight {
            Weight::Problem => State::Warn,
            Weight::Note => State::Ok,
        },
        seen: what,
        means: means.into(),
        mend,
        permission: None,
    }
}

/// All that was seen; or the exit where a signal came first.
async fn examined(config: StoreConfig, depth: Depth) -> Result<Vec<Observation>, Exit> {
    let examination = match config {
        StoreConfig::Dir(config) => Examination::dir(&config, depth),
        StoreConfig::S3(config) => match Examination::s3(config, depth).await {
            Ok(examination) => examination,
            Err(error) => {
                let seen = Seen::Fact(Fact::NoEntry(NoEntry::Settings(error.chain())));
                return Ok(vec![Observation { probe: Probe::Reach, seen }]);
            }
        },
    };
    let seen = Mutex::new(Vec::new());
    let tell = |observation| seen.lock().unwrap_or_else(PoisonError::into_inner).push(observation);
    let signalled = tokio::select! {
        // First, so that signals are caught before anything is written.
        biased;
        signalled = interrupted() => Some(signalled),
        () = examination.run(&tell) => None,
    };
    let left = tokio::time::timeout(CLEANING, examination.clean()).await.unwrap_or_else(|_| Observation {
        probe: Probe::Left,
        seen: Seen::Wrong(format!("what was written could not be removed within {CLEANING:?}")),
    });
    let mut seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(signalled) = signalled {
        let why = match (signalled, &left.seen) {
            (Err(error), _) => error,
            (Ok(()), Seen::Wrong(left) | Seen::Failed(left)) => {
                io::Error::other(format!("interrupted; {left}"))
            }
            (Ok(()), _) => io::Error::other("interrupted; nothing is left behind"),
        };
        return Err(fail(&why, Exit::Failed));
    }
    seen.push(left);
    Ok(seen)
}

fn policy(role: Role, place: &Place) -> Exit {
    let Some(policy) = doctor::policy(role, place) else {
        let why = "a directory has no policy: --policy is of a bucket, --store s3://BUCKET[/PREFIX]";
        return fail(&io::Error::other(why), Exit::Usage);
    };
    match writeln!(io::stdout(), "{policy}") {
        Ok(()) => Exit::Done,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => fail(&error, Exit::Failed),
    }
}

/// A gateway's two questions.
fn targets(url: &str) -> Result<[(Probe, Target); 2], healthcheck::TargetError> {
    let base = url.trim_end_matches('/');
    let base = base.strip_suffix("/healthz").or_else(|| base.strip_suffix("/readyz")).unwrap_or(base);
    Ok([
        (Probe::Alive, format!("{base}/healthz").parse()?),
        (Probe::Ready, format!("{base}/readyz").parse()?),
    ])
}

async fn asked(targets: &[(Probe, Target)]) -> Vec<Observation> {
    let mut seen = Vec::new();
    for (probe, target) in targets {
        let answer = match healthcheck::check(target).await {
            Ok(()) => Seen::Well(target.to_string()),
            Err(error) => Seen::Failed(format!("{target} {error}")),
        };
        seen.push(Observation { probe: *probe, seen: answer });
    }
    seen
}

fn told(report: &Report, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, report)?;
        writeln!(out)?;
    } else {
        report.tell(&mut out, values::colour_out())?;
    }
    out.flush()
}

const fn ended(report: &Report, strict: bool) -> Exit {
    match report.worst() {
        _ if !report.reached() => Exit::Store,
        State::Fail => Exit::Failed,
        State::Warn if strict => Exit::Failed,
        State::Warn | State::Ok | State::Skipped => Exit::Done,
    }
}
