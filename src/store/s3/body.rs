//! Bodies of requests to the bucket: bytes at hand in a few pieces, cheap to send again.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use sha2::{Digest as _, Sha256};

use crate::store::checksum::{Crc, Running};

/// Size of the pieces that a body is gathered in, in bytes.
const PIECE: usize = 256 * 1024;

/// Bytes in pieces. Clones share them, each with a place of its own to read from.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunks {
    pieces: Arc<Vec<Bytes>>,
    next: usize,
    len: u64,
    left: u64,
    flow: Option<Arc<AtomicU64>>,
}

impl Chunks {
    pub(super) fn empty() -> Self {
        Self::default()
    }

    /// Length in bytes.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Adds to this counter whenever bytes go out.
    pub(super) fn watch(&mut self, flow: Arc<AtomicU64>) {
        self.flow = Some(flow);
    }

    /// SHA-256 of all bytes, lower-case hex, as the signature wants it.
    pub(super) fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        self.pieces.iter().for_each(|piece| hash.update(piece));
        format!("{:x}", hash.finalize())
    }

    /// CRC-64/NVME of all bytes.
    pub(super) fn crc(&self) -> Crc {
        let mut crc = Running::new();
        self.pieces.iter().for_each(|piece| crc.update(piece));
        crc.finish()
    }

    /// Adds all bytes to a checksum.
    pub(super) fn feed(&self, crc: &mut Running) {
        self.pieces.iter().for_each(|piece| crc.update(piece));
    }
}

impl Body for Chunks {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(piece) = self.pieces.get(self.next).cloned() else { return Poll::Ready(None) };
        self.next += 1;
        self.left = self.left.saturating_sub(piece.len() as u64);
        if let Some(flow) = &self.flow {
            flow.fetch_add(1, Ordering::Relaxed);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.next >= self.pieces.len()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A body in the making. Copies what it is given: frames of a socket may pin buffers many times their size.
#[derive(Debug, Default)]
pub(super) struct Gather {
    pieces: Vec<Bytes>,
    current: BytesMut,
    len: usize,
}

impl Gather {
    /// Bytes so far.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Adds bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len();
        while !bytes.is_empty() {
            if self.current.len() == self.current.capacity() {
                self.roll(bytes.len());
            }
            let room = self.current.capacity() - self.current.len();
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.current.extend_from_slice(now);
            bytes = rest;
        }
    }

    /// Adds bytes as a piece of their own, without a copy: for those that are kept anyway.
    pub(super) fn share(&mut self, bytes: Bytes) {
        let before = std::mem::take(&mut self.current);
        self.pieces.extend((!before.is_empty()).then(|| before.freeze()));
        self.len += bytes.len();
        self.pieces.extend((!bytes.is_empty()).then_some(bytes));
    }

    /// Begins a new piece: the first as large as it must be, later ones doubling up to [`PIECE`].
    fn roll(&mut self, wanted: usize) {
        let size = wanted.max(self.current.capacity() * 2).clamp(1024, PIECE);
        let full = std::mem::replace(&mut self.current, BytesMut::with_capacity(size));
        if !full.is_empty() {
            self.pieces.push(full.freeze());
        }
    }

    /// All bytes, as a body.
    pub(super) fn finish(mut self) -> Chunks {
        if !self.current.is_empty() {
            self.pieces.push(self.current.freeze());
        }
        let len = self.len as u64;
        Chunks { pieces: Arc::new(self.pieces), next: 0, len, left: len, flow: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gathers_what_it_was_given(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 0..20)) {
            let mut gather = Gather::default();
            parts.iter().for_each(|part| gather.push(part));
            let whole = parts.concat();
            prop_assert_eq!(gather.len(), whole.len());
            let last = Bytes::from_static(b"shared");
            gather.share(last.clone());
            let whole = [whole, last.to_vec()].concat();
            prop_assert_eq!(gather.len(), whole.len());
            let chunks = gather.finish();
            prop_assert_eq!(chunks.len(), whole.len() as u64);
            prop_assert_eq!(chunks.pieces.concat(), whole.clone());
            prop_assert_eq!(chunks.crc(), Crc::of(&whole));
        }
    }
}
