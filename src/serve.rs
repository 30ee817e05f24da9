//! `larder serve`: puts store, gateway, gate and servers together, and takes them down in order.
//!
//! Decides nothing about requests: it wires values from [`crate::config`] to the rooms that use them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::budget::Budget;
use crate::config::{Anonymous, ClientCerts, Config, Lists, TlsConfig};
use crate::domain::refresh::{Ages, Refresh};
use crate::domain::{Gateway, Wheels, layout};
use crate::front::auth::certificates::{Certificates, Roles};
use crate::front::auth::groups::Groups;
use crate::front::auth::htpasswd::Users;
use crate::front::auth::verify::{Limits as VerifyLimits, NoRandomness, Verifier};
use crate::front::auth::{Gate, Guarded, Listed};
use crate::front::body::BodyLimits;
use crate::front::ops::{Ops, Readiness};
use crate::front::origin::Proxies;
use crate::front::{self, App, Protocols, rpc};
use crate::metrics::Metrics;
use crate::server::tls::{Clients, Files, Tls};
use crate::server::{self, Drain, Server, Signals};
use crate::store::Store;
use crate::telemetry::field;
use crate::watch::{Place, WatchError, Watched};

/// How often the store is asked whether it is there.
const PROBE: Duration = Duration::from_secs(5);
/// How long one such question may take.
const PROBE_MOST: Duration = Duration::from_secs(20);
/// How often leftovers of broken uploads are looked for.
const REAP: Duration = Duration::from_secs(3600);
/// How soon again where there were some.
const REAP_AGAIN: Duration = Duration::from_secs(2);

/// Why the gateway did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The user or group file, or a file of TLS, is not good.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The store's settings are not good.
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    /// The operating system gives no randomness.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// Requests were cut off at the end of the drain.
    #[error("{0} requests did not end in time and were cut off")]
    Cut(usize),
    /// Signals cannot be taken over.
    #[error("signals cannot be handled")]
    Signals(#[source] std::io::Error),
    /// A second signal came during the drain; the exit code a shell would see.
    #[error("interrupted while draining")]
    Interrupted(i32),
}

/// Runs the gateway until SIGTERM or SIGINT, then drains it.
pub async fn serve(config: Config) -> Result<(), Error> {
    raise_descriptors();
    let metrics = Metrics::new();
    let budget = Budget::new(config.limits.max_inflight_bytes);
    let tasks = TaskTracker::new();
    let stop = CancellationToken::new();
    let drain = Drain::new();
    let signals = Signals::install().map_err(Error::Signals)?;

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut main = bind(config.listen, cores, &config, &metrics).await?;
    if let Some(files) = &config.tls {
        main = main.with_tls(tls(files, &tasks, &stop)?);
    }
    let ops_server = match config.ops_listen {
        Some(addr) => Some(bind(addr, 0, &config, &metrics).await?),
        None => None,
    };
    let gate = gate(&config, &tasks, &stop)?;
    let store = config.store.clone().open(budget.clone(), metrics.clone()).await?;
    let readiness = Readiness::default();
    let ops = Ops { readiness: readiness.clone(), metrics: metrics.clone(), budget: budget.clone() };

    announce(&config, &main, ops_server.as_ref(), &store);
    let side = Side { tasks: &tasks, stop: &stop };
    side.start(watch_store(store.clone(), readiness.clone(), metrics.clone()));
    side.start(reap(store.clone(), config.leftover_age));
    let (begun, health) = (drain.clone(), readiness.clone());
    side.start(async move {
        begun.begun().await;
        readiness.drain();
    });

    let wheels = Wheels { linux_tags: config.allow_linux_tags, folder: config.folder };
    let refresh = refresh(&config, &store, &metrics, &side, drain.clone());
    let gateway = Gateway::new(store.clone(), wheels).refreshing(refresh);
    let guarded = Guarded::new(gateway, gate);
    let app = app(&config, guarded, budget, health, metrics);
    let protocols = if config.folder { Protocols::Python } else { Protocols::All };
    let cut = tokio::select! {
        cut = run(main, ops_server, (app, protocols), ops, drain.clone()) => cut,
        code = signals.drive(drain) => return Err(Error::Interrupted(code)),
    };

    store.close().await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    if cut > 0 { Err(Error::Cut(cut)) } else { Ok(()) }
}

/// Serves health and metrics for as long as some work takes that is no gateway's.
pub async fn beside<T>(
    listen: SocketAddr,
    store: &Store,
    metrics: &Metrics,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    let limits = server::Limits::default();
    let server = Server::bind(listen, limits, metrics.clone()).await;
    let server = server.map_err(|source| Error::Bind { addr: listen, source })?;
    info!({ field::LISTEN } = %server.local_addr(), "serving health and metrics");
    let readiness = Readiness::default();
    let ops = Ops { readiness: readiness.clone(), metrics: metrics.clone(), budget: Budget::new(0) };
    let drain = Drain::new();
    let watch = watch_store(store.clone(), readiness, metrics.clone());
    let served = server.run(front::ops_router(ops), drain.clone());
    let watched = async {
        tokio::select! {
            () = watch => {}
            () = drain.begun() => {}
        }
    };
    let worked = async {
        let done = work.await;
        drain.begin();
        done
    };
    let (done, _, ()) = tokio::join!(worked, served, watched);
    Ok(done)
}

/// What runs beside the requests, until the stop.
struct Side<'s> {
    tasks: &'s TaskTracker,
    stop: &'s CancellationToken,
}

impl Side<'_> {
    fn start<T: Send + 'static>(&self, job: impl Future<Output = T> + Send + 'static) {
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(job));
    }
}

/// Makes young what is used, until the drain begins. Not where a folder is served as it is: its files are somebody else's.
fn refresh(config: &Config, store: &Store, metrics: &Metrics, side: &Side<'_>, drain: Drain) -> Refresh {
    let Some(part) = config.refresh.filter(|_| !config.folder) else { return Refresh::default() };
    let expiry = &config.expiry;
    let [artifacts, please, shared, built] = [expiry.artifacts, expiry.please, expiry.wheels, expiry.built]
        .map(|life| life.map(|life| part.of(life)));
    let ages = Ages { artifacts, please, shared, built };
    let (refresh, workers) = Refresh::new(store.clone(), ages, metrics.clone());
    side.start(async move {
        tokio::select! {
            () = workers.run() => {}
            () = drain.begun() => {}
        }
    });
    refresh
}

/// The service, within its limits.
fn app(config: &Config, guarded: Guarded, budget: Budget, readiness: Readiness, metrics: Metrics) -> App {
    let limits = BodyLimits { max_object_size: config.limits.max_object_size };
    let rpc = rpc::Settings {
        max_message_size: config.limits.max_message_size,
        allow_outside_symlinks: config.allow_outside_symlinks,
        budget,
        readiness,
    };
    let proxies = Proxies::new(config.trusted_proxies.clone());
    App::new(guarded, limits, proxies, rpc, metrics)
}

/// Each connection is a descriptor, and the usual soft limit is 1024: takes what the hard one allows.
fn raise_descriptors() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(cause = %error, "the limit of open files stays as it is");
    }
}

async fn bind(addr: SocketAddr, workers: usize, config: &Config, metrics: &Metrics) -> Result<Server, Error> {
    let limits = &config.limits;
    let limits = server::Limits {
        max_connections: limits.max_connections,
        header_timeout: limits.header_timeout,
        idle_timeout: limits.idle_timeout,
        write_timeout: limits.body_idle_timeout,
        body_timeout: limits.body_idle_timeout,
        drain_timeout: limits.drain_timeout,
        max_age: limits.max_connection_age,
        workers,
        ..server::Limits::default()
    };
    Server::bind(addr, limits, metrics.clone()).await.map_err(|source| Error::Bind { addr, source })
}

async fn run(
    main: Server,
    ops_server: Option<Server>,
    (app, protocols): (App, Protocols),
    ops: Ops,
    drain: Drain,
) -> usize {
    match ops_server {
        None => main.run(front::router(app, protocols, Some(ops)), drain).await.cut,
        // Probes go on to be answered, with 503, while work under way ends.
        Some(second) => {
            let last = Drain::new();
            let (first, second) = tokio::join!(
                async {
                    let drained = main.run(front::router(app, protocols, None), drain).await;
                    last.begin();
                    drained
                },
                second.run(front::ops_router(ops), last.clone())
            );
            first.cut + second.cut
        }
    }
}

fn tls(config: &TlsConfig, tasks: &TaskTracker, stop: &CancellationToken) -> Result<Tls, WatchError> {
    let clients = match &config.clients {
        None => Clients::Unasked,
        Some(ClientCerts::Signed(ca) | ClientCerts::Listed(Lists { ca: Some(ca), .. })) => {
            Clients::Signed(ca.clone())
        }
        // Who is listed is known by all of its bytes: nobody has to vouch for it.
        Some(ClientCerts::Listed(Lists { ca: None, .. })) => Clients::Any,
    };
    let tls = Tls::open(Files { cert: config.cert.clone(), key: config.key.clone(), clients })?;
    tls.watch(tasks, stop.clone());
    Ok(tls)
}

fn gate(config: &Config, tasks: &TaskTracker, stop: &CancellationToken) -> Result<Gate, Error> {
    let auth = &config.auth;
    let verifier = Verifier::new(&VerifyLimits::default())?;
    let clients = config.tls.as_ref().and_then(|tls| tls.clients.as_ref());
    if auth.users.is_none() && clients.is_none() {
        return Ok(Gate::new(None, verifier));
    }
    let users = match &auth.users {
        None => None,
        Some(path) => Some(Watched::open(path, |text| text.parse::<Users>())?),
    };
    let groups = match &auth.groups {
        None => None,
        Some(path) => Some(Watched::open(path, |text| text.parse::<Groups>())?),
    };
    let certificates = match clients {
        None => None,
        Some(ClientCerts::Signed(_)) => Some(Certificates::Signed),
        Some(ClientCerts::Listed(Lists { writable, readonly, .. })) => {
            let place = |path: &Option<PathBuf>| path.clone().map(Place::Files);
            let roles = Roles::open(place(writable), place(readonly))?;
            roles.watch(tasks, stop.clone());
            Some(Certificates::Listed(roles))
        }
    };
    if let Some(users) = &users {
        users.watch(tasks, stop.clone());
    }
    if let Some(groups) = &groups {
        groups.watch(tasks, stop.clone());
    }
    let anonymous_read = auth.anonymous == Anonymous::Read;
    Ok(Gate::new(Some(Listed { users, groups, certificates, anonymous_read }), verifier))
}

/// One line that says where, on what, and who may write.
fn announce(config: &Config, main: &Server, ops: Option<&Server>, store: &Store) {
    let writers = writers(config);
    let listen = main.local_addr();
    match ops.map(Server::local_addr) {
        None => info!(
            { field::LISTEN } = %listen,
            { field::TLS } = config.tls.is_some(),
            { field::STORE } = %store,
            { field::WRITERS } = writers,
            "larder is listening"
        ),
        Some(ops) => info!(
            { field::LISTEN } = %listen,
            { field::OPS_LISTEN } = %ops,
            { field::TLS } = config.tls.is_some(),
            { field::STORE } = %store,
            { field::WRITERS } = writers,
            "larder is listening"
        ),
    }
    let open = config.auth.users.is_none() && !config.has_client_certs();
    if open && !listen.ip().is_loopback() {
        warn!("everybody who reaches this address may read, write and delete: name a user file with --users");
    }
}

/// Who may write, in words.
fn writers(config: &Config) -> String {
    let users = match (&config.auth.users, &config.auth.groups) {
        (None, _) => None,
        (Some(_), None) => Some("every user of the user file"),
        (Some(_), Some(_)) => Some("users of the groups writers and admins"),
    };
    let certificates = match config.tls.as_ref().and_then(|tls| tls.clients.as_ref()) {
        None => None,
        Some(ClientCerts::Signed(_)) => Some("every certificate of the client authority"),
        Some(ClientCerts::Listed(Lists { writable: Some(_), .. })) => {
            Some("certificates of the writable list")
        }
        Some(ClientCerts::Listed(Lists { writable: None, .. })) => None,
    };
    match (users, certificates) {
        (Some(users), Some(certificates)) => format!("{users}, {certificates}"),
        (Some(one), None) | (None, Some(one)) => one.to_owned(),
        (None, None) if config.has_client_certs() => "nobody".to_owned(),
        (None, None) => "everybody".to_owned(),
    }
}

/// Asks the store now and then whether it is there, and says so when that changes.
async fn watch_store(store: Store, readiness: Readiness, metrics: Metrics) {
    let mut first = true;
    loop {
        let answer = match tokio::time::timeout(PROBE_MOST, store.probe()).await {
            Ok(answer) => answer.map_err(|error| error.chain()),
            Err(_) => Err(format!("no answer within {PROBE_MOST:?}")),
        };
        let news = readiness.store(answer.is_ok()) || first;
        metrics.ready.set(i64::from(answer.is_ok()));
        match answer {
            Ok(()) if news && !first => info!(store = %store, "the store answers again"),
            Err(cause) if news => warn!(store = %store, cause, "the store cannot be reached: not ready"),
            Ok(()) | Err(_) => {}
        }
        first = false;
        tokio::time::sleep(PROBE.mul_f32(0.75 + fastrand::f32() / 2.0)).await;
    }
}

/// Removes what broken uploads left behind, at start and once an hour. Where there was something it looks again at once:
/// a part that was under way may arrive after its upload was aborted, and is kept then.
async fn reap(store: Store, age: Duration) {
    loop {
        let pause = match store.reap(&layout::rooms(), age).await {
            Ok(0) => REAP,
            Ok(count) => {
                info!(count, "removed what broken uploads had left");
                REAP_AGAIN
            }
            Err(error) => {
                warn!(cause = %error.chain(), "leftovers of broken uploads could not be removed");
                REAP
            }
        };
        tokio::time::sleep(pause.mul_f32(0.75 + fastrand::f32() / 2.0)).await;
    }
}
