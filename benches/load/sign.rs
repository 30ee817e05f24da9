//! Signatures of S3 requests that have no body, worked out before the run: they hold for a quarter of an hour.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::Failure;

/// An access key, `NAME:SECRET`, as `--sign` has it.
#[derive(Debug, Clone)]
pub(crate) struct Access(Credentials);

impl std::str::FromStr for Access {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, secret) = text.split_once(':').ok_or("an access key is NAME:SECRET")?;
        Ok(Self(Credentials::new(name, secret, None, None, "--sign")))
    }
}

impl Access {
    /// The headers that sign a request of this method for one path of a server in us-east-1.
    pub(crate) fn headers(&self, method: &str, host: &str, path: &Uri) -> Result<HeaderMap, Failure> {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        let identity = self.0.clone().into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region("us-east-1")
            .name("s3")
            .time(SystemTime::now())
            .settings(settings)
            .build()?
            .into();
        let uri = format!("http://{host}{path}");
        let headers = [("host", host)];
        let request = SignableRequest::new(method, &uri, headers.into_iter(), SignableBody::Bytes(b""))?;
        let (instructions, _) = sign(request, &params)?.into_parts();
        let (signed, _) = instructions.into_parts();
        let pairs = signed.into_iter().map(|header| {
            Ok((HeaderName::from_bytes(header.name().as_bytes())?, HeaderValue::from_str(header.value())?))
        });
        pairs.collect()
    }
}
