//! An object of our own: written as the gateway writes, read back, and compared.

use std::time::{Duration, Instant};

use http::Method;

use super::access::{NEED_OBJECTS, STICKY};
use super::ask::{Ask, expect, is_refusal};
use super::{Examiner, FIRST, Known, Say, THIRD, skip};
use crate::store::Touched;
use crate::store::checksum::Crc;
use crate::store::error::{Error, Kind, Op};
use crate::store::examine::{PATIENCE, Probe, Seen};
use crate::store::s3::Checksums;
use crate::store::s3::read::{META_CRC, META_MARK};
use crate::store::s3::wire::Raw;

/// What is written, and what is not what is written.
pub(super) const BYTES: &[u8] = b"larder doctor was here, and will be gone in a moment";
pub(super) const OTHER: &[u8] = b"larder doctor was here; these bytes are never written";
/// What is noted beside it.
const MARK: &str = "larder doctor";
/// Dates are told in seconds: after so long an object that is written again has another.
const TICK: Duration = Duration::from_millis(1_200);

/// An object that is there.
#[derive(Debug)]
pub(super) struct Written {
    at: Instant,
    read: Option<Raw>,
}

impl Written {
    /// Whether it could be read back.
    pub(super) const fn is_read(&self) -> bool {
        self.read.is_some()
    }
}

/// What needs to be read back.
const NEED_READING: [Probe; 5] =
    [Probe::ChecksumKept, Probe::Metadata, Probe::NotModified, Probe::Encryption, Probe::Refresh];
/// What needs to be written.
const NEED_WRITING: [Probe; 7] = [
    Probe::CreateOnly,
    Probe::ReplaceSame,
    Probe::CopySame,
    Probe::CreateLarge,
    Probe::ChecksumRefused,
    Probe::ListFresh,
    Probe::ListOrder,
];

impl Examiner {
    /// A write as the gateway writes.
    pub(super) fn put(&self, leaf: &'static str) -> Ask {
        let ask = Ask::key(Method::PUT, leaf).body(BYTES).sealed(&self.s3).header(META_MARK, MARK);
        match self.s3.checksums {
            Checksums::Always => ask.checksum(BYTES),
            Checksums::WhenRequired => ask.header(META_CRC, &Crc::of(BYTES).to_string()),
        }
    }

    /// Writes and reads back. `None` where nothing could be written.
    pub(super) async fn objects(&self, say: &Say<'_>, known: &Known) -> Option<Written> {
        let answer = self.ask(self.put(FIRST)).await;
        let at = Instant::now();
        let seen = match &answer {
            Ok(raw) if raw.status >= 400 && !is_refusal(raw) => self.why_refused(raw).await,
            _ => expect(&answer, &[200], false),
        };
        let etag = match (&seen, &answer) {
            (Seen::Well(_), Ok(raw)) => raw.header("etag").unwrap_or_default().to_owned(),
            (_, _) => {
                self.not_written(say, known, seen).await;
                return None;
            }
        };
        say(Probe::Write, seen);
        if known.sticky && self.ledger.has_versions() {
            self.stopped(say).await;
            return None;
        }
        let ask = Ask::key(Method::GET, FIRST).header("x-amz-checksum-mode", "ENABLED");
        let answer = self.ask(ask).await;
        let seen = match &answer {
            Ok(raw) if raw.status == 200 && raw.body.as_bytes() != BYTES => {
                Seen::Wrong("other bytes come back than were written".to_owned())
            }
            _ => expect(&answer, &[200], false),
        };
        let read = answer.ok().filter(|_| matches!(seen, Seen::Well(_)));
        say(Probe::Read, seen);
        match &read {
            Some(raw) => self.compare(say, raw, &etag).await,
            None => skip(say, &NEED_READING, "nothing could be read back: s3:GetObject"),
        }
        self.checksum_refused(say).await;
        Some(Written { at, read })
    }

    async fn not_written(&self, say: &Say<'_>, known: &Known, seen: Seen) {
        say(Probe::Write, seen);
        let absent = self.ask(Ask::key(Method::GET, super::NOBODY)).await;
        let seen = match &absent {
            Ok(raw) if is_refusal(raw) && !known.list => Seen::Skipped(
                "there is nothing to read, and without s3:ListBucket that is refused, too".to_owned(),
            ),
            _ => expect(&absent, &[404], false),
        };
        say(Probe::Read, seen);
        let why = "nothing could be written: s3:PutObject";
        skip(say, &NEED_READING, why);
        skip(say, &NEED_WRITING, why);
        skip(say, &[Probe::PublicRead, Probe::PublicWrite], why);
        let seen = self.public_list().await;
        say(Probe::PublicList, seen);
        let seen = self.batch(&[super::NOBODY]).await;
        say(Probe::DeleteMany, seen);
    }

    /// Only the first write has shown that versions are kept: it stays the only one.
    async fn stopped(&self, say: &Say<'_>) {
        let read = self.ask(Ask::key(Method::GET, FIRST)).await;
        say(Probe::Read, expect(&read, &[200], false));
        skip(say, &NEED_OBJECTS, STICKY);
        skip(say, &[Probe::DeleteMany, Probe::PublicWrite], STICKY);
        let seen = self.public_list().await;
        say(Probe::PublicList, seen);
    }

    /// A write that is refused, though it may be the fault of what goes along with it.
    async fn why_refused(&self, refused: &Raw) -> Seen {
        let line = refused.line();
        let plain = Ask::key(Method::PUT, FIRST).body(BYTES).header(META_MARK, MARK);
        let fine = |answer: &Result<Raw, String>| answer.as_ref().is_ok_and(|raw| raw.status == 200);
        if self.s3.checksums == Checksums::Always && fine(&self.ask(plain.clone().sealed(&self.s3)).await) {
            return Seen::Wrong(format!("refused for its checksum (--s3-checksums always): {line}"));
        }
        if self.encrypted && fine(&self.ask(plain).await) {
            return Seen::Wrong(format!("refused for its encryption (--s3-sse): {line}"));
        }
        Seen::Failed(line)
    }

    async fn compare(&self, say: &Say<'_>, raw: &Raw, etag: &str) {
        let crc = Crc::of(BYTES).to_string();
        say(
            Probe::ChecksumKept,
            match (self.s3.checksums, raw.header("x-amz-checksum-crc64nvme")) {
                (Checksums::WhenRequired, _) => {
                    Seen::Skipped("--s3-checksums when-required: ours rides beside the object".to_owned())
                }
                (Checksums::Always, Some(sum)) if sum == crc => Seen::Well("CRC-64/NVME".to_owned()),
                (Checksums::Always, Some(sum)) => Seen::Wrong(format!("{sum} comes back for {crc}")),
                (Checksums::Always, None) => Seen::Wrong("no checksum comes back".to_owned()),
            },
        );
        let kept = raw.header(META_MARK) == Some(MARK)
            && (self.s3.checksums == Checksums::Always || raw.header(META_CRC) == Some(crc.as_str()));
        say(
            Probe::Metadata,
            match kept {
                true => Seen::Well(String::new()),
                false => Seen::Wrong("user metadata does not come back".to_owned()),
            },
        );
        let sealed = raw.header("x-amz-server-side-encryption");
        say(
            Probe::Encryption,
            match (self.encrypted, sealed) {
                (true, None) => Seen::Wrong("asked for, and the object does not say that it is".to_owned()),
                (_, Some(how)) => Seen::Well(how.to_owned()),
                (false, None) => Seen::Well("not asked for".to_owned()),
            },
        );
        let again = self.ask(Ask::key(Method::GET, FIRST).header("if-none-match", etag)).await;
        say(Probe::NotModified, expect(&again, &[304], true));
    }

    /// Bytes with the checksum of others, under a name of their own.
    async fn checksum_refused(&self, say: &Say<'_>) {
        if self.s3.checksums == Checksums::WhenRequired {
            skip(say, &[Probe::ChecksumRefused], "--s3-checksums when-required: none is sent");
            return;
        }
        let wrong = Ask::key(Method::PUT, THIRD).body(BYTES).sealed(&self.s3).checksum(OTHER);
        let answer = self.ask(wrong).await;
        say(
            Probe::ChecksumRefused,
            match &answer {
                Ok(raw) if raw.status == 200 => {
                    Seen::Wrong("bytes are stored that fail their checksum".to_owned())
                }
                Ok(raw) if raw.status == 400 => Seen::Well(String::new()),
                _ => expect(&answer, &[], false),
            },
        );
    }

    /// Whether the gateway's own refreshing makes the object young, and leaves the rest as it was.
    pub(super) async fn refresh(&self, say: &Say<'_>, written: &Written) {
        // Where it could not be read, that was said.
        let Some(before) = &written.read else { return };
        if let Some(left) = TICK.checked_sub(written.at.elapsed()) {
            tokio::time::sleep(left).await;
        }
        let Ok(key) = self.name(FIRST) else { return };
        // In a task of its own: it must not be carried out after all has been removed.
        let s3 = std::sync::Arc::clone(&self.s3);
        let touching = self.tracker.spawn(async move { s3.touch(&key, None).await });
        let touched = tokio::time::timeout(PATIENCE, touching).await.map(|joined| {
            joined.unwrap_or_else(|lost| Err(Error::new(Kind::Unavailable, Op::Touch, FIRST, lost)))
        });
        let seen = match touched {
            Err(_) => Seen::Failed("no answer in time".to_owned()),
            Ok(Err(error)) if error.kind == Kind::Denied => Seen::Refused(error.chain()),
            Ok(Err(error)) => Seen::Failed(error.chain()),
            Ok(Ok(Touched::Gone)) => Seen::Failed("the object is gone".to_owned()),
            Ok(Ok(Touched::Done | Touched::Young | Touched::Unmoved)) => {
                let ask = Ask::key(Method::GET, FIRST).header("x-amz-checksum-mode", "ENABLED");
                self.ask(ask).await.map_or_else(Seen::Failed, |after| refreshed(before, &after))
            }
        };
        say(Probe::Refresh, seen);
    }
}

fn refreshed(before: &Raw, after: &Raw) -> Seen {
    // Under a key of KMS a copy has another validator (S3 "Object"), as is known: readers ask anew.
    let keyed = after.header("x-amz-server-side-encryption").is_some_and(|how| how.starts_with("aws:kms"));
    let kept = [
        if keyed { "content-type" } else { "etag" },
        META_MARK,
        META_CRC,
        "x-amz-checksum-crc64nvme",
        "content-type",
    ];
    let lost: Vec<&str> = kept.into_iter().filter(|name| before.header(name) != after.header(name)).collect();
    match after.status {
        200 if after.body != before.body => Seen::Wrong("the copy has other bytes".to_owned()),
        200 if !lost.is_empty() => Seen::Wrong(format!("the copy differs in {}", lost.join(", "))),
        200 if after.header("last-modified") == before.header("last-modified") => {
            Seen::Wrong("a copy of an object onto itself does not move its date".to_owned())
        }
        200 => Seen::Well("a copy of an object onto itself moves its date".to_owned()),
        _ => Seen::Failed(after.line()),
    }
}
