//! Writing objects: up to one part a single PutObject, beyond that a multipart upload.

use futures_util::StreamExt as _;
use futures_util::future::{FutureExt as _, try_join_all};
use futures_util::stream::BoxStream;
use http::Method;

use super::answers::Answer;
use super::body::{Chunks, Gather};
use super::read::{META_CRC, META_MARK, absent, etag};
use super::sign::Hash;
use super::wire::Call;
use super::{Checksums, S3, Sse};
use crate::budget::{Budget, FREE, Held};
use crate::payload::{BodyError, Payload};
use crate::store::error::{Error, Kind, Op, PutError};
use crate::store::key::{Key, Prefix};
use crate::store::{Mode, PART, Put, Stored};

/// A body on its way in, cut into parts of exactly [`PART`] bytes but for the last.
pub(super) struct Source {
    stream: BoxStream<'static, Result<bytes::Bytes, BodyError>>,
    declared: Option<u64>,
    seen: u64,
    /// Of a frame that reached over the end of a part.
    over: bytes::Bytes,
    ended: bool,
    /// All bytes are at hand and paid for: they are neither copied nor asked room for.
    paid: bool,
}

impl Source {
    fn new(payload: Payload) -> Self {
        let paid = payload.whole.is_some();
        Self {
            stream: payload.stream,
            declared: payload.len,
            seen: 0,
            over: bytes::Bytes::new(),
            ended: false,
            paid,
        }
    }

    pub(super) const fn ended(&self) -> bool {
        self.ended
    }

    pub(super) const fn paid(&self) -> bool {
        self.paid
    }

    /// Waits until there are bytes to take, or the end of the body.
    async fn advance(&mut self) -> Result<(), BodyError> {
        while self.over.is_empty() && !self.ended {
            match self.stream.next().await {
                Some(frame) => self.over = frame?,
                None => self.ended = true,
            }
            self.seen += self.over.len() as u64;
            let wrong = |len| self.seen > len || (self.ended && self.seen < len);
            if self.declared.is_some_and(wrong) {
                return Err(BodyError::Length);
            }
        }
        Ok(())
    }

    /// Adds the next bytes to a part. `false` once the part is full or the body has ended.
    pub(super) async fn fill(&mut self, part: &mut Gather) -> Result<bool, BodyError> {
        if part.len() < PART {
            self.advance().await?;
            let now = self.over.len().min(PART - part.len());
            let bytes = self.over.split_to(now);
            if self.paid { part.share(bytes) } else { part.push(&bytes) }
        }
        Ok(part.len() < PART && !self.ended)
    }

    /// Gathers a first part, and finds out whether it is the last. Small bodies ask nothing of the budget.
    async fn first(&mut self, budget: &Budget) -> Result<(Gather, Option<Held>), BodyError> {
        let mut part = Gather::default();
        let mut held = None;
        while self.fill(&mut part).await? {
            if held.is_none() && part.len() > FREE && !self.paid {
                let most = self.declared.unwrap_or(PART as u64).min(PART as u64);
                held = Some(budget.take(most).await);
            }
        }
        self.advance().await?;
        Ok((part, held))
    }
}

impl S3 {
    /// See [`crate::store::Store::put`]. One request for up to [`PART`] bytes, else one a part and two; and one for
    /// each name above the key that may be an object.
    pub(crate) async fn put(&self, key: &Key, payload: Payload, how: Put) -> Result<Stored, PutError> {
        self.refuse_conflicts(key, how.settled).await?;
        let mut source = Source::new(payload);
        let (part, held) = source.first(&self.budget).await?;
        if source.ended() {
            return Ok(self.put_whole(key, part.finish(), &how).await?);
        }
        if let Mode::Swap(_) = how.mode {
            return Err(BodyError::TooLarge { limit: PART as u64 }.into());
        }
        self.upload(key, source, part, held, &how).await
    }

    async fn put_whole(&self, key: &Key, body: Chunks, how: &Put) -> Result<Stored, Error> {
        let mut call =
            Call::new(Op::Put, "put", Method::PUT).header("content-type", "application/octet-stream");
        call = match self.checksums {
            Checksums::Always => call.header("x-amz-checksum-crc64nvme", &body.crc().to_string()),
            Checksums::WhenRequired => call.header(META_CRC, &body.crc().to_string()),
        };
        call = match &self.sse {
            None => call,
            Some(Sse::Aes256) => call.header("x-amz-server-side-encryption", "AES256"),
            Some(Sse::Kms(None)) => call.header("x-amz-server-side-encryption", "aws:kms"),
            Some(Sse::Kms(Some(id))) => call
                .header("x-amz-server-side-encryption", "aws:kms")
                .header("x-amz-server-side-encryption-aws-kms-key-id", id),
        };
        call = match &how.mode {
            Mode::Replace => call,
            Mode::Create => call.header("if-none-match", "*"),
            Mode::Swap(etag) => call.header("if-match", &format!("\"{etag}\"")),
        };
        if let Some(mark) = &how.mark {
            call = call.header(META_MARK, mark);
        }
        call.hash = Hash::Sha256(body.sha256());
        call.body = body;
        let sent = self.wire.send(key, call, |reply| {
            async move {
                if reply.answer == Answer::Failed {
                    return Ok(Stored::Exists);
                }
                let etag = etag(reply.response.headers());
                self.wire.drain(reply.response).await;
                Ok(Stored::Done { etag })
            }
            .boxed()
        });
        match sent.await {
            // A server that refuses a large body before it has read it may hang up, and its refusal be lost with that.
            Err(error) if matches!(how.mode, Mode::Swap(_)) && absent(&error) => Ok(Stored::Exists),
            Err(error) if how.mode == Mode::Create && error.kind == Kind::Unavailable => {
                self.head(key).await?.map_or(Err(error), |_| Ok(Stored::Exists))
            }
            sent => sent,
        }
    }

    /// Sends one part; its validator.
    pub(super) async fn put_part(
        &self,
        key: &Key,
        upload: &str,
        number: i32,
        body: Chunks,
    ) -> Result<String, Error> {
        let mut call = Call::new(Op::Put, "part", Method::PUT);
        call.query = format!("partNumber={number}&uploadId={}", super::escape(upload));
        match self.checksums {
            Checksums::Always => {
                call = call.header("x-amz-checksum-crc64nvme", &body.crc().to_string());
                call.hash = Hash::Unsigned;
            }
            Checksums::WhenRequired => call.hash = Hash::Sha256(body.sha256()),
        }
        call.body = body;
        self.wire
            .send(key, call, |reply| {
                async move {
                    let etag = etag(reply.response.headers());
                    self.wire.drain(reply.response).await;
                    Ok(etag)
                }
                .boxed()
            })
            .await
    }

    /// Refuses a key that would be an object and a directory at once, as file systems do. A bucket would hold both:
    /// names above are asked for; names below are remembered from what passed through here (`directories`), and only
    /// then looked up, so that an ordinary put costs one request.
    async fn refuse_conflicts(&self, key: &Key, settled: usize) -> Result<(), Error> {
        let conflict = || Error::new(Kind::Conflict, Op::Put, key, "an object and a directory of one name");
        if self.directories.get(key).is_some() {
            if self.any(&Prefix::below(key)).await? {
                return Err(conflict());
            }
            self.directories.remove(key);
        }
        let doubtful: Vec<Key> =
            key.ancestors().filter(|above| above.as_str().split('/').count() > settled).collect();
        let found = try_join_all(doubtful.iter().map(|above| self.head_and_crc(above))).await?;
        if found.iter().any(Option::is_some) {
            return Err(conflict());
        }
        doubtful.into_iter().for_each(|above| self.directories.insert(above, ()));
        Ok(())
    }
}
