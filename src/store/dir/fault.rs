//! What the file system's answers mean: the one table of error numbers. Never decides what to do about them.

use std::fmt;
use std::io;

use rustix::io::Errno;

use crate::store::{Error, Kind, Op};

/// A failure before it is known which verb and key it belongs to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The kernel would have to wait for the medium: to be asked again on the blocking pool. Never leaves this room.
    #[error("the answer is not in memory")]
    Again,
    /// What is stored is not what was put.
    #[error("{0}")]
    Corrupt(&'static str),
    /// File and directory at once.
    #[error("{0}")]
    Conflict(&'static str),
    /// The store's own directory is gone: not one of its keys is absent for that.
    #[error("the store's directory is not there")]
    Gone,
    /// The caller left before the commit.
    #[error("nobody waits for this any more")]
    Left,
    /// The file system's own words.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Fault {
    fn kind(&self) -> Kind {
        match self {
            Self::Again | Self::Gone | Self::Left => Kind::Unavailable,
            Self::Corrupt(_) => Kind::Corrupt,
            Self::Conflict(_) => Kind::Conflict,
            Self::Io(error) => kind(error),
        }
    }

    /// The failure as the store's callers see it.
    pub(super) fn at(self, op: Op, key: impl fmt::Display) -> Error {
        let kind = self.kind();
        match self {
            Self::Io(error) => Error::new(kind, op, key, error),
            other @ (Self::Again | Self::Corrupt(_) | Self::Conflict(_) | Self::Gone | Self::Left) => {
                Error::new(kind, op, key, other)
            }
        }
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Refusals that last until an operator acts. `EXDEV`: part of the tree lies on another file system.
const DENIED: [Errno; 5] = [Errno::ACCESS, Errno::PERM, Errno::ROFS, Errno::XDEV, Errno::NAMETOOLONG];

/// The file system found its own structures damaged.
#[cfg(target_os = "linux")]
const CORRUPT: [Errno; 2] = [Errno::BADMSG, Errno::UCLEAN];
#[cfg(not(target_os = "linux"))]
const CORRUPT: [Errno; 1] = [Errno::BADMSG];

/// The number of an error, where it has one: what passed through `tempfile` has only a kind.
pub(super) fn number(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

/// Whether an error is one of these.
pub(super) fn is_one(error: &io::Error, of: &[Errno]) -> bool {
    number(error).is_some_and(|errno| of.contains(&errno))
}

/// Whether opening a file for reading failed because there is no such object: no such name, an object where a
/// directory would have to be, a name too long to exist, a socket.
pub(super) fn absent(error: &io::Error) -> bool {
    is_one(error, &[Errno::NOENT, Errno::NOTDIR, Errno::NAMETOOLONG, Errno::NXIO])
}

/// All that is neither a refusal nor damage may pass: full, over quota, out of descriptors or memory, a medium that
/// fails (`EIO`), a stale network mount, whatever is unknown.
fn kind(error: &io::Error) -> Kind {
    let refused = matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem);
    if refused || is_one(error, &DENIED) {
        Kind::Denied
    } else if is_one(error, &CORRUPT) {
        Kind::Corrupt
    } else {
        Kind::Unavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_kinds() {
        for (errno, expected) in [
            (Errno::ACCESS, Kind::Denied),
            (Errno::PERM, Kind::Denied),
            (Errno::ROFS, Kind::Denied),
            (Errno::XDEV, Kind::Denied),
            (Errno::BADMSG, Kind::Corrupt),
            (Errno::IO, Kind::Unavailable),
            (Errno::NOSPC, Kind::Unavailable),
            (Errno::DQUOT, Kind::Unavailable),
            (Errno::MFILE, Kind::Unavailable),
            (Errno::STALE, Kind::Unavailable),
            (Errno::LOOP, Kind::Unavailable),
        ] {
            assert_eq!(Fault::from(errno).kind(), expected, "{errno}");
            assert!(!absent(&errno.into()), "{errno}");
        }
        assert_eq!(kind(&io::ErrorKind::PermissionDenied.into()), Kind::Denied);
        assert!(absent(&Errno::NOENT.into()));
    }
}
