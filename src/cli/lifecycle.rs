//! `larder lifecycle`: its flags, what it prints, and how it ends.

use std::io::{self, Write};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::expiry::{RefreshFlags, Times};
use super::flags::StoreFlags;
use super::help;
use super::run::{Exit, Leaves, fail, out, with_store};
use crate::config::StoreConfig;
use crate::lifecycle::{self, Error, Finding, Format, Weight};
use crate::store::Prefix;
use crate::store::lifecycle::Place;

/// What to do about a bucket's rules.
#[derive(Debug, Subcommand)]
pub(super) enum Lifecycle {
    /// Print the rules, for whoever writes them into the bucket by other means; asks no bucket
    #[command(after_long_help = help::LIFECYCLE_PRINT)]
    Print(Print),
    /// Give the bucket the rules; those of others stay as they are, and a second time nothing changes
    #[command(after_long_help = help::LIFECYCLE_APPLY)]
    Apply(Apply),
    /// Compare the bucket's rules with the gateway's flags, and explain
    #[command(after_long_help = help::LIFECYCLE_CHECK)]
    Check(Check),
    /// Take Larder's rules out of the bucket
    #[command(after_long_help = help::LIFECYCLE_REMOVE)]
    Remove(Remove),
}

#[derive(Debug, Args)]
pub(super) struct Print {
    /// In which words
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    format: FormatArg,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    store: StoreFlags,
}

#[derive(Debug, Args)]
pub(super) struct Apply {
    /// Say what would change, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    store: StoreFlags,
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// One JSON object: `place`, `ok`, and `findings` with `id`, `weight`, `rule`, `what`, `means`, `mend`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    times: Times,
    #[command(flatten)]
    refresh: RefreshFlags,
    #[command(flatten)]
    store: StoreFlags,
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    /// Say what would go, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    store: StoreFlags,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FormatArg {
    /// For `aws s3api put-bucket-lifecycle-configuration`
    Json,
    /// For Terraform's provider of AWS
    Terraform,
    /// For S3 itself
    Xml,
}

impl From<FormatArg> for Format {
    fn from(arg: FormatArg) -> Self {
        match arg {
            FormatArg::Json => Self::Json,
            FormatArg::Terraform => Self::Terraform,
            FormatArg::Xml => Self::Xml,
        }
    }
}

/// Does it.
pub(super) async fn run(what: Lifecycle) -> Exit {
    match what {
        Lifecycle::Print(args) => print(args),
        // One request changes the bucket: whoever stops it before has changed nothing.
        Lifecycle::Apply(Apply { dry_run, times, store }) => {
            with_store(store, Leaves::Nothing, async |store| {
                ended(lifecycle::apply(store, &times.expiry(), dry_run, &mut out()).await)
            })
            .await
        }
        Lifecycle::Check(args) => check(args).await,
        Lifecycle::Remove(Remove { dry_run, store }) => {
            with_store(store, Leaves::Nothing, async |store| {
                ended(lifecycle::remove(store, dry_run, &mut out()).await)
            })
            .await
        }
    }
}

fn print(args: Print) -> Exit {
    let place = match args.store.store() {
        Err(error) => return fail(&error, Exit::Usage),
        Ok(StoreConfig::Dir(_)) => return ended(Err(Error::Directory)),
        Ok(StoreConfig::S3(s3)) => {
            Place { bucket: s3.bucket, root: s3.prefix.as_ref().map_or(Prefix::root(), Prefix::below) }
        }
    };
    let rules = match lifecycle::wanted(&args.times.expiry(), &place.root) {
        Ok(rules) => rules,
        Err(error) => return fail(&error, Exit::Usage),
    };
    let text = lifecycle::rules(&rules, &place, args.format.into());
    let mut out = out();
    ended(out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Error::Output))
}

async fn check(args: Check) -> Exit {
    let (expiry, refresh, json) = (args.times.expiry(), args.refresh.part(), args.json);
    with_store(args.store, Leaves::Nothing, async |store| {
        let found = match lifecycle::examine(store, &expiry, refresh).await {
            Ok(found) => found,
            Err(error) => return ended(Err(error)),
        };
        let ok = found.iter().all(|finding| finding.weight == Weight::Note);
        match tell(&store.to_string(), &found, ok, json) {
            Ok(()) if ok => Exit::Done,
            Ok(()) => Exit::Failed,
            Err(error) => ended(Err(Error::Output(error))),
        }
    })
    .await
}

fn tell(place: &str, found: &[Finding], ok: bool, json: bool) -> io::Result<()> {
    let mut out = out();
    if json {
        writeln!(out, "{}", json!({ "place": place, "ok": ok, "findings": found }))?;
        return out.flush();
    }
    for Finding { id, weight, what, means, mend, .. } in found {
        let sign = match weight {
            Weight::Problem => "PROBLEM",
            Weight::Note => "note",
        };
        writeln!(out, "{sign} {id}: {what}\n  means: {means}\n  mend:  {mend}")?;
    }
    let problems = found.iter().filter(|finding| finding.weight == Weight::Problem).count();
    match problems {
        0 => writeln!(out, "{place}: the rules are as the flags say")?,
        1 => writeln!(out, "{place}: 1 problem")?,
        many => writeln!(out, "{place}: {many} problems")?,
    }
    out.flush()
}

fn ended(worked: Result<(), Error>) -> Exit {
    let Err(error) = worked else { return Exit::Done };
    let exit = match &error {
        // Whoever read the output has seen enough.
        Error::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return Exit::Done,
        Error::Directory | Error::Unfit(_) => Exit::Usage,
        Error::Store(_) => Exit::Store,
        Error::Unsupported(_)
        | Error::Refused(_)
        | Error::Raced
        | Error::Overtaken
        | Error::Lost(_)
        | Error::Unseen
        | Error::Unplanned(_)
        | Error::Unreadable(_)
        | Error::Output(_) => Exit::Failed,
    };
    fail(&error, exit)
}
