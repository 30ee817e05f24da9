//! Multipart uploads: parts go up while the next one comes in, a bounded number at once; whatever ends one early
//! aborts it, being dropped too.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::abort_multipart_upload::builders::AbortMultipartUploadFluentBuilder;
use aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadError;
use aws_sdk_s3::operation::create_multipart_upload::builders::CreateMultipartUploadFluentBuilder;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart, ServerSideEncryption,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::answers::Answer;
use super::body::Gather;
use super::read::about;
use super::sdk;
use super::write::Source;
use super::{Checksums, S3, Sse, quoted};
use crate::budget::Held;
use crate::payload::BodyError;
use crate::store::checksum::{Crc, Running};
use crate::store::error::{Error, Kind, Op, PutError};
use crate::store::key::Key;
use crate::store::{Mode, PART, Put, Stored};

/// Most parts of one upload under way at once.
const PARALLEL: usize = 4;
/// How long after an upload was aborted its last parts may arrive.
const STRAGGLERS: Duration = Duration::from_secs(1);
/// Most parts of one upload (S3 "Multipart upload limits").
const PARTS: i32 = 10_000;

/// An upload that has begun. Dropping it aborts it, unless it was completed.
pub(super) struct Open {
    client: Client,
    tracker: TaskTracker,
    bucket: String,
    name: String,
    id: String,
    done: bool,
}

impl Open {
    /// The upload's name.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Completes it from these parts, in the place of the object with this validator.
    pub(super) async fn replace(
        mut self,
        parts: CompletedMultipartUpload,
        etag: &str,
    ) -> Result<(), SdkError<CompleteMultipartUploadError, HttpResponse>> {
        let call = self.client.complete_multipart_upload().bucket(&self.bucket).key(&self.name);
        call.upload_id(&self.id).multipart_upload(parts).if_match(quoted(etag)).send().await?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let abort = self
            .client
            .abort_multipart_upload()
            .bucket(std::mem::take(&mut self.bucket))
            .key(std::mem::take(&mut self.name))
            .upload_id(std::mem::take(&mut self.id));
        self.tracker.spawn(async move {
            forget(abort.clone()).await;
            // A part that was under way may arrive after the abort and is kept then, so the abort has to be repeated (S3 API
            // reference, "AbortMultipartUpload").
            tokio::time::sleep(STRAGGLERS).await;
            forget(abort).await;
        });
    }
}

async fn forget(abort: AbortMultipartUploadFluentBuilder) {
    match abort.send().await {
        Ok(_) => {}
        Err(error) if sdk::answer(&error) == Answer::NoUpload => {}
        Err(error) => {
            tracing::warn!(cause = %sdk::chain(&error), "a broken upload could not be aborted: it waits to be reaped");
        }
    }
}

type Parts<'s> = FuturesUnordered<BoxFuture<'s, Result<CompletedPart, Error>>>;

/// The parts of one upload, done and under way.
struct Progress<'s> {
    // Dropped before the upload is aborted: a part that arrives later would be left over.
    sending: Parts<'s>,
    done: Vec<CompletedPart>,
    crc: Running,
    size: u64,
    number: i32,
}

impl S3 {
    /// Uploads a body of more than one part, the first of which is at hand.
    pub(super) async fn upload(
        &self,
        key: &Key,
        mut source: Source,
        mut part: Gather,
        mut held: Option<Held>,
        how: &Put,
    ) -> Result<Stored, PutError> {
        let mut open = self.begin(key, about(None, how.mark.clone())).await?;
        let id = open.id.clone();
        let mut progress = Progress {
            sending: FuturesUnordered::new(),
            done: Vec::new(),
            crc: Running::new(),
            size: 0,
            number: 0,
        };
        loop {
            self.dispatch(key, &id, &mut progress, part, held.take())?;
            if source.ended() {
                break;
            }
            held = self.share(&mut progress, source.paid()).await?;
            part = gather(&mut source, &mut progress).await?;
            if part.len() == 0 {
                break;
            }
        }
        while let Some(result) = progress.sending.next().await {
            progress.done.push(result?);
        }
        Ok(self.complete(key, &mut open, progress, &how.mode).await?)
    }

    fn dispatch<'s>(
        &'s self,
        key: &'s Key,
        id: &'s str,
        progress: &mut Progress<'s>,
        part: Gather,
        held: Option<Held>,
    ) -> Result<(), BodyError> {
        progress.number += 1;
        if progress.number > PARTS {
            return Err(BodyError::TooLarge { limit: PARTS as u64 * PART as u64 });
        }
        let (number, body) = (progress.number, part.finish());
        progress.size += body.len();
        body.feed(&mut progress.crc);
        let sum = (self.checksums == Checksums::Always).then(|| body.crc().to_string());
        progress.sending.push(
            async move {
                let etag = self.put_part(key, id, number, body).await?;
                drop(held);
                let part = CompletedPart::builder().part_number(number).e_tag(etag);
                Ok(part.set_checksum_crc64_nvme(sum).build())
            }
            .boxed(),
        );
        Ok(())
    }

    /// Room for one more part: at once where there is some, else when a part of this upload has left, else in turn.
    async fn share(&self, progress: &mut Progress<'_>, paid: bool) -> Result<Option<Held>, Error> {
        loop {
            if paid && progress.sending.len() < PARALLEL {
                return Ok(None);
            }
            if progress.sending.len() < PARALLEL
                && let Some(held) = self.budget.try_take(PART as u64)
            {
                return Ok(Some(held));
            }
            match progress.sending.next().await {
                Some(result) => progress.done.push(result?),
                None => return Ok(Some(self.budget.take(PART as u64).await)),
            }
        }
    }

    pub(super) async fn begin(
        &self,
        key: &Key,
        metadata: Option<HashMap<String, String>>,
    ) -> Result<Open, Error> {
        let name = self.name(key);
        let call = self.client.create_multipart_upload().bucket(&self.bucket).key(&name);
        let call = call.content_type("application/octet-stream").set_metadata(metadata);
        let call = match self.checksums {
            Checksums::Always => {
                call.checksum_algorithm(ChecksumAlgorithm::Crc64Nvme).checksum_type(ChecksumType::FullObject)
            }
            Checksums::WhenRequired => call,
        };
        let sent = encrypted(call, self.sse.as_ref()).send();
        let (client, tracker, bucket) = (self.client.clone(), self.tracker.clone(), self.bucket.clone());
        let of = key.clone();
        let (tell, told) = oneshot::channel();
        // In a task of its own: were the call dropped half way, the upload would begin and nobody know its name. Where
        // nobody waits for it any more it is dropped here, which aborts it.
        self.tracker.spawn(async move {
            let begun = sent.await.map_err(|error| sdk::error(Op::Put, &of, &error));
            let opened = begun.and_then(|begun| {
                let nameless = || Error::new(Kind::Corrupt, Op::Put, &of, "an upload without a name");
                let id = begun.upload_id.ok_or_else(nameless)?;
                Ok(Open { client, tracker, bucket, name, id, done: false })
            });
            drop(tell.send(opened));
        });
        told.await.unwrap_or_else(|error| Err(Error::new(Kind::Unavailable, Op::Put, key, error)))
    }

    async fn complete(
        &self,
        key: &Key,
        open: &mut Open,
        mut progress: Progress<'_>,
        mode: &Mode,
    ) -> Result<Stored, Error> {
        progress.done.sort_by_key(CompletedPart::part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(progress.done)).build();
        let mut call = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(&open.name)
            .upload_id(&open.id)
            .multipart_upload(parts);
        let crc = progress.crc.finish();
        if self.checksums == Checksums::Always {
            call = call.checksum_crc64_nvme(crc.to_string()).checksum_type(ChecksumType::FullObject);
        }
        if *mode == Mode::Create {
            call = call.if_none_match("*");
        }
        match call.send().await {
            Ok(completed) => {
                open.done = true;
                let etag = completed.e_tag.unwrap_or_default().trim_matches('"').to_owned();
                Ok(Stored::Done { etag })
            }
            Err(error) => match sdk::answer(&error) {
                Answer::Failed => Ok(Stored::Exists),
                // An earlier try may have completed it although its answer was lost.
                Answer::NoUpload => match self.is_there(key, progress.size, crc).await? {
                    Some(etag) => {
                        open.done = true;
                        Ok(Stored::Done { etag })
                    }
                    None => Err(sdk::error(Op::Put, key, &error)),
                },
                Answer::Ok
                | Answer::Absent
                | Answer::Unchanged
                | Answer::Unsatisfiable
                | Answer::Retry
                | Answer::Skewed
                | Answer::Fault(_) => Err(sdk::error(Op::Put, key, &error)),
            },
        }
    }

    /// Whether the object holds exactly what was uploaded; its validator.
    async fn is_there(&self, key: &Key, size: u64, crc: Crc) -> Result<Option<String>, Error> {
        let head = self
            .client
            .head_object()
            .bucket(&self.bucket)
            .key(self.name(key))
            .checksum_mode(aws_sdk_s3::types::ChecksumMode::Enabled)
            .send()
            .await
            .map_err(|error| sdk::error(Op::Put, key, &error))?;
        let same = head.content_length == i64::try_from(size).ok()
            && head.checksum_crc64_nvme.as_deref().is_none_or(|sum| sum == crc.to_string());
        Ok(head.e_tag.filter(|_| same).map(|etag| etag.trim_matches('"').to_owned()))
    }
}

fn encrypted(
    call: CreateMultipartUploadFluentBuilder,
    sse: Option<&Sse>,
) -> CreateMultipartUploadFluentBuilder {
    match sse {
        None => call,
        Some(Sse::Aes256) => call.server_side_encryption(ServerSideEncryption::Aes256),
        Some(Sse::Kms(id)) => {
            call.server_side_encryption(ServerSideEncryption::AwsKms).set_ssekms_key_id(id.clone())
        }
    }
}

/// Gathers the next part while parts before it go up.
async fn gather(source: &mut Source, progress: &mut Progress<'_>) -> Result<Gather, PutError> {
    let mut part = Gather::default();
    loop {
        tokio::select! {
            biased;
            Some(result) = progress.sending.next(), if !progress.sending.is_empty() => {
                progress.done.push(result?);
            }
            more = source.fill(&mut part) => {
                if !more? {
                    return Ok(part);
                }
            }
        }
    }
}
