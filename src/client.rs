//! The client of a shared cache: asks a Larder, or whatever speaks the same protocol, over HTTP.
//!
//! Speaks the protocols from their other side and so names neither the front nor a store: only what artifacts are called.
//! Reads no file and no environment but the certificates of authorities; what it sends it is handed as [`Content`].

pub use address::{Address, AddressError, Credentials};
pub use artifacts::Artifacts;
pub use content::{Chunks, Content};

mod address;
mod artifacts;
mod content;

use http::StatusCode;

/// Why the cache did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or one that broke, each time it was tried.
    #[error("{server} cannot be reached")]
    Unreachable {
        /// Who was asked, without credentials.
        server: String,
        /// What went wrong last.
        source: Cause,
    },
    /// Something else answers there.
    #[error("{server} is no artifact cache: /ping was answered {status}")]
    Stranger {
        /// Who was asked, without credentials.
        server: String,
        /// What it said.
        status: StatusCode,
    },
    /// The credentials, or that there are none.
    #[error("{server} refuses: {status}; say who is asking with --user, or in the URL")]
    Refused {
        /// Who was asked, without credentials.
        server: String,
        /// 401 or 403.
        status: StatusCode,
    },
    /// Another answer than this question has.
    #[error("answered {status}{}", said(text))]
    Status {
        /// What it said.
        status: StatusCode,
        /// The first line of its explanation, printable.
        text: String,
    },
    /// What was to be sent could not be read.
    #[error("cannot be read whole")]
    Content(#[source] Cause),
    /// No TLS on this machine.
    #[error("TLS cannot be set up")]
    Tls(#[source] std::io::Error),
}

/// What went wrong underneath.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Error {
    /// Whether every other question would be answered alike.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Stranger { .. } | Self::Refused { .. } | Self::Tls(_) => true,
            Self::Status { .. } | Self::Content(_) => false,
        }
    }
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
