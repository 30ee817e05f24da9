//! One question to the bucket, bounded in time, and how its answer is read.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::sync::oneshot;

use super::Examiner;
use crate::store::checksum::Crc;
use crate::store::error::Op;
use crate::store::examine::{PATIENCE, Seen};
use crate::store::key::Key;
use crate::store::s3::body::Gather;
use crate::store::s3::sign::Hash;
use crate::store::s3::wire::{Call, Raw, Trouble};
use crate::store::s3::{S3, Sse};

/// After so many unanswered requests in a row nothing more is asked: every further one would take its full time.
const PATIENT_FOR: u32 = 3;
/// How often a request is sent that the server answers with a failure of its own.
const TRIES: u32 = 3;
/// Pause between these.
const PAUSE: Duration = Duration::from_millis(300);

/// A request in the making.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    leaf: Option<&'static str>,
    call: Call,
    signed: bool,
}

impl Ask {
    /// About a name below the examination's own place.
    pub(super) fn key(method: Method, leaf: &'static str) -> Self {
        Self { leaf: Some(leaf), call: Call::new(Op::Probe, "examine", method), signed: true }
    }

    /// About the bucket itself. The query has its pairs in order, each with a `=`.
    pub(super) fn bucket(method: Method, query: &str) -> Self {
        let ask = Self { leaf: None, call: Call::new(Op::Probe, "examine", method), signed: true };
        ask.query(query)
    }

    pub(super) fn query(mut self, query: &str) -> Self {
        query.clone_into(&mut self.call.query);
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.call = self.call.header(name, value);
        self
    }

    /// With this body, its hash in the signature.
    pub(super) fn body(mut self, bytes: &'static [u8]) -> Self {
        self.fill(Bytes::from_static(bytes));
        self
    }

    /// As [`Ask::body`].
    pub(super) fn text(mut self, text: String) -> Self {
        self.fill(text.into());
        self
    }

    fn fill(&mut self, bytes: Bytes) {
        let mut body = Gather::default();
        body.share(bytes);
        self.call.body = body.finish();
        self.call.hash = Hash::Sha256(self.call.body.sha256());
    }

    /// Signed for another body than is sent: no server that checks what it stores stores it.
    pub(super) fn mismatched(mut self) -> Self {
        self.call.hash = Hash::Sha256("0".repeat(64));
        self
    }

    /// As a stranger asks.
    pub(super) fn unsigned(mut self) -> Self {
        self.signed = false;
        self
    }

    /// With what the gateway sends along: encryption and content type.
    pub(super) fn sealed(self, s3: &S3) -> Self {
        let ask = self.header("content-type", "application/octet-stream");
        match &s3.sse {
            None => ask,
            Some(Sse::Aes256) => ask.header("x-amz-server-side-encryption", "AES256"),
            Some(Sse::Kms(None)) => ask.header("x-amz-server-side-encryption", "aws:kms"),
            Some(Sse::Kms(Some(id))) => ask
                .header("x-amz-server-side-encryption", "aws:kms")
                .header("x-amz-server-side-encryption-aws-kms-key-id", id),
        }
    }

    /// With the checksum of these bytes.
    pub(super) fn checksum(self, of: &[u8]) -> Self {
        self.header("x-amz-checksum-crc64nvme", &Crc::of(of).to_string())
    }
}

async fn attempts(s3: &S3, key: Option<&Key>, call: &Call, signed: bool) -> Result<Raw, Trouble> {
    let mut tried = 0;
    loop {
        tried += 1;
        let answer = s3.wire.raw(key, call, signed).await;
        let busy = answer.as_ref().is_ok_and(|raw| matches!(raw.status, 500 | 502 | 503 | 504));
        if !busy || tried >= TRIES {
            return answer;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Examiner {
    /// Asks, and notes what came to be by it even where nobody waits for the answer any more.
    pub(super) async fn trouble_or(&self, ask: Ask) -> Result<Raw, Trouble> {
        if self.silence.load(Ordering::Relaxed) >= PATIENT_FOR {
            return Err(Trouble::Slow(PATIENCE));
        }
        let Ok(key) = ask.leaf.map(|leaf| self.name(leaf)).transpose() else { return Err(Trouble::Broken) };
        let (s3, ledger) = (std::sync::Arc::clone(&self.s3), std::sync::Arc::clone(&self.ledger));
        let (call, signed) = (ask.call, ask.signed);
        let (tell, told) = oneshot::channel();
        self.tracker.spawn(async move {
            let first = key.as_ref().is_some_and(|key| ledger.before(key, &call));
            let asking = attempts(&s3, key.as_ref(), &call, signed);
            let answer = tokio::time::timeout(PATIENCE, asking).await.unwrap_or(Err(Trouble::Slow(PATIENCE)));
            if let (Some(key), Ok(raw)) = (&key, &answer) {
                ledger.after(key, &call, raw, first);
            }
            drop(tell.send(answer));
        });
        let answer = told.await.unwrap_or(Err(Trouble::Broken));
        match &answer {
            Err(Trouble::Slow(_)) => drop(self.silence.fetch_add(1, Ordering::Relaxed)),
            _ => self.silence.store(0, Ordering::Relaxed),
        }
        answer
    }

    /// As [`Examiner::trouble_or`], the trouble on one line.
    pub(super) async fn ask(&self, ask: Ask) -> Result<Raw, String> {
        self.trouble_or(ask).await.map_err(|trouble| chain(&trouble))
    }
}

/// An error and its causes on one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        next = cause.source();
    }
    line
}

/// Whether an answer says that we lack a permission; a wrong key or signature is something else.
pub(super) fn is_refusal(raw: &Raw) -> bool {
    matches!(raw.status, 401 | 403)
        && raw.code().is_none_or(|code| code.contains("AccessDenied") || code == "AllAccessDisabled")
}

/// Whether an answer says that the server has no such thing.
pub(super) fn is_unknown(raw: &Raw) -> bool {
    raw.status == 501 || raw.status == 405 || raw.code().is_some_and(|code| code.contains("NotImplemented"))
}

/// What an answer means where these statuses are what it should be.
pub(super) fn expect(answer: &Result<Raw, String>, fine: &[u16], else_wrong: bool) -> Seen {
    match answer {
        Err(why) => Seen::Failed(why.clone()),
        Ok(raw) if fine.contains(&raw.status) => Seen::Well(String::new()),
        Ok(raw) if is_refusal(raw) => Seen::Refused(raw.line()),
        Ok(raw) if is_unknown(raw) => Seen::Unknown(raw.line()),
        Ok(raw) if else_wrong && raw.status < 300 => Seen::Wrong(raw.line()),
        Ok(raw) => Seen::Failed(raw.line()),
    }
}
