//! What is stored: sizes, names and bytes of a key, the same in every run.
//!
//! Bytes are windows into one random block, so that an upload costs the tool no copy and no random numbers.

use std::convert::Infallible;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use bytesize::ByteSize;
use http_body::{Body, Frame, SizeHint};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Bytes of the block that all bodies are cut from.
const BLOCK: usize = 8 << 20;
/// Most bytes of one frame of a body.
const FRAME: usize = 256 << 10;
/// Distance in the block between the bodies of two neighbouring keys.
const STRIDE: u64 = 16;

/// Blobs of a production build cache by size: least bytes, most bytes, how many
/// (sampled by buildbuddy's `tools/cacheload`, 101 thousand blobs).
const MIX: [(f64, f64, u64); 8] = [
    (1.0, 1e1, 23),
    (1e1, 1e2, 33_611),
    (1e2, 1e3, 33_498),
    (1e3, 1e4, 20_473),
    (1e4, 1e5, 10_036),
    (1e5, 1e6, 3_265),
    (1e6, 1e7, 504),
    (1e7, 1e8, 62),
];

/// How large bodies are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Size {
    /// All of so many bytes.
    Fixed(u64),
    /// Each key its own, drawn from [`MIX`].
    Mixed,
}

impl Size {
    /// Bytes of a key's body.
    pub(crate) fn of(self, key: u64) -> u64 {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Mixed => {
                let mut random = fastrand::Rng::with_seed(key);
                let all: u64 = MIX.iter().map(|(_, _, weight)| weight).sum();
                let mut draw = random.u64(..all);
                for (least, most, weight) in MIX {
                    if draw < weight {
                        // Within a row, as many from 1 to 2 kB as from 2 to 4 kB.
                        return (least * (most / least).powf(random.f64())) as u64;
                    }
                    draw -= weight;
                }
                0
            }
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "mixed" => Ok(Self::Mixed),
            bytes => bytes.parse().map(|ByteSize(bytes)| Self::Fixed(bytes)),
        }
    }
}

/// The block.
pub(crate) fn block() -> Bytes {
    let mut block = vec![0; BLOCK];
    fastrand::Rng::with_seed(7).fill(&mut block);
    block.into()
}

/// Fills a URL's path in for a key.
pub(crate) fn name(template: &str, block: &Bytes, size: Size, key: u64) -> String {
    if !template.contains('{') {
        return template.to_owned();
    }
    let raw = Sha1::digest(key.to_be_bytes());
    let hex = format!("{raw:x}");
    let mut path = template
        .replace("{number}", &key.to_string())
        .replace("{hex2}", &hex[..2])
        .replace("{hex}", &hex)
        .replace("{hash}", &URL_SAFE_NO_PAD.encode(raw));
    if path.contains("{sha256}") {
        let mut digest = Sha256::new();
        let mut body = Payload::new(block, size, key, false);
        while let Some(piece) = body.piece() {
            digest.update(&piece);
        }
        path = path.replace("{sha256}", &format!("{:x}", digest.finalize()));
    }
    path
}

/// A key's bytes, piece by piece.
#[derive(Debug)]
pub(crate) struct Payload {
    block: Bytes,
    at: usize,
    left: u64,
    chunked: bool,
}

impl Payload {
    /// All bytes of a key; `chunked` hides how many.
    pub(crate) fn new(block: &Bytes, size: Size, key: u64, chunked: bool) -> Self {
        let at = (key.wrapping_mul(STRIDE) % BLOCK as u64) as usize;
        Self { block: block.clone(), at, left: size.of(key), chunked }
    }

    /// No bytes: the body of a GET.
    pub(crate) const fn empty() -> Self {
        Self { block: Bytes::new(), at: 0, left: 0, chunked: false }
    }

    /// Whether these are the next bytes, which are then behind us.
    pub(crate) fn continues_with(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            let Some(piece) = self.take(bytes.len()) else { return false };
            let (head, rest) = bytes.split_at(piece.len());
            if head != piece {
                return false;
            }
            bytes = rest;
        }
        true
    }

    fn piece(&mut self) -> Option<Bytes> {
        self.take(FRAME)
    }

    /// The next bytes, at most so many, where any are left.
    fn take(&mut self, most: usize) -> Option<Bytes> {
        let length =
            most.min(self.block.len() - self.at).min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if length == 0 {
            return None;
        }
        let piece = self.block.slice(self.at..self.at + length);
        self.at = (self.at + length) % self.block.len();
        self.left -= length as u64;
        Some(piece)
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.piece().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && !self.chunked
    }

    fn size_hint(&self) -> SizeHint {
        if self.chunked { SizeHint::default() } else { SizeHint::with_exact(self.left) }
    }
}
