//! The verbs that the SDK carries: listings, deletes, leftovers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{Delete, MultipartUpload, ObjectIdentifier};
use futures_util::future::{FutureExt as _, ready};
use futures_util::stream::{self, Stream, TryStreamExt as _};
use http::Method;

use super::answers::{Answer, judge_key};
use super::wire::{Call, Trouble};
use super::{S3, sdk};
use crate::store::error::{Error, Kind, Op};
use crate::store::key::{Key, Prefix};
use crate::store::{BATCH, Listed, Listing};

/// A key that nothing is stored under, asked for to see whether the bucket answers.
const NOBODY: &str = ".larder-probe";

impl S3 {
    /// See [`crate::store::Store::list`]. One request for each 1 000 lines.
    pub(crate) fn list(
        self: &Arc<Self>,
        prefix: &Prefix,
        how: Listing,
    ) -> impl Stream<Item = Result<Listed, Error>> + Send + use<> {
        let (this, prefix) = (Arc::clone(self), prefix.clone());
        let pages = stream::try_unfold(Some(None), move |state: Option<Option<String>>| {
            let (this, prefix, how) = (Arc::clone(&this), prefix.clone(), how.clone());
            async move {
                let Some(token) = state else { return Ok::<_, Error>(None) };
                let page = this.page(&prefix, &how, token).await?;
                let next = page.next_continuation_token.clone().map(Some);
                Ok(Some((stream::iter(this.lines(page).into_iter().map(Ok)), next)))
            }
        });
        pages.try_flatten()
    }

    /// Whether anything is stored below a place. One request.
    pub(super) async fn any(&self, prefix: &Prefix) -> Result<bool, Error> {
        let one = Listing { limit: Some(1), ..Listing::default() };
        Ok(self.page(prefix, &one, None).await?.contents.is_some_and(|found| !found.is_empty()))
    }

    async fn page(
        &self,
        prefix: &Prefix,
        how: &Listing,
        token: Option<String>,
    ) -> Result<ListObjectsV2Output, Error> {
        let most = how.limit.unwrap_or(BATCH).min(BATCH);
        let page = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(format!("{}{prefix}", self.root()))
            .set_delimiter(how.shallow.then(|| "/".to_owned()))
            .set_start_after(how.after.as_ref().map(|after| format!("{}{after}", self.root())))
            .set_continuation_token(token)
            .max_keys(i32::try_from(most).unwrap_or(1000))
            .send()
            .await
            .map_err(|error| sdk::error(Op::List, prefix, &error))?;
        if is_cut(&page) {
            return Err(Error::new(Kind::Unavailable, Op::List, prefix, "a listing was cut short"));
        }
        Ok(page)
    }

    /// Objects and common prefixes of a page, merged into one order. Names that are no keys were not stored by us.
    fn lines(&self, page: ListObjectsV2Output) -> Vec<Listed> {
        let root = self.root();
        let mut lines: Vec<(String, Listed)> = Vec::new();
        for object in page.contents.unwrap_or_default() {
            let name = object.key.unwrap_or_default();
            let Some(Ok(key)) = name.strip_prefix(&root).map(str::parse::<Key>) else {
                warn_once(&name);
                continue;
            };
            let size = object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
            let modified = object
                .last_modified
                .and_then(|time| SystemTime::try_from(time).ok())
                .unwrap_or(SystemTime::UNIX_EPOCH);
            lines.push((name, Listed::Object { key, size, modified }));
        }
        for common in page.common_prefixes.unwrap_or_default() {
            let name = common.prefix.unwrap_or_default();
            match name.strip_prefix(&root).map(str::parse::<Prefix>) {
                Some(Ok(prefix)) => lines.push((name, Listed::Prefix(prefix))),
                _ => warn_once(&name),
            }
        }
        lines.sort_by(|(a, _), (b, _)| a.cmp(b));
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// See [`crate::store::Store::delete`]. One request for each [`BATCH`] keys.
    pub(crate) async fn delete(&self, keys: &[Key]) -> Result<(), Error> {
        for batch in keys.chunks(BATCH) {
            self.delete_batch(batch).await?;
        }
        Ok(())
    }

    async fn delete_batch(&self, keys: &[Key]) -> Result<(), Error> {
        let Some(first) = keys.first() else { return Ok(()) };
        let broken =
            |error: aws_sdk_s3::error::BuildError| Error::new(Kind::Corrupt, Op::Delete, first, error);
        let objects = keys
            .iter()
            .map(|key| ObjectIdentifier::builder().key(self.name(key)).build())
            .collect::<Result<Vec<_>, _>>()
            .map_err(broken)?;
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build().map_err(broken)?;
        let done = self
            .client
            .delete_objects()
            .bucket(&self.bucket)
            .delete(delete)
            .send()
            .await
            .map_err(|error| sdk::error(Op::Delete, first, &error))?;
        // The request succeeded; single keys may have failed all the same (S3 "DeleteObjects").
        let failed = done.errors.unwrap_or_default();
        let judged = || failed.iter().filter_map(|error| Some((judge_key(error.code())?, error)));
        // What is refused for good is told before what may pass.
        let worst = judged().find(|(kind, _)| *kind != Kind::Unavailable).or_else(|| judged().next());
        worst.map_or(Ok(()), |(kind, error)| {
            let count = judged().count();
            let why = format!("{count} keys failed, one of them with {}", error.code().unwrap_or("no code"));
            Err(Error::new(kind, Op::Delete, error.key().unwrap_or_default(), why))
        })
    }

    /// See [`crate::store::Store::reap`]. Aborts multipart uploads that began too long ago, under our own prefixes only:
    /// the bucket may have others' too. Asks without a prefix, because MinIO takes one for a whole key.
    pub(crate) async fn reap(&self, within: &[Prefix], age: Duration) -> Result<u64, Error> {
        let mut count = 0;
        let mut pages = self.client.list_multipart_uploads().bucket(&self.bucket);
        loop {
            let page = pages.clone().send().await.map_err(|error| sdk::error(Op::Reap, "", &error))?;
            for upload in page.uploads.unwrap_or_default() {
                count += u64::from(self.reap_one(&upload, within, age).await?);
            }
            if page.is_truncated != Some(true) || page.next_key_marker.is_none() {
                return Ok(count);
            }
            pages =
                pages.set_key_marker(page.next_key_marker).set_upload_id_marker(page.next_upload_id_marker);
        }
    }

    async fn reap_one(
        &self,
        upload: &MultipartUpload,
        within: &[Prefix],
        age: Duration,
    ) -> Result<bool, Error> {
        let name = upload.key().unwrap_or_default();
        let Some(Ok(key)) = name.strip_prefix(&self.root()).map(str::parse::<Key>) else { return Ok(false) };
        let began = upload.initiated().and_then(|time| SystemTime::try_from(*time).ok());
        let old = began.is_some_and(|began| began.elapsed().is_ok_and(|passed| passed >= age));
        let (true, Some(id)) = (old && within.iter().any(|prefix| prefix.holds(&key)), upload.upload_id())
        else {
            return Ok(false);
        };
        let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(name).upload_id(id);
        match abort.send().await {
            Ok(_) => Ok(true),
            Err(error) if sdk::answer(&error) == Answer::NoUpload => Ok(false),
            Err(error) => Err(sdk::error(Op::Reap, key, &error)),
        }
    }

    /// See [`crate::store::Store::probe`]. Asks for a key that is not there: the answer tells a missing bucket and refused
    /// credentials from a bucket that works, which HEAD's bare statuses do not.
    pub(crate) async fn probe(&self) -> Result<(), Error> {
        let key: Key = match NOBODY.parse() {
            Ok(key) => key,
            Err(error) => return Err(Error::new(Kind::Corrupt, Op::Probe, NOBODY, error)),
        };
        let call = Call::new(Op::Probe, "get", Method::GET);
        match self
            .wire
            .send(&key, call, |reply| {
                drop(reply);
                ready(Ok::<_, Trouble>(())).boxed()
            })
            .await
        {
            Err(error) if !super::read::absent(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether the end of a page is missing: the SDK reads as far as it gets and calls that the whole, and a listing of
/// nothing would be a miss. Each page says whether more follow, and how many lines it has (S3 "ListObjectsV2"; some
/// servers leave the count out).
fn is_cut(page: &ListObjectsV2Output) -> bool {
    let lines = page.contents().len() + page.common_prefixes().len();
    page.is_truncated.is_none()
        || page.key_count.is_some_and(|said| usize::try_from(said).is_ok_and(|said| said > lines))
}

fn warn_once(name: &str) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if !WARNED.swap(true, Ordering::Relaxed) {
        tracing::warn!(
            name,
            "the bucket holds names that are no keys of ours; they are left out of listings"
        );
    }
}
