//! Certificates, made by the real `openssl` in a directory of the test's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use super::{aloud, variable};

/// A directory of certificates `NAME.pem` and their keys `NAME.key`.
#[derive(Debug)]
pub(crate) struct Certs(tempfile::TempDir);

/// What a certificate is for, as OpenSSL spells extensions.
const SERVER: &str = "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n\
                      subjectAltName=DNS:localhost,IP:127.0.0.1\n";
const CLIENT: &str = "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n";

/// What `openssl ca` wants to know before it sets a time in the past.
const DATABASE: &str = "[ca]\ndefault_ca=it\n[it]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\n\
                        default_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n";

impl Certs {
    /// An empty directory. Where there is no `openssl` all tests of TLS are skipped, loudly; with `CI=true` that is a
    /// failure.
    pub(crate) fn new() -> Option<Self> {
        static SAID: Once = Once::new();
        let found =
            Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
        if !found {
            let ci = variable("CI").is_some_and(|ci| ci == "true");
            assert!(!ci, "openssl is required, and not on this machine");
            SAID.call_once(|| aloud("SKIPPED: all tests over TLS. Install the command openssl"));
            return None;
        }
        Some(Self(tempfile::tempdir().expect("a temporary directory")))
    }

    /// All that most tests need: authorities `ca` and `stranger`; `server`; clients of `ca`: `writable`, `readonly`,
    /// `unlisted`, `expired`; `foreign` of the stranger's, and `selfmade` of its own.
    pub(crate) fn usual() -> Option<Self> {
        let certs = Self::new()?;
        certs.authority("ca");
        certs.authority("stranger");
        certs.server("server", "ca");
        for name in ["writable", "readonly", "unlisted"] {
            certs.client(name, "ca");
        }
        certs.client("foreign", "stranger");
        certs.expired("expired", "ca");
        // As `openssl req -x509` does it where nobody says otherwise: it may sign others.
        certs.authority("selfmade");
        Some(certs)
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        self.0.path()
    }

    /// The path of `NAME.pem`.
    pub(crate) fn pem(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.pem"))
    }

    /// The path of `NAME.key`.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.key"))
    }

    /// A path in the directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// One file of the certificates of these names, in the directory.
    pub(crate) fn bundle(&self, file: &str, names: &[&str]) -> PathBuf {
        let all: Vec<String> =
            names.iter().map(|name| std::fs::read_to_string(self.pem(name)).expect("PEM")).collect();
        let path = self.file(file);
        std::fs::write(&path, all.concat()).expect("a bundle");
        path
    }

    /// A certificate that has signed itself.
    pub(crate) fn authority(&self, name: &str) {
        let (key, pem, subject) = (format!("{name}.key"), format!("{name}.pem"), format!("/CN={name}"));
        self.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-keyout",
            &key,
            "-out",
            &pem,
            "-subj",
            &subject,
        ]);
    }

    /// A server's, for localhost and 127.0.0.1.
    pub(crate) fn server(&self, name: &str, authority: &str) {
        self.signed(name, authority, SERVER);
    }

    /// A client's.
    pub(crate) fn client(&self, name: &str, authority: &str) {
        self.signed(name, authority, CLIENT);
    }

    /// A client's that was good for a day, years ago.
    pub(crate) fn expired(&self, name: &str, authority: &str) {
        self.request(name);
        std::fs::write(self.file("ca.conf"), DATABASE).expect("a configuration");
        std::fs::write(self.file("index.txt"), "").expect("a database");
        let (csr, pem) = (format!("{name}.csr"), format!("{name}.pem"));
        let (ca, key) = (format!("{authority}.pem"), format!("{authority}.key"));
        let extensions = self.extensions(name, CLIENT);
        self.openssl(&[
            "ca",
            "-batch",
            "-notext",
            "-config",
            "ca.conf",
            "-in",
            &csr,
            "-out",
            &pem,
            "-cert",
            &ca,
            "-keyfile",
            &key,
            "-extfile",
            &extensions,
            "-startdate",
            "20200101000000Z",
            "-enddate",
            "20200102000000Z",
        ]);
    }

    fn signed(&self, name: &str, authority: &str, extensions: &str) {
        self.request(name);
        let (csr, pem) = (format!("{name}.csr"), format!("{name}.pem"));
        let (ca, key) = (format!("{authority}.pem"), format!("{authority}.key"));
        let extensions = self.extensions(name, extensions);
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &csr,
            "-out",
            &pem,
            "-CA",
            &ca,
            "-CAkey",
            &key,
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            &extensions,
        ]);
    }

    fn request(&self, name: &str) {
        let (key, csr, subject) = (format!("{name}.key"), format!("{name}.csr"), format!("/CN={name}"));
        self.openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &csr,
            "-subj",
            &subject,
        ]);
    }

    fn extensions(&self, name: &str, text: &str) -> String {
        let file = format!("{name}.ext");
        std::fs::write(self.file(&file), text).expect("extensions");
        file
    }

    /// # Panics
    /// Where it fails; with what it says.
    pub(crate) fn openssl(&self, args: &[&str]) {
        let output =
            Command::new("openssl").args(args).current_dir(self.dir()).output().expect("openssl runs");
        assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
