//! Runs a command and says how it ended: messages to standard error, and the exit code.

use std::io::{self, BufRead, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Cli, Command, Du, Get, Healthcheck, Ls, Man, Named, Put, Rm, Unpublish, Yank, doctor, flags,
    flags::StoreFlags, lifecycle, please_dir, sweep,
};
use crate::budget::Budget;
use crate::config::{Config, Limits};
use crate::metrics::Metrics;
use crate::objects::{self, Answer};
use crate::releases::{self, Action, Job};
use crate::store::{Kind, Store};
use crate::{healthcheck, serve, telemetry};

/// How long ending what is under way in the store may take, once a command is over.
const CLOSING: Duration = Duration::from_secs(10);

/// How a command ended, as the shell sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed, or what was asked for is not there.
    Failed,
    /// 2: asked wrongly.
    Usage,
    /// 3: the store failed.
    Store,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Store => 3,
        })
    }
}

impl Cli {
    /// Reads the arguments and the environment of this process. Help, version and mistakes are printed here.
    pub fn read() -> Result<Self, Exit> {
        Self::try_parse_from(please_dir::arguments(std::env::args_os())).map_err(|error| {
            let printed = error.print();
            match error.exit_code() {
                0 if printed.is_ok_and(|()| io::stdout().flush().is_ok()) => Exit::Done,
                0 => Exit::Failed,
                _ => Exit::Usage,
            }
        })
    }
}

impl Command {
    /// How much it says without `-v` and `-q`: a person wants the result, not how it came about.
    fn usual(&self) -> i16 {
        match self {
            Self::Serve(_) => 0,
            Self::CurdServer(args) => i16::from(args.debug),
            Self::Ls(_)
            | Self::Get(_)
            | Self::Put(_)
            | Self::Rm(_)
            | Self::Yank(_)
            | Self::Unpublish(_)
            | Self::Du(_)
            | Self::Sweep(_)
            | Self::Lifecycle(_)
            | Self::CacheCleaner(_)
            | Self::Push(_)
            | Self::Doctor(_)
            | Self::Healthcheck(_)
            | Self::Version
            | Self::Completions { .. }
            | Self::Man(_) => -1,
        }
    }
}

/// Runs what the command line asks for.
pub async fn run(cli: Cli) -> Exit {
    let usual = cli.command.usual();
    let log = cli.log.log(usual);
    let _guard = match telemetry::init(&log) {
        Ok(guard) => guard,
        Err(error @ telemetry::Error::Directives(_)) => return fail(&error, Exit::Usage),
        Err(error) => return fail(&error, Exit::Failed),
    };
    match cli.command {
        Command::Serve(flags) => serve(flags.config(log)).await,
        Command::CurdServer(args) => serve(args.config(log)).await,
        Command::Ls(args) => ls(args).await,
        Command::Get(args) => get(args).await,
        Command::Put(args) => put(args).await,
        Command::Rm(args) => rm(args).await,
        Command::Yank(Yank { named, reason, undo, store }) => {
            release(named, if undo { Action::Unyank } else { Action::Yank(reason) }, store).await
        }
        Command::Unpublish(Unpublish { named, store }) => release(named, Action::Unpublish, store).await,
        Command::CacheCleaner(args) => please_dir::cleaner(args),
        Command::Push(args) => please_dir::push(args).await,
        Command::Du(args) => du(args).await,
        Command::Sweep(args) => sweep::run(*args).await,
        Command::Lifecycle(what) => lifecycle::run(*what).await,
        Command::Doctor(args) => doctor::run(*args).await,
        Command::Healthcheck(args) => healthcheck(&args).await,
        Command::Version => print(|out| writeln!(out, "{}", Cli::command().render_version().trim_end())),
        Command::Completions { shell } => print(|out| {
            // The generator panics where it cannot write, so it writes into memory.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "larder", &mut script);
            out.write_all(&script)
        }),
        Command::Man(args) => man(&args),
    }
}

/// Tells of a failure, causes and all.
pub(super) fn fail(error: &dyn std::error::Error, exit: Exit) -> Exit {
    let mut line = format!("larder: {error}");
    let mut next = error.source();
    while let Some(cause) = next {
        line.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    if writeln!(io::stderr(), "{line}").is_err() {
        // Nobody listens; the exit code still tells.
    }
    exit
}

fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Exit {
    let mut out = io::stdout().lock();
    match write(&mut out).and_then(|()| out.flush()) {
        Ok(()) => Exit::Done,
        Err(error) => ended(Err(error.into())),
    }
}

fn man(args: &Man) -> Exit {
    let mut command = Cli::command();
    command.build();
    let (page, title) = match &args.command {
        None => (command, "larder".to_owned()),
        Some(name) => match command.find_subcommand(name) {
            Some(found) => (found.clone(), format!("larder-{name}")),
            None => return fail(&io::Error::other(format!("there is no command {name:?}")), Exit::Usage),
        },
    };
    let page = page.mut_args(with_environment);
    print(|out| clap_mangen::Man::new(page).title(title).render(&mut &mut *out))
}

/// Adds the variable's name to a flag's text, which the page does not show otherwise.
fn with_environment(arg: clap::Arg) -> clap::Arg {
    match (arg.get_help(), arg.get_env()) {
        (Some(help), Some(name)) => {
            let text = format!("{help} [env: {}]", name.display());
            arg.help(text)
        }
        (_, _) => arg,
    }
}

async fn serve(config: Result<Config, flags::Error>) -> Exit {
    match config {
        Err(error) => fail(&error, Exit::Usage),
        Ok(config) => match serve::serve(config).await {
            Ok(()) => Exit::Done,
            Err(error) => fail(&error, Exit::Failed),
        },
    }
}

async fn healthcheck(args: &Healthcheck) -> Exit {
    let target = match &args.url {
        Some(url) => url.parse(),
        // Probes of the second address are plain, whatever the first one speaks.
        None => match args.listen.ops_listen {
            Some(addr) => healthcheck::Target::local(addr, false),
            None => healthcheck::Target::local(args.listen.listen, args.tls_cert.is_some()),
        },
    };
    let target = match target {
        Ok(target) => target,
        Err(error) => return fail(&error, Exit::Usage),
    };
    match healthcheck::check(&target).await {
        Ok(()) => Exit::Done,
        Err(error) => fail(&Asked { target, error }, Exit::Failed),
    }
}

/// Who was asked, and what came back.
#[derive(Debug, thiserror::Error)]
#[error("{target} {error}")]
struct Asked {
    target: healthcheck::Target,
    error: healthcheck::Unhealthy,
}

async fn ls(args: Ls) -> Exit {
    let what =
        objects::Ls { targets: args.prefixes, long: args.long, recursive: args.recursive, json: args.json };
    with_store(args.store, Leaves::Nothing, async |store| ended(objects::ls(store, &what, &mut out()).await))
        .await
}

async fn get(args: Get) -> Exit {
    let output = args.output.unwrap_or_else(|| PathBuf::from("-"));
    let leaves = if output.as_os_str() == "-" { Leaves::Nothing } else { Leaves::Something };
    with_store(args.store, leaves, async |store| {
        ended(objects::get(store, &args.key, &output, args.json, &mut out()).await)
    })
    .await
}

async fn put(args: Put) -> Exit {
    with_store(args.store, Leaves::Something, async |store| {
        ended(objects::put(store, &args.key, &args.file, args.create, args.json, &mut out()).await)
    })
    .await
}

async fn rm(args: Rm) -> Exit {
    let Rm { prefixes: targets, dry_run, json, yes, all, store } = args;
    let what = objects::Rm { targets, all, dry_run, json, yes };
    with_store(store, Leaves::Nothing, async |store| {
        ended(objects::rm(store, &what, ask, &mut out(), &mut io::stderr()).await.map(drop))
    })
    .await
}

async fn release(named: Named, action: Action, store: StoreFlags) -> Exit {
    let Named { what, environment, json } = named;
    let job = Job { what, environment, action, json };
    with_store(store, Leaves::Nothing, async |store| match releases::run(store, &job, &mut out()).await {
        Ok(()) => Exit::Done,
        Err(releases::Error::Output(cause)) if cause.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error @ releases::Error::Domain(_)) => fail(&error, Exit::Store),
        Err(error @ (releases::Error::Absent(_) | releases::Error::Output(_))) => fail(&error, Exit::Failed),
    })
    .await
}

async fn du(args: Du) -> Exit {
    let what = objects::Du { places: args.prefixes, by: args.by.into(), json: args.json };
    with_store(args.store, Leaves::Nothing, async |store| ended(objects::du(store, &what, &mut out()).await))
        .await
}

/// Standard output, in large pieces.
pub(super) fn out() -> impl Write {
    BufWriter::with_capacity(64 * 1024, io::stdout())
}

fn ask(question: &str) -> io::Result<Answer> {
    let (stdin, mut stderr) = (io::stdin(), io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return Ok(Answer::Nobody);
    }
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut line = String::new();
    stdin.lock().read_line(&mut line)?;
    let yes = matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    Ok(if yes { Answer::Yes } else { Answer::No })
}

/// What a command leaves behind that is killed in the middle.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    /// Nothing: signals end it at once, even where a write to a full pipe stands still.
    Nothing,
    /// Half a file or half an upload: signals are caught, and what is half is removed.
    Something,
}

/// Opens the store, works on it until the work ends or a signal comes, and closes it.
pub(super) async fn with_store(
    flags: StoreFlags,
    leaves: Leaves,
    work: impl AsyncFnOnce(&Store) -> Exit,
) -> Exit {
    with_counted_store(flags, Metrics::new(), leaves, work).await
}

/// As [`with_store`], for who shows what is counted.
pub(super) async fn with_counted_store(
    flags: StoreFlags,
    metrics: Metrics,
    leaves: Leaves,
    work: impl AsyncFnOnce(&Store) -> Exit,
) -> Exit {
    let config = match flags.store() {
        Ok(config) => config,
        Err(error) => return fail(&error, Exit::Usage),
    };
    let budget = Budget::new(Limits::default().max_inflight_bytes);
    let store = match config.open(budget, metrics).await {
        Ok(store) => store,
        Err(error) => return fail(&error, Exit::Store),
    };
    let worked = tokio::select! {
        worked = work(&store) => worked,
        signalled = interrupted(), if leaves == Leaves::Something => match signalled {
            Ok(()) => fail(&io::Error::other("interrupted"), Exit::Failed),
            Err(error) => fail(&error, Exit::Failed),
        },
    };
    match tokio::time::timeout(CLOSING, store.close()).await {
        Ok(()) => worked,
        Err(elapsed) => fail(&elapsed, worked),
    }
}

/// Waits for SIGINT or SIGTERM.
pub(super) async fn interrupted() -> io::Result<()> {
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = int.recv() => Ok(()),
        _ = term.recv() => Ok(()),
    }
}

fn ended(worked: Result<(), objects::Error>) -> Exit {
    let Err(error) = worked else { return Exit::Done };
    let exit = match &error {
        // Whoever read the output has seen enough: `larder ls | head`.
        objects::Error::Output(cause) if cause.kind() == io::ErrorKind::BrokenPipe => return Exit::Done,
        objects::Error::Refused(_) => Exit::Usage,
        objects::Error::Store(cause) if cause.kind == Kind::Conflict => Exit::Failed,
        objects::Error::Store(_) | objects::Error::Read { .. } | objects::Error::Left(_) => Exit::Store,
        objects::Error::Absent(_)
        | objects::Error::Nothing(_)
        | objects::Error::Exists(_)
        | objects::Error::Declined
        | objects::Error::File { .. }
        | objects::Error::Output(_)
        | objects::Error::Body(_) => Exit::Failed,
    };
    fail(&error, exit)
}
