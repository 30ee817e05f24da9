//! What is sent: bytes that are there, or a stream that can be begun again, of a length that is known.

use std::fmt;
use std::io;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _};
use http_body::Frame;
use http_body_util::{Either, Full, StreamBody, combinators::UnsyncBoxBody};

/// Pieces of something long.
pub type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// A body that is sent.
pub(super) type Outgoing = Either<Full<Bytes>, UnsyncBoxBody<Bytes, io::Error>>;

/// Something to send, as often as it takes.
pub struct Content {
    len: u64,
    from: From,
}

enum From {
    Memory(Bytes),
    Stream(Box<dyn Fn() -> Chunks + Send + Sync>),
}

impl Content {
    /// Bytes in memory.
    pub fn bytes(bytes: Bytes) -> Self {
        Self { len: bytes.len() as u64, from: From::Memory(bytes) }
    }

    /// A stream of exactly `len` bytes, made anew each time it is sent.
    pub fn stream(len: u64, open: impl Fn() -> Chunks + Send + Sync + 'static) -> Self {
        Self { len, from: From::Stream(Box::new(open)) }
    }

    /// Bytes.
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn open(&self) -> Outgoing {
        match &self.from {
            From::Memory(bytes) => Either::Left(Full::new(bytes.clone())),
            From::Stream(open) => {
                let frames = open().map(|chunk| chunk.map(Frame::data));
                Either::Right(UnsyncBoxBody::new(StreamBody::new(frames)))
            }
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("len", &self.len).finish_non_exhaustive()
    }
}
