//! A compressed entry: `.tar.gz`, read twice, first to know that all of it can be sent.
//!
//! Never unpacks to a place that a name in the archive chooses: what is too large for memory rests in a file without a
//! name until it is sent.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _};

use flate2::bufread::MultiGzDecoder;
use tar::Archive;

use super::content::{PIECE, Taker, Unsent, whole};
use crate::client::Content;

type Packed = Archive<MultiGzDecoder<BufReader<File>>>;

fn open(file: &File) -> io::Result<Packed> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    Ok(Archive::new(MultiGzDecoder::new(BufReader::with_capacity(PIECE, file))))
}

/// Hands all files of an archive to a taker.
pub(super) fn hand(file: &File, taker: &mut impl Taker) -> Result<(), Unsent> {
    let mut first = open(file)?;
    each(&mut first, |name, _| taker.check(name))?;
    // To the checksum at its end.
    io::copy(&mut first.into_inner(), &mut io::sink())?;
    each(&mut open(file)?, |name, content| {
        let content = spool(content)?;
        taker.take(name, content)
    })
}

/// Does something with each file.
fn each(
    archive: &mut Packed,
    mut with: impl FnMut(&str, &mut dyn Read) -> Result<(), Unsent>,
) -> Result<(), Unsent> {
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path_bytes().into_owned();
        let name = String::from_utf8(path).map_err(|error| Unsent::Name {
            name: String::from_utf8_lossy(error.as_bytes()).into_owned(),
            why: "not UTF-8".to_owned(),
        })?;
        let kind = entry.header().entry_type();
        if kind.is_file() || kind.is_contiguous() {
            with(&name, &mut entry)?;
        } else if !kind.is_dir() && !kind.is_pax_global_extensions() {
            return Err(Unsent::Kind(name));
        }
    }
    Ok(())
}

fn spool(content: &mut dyn Read) -> Result<Content, Unsent> {
    let mut start = Vec::new();
    content.take(PIECE as u64).read_to_end(&mut start)?;
    if start.len() < PIECE {
        return Ok(Content::bytes(start.into()));
    }
    let mut rest = tempfile::tempfile()?;
    io::copy(&mut start.as_slice(), &mut rest)?;
    io::copy(content, &mut rest)?;
    whole(rest)
}
