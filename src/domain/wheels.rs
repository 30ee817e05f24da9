//! The wheel cache: distributions, the indexes that list them, and how they are taken in and told of.
//!
//! A file lies under its own name, its metadata beside it, and its record, written last, says that it is there: whoever
//! lists the records of a project has its page. Bytes under a name never change: of several writers one wins, and whoever
//! comes upon a file whose record is missing writes that record for him. Never asks a package index elsewhere.

pub mod build;
mod commit;
pub mod filename;
mod files;
pub(super) mod folder;
pub mod inspect;
pub(super) mod large;
pub mod manage;
pub mod metadata;
pub mod name;
pub mod pages;
pub mod query;
pub mod record;
pub mod tar;
pub mod upload;
pub mod zip;

pub use build::{BuildInputs, BuildKey, BuildKeyError};
pub use filename::{DistributionFilename, FilenameError};
pub use inspect::Beside;
pub use manage::{Reason, ReasonError};
pub use name::{EnvironmentId, IndexName, NameError, ProjectName};
pub use pages::{Entry, Page, Shelf};
pub use query::{Query, QueryError};
pub use record::Record;
pub use upload::{Claims, Landed, Offer, Refused, UploadError};
