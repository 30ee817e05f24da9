//! The commands on a Please directory cache: `sweep`, `cache_cleaner`, `push`.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;

use super::run::{Exit, fail, out};
use super::values;
use crate::client::{self, Address, AddressError, Artifacts, Credentials};
use crate::domain::artifact::OsName;
use crate::please_dir::{self, Error, Marks};

/// The name of Please's own program, by which this one may be called.
const CLEANER: &str = "cache_cleaner";
/// Marks of a directory cache where none are said: those of Please.
const HIGH: u64 = 10_000_000_000;
const LOW: u64 = 8_000_000_000;

/// Flags of `larder cache_cleaner`, with the names that they had.
#[derive(Debug, Args)]
pub(super) struct Cleaner {
    /// The directory cache
    #[arg(short, long = "dir", value_name = "DIR")]
    dir: PathBuf,
    /// From this size on entries are removed [default: 10G]
    #[arg(short = 'i', long = "high_water_mark", value_name = "SIZE", value_parser = values::size)]
    high_water_mark: Option<u64>,
    /// Until the size is under this [default: 8G, or four fifths of a lower --high_water_mark]
    #[arg(short, long = "low_water_mark", value_name = "SIZE", value_parser = values::size)]
    low_water_mark: Option<u64>,
    /// What old command lines say behind `-v`
    #[arg(hide = true, value_name = "VERBOSITY")]
    _verbosity: Option<u8>,
}

/// Flags of `larder push`.
#[derive(Debug, Args)]
pub(super) struct Push {
    /// A directory cache of Please: the directory that is `dir` in its `[cache]`
    #[arg(long, value_name = "DIR")]
    please_dir: PathBuf,
    /// The shared cache, as in `httpurl`: `http://[USER:PASSWORD@]HOST[:PORT]`, or https
    #[arg(short, long, env = "LARDER_CACHE", value_name = "URL", hide_env_values = true)]
    cache: String,
    /// What the entries were built for, in Go's words: `linux_amd64`, `darwin_arm64`
    #[arg(long, value_name = "NAME")]
    os: OsName,
    /// Who is asking: `NAME:PASSWORD`; better by environment, where other users do not see it
    #[arg(long, env = "LARDER_USER", value_name = "CREDENTIALS", hide_env_values = true)]
    user: Option<String>,
    /// A PEM file of the authorities that an https cache has to be known by, instead of this machine's
    #[arg(long, env = "LARDER_CACERT", value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Entries sent at a time
    #[arg(short, long, value_name = "COUNT", default_value = "8", value_parser = clap::value_parser!(u8).range(1..))]
    jobs: u8,
    /// Ask what is there, and send nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// One JSON object a line for each entry, and one for the sum
    #[arg(long)]
    json: bool,
}

/// A flag whose value is not repeated.
#[derive(Debug, thiserror::Error)]
#[error("{0}: {1}")]
struct Wrong(&'static str, AddressError);

/// Arguments as they came, with the command spelled out where the program's name says it.
pub(super) fn arguments(given: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = given.into_iter().collect();
    let called = all.first().and_then(|name| Path::new(name).file_name());
    if called.is_some_and(|name| name == CLEANER) {
        all.insert(1, CLEANER.into());
    }
    all
}

/// `None` where the low one is above the high one.
fn marks(high: Option<u64>, low: Option<u64>) -> Option<Marks> {
    let high = high.unwrap_or(HIGH);
    // Not a fifth of nothing: a mark of 4 bytes has its low one too.
    Marks::new(high, low.unwrap_or_else(|| LOW.min(high - high / 5)))
}

/// Runs `larder sweep` on a directory cache.
pub(super) fn sweep(
    dir: PathBuf,
    (high, low): (Option<u64>, Option<u64>),
    dry_run: bool,
    json: bool,
) -> Exit {
    match marks(high, low) {
        None => fail(&io::Error::other("--low-water is above --high-water"), Exit::Usage),
        Some(marks) => clean(&please_dir::Sweep { dir, marks, dry_run, json }),
    }
}

/// Runs `larder cache_cleaner`.
pub(super) fn cleaner(args: Cleaner) -> Exit {
    match marks(args.high_water_mark, args.low_water_mark) {
        None => fail(&io::Error::other("--low_water_mark is above --high_water_mark"), Exit::Usage),
        Some(marks) => clean(&please_dir::Sweep { dir: args.dir, marks, dry_run: false, json: false }),
    }
}

fn clean(what: &please_dir::Sweep) -> Exit {
    ended(please_dir::sweep(what, SystemTime::now(), &mut out()).map(drop))
}

/// Runs `larder push`.
pub(super) async fn push(args: Push) -> Exit {
    let Push { please_dir: dir, cache, os, user, cacert, jobs, dry_run, json } = args;
    // Not read by the parser of arguments: it would print a wrong one, password and all.
    let address = match cache.parse::<Address>() {
        Ok(address) => address,
        Err(error) => return fail(&Wrong("--cache", error), Exit::Usage),
    };
    let address = match user.map(|user| user.parse::<Credentials>()) {
        None => address,
        Some(Ok(user)) => address.with_credentials(user),
        Some(Err(error)) => return fail(&Wrong("--user", error), Exit::Usage),
    };
    let what = please_dir::Push { dir, os, jobs: usize::from(jobs), dry_run, json };
    match Artifacts::new(address, cacert.as_deref()) {
        Err(error) => fail(&error, Exit::Failed),
        Ok(artifacts) => ended(please_dir::push(&what, &artifacts, &mut out()).await.map(drop)),
    }
}

fn ended(worked: Result<(), Error>) -> Exit {
    let Err(error) = worked else { return Exit::Done };
    let exit = match &error {
        // Whoever read the output has seen enough.
        Error::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return Exit::Done,
        Error::Place { .. }
        | Error::Client(client::Error::Unreachable { .. } | client::Error::Stranger { .. }) => Exit::Store,
        Error::Client(
            client::Error::Refused { .. }
            | client::Error::Status { .. }
            | client::Error::Content(_)
            | client::Error::Tls(_),
        )
        | Error::Unreached { .. }
        | Error::Unpushed(_)
        | Error::Output(_) => Exit::Failed,
    };
    fail(&error, exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_name_may_say_the_command() {
        let read = |words: &[&str]| {
            let words = arguments(words.iter().map(OsString::from));
            words.join(std::ffi::OsStr::new(" ")).into_string().unwrap()
        };
        assert_eq!(read(&["/x/cache_cleaner", "--dir", "d"]), "/x/cache_cleaner cache_cleaner --dir d");
        assert_eq!(read(&["larder", "cache_cleaner"]), "larder cache_cleaner");
        assert_eq!(read(&[]), "");
    }

    #[test]
    fn marks_have_defaults_that_fit_each_other() {
        assert_eq!(marks(None, None), Marks::new(10_000_000_000, 8_000_000_000));
        assert_eq!(marks(Some(100), None), Marks::new(100, 80));
        assert_eq!(marks(Some(50_000_000_000), None), Marks::new(50_000_000_000, 8_000_000_000));
        assert_eq!(marks(Some(1), Some(2)), None);
    }
}
