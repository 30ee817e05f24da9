//! Every store that the contract is tested on: a directory always, and the S3 servers that `LARDER_TEST_S3` names.

use std::sync::Once;
use std::time::Duration;

use larder::budget::Budget;
use larder::metrics::Metrics;
use larder::store::{Store, dir, s3};

use super::{aloud, variable};

/// Budget of a test's store, in bytes.
const BUDGET: u64 = 64 << 20;

/// A store and what keeps it alive.
pub(crate) struct Backend {
    /// `dir`, or the server's name.
    pub(crate) name: String,
    pub(crate) store: Store,
    root: Option<tempfile::TempDir>,
}

impl Backend {
    /// The directory that it is.
    ///
    /// # Panics
    /// Where it is a bucket.
    pub(crate) fn root(&self) -> &std::path::Path {
        self.root.as_ref().expect("a directory").path()
    }
}

/// A real S3 server, as `scripts/s3-servers` hands it to the tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct S3Server {
    /// `minio` or `versitygw`: what a law names where a server cannot keep it.
    pub(crate) name: String,
    /// `http://127.0.0.1:PORT`.
    pub(crate) endpoint: String,
    /// An existing bucket.
    pub(crate) bucket: String,
    /// The access key.
    pub(crate) key: String,
    /// The secret key.
    pub(crate) secret: String,
}

/// The servers to test on. `LARDER_TEST_S3=none` says on purpose that there are none. Where it is not set they are
/// skipped, loudly; where they are required (`LARDER_TEST_S3_REQUIRED`, or `CI=true`) that is a failure.
pub(crate) fn servers() -> Vec<S3Server> {
    static SAID: Once = Once::new();
    match variable("LARDER_TEST_S3").as_deref() {
        Some("none") => {
            SAID.call_once(|| aloud("LEFT OUT, as LARDER_TEST_S3=none asks: all tests over S3"));
            Vec::new()
        }
        Some(list) => list.split(';').map(str::trim).filter(|entry| !entry.is_empty()).map(parse).collect(),
        None => {
            let ci = variable("CI").is_some_and(|ci| ci == "true");
            let required = ci || variable("LARDER_TEST_S3_REQUIRED").is_some();
            assert!(!required, "S3 servers are required, and LARDER_TEST_S3 names none");
            SAID.call_once(|| {
                aloud("SKIPPED: all tests over S3. Run `scripts/s3-servers run -- cargo test`")
            });
            Vec::new()
        }
    }
}

fn parse(entry: &str) -> S3Server {
    let field = |name: &str| {
        let found = entry.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("LARDER_TEST_S3: no {name} in an entry")).to_owned()
    };
    S3Server {
        name: field("name"),
        endpoint: field("endpoint"),
        bucket: field("bucket"),
        key: field("key"),
        secret: field("secret"),
    }
}

impl S3Server {
    /// The store's configuration, at this endpoint or at a proxy's before it.
    pub(crate) fn config(&self, endpoint: &str) -> s3::Config {
        s3::Config {
            bucket: self.bucket.clone(),
            prefix: None,
            endpoint: Some(endpoint.to_owned()),
            region: Some("us-east-1".to_owned()),
            path_style: None,
            sse: None,
            checksums: s3::Checksums::Always,
            attempts: 5,
            connect_timeout: Duration::from_secs(3),
            first_byte_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            max_requests: 256,
        }
    }

    /// A store on this server.
    pub(crate) async fn store(&self, config: s3::Config, metrics: Metrics) -> Store {
        let credentials = s3::Credentials { key: self.key.clone(), secret: self.secret.clone() };
        Store::s3_as(config, credentials, Budget::new(BUDGET), metrics).await.expect("a store")
    }
}

/// A directory store of its own.
pub(crate) fn directory() -> Backend {
    let root = tempfile::tempdir().expect("a temporary directory");
    let config = dir::Config { root: root.path().to_owned(), sync: dir::Sync::Never, memory: 1 << 20 };
    let store = Store::dir(config, Budget::new(BUDGET), Metrics::new()).expect("a store");
    Backend { name: "dir".to_owned(), store, root: Some(root) }
}

/// Every store.
pub(crate) async fn backends() -> Vec<Backend> {
    let mut all = vec![directory()];
    for server in servers() {
        let store = server.store(server.config(&server.endpoint), Metrics::new()).await;
        all.push(Backend { name: server.name.clone(), store, root: None });
    }
    all
}
