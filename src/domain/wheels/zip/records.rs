//! The records of a zip archive (PKWARE's APPNOTE 6.3), as bytes to values: how long each is, and what it says.
//!
//! Archives of several volumes and encrypted directories are none here.

use super::ZipError;
use super::member::Member;

const LOCAL: [u8; 4] = *b"PK\x03\x04";
const LISTED: [u8; 4] = *b"PK\x01\x02";
const END64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR: [u8; 4] = *b"PK\x06\x07";
const END: [u8; 4] = *b"PK\x05\x06";
const DESCRIPTOR: [u8; 4] = *b"PK\x07\x08";

/// Stands for a value that is in the extra field, in 64 bits.
const ELSEWHERE: u32 = u32::MAX;

/// The extra field that holds such values.
const ZIP64: u16 = 1;

/// The extra field that holds the member's name once more, in UTF-8 (Info-ZIP's "Unicode Path").
const NAME: u16 = 0x7075;

/// Bytes before that name: a version, and a checksum of the name in the header.
const BEFORE_NAME: usize = 5;

/// Most bytes of a member's name.
const MOST_NAME: usize = 4096;

/// Most bytes of the 64-bit end: 56, and whatever its writer added.
const MOST_END64: u64 = 4096;

/// The flags of an encrypted member, and that of one whose sizes follow it.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
pub(super) const FOLLOWS: u16 = 1 << 3;

/// A record.
#[derive(Debug)]
pub(super) enum Record {
    /// A member's header.
    Local(Member),
    /// A member's line in the directory.
    Listed(Member),
    /// The end in 64 bits.
    End64(Directory),
    /// At which offset that is.
    Locator(u64),
    /// The end; what it leaves out is said in 64 bits.
    End(Directory),
}

/// What an end says of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Directory {
    /// How many lines it has.
    pub(super) members: Option<u64>,
    /// Its length in bytes.
    pub(super) size: Option<u64>,
    /// Its offset.
    pub(super) offset: Option<u64>,
}

impl Directory {
    /// Whether all that is said is so.
    pub(super) fn is(self, members: u64, size: u64, offset: u64) -> bool {
        let agrees = |said: Option<u64>, found| said.is_none_or(|said| said == found);
        agrees(self.members, members) && agrees(self.size, size) && agrees(self.offset, offset)
    }

    /// Whether anything is left out.
    pub(super) const fn is_partial(self) -> bool {
        self.members.is_none() || self.size.is_none() || self.offset.is_none()
    }
}

/// Little-endian numbers from a record's beginning.
struct Fields<'b>(&'b [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (now, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*now)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..).and_then(|rest| Fields(rest).u16()).map_or(0, usize::from)
}

/// How many bytes the record that begins so has, or how many are needed to tell.
pub(super) fn length(begun: &[u8], offset: u64) -> Result<usize, ZipError> {
    let Some(signature) = begun.first_chunk::<4>() else { return Ok(4) };
    let (fixed, variable) = match *signature {
        LOCAL => (30, &[26, 28][..]),
        LISTED => (46, &[28, 30, 32][..]),
        LOCATOR => (20, &[][..]),
        END => (22, &[20][..]),
        END64 if begun.len() < 12 => return Ok(12),
        END64 => {
            let rest = begun.get(4..).and_then(|rest| Fields(rest).u64()).unwrap_or_default();
            let rest = usize::try_from(rest.min(MOST_END64 + 1)).unwrap_or_default();
            return if rest as u64 > MOST_END64 { Err(ZipError::Disagree) } else { Ok(12 + rest) };
        }
        _ if offset == 0 => return Err(ZipError::NoZip),
        _ => return Err(ZipError::Disagree),
    };
    if begun.len() < fixed {
        return Ok(fixed);
    }
    Ok(fixed + variable.iter().map(|at| u16_at(begun, *at)).sum::<usize>())
}

/// Reads a whole record.
pub(super) fn parse(record: &[u8]) -> Result<Record, ZipError> {
    let mut fields = Fields(record);
    // Readers look for the end from behind, and would find another one within this one.
    let inner = record.get(1..).unwrap_or_default();
    if record.starts_with(&END) && inner.windows(END.len()).any(|four| four == END) {
        return Err(ZipError::Disagree);
    }
    let found = match fields.take::<4>() {
        Some(LOCAL) => local(record),
        Some(LISTED) => listed(record),
        Some(LOCATOR) => locator(&mut fields),
        Some(END64) => end64(record),
        Some(END) => end(&mut fields),
        Some(_) | None => None,
    };
    let found = found.ok_or(ZipError::Disagree)?;
    if let Record::Local(member) | Record::Listed(member) = &found {
        if member.flags & ENCRYPTED != 0 {
            return Err(ZipError::Encrypted);
        }
        if !is_plain(&member.name) {
            return Err(ZipError::Name);
        }
    }
    Ok(found)
}

/// Whether a member stays where it is unpacked.
pub(super) fn is_plain(name: &str) -> bool {
    let path = name.strip_suffix('/').unwrap_or(name);
    let drive = path.as_bytes().get(1) == Some(&b':');
    let segments = path.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
    segments && !drive && !path.contains('\\') && !path.chars().any(char::is_control)
}

fn name(bytes: Option<&[u8]>) -> Option<String> {
    let bytes = bytes.filter(|bytes| bytes.len() <= MOST_NAME)?;
    // One that cannot be read is not plain.
    Some(std::str::from_utf8(bytes).unwrap_or("..").to_owned())
}

fn local(record: &[u8]) -> Option<Record> {
    let mut fields = Fields(record.get(6..)?);
    let (flags, method) = (fields.u16()?, fields.u16()?);
    fields.u32()?;
    let (crc, packed, unpacked) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let name_end = 30 + u16_at(record, 26);
    let mut wide = extra(record.get(name_end..)?, record.get(30..name_end)?)?;
    let unpacked = widen(unpacked, &mut wide)?;
    let packed = widen(packed, &mut wide)?;
    let name = name(record.get(30..name_end))?;
    Some(Record::Local(Member { name, flags, method, crc, packed, unpacked, offset: 0 }))
}

fn listed(record: &[u8]) -> Option<Record> {
    let mut fields = Fields(record.get(8..)?);
    let (flags, method) = (fields.u16()?, fields.u16()?);
    fields.u32()?;
    let (crc, packed, unpacked) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let name_end = 46 + u16_at(record, 28);
    let extra_end = name_end + u16_at(record, 30);
    let volume = u16_at(record, 34);
    let offset = Fields(record.get(42..)?).u32()?;
    let mut wide = extra(record.get(name_end..extra_end)?, record.get(46..name_end)?)?;
    let unpacked = widen(unpacked, &mut wide)?;
    let packed = widen(packed, &mut wide)?;
    let offset = widen(offset, &mut wide)?;
    let name = name(record.get(46..name_end))?;
    (volume == 0).then_some(Record::Listed(Member { name, flags, method, crc, packed, unpacked, offset }))
}

fn end(fields: &mut Fields<'_>) -> Option<Record> {
    let (volume, first) = (fields.u16()?, fields.u16()?);
    let (here, members) = (fields.u16()?, fields.u16()?);
    let (size, offset) = (fields.u32()?, fields.u32()?);
    let single = matches!((volume, first), (0, 0) | (u16::MAX, _) | (_, u16::MAX)) && here == members;
    let said = |value: u32| (value != ELSEWHERE).then_some(u64::from(value));
    single.then_some(Record::End(Directory {
        members: (members != u16::MAX).then_some(u64::from(members)),
        size: said(size),
        offset: said(offset),
    }))
}

fn end64(record: &[u8]) -> Option<Record> {
    let mut fields = Fields(record.get(16..)?);
    let single = (fields.u32()?, fields.u32()?) == (0, 0);
    let (here, members) = (fields.u64()?, fields.u64()?);
    let (size, offset) = (Some(fields.u64()?), Some(fields.u64()?));
    let directory = Directory { members: Some(members), size, offset };
    (single && here == members).then_some(Record::End64(directory))
}

fn locator(fields: &mut Fields<'_>) -> Option<Record> {
    let volume = fields.u32()?;
    let at = fields.u64()?;
    let volumes = fields.u32()?;
    (volume == 0 && volumes <= 1).then_some(Record::Locator(at))
}

/// Whether a record ends in as many bytes as a locator has, which begin like one: readers look there for the directory.
pub(super) fn lures(record: &[u8]) -> bool {
    record.last_chunk::<20>().is_some_and(|last| last.starts_with(&LOCATOR))
}

/// The 64-bit values in the extra fields of a member of this name. None where they name it otherwise.
fn extra<'r>(mut extra: &'r [u8], name: &[u8]) -> Option<Fields<'r>> {
    let mut wide = None;
    loop {
        let mut fields = Fields(extra);
        let (Some(id), Some(length)) = (fields.u16(), fields.u16()) else { break };
        let Some((inner, rest)) = fields.0.split_at_checked(usize::from(length)) else { break };
        // Of two of a kind readers differ in which they take.
        let again = id == ZIP64 && wide.is_some();
        if again || (id == NAME && inner.get(BEFORE_NAME..) != Some(name)) {
            return None;
        }
        if id == ZIP64 {
            wide = Some(inner);
        }
        extra = rest;
    }
    Some(Fields(wide.unwrap_or_default()))
}

fn widen(value: u32, wide: &mut Fields<'_>) -> Option<u64> {
    if value == ELSEWHERE { wide.u64() } else { Some(u64::from(value)) }
}

/// What follows a member whose sizes were not known before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// CRC-32 of the member.
    pub(super) crc: u32,
    /// Its own length, in bytes.
    pub(super) length: usize,
}

impl Descriptor {
    /// Longest form. There are four, and no flag says which; a directory follows in any case.
    pub(super) const MOST: usize = 24;

    /// Reads the form whose sizes are these.
    pub(super) fn parse(bytes: &[u8], sizes: (u64, u64)) -> Option<Self> {
        let signed = bytes.starts_with(&DESCRIPTOR);
        let starts = [4, 0].into_iter().filter(|start| signed || *start == 0);
        starts.into_iter().find_map(|start| {
            let form = |wide: bool| {
                let mut fields = Fields(bytes.get(start..)?);
                let crc = fields.u32()?;
                let found = if wide {
                    (fields.u64()?, fields.u64()?)
                } else {
                    (u64::from(fields.u32()?), u64::from(fields.u32()?))
                };
                let length = start + if wide { 20 } else { 12 };
                (found == sizes).then_some(Self { crc, length })
            };
            form(false).or_else(|| form(true))
        })
    }
}
