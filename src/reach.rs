//! Connections that we open ourselves, to a bucket or to another Larder: plain, or over TLS and the machine's own root
//! certificates, or those in a file.
//!
//! A coin: who asks what over them, and how long an answer may take, is each room's own. Never sends anything.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Whose word counts on who the other side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorities<'p> {
    /// Nobody's: for connections without TLS.
    None,
    /// The machine's own root certificates.
    Machine,
    /// Those in this PEM file, and no others.
    File(&'p Path),
}

/// What opens connections of HTTP/1.1, each within so much time.
///
/// # Errors
/// Where the authorities' certificates cannot be read, or there are none.
pub fn connector(
    authorities: Authorities<'_>,
    patience: Duration,
) -> io::Result<HttpsConnector<HttpConnector>> {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(patience));
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls(authorities)?);
    Ok(builder.https_or_http().enable_http1().wrap_connector(tcp))
}

/// Reading the machine's root certificates takes longer than the rest of a start: not for plain HTTP.
fn tls(authorities: Authorities<'_>) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let rooted = match authorities {
        Authorities::None => builder.with_root_certificates(RootCertStore::empty()),
        Authorities::Machine => builder.with_native_roots()?,
        Authorities::File(path) => builder.with_root_certificates(roots(path)?),
    };
    Ok(rooted.with_no_client_auth())
}

fn roots(path: &Path) -> io::Result<RootCertStore> {
    let named = |why: &dyn std::fmt::Display| io::Error::other(format!("{}: {why}", path.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| named(&error))? {
        roots.add(certificate.map_err(|error| named(&error))?).map_err(|error| named(&error))?;
    }
    if roots.is_empty() { Err(named(&"no certificates in it")) } else { Ok(roots) }
}
