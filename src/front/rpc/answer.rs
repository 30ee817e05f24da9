//! The answer to a Retrieve, written as it flows: a message of any size in the memory of a few chunks.
//!
//! Its length has to stand before it, so all sizes are known before the first byte. What turns out to be another file than the
//! sizes were of breaks the answer off.

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::budget::Held;
use crate::domain::Reads;
use crate::domain::artifact::EntryKey;
use crate::domain::units::fetch::{Found, Output, Source, size};
use crate::payload::ReadError;

use super::frame;
use super::proto::Artifact;

/// Number of `RetrieveResponse.artifacts`.
const ARTIFACTS: u32 = 2;
/// Number of `Artifact.body`.
const BODY: u32 = 4;
/// `RetrieveResponse { success: true }`, and nothing else.
const SUCCESS: [u8; 2] = [0x08, 0x01];

/// One artifact of the answer: what stands before its body, and the body.
struct Piece {
    head: Bytes,
    size: u64,
    bytes: Source,
}

impl Piece {
    fn new(entry: &EntryKey, file: &str, output: Output) -> Self {
        let mut artifact = Artifact {
            package: entry.package().to_owned(),
            target: entry.target().to_owned(),
            file: file.to_owned(),
            ..Artifact::default()
        };
        let size = size(&output);
        let bytes = match output {
            Output::Link(to) => {
                artifact.symlink = to;
                Source::Here(Bytes::new())
            }
            Output::File { bytes, .. } => bytes,
        };
        let body = if size > 0 { key_len(BODY) + encoded_len_varint(size) } else { 0 };
        let inner = (artifact.encoded_len() + body) as u64 + size;
        let mut head = BytesMut::with_capacity(artifact.encoded_len() + 32);
        encode_key(ARTIFACTS, WireType::LengthDelimited, &mut head);
        encode_varint(inner, &mut head);
        head.put(artifact.encode_to_vec().as_slice());
        if size > 0 {
            encode_key(BODY, WireType::LengthDelimited, &mut head);
            encode_varint(size, &mut head);
        }
        Self { head: head.freeze(), size, bytes }
    }

    fn len(&self) -> u64 {
        self.head.len() as u64 + self.size
    }
}

/// A found unit, ready to be sent.
pub(super) struct Outgoing {
    pieces: Vec<Piece>,
    /// Bytes of the whole message.
    pub(super) length: u64,
}

impl Outgoing {
    pub(super) fn new(units: Vec<(EntryKey, Found)>) -> Self {
        let mut pieces = Vec::new();
        for (entry, found) in units {
            pieces.extend(found.into_iter().map(|(file, output)| Piece::new(&entry, &file, output)));
        }
        let length = SUCCESS.len() as u64 + pieces.iter().map(Piece::len).sum::<u64>();
        Self { pieces, length }
    }

    /// The message, where all of it is here; else it comes back.
    pub(super) fn whole(self) -> Result<Bytes, Self> {
        if self.pieces.iter().any(|piece| !matches!(piece.bytes, Source::Here(_))) {
            return Err(self);
        }
        let mut message = BytesMut::with_capacity(usize::try_from(self.length).unwrap_or(0));
        message.put_slice(&SUCCESS);
        for piece in self.pieces {
            message.put(piece.head);
            if let Source::Here(bytes) = piece.bytes {
                message.put(bytes);
            }
        }
        Ok(message.freeze())
    }

    /// The framed message as it is read. Holds its share of the budget to the end.
    pub(super) fn flow(self, reads: Reads, held: Held) -> BoxStream<'static, Result<Bytes, ReadError>> {
        let head = usize::try_from(self.length).ok().and_then(|length| frame::head(false, length));
        let first =
            head.map(|head| Bytes::from([head.as_slice(), &SUCCESS].concat())).ok_or(ReadError::Broken);
        let pieces = stream::iter(self.pieces).flat_map(move |piece| send(reads.clone(), piece));
        let held = stream::once(async move {
            drop(held);
            Ok(Bytes::new())
        });
        stream::iter([first]).chain(pieces).chain(held).boxed()
    }
}

/// A piece's bytes: exactly as many as were announced.
fn send(reads: Reads, piece: Piece) -> BoxStream<'static, Result<Bytes, ReadError>> {
    let Piece { head, size, bytes } = piece;
    let body = stream::once(async move {
        match reads.stream(bytes).await {
            Ok(stream) => exactly(stream, size),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    });
    stream::iter([Ok(head)]).chain(body.flatten()).boxed()
}

fn exactly(
    bytes: BoxStream<'static, Result<Bytes, ReadError>>,
    size: u64,
) -> BoxStream<'static, Result<Bytes, ReadError>> {
    stream::unfold(Some((bytes, size)), |state| async {
        let (mut bytes, left) = state?;
        match bytes.next().await {
            None if left == 0 => None,
            Some(Ok(chunk)) if chunk.len() as u64 <= left => {
                let left = left - chunk.len() as u64;
                Some((Ok(chunk), Some((bytes, left))))
            }
            Some(Err(error)) => Some((Err(error), None)),
            None | Some(Ok(_)) => Some((Err(ReadError::Broken), None)),
        }
    })
    .boxed()
}
