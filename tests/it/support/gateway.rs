//! The gateway in this process: the real router behind the real server on a port of its own, over a store of its own.
//! Ends, connections and all, when dropped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::ThreadId;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use larder::budget::Budget;
use larder::domain::refresh::{Ages, Refresh};
use larder::domain::{Gateway, Wheels, layout};
use larder::front::auth::certificates::Certificates;
use larder::front::auth::groups::Groups;
use larder::front::auth::htpasswd::Users;
use larder::front::auth::verify::{self, Verifier};
use larder::front::auth::{Gate, Guarded, Listed as Known};
use larder::front::body::BodyLimits;
use larder::front::ops::{Ops, Readiness};
use larder::front::origin::Proxies;
use larder::front::{App, Protocols, router, rpc};
use larder::metrics::{Metrics, RequestLabels};
use larder::server::tls::Tls;
use larder::server::{Drain, Limits, Server};
use larder::store::key::STAGING;
use larder::store::{Key, Listed, Listing, Prefix, Store, dir, s3};
use larder::watch::Watched;

use super::backends::{S3Server, servers};
use super::http::{Client, Response};
use super::{Background, LIMIT, loopback};

/// Budget of a gateway, in bytes.
const BUDGET: u64 = 64 << 20;

/// How a gateway is to be.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What its user file holds; with `None` it is open to all.
    pub(crate) users: Option<String>,
    /// What its group file holds.
    pub(crate) groups: Option<String>,
    /// `--anonymous read`.
    pub(crate) anonymous_read: bool,
    /// `--max-object-size`, bytes.
    pub(crate) max_object_size: u64,
    /// What connections are encrypted with.
    pub(crate) tls: Option<Tls>,
    /// What certificates of clients are worth.
    pub(crate) certificates: Option<Certificates>,
    /// What the wheel cache takes.
    pub(crate) wheels: Wheels,
    /// Whose word on where clients see it counts.
    pub(crate) proxies: Proxies,
    /// What passwords may cost. Failures are told at once.
    pub(crate) verify: verify::Limits,
    /// What peers may take. A body may be silent for 2 s.
    pub(crate) server: Limits,
    /// `--s3-max-requests`.
    pub(crate) store_requests: usize,
    /// At which age a use refreshes; `None`: never.
    pub(crate) refresh: Option<Ages>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            users: None,
            groups: None,
            anonymous_read: false,
            max_object_size: 1 << 30,
            tls: None,
            certificates: None,
            wheels: Wheels::default(),
            proxies: Proxies::default(),
            verify: verify::Limits { delay: Duration::ZERO, ..verify::Limits::default() },
            server: Limits { body_timeout: Duration::from_secs(2), workers: 2, ..Limits::default() },
            store_requests: 256,
            refresh: None,
        }
    }
}

/// The RPC cache as it is by default, in a gateway that is ready.
pub(crate) fn rpc() -> rpc::Settings {
    let readiness = Readiness::default();
    readiness.store(true);
    rpc::Settings {
        max_message_size: 200 << 20,
        allow_outside_symlinks: false,
        budget: Budget::new(BUDGET),
        readiness,
    }
}

/// What a gateway stands over.
#[derive(Debug, Clone)]
enum Home {
    Dir(dir::Config),
    S3 { server: S3Server, config: Box<s3::Config> },
}

impl Home {
    /// A place of its own on a server; of the same bucket as all others.
    fn s3(server: &S3Server) -> Self {
        let mut config = server.config(&server.endpoint);
        config.prefix = Some(format!("gateway-{:016x}", fastrand::u64(..)).parse().expect("a key"));
        Self::S3 { server: server.clone(), config: Box::new(config) }
    }

    /// Opens it. A store's connections belong to the runtime that it is used on: each has a store of its own.
    async fn open(self, metrics: Metrics) -> Store {
        match self {
            Self::Dir(config) => Store::dir(config, Budget::new(BUDGET), metrics).expect("a store"),
            Self::S3 { server, config } => server.store(*config, metrics).await,
        }
    }
}

/// A running gateway.
#[derive(Debug)]
pub(crate) struct TestGateway {
    /// `dir`, or the server's name.
    pub(crate) name: String,
    /// Its counters.
    pub(crate) metrics: Metrics,
    /// Its user file, to be read again by [`Watched::reload_now`].
    pub(crate) users: Option<Watched<Users>>,
    /// Its group file.
    pub(crate) groups: Option<Watched<Groups>>,
    addr: SocketAddr,
    thread: ThreadId,
    /// The store that it has itself.
    own: Store,
    home: Home,
    files: tempfile::TempDir,
    _serving: Background,
}

impl TestGateway {
    /// Over a directory, open to all.
    pub(crate) fn start() -> Self {
        Self::with(Options::default())
    }

    /// Over a directory.
    pub(crate) fn with(options: Options) -> Self {
        let files = tempfile::tempdir().expect("a temporary directory");
        let root = files.path().join("store");
        let home = Home::Dir(dir::Config { root, sync: dir::Sync::Never, memory: 1 << 20 });
        Self::run("dir", home, files, options)
    }

    /// Over a bucket, at the server's address or another's before it, with so many tries of a request.
    pub(crate) fn over(server: &S3Server, endpoint: &str, attempts: u32, options: Options) -> Self {
        let Home::S3 { server, mut config } = Home::s3(server) else { unreachable!("it is a bucket") };
        config.endpoint = Some(endpoint.to_owned());
        config.attempts = attempts;
        let files = tempfile::tempdir().expect("a temporary directory");
        Self::run(&server.name.clone(), Home::S3 { server, config }, files, options)
    }

    /// One over each store that there is: a directory always, and the S3 servers.
    pub(crate) fn everywhere(options: &Options) -> Vec<Self> {
        let mut all = vec![Self::with(options.clone())];
        let each = servers().into_iter().map(|server| {
            let files = tempfile::tempdir().expect("a temporary directory");
            Self::run(&server.name, Home::s3(&server), files, options.clone())
        });
        all.extend(each);
        all
    }

    fn run(name: &str, mut home: Home, files: tempfile::TempDir, options: Options) -> Self {
        if let Home::S3 { config, .. } = &mut home {
            config.max_requests = options.store_requests;
        }
        let write = |file: &str, text: &Option<String>| {
            let path = files.path().join(file);
            text.as_ref().map(|text| {
                std::fs::write(&path, text).expect("a file of the gateway's");
                path
            })
        };
        let users = write("users", &options.users)
            .map(|path| Watched::open(path, |text| text.parse::<Users>()).expect("users"));
        let groups = write("groups", &options.groups)
            .map(|path| Watched::open(path, |text| text.parse::<Groups>()).expect("groups"));
        let anonymous_read = options.anonymous_read;
        let certificates = options.certificates.clone();
        let known = (users.is_some() || certificates.is_some()).then(|| Known {
            users: users.clone(),
            groups: groups.clone(),
            certificates,
            anonymous_read,
        });
        let gate = Gate::new(known, Verifier::new(&options.verify).expect("randomness"));

        let metrics = Metrics::new();
        let (tell, told) = mpsc::channel();
        let (own, counted) = (home.clone(), metrics.clone());
        let serving = Background::run(move || async move {
            let store = own.open(counted.clone()).await;
            let mut server = Server::bind(loopback(), options.server, counted.clone()).await.expect("a port");
            if let Some(tls) = options.tls {
                server = server.with_tls(tls);
            }
            let here = (server.local_addr(), std::thread::current().id(), store.clone());
            tell.send(here).expect("the test waits for the address");
            let limits = BodyLimits { max_object_size: options.max_object_size };
            let refreshing = options.refresh.map(|ages| Refresh::new(store.clone(), ages, counted.clone()));
            let (refresh, workers) = refreshing.unzip();
            let gateway = Gateway::new(store, options.wheels).refreshing(refresh.unwrap_or_default());
            let guarded = Guarded::new(gateway, gate);
            let app = App::new(guarded, limits, options.proxies, rpc(), counted.clone());
            let ops = Ops { readiness: Readiness::default(), metrics: counted, budget: Budget::new(BUDGET) };
            let protocols = if options.wheels.folder { Protocols::Python } else { Protocols::All };
            let serving = server.run(router(app, protocols, Some(ops)), Drain::new());
            match workers {
                Some(workers) => drop(tokio::join!(serving, workers.run())),
                None => drop(serving.await),
            }
        });
        let (addr, thread, own) = told.recv_timeout(LIMIT).expect("the gateway listens");
        let name = name.to_owned();
        Self { name, metrics, users, groups, addr, thread, own, home, files, _serving: serving }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The thread that all of it runs on, but for blocking work.
    pub(crate) fn thread(&self) -> ThreadId {
        self.thread
    }

    /// A client of HTTP/1.1 without credentials.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// Its user or group file, by name.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// The directory that it stands over.
    ///
    /// # Panics
    /// Where it stands over a bucket.
    pub(crate) fn root(&self) -> &Path {
        match &self.home {
            Home::Dir(config) => &config.root,
            Home::S3 { .. } => panic!("{} has no directory", self.name),
        }
    }

    /// Another door to the same place, for looking behind the gateway's back, and straight to it.
    pub(crate) async fn store(&self) -> Store {
        let mut home = self.home.clone();
        if let Home::S3 { server, config } = &mut home {
            config.endpoint = Some(server.endpoint.clone());
        }
        home.open(Metrics::new()).await
    }

    /// All that is stored, by key.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let lines = self.store().await.list(&Prefix::root(), Listing::default());
        let keys = lines.try_filter_map(async |line| {
            Ok(match line {
                Listed::Object { key, .. } => Some(key.to_string()),
                Listed::Prefix(_) => None,
            })
        });
        keys.try_collect().await.expect("a listing")
    }

    /// Puts bytes under a key, behind the gateway's back.
    pub(crate) async fn plant(&self, key: &str, bytes: &'static [u8]) {
        let key: Key = key.parse().expect("a key");
        let payload = bytes::Bytes::from_static(bytes).into();
        self.store().await.put(&key, payload, larder::store::Put::default()).await.expect("a put");
    }

    /// Holds the store to exactly these keys, and to no staged file and no unfinished upload. A broken upload is cleared
    /// away behind its client's back: that is waited for.
    pub(crate) async fn holds(&self, expected: &[&str]) {
        assert_eq!(self.keys().await, expected, "on {}", self.name);
        match &self.home {
            Home::Dir(config) => {
                let staged = || crate::killed::staged(&config.root.join(STAGING));
                eventually("staged files are cleared away", async || staged() == 0).await;
            }
            // Waits for aborts, 5 s at most; it goes on serving.
            Home::S3 { .. } => {
                for _ in 0..6 {
                    self.own.close().await;
                }
            }
        }
        let left = self.store().await.reap(&layout::rooms(), Duration::ZERO).await.expect("a reaping");
        assert_eq!(left, 0, "leftovers on {}", self.name);
    }

    /// Requests counted so far.
    pub(crate) fn counted(&self, labels: &RequestLabels) -> u64 {
        self.metrics.requests.get(labels).map_or(0, |counter| counter.get())
    }

    /// One request in bytes that no client library would send, on a connection that ends with it. What is there of
    /// the answer; `None` where the gateway hung up without one.
    pub(crate) async fn raw(&self, head: &[u8], body: &[u8]) -> Option<Response> {
        let request = [head, b"\r\nhost: larder\r\nconnection: close\r\n\r\n", body].concat();
        parse(&self.client().raw(&request).await)
    }
}

/// Reads one answer whose body ends with the connection.
pub(crate) fn parse(answer: &[u8]) -> Option<Response> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).expect("heads are ASCII here");
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse::<StatusCode>().expect("a status");
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").expect("a header");
        let name: HeaderName = name.parse().expect("a header's name");
        headers.append(name, HeaderValue::try_from(value).expect("a header's value"));
    }
    Some(Response { status, headers, body: bytes::Bytes::copy_from_slice(&answer[end + 4..]) })
}

/// Asks again, in short steps, until it is so.
///
/// # Panics
/// Where it does not come to be so.
pub(crate) async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let began = tokio::time::Instant::now();
    let mut steps = tokio::time::interval(Duration::from_millis(10));
    while !so().await {
        assert!(began.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        steps.tick().await;
    }
}

/// A gateway over a directory, and one over each S3 server.
pub(crate) async fn each(test: impl AsyncFn(TestGateway)) {
    test(TestGateway::start()).await;
    for server in super::backends::servers() {
        test(TestGateway::over(&server, &server.endpoint, 5, Options::default())).await;
    }
}
