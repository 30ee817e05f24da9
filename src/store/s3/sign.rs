//! Signature Version 4 of the hot verbs, with credentials of the default chain, kept until shortly before they expire.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Credentials are asked for again this long before they expire.
const EARLY: Duration = Duration::from_secs(120);

/// How a request's body enters its signature.
#[derive(Debug, Clone)]
pub(super) enum Hash {
    /// No body.
    Empty,
    /// SHA-256, lower-case hex.
    Sha256(String),
    /// Not signed: the checksum header, which is, stands for it.
    Unsigned,
}

const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Signs requests for one region.
#[derive(Debug)]
pub(super) struct Signer {
    provider: Option<SharedCredentialsProvider>,
    region: String,
    kept: RwLock<Option<(Arc<Identity>, Option<SystemTime>)>>,
    refreshing: tokio::sync::Mutex<()>,
    /// Seconds that the server's clock is ahead of ours.
    skew: AtomicI64,
}

impl Signer {
    pub(super) fn new(provider: Option<SharedCredentialsProvider>, region: String) -> Self {
        Self {
            provider,
            region,
            kept: RwLock::new(None),
            refreshing: tokio::sync::Mutex::new(()),
            skew: AtomicI64::new(0),
        }
    }

    /// Signs with the server's time from now on.
    pub(super) fn learn_time(&self, server: SystemTime) {
        let now = SystemTime::now();
        let ahead = server.duration_since(now).map_or_else(
            |behind| -i64::try_from(behind.duration().as_secs()).unwrap_or(0),
            |ahead| i64::try_from(ahead.as_secs()).unwrap_or(0),
        );
        self.skew.store(ahead, Ordering::Relaxed);
    }

    fn now(&self) -> SystemTime {
        let skew = self.skew.load(Ordering::Relaxed);
        let by = Duration::from_secs(skew.unsigned_abs());
        if skew < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
    }

    fn fresh(&self) -> Option<Arc<Identity>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let (identity, expiry) = kept.as_ref()?;
        expiry.is_none_or(|at| at > SystemTime::now() + EARLY).then(|| Arc::clone(identity))
    }

    async fn identity(&self) -> Result<Arc<Identity>, Cause> {
        if let Some(identity) = self.fresh() {
            return Ok(identity);
        }
        let _one = self.refreshing.lock().await;
        if let Some(identity) = self.fresh() {
            return Ok(identity);
        }
        let provider = self.provider.as_ref().ok_or("no credentials: set AWS_ACCESS_KEY_ID or a profile")?;
        let credentials = provider.provide_credentials().await?;
        let expiry = credentials.expiry();
        let identity = Arc::new(Identity::from(credentials));
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Some((Arc::clone(&identity), expiry));
        Ok(identity)
    }

    /// Adds date, content hash and authorization to a request whose other headers are complete.
    pub(super) async fn sign<B>(&self, request: &mut http::Request<B>, hash: Hash) -> Result<(), Cause> {
        let identity = self.identity().await?;
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(self.now())
            .settings(settings)
            .build()?
            .into();
        let body = match hash {
            Hash::Empty => SignableBody::Precomputed(EMPTY_SHA256.to_owned()),
            Hash::Sha256(hex) => SignableBody::Precomputed(hex),
            Hash::Unsigned => SignableBody::UnsignedPayload,
        };
        let instructions = {
            let headers = request
                .headers()
                .iter()
                .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
            let signable =
                SignableRequest::new(request.method().as_str(), request.uri().to_string(), headers, body)?;
            sign(signable, &params)?.into_parts().0
        };
        instructions.apply_to_request_http1x(request);
        Ok(())
    }
}
