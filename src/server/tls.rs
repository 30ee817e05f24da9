//! What TLS is spoken with: certificate, key and authorities, read again when their files change.
//!
//! Connections keep what they were opened with. Finds out which certificate a peer has, never what it may do.

mod verifier;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerConfig, WebPkiClientVerifier};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::verifier::KeyHolder;
use crate::peer::{self, Certificate};
use crate::watch::{Place, Read, WatchError, Watched};

/// What is offered to clients that ask (ALPN), the better one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The server's certificate and those between it and its authority, PEM.
    pub cert: PathBuf,
    /// The certificate's private key, PEM.
    pub key: PathBuf,
    /// Which certificates of clients are taken.
    pub clients: Clients,
}

/// Which certificates a client may show. None has to show one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clients {
    /// None are asked for.
    Unasked,
    /// Those that an authority of this PEM file has signed; a client that shows another one is turned away.
    Signed(PathBuf),
    /// Any that is not out of date: whether one means something is for others to know.
    Any,
}

/// TLS as it is spoken now. Clones are the same files.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Watched<ServerConfig>,
    signed: bool,
}

impl Tls {
    /// Reads the files for the first time. Blocks.
    ///
    /// # Errors
    /// Where one is not to be read, is no PEM, or the key is another certificate's; with what to do.
    pub fn open(files: Files) -> Result<Self, WatchError> {
        let Files { cert, key, clients } = files;
        let mut places = vec![Place::File(cert), Place::File(key)];
        let signed = match &clients {
            Clients::Signed(ca) => {
                places.push(Place::File(ca.clone()));
                true
            }
            Clients::Unasked | Clients::Any => false,
        };
        let any = clients == Clients::Any;
        let config = Watched::open_all(places, move |files| config(files, any))?;
        Ok(Self { config, signed })
    }

    /// Looks after the files until told to stop.
    pub fn watch(&self, tasks: &TaskTracker, stop: CancellationToken) {
        self.config.watch(tasks, stop);
    }

    /// Reads the files now; see [`Watched::reload_now`].
    ///
    /// # Errors
    /// Where they cannot be taken up: the state before stays.
    pub fn reload_now(&self) -> Result<bool, WatchError> {
        self.config.reload_now()
    }

    /// For one handshake, with what is current.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.current())
    }

    /// A peer's certificate after a handshake.
    pub(super) fn certificate(&self, der: &[u8]) -> Certificate {
        if self.signed { Certificate::signed(der) } else { Certificate::unsigned(der) }
    }
}

/// Certificate, key, and authorities where there is a third file.
fn config(files: &[Read], any: bool) -> Result<ServerConfig, WatchError> {
    let [cert, key, authorities @ ..] = files else { unreachable!("each of the places is one file") };
    let provider = Arc::new(ring::default_provider());
    let unusable = |file: &Read, why: &dyn std::fmt::Display| WatchError::unparsable(&file.path, why);
    let chain = peer::certificates(&cert.bytes).map_err(|error| unusable(cert, &error))?;
    let secret = PrivateKeyDer::from_pem_slice(&key.bytes).map_err(|error| unusable(key, &no_key(&error)))?;
    let versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| unusable(cert, &error))?;
    let verifier = match authorities.first() {
        Some(ca) => Some(signed(ca, provider)?),
        None if any => Some(Arc::new(KeyHolder::new(&provider)) as Arc<dyn ClientCertVerifier>),
        None => None,
    };
    let asking = verifier.is_some();
    let clients = match verifier {
        Some(verifier) => versions.with_client_cert_verifier(verifier),
        None => versions.with_no_client_auth(),
    };
    let mut config =
        clients.with_single_cert(chain, secret).map_err(|error| do_not_fit(cert, key, &error))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    if asking {
        // A resumed session would bring back a certificate that is no longer looked at.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// Why a certificate and a key cannot be used, and which of the two it is.
fn do_not_fit(cert: &Read, key: &Read, error: &rustls::Error) -> WatchError {
    let of = cert.path.display();
    if matches!(error, rustls::Error::InconsistentKeys(_)) {
        let advice = format!("is not the key of {of}: name a certificate and its own key");
        WatchError::unparsable(&key.path, advice)
    } else if matches!(error, rustls::Error::InvalidCertificate(_)) {
        let advice = "a server's certificate is X.509 version 3";
        WatchError::unparsable(&cert.path, format!("cannot be used ({error}): {advice}"))
    } else {
        let advice = "keys are RSA of 2048 bits and more, ECDSA of P-256 or P-384, or Ed25519";
        WatchError::unparsable(&key.path, format!("cannot be used ({error}): {advice}"))
    }
}

fn no_key(error: &pem::Error) -> String {
    format!(
        "holds no private key that can be read ({error}): one begins with -----BEGIN PRIVATE KEY-----, and has no password"
    )
}

fn signed(ca: &Read, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, WatchError> {
    let mut roots = RootCertStore::empty();
    let unusable = |error: &dyn std::fmt::Display| WatchError::unparsable(&ca.path, error);
    for certificate in peer::certificates(&ca.bytes).map_err(|error| unusable(&error))? {
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    verifier.allow_unauthenticated().build().map_err(|error| unusable(&error))
}
