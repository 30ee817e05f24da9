//! Reading objects: one GET, checked against the bucket's checksum before its last byte is handed on.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use futures_util::future::{FutureExt as _, ready};
use futures_util::stream;
use headers::{ContentRange, HeaderMapExt as _};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};

use super::S3;
use super::answers::Answer;
use super::pool::Flow;
use super::wire::{Call, Reply, Trouble};
use crate::budget::Held;
use crate::payload::{Body, Content, Meta, Object, ReadError, Want};
use crate::store::SMALL;
use crate::store::error::{Error, Kind, Op};
use crate::store::key::Key;

/// What a stream of an object holds of the budget: the buffers of the two sockets it runs through.
const STREAM: u64 = 256 * 1024;

/// How often a part is asked for as such; of what changes each time, all is read.
const AGAIN: usize = 2;

/// User metadata that carries the checksum where the server keeps none (`--s3-checksums when-required`).
pub(super) const META_CRC: &str = "x-amz-meta-larder-crc64nvme";

/// User metadata that carries an object's mark.
pub(super) const META_MARK: &str = "x-amz-meta-larder-mark";

/// User metadata of an object, in the SDK's form; `None` where there is none.
pub(super) fn about(crc: Option<String>, mark: Option<String>) -> Option<HashMap<String, String>> {
    let short = |name: &str| name.trim_start_matches("x-amz-meta-").to_owned();
    let crc = crc.map(|crc| (short(META_CRC), crc));
    let all: HashMap<_, _> = crc.into_iter().chain(mark.map(|mark| (short(META_MARK), mark))).collect();
    (!all.is_empty()).then_some(all)
}

impl S3 {
    /// See [`crate::store::Store::get`]. One request: the checksum is of the whole, so the whole is read, and a part cut out of
    /// it here. Only where the answer says that there is no checksum, a part that lies further in is asked for by another
    /// request, rather than to read, and throw away, all that is before it.
    pub(crate) async fn get(&self, key: &Key, want: &Want) -> Result<Option<Object>, Error> {
        if want.unless_any {
            let meta = self.head(key).await?;
            return Ok(meta.map(|meta| Object { meta, body: Body::Unchanged }));
        }
        let mut again = AGAIN;
        let (meta, part, mut reading) = loop {
            let (meta, part, reading) = match self.open(key, want).await? {
                None => return Ok(None),
                Some(Opened::Ready(object)) => return Ok(Some(object)),
                Some(Opened::Long { meta, part, reading }) => (meta, part, reading),
            };
            if again == 0 || !reading.is_far() {
                break (meta, part, *reading);
            }
            again -= 1;
            let wanted = reading.wanted.clone();
            // Its connection goes with it: what is on its way is not waited for.
            drop(reading);
            if let Some(reading) = self.part(key, &meta.etag, wanted).await? {
                break (meta, part, reading);
            }
        };
        // Room for it is waited for now, when it keeps no other request of the bucket from its turn: who has room may be
        // waiting for such a turn.
        reading.held = if want.paid { None } else { Some(self.budget.take(STREAM).await) };
        Ok(Some(Object { meta, body: body(part, stream(reading)) }))
    }

    async fn open(&self, key: &Key, want: &Want) -> Result<Option<Opened>, Error> {
        let mut call = Call::new(Op::Get, "get", Method::GET).header("x-amz-checksum-mode", "ENABLED");
        if let [known] = want.unless.as_slice() {
            call = call.header("if-none-match", &format!("\"{known}\""));
        }
        match self.wire.send(key, call, |reply| self.found(key, want, reply).boxed()).await {
            Err(error) if absent(&error) => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Asks for a part of exactly this version; `None` where there is another one by now, or none.
    async fn part(&self, key: &Key, etag: &str, wanted: Range<u64>) -> Result<Option<Reading>, Error> {
        let range = format!("bytes={}-{}", wanted.start, wanted.end.saturating_sub(1));
        let call = Call::new(Op::Get, "get", Method::GET)
            .header("range", &range)
            .header("if-match", &format!("\"{etag}\""));
        let answer = self.wire.send(key, call, |reply| ready(Ok(reply)).boxed()).await;
        let response = match answer {
            Ok(Reply { answer: Answer::Ok, response }) => response,
            Ok(_) => return Ok(None),
            Err(error) if gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Who does not know conditions sends any version.
        if self::etag(response.headers()) != etag {
            return Ok(None);
        }
        let part = response.headers().typed_get::<ContentRange>().and_then(|range| range.bytes_range());
        let at = match (response.status(), part) {
            (StatusCode::PARTIAL_CONTENT, Some((first, _))) if first <= wanted.start => first,
            // Who does not know ranges sends the whole.
            (StatusCode::OK, _) => 0,
            _ => return Err(Error::new(Kind::Unavailable, Op::Get, key, Trouble::Broken)),
        };
        let body = response.into_body();
        let (length, check, idle, key) = (wanted.end, Check::None, self.wire.idle, key.clone());
        Ok(Some(Reading { body, at, length, wanted, check, last: None, idle, key, held: None }))
    }

    async fn found(&self, key: &Key, want: &Want, reply: Reply) -> Result<Opened, Trouble> {
        let response = reply.response;
        if reply.answer == Answer::Unchanged {
            let etag = want.unless.first().cloned().unwrap_or_default();
            let (modified, mark) = (modified(response.headers()), mark(response.headers()));
            let meta = Meta { size: 0, etag, modified, mark };
            return Ok(Opened::Ready(Object { meta, body: Body::Unchanged }));
        }
        let length = content_length(response.headers()).ok_or(Trouble::Broken)?;
        let meta = known(length, response.headers());
        if want.has(&meta.etag) {
            return Ok(Opened::Ready(Object { meta, body: Body::Unchanged }));
        }
        let part = want.range_of(&meta.etag).map(|range| range.resolve(length));
        if part == Some(None) {
            return Ok(Opened::Ready(Object { meta, body: Body::Unsatisfiable }));
        }
        let part = part.flatten();
        let check = Check::of(response.headers());
        if length <= SMALL as u64 {
            let content = self.small(response, length, check, part).await?;
            return Ok(Opened::Ready(Object { meta, body: body(part, content) }));
        }
        Ok(Opened::Long { meta, part, reading: Box::new(self.reading(key, response, length, check, part)) })
    }

    /// The bytes of a small object, or a part of them, first and last included.
    async fn small(
        &self,
        response: Response<Flow>,
        length: u64,
        mut check: Check,
        part: Option<(u64, u64)>,
    ) -> Result<Content, Trouble> {
        let bytes = self.wire.collect(response, SMALL).await?;
        if bytes.len() as u64 != length {
            return Err(Trouble::Broken);
        }
        check.update(&bytes);
        if !check.holds() {
            return Err(Trouble::Corrupt);
        }
        Ok(Content::Bytes(match part {
            // Both lie within the length.
            Some((first, last)) => bytes.slice(first as usize..=last as usize),
            None => bytes,
        }))
    }

    /// A larger object, or a part of it. All bytes that are read are checked; of an object that nobody knows a checksum of,
    /// no more are read than are wanted.
    fn reading(
        &self,
        key: &Key,
        response: Response<Flow>,
        length: u64,
        check: Check,
        part: Option<(u64, u64)>,
    ) -> Reading {
        let wanted = part.map_or(0..length, |(first, last)| first..last.saturating_add(1));
        let length = if let Check::None = check { wanted.end } else { length };
        Reading {
            body: response.into_body(),
            at: 0,
            length,
            wanted,
            check,
            last: None,
            idle: self.wire.idle,
            key: key.clone(),
            held: None,
        }
    }

    /// See [`crate::store::Store::head`]. One request.
    pub(crate) async fn head(&self, key: &Key) -> Result<Option<Meta>, Error> {
        Ok(self.head_and_crc(key).await?.map(|(meta, _)| meta))
    }

    /// As [`S3::head`], and the checksum that rides as user metadata, if any.
    pub(super) async fn head_and_crc(&self, key: &Key) -> Result<Option<(Meta, Option<String>)>, Error> {
        let call = Call::new(Op::Head, "head", Method::HEAD);
        let result = self.wire.send(key, call, |reply| {
            let headers = reply.response.headers();
            let crc = text(headers, META_CRC).map(str::to_owned);
            let about = content_length(headers).map(|size| (known(size, headers), crc));
            ready(about.ok_or(Trouble::Broken)).boxed()
        });
        match result.await {
            Ok(about) => Ok(Some(about)),
            Err(error) if absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn answer_of(error: &Error) -> Option<Answer> {
    let trouble = std::error::Error::source(error)?.downcast_ref::<Trouble>()?;
    match trouble {
        Trouble::Answer { answer, .. } => Some(*answer),
        Trouble::Connection(_)
        | Trouble::Slow(_)
        | Trouble::Broken
        | Trouble::Corrupt
        | Trouble::Long(_)
        | Trouble::Unsigned(_)
        | Trouble::Request(_) => None,
    }
}

/// Whether a failed call failed because there is no such object, or it has become shorter.
fn gone(error: &Error) -> bool {
    matches!(answer_of(error), Some(Answer::Absent | Answer::Unsatisfiable))
}

/// Whether a failed call failed because there is no such object.
pub(super) fn absent(error: &Error) -> bool {
    answer_of(error) == Some(Answer::Absent)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.typed_get::<headers::ContentLength>().map(|length| length.0)
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The validator, without its quotes.
pub(super) fn etag(headers: &HeaderMap) -> String {
    text(headers, "etag").unwrap_or_default().trim_matches('"').to_owned()
}

fn known(size: u64, headers: &HeaderMap) -> Meta {
    Meta { size, etag: etag(headers), modified: modified(headers), mark: mark(headers) }
}

fn mark(headers: &HeaderMap) -> Option<String> {
    text(headers, META_MARK).map(str::to_owned)
}

fn modified(headers: &HeaderMap) -> SystemTime {
    headers.typed_get::<headers::LastModified>().map_or(SystemTime::UNIX_EPOCH, SystemTime::from)
}

/// What the bytes of a whole object are compared with: the best that the bucket knows of them.
enum Check {
    None,
    Crc(Box<Digest>, String),
    Sha256(Box<Sha256>, String),
}

impl Check {
    /// Checksums of parts (`COMPOSITE`, or with a `-` and their number) say nothing of the whole.
    fn of(headers: &HeaderMap) -> Self {
        let whole = text(headers, "x-amz-checksum-type") != Some("COMPOSITE");
        let named =
            |name| text(headers, name).filter(|value| whole && !value.contains('-')).map(str::to_owned);
        let crc = |algorithm, value| Self::Crc(Box::new(Digest::new(algorithm)), value);
        if let Some(value) = named("x-amz-checksum-crc64nvme").or_else(|| named(META_CRC)) {
            crc(CrcAlgorithm::Crc64Nvme, value)
        } else if let Some(value) = named("x-amz-checksum-crc32c") {
            crc(CrcAlgorithm::Crc32Iscsi, value)
        } else if let Some(value) = named("x-amz-checksum-crc32") {
            crc(CrcAlgorithm::Crc32IsoHdlc, value)
        } else if let Some(value) = named("x-amz-checksum-sha256") {
            Self::Sha256(Box::default(), value)
        } else {
            Self::None
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::None => {}
            Self::Crc(digest, _) => digest.update(bytes),
            Self::Sha256(hash, _) => hash.update(bytes),
        }
    }

    fn holds(&self) -> bool {
        use base64::Engine as _;
        let coded = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        match self {
            Self::None => true,
            Self::Crc(digest, wanted) if wanted.len() == 8 => {
                coded(&(digest.finalize() as u32).to_be_bytes()) == *wanted
            }
            Self::Crc(digest, wanted) => coded(&digest.finalize().to_be_bytes()) == *wanted,
            Self::Sha256(hash, wanted) => coded(&hash.as_ref().clone().finalize()) == *wanted,
        }
    }
}

/// An answer whose head, and whose body where it is small, has been read.
enum Opened {
    Ready(Object),
    Long { meta: Meta, part: Option<(u64, u64)>, reading: Box<Reading> },
}

fn body(part: Option<(u64, u64)>, content: Content) -> Body {
    match part {
        Some((first, last)) => Body::Part { first, last, content },
        None => Body::Whole(content),
    }
}

/// An object on its way through.
struct Reading {
    body: Flow,
    /// How many bytes have been read.
    at: u64,
    /// How many there are to read.
    length: u64,
    /// Which of them are handed on.
    wanted: Range<u64>,
    check: Check,
    /// Held back until the next chunk shows that it is not the last, or the checksum holds.
    last: Option<Bytes>,
    idle: Duration,
    key: Key,
    held: Option<Held>,
}

impl Reading {
    /// Whether more would be read, for nothing, than another request costs.
    fn is_far(&self) -> bool {
        matches!(self.check, Check::None) && self.wanted.start > SMALL as u64
    }

    /// The next chunk from the bucket, as far as it is wanted; `None` at the announced end.
    async fn pull(&mut self) -> Result<Option<Bytes>, Trouble> {
        loop {
            if let Check::None = self.check
                && self.at == self.length
            {
                return Ok(None);
            }
            let frame = match tokio::time::timeout(self.idle, self.body.frame()).await {
                Err(_) => return Err(Trouble::Slow(self.idle)),
                Ok(Some(Err(_))) => return Err(Trouble::Broken),
                Ok(None) if self.at == self.length => return Ok(None),
                Ok(None) => return Err(Trouble::Broken),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            let (begin, end) = (self.at, self.at + data.len() as u64);
            let all = matches!(self.check, Check::None);
            self.at = if all { end.min(self.length) } else { end };
            if self.at > self.length {
                return Err(Trouble::Broken);
            }
            self.check.update(&data);
            // Offsets within a chunk.
            let first = self.wanted.start.clamp(begin, end) - begin;
            let last = self.wanted.end.clamp(begin, end) - begin;
            if first < last {
                return Ok(Some(data.slice(first as usize..last as usize)));
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        loop {
            match self.pull().await? {
                Some(chunk) => {
                    if let Some(ready) = self.last.replace(chunk) {
                        return Ok(Some(ready));
                    }
                }
                None if self.check.holds() => return Ok(self.last.take()),
                None => return Err(Trouble::Corrupt),
            }
        }
    }
}

fn stream(reading: Reading) -> Content {
    let chunks = stream::unfold(Some(reading), |state| async {
        let mut reading = state?;
        match reading.next().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(reading))),
            Ok(None) => None,
            Err(trouble) => {
                tracing::error!(key = %reading.key, cause = %trouble, "an object broke off while it was read");
                let error =
                    if matches!(trouble, Trouble::Corrupt) { ReadError::Corrupt } else { ReadError::Broken };
                Some((Err(error), None))
            }
        }
    });
    Content::Stream(Box::pin(chunks))
}
