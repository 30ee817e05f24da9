//! A source archive (`.tar.gz`), walked as it arrives for the metadata at its top: `{name}-{version}/PKG-INFO`.
//!
//! Unpacked in memory a little at a time and to its end, so that a damaged or endless one is found out; nothing but the
//! metadata is kept. Never writes.

use std::io::Write as _;

use flate2::write::GzDecoder;

use super::zip::is_bomb;

/// Bytes of a block.
const BLOCK: usize = 512;

/// Most bytes of the metadata.
const MOST: usize = 2 << 20;

/// Why a source archive is not taken. Each prints as one line that a client may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TarError {
    /// Not packed as its name says.
    #[error("the file is not packed as its name says")]
    Packing,
    /// A header that makes no sense, or an early end.
    #[error("the tar archive is damaged or cut off")]
    Damaged,
    /// An absolute name or `..`.
    #[error("a member of the archive has a name that is absolute or leads upwards")]
    Name,
    /// Unpacks to far more than it is.
    #[error("the archive unpacks to more than a hundred times its size")]
    Bomb,
    /// Too long.
    #[error("PKG-INFO in the archive is larger than 2 MiB")]
    Large,
    /// No PKG-INFO at the top.
    #[error("the archive has no PKG-INFO at its top")]
    Missing,
}

/// What is being read.
#[derive(Debug)]
enum At {
    Header(Vec<u8>),
    Data {
        left: u64,
        padding: u64,
        take: bool,
    },
    /// Behind the first block of zeros.
    End,
}

/// An unpacked archive under way.
#[derive(Debug)]
struct Walk {
    at: At,
    metadata: Option<Vec<u8>>,
    unpacked: u64,
    error: Option<TarError>,
}

impl Walk {
    fn push(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        self.unpacked += bytes.len() as u64;
        while !bytes.is_empty() {
            match &mut self.at {
                At::End => return Ok(()),
                At::Header(block) => {
                    let (now, rest) = bytes.split_at((BLOCK - block.len()).min(bytes.len()));
                    block.extend_from_slice(now);
                    bytes = rest;
                    if block.len() == BLOCK {
                        self.at = header(block, self.metadata.is_some())?;
                    }
                }
                At::Data { left, padding, take } => {
                    let most = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    let (now, rest) = bytes.split_at(most);
                    *left -= now.len() as u64;
                    if *take {
                        let metadata = self.metadata.get_or_insert_default();
                        if metadata.len() + now.len() > MOST {
                            return Err(TarError::Large);
                        }
                        metadata.extend_from_slice(now);
                    }
                    let skip = usize::try_from(*padding).unwrap_or_default();
                    let skip = if *left == 0 { skip.min(rest.len()) } else { 0 };
                    *padding -= skip as u64;
                    bytes = rest.get(skip..).unwrap_or_default();
                    if *left == 0 && *padding == 0 {
                        self.at = At::Header(Vec::with_capacity(BLOCK));
                    }
                }
            }
        }
        Ok(())
    }
}

impl std::io::Write for Walk {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Err(error) = self.push(bytes) {
            self.error = Some(error);
            return Err(std::io::Error::other(error));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn header(block: &[u8], found: bool) -> Result<At, TarError> {
    if block.iter().all(|b| *b == 0) {
        return Ok(At::End);
    }
    let field = |from: usize, to: usize| block.get(from..to).unwrap_or_default();
    let sum: u64 =
        (0..).zip(block).map(|(at, b)| if (148..156).contains(&at) { 32 } else { u64::from(*b) }).sum();
    if octal(field(148, 156)) != Some(sum) {
        return Err(TarError::Damaged);
    }
    let left = size(field(124, 136)).ok_or(TarError::Damaged)?;
    let name = name(field(0, 100), if field(257, 262) == b"ustar" { field(345, 500) } else { &[] });
    if name.starts_with('/') || name.split('/').any(|segment| segment == "..") {
        return Err(TarError::Name);
    }
    let kind = block.get(156).copied().unwrap_or_default();
    // Links and devices have no data, whatever size they tell.
    let left = if (b'1'..=b'6').contains(&kind) { 0 } else { left };
    let plain = name.strip_prefix("./").unwrap_or(&name);
    let top = plain.split_once('/').is_some_and(|(_, file)| file == "PKG-INFO");
    let take = top && matches!(kind, b'0' | 0) && !found;
    let padding = left.next_multiple_of(BLOCK as u64) - left;
    Ok(if left == 0 { At::Header(Vec::with_capacity(BLOCK)) } else { At::Data { left, padding, take } })
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

fn name(name: &[u8], prefix: &[u8]) -> String {
    let (name, prefix) = (until_nul(name), until_nul(prefix));
    let name = String::from_utf8_lossy(name);
    if prefix.is_empty() { name.into_owned() } else { format!("{}/{name}", String::from_utf8_lossy(prefix)) }
}

fn octal(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(until_nul(bytes)).ok()?.trim();
    u64::from_str_radix(text, 8).ok()
}

/// Octal, or big-endian where the first bit is set. At most 2^40: more is no archive of ours.
fn size(bytes: &[u8]) -> Option<u64> {
    let size = match bytes.split_first() {
        Some((0x80, rest)) => {
            rest.iter().try_fold(0_u64, |sum, b| Some(sum.checked_mul(256)? + u64::from(*b)))
        }
        _ if until_nul(bytes).iter().all(|b| *b == b' ') => Some(0),
        _ => octal(bytes),
    };
    size.filter(|size| *size <= 1 << 40)
}

/// A packed archive under way.
#[derive(Debug)]
pub(super) struct TarGz {
    unpack: GzDecoder<Walk>,
    packed: u64,
    over: bool,
}

impl TarGz {
    pub(super) fn new() -> Self {
        let walk = Walk { at: At::Header(Vec::new()), metadata: None, unpacked: 0, error: None };
        Self { unpack: GzDecoder::new(walk), packed: 0, over: false }
    }

    /// Bytes of metadata held so far.
    pub(super) fn held(&self) -> usize {
        self.unpack.get_ref().metadata.as_ref().map_or(0, Vec::len)
    }

    /// The next bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        self.packed += bytes.len() as u64;
        while !bytes.is_empty() && !self.over {
            let used = self.unpack.write(bytes).map_err(|_| self.why())?;
            // What follows a packed stream is nobody's business: some writers fill up with zeros.
            self.over = used == 0;
            bytes = bytes.get(used..).unwrap_or_default();
            if is_bomb(self.unpack.get_ref().unpacked, self.packed) {
                return Err(TarError::Bomb);
            }
        }
        Ok(())
    }

    fn why(&self) -> TarError {
        self.unpack.get_ref().error.unwrap_or(TarError::Packing)
    }

    /// The metadata, once all bytes have been pushed.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, TarError> {
        if self.unpack.try_finish().is_err() {
            return Err(self.why());
        }
        let walk = self.unpack.get_ref();
        let begins = matches!(&walk.at, At::Header(block) if block.is_empty());
        if !begins && !matches!(walk.at, At::End) {
            return Err(TarError::Damaged);
        }
        walk.metadata.clone().ok_or(TarError::Missing)
    }
}

#[cfg(test)]
mod tests {
    use super::{TarError, TarGz};
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;
    use std::io::Write as _;

    fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, bytes) in members {
            let mut block = [0_u8; 512];
            block[..name.len()].copy_from_slice(name.as_bytes());
            block[124..135].copy_from_slice(format!("{:011o}", bytes.len()).as_bytes());
            block[156] = b'0';
            block[257..263].copy_from_slice(b"ustar\0");
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
            block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
            out.extend_from_slice(&block);
            out.extend_from_slice(bytes);
            out.resize(out.len().next_multiple_of(512), 0);
        }
        out.resize(out.len() + 1024, 0);
        out
    }

    fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(bytes).unwrap();
        gz.finish().unwrap()
    }

    fn walk(bytes: &[u8], piece: usize) -> Result<Vec<u8>, TarError> {
        let mut tar = TarGz::new();
        bytes.chunks(piece).try_for_each(|piece| tar.push(piece))?;
        tar.finish()
    }

    #[test]
    fn the_metadata_at_the_top_is_found() {
        let long = vec![b'x'; 1000];
        let bytes = pack(&tar(&[
            ("a-1/setup.py", &long),
            ("a-1/a.egg-info/PKG-INFO", b"no"),
            ("a-1/PKG-INFO", b"Name: a"),
            ("a-1/z", b""),
        ]));
        for piece in [1, 7, 100, 100_000] {
            assert_eq!(walk(&bytes, piece), Ok(b"Name: a".to_vec()), "{piece}");
        }
        for end in 0..bytes.len() {
            assert!(walk(&bytes[..end], 50).is_err(), "{end}");
        }
        assert_eq!(walk(&[&bytes[..], &[0; 600]].concat(), 50), Ok(b"Name: a".to_vec()));
    }

    #[test]
    fn others_say_why() {
        let bomb = vec![0_u8; 70 << 20];
        let large = vec![0_u8; (2 << 20) + 1];
        for (bytes, why) in [
            (b"PK\x03\x04 no gzip at all".to_vec(), TarError::Packing),
            (pack(b"no tar at all".repeat(100).as_slice()), TarError::Damaged),
            (pack(&tar(&[("a-1/x", b"x")])), TarError::Missing),
            (pack(&tar(&[("/a-1/PKG-INFO", b"x")])), TarError::Name),
            (pack(&tar(&[("a-1/../PKG-INFO", b"x")])), TarError::Name),
            (pack(&tar(&[("a-1/PKG-INFO", &large)])), TarError::Large),
            (pack(&tar(&[("a-1/zeros", &bomb)])), TarError::Bomb),
        ] {
            assert_eq!(walk(&bytes, 1000), Err(why));
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in any::<Vec<u8>>(), piece in 1usize..20) {
            prop_assert!(walk(&bytes, piece).is_err());
            prop_assert!(walk(&pack(&bytes), piece).is_err());
        }
    }
}
