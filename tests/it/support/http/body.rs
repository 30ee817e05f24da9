//! Bodies to send: whole, of unknown length, breaking off, and large ones that are never held.

use std::io;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
use hyper::body::Frame;
use sha2::{Digest as _, Sha256};

use super::never;

/// A body to send.
pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// No body.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(never).boxed_unsync()
}

/// A body of known length.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// A body of unknown length, one HTTP/1.1 chunk a piece. No pieces: a lone last chunk.
pub(crate) fn chunked<I>(pieces: I) -> Body
where
    I: IntoIterator<Item = Bytes>,
    I::IntoIter: Send + 'static,
{
    StreamBody::new(stream::iter(pieces).map(Frame::data).map(Ok)).boxed_unsync()
}

/// A body that breaks off after these pieces: the connection goes (HTTP/2: the stream is reset). Give
/// the request a `Content-Length` to break a promise of length; without one the last chunk is missing.
pub(crate) fn broken<I>(pieces: I) -> Body
where
    I: IntoIterator<Item = Bytes>,
    I::IntoIter: Send + 'static,
{
    let end = stream::once(async {
        // Lets what came before leave first.
        tokio::task::yield_now().await;
        Err(io::Error::other("broken off by the test"))
    });
    StreamBody::new(stream::iter(pieces).map(Frame::data).map(Ok).chain(end)).boxed_unsync()
}

/// Bytes that look like chance and are known beforehand: large bodies without holding them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// Different bytes for different seeds.
    pub(crate) seed: u64,
    /// Bytes.
    pub(crate) length: u64,
}

const BLOCK: u64 = 64 * 1024;

impl Pattern {
    /// Its blocks, in order.
    pub(crate) fn blocks(self) -> impl Iterator<Item = Bytes> + Send + 'static {
        (0..self.length.div_ceil(BLOCK)).map(move |block| {
            let length = BLOCK.min(self.length - block * BLOCK);
            let mut chance =
                fastrand::Rng::with_seed(self.seed.wrapping_mul(0x9e37_79b9).wrapping_add(block));
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            chance.fill(&mut bytes);
            Bytes::from(bytes)
        })
    }

    /// All of it, for small ones.
    pub(crate) fn bytes(self) -> Bytes {
        self.blocks().flatten().collect::<Vec<_>>().into()
    }

    /// What it hashes to.
    pub(crate) fn sha256(self) -> [u8; 32] {
        self.blocks().fold(Sha256::new(), |hash, block| hash.chain_update(block)).finalize().into()
    }

    /// As a body of unknown length; give the request a `Content-Length` to say it.
    pub(crate) fn body(self) -> Body {
        chunked(self.blocks())
    }
}
