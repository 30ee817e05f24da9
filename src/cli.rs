//! The command line: the one definition that parsing, `--help`, completions and the manual page come from.
//!
//! The only reader of flags and environment; everybody else is handed values of [`crate::config`]. Names no
//! protocol and no backend's client. [`run`](run::run) is all that `main` calls.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use run::{Exit, run};

use crate::domain::wheels::{EnvironmentId, Reason};
use crate::objects::Target;
use crate::releases::What;
use crate::store::{Key, Prefix};
use flags::{LogFlags, ServeFlags, StoreFlags};

mod curd;
mod doctor;
mod expiry;
mod flags;
mod help;
mod lifecycle;
mod please_dir;
mod run;
mod sweep;
mod values;

/// A shared build cache over a bucket or a directory
#[derive(Debug, Parser)]
#[command(
    name = "larder",
    version,
    about,
    long_about = help::ABOUT,
    after_long_help = help::LARDER,
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(flatten)]
    log: LogFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the cache over HTTP
    #[command(after_long_help = help::SERVE)]
    Serve(Box<ServeFlags>),
    /// Serve a folder full of wheels and source archives as it is, with Curdling's own command line
    #[command(after_long_help = help::CURD_SERVER)]
    CurdServer(CurdServer),
    /// List what is stored, straight from the store
    #[command(after_long_help = help::LS)]
    Ls(Ls),
    /// Fetch one object, straight from the store
    #[command(after_long_help = help::GET)]
    Get(Get),
    /// Store one object, straight into the store
    #[command(after_long_help = help::PUT)]
    Put(Put),
    /// Remove objects by key or prefix, straight from the store
    #[command(after_long_help = help::RM)]
    Rm(Rm),
    /// Yank Python files or releases: installers pass them over unless their very version is asked for
    #[command(after_long_help = help::YANK)]
    Yank(Yank),
    /// Take Python files or releases out of their index and out of the store
    #[command(after_long_help = help::UNPUBLISH)]
    Unpublish(Unpublish),
    /// Keep a Please directory cache small, by the flags of Please's own cache_cleaner
    #[command(name = "cache_cleaner", after_long_help = help::CACHE_CLEANER)]
    CacheCleaner(please_dir::Cleaner),
    /// Send a Please directory cache's entries to a shared cache
    #[command(after_long_help = help::PUSH)]
    Push(please_dir::Push),
    /// Say what the store is full of
    #[command(after_long_help = help::DU)]
    Du(Du),
    /// Remove what is too old, too much or left over: whole entries, least recently used first
    #[command(after_long_help = help::SWEEP)]
    Sweep(Box<sweep::Sweep>),
    /// The bucket's own rules, by which what is old goes: print, apply, check or remove them
    #[command(subcommand, after_long_help = help::LIFECYCLE)]
    Lifecycle(Box<lifecycle::Lifecycle>),
    /// Look at the store: what is wrong with it, and how it is mended
    #[command(after_long_help = help::DOCTOR)]
    Doctor(Box<doctor::Doctor>),
    /// Ask a running Larder whether it is ready: exit 0 if so, else 1
    #[command(after_long_help = help::HEALTHCHECK)]
    Healthcheck(Healthcheck),
    /// Print the version
    #[command(after_long_help = help::VERSION)]
    Version,
    /// Print a completion script for a shell
    #[command(after_long_help = help::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print a manual page
    #[command(after_long_help = help::MAN)]
    Man(Man),
}

#[derive(Debug, Args)]
struct CurdServer {
    /// The folder; made where it is missing
    directory: PathBuf,
    /// Say more
    #[arg(short, long)]
    debug: bool,
    /// Where to listen: an address, or the name of one of this machine's
    #[arg(short = 'H', long, default_value = "0.0.0.0")]
    host: String,
    /// The port
    #[arg(short, long, default_value_t = 8000)]
    port: u16,
    /// Password file of Apache's htpasswd; read again when it changes [default: open to all]
    #[arg(short, long, value_name = "FILE")]
    user_db: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Ls {
    /// What to list [default: everything]: `a/b` is the object `a/b` and what lies below `a/b/`, never `a/bc`
    #[arg(value_name = "PREFIX")]
    prefixes: Vec<Target>,
    /// Sizes in bytes and times (UTC) too
    #[arg(short, long)]
    long: bool,
    /// Everything below, not one level
    #[arg(short, long)]
    recursive: bool,
    /// One JSON object a line: `key`, `size` (bytes) and `modified`, or `prefix` where there is more below
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreFlags,
}

#[derive(Debug, Args)]
struct Get {
    /// Name of the object
    key: Key,
    /// Where to write it; a file appears once it is whole [default: -, standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Say what was fetched as a JSON object, on standard output; needs `--output FILE`
    #[arg(long, requires = "output")]
    json: bool,
    #[command(flatten)]
    store: StoreFlags,
}

#[derive(Debug, Args)]
struct Put {
    /// Name of the object
    key: Key,
    /// What to store; `-` is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Only where there is no such object: exit 1 where there is
    #[arg(long)]
    create: bool,
    /// Say what was stored as a JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreFlags,
}

#[derive(Debug, Args)]
struct Rm {
    /// What to remove: `a/b` is the object `a/b` and what lies below `a/b/`, never `a/bc`
    #[arg(value_name = "PREFIX", required_unless_present = "all")]
    prefixes: Vec<Target>,
    /// Say what would be removed, and remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// One JSON object a line for each object, and one for the sum
    #[arg(long)]
    json: bool,
    /// Do not ask before more than one object is removed
    #[arg(short, long)]
    yes: bool,
    /// Everything in the store
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    store: StoreFlags,
}

#[derive(Debug, Args)]
struct Yank {
    #[command(flatten)]
    named: Named,
    /// Why: one line, which installers show
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, conflicts_with = "undo")]
    reason: Reason,
    /// Take the yank back
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    store: StoreFlags,
}

#[derive(Debug, Args)]
struct Unpublish {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    store: StoreFlags,
}

/// Files of an index.
#[derive(Debug, Args)]
struct Named {
    /// PROJECT==VERSION, for all files of a release, or the name of a file
    #[arg(value_name = "WHAT", required = true)]
    what: Vec<What>,
    /// Of the index of this environment [default: the shared index]
    #[arg(long, value_name = "ID")]
    environment: Option<EnvironmentId>,
    /// One JSON object a line for each file
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Du {
    /// Only what lies below this; may be repeated [default: everything]
    #[arg(long = "prefix", value_name = "PREFIX")]
    prefixes: Vec<Prefix>,
    /// What a line is of
    #[arg(long, value_name = "WHAT", default_value = "prefix")]
    by: values::ByArg,
    /// One JSON object a line: `place`, `bytes`, `objects`, `entries`, `oldest`, `newest`; the last is the `total`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreFlags,
}

#[derive(Debug, Args)]
struct Healthcheck {
    /// What to ask [default: /readyz where this host serves it, by --ops-listen or else --listen]
    url: Option<String>,
    #[command(flatten)]
    listen: flags::ListenFlags,
    /// Ask what --listen names over TLS, as `larder serve` does where it has this; the file itself is not read
    #[arg(long, env = "LARDER_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Man {
    /// The command that it is about [default: larder as a whole]
    command: Option<String>,
}
