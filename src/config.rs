//! What Larder runs with: plain, checked values.
//!
//! Knows neither flags nor environment ([`crate::cli`] reads those) and does nothing but open the store that it
//! names. The defaults of the limits live here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use expiry::{Expiry, Fraction};
pub use location::{Location, LocationError};
pub use tls::{ClientCerts, Lists, TlsConfig, TlsFiles};

use crate::budget::Budget;
use crate::metrics::Metrics;
pub use crate::store::dir::{Config as DirConfig, Sync};
pub use crate::store::s3::{Checksums, Config as S3Config, Sse};
use crate::store::{Error, PART, Store};

mod expiry;
mod location;
mod tls;

/// Most parts of a multipart upload (S3's limit): with [`PART`] it bounds what a bucket can take.
const PARTS: u64 = 10_000;

/// Values that contradict each other or make no sense. The text names the flags that carry them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A group file without a password file.
    #[error("--groups needs --users: without users nobody is in a group")]
    Groups,
    /// Rights for callers without credentials where nobody needs credentials.
    #[error(
        "--anonymous read needs --users, --client-ca, --writable-certs or --readonly-certs: \
         without them everybody may do everything"
    )]
    Anonymous,
    /// A certificate without its key.
    #[error("--tls-cert needs --tls-key: name the file of the certificate's private key")]
    TlsKey,
    /// A key without its certificate.
    #[error("--tls-key needs --tls-cert: name the file of the key's certificate")]
    TlsCert,
    /// Certificates of clients, who can show none.
    #[error("{0} needs --tls-cert and --tls-key: without TLS no client can show a certificate")]
    ClientCerts(&'static str),
    /// A KMS key without KMS.
    #[error("--s3-kms-key needs --s3-sse aws:kms")]
    KmsKey,
    /// Zero where zero would stop everything.
    #[error("{0} must be more than 0")]
    Zero(&'static str),
    /// A budget that one part of one upload overdraws.
    #[error("--max-inflight-bytes must be at least 8MiB: one part of an upload takes that much")]
    Inflight,
    /// More than a multipart upload can carry.
    #[error("--max-object-size must be at most 80000MiB over a bucket: 10000 parts of 8MiB")]
    Parts,
    /// Both listeners on one address.
    #[error("--ops-listen must be another address than --listen")]
    SameAddress,
    /// No `http://HOST[:PORT]` or `https://HOST[:PORT]`.
    #[error("--s3-endpoint must be http://HOST[:PORT] or https://HOST[:PORT]")]
    Endpoint,
}

/// All that `larder serve` runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where objects rest.
    pub store: StoreConfig,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Where health and metrics are served apart from the rest; on [`Self::listen`] where `None`.
    pub ops_listen: Option<SocketAddr>,
    /// TLS on [`Self::listen`]; plain where `None`. [`Self::ops_listen`] is always plain.
    pub tls: Option<TlsConfig>,
    /// Who may do what.
    pub auth: AuthConfig,
    /// How much and how long.
    pub limits: Limits,
    /// What broken uploads left is removed once it is this old.
    pub leftover_age: Duration,
    /// How long what lies in each place is kept from its last use on.
    pub expiry: Expiry,
    /// After which part of that a use makes an object young again; `None`: never.
    pub refresh: Option<Fraction>,
    /// `--allow-outside-symlinks`.
    pub allow_outside_symlinks: bool,
    /// Whether the store is a folder full of Python's distributions, to be served as it is and as nothing else.
    pub folder: bool,
    /// `--allow-linux-tags`.
    pub allow_linux_tags: bool,
    /// Whose word on where clients see us counts.
    pub trusted_proxies: Vec<IpNet>,
    /// What is logged, and how.
    pub log: Log,
}

impl Config {
    /// The same values, once they have been held against each other.
    pub fn checked(self) -> Result<Self, Invalid> {
        self.auth.check(self.has_client_certs())?;
        self.limits.check()?;
        if self.leftover_age.is_zero() {
            // Age zero would remove uploads that are under way, those of other processes too.
            return Err(Invalid::Zero("--leftover-age"));
        }
        let bucket = matches!(self.store, StoreConfig::S3(_));
        if bucket && self.limits.max_object_size > PARTS * PART as u64 {
            return Err(Invalid::Parts);
        }
        if self.listen.port() != 0 && self.ops_listen == Some(self.listen) {
            return Err(Invalid::SameAddress);
        }
        Ok(self)
    }

    /// Whether certificates of clients give rights.
    pub fn has_client_certs(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.clients.is_some())
    }
}

/// Which store, and how it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreConfig {
    /// A directory of this machine.
    Dir(DirConfig),
    /// A bucket.
    S3(S3Config),
}

impl StoreConfig {
    /// The same value, once its numbers and its endpoint have been checked.
    pub fn checked(self) -> Result<Self, Invalid> {
        let Self::S3(s3) = &self else { return Ok(self) };
        nonzero(s3.connect_timeout, "--s3-connect-timeout")?;
        nonzero(s3.first_byte_timeout, "--s3-first-byte-timeout")?;
        nonzero(s3.idle_timeout, "--s3-idle-timeout")?;
        if s3.attempts == 0 {
            return Err(Invalid::Zero("--s3-attempts"));
        }
        if s3.max_requests == 0 {
            return Err(Invalid::Zero("--s3-max-requests"));
        }
        match &s3.endpoint {
            Some(endpoint) if !is_endpoint(endpoint) => Err(Invalid::Endpoint),
            Some(_) | None => Ok(self),
        }
    }

    /// Opens the store. Whether it answers is another question: [`Store::probe`].
    pub async fn open(self, budget: Budget, metrics: Metrics) -> Result<Store, Error> {
        match self {
            Self::Dir(config) => Store::dir(config, budget, metrics),
            Self::S3(config) => Store::s3(config, budget, metrics).await,
        }
    }
}

/// Server-side encryption from its two flags: the method, and the key that only KMS has.
pub fn sse(method: Option<Sse>, kms_key: Option<String>) -> Result<Option<Sse>, Invalid> {
    match (method, kms_key) {
        (Some(Sse::Kms(_)), key) => Ok(Some(Sse::Kms(key))),
        (Some(Sse::Aes256) | None, Some(_)) => Err(Invalid::KmsKey),
        (method, None) => Ok(method),
    }
}

fn is_endpoint(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
    })
}

fn nonzero(time: Duration, flag: &'static str) -> Result<(), Invalid> {
    if time.is_zero() { Err(Invalid::Zero(flag)) } else { Ok(()) }
}

/// What callers without credentials may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Anonymous {
    /// Nothing.
    #[default]
    None,
    /// Read.
    Read,
}

/// Where credentials come from, beside the certificates of [`TlsConfig`]. Without either everybody may do everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuthConfig {
    /// A password file as Apache's htpasswd writes it.
    pub users: Option<PathBuf>,
    /// An Apache group file; `writers` and `admins` have meaning.
    pub groups: Option<PathBuf>,
    /// What callers without credentials may do, once somebody has some.
    pub anonymous: Anonymous,
}

impl AuthConfig {
    fn check(&self, certificates: bool) -> Result<(), Invalid> {
        match (&self.users, &self.groups, self.anonymous) {
            (None, Some(_), _) => Err(Invalid::Groups),
            (None, None, Anonymous::Read) if !certificates => Err(Invalid::Anonymous),
            (None, None, Anonymous::None | Anonymous::Read) | (Some(_), _, _) => Ok(()),
        }
    }
}

/// How much, how many and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest object that is taken, in bytes.
    pub max_object_size: u64,
    /// `--max-message-size`, in bytes.
    pub max_message_size: u64,
    /// Bytes of bodies held in memory by all requests together.
    pub max_inflight_bytes: u64,
    /// Connections open at a time.
    pub max_connections: usize,
    /// How long a body may stand still, either way.
    pub body_idle_timeout: Duration,
    /// How long requests under way may take to end once the process is asked to stop. Zero: not at all.
    pub drain_timeout: Duration,
    /// How long a request's head may take to arrive.
    pub header_timeout: Duration,
    /// How long a connection may stay open between requests. Longer than load balancers keep theirs (60 s, 75 s),
    /// so that it is never Larder that closes just when the next request is sent.
    pub idle_timeout: Duration,
    /// After this time (and some jitter) a connection is asked to close, so that clients spread over new
    /// instances; `None`: never.
    pub max_connection_age: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_object_size: 10 << 30,
            max_message_size: 200 << 20,
            max_inflight_bytes: 48 << 20,
            max_connections: 4096,
            body_idle_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(25),
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
            max_connection_age: Some(Duration::from_secs(30 * 60)),
        }
    }
}

impl Limits {
    fn check(&self) -> Result<(), Invalid> {
        if self.max_message_size == 0 {
            return Err(Invalid::Zero("--max-message-size"));
        }
        if self.max_object_size == 0 {
            return Err(Invalid::Zero("--max-object-size"));
        }
        if self.max_connections == 0 {
            return Err(Invalid::Zero("--max-connections"));
        }
        if self.max_inflight_bytes < PART as u64 {
            return Err(Invalid::Inflight);
        }
        nonzero(self.body_idle_timeout, "--body-idle-timeout")?;
        nonzero(self.header_timeout, "--header-timeout")?;
        nonzero(self.idle_timeout, "--idle-timeout")
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text {
        /// With ANSI colours.
        colour: bool,
    },
    /// One JSON object a line.
    Json,
}

/// What is logged, and how. Always to standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// Steps above (`-v`) or below (`-q`) what is usual.
    pub verbosity: i16,
    /// Directives in the words of `tracing`'s filter, which refine the rest: `larder::store=trace`.
    pub directives: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            store: StoreConfig::Dir(DirConfig { root: "/x".into(), sync: Sync::Always, memory: 0 }),
            listen: "127.0.0.1:8080".parse().unwrap(),
            ops_listen: None,
            tls: None,
            auth: AuthConfig::default(),
            limits: Limits::default(),
            leftover_age: Duration::from_secs(86_400),
            expiry: Expiry::default(),
            refresh: Some(Fraction::default()),
            allow_outside_symlinks: false,
            folder: false,
            allow_linux_tags: false,
            trusted_proxies: Vec::new(),
            log: Log { format: LogFormat::Json, verbosity: 0, directives: None },
        }
    }

    #[test]
    fn defaults_hold_and_contradictions_do_not() {
        assert!(config().checked().is_ok());
        let spoil = |change: fn(&mut Config)| {
            let mut config = config();
            change(&mut config);
            config.checked().unwrap_err()
        };
        assert_eq!(spoil(|c| c.auth.groups = Some("g".into())), Invalid::Groups);
        assert_eq!(spoil(|c| c.auth.anonymous = Anonymous::Read), Invalid::Anonymous);
        let files = TlsFiles {
            cert: Some("c".into()),
            key: Some("k".into()),
            client_ca: Some("a".into()),
            ..TlsFiles::default()
        };
        let mut by_certificate = config();
        by_certificate.tls = files.checked().unwrap();
        by_certificate.auth.anonymous = Anonymous::Read;
        assert!(by_certificate.checked().is_ok());
        assert_eq!(spoil(|c| c.limits.max_inflight_bytes = 1), Invalid::Inflight);
        assert_eq!(spoil(|c| c.limits.max_connections = 0), Invalid::Zero("--max-connections"));
        assert_eq!(spoil(|c| c.limits.idle_timeout = Duration::ZERO), Invalid::Zero("--idle-timeout"));
        assert_eq!(spoil(|c| c.leftover_age = Duration::ZERO), Invalid::Zero("--leftover-age"));
        assert_eq!(spoil(|c| c.ops_listen = Some(c.listen)), Invalid::SameAddress);
    }

    #[test]
    fn a_kms_key_goes_with_kms_only() {
        assert_eq!(sse(None, Some("k".into())), Err(Invalid::KmsKey));
        assert_eq!(sse(Some(Sse::Aes256), Some("k".into())), Err(Invalid::KmsKey));
        assert_eq!(sse(Some(Sse::Kms(None)), Some("k".into())), Ok(Some(Sse::Kms(Some("k".into())))));
        assert_eq!(sse(None, None), Ok(None));
    }

    #[test]
    fn endpoints_are_origins() {
        for good in ["http://127.0.0.1:9000", "https://s3.example.org/", "http://[::1]:9000"] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in ["", "127.0.0.1:9000", "ftp://x", "http://x/path", "http://x?y", "http://u:p@x", "http://"]
        {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }
}
