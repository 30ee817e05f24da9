//! TLS and client certificates: which files, and which of them go together.
//!
//! Reads none of them.

use std::path::PathBuf;

use super::Invalid;

/// The flags of TLS as they are given, each for itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// `--tls-cert`.
    pub cert: Option<PathBuf>,
    /// `--tls-key`.
    pub key: Option<PathBuf>,
    /// `--client-ca`.
    pub client_ca: Option<PathBuf>,
    /// `--writable-certs`.
    pub writable: Option<PathBuf>,
    /// `--readonly-certs`.
    pub readonly: Option<PathBuf>,
}

/// TLS on the main port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The server's certificate and those between it and its authority, PEM.
    pub cert: PathBuf,
    /// The certificate's private key, PEM.
    pub key: PathBuf,
    /// Whether clients may show certificates, and what these are held against.
    pub clients: Option<ClientCerts>,
}

/// Which certificates of clients mean something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCerts {
    /// All that an authority of this file has signed.
    Signed(PathBuf),
    /// Those that are listed.
    Listed(Lists),
}

/// Lists of certificates; at least one of the two is there. Each is a PEM file or a directory of such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lists {
    /// The authorities that have to have signed a listed certificate, where that is asked for.
    pub ca: Option<PathBuf>,
    /// Who may read and write.
    pub writable: Option<PathBuf>,
    /// Who may read.
    pub readonly: Option<PathBuf>,
}

impl TlsFiles {
    /// What they say together; `None` where there is to be no TLS.
    pub fn checked(self) -> Result<Option<TlsConfig>, Invalid> {
        let Self { cert, key, client_ca, writable, readonly } = self;
        let (cert, key) = match (cert, key) {
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => return Err(Invalid::TlsKey),
            (None, Some(_)) => return Err(Invalid::TlsCert),
            (None, None) => {
                let clients = [
                    ("--client-ca", client_ca),
                    ("--writable-certs", writable),
                    ("--readonly-certs", readonly),
                ];
                let given = clients.into_iter().find(|(_, path)| path.is_some());
                return given.map_or(Ok(None), |(flag, _)| Err(Invalid::ClientCerts(flag)));
            }
        };
        let clients = match (client_ca, writable, readonly) {
            (None, None, None) => None,
            (Some(ca), None, None) => Some(ClientCerts::Signed(ca)),
            (ca, writable, readonly) => Some(ClientCerts::Listed(Lists { ca, writable, readonly })),
        };
        Ok(Some(TlsConfig { cert, key, clients }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(flags: &str) -> Result<Option<TlsConfig>, Invalid> {
        let path = |letter: char| flags.contains(letter).then(|| PathBuf::from(letter.to_string()));
        let (cert, key, client_ca) = (path('c'), path('k'), path('a'));
        TlsFiles { cert, key, client_ca, writable: path('w'), readonly: path('r') }.checked()
    }

    #[test]
    fn files_go_together_or_say_what_is_missing() {
        assert_eq!(checked(""), Ok(None));
        assert_eq!(checked("c"), Err(Invalid::TlsKey));
        assert_eq!(checked("kw"), Err(Invalid::TlsCert));
        assert_eq!(checked("a"), Err(Invalid::ClientCerts("--client-ca")));
        assert_eq!(checked("wr"), Err(Invalid::ClientCerts("--writable-certs")));
        assert_eq!(checked("r"), Err(Invalid::ClientCerts("--readonly-certs")));
        let clients = |flags: &str| checked(flags).unwrap().unwrap().clients;
        assert_eq!(clients("ck"), None);
        assert_eq!(clients("cka"), Some(ClientCerts::Signed("a".into())));
        let lists = Lists { ca: None, writable: Some("w".into()), readonly: None };
        assert_eq!(clients("ckw"), Some(ClientCerts::Listed(lists)));
        let lists = Lists { ca: Some("a".into()), writable: None, readonly: Some("r".into()) };
        assert_eq!(clients("ckar"), Some(ClientCerts::Listed(lists)));
    }
}
