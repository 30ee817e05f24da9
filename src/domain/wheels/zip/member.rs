//! One member of a zip archive: its header's values, and its data on their way through.

use crc_fast::{CrcAlgorithm, Digest};
use flate2::{Decompress, FlushDecompress, Status};

use super::records::FOLLOWS;
use super::{Pick, ZipError};

/// Most bytes of a wanted member.
const MOST: usize = 2 << 20;

/// Bytes that are unpacked at a time.
const STEP: usize = 16 << 10;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// What an archive says of a member, before it and in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) packed: u64,
    pub(super) unpacked: u64,
    /// Where its header begins.
    pub(super) offset: u64,
}

impl std::hash::Hash for Member {
    /// All but the flags: whether sizes follow may be said in one place and not in the other.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        (self.method, self.crc, self.packed, self.unpacked, self.offset).hash(state);
    }
}

impl Member {
    /// Whether its sizes follow its data.
    pub(super) const fn has_descriptor(&self) -> bool {
        self.flags & FOLLOWS != 0
    }
}

/// Data of a member.
pub(super) struct Data {
    pub(super) member: Member,
    what: &'static str,
    /// Packed bytes left, where that is known.
    left: Option<u64>,
    inflate: Option<Decompress>,
    crc: Option<Digest>,
    over: bool,
    /// Packed bytes so far.
    pub(super) packed: u64,
    /// Unpacked bytes so far, where it is unpacked.
    pub(super) unpacked: u64,
    /// The bytes, where they are wanted.
    pub(super) taken: Option<Vec<u8>>,
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Data").field("member", &self.member).field("left", &self.left).finish_non_exhaustive()
    }
}

impl Data {
    pub(super) fn new(member: Member, pick: Pick) -> Result<Self, ZipError> {
        let known = !member.has_descriptor() || member.packed > 0 || member.method == STORED;
        let taken = match pick {
            Pick::Take(what) => Some(what),
            Pick::Pass | Pick::Place | Pick::See(_) => None,
        };
        let read = taken.is_some() || !known;
        if read && ![STORED, DEFLATED].contains(&member.method) {
            return Err(ZipError::Method);
        }
        if let Some(what) = taken
            && member.unpacked > MOST as u64
        {
            return Err(ZipError::Large(what));
        }
        let left = known.then_some(member.packed);
        let inflate = (read && member.method == DEFLATED).then(|| Decompress::new(false));
        if left == Some(0) && inflate.is_some() {
            return Err(ZipError::Disagree);
        }
        Ok(Self {
            over: left == Some(0) && inflate.is_none(),
            what: taken.unwrap_or_default(),
            left,
            inflate,
            crc: read.then(|| Digest::new(CrcAlgorithm::Crc32IsoHdlc)),
            packed: 0,
            unpacked: 0,
            taken: taken.map(|_| Vec::new()),
            member,
        })
    }

    pub(super) const fn is_over(&self) -> bool {
        self.over
    }

    /// How much comes out of it, as far as is known.
    pub(super) fn unpacked(&self) -> u64 {
        match self.crc {
            Some(_) => self.unpacked,
            None if self.member.method == STORED => self.packed,
            None => self.member.unpacked,
        }
    }

    /// Takes from these bytes what is the member's, and says how much that was.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<usize, ZipError> {
        let most = self.left.map_or(bytes.len(), |left| {
            usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()))
        });
        let bytes = bytes.get(..most).unwrap_or_default();
        let used = match self.inflate.take() {
            Some(inflate) => self.inflate(inflate, bytes)?,
            None => {
                self.out(bytes)?;
                bytes.len()
            }
        };
        self.packed += used as u64;
        if let Some(left) = &mut self.left {
            *left -= used as u64;
            if *left == 0 {
                // A deflated member has to end where it was said to.
                if self.inflate.is_some() {
                    return Err(ZipError::Disagree);
                }
                self.over = true;
            } else if self.over {
                return Err(ZipError::Disagree);
            }
        }
        Ok(used)
    }

    fn inflate(&mut self, mut inflate: Decompress, bytes: &[u8]) -> Result<usize, ZipError> {
        let mut buffer = [0; STEP];
        let begun = inflate.total_in();
        loop {
            let used = usize::try_from(inflate.total_in() - begun).unwrap_or(usize::MAX);
            let rest = bytes.get(used..).unwrap_or_default();
            let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
            let status = inflate.decompress(rest, &mut buffer, FlushDecompress::None);
            let status = status.map_err(|_| ZipError::Disagree)?;
            let out = usize::try_from(inflate.total_out() - before_out).unwrap_or_default();
            self.out(buffer.get(..out).unwrap_or_default())?;
            let used = usize::try_from(inflate.total_in() - begun).unwrap_or(usize::MAX);
            if status == Status::StreamEnd {
                self.over = true;
                return Ok(used);
            }
            let stuck = out == 0 && inflate.total_in() == before_in;
            if stuck || (used == bytes.len() && out < STEP) {
                self.inflate = Some(inflate);
                return if used == bytes.len() { Ok(used) } else { Err(ZipError::Disagree) };
            }
        }
    }

    fn out(&mut self, bytes: &[u8]) -> Result<(), ZipError> {
        if let Some(crc) = &mut self.crc {
            crc.update(bytes);
            self.unpacked += bytes.len() as u64;
        }
        if let Some(taken) = &mut self.taken {
            if taken.len() + bytes.len() > MOST {
                return Err(ZipError::Large(self.what));
            }
            taken.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// The member, and its bytes where they are wanted, if it is what its header says.
    pub(super) fn check(self) -> Result<(Member, Option<Vec<u8>>), ZipError> {
        if let Some(crc) = self.crc {
            let agrees =
                crc.finalize() == u64::from(self.member.crc) && self.unpacked == self.member.unpacked;
            if !agrees || self.packed != self.member.packed {
                return Err(ZipError::Disagree);
            }
        }
        Ok((self.member, self.taken))
    }
}
