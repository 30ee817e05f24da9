//! The store's one error: branch on its kind, print the rest.

use std::fmt;

/// What sort of failure a store met. Absence is none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Slow, throttling, unreachable, full: the same call may succeed later.
    Unavailable,
    /// The store refuses *us*: credentials, permissions, a bucket that is not there.
    Denied,
    /// The key would have to be an object and a directory at once.
    Conflict,
    /// What is stored fails its checksum, or the store broke its protocol.
    Corrupt,
}

/// A verb of the store, as it is named in errors and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// Reading an object.
    Get,
    /// Asking about an object.
    Head,
    /// Writing an object.
    Put,
    /// Removing objects.
    Delete,
    /// Listing keys.
    List,
    /// Refreshing an object's age.
    Touch,
    /// Removing what broken uploads left.
    Reap,
    /// Asking whether the store is there.
    Probe,
    /// Reading or replacing a bucket's own rules.
    Lifecycle,
}

impl Op {
    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Touch => "touch",
            Self::Reap => "reap",
            Self::Probe => "probe",
            Self::Lifecycle => "lifecycle",
        }
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A failure of the store: what was asked of which key, what sort of failure, and its cause.
pub struct Error {
    /// What callers branch on.
    pub kind: Kind,
    /// The verb that failed.
    pub op: Op,
    /// The key or prefix it was about; empty where it was about the whole store.
    pub key: String,
    source: Option<Cause>,
}

impl Error {
    /// A failure with its cause.
    pub fn new(kind: Kind, op: Op, key: impl fmt::Display, source: impl Into<Cause>) -> Self {
        Self { kind, op, key: key.to_string(), source: Some(source.into()) }
    }

    /// The whole chain of causes on one line, for a log.
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            line.push_str(": ");
            line.push_str(&cause.to_string());
            next = cause.source();
        }
        line
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Unavailable => "the store is unavailable",
            Kind::Denied => "the store refused",
            Kind::Conflict => "the key is already a directory, or lies below an object",
            Kind::Corrupt => "the store gave back something else than was stored",
        };
        write!(f, "{what} ({} {:?})", self.op.name(), self.key)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.chain())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}

/// Why a put did not happen: the sender broke off, or the store failed.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The body was at fault; nothing was stored.
    #[error(transparent)]
    Body(#[from] crate::payload::BodyError),
    /// The store was at fault.
    #[error(transparent)]
    Store(#[from] Error),
}
