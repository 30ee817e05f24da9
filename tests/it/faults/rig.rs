//! A gateway in this process whose store is reached through a [`FaultProxy`]; the same store without the proxy beside
//! it, to lay things out and to see what is left.

use std::future::pending;
use std::sync::mpsc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use futures_util::stream;
use larder::budget::Budget;
use larder::domain::{Gateway, Wheels};
use larder::front::auth::verify::{Limits as VerifyLimits, Verifier};
use larder::front::auth::{Gate, Guarded};
use larder::front::body::BodyLimits;
use larder::front::origin::Proxies;
use larder::front::{App, Protocols, router};
use larder::metrics::Metrics;
use larder::payload::{Body, Payload, Want};
use larder::server::{Drain, Limits, Server};
use larder::store::s3::Credentials;
use larder::store::{Put, Store};
use sha2::{Digest as _, Sha256};

use crate::support::backends::{S3Server, servers};
use crate::support::http::{Client, Pattern};
use crate::support::proxy::FaultProxy;
use crate::support::{Background, LIMIT, loopback};

/// A hash as Please spells it.
pub(crate) const HASH: &str = "AAECAwQFBgcICQoLDA0ODxAREhM";

/// How long the gateway waits for its store.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    /// Longer than any loaded machine needs.
    Long,
    /// Short enough to wait out.
    Short,
}

/// The gateway, its client, and both ways to its store.
pub(crate) struct Rig {
    /// The server's name.
    pub(crate) name: String,
    /// Between the gateway and its store.
    pub(crate) proxy: FaultProxy,
    /// Speaks to the gateway.
    pub(crate) client: Client,
    /// The gateway's counters.
    pub(crate) metrics: Metrics,
    /// The gateway's own store.
    pub(crate) store: Store,
    /// The same store, without the proxy.
    pub(crate) direct: Store,
    _serving: Background,
}

impl Rig {
    /// A gateway over a place of its own on this server.
    pub(crate) async fn start(server: &S3Server, patience: Patience) -> Self {
        let upstream = server.endpoint.trim_start_matches("http://").parse().expect("an address");
        let proxy = FaultProxy::start(upstream);
        let prefix: larder::store::Key = format!("rig-{:016x}", fastrand::u64(..)).parse().expect("a key");
        let mut direct = server.config(&server.endpoint);
        direct.prefix = Some(prefix);
        let mut config = direct.clone();
        config.endpoint = Some(proxy.endpoint());
        let (attempts, limit) = match patience {
            Patience::Long => (3, LIMIT),
            Patience::Short => (2, Duration::from_secs(1)),
        };
        (config.attempts, config.first_byte_timeout, config.idle_timeout) = (attempts, limit, limit);
        let metrics = Metrics::new();
        let credentials = Credentials { key: server.key.clone(), secret: server.secret.clone() };
        let (up, started) = mpsc::channel();
        let counted = metrics.clone();
        // The store lives on the gateway's runtime, as its connections do.
        let serving = Background::run(move || async move {
            let store = Store::s3_as(config, credentials, Budget::new(64 << 20), counted.clone()).await;
            let store = store.expect("a store");
            let served = Server::bind(loopback(), Limits::default(), counted.clone()).await.expect("a port");
            up.send((served.local_addr(), store.clone())).expect("the test waits");
            let verifier = Verifier::new(&VerifyLimits::default()).expect("randomness");
            let guarded = Guarded::new(Gateway::new(store, Wheels::default()), Gate::new(None, verifier));
            let app = App::new(
                guarded,
                BodyLimits { max_object_size: 1 << 30 },
                Proxies::default(),
                crate::support::gateway::rpc(),
                counted,
            );
            served.run(router(app, Protocols::All, None), Drain::new()).await;
            pending::<()>().await;
        });
        let (addr, store) = started.recv_timeout(LIMIT).expect("the gateway comes up");
        let direct = server.store(direct, Metrics::new()).await;
        let (client, name) = (Client::new(addr), server.name.clone());
        Self { name, proxy, client, metrics, store, direct, _serving: serving }
    }

    /// Lays an object out, past gateway and proxy.
    pub(crate) async fn lay(&self, key: &str, pattern: Pattern) {
        let key = key.parse().unwrap();
        let body = stream::iter(pattern.blocks().map(Ok));
        let put = self.direct.put(&key, Payload::new(Some(pattern.length), body), Put::default());
        put.await.expect("an object to lay out");
    }

    /// What is stored, past gateway and proxy: its SHA-256.
    pub(crate) async fn stored(&self, key: &str) -> Option<[u8; 32]> {
        let found = self.direct.get(&key.parse().unwrap(), &Want::default()).await.expect("a store");
        match found?.body {
            Body::Whole(content) => {
                let hash = content
                    .into_stream()
                    .try_fold(Sha256::new(), async |hash, chunk| Ok(hash.chain_update(chunk)));
                Some(hash.await.expect("a whole object").finalize().into())
            }
            other @ (Body::Part { .. } | Body::Unchanged | Body::Unsatisfiable) => panic!("{other:?}"),
        }
    }

    /// How many multipart uploads are left open, once the aborts under way have ended; takes them away.
    pub(crate) async fn leftovers(&self) -> u64 {
        self.store.close().await;
        let everywhere = larder::domain::layout::rooms();
        self.direct.reap(&everywhere, Duration::ZERO).await.expect("a reaped store")
    }
}

/// Runs a test over each S3 server, one after the other.
pub(crate) async fn on_each(patience: Patience, test: impl AsyncFn(&Rig)) {
    for server in servers() {
        let rig = Rig::start(&server, patience).await;
        test(&rig).await;
    }
}
