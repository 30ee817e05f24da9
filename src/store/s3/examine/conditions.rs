//! Conditional writes: each is sent so that it must be refused.

use http::Method;

use super::ask::{Ask, expect};
use super::objects::BYTES;
use super::{Examiner, FIRST, Known, SECOND, Say, THIRD, skip};
use crate::store::examine::{Probe, Seen};
use crate::store::s3::wire::Raw;
use crate::store::s3::{Checksums, escape};

/// A validator that no object of ours has.
const NO_TAG: &str = "\"00000000000000000000000000000000\"";

fn refused(answer: &Result<Raw, String>) -> Seen {
    expect(answer, &[412], true)
}

impl Examiner {
    pub(super) async fn conditions(&self, say: &Say<'_>, known: &Known, read: bool) {
        let create = |leaf| self.put(leaf).header("if-none-match", "*");
        let first = self.ask(create(SECOND)).await;
        let seen = match expect(&first, &[200], false).well() {
            Ok(()) => refused(&self.ask(create(SECOND)).await),
            Err(seen) => seen,
        };
        say(Probe::CreateOnly, seen);
        let etag = first.ok().and_then(|raw| raw.header("etag").map(str::to_owned)).unwrap_or_default();
        let swap = |tag: &str| self.put(SECOND).header("if-match", tag);
        let seen = match refused(&self.ask(swap(NO_TAG)).await).well() {
            // And the right one is accepted.
            Ok(()) => expect(&self.ask(swap(&etag)).await, &[200], false),
            Err(seen) => seen,
        };
        say(Probe::ReplaceSame, seen);
        match read {
            true => say(Probe::CopySame, self.copy_same().await),
            false => skip(say, &[Probe::CopySame], "nothing could be read: s3:GetObject"),
        }
        match known.abort {
            true => say(Probe::CreateLarge, self.create_large().await.unwrap_or_else(|seen| seen)),
            false => {
                let why = "an upload that is begun could not be aborted: s3:AbortMultipartUpload";
                skip(say, &[Probe::CreateLarge], why);
            }
        }
    }

    async fn copy_same(&self) -> Seen {
        let source = format!("{}/{}", self.s3.bucket, self.path_of(FIRST));
        let copy = Ask::key(Method::PUT, THIRD)
            .sealed(&self.s3)
            .header("x-amz-copy-source", &source)
            .header("x-amz-copy-source-if-match", NO_TAG);
        refused(&self.ask(copy).await)
    }

    /// A name below our place as it stands in a copy's source.
    fn path_of(&self, leaf: &str) -> String {
        let name = format!("{}{}/{leaf}", self.s3.root(), self.base);
        name.split('/').map(escape).collect::<Vec<_>>().join("/")
    }

    /// An upload in parts onto an object that is there. It is aborted in the end, with the rest.
    async fn create_large(&self) -> Result<Seen, Seen> {
        let ok = |answer: &Result<Raw, String>| expect(answer, &[200], false).well();
        let begin = Ask::key(Method::POST, SECOND).query("uploads=").sealed(&self.s3);
        let begin = match self.s3.checksums {
            Checksums::Always => begin
                .header("x-amz-checksum-algorithm", "CRC64NVME")
                .header("x-amz-checksum-type", "FULL_OBJECT"),
            Checksums::WhenRequired => begin,
        };
        let begun = self.ask(begin).await;
        ok(&begun)?;
        let id = begun.ok().and_then(|raw| raw.element("UploadId").map(escape)).unwrap_or_default();
        let part = Ask::key(Method::PUT, SECOND).query(&format!("partNumber=1&uploadId={id}")).body(BYTES);
        let part = match self.s3.checksums {
            Checksums::Always => part.checksum(BYTES),
            Checksums::WhenRequired => part,
        };
        let sent = self.ask(part).await;
        ok(&sent)?;
        let header = |name| sent.as_ref().ok().and_then(|raw| raw.header(name)).unwrap_or_default();
        let sum = match header("x-amz-checksum-crc64nvme") {
            "" => String::new(),
            sum => format!("<ChecksumCRC64NVME>{sum}</ChecksumCRC64NVME>"),
        };
        let tag = header("etag");
        let xml = format!(
            "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Part>{sum}<ETag>{tag}</ETag>\
             <PartNumber>1</PartNumber></Part></CompleteMultipartUpload>"
        );
        let complete = Ask::key(Method::POST, SECOND).query(&format!("uploadId={id}")).text(xml);
        let answer = self.ask(complete.header("if-none-match", "*")).await;
        // Its head may be sent before its end is known.
        Ok(match &answer {
            Ok(raw) if raw.code() == Some("PreconditionFailed") => Seen::Well(String::new()),
            _ => refused(&answer),
        })
    }
}
