//! Reading objects: one GET, checked against the bucket's checksum before its last byte is handed on.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use futures_util::future::{FutureExt as _, ready};
use futures_util::stream;
use headers::HeaderMapExt as _;
use http::{HeaderMap, Method, Response};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};

use super::S3;
use super::answers::Answer;
use super::pool::Flow;
use super::wire::{Call, Reply, Trouble};
use crate::budget::Held;
use crate::payload::{Body, ByteRange, Content, Meta, Object, ReadError, Want};
use crate::store::SMALL;
use crate::store::error::{Error, Kind, Op};
use crate::store::key::Key;

/// What a stream of an object holds of the budget: the buffers of the two sockets it runs through.
const STREAM: u64 = 256 * 1024;

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

/// How a read's answer looks before its bytes are judged.
enum Found {
    Object(Object),
    Absent,
    /// The conditional range does not hold: ask for the whole.
    Changed,
    /// A part of an object so small that it is read whole, to be checked.
    Small(ByteRange),
    Beyond,
}

impl S3 {
    /// See [`crate::store::Store::get`]. One request; two for a range that cannot be satisfied, that is of an object
    /// of at most [`SMALL`] bytes, or whose `If-Range` fails.
    pub(crate) async fn get(&self, key: &Key, want: &Want) -> Result<Option<Object>, Error> {
        if want.unless_any {
            let meta = self.head(key).await?;
            return Ok(meta.map(|meta| Object { meta, body: Body::Unchanged }));
        }
        // Servers take a range that ends before it begins for none.
        let reversed = matches!(want.range, Some(ByteRange::Between(first, last)) if first > last);
        let found = if reversed { Found::Beyond } else { self.ask(key, want, want.range).await? };
        match found {
            Found::Object(object) => Ok(Some(object)),
            Found::Absent => Ok(None),
            Found::Changed => self.whole(key, want).await,
            Found::Small(range) => Ok(self.whole(key, want).await?.map(|object| slice(object, range))),
            Found::Beyond => {
                // Servers look at the range before the validator.
                let meta = self.head(key).await?;
                Ok(meta.map(|meta| match want.has(&meta.etag) {
                    true => Object { meta, body: Body::Unchanged },
                    false => Object { meta, body: Body::Unsatisfiable },
                }))
            }
        }
    }

    async fn whole(&self, key: &Key, want: &Want) -> Result<Option<Object>, Error> {
        match self.ask(key, want, None).await? {
            Found::Object(object) => Ok(Some(object)),
            Found::Absent => Ok(None),
            Found::Changed | Found::Small(_) | Found::Beyond => {
                Err(Error::new(Kind::Corrupt, Op::Get, key, "an answer to a range nobody asked for"))
            }
        }
    }

    async fn ask(&self, key: &Key, want: &Want, range: Option<ByteRange>) -> Result<Found, Error> {
        let mut call = Call::new(Op::Get, "get", Method::GET).header("x-amz-checksum-mode", "ENABLED");
        if let [known] = want.unless.as_slice() {
            call = call.header("if-none-match", &format!("\"{known}\""));
        }
        if let Some(range) = range {
            call = call.header("range", &countable(range).to_string());
            if let Some(etag) = &want.range_if {
                call = call.header("if-match", &format!("\"{etag}\""));
            }
        }
        let result = self.wire.send(key, call, |reply| self.found(key, want, range, reply).boxed()).await;
        match result {
            Err(error) if beyond(&error) => Ok(Found::Beyond),
            Err(error) if absent(&error) => Ok(Found::Absent),
            other => other,
        }
    }

    async fn found(
        &self,
        key: &Key,
        want: &Want,
        range: Option<ByteRange>,
        reply: Reply,
    ) -> Result<Found, Trouble> {
        match reply.answer {
            Answer::Unchanged => {
                let etag = want.unless.first().cloned().unwrap_or_default();
                let modified = modified(reply.response.headers());
                let meta = Meta { size: 0, etag, modified, mark: mark(reply.response.headers()) };
                return Ok(Found::Object(Object { meta, body: Body::Unchanged }));
            }
            Answer::Failed => return Ok(Found::Changed),
            Answer::Ok
            | Answer::Absent
            | Answer::Unsatisfiable
            | Answer::NoUpload
            | Answer::Retry
            | Answer::Skewed
            | Answer::Fault(_) => {}
        }
        let response = reply.response;
        let length = content_length(response.headers()).ok_or(Trouble::Broken)?;
        let part = content_range(response.headers());
        let size = part.map_or(length, |(_, _, size)| size);
        let meta = known(size, response.headers());
        if want.has(&meta.etag) {
            return Ok(Found::Object(Object { meta, body: Body::Unchanged }));
        }
        if let (Some((first, last, _)), Some(asked)) = (part, range) {
            if size <= SMALL as u64 {
                return Ok(Found::Small(asked));
            }
            let content = self.content(key, response, length, Check::None, want.paid).await?;
            return Ok(Found::Object(Object { meta, body: Body::Part { first, last, content } }));
        }
        let check = Check::of(response.headers());
        let content = self.content(key, response, length, check, want.paid).await?;
        let object = Object { meta, body: Body::Whole(content) };
        // A server that ignores ranges answers with the whole.
        Ok(Found::Object(match range {
            Some(range) if length <= SMALL as u64 => slice(object, range),
            _ => object,
        }))
    }

    async fn content(
        &self,
        key: &Key,
        response: Response<Flow>,
        length: u64,
        mut check: Check,
        paid: bool,
    ) -> Result<Content, Trouble> {
        if length <= SMALL as u64 {
            let bytes = self.wire.collect(response, SMALL).await?;
            if bytes.len() as u64 != length {
                return Err(Trouble::Broken);
            }
            check.update(&bytes);
            return if check.holds() { Ok(Content::Bytes(bytes)) } else { Err(Trouble::Corrupt) };
        }
        let held = if paid { None } else { Some(self.budget.take(STREAM).await) };
        Ok(stream(Reading {
            body: response.into_body(),
            left: length,
            check,
            last: None,
            idle: self.wire.idle,
            key: key.clone(),
            _held: held,
        }))
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
        | Trouble::Unsigned(_)
        | Trouble::Request(_) => None,
    }
}

/// Whether a failed call failed because there is no such object.
pub(super) fn absent(error: &Error) -> bool {
    answer_of(error) == Some(Answer::Absent)
}

fn beyond(error: &Error) -> bool {
    answer_of(error) == Some(Answer::Unsatisfiable)
}

/// The same range in numbers that servers can count in. They count in signed 64 bits, and take what does not fit for no
/// range at all; no object is anywhere near so large.
fn countable(range: ByteRange) -> ByteRange {
    let most = |offset: u64| offset.min(1 << 62);
    match range {
        ByteRange::From(first) => ByteRange::From(most(first)),
        ByteRange::Between(first, last) => ByteRange::Between(most(first), most(last)),
        ByteRange::Suffix(length) => ByteRange::Suffix(most(length)),
    }
}

/// Cuts a range out of an object that was read whole.
fn slice(object: Object, range: ByteRange) -> Object {
    let Object { meta, body } = object;
    let body = match (body, range.resolve(meta.size)) {
        (Body::Whole(Content::Bytes(bytes)), Some((first, last))) => {
            let content = Content::Bytes(bytes.slice(first as usize..=last as usize));
            Body::Part { first, last, content }
        }
        (Body::Whole(_), None) => Body::Unsatisfiable,
        (body, _) => body,
    };
    Object { meta, body }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.typed_get::<headers::ContentLength>().map(|length| length.0)
}

fn content_range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let range = headers.typed_get::<headers::ContentRange>()?;
    let (first, last) = range.bytes_range()?;
    Some((first, last, range.bytes_len()?))
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

/// An object on its way through.
struct Reading {
    body: Flow,
    left: u64,
    check: Check,
    /// Held back until the next chunk shows that it is not the last, or the checksum holds.
    last: Option<Bytes>,
    idle: Duration,
    key: Key,
    _held: Option<Held>,
}

impl Reading {
    /// The next chunk from the bucket; `None` at the announced end.
    async fn pull(&mut self) -> Result<Option<Bytes>, Trouble> {
        loop {
            let frame = match tokio::time::timeout(self.idle, self.body.frame()).await {
                Err(_) => return Err(Trouble::Slow(self.idle)),
                Ok(Some(Err(_))) => return Err(Trouble::Broken),
                Ok(None) if self.left == 0 => return Ok(None),
                Ok(None) => return Err(Trouble::Broken),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            self.left = self.left.checked_sub(data.len() as u64).ok_or(Trouble::Broken)?;
            self.check.update(&data);
            return Ok(Some(data));
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
