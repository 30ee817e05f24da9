//! The flags that commands share, each also an environment variable, and how they become [`crate::config`]'s values.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args};
use etcetera::BaseStrategy;
use ipnet::IpNet;

use super::expiry::{ExpiryFlags, RefreshFlags};
use super::values::{self, AnonymousArg, ChecksumsArg, LogFormatArg, SseArg, SyncArg};
use crate::config::{self, Config, Invalid, Limits, Location, Log, LogFormat, StoreConfig};

/// What the flags say, each good on its own, does not make a configuration.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// They contradict each other.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The default of `--store` depends on where the user lives.
    #[error("there is no home directory to keep the store in: say where with --store or LARDER_STORE")]
    Homeless,
    /// No address of ours.
    #[error("{0} is no address to listen on, nor the name of one")]
    Host(String),
}

/// Logs of every command.
#[derive(Debug, Args)]
pub(super) struct LogFlags {
    /// How log lines look [default: text on a terminal, else json]
    #[arg(long, global = true, env = "LARDER_LOG_FORMAT", value_name = "FORMAT", help_heading = "Logs")]
    log_format: Option<LogFormatArg>,
    /// Say more; may be repeated. RUST_LOG (`larder::store=trace,hyper=info`) refines it
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Logs")]
    verbose: u8,
    /// Say less; may be repeated
    #[arg(short, long, global = true, action = ArgAction::Count, help_heading = "Logs")]
    quiet: u8,
    /// Directives of the log's filter
    #[arg(long, global = true, env = "RUST_LOG", value_name = "DIRECTIVES", hide = true)]
    log_filter: Option<String>,
}

impl LogFlags {
    /// What to log. `usual` is where the command begins: 0 for a server, less for what a person runs.
    pub(super) fn log(&self, usual: i16) -> Log {
        let format = match self.log_format {
            Some(LogFormatArg::Json) => LogFormat::Json,
            Some(LogFormatArg::Text) => LogFormat::Text { colour: values::colour() },
            None if values::on_terminal() => LogFormat::Text { colour: values::colour() },
            None => LogFormat::Json,
        };
        let verbosity = usual + i16::from(self.verbose) - i16::from(self.quiet);
        Log { format, verbosity, directives: self.log_filter.clone() }
    }
}

/// Which store, for every command that touches one.
#[derive(Debug, Args)]
#[command(next_help_heading = "Store")]
pub(super) struct StoreFlags {
    /// A directory, or s3://BUCKET[/PREFIX] [default: larder in the user's data directory, ~/.local/share]
    #[arg(long, env = "LARDER_STORE", value_name = "PLACE",
          value_parser = OsStringValueParser::new().try_map(Location::from_os))]
    store: Option<Location>,
    /// Whether a write into a directory waits for the disk: `never` may lose what a power cut finds in memory
    #[arg(long, env = "LARDER_DIR_SYNC", value_name = "WHEN", default_value = "always")]
    dir_sync: SyncArg,
    /// Small objects of a directory, read lately, that are kept in memory; 0 keeps none
    #[arg(long, env = "LARDER_DIR_MEMORY", value_name = "SIZE", default_value = "24MiB",
          value_parser = values::size)]
    dir_memory: u64,
    /// Where the bucket is served: `http://HOST[:PORT]` or `https://HOST[:PORT]` [default: AWS]
    #[arg(long, env = "LARDER_S3_ENDPOINT", value_name = "URL")]
    s3_endpoint: Option<String>,
    /// Region of the bucket [default: as AWS's own tools find it]
    #[arg(long, env = "LARDER_S3_REGION", value_name = "REGION")]
    s3_region: Option<String>,
    /// Whether the bucket stands in the path rather than in the host name [default: with --s3-endpoint]
    #[arg(long, env = "LARDER_S3_PATH_STYLE", value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    s3_path_style: Option<bool>,
    /// Encryption at rest that the bucket is asked for [default: the bucket's own]
    #[arg(long, env = "LARDER_S3_SSE", value_name = "METHOD")]
    s3_sse: Option<SseArg>,
    /// Key of --s3-sse aws:kms: an id, ARN or alias [default: the account's]
    #[arg(long, env = "LARDER_S3_KMS_KEY", value_name = "KEY")]
    s3_kms_key: Option<String>,
    /// When requests carry a checksum: `when-required` is for servers that know none
    #[arg(long, env = "LARDER_S3_CHECKSUMS", value_name = "WHEN", default_value = "always")]
    s3_checksums: ChecksumsArg,
    /// How long a connection to the bucket may take
    #[arg(long, env = "LARDER_S3_CONNECT_TIMEOUT", value_name = "TIME", default_value = "3s",
          value_parser = values::time)]
    s3_connect_timeout: Duration,
    /// How long the first byte of the bucket's answer may take
    #[arg(long, env = "LARDER_S3_FIRST_BYTE_TIMEOUT", value_name = "TIME", default_value = "10s",
          value_parser = values::time)]
    s3_first_byte_timeout: Duration,
    /// How long the bucket may pause between two bytes
    #[arg(long, env = "LARDER_S3_IDLE_TIMEOUT", value_name = "TIME", default_value = "30s",
          value_parser = values::time)]
    s3_idle_timeout: Duration,
    /// How often a request to the bucket is tried, the first time included
    #[arg(long, env = "LARDER_S3_ATTEMPTS", value_name = "COUNT", default_value = "3")]
    s3_attempts: u32,
    /// Requests to the bucket under way at a time; more wait
    #[arg(long, env = "LARDER_S3_MAX_REQUESTS", value_name = "COUNT", default_value = "256")]
    s3_max_requests: usize,
}

impl StoreFlags {
    /// The store that they name.
    pub(super) fn store(self) -> Result<StoreConfig, Error> {
        let place = match &self.store {
            Some(place) => place.clone(),
            None => home()?,
        };
        let sse = config::sse(self.s3_sse.map(Into::into), self.s3_kms_key)?;
        let store = place.fold(
            |root| {
                StoreConfig::Dir(config::DirConfig {
                    root,
                    sync: self.dir_sync.into(),
                    memory: self.dir_memory,
                })
            },
            |bucket, prefix| {
                StoreConfig::S3(config::S3Config {
                    bucket,
                    prefix,
                    endpoint: self.s3_endpoint.map(|url| url.trim_end_matches('/').to_owned()),
                    region: self.s3_region,
                    path_style: self.s3_path_style,
                    sse,
                    checksums: self.s3_checksums.into(),
                    attempts: self.s3_attempts,
                    connect_timeout: self.s3_connect_timeout,
                    first_byte_timeout: self.s3_first_byte_timeout,
                    idle_timeout: self.s3_idle_timeout,
                    max_requests: self.s3_max_requests,
                })
            },
        );
        Ok(store.checked()?)
    }
}

fn home() -> Result<Location, Error> {
    let data = etcetera::base_strategy::Xdg::new().map_err(|_| Error::Homeless)?.data_dir();
    // An empty HOME gives a relative path, and a cache in whatever directory this happens to run.
    if !data.is_absolute() {
        return Err(Error::Homeless);
    }
    Location::from_os(data.join("larder").into()).map_err(|_| Error::Homeless)
}

/// Where Larder listens, or is asked.
#[derive(Debug, Args)]
pub(super) struct ListenFlags {
    /// Address and port of HTTP/1.1 and HTTP/2; port 0 takes a free one
    #[arg(long, env = "LARDER_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(super) listen: SocketAddr,
    /// A second address for /healthz, /readyz and /metrics, never behind auth [default: on the main port]
    #[arg(long, env = "LARDER_OPS_LISTEN", value_name = "ADDR")]
    pub(super) ops_listen: Option<SocketAddr>,
}

/// Flags of `larder serve`.
#[derive(Debug, Args)]
pub(super) struct ServeFlags {
    #[command(flatten)]
    listen: ListenFlags,
    #[command(flatten)]
    tls: TlsFlags,
    #[command(flatten)]
    auth: AuthFlags,
    #[command(flatten)]
    store: StoreFlags,
    #[command(flatten)]
    rpc: RpcFlags,
    #[command(flatten)]
    wheels: WheelFlags,
    #[command(flatten)]
    expiry: ExpiryFlags,
    #[command(flatten)]
    refresh: RefreshFlags,
    #[command(flatten)]
    limits: LimitFlags,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "RPC cache")]
struct RpcFlags {
    /// Take symbolic links that lead out of their entry: absolute ones, and those that climb above it
    #[arg(long, env = "LARDER_ALLOW_OUTSIDE_SYMLINKS")]
    allow_outside_symlinks: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Wheel cache")]
struct WheelFlags {
    /// Take wheels with plain `linux_*` tags into the shared index too
    #[arg(long, env = "LARDER_ALLOW_LINUX_TAGS")]
    allow_linux_tags: bool,
    /// Addresses and networks of proxies whose Forwarded and X-Forwarded-* headers tell how clients see this server
    /// [default: nobody's]
    #[arg(long, env = "LARDER_TRUSTED_PROXIES", value_name = "CIDR", value_delimiter = ',',
          value_parser = values::network)]
    trusted_proxies: Vec<IpNet>,
}

impl ServeFlags {
    /// All that the gateway runs with.
    pub(super) fn config(self, log: Log) -> Result<Config, Error> {
        let config = Config {
            store: self.store.store()?,
            listen: self.listen.listen,
            ops_listen: self.listen.ops_listen,
            tls: self.tls.files().checked()?,
            auth: config::AuthConfig {
                users: self.auth.users,
                groups: self.auth.groups,
                anonymous: self.auth.anonymous.into(),
            },
            leftover_age: self.limits.leftover_age,
            expiry: self.expiry.expiry(),
            refresh: self.refresh.part(),
            allow_outside_symlinks: self.rpc.allow_outside_symlinks,
            folder: false,
            allow_linux_tags: self.wheels.allow_linux_tags,
            trusted_proxies: self.wheels.trusted_proxies,
            limits: self.limits.limits(),
            log,
        };
        Ok(config.checked()?)
    }
}

/// TLS. The hidden names are those of Please's own cache server, whose command lines go on to work.
#[derive(Debug, Args)]
#[command(next_help_heading = "TLS")]
struct TlsFlags {
    /// PEM file of the server's certificate and those between it and its authority. All files of TLS are read
    /// again when they change [default: no TLS]
    #[arg(long, env = "LARDER_TLS_CERT", value_name = "FILE", alias = "cert_file")]
    tls_cert: Option<PathBuf>,
    /// PEM file of the certificate's private key
    #[arg(long, env = "LARDER_TLS_KEY", value_name = "FILE", alias = "key_file")]
    tls_key: Option<PathBuf>,
    /// PEM file of the authorities that sign clients' certificates; a client may show one, and it has to be good
    #[arg(long, env = "LARDER_CLIENT_CA", value_name = "FILE", alias = "ca_cert_file")]
    client_ca: Option<PathBuf>,
    /// PEM file, or directory of such, of the very certificates that may read and write
    #[arg(long, env = "LARDER_WRITABLE_CERTS", value_name = "PLACE", alias = "writable_certs")]
    writable_certs: Option<PathBuf>,
    /// PEM file, or directory of such, of the very certificates that may read
    #[arg(long, env = "LARDER_READONLY_CERTS", value_name = "PLACE", alias = "readonly_certs")]
    readonly_certs: Option<PathBuf>,
}

impl TlsFlags {
    fn files(self) -> config::TlsFiles {
        config::TlsFiles {
            cert: self.tls_cert,
            key: self.tls_key,
            client_ca: self.client_ca,
            writable: self.writable_certs,
            readonly: self.readonly_certs,
        }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
struct AuthFlags {
    /// Password file of Apache's htpasswd; read again when it changes [default: open to all, but for client certificates]
    #[arg(long, env = "LARDER_USERS", value_name = "FILE")]
    users: Option<PathBuf>,
    /// Apache group file with `writers` and `admins` [default: every user may do everything]
    #[arg(long, env = "LARDER_GROUPS", value_name = "FILE")]
    groups: Option<PathBuf>,
    /// What callers without credentials may do, once there are --users or client certificates
    #[arg(long, env = "LARDER_ANONYMOUS", value_name = "RIGHT", default_value = "none")]
    anonymous: AnonymousArg,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
struct LimitFlags {
    /// Largest object that is taken; beyond it 413
    #[arg(long, env = "LARDER_MAX_OBJECT_SIZE", value_name = "SIZE", default_value = "10GiB",
          value_parser = values::size)]
    max_object_size: u64,
    /// Largest message of the RPC cache, unpacked, either way
    #[arg(long, env = "LARDER_MAX_MESSAGE_SIZE", value_name = "SIZE", default_value = "200MiB",
          value_parser = values::size)]
    max_message_size: u64,
    /// Bytes of bodies held in memory by all requests together; when spent, requests wait
    #[arg(long, env = "LARDER_MAX_INFLIGHT_BYTES", value_name = "SIZE", default_value = "48MiB",
          value_parser = values::size)]
    max_inflight_bytes: u64,
    /// Connections open at a time; more wait in the system's backlog
    #[arg(long, env = "LARDER_MAX_CONNECTIONS", value_name = "COUNT", default_value = "4096")]
    max_connections: usize,
    /// How long a body may stand still, either way
    #[arg(long, env = "LARDER_BODY_IDLE_TIMEOUT", value_name = "TIME", default_value = "30s",
          value_parser = values::time)]
    body_idle_timeout: Duration,
    /// How long requests under way may take to end after SIGTERM
    #[arg(long, env = "LARDER_DRAIN_TIMEOUT", value_name = "TIME", default_value = "25s",
          value_parser = values::time)]
    drain_timeout: Duration,
    /// How long a request's head may take to arrive
    #[arg(long, env = "LARDER_HEADER_TIMEOUT", value_name = "TIME", default_value = "30s",
          value_parser = values::time)]
    header_timeout: Duration,
    /// How long a connection may stay open between requests; longer than load balancers keep theirs
    #[arg(long, env = "LARDER_IDLE_TIMEOUT", value_name = "TIME", default_value = "120s",
          value_parser = values::time)]
    idle_timeout: Duration,
    /// After this time, and some jitter, a connection is asked to close; 0: never
    #[arg(long, env = "LARDER_MAX_CONNECTION_AGE", value_name = "TIME", default_value = "30m",
          value_parser = values::time)]
    max_connection_age: Duration,
    /// What broken uploads left behind is removed once it is this old
    #[arg(long, env = "LARDER_LEFTOVER_AGE", value_name = "TIME", default_value = "1d",
          value_parser = values::time)]
    leftover_age: Duration,
}

impl LimitFlags {
    fn limits(&self) -> Limits {
        Limits {
            max_object_size: self.max_object_size,
            max_message_size: self.max_message_size,
            max_inflight_bytes: self.max_inflight_bytes,
            max_connections: self.max_connections,
            body_idle_timeout: self.body_idle_timeout,
            drain_timeout: self.drain_timeout,
            header_timeout: self.header_timeout,
            idle_timeout: self.idle_timeout,
            max_connection_age: Some(self.max_connection_age).filter(|age| !age.is_zero()),
        }
    }
}
