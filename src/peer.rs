//! Who is at the other end of a connection, as far as a certificate tells; and certificates out of PEM files.
//!
//! A coin: `server` finds out whose key a peer has, `front::auth` decides what that is worth. Never decides what
//! anybody may do, and reads no file.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::server::ParsedCertificate;

/// The certificate of a peer that has proved to have its key. Travels as an extension of each request.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Arc<[u8]>,
    signed: bool,
}

/// That a request came over TLS. Travels as an extension of each that did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encrypted;

impl Certificate {
    /// A certificate that an authority of ours has signed.
    pub fn signed(der: &[u8]) -> Self {
        Self { der: der.into(), signed: true }
    }

    /// A certificate that nobody vouches for: anybody can make one, so it has to be known itself.
    pub fn unsigned(der: &[u8]) -> Self {
        Self { der: der.into(), signed: false }
    }

    /// All of its bytes.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether an authority of ours has signed it.
    pub fn is_signed(&self) -> bool {
        self.signed
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("signed", &self.signed).finish_non_exhaustive()
    }
}

/// Why a file gives no certificates. Says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The file is not PEM, or is damaged.
    #[error("is damaged, or not PEM ({0}): certificates in DER become PEM with openssl x509 -inform der")]
    Damaged(pem::Error),
    /// Nothing in it, or other things.
    #[error("holds no certificate: one begins with -----BEGIN CERTIFICATE-----")]
    Nothing,
    /// In PEM, but nothing that TLS can use.
    #[error(
        "certificate {number} cannot be used ({why}): it has to be X.509 version 3, which \
         openssl x509 -req makes of it with -extfile"
    )]
    Unusable {
        /// Which of the file, counted from 1.
        number: usize,
        /// What is wrong.
        why: rustls::Error,
    },
}

/// All certificates of a PEM file, in its order. What else the file holds is passed over.
///
/// # Errors
/// Where it holds none, or a damaged one.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(PemError::Damaged)?;
    if all.is_empty() { Err(PemError::Nothing) } else { Ok(all) }
}

/// As [`certificates`], where each can be shown by a peer, which authorities need not be.
///
/// # Errors
/// As there, and where a handshake with one of them could never succeed.
pub fn usable_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let all = certificates(pem)?;
    for (before, certificate) in all.iter().enumerate() {
        let parsed = ParsedCertificate::try_from(certificate);
        drop(parsed.map_err(|why| PemError::Unusable { number: before + 1, why })?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            prop_assert!(certificates(&bytes).is_err());
            let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(&bytes));
            let read = certificates(pem.as_bytes()).unwrap();
            prop_assert_eq!(read[0].as_ref(), &bytes[..]);
            prop_assert!(usable_certificates(pem.as_bytes()).is_err());
        }
    }

    #[test]
    fn what_is_no_certificate_says_what_to_do() {
        let said = |text: &str| certificates(text.as_bytes()).unwrap_err().to_string();
        assert!(said("").contains("holds no certificate"));
        assert!(said("-----BEGIN X-----\nAA==\n-----END X-----\n").contains("holds no certificate"));
        assert!(said("-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n").contains("damaged"));
        assert!(said("-----BEGIN CERTIFICATE-----\nAAAA\n").contains("damaged"));
    }
}
