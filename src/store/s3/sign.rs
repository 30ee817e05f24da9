//! Signature Version 4 of the hot verbs, with credentials of the default chain, kept until shortly before they expire.
//!
//! Ours rather than the SDK's, which costs as much as the rest of a small request: the day's key and the second's date are
//! kept, and only what S3 demands is signed (`host` and every `x-amz-` header). A test holds it to the SDK's own signer.
//! Source: S3 API reference, "Authenticating requests: using the Authorization header".

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use hmac::{Hmac, Mac as _};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use sha2::{Digest as _, Sha256};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Credentials are asked for again this long before they expire.
const EARLY: Duration = Duration::from_secs(120);

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const CONTENT: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

const EMPTY: HeaderValue =
    HeaderValue::from_static("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
const UNSIGNED: HeaderValue = HeaderValue::from_static("UNSIGNED-PAYLOAD");

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

/// What stays the same for a second: the date as it is signed, and the credentials with their key of the day.
#[derive(Clone)]
struct Moment {
    second: u64,
    /// `20130524T000000Z`.
    date: String,
    credentials: Arc<Credentials>,
    key: [u8; 32],
}

/// Signs requests for one region.
pub(super) struct Signer {
    provider: Option<SharedCredentialsProvider>,
    region: String,
    kept: RwLock<Option<Arc<Credentials>>>,
    moment: RwLock<Option<Arc<Moment>>>,
    refreshing: tokio::sync::Mutex<()>,
    /// Seconds that the server's clock is ahead of ours.
    skew: AtomicI64,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("region", &self.region).finish_non_exhaustive()
    }
}

fn hmac(key: &[u8], text: &str) -> [u8; 32] {
    match Hmac::<Sha256>::new_from_slice(key) {
        Ok(mut mac) => {
            mac.update(text.as_bytes());
            mac.finalize().into_bytes().into()
        }
        Err(_) => unreachable!("HMAC takes keys of any length"),
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

impl Signer {
    pub(super) fn new(provider: Option<SharedCredentialsProvider>, region: String) -> Self {
        Self {
            provider,
            region,
            kept: RwLock::new(None),
            moment: RwLock::new(None),
            refreshing: tokio::sync::Mutex::new(()),
            skew: AtomicI64::new(0),
        }
    }

    /// Signs with the server's time from now on.
    pub(super) fn learn_time(&self, server: SystemTime) {
        let now = SystemTime::now();
        let seconds = |apart: Duration| i64::try_from(apart.as_secs()).unwrap_or(0);
        let ahead = server.duration_since(now).map_or_else(|behind| -seconds(behind.duration()), seconds);
        self.skew.store(ahead, Ordering::Relaxed);
    }

    /// Seconds since 1970 by the server's clock.
    fn now(&self) -> u64 {
        let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        ours.saturating_add_signed(self.skew.load(Ordering::Relaxed))
    }

    fn fresh(&self) -> Option<Arc<Credentials>> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        kept.clone().filter(|it| it.expiry().is_none_or(|at| at > SystemTime::now() + EARLY))
    }

    async fn credentials(&self) -> Result<Arc<Credentials>, Cause> {
        if let Some(credentials) = self.fresh() {
            return Ok(credentials);
        }
        let _one = self.refreshing.lock().await;
        if let Some(credentials) = self.fresh() {
            return Ok(credentials);
        }
        let provider = self.provider.as_ref().ok_or("no credentials: set AWS_ACCESS_KEY_ID or a profile")?;
        let credentials = Arc::new(provider.provide_credentials().await?);
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&credentials));
        Ok(credentials)
    }

    async fn moment(&self) -> Result<Arc<Moment>, Cause> {
        let second = self.now();
        if let Some(moment) = self.moment.read().unwrap_or_else(PoisonError::into_inner).as_ref()
            && moment.second == second
        {
            return Ok(Arc::clone(moment));
        }
        let moment = Arc::new(self.at(second, self.credentials().await?));
        *self.moment.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&moment));
        Ok(moment)
    }

    fn at(&self, second: u64, credentials: Arc<Credentials>) -> Moment {
        let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(second)).to_string();
        let date: String = time.chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let secret = format!("AWS4{}", credentials.secret_access_key());
        let day = hmac(secret.as_bytes(), date.get(..8).unwrap_or_default());
        let service = hmac(&hmac(&day, &self.region), "s3");
        Moment { second, date, credentials, key: hmac(&service, "aws4_request") }
    }

    /// Adds date, content hash and authorization to headers that are complete but for `host`, which the connection adds
    /// as it is given here. `path` is as it goes over the wire; `query` has its pairs in order, each with a `=`.
    pub(super) async fn sign(
        &self,
        method: &Method,
        host: &str,
        (path, query): (&str, &str),
        headers: &mut HeaderMap,
        hash: &Hash,
    ) -> Result<(), Cause> {
        let moment = self.moment().await?;
        headers.insert(
            CONTENT,
            match hash {
                Hash::Empty => EMPTY,
                Hash::Unsigned => UNSIGNED,
                Hash::Sha256(hex) => HeaderValue::from_str(hex)?,
            },
        );
        headers.insert(DATE, HeaderValue::from_str(&moment.date)?);
        if let Some(token) = moment.credentials.session_token() {
            headers.insert(TOKEN, HeaderValue::from_str(token)?);
        }
        let value = self.authorization(&moment, method, host, (path, query), headers)?;
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&value)?);
        Ok(())
    }

    fn authorization(
        &self,
        moment: &Moment,
        method: &Method,
        host: &str,
        (path, query): (&str, &str),
        headers: &HeaderMap,
    ) -> Result<String, Cause> {
        let mut signed: Vec<(&str, &str)> = vec![("host", host)];
        for (name, value) in headers {
            if name.as_str().starts_with("x-amz-") {
                signed.push((name.as_str(), value.to_str()?.trim()));
            }
        }
        signed.sort_unstable();
        let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let mut canonical = String::with_capacity(512);
        write!(canonical, "{method}\n{path}\n{query}\n")?;
        for (name, value) in &signed {
            writeln!(canonical, "{name}:{value}")?;
        }
        let content = headers.get(CONTENT).map_or(Ok(""), HeaderValue::to_str)?;
        write!(canonical, "\n{names}\n{content}")?;
        let day = moment.date.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/s3/aws4_request", self.region);
        let digest = hex(&Sha256::digest(&canonical));
        let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{digest}", moment.date);
        let signature = hex(&hmac(&moment.key, &text));
        let id = moment.credentials.access_key_id();
        Ok(format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sigv4::http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    };
    use aws_sigv4::sign::v4;
    use proptest::prelude::*;

    const SECOND: u64 = 1_795_323_416;

    /// The `Authorization` that the SDK's signer makes of the same request.
    fn reference(credentials: &Credentials, method: &Method, uri: &str, headers: &HeaderMap) -> String {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let identity = credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("eu-central-1")
            .name("s3")
            .time(UNIX_EPOCH + Duration::from_secs(SECOND))
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let request =
            SignableRequest::new(method.as_str(), uri, headers, SignableBody::UnsignedPayload).unwrap();
        let (instructions, _) = sign(request, &params).unwrap().into_parts();
        let (headers, _) = instructions.into_parts();
        let found = headers.iter().find(|header| header.name() == "authorization").unwrap();
        found.value().to_owned()
    }

    proptest! {
        #[test]
        fn agrees_with_the_sdk(
            path in "(/[A-Za-z0-9_.~-]{1,12}|/%[2-7][0-9]){1,5}",
            query in prop_oneof![Just(String::new()), "partNumber=[0-9]{1,4}&uploadId=[A-Za-z0-9_-]{1,30}"],
            token in prop::option::of("[A-Za-z0-9/+=]{1,60}"),
            value in "[ -~]{0,3}[!-~]{1,20}",
        ) {
            let credentials = Credentials::new("AKID", "secret/+key", token.clone(), None, "test");
            let signer = Signer::new(None, "eu-central-1".to_owned());
            let moment = signer.at(SECOND, Arc::new(credentials.clone()));
            let mut headers = HeaderMap::new();
            headers.insert("x-amz-meta-x", HeaderValue::from_str(value.trim()).unwrap());
            let uri = format!("http://127.0.0.1:9000{path}{}{query}", if query.is_empty() { "" } else { "?" });
            let theirs = reference(&credentials, &Method::PUT, &uri, &headers);
            headers.insert(CONTENT, UNSIGNED);
            headers.insert(DATE, HeaderValue::from_str(&moment.date).unwrap());
            if let Some(token) = &token {
                headers.insert(TOKEN, HeaderValue::from_str(token).unwrap());
            }
            let ours = signer
                .authorization(&moment, &Method::PUT, "127.0.0.1:9000", (&path, &query), &headers)
                .unwrap();
            prop_assert_eq!(ours, theirs);
        }
    }
}
