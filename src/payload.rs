//! The coins that every room accepts: bodies with their length, byte ranges, what is known of an object.
//!
//! Knows bytes only: no protocol, no bucket, no file. A body tells whose fault its end was: [`BodyError`] is the
//! sender's, never the store's.

use std::fmt;
use std::pin::Pin;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt};

/// Why a body that a client sends did not arrive whole. Always the sender's side, never the store's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The connection broke, or the message ended before its last chunk.
    #[error("the body ended before it was complete")]
    Incomplete,
    /// Nothing arrived for longer than the idle time-out.
    #[error("the body stopped arriving")]
    Stalled,
    /// More bytes than the limit on an object.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// Fewer or more bytes than announced.
    #[error("the body does not have the length that was declared")]
    Length,
    /// The bytes do not have the digest that was declared, or that their key is.
    #[error("the body does not have the {0} that was declared")]
    Digest(&'static str),
    /// Whoever took the body in looked at it and refused it, and says why himself.
    #[error("the body is refused")]
    Refused,
}

/// Bytes on their way in: announced length where there is one, and the stream.
pub struct Payload {
    /// Length in bytes, where the sender announced one.
    pub len: Option<u64>,
    /// The bytes. The stream ends after its first error.
    pub stream: BoxStream<'static, Result<Bytes, BodyError>>,
    /// The same bytes in one piece, where somebody has them at hand and holds their share of the budget.
    pub(crate) whole: Option<Bytes>,
}

impl Payload {
    /// A body from a stream, with the length that its sender announced.
    pub fn new(
        len: Option<u64>,
        stream: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static,
    ) -> Self {
        Self { len, stream: stream.boxed(), whole: None }
    }

    /// Bytes that the caller has in memory anyway, and has its share of the budget for until the body is stored.
    pub fn held(bytes: Bytes) -> Self {
        Self { whole: Some(bytes.clone()), ..Self::from(bytes) }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::new(Some(bytes.len() as u64), stream::iter([Ok(bytes)]))
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Reading broke after it had begun: the bytes so far are no whole object. The cause is logged where it was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The store stopped, closed early or sent too much.
    #[error("the store stopped in the middle of an object")]
    Broken,
    /// The bytes do not have the checksum they were stored with.
    #[error("the stored bytes fail their checksum")]
    Corrupt,
}

/// Bytes on their way out.
pub enum Content {
    /// All of them at hand: small objects, checked already.
    Bytes(Bytes),
    /// A stream that yields exactly as many bytes as were announced, or ends in an error *before* its last byte.
    Stream(Pin<Box<dyn Stream<Item = Result<Bytes, ReadError>> + Send>>),
}

impl Content {
    /// All bytes in one piece. Only for what is known to be small.
    pub async fn collect(self) -> Result<Bytes, ReadError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Stream(mut stream) => {
                let mut all = Vec::new();
                while let Some(chunk) = stream.next().await {
                    all.extend_from_slice(&chunk?);
                }
                Ok(all.into())
            }
        }
    }

    /// The bytes as a stream, however they came.
    pub fn into_stream(self) -> BoxStream<'static, Result<Bytes, ReadError>> {
        match self {
            Self::Bytes(bytes) => stream::iter([Ok(bytes)]).boxed(),
            Self::Stream(stream) => stream,
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Content::Bytes({})", bytes.len()),
            Self::Stream(_) => f.write_str("Content::Stream"),
        }
    }
}

/// What is known of an object without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Length of the whole object, in bytes.
    pub size: u64,
    /// Opaque validator, without quotes: changes whenever the bytes do.
    pub etag: String,
    /// When the object was stored, or last refreshed.
    pub modified: SystemTime,
    /// What the writer attached, see [`MARK_MOST`]. Lost where a store cannot keep it.
    pub mark: Option<String>,
}

/// Most bytes of a mark: a short text of visible ASCII characters that comes and goes with the object.
pub const MARK_MOST: usize = 80;

/// An object that was found, and as much of it as was asked for.
#[derive(Debug)]
pub struct Object {
    /// About the whole object, whatever part is sent.
    pub meta: Meta,
    /// The part that was asked for.
    pub body: Body,
}

/// What a read that found its object came back with.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Whole(Content),
    /// The bytes `first..=last`.
    Part {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
        /// Exactly these bytes.
        content: Content,
    },
    /// The caller's copy is still good. Of [`Meta`] only the validator is promised: a bucket says no more.
    Unchanged,
    /// The range that was asked for begins beyond the end.
    Unsatisfiable,
}

/// A range as it is asked for, before the size is known (RFC 9110 §14.1.2). Both ends inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteRange {
    /// `first-`, to the end.
    From(u64),
    /// `first-last`.
    Between(u64, u64),
    /// `-length`: the last so many bytes.
    Suffix(u64),
}

impl ByteRange {
    /// The offsets of first and last byte within an object of `size` bytes, or `None` where nothing is left.
    pub fn resolve(self, size: u64) -> Option<(u64, u64)> {
        let last = size.checked_sub(1)?;
        match self {
            Self::From(first) => (first <= last).then_some((first, last)),
            Self::Between(first, end) => (first <= last && first <= end).then_some((first, end.min(last))),
            Self::Suffix(0) => None,
            Self::Suffix(length) => Some((size.saturating_sub(length), last)),
        }
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::From(first) => write!(f, "bytes={first}-"),
            Self::Between(first, last) => write!(f, "bytes={first}-{last}"),
            Self::Suffix(length) => write!(f, "bytes=-{length}"),
        }
    }
}

/// What a reader wants of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Want {
    /// Validators of the copies that the caller has: if one is current, [`Body::Unchanged`].
    pub unless: Vec<String>,
    /// The caller has *some* copy: any current object is [`Body::Unchanged`] (`If-None-Match: *`).
    pub unless_any: bool,
    /// A part of it.
    pub range: Option<ByteRange>,
    /// The part is wanted only of the object with this validator, else the whole (`If-Range`).
    pub range_if: Option<String>,
    /// The caller holds a share of the budget for what this reads.
    pub paid: bool,
}

impl Want {
    /// Whether an object with this validator need not be sent again.
    pub fn has(&self, etag: &str) -> bool {
        self.unless_any || self.unless.iter().any(|known| known == etag)
    }

    /// The range that holds for an object with this validator.
    pub fn range_of(&self, etag: &str) -> Option<ByteRange> {
        self.range.filter(|_| self.range_if.as_deref().is_none_or(|wanted| wanted == etag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_agree_with_slicing(size in 0u64..50, a in 0u64..60, b in 0u64..60) {
            let all: Vec<u64> = (0..size).collect();
            let take = |range: ByteRange| -> Option<Vec<u64>> {
                range.resolve(size).map(|(first, last)| (first..=last).collect())
            };
            let between: Vec<u64> = all.iter().copied().filter(|i| *i >= a && *i <= b).collect();
            prop_assert_eq!(take(ByteRange::Between(a, b)).unwrap_or_default(), between);
            let from: Vec<u64> = all.iter().copied().filter(|i| *i >= a).collect();
            prop_assert_eq!(take(ByteRange::From(a)).unwrap_or_default(), from);
            let suffix: Vec<u64> = all.iter().copied().skip(size.saturating_sub(a) as usize).collect();
            prop_assert_eq!(take(ByteRange::Suffix(a)).unwrap_or_default(), suffix);
        }
    }
}
