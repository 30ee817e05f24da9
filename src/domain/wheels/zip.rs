//! A zip archive, walked from its first byte to its last as it arrives: member by member, then the directory, then the
//! end. Nothing is held but one header at a time and the members that are wanted.
//!
//! Stricter than an unpacker must be: members and directory have to say the same, without gaps and without anything
//! before, between or behind, so that no two readers of the archive can see two different ones. Only wanted members, and
//! those whose length is told behind them, are unpacked. Never writes.

use std::hash::{BuildHasher as _, RandomState};

use self::member::{Data, Member};
use self::records::{Descriptor, Record};

mod member;
mod records;

/// Why an archive is not taken. Each prints as one line that a client may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ZipError {
    /// Does not begin like one.
    #[error("the file is no zip archive")]
    NoZip,
    /// Ends early.
    #[error("the zip archive is cut off")]
    Cut,
    /// A header that makes no sense, or an offset that leads elsewhere.
    #[error("the zip archive is damaged, or its members and its directory disagree")]
    Disagree,
    /// Something behind the end.
    #[error("there is something behind the end of the zip archive")]
    Trailing,
    /// An absolute name, `..`, a backslash, a control character, not UTF-8.
    #[error("a member of the archive has a name that is absolute, leads upwards or is not plain")]
    Name,
    /// Encrypted.
    #[error("a member of the archive is encrypted")]
    Encrypted,
    /// Neither stored nor deflated, where that has to be read.
    #[error("a member of the archive is compressed in a way that is not read here")]
    Method,
    /// Unpacks to far more than it is.
    #[error("the archive unpacks to more than a hundred times its size")]
    Bomb,
    /// A wanted member beyond its limit.
    #[error("{0} in the archive is larger than 2 MiB")]
    Large(&'static str),
    /// A wanted member that is there twice.
    #[error("the archive has more than one {0}")]
    Twice(&'static str),
    /// Wanted members in more than one directory.
    #[error("the archive has more than one directory of metadata")]
    Places,
    /// A name that is there twice: some readers take the first, others the last.
    #[error("the archive has two members of one name")]
    SameName,
    /// Too many members.
    #[error("the archive has more than {MOST_MEMBERS} members")]
    Many,
}

/// Most members of an archive: eight bytes are kept of each.
const MOST_MEMBERS: usize = 100_000;

/// Bytes kept of members' names that count as held: an archive of so many members is rare.
const FREE_NAMES: usize = 128 << 10;

/// Bytes that are walked at a time: what comes out of them is bounded before the next ones.
const STEP: usize = 16 << 10;

/// Unpacked bytes that no archive is refused for, however small it is.
const HARMLESS: u64 = 64 << 20;

/// How many times its own size an archive may unpack to.
const RATIO: u64 = 100;

/// Whether so many bytes may come out of so many.
pub(super) fn is_bomb(unpacked: u64, packed: u64) -> bool {
    unpacked > HARMLESS && unpacked / RATIO > packed
}

/// What a member is to the reader of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick {
    /// Nothing.
    Pass,
    /// Only where it lies counts.
    Place,
    /// Its presence counts.
    See(&'static str),
    /// Its bytes are wanted.
    Take(&'static str),
}

/// Tells of a member's name what it is.
pub(super) type Choose = fn(&str) -> Pick;

/// What was wanted.
#[derive(Debug, Default)]
pub(super) struct Picked {
    /// Members whose presence counts.
    pub(super) seen: Vec<&'static str>,
    /// Members whose bytes are wanted: what it is, its whole name, its bytes.
    pub(super) taken: Vec<(&'static str, String, Vec<u8>)>,
    /// The one directory at the top that all of them lie in, and whatever else counts.
    pub(super) place: Option<String>,
}

#[derive(Debug)]
enum State {
    /// Between two records; `true` once the directory has begun.
    Record { directory: bool },
    /// In a member's data.
    Data(Box<Data>),
    /// Behind a member's data, where its sizes follow.
    Descriptor(Box<Data>),
    /// Behind the last byte.
    Done,
}

/// An archive under way.
#[derive(Debug)]
pub(super) struct Zip {
    choose: Choose,
    state: State,
    /// The beginning of a record.
    pending: Vec<u8>,
    /// Offset of what comes next but for `pending`.
    offset: u64,
    /// Where the directory begins, and where the end in 64 bits does.
    directory: u64,
    end64: Option<u64>,
    located: bool,
    members: u64,
    listed: u64,
    packed: u64,
    unpacked: u64,
    /// Sum over all members, less the sum over all lines of the directory: of the same ones if it comes to 0, for
    /// nobody outside knows the hash's key.
    balance: u64,
    keyed: RandomState,
    /// Of each member's name its hash.
    names: Vec<u64>,
    /// Whether the directory's last line ends in what looks like the locator of a directory elsewhere.
    lures: bool,
    picked: Picked,
}

impl Zip {
    pub(super) fn new(choose: Choose) -> Self {
        Self {
            choose,
            state: State::Record { directory: false },
            pending: Vec::new(),
            offset: 0,
            directory: 0,
            end64: None,
            located: false,
            members: 0,
            listed: 0,
            packed: 0,
            unpacked: 0,
            balance: 0,
            keyed: RandomState::new(),
            names: Vec::new(),
            lures: false,
            picked: Picked::default(),
        }
    }

    /// Bytes of wanted members held so far, and of a great many names.
    pub(super) fn held(&self) -> usize {
        let names = (size_of::<u64>() * self.names.capacity()).saturating_sub(FREE_NAMES);
        let under_way = match &self.state {
            State::Data(data) | State::Descriptor(data) => data.taken.as_ref().map_or(0, Vec::len),
            State::Record { .. } | State::Done => 0,
        };
        names + under_way + self.picked.taken.iter().map(|(.., bytes)| bytes.len()).sum::<usize>()
    }

    /// The next bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), ZipError> {
        while !bytes.is_empty() {
            let state = std::mem::replace(&mut self.state, State::Done);
            self.state = match state {
                State::Done => return Err(ZipError::Trailing),
                State::Data(data) => self.data(data, &mut bytes)?,
                State::Descriptor(data) => self.descriptor(data, &mut bytes)?,
                State::Record { directory } => self.record(directory, &mut bytes)?,
            };
            // A member without data waits for nothing.
            if let State::Data(data) = &self.state
                && data.is_over()
            {
                let State::Data(data) = std::mem::replace(&mut self.state, State::Done) else { continue };
                self.state = self.behind(data)?;
            }
        }
        Ok(())
    }

    /// What was wanted, once all bytes have been pushed.
    pub(super) fn finish(self) -> Result<Picked, ZipError> {
        match self.state {
            State::Done => Ok(self.picked),
            State::Record { .. } if self.offset == 0 && self.pending.len() < 4 => Err(ZipError::NoZip),
            State::Record { .. } | State::Data(_) | State::Descriptor(_) => Err(ZipError::Cut),
        }
    }

    fn data(&mut self, mut data: Box<Data>, bytes: &mut &[u8]) -> Result<State, ZipError> {
        let used = data.push(bytes.get(..STEP).unwrap_or(bytes))?;
        self.offset += used as u64;
        *bytes = bytes.get(used..).unwrap_or_default();
        if is_bomb(self.unpacked.saturating_add(data.unpacked), self.packed.saturating_add(data.packed)) {
            return Err(ZipError::Bomb);
        }
        if data.is_over() { self.behind(data) } else { Ok(State::Data(data)) }
    }

    /// A member's data are over.
    fn behind(&mut self, data: Box<Data>) -> Result<State, ZipError> {
        if data.member.has_descriptor() { Ok(State::Descriptor(data)) } else { self.member(*data) }
    }

    fn descriptor(&mut self, mut data: Box<Data>, bytes: &mut &[u8]) -> Result<State, ZipError> {
        if !self.gather(Descriptor::MOST, bytes) {
            return Ok(State::Descriptor(data));
        }
        let sizes = (data.packed, data.unpacked());
        let found = Descriptor::parse(&self.pending, sizes).ok_or(ZipError::Disagree)?;
        self.pending.drain(..found.length);
        self.offset += found.length as u64;
        (data.member.crc, data.member.packed, data.member.unpacked) = (found.crc, sizes.0, sizes.1);
        self.member(*data)
    }

    /// A member is whole.
    fn member(&mut self, data: Data) -> Result<State, ZipError> {
        let pick = (self.choose)(&data.member.name);
        let member = data.check()?;
        self.members += 1;
        if self.names.len() >= MOST_MEMBERS {
            return Err(ZipError::Many);
        }
        self.names.push(self.keyed.hash_one(&member.0.name));
        self.packed = self.packed.saturating_add(member.0.packed);
        self.unpacked = self.unpacked.saturating_add(member.0.unpacked);
        if is_bomb(self.unpacked, self.packed) {
            return Err(ZipError::Bomb);
        }
        self.balance = self.balance.wrapping_add(self.keyed.hash_one(&member.0));
        let top = member.0.name.split('/').next().filter(|_| pick != Pick::Pass).map(str::to_owned);
        match pick {
            Pick::Pass | Pick::Place => {}
            Pick::See(what) if self.picked.seen.contains(&what) => return Err(ZipError::Twice(what)),
            Pick::See(what) => self.picked.seen.push(what),
            Pick::Take(what) => {
                if self.picked.taken.iter().any(|(known, ..)| *known == what) {
                    return Err(ZipError::Twice(what));
                }
                self.picked.taken.push((what, member.0.name, member.1.unwrap_or_default()));
            }
        }
        if let Some(top) = top
            && *self.picked.place.get_or_insert_with(|| top.clone()) != top
        {
            return Err(ZipError::Places);
        }
        Ok(State::Record { directory: false })
    }

    fn record(&mut self, directory: bool, bytes: &mut &[u8]) -> Result<State, ZipError> {
        loop {
            let need = records::length(&self.pending, self.offset)?;
            if self.pending.len() >= need {
                break;
            }
            if !self.gather(need, bytes) {
                return Ok(State::Record { directory });
            }
        }
        let begins = self.offset;
        let record = records::parse(&self.pending)?;
        let lures = std::mem::replace(&mut self.lures, records::lures(&self.pending));
        self.offset += self.pending.len() as u64;
        self.pending.clear();
        match record {
            Record::Local(member) if !directory => {
                let pick = (self.choose)(&member.name);
                Ok(State::Data(Box::new(Data::new(member.at(begins), pick)?)))
            }
            Record::Listed(member) if self.end64.is_none() => {
                if !directory {
                    self.directory = begins;
                    self.named_once()?;
                }
                self.listed += 1;
                self.balance = self.balance.wrapping_sub(self.keyed.hash_one(&member));
                Ok(State::Record { directory: true })
            }
            Record::End64(said) if directory && self.end64.is_none() => {
                self.ends(said, begins)?;
                self.end64 = Some(begins);
                Ok(State::Record { directory: true })
            }
            Record::Locator(at) if self.end64 == Some(at) && !self.located => {
                self.located = true;
                Ok(State::Record { directory: true })
            }
            Record::End(said) if directory => {
                let wide =
                    self.end64.is_some() == self.located && (self.located || !(said.is_partial() || lures));
                self.ends(said, self.end64.unwrap_or(begins))?;
                if wide { Ok(State::Done) } else { Err(ZipError::Disagree) }
            }
            Record::Local(_) | Record::Listed(_) | Record::Locator(_) | Record::End64(_) | Record::End(_) => {
                Err(ZipError::Disagree)
            }
        }
    }

    /// Holds every member to a name of its own, once all of them are known.
    fn named_once(&mut self) -> Result<(), ZipError> {
        let mut names = std::mem::take(&mut self.names);
        names.sort_unstable();
        if names.array_windows().any(|[a, b]| a == b) { Err(ZipError::SameName) } else { Ok(()) }
    }

    /// Whether an end says what has been seen: the directory over, and of the same members.
    fn ends(&self, said: records::Directory, at: u64) -> Result<(), ZipError> {
        let size = at.saturating_sub(self.directory);
        let same = self.members == self.listed && self.balance == 0;
        if same && said.is(self.members, size, self.directory) { Ok(()) } else { Err(ZipError::Disagree) }
    }

    /// Takes bytes over into `pending` until there are `need`. Whether there are.
    fn gather(&mut self, need: usize, bytes: &mut &[u8]) -> bool {
        let room = need.saturating_sub(self.pending.len()).min(bytes.len());
        let (now, rest) = bytes.split_at(room);
        self.pending.extend_from_slice(now);
        *bytes = rest;
        self.pending.len() >= need
    }
}

impl Member {
    const fn at(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }
}

#[cfg(test)]
mod tests;
