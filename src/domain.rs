//! The domain's door: [`Gateway`], every verb the service has, whatever protocol asks; and the domain's one error.
//!
//! Knows artifacts, entries and how they are spelled in the bucket; no header, no status, no SDK. Failures of the store are
//! logged here, where they are handled: what goes up is only their sort.

use std::sync::Arc;

use crate::payload::{BodyError, ReadError};
use crate::store::{self, PutError, Store};
use refresh::Refresh;
use wheels::folder::Folder;
use wheels::large::Places;

pub mod artifact;
pub mod digest;
pub mod entries;
pub mod glob;
pub mod layout;
pub mod manifest;
pub mod please;
pub mod reads;
pub mod refresh;
pub mod units;
pub mod wheels;
pub mod writes;

/// Everything that the service can do, over one store. Rights decide which facet of it a caller is given.
#[derive(Debug, Clone)]
pub struct Gateway {
    store: Store,
    large: Places,
    wheels: Wheels,
    folder: Option<Arc<Folder>>,
    refresh: Refresh,
}

/// What operators decide of the wheel cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wheels {
    /// Whether the shared index takes wheels with plain `linux_*` tags.
    pub linux_tags: bool,
    /// Whether the store is a folder full of distributions, which are the shared index as they lie there.
    pub folder: bool,
}

/// The verbs of readers.
#[derive(Debug, Clone)]
pub struct Reads {
    store: Store,
    folder: Option<Arc<Folder>>,
    refresh: Refresh,
}

/// The verbs of writers.
#[derive(Debug, Clone)]
pub struct Writes {
    store: Store,
    large: Places,
    wheels: Wheels,
    folder: Option<Arc<Folder>>,
    refresh: Refresh,
}

/// The verbs of admins.
#[derive(Debug, Clone)]
pub struct Erases {
    store: Store,
    folder: Option<Arc<Folder>>,
}

impl Gateway {
    /// The service over a store. Uses leave things as old as they are.
    pub fn new(store: Store, wheels: Wheels) -> Self {
        let folder = wheels.folder.then(|| Arc::new(Folder::new(store.clone())));
        Self { store, large: Places::default(), wheels, folder, refresh: Refresh::default() }
    }

    /// The same service, where uses of what is old are told.
    pub fn refreshing(self, refresh: Refresh) -> Self {
        Self { refresh, ..self }
    }

    /// The verbs of readers.
    pub fn reads(&self) -> Reads {
        Reads { store: self.store.clone(), folder: self.folder.clone(), refresh: self.refresh.clone() }
    }

    /// The verbs of writers.
    pub fn writes(&self) -> Writes {
        Writes {
            store: self.store.clone(),
            large: self.large.clone(),
            wheels: self.wheels,
            folder: self.folder.clone(),
            refresh: self.refresh.clone(),
        }
    }

    /// The verbs of admins.
    pub fn erases(&self) -> Erases {
        Erases { store: self.store.clone(), folder: self.folder.clone() }
    }
}

/// What sort of failure the store met; its cause is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Slow, throttling, unreachable: may pass.
    Unavailable,
    /// It refuses the gateway.
    Denied,
    /// What it holds is damaged.
    Corrupt,
}

/// Why a verb failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The sender's body was at fault; nothing was stored.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The name would have to be a file and a directory at once.
    #[error("the name is already a directory, or lies below a file")]
    Conflict,
    /// The name is so long that nothing can lie beside it.
    #[error("the name is too long for what would lie beside it")]
    Long,
    /// The store failed.
    #[error("the store failed")]
    Store(Fault),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        let fault = match error.kind {
            store::Kind::Conflict => return Self::Conflict,
            store::Kind::Unavailable => Fault::Unavailable,
            store::Kind::Denied => Fault::Denied,
            store::Kind::Corrupt => Fault::Corrupt,
        };
        tracing::error!(op = error.op.name(), key = %error.key, cause = %error.chain(), "the store failed");
        Self::Store(fault)
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        Self::Store(match error {
            ReadError::Broken => Fault::Unavailable,
            ReadError::Corrupt => Fault::Corrupt,
        })
    }
}

impl From<PutError> for Error {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Body(error) => Self::Body(error),
            PutError::Store(error) => error.into(),
        }
    }
}
