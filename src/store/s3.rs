//! The bucket: the only rooms that say `aws_`.
//!
//! GET, HEAD, PUT and UploadPart go over our own signed requests (`wire`), the other verbs over the SDK; one table
//! (`answers`) says what either's odd answers mean. A put is one PutObject up to [`crate::store::PART`] bytes, else a
//! multipart upload; both carry CRC-64/NVME, which the bucket keeps and every read is checked against.

use std::fmt;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    RequestChecksumCalculation, ResponseChecksumValidation, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use quick_cache::sync::Cache;
use tokio_util::task::TaskTracker;

use crate::budget::Budget;
use crate::metrics::Metrics;
use crate::store::error::{Error, Kind, Op};
use crate::store::key::Key;

mod answers;
mod body;
mod examine;
mod lifecycle;
mod manage;
mod multipart;
mod pool;
mod read;
mod sdk;
mod sign;
mod touch;
mod wire;
mod write;

pub(in crate::store) use examine::Examiner;

/// Server-side encryption of what is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sse {
    /// SSE-S3.
    Aes256,
    /// SSE-KMS, with this key or the bucket's own.
    Kms(Option<String>),
}

/// Whether checksums go with every write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksums {
    /// Only where S3 demands one: for servers that do not know CRC-64/NVME. Ours rides as user metadata then, where
    /// the object was written in one piece; larger ones are not checked on the way out.
    WhenRequired,
    /// CRC-64/NVME with every write.
    #[default]
    Always,
}

/// Where the bucket is and how to speak to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its name.
    pub bucket: String,
    /// What all keys begin with, where the bucket is not ours alone.
    pub prefix: Option<Key>,
    /// `http://host:port` of a server that is not AWS.
    pub endpoint: Option<String>,
    /// The region; else from the default chain, else `us-east-1` where an endpoint is given.
    pub region: Option<String>,
    /// Bucket in the path instead of the host name; by default where an endpoint is given.
    pub path_style: Option<bool>,
    /// Server-side encryption.
    pub sse: Option<Sse>,
    /// Checksums.
    pub checksums: Checksums,
    /// Tries of one request in all, at least one.
    pub attempts: u32,
    /// Until a connection stands.
    pub connect_timeout: Duration,
    /// From a request's last byte to the head of its answer.
    pub first_byte_timeout: Duration,
    /// Between bytes of an answer.
    pub idle_timeout: Duration,
    /// Most requests under way at once.
    pub max_requests: usize,
}

/// Credentials at hand, instead of those of the default chain.
#[derive(Clone)]
pub struct Credentials {
    /// Access key.
    pub key: String,
    /// Secret key.
    pub secret: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// A bucket.
#[derive(Debug)]
pub(crate) struct S3 {
    client: Client,
    wire: wire::Wire,
    bucket: String,
    prefix: Option<Key>,
    sse: Option<Sse>,
    checksums: Checksums,
    budget: Budget,
    tracker: TaskTracker,
    /// Keys that have been seen to be directories. A hint, bounded; losing it costs nothing but a late complaint.
    directories: Cache<Key, ()>,
}

/// Everything but what S3's canonical requests leave as it is.
const ESCAPED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

fn escape(text: &str) -> String {
    utf8_percent_encode(text, &ESCAPED).to_string()
}

/// A validator as conditions carry it.
fn quoted(etag: &str) -> String {
    format!("\"{etag}\"")
}

impl S3 {
    /// Reads the default chain and prepares; sends nothing to the bucket yet.
    pub(crate) async fn connect(
        config: Config,
        credentials: Option<Credentials>,
        budget: Budget,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let shared = shared(&config, credentials).await;
        let region = shared.region().map(ToString::to_string).ok_or_else(|| {
            Error::new(Kind::Denied, Op::Probe, "", "no region: set --s3-region or AWS_REGION")
        })?;
        let endpoint = endpoint(&config, &shared, &region).await?;
        let signer = sign::Signer::new(shared.credentials_provider(), region);
        let client = client(&config, &shared, metrics.clone());
        let wire = wire::Wire::new(&config, &endpoint, signer, metrics)?;
        Ok(Self {
            client,
            wire,
            bucket: config.bucket,
            prefix: config.prefix,
            sse: config.sse,
            checksums: config.checksums,
            budget,
            tracker: TaskTracker::new(),
            directories: Cache::new(10_000),
        })
    }

    /// What every name in the bucket begins with.
    fn root(&self) -> String {
        self.prefix.as_ref().map_or_else(String::new, |prefix| format!("{prefix}/"))
    }

    /// A key's name in the bucket.
    fn name(&self, key: &Key) -> String {
        format!("{}{key}", self.root())
    }

    /// Waits, for a while, for aborts that are under way.
    pub(crate) async fn close(&self) {
        self.tracker.close();
        if tokio::time::timeout(Duration::from_secs(5), self.tracker.wait()).await.is_err() {
            tracing::warn!("some broken uploads could not be aborted in time: they wait to be reaped");
        }
    }
}

impl fmt::Display for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        self.prefix.as_ref().map_or(Ok(()), |prefix| write!(f, "/{prefix}"))
    }
}

/// The default chain: environment, profile, container and instance roles.
async fn shared(config: &Config, credentials: Option<Credentials>) -> SdkConfig {
    // The machine's root certificates cost 8 MiB and 40 ms: not where nothing is asked over TLS.
    let builder = aws_smithy_http_client::Builder::new();
    let plain = config.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let http = if plain {
        builder.build_http()
    } else {
        builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
    };
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .retry_config(RetryConfig::standard().with_max_attempts(config.attempts.max(1)))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(config.connect_timeout)
                .read_timeout(config.first_byte_timeout)
                .build(),
        )
        // Beyond the head of an answer the time-outs above watch nothing: this ends a body that stands still.
        .stalled_stream_protection(
            StalledStreamProtectionConfig::enabled()
                .upload_enabled(false)
                .grace_period(config.idle_timeout)
                .build(),
        );
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(Credentials { key, secret }) = credentials {
        loader = loader
            .credentials_provider(aws_credential_types::Credentials::new(key, secret, None, None, "given"));
    }
    match (&config.region, &config.endpoint) {
        (Some(region), _) => loader = loader.region(Region::new(region.clone())),
        // Another server's region is a word in the signature: the instance's own service is not asked for it.
        (None, Some(_)) => loader = loader.region(local_region().await),
        (None, None) => {}
    }
    loader.load().await
}

async fn local_region() -> Region {
    use aws_config::meta::region::RegionProviderChain;
    let chain =
        RegionProviderChain::first_try(aws_config::environment::EnvironmentVariableRegionProvider::new())
            .or_else(aws_config::profile::ProfileFileRegionProvider::new())
            .or_else(Region::from_static("us-east-1"));
    chain.region().await.unwrap_or(Region::from_static("us-east-1"))
}

/// Whether the bucket goes into the path.
fn path_style(config: &Config, shared: &SdkConfig) -> bool {
    config.path_style.unwrap_or_else(|| shared.endpoint_url().is_some())
}

fn client(config: &Config, shared: &SdkConfig, metrics: Metrics) -> Client {
    let builder = aws_sdk_s3::config::Builder::from(shared)
        .force_path_style(path_style(config, shared))
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .interceptor(sdk::Counting(metrics));
    Client::from_conf(builder.build())
}

/// Where the bucket's root is, as the SDK's own rules say: regions, partitions, path style.
async fn endpoint(config: &Config, shared: &SdkConfig, region: &str) -> Result<String, Error> {
    let wrong =
        |error: Box<dyn std::error::Error + Send + Sync>| Error::new(Kind::Denied, Op::Probe, "", error);
    let params = Params::builder()
        .bucket(&config.bucket)
        .region(region)
        .force_path_style(path_style(config, shared))
        .set_endpoint(shared.endpoint_url().map(str::to_owned))
        .use_fips(shared.use_fips().unwrap_or(false))
        .use_dual_stack(shared.use_dual_stack().unwrap_or(false))
        .build()
        .map_err(|error| wrong(error.into()))?;
    let found = DefaultResolver::new().resolve_endpoint(&params).await.map_err(wrong)?;
    Ok(found.url().to_owned())
}
