//! Connections that we open ourselves, to a bucket or to another Larder: plain, or over TLS and the machine's own root
//! certificates.
//!
//! A coin: who asks what over them, and how long an answer may take, is each room's own. Never sends anything.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, RootCertStore};

/// What opens connections of HTTP/1.1, each within so much time.
///
/// # Errors
/// Where `secure` ones are wanted and the machine's root certificates cannot be read.
pub fn connector(secure: bool, patience: Duration) -> io::Result<HttpsConnector<HttpConnector>> {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(patience));
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls(secure)?);
    Ok(builder.https_or_http().enable_http1().wrap_connector(tcp))
}

/// Reading the machine's root certificates takes longer than the rest of a start: not for plain HTTP.
fn tls(secure: bool) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let rooted = match secure {
        true => builder.with_native_roots()?,
        false => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(rooted.with_no_client_auth())
}
