//! The client's side of TLS: whom it trusts, what it shows, which versions it speaks.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certs::Certs;

/// Both versions.
pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

/// How a client shakes hands. By default it trusts `ca`, shows nothing, and asks for no protocol.
#[derive(Debug, Clone)]
pub(crate) struct Hand<'a> {
    certs: &'a Certs,
    trusts: &'a str,
    shows: Option<(&'a str, &'a str)>,
    versions: &'a [&'static SupportedProtocolVersion],
    alpn: &'a [&'a [u8]],
}

impl<'a> Hand<'a> {
    pub(crate) fn new(certs: &'a Certs) -> Self {
        Self { certs, trusts: "ca", shows: None, versions: &VERSIONS, alpn: &[] }
    }

    /// Trusts servers of this authority alone.
    pub(crate) fn trusting(self, trusts: &'a str) -> Self {
        Self { trusts, ..self }
    }

    /// Shows this certificate.
    pub(crate) fn showing(self, name: &'a str) -> Self {
        Self { shows: Some((name, name)), ..self }
    }

    /// Shows one's certificate, and signs with another's key.
    pub(crate) fn stealing(self, certificate: &'a str, key: &'a str) -> Self {
        Self { shows: Some((certificate, key)), ..self }
    }

    /// Speaks these versions alone.
    pub(crate) fn versions(self, versions: &'a [&'static SupportedProtocolVersion]) -> Self {
        Self { versions, ..self }
    }

    /// Asks for these protocols.
    pub(crate) fn alpn(self, alpn: &'a [&'a [u8]]) -> Self {
        Self { alpn, ..self }
    }

    /// What rustls is to be told.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.certs.pem(self.trusts))).expect("an authority");
        let building = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match self.shows {
            None => building.with_no_client_auth(),
            Some((name, key)) => {
                let key = PrivateKeyDer::from_pem_file(self.certs.key(key)).expect("a key");
                let key = ring::sign::any_supported_type(&key).expect("a key of a known kind");
                let shown = CertifiedKey::new(vec![certificate(&self.certs.pem(name))], key);
                building.with_client_cert_resolver(Arc::new(Shown(Arc::new(shown))))
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

/// Shows its certificate whatever the server's hints are, as old clients do.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).expect("a certificate")
}

/// Shakes hands with whoever is at the other end and has to be `127.0.0.1`.
///
/// # Errors
/// Where either side does not want to. With TLS 1.3 the server's refusal comes later, with the first bytes read.
pub(crate) async fn connect(
    config: &Arc<ClientConfig>,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}
