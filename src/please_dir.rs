//! A Please directory cache: the tree that Please itself keeps on one machine, kept small, or sent to a shared cache.
//!
//! Side jobs of the command line. The tree is Please's, not Larder's: no store holds it, no gateway serves it, and Please
//! reads and writes it at the same time by rules of its own. So this room touches the file system itself, as
//! [`crate::store`]'s directory does for objects: a store would follow links, prune directories and name files by its own
//! rules, and each of these would be wrong here. It names no store, no front, and nothing of the gateway.
//!
//! - `name`, `plan`: what names mean; what goes, in which order, and what that frees. Pure.
//! - `at`, `measure`, `walk`: reading the tree, relative to open directories.
//! - `remove`, [`sweep()`]: taking entries away.
//! - `content`, `archive`, [`push()`]: an entry's files on their way to a shared cache.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::client;

pub use plan::Marks;
pub use push::{Push, Pushed, push};
pub use sweep::{Sweep, Swept, sweep};

mod archive;
mod at;
mod content;
mod measure;
mod name;
mod plan;
mod push;
mod remove;
mod sweep;
mod walk;

/// Why a job on a directory cache did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory itself.
    #[error("{} cannot be read", path.display())]
    Place {
        /// As it was given.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Everything that could go has gone.
    #[error("the mark is not reached: {left} bytes are left")]
    Unreached {
        /// Size of the tree now.
        left: u64,
    },
    /// Some entries are not, or not whole, in the shared cache; each was named when it failed.
    #[error("{0} entries could not be pushed")]
    Unpushed(u64),
    /// The shared cache.
    #[error(transparent)]
    Client(#[from] client::Error),
    /// Standard output.
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
}

/// The last second that RFC 3339 can write.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// RFC 3339, UTC, whole seconds.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}
