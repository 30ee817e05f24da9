//! gRPC's frame around a message, in and out: a flag, a length, the bytes (gRPC over HTTP/2, "Length-Prefixed-Message").
//!
//! By hand, and not a library's, because room for a message must be had before its bytes are taken in, and because an
//! answer larger than memory must flow. Knows nothing of what messages mean.

use std::io::Read as _;
use std::io::Write as _;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{BufMut as _, Bytes, BytesMut};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use prost::Message;

use crate::budget::{Budget, FREE, Held};
use crate::front::status::Failure;
use crate::metrics::Outcome;
use crate::payload::BodyError;

/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;
/// What a gzip stream begins with (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Larger messages are unpacked where nobody waits.
const UNPACK_HERE: usize = 64 << 10;
/// Answers from this size up to [`PACK_MOST`] are compressed, for who accepts that.
const PACK_LEAST: usize = 1 << 10;
/// Larger ones cost more to compress than to send.
const PACK_MOST: usize = 1 << 20;

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPTED: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// Where messages find room.
#[derive(Debug, Clone)]
pub(super) struct Room {
    /// Largest message, unpacked, in bytes.
    pub(super) most: u64,
    /// For messages as they are.
    pub(super) messages: Budget,
    /// For those that are packed, until they are unpacked.
    pub(super) packed: Budget,
}

/// A message, and the room that it takes.
#[derive(Debug)]
pub(super) struct Taken<M> {
    pub(super) message: M,
    /// As it came over the wire.
    pub(super) bytes: u64,
    pub(super) held: Held,
}

/// Whether a request speaks gRPC at all.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    kind.strip_prefix(b"application/grpc")
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// How long the caller waits (`grpc-timeout`: at most eight digits and a unit).
pub(super) fn deadline(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get(&TIMEOUT) else { return Ok(None) };
    let wrong = || Failure::Invalid("grpc-timeout is no number with a unit".to_owned());
    let text = value.to_str().map_err(|_| wrong())?;
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    if number.is_empty() || number.len() > 8 || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = number.parse().map_err(|_| wrong())?;
    Ok(Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return Err(wrong()),
    }))
}

/// Reads the one message of a call: finds room for all of it before its first byte is taken in.
pub(super) async fn read<M: Message + Default + 'static>(
    headers: &HeaderMap,
    body: Body,
    room: &Room,
) -> Result<Taken<M>, Failure> {
    let mut incoming = Incoming { body, left: Bytes::new() };
    let head = incoming.take(HEAD).await?;
    let (packed, length) = match head.as_ref() {
        [flag @ (0 | 1), length @ ..] => {
            (*flag == 1, length.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)))
        }
        _ => return Err(Failure::Invalid("the message's first byte is neither 0 nor 1".to_owned())),
    };
    if length > room.most {
        return Err(Failure::TooLarge(room.most));
    }
    let taken = if packed {
        if headers.get(&ENCODING).map(HeaderValue::as_bytes) != Some(b"gzip") {
            return Err(Failure::Unsupported("gzip is the only compression here"));
        }
        let packing = room.packed.take(length).await;
        let bytes = incoming.all(length).await?;
        let (bytes, held) = unpacked(bytes, room).await?;
        drop(packing);
        (bytes, held)
    } else {
        let held = room.messages.take(length).await;
        (incoming.all(length).await?, held)
    };
    let (bytes, held) = taken;
    let message =
        M::decode(bytes).map_err(|error| Failure::Invalid(format!("the message cannot be read: {error}")))?;
    Ok(Taken { message, bytes: length + HEAD as u64, held })
}

/// Unpacks a message within what it says of its own length (RFC 1952: ISIZE, its last four bytes).
async fn unpacked(packed: Bytes, room: &Room) -> Result<(Bytes, Held), Failure> {
    if !packed.starts_with(&GZIP) {
        return Err(Failure::Invalid("the message is no gzip stream".to_owned()));
    }
    let said = packed.last_chunk::<4>().map_or(0, |last| u64::from(u32::from_le_bytes(*last)));
    if said > room.most {
        return Err(Failure::TooLarge(room.most));
    }
    let held = room.messages.take(said).await;
    let work = move || {
        let mut bytes = Vec::with_capacity(usize::try_from(said).unwrap_or(0));
        let read = GzDecoder::new(packed.as_ref()).take(said + 1).read_to_end(&mut bytes);
        match read {
            Ok(_) if bytes.len() as u64 == said => Ok(Bytes::from(bytes)),
            Ok(_) => Err(Failure::Invalid("the gzip stream is not as long as it says".to_owned())),
            Err(_) => Err(Failure::Invalid("the gzip stream is damaged".to_owned())),
        }
    };
    let bytes = match said as usize > UNPACK_HERE {
        true => tokio::task::spawn_blocking(work).await.unwrap_or(Err(Failure::Incomplete)),
        false => work(),
    };
    Ok((bytes?, held))
}

/// A request's body, taken in pieces of known size.
struct Incoming {
    body: Body,
    left: Bytes,
}

impl Incoming {
    async fn frame(&mut self) -> Result<bool, Failure> {
        match self.body.frame().await {
            None => Ok(false),
            Some(Err(error)) => Err(crate::front::body::cause(&error).into()),
            Some(Ok(frame)) => {
                self.left = frame.into_data().unwrap_or_default();
                Ok(true)
            }
        }
    }

    /// Exactly so many bytes; few.
    async fn take(&mut self, count: usize) -> Result<Bytes, Failure> {
        let mut bytes = BytesMut::with_capacity(count);
        self.fill(&mut bytes, count).await?;
        Ok(bytes.freeze())
    }

    async fn fill(&mut self, bytes: &mut BytesMut, count: usize) -> Result<(), Failure> {
        while bytes.len() < count {
            if self.left.is_empty() && !self.frame().await? {
                return Err(BodyError::Incomplete.into());
            }
            bytes.put(self.left.split_to(self.left.len().min(count - bytes.len())));
        }
        Ok(())
    }

    /// All that is left, which is to be so much. Room is made as it comes: who only says that it is much gets none.
    async fn all(mut self, count: u64) -> Result<Bytes, Failure> {
        let count = usize::try_from(count).map_err(|_| Failure::TooLarge(count))?;
        let mut bytes = BytesMut::with_capacity(count.min(FREE));
        self.fill(&mut bytes, count.min(FREE)).await?;
        bytes.reserve(count - bytes.len());
        self.fill(&mut bytes, count).await?;
        while self.left.is_empty() {
            if !self.frame().await? {
                return Ok(bytes.freeze());
            }
        }
        Err(Failure::Invalid("more than one message in one call".to_owned()))
    }
}

/// The five bytes before a message.
pub(super) fn head(packed: bool, length: usize) -> Option<[u8; HEAD]> {
    let [a, b, c, d] = u32::try_from(length).ok()?.to_be_bytes();
    Some([u8::from(packed), a, b, c, d])
}

/// The answer that is one message; compressed where that is accepted and worth it.
pub(super) fn answer(message: &Bytes, accept: &HeaderMap, outcome: Outcome) -> Response {
    let accepts = accept
        .get_all(&ACCEPTED)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|name| name.trim() == "gzip"));
    let worth = accepts && (PACK_LEAST..=PACK_MOST).contains(&message.len());
    let packed = if worth { pack(message) } else { None };
    let bytes = packed.as_deref().unwrap_or(message);
    let Some(head) = head(packed.is_some(), bytes.len()) else {
        return refusal(&Failure::TooLarge(u64::from(u32::MAX)));
    };
    let frame = [head.as_slice(), bytes].concat();
    let body = Full::new(Bytes::from(frame)).with_trailers(async { Some(Ok(done())) });
    let mut response = opened(Body::new(body), outcome);
    if packed.is_some() {
        response.headers_mut().insert(ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn pack(message: &[u8]) -> Option<Vec<u8>> {
    let mut packer = GzEncoder::new(Vec::with_capacity(message.len() / 2), Compression::fast());
    packer.write_all(message).ok()?;
    packer.finish().ok()
}

/// The answer that is one message, as a stream of its bytes. One that fails breaks the answer off.
pub(super) fn flowing<S, E>(frames: S, outcome: Outcome) -> Response
where
    S: futures_util::Stream<Item = Result<Bytes, E>> + Send + 'static,
    E: Into<axum::BoxError> + Send + 'static,
{
    use futures_util::stream::{self, StreamExt as _};
    let trailers = stream::iter([Ok(Frame::trailers(done()))]);
    opened(Body::new(StreamBody::new(frames.map(|bytes| bytes.map(Frame::data)).chain(trailers))), outcome)
}

fn done() -> HeaderMap {
    HeaderMap::from_iter([(STATUS, HeaderValue::from_static("0"))])
}

fn opened(body: Body, outcome: Outcome) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response.extensions_mut().insert(outcome);
    response
}

/// A failure, told as gRPC tells it.
pub(super) fn refusal(failure: &Failure) -> Response {
    let mut response = tonic::Status::new(failure.row().grpc, failure.line()).into_http::<Body>();
    response.extensions_mut().insert(failure.outcome());
    response
}
