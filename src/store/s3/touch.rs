//! Making objects young: a bucket's object is as old as its last copy, so it is copied onto itself.
//!
//! The copy is of exactly the object that was looked at, in the place of exactly that one: both are conditions of the request.
//! So what is stored or removed meanwhile stays as it is. A server that does not know the second condition has to keep that
//! by itself (`docs/sweep.md`, "Beside others"). Mark and checksum go along; the bytes never pass through here.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::types::{
    CompletedMultipartUpload, CompletedPart, CopyPartResult, MetadataDirective, ServerSideEncryption,
};

use super::answers::Answer;
use super::read::about;
use super::{S3, Sse, escape, quoted, sdk};
use crate::payload::Meta;
use crate::store::Touched;
use crate::store::error::{Error, Op};
use crate::store::key::Key;

/// Largest object that one CopyObject carries (S3 "CopyObject": 5 GiB).
const COPY_MOST: u64 = 5 * 1024 * 1024 * 1024;
/// Size of the pieces that a larger object is copied in.
const COPY_PART: u64 = 1024 * 1024 * 1024;

/// User metadata that the copy keeps.
type Kept = Option<HashMap<String, String>>;

impl S3 {
    /// See [`crate::store::Store::refresh`]; whatever its age where no time is given. One request, two where it is old, up
    /// to 5 GiB.
    pub(crate) async fn touch(&self, key: &Key, before: Option<SystemTime>) -> Result<Touched, Error> {
        let Some((meta, crc)) = self.head_and_crc(key).await? else { return Ok(Touched::Gone) };
        if before.is_some_and(|before| meta.modified >= before) {
            return Ok(Touched::Young);
        }
        let kept = about(crc, meta.mark.clone());
        if meta.size > COPY_MOST {
            return self.touch_large(key, &meta, kept).await;
        }
        let call = self
            .client
            .copy_object()
            .bucket(&self.bucket)
            .key(self.name(key))
            .copy_source(self.source(key))
            .copy_source_if_match(quoted(&meta.etag))
            .if_match(quoted(&meta.etag))
            .content_type("application/octet-stream")
            .set_metadata(kept)
            .metadata_directive(MetadataDirective::Replace);
        let call = match &self.sse {
            None => call,
            Some(Sse::Aes256) => call.server_side_encryption(ServerSideEncryption::Aes256),
            Some(Sse::Kms(id)) => {
                call.server_side_encryption(ServerSideEncryption::AwsKms).set_ssekms_key_id(id.clone())
            }
        };
        match call.send().await {
            Ok(copied) => {
                let told = copied.copy_object_result.and_then(|result| result.last_modified);
                let now = told.and_then(|time| SystemTime::try_from(time).ok());
                Ok(if is_unmoved(meta.modified, before, now) { Touched::Unmoved } else { Touched::Done })
            }
            Err(error) => met(sdk::answer(&error)).ok_or_else(|| sdk::error(Op::Touch, key, &error)),
        }
    }

    fn source(&self, key: &Key) -> String {
        format!("{}/{}", self.bucket, self.name(key).split('/').map(escape).collect::<Vec<_>>().join("/"))
    }

    async fn touch_large(&self, key: &Key, meta: &Meta, kept: Kept) -> Result<Touched, Error> {
        let open = self.begin(key, kept).await?;
        let mut parts = Vec::new();
        let mut first = 0;
        while first < meta.size {
            let last = (first + COPY_PART).min(meta.size) - 1;
            let number = i32::try_from(parts.len() + 1).unwrap_or(i32::MAX);
            let call = self.client.upload_part_copy().bucket(&self.bucket).key(self.name(key));
            let copied = call
                .upload_id(open.id())
                .part_number(number)
                .copy_source(self.source(key))
                .copy_source_if_match(quoted(&meta.etag))
                .copy_source_range(format!("bytes={first}-{last}"))
                .send()
                .await;
            let copied = match copied {
                Ok(copied) => copied,
                Err(error) => {
                    return met(sdk::answer(&error)).ok_or_else(|| sdk::error(Op::Touch, key, &error));
                }
            };
            let result = copied.copy_part_result.unwrap_or_else(|| CopyPartResult::builder().build());
            parts.push(
                CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(result.e_tag)
                    .set_checksum_crc64_nvme(result.checksum_crc64_nvme)
                    .build(),
            );
            first = last + 1;
        }
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        match open.replace(parts, &meta.etag).await {
            Ok(()) => Ok(Touched::Done),
            Err(error) => met(sdk::answer(&error)).ok_or_else(|| sdk::error(Op::Touch, key, &error)),
        }
    }
}

/// Whether an object that was to be older than `before` is as old as it was, by what the copy told. Heads tell whole seconds:
/// within one nothing shows.
fn is_unmoved(was: SystemTime, before: Option<SystemTime>, now: Option<SystemTime>) -> bool {
    let second = was + Duration::from_secs(1);
    before.is_some_and(|before| before >= second) && now.is_some_and(|now| now < second)
}

/// What a refused copy came upon; `None` where it failed.
fn met(answer: Answer) -> Option<Touched> {
    match answer {
        Answer::Absent => Some(Touched::Gone),
        // Replaced meanwhile: as young as can be.
        Answer::Failed => Some(Touched::Young),
        Answer::Ok
        | Answer::Unchanged
        | Answer::Unsatisfiable
        | Answer::NoUpload
        | Answer::Retry
        | Answer::Skewed
        | Answer::Fault(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_that_stood_still_is_told_from_one_that_moved() {
        let at = |seconds: f64| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds);
        for (was, before, now, unmoved) in [
            (10.0, Some(90.0), Some(100.3), false),
            // Its own date, told more exactly.
            (10.0, Some(90.0), Some(10.7), true),
            (10.0, Some(90.0), Some(10.0), true),
            (10.0, Some(90.0), None, false),
            // Too young to tell.
            (10.0, Some(10.6), Some(10.8), false),
            (10.0, None, Some(10.8), false),
        ] {
            assert_eq!(is_unmoved(at(was), before.map(at), now.map(at)), unmoved, "{was} {before:?} {now:?}");
        }
    }
}
