//! Digests that a sender declares of a body, and the check of the body against them while it streams.
//!
//! Hashes only what was declared. Knows nothing of header fields; never holds bytes back longer than a chunk.

use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream};
use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512};

use crate::payload::{BodyError, Payload};

/// A digest that can be declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// MD5 (RFC 1321): a check against accidents only.
    Md5,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-512 (FIPS 180-4).
    Sha512,
}

impl Algorithm {
    /// The name in messages, as in [`BodyError::Digest`].
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
        }
    }
}

/// Why a declaration cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeclareError {
    /// Not as many bytes as the algorithm yields.
    #[error("the declared {} has the wrong length", .0.name())]
    Length(Algorithm),
    /// Two declarations that no body can meet both.
    #[error("two declared {} digests disagree", .0.name())]
    Disagree(Algorithm),
}

/// A SHA-256, in its text lower-case hex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256Digest([u8; 32]);

/// Why a text is no [`Sha256Digest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 is 64 lower-case hex digits")]
pub struct Sha256Error;

impl Sha256Digest {
    /// Of bytes at hand.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for Sha256Digest {
    type Err = Sha256Error;

    fn from_str(text: &str) -> Result<Self, Sha256Error> {
        let mut bytes = [0; 32];
        let lower = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if text.len() != 64 || !lower {
            return Err(Sha256Error);
        }
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            let pair = text.get(at..at + 2).ok_or(Sha256Error)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| Sha256Error)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a body is declared to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    md5: Option<[u8; 16]>,
    sha256: Option<[u8; 32]>,
    sha512: Option<[u8; 64]>,
}

fn declare<const N: usize>(
    slot: &mut Option<[u8; N]>,
    algorithm: Algorithm,
    digest: &[u8],
) -> Result<(), DeclareError> {
    let digest = <[u8; N]>::try_from(digest).map_err(|_| DeclareError::Length(algorithm))?;
    if *slot.get_or_insert(digest) == digest { Ok(()) } else { Err(DeclareError::Disagree(algorithm)) }
}

impl Declared {
    /// Adds a declaration: the raw bytes of a digest of the whole body.
    ///
    /// # Errors
    /// A length that is not the algorithm's, or another digest than one declared before.
    pub fn declare(&mut self, algorithm: Algorithm, digest: &[u8]) -> Result<(), DeclareError> {
        match algorithm {
            Algorithm::Md5 => declare(&mut self.md5, algorithm, digest),
            Algorithm::Sha256 => declare(&mut self.sha256, algorithm, digest),
            Algorithm::Sha512 => declare(&mut self.sha512, algorithm, digest),
        }
    }

    /// Whether nothing is declared.
    pub const fn is_empty(&self) -> bool {
        self.md5.is_none() && self.sha256.is_none() && self.sha512.is_none()
    }

    /// The body, which now ends in [`BodyError::Digest`] where it is another than was declared. Handed back as it
    /// came where nothing is declared: its length alone is the store's to check.
    pub fn check(&self, payload: Payload) -> Payload {
        if self.is_empty() {
            return payload;
        }
        let len = payload.len;
        Payload::new(len, Checked::new(self, payload))
    }
}

/// A hash under way, and what it is to become.
#[derive(Debug)]
struct Running<D, const N: usize> {
    hash: D,
    wanted: [u8; N],
}

impl<D: sha2::Digest, const N: usize> Running<D, N> {
    fn start(wanted: [u8; N]) -> Self {
        Self { hash: D::new(), wanted }
    }

    fn agrees(self) -> bool {
        self.hash.finalize().as_slice() == self.wanted
    }
}

#[derive(Debug, Default)]
struct Hashes {
    md5: Option<Running<Md5, 16>>,
    sha256: Option<Running<Sha256, 32>>,
    sha512: Option<Running<Sha512, 64>>,
}

impl Hashes {
    fn update(&mut self, bytes: &[u8]) {
        if let Some(md5) = &mut self.md5 {
            md5.hash.update(bytes);
        }
        if let Some(sha256) = &mut self.sha256 {
            sha256.hash.update(bytes);
        }
        if let Some(sha512) = &mut self.sha512 {
            sha512.hash.update(bytes);
        }
    }

    fn verdict(self) -> Result<(), BodyError> {
        let wrong = if self.sha512.is_some_and(|hash| !hash.agrees()) {
            Algorithm::Sha512
        } else if self.sha256.is_some_and(|hash| !hash.agrees()) {
            Algorithm::Sha256
        } else if self.md5.is_some_and(|hash| !hash.agrees()) {
            Algorithm::Md5
        } else {
            return Ok(());
        };
        Err(BodyError::Digest(wrong.name()))
    }
}

/// A body whose end depends on its digests and its length.
///
/// Where the length is known the verdict falls with the last chunk, which is then not handed on: also a reader
/// that stops at the announced length never has a wrong body whole.
pub struct Checked {
    stream: BoxStream<'static, Result<Bytes, BodyError>>,
    /// `None` once the verdict has fallen.
    hashes: Option<Hashes>,
    len: Option<u64>,
    seen: u64,
    done: bool,
}

impl Checked {
    /// Checks the body against what is declared of it, and against its announced length.
    pub fn new(declared: &Declared, payload: Payload) -> Self {
        let hashes = Hashes {
            md5: declared.md5.map(Running::start),
            sha256: declared.sha256.map(Running::start),
            sha512: declared.sha512.map(Running::start),
        };
        Self { stream: payload.stream, hashes: Some(hashes), len: payload.len, seen: 0, done: false }
    }

    fn chunk(&mut self, bytes: Bytes) -> Result<Bytes, BodyError> {
        self.seen = self.seen.saturating_add(bytes.len() as u64);
        if self.len.is_some_and(|len| self.seen > len) {
            return Err(BodyError::Length);
        }
        if let Some(hashes) = &mut self.hashes {
            hashes.update(&bytes);
        }
        if self.len == Some(self.seen) {
            self.verdict()?;
        }
        Ok(bytes)
    }

    fn verdict(&mut self) -> Result<(), BodyError> {
        self.hashes.take().map_or(Ok(()), Hashes::verdict)
    }

    fn end(&mut self) -> Result<(), BodyError> {
        if self.len.is_some_and(|len| self.seen < len) {
            return Err(BodyError::Length);
        }
        self.verdict()
    }
}

impl Stream for Checked {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        let item = match std::task::ready!(self.stream.as_mut().poll_next(cx)) {
            Some(Ok(bytes)) => Some(self.chunk(bytes)),
            Some(Err(error)) => Some(Err(error)),
            None => self.end().err().map(Err),
        };
        self.done = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

impl std::fmt::Debug for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Checked").field("len", &self.len).field("seen", &self.seen).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, BodyError, Bytes, DeclareError, Declared, Payload};
    use futures_util::stream::{self, StreamExt};
    use md5::Md5;
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256, Sha512};

    const ALL: [Algorithm; 3] = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512];

    fn digest(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
        match algorithm {
            Algorithm::Md5 => Md5::digest(bytes).to_vec(),
            Algorithm::Sha256 => Sha256::digest(bytes).to_vec(),
            Algorithm::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    /// All that comes out: bytes, and the error at the end.
    fn run(declared: &Declared, len: Option<u64>, chunks: Vec<Vec<u8>>) -> (Vec<u8>, Option<BodyError>) {
        let chunks = stream::iter(chunks.into_iter().map(|chunk| Ok(Bytes::from(chunk))));
        let mut stream = declared.check(Payload::new(len, chunks)).stream;
        futures_executor(async move {
            let mut all = Vec::new();
            while let Some(item) = stream.next().await {
                match item {
                    Ok(bytes) => all.extend_from_slice(&bytes),
                    Err(error) => {
                        assert!(stream.next().await.is_none(), "nothing follows an error");
                        return (all, Some(error));
                    }
                }
            }
            (all, None)
        })
    }

    fn futures_executor<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    proptest! {
        #[test]
        fn a_right_body_passes_and_a_wrong_one_never_ends_clean(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..5),
            pick in 0usize..3, announced in any::<bool>(), off in 0u64..3, wrong in any::<bool>(),
        ) {
            let body = chunks.concat();
            let algorithm = ALL[pick];
            let mut sum = digest(algorithm, &body);
            sum[0] ^= u8::from(wrong);
            let mut declared = Declared::default();
            declared.declare(algorithm, &sum).unwrap();
            let len = announced.then_some((body.len() as u64 + off).saturating_sub(1));
            let lies = len.is_some_and(|len| len != body.len() as u64);
            let (out, error) = run(&declared, len, chunks);
            match error {
                None => prop_assert!(!wrong && !lies && out == body),
                Some(BodyError::Digest(name)) => prop_assert!((wrong || lies) && name == algorithm.name()),
                Some(other) => prop_assert!(lies && other == BodyError::Length),
            }
            // A reader that counts bytes never has a wrong body whole.
            prop_assert!(!wrong || !announced || lies || body.is_empty() || out.len() < body.len());
        }
    }

    #[test]
    fn declarations_must_agree_and_fit() {
        let mut declared = Declared::default();
        assert!(declared.is_empty());
        assert_eq!(declared.declare(Algorithm::Md5, &[0; 15]), Err(DeclareError::Length(Algorithm::Md5)));
        declared.declare(Algorithm::Sha256, &[1; 32]).unwrap();
        declared.declare(Algorithm::Sha256, &[1; 32]).unwrap();
        let other = declared.declare(Algorithm::Sha256, &[2; 32]);
        assert_eq!(other, Err(DeclareError::Disagree(Algorithm::Sha256)));
        assert_eq!(other.unwrap_err().to_string(), "two declared SHA-256 digests disagree");
    }

    #[test]
    fn a_body_that_breaks_stays_broken() {
        let mut declared = Declared::default();
        declared.declare(Algorithm::Md5, &[0; 16]).unwrap();
        let broken = Payload::new(None, stream::iter([Ok(Bytes::from("a")), Err(BodyError::Stalled)]));
        let items: Vec<_> = futures_executor(declared.check(broken).stream.collect());
        assert_eq!(items, [Ok(Bytes::from("a")), Err(BodyError::Stalled)]);
    }

    #[test]
    fn nothing_declared_changes_nothing() {
        assert_eq!(run(&Declared::default(), Some(9), vec![b"ab".to_vec()]), (b"ab".to_vec(), None));
    }
}
