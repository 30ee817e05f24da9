//! Permissions that can be asked for without leaving anything: listing, deleting what is not there, aborting what never
//! began. And, where nothing may be written, the rest by requests that no server carries out.

use http::Method;

use super::ask::{Ask, expect, is_refusal};
use super::{Examiner, FIRST, Known, NOBODY, SECOND, Say, skip};
use crate::store::examine::{Probe, Seen};
use crate::store::s3::escape;

/// A name that no upload has.
const NO_UPLOAD: &str = "larder-doctor-no-such-upload";

/// Versions that no name of ours has: the one from before versions were kept, and one that never was. MinIO asks for the
/// permission only with the second.
const NO_VERSIONS: [&str; 2] = ["null", "00000000-0000-0000-0000-000000000000"];

/// Why nothing is tried where versions cannot be removed.
pub(super) const STICKY: &str = "the bucket keeps versions, and of what is deleted one would remain that only s3:DeleteObjectVersion \
                      removes; --leave-versions tries it all the same";

/// What needs an object of our own.
pub(super) const NEED_OBJECTS: [Probe; 13] = [
    Probe::Encryption,
    Probe::CreateOnly,
    Probe::ReplaceSame,
    Probe::CopySame,
    Probe::CreateLarge,
    Probe::ChecksumRefused,
    Probe::ChecksumKept,
    Probe::Metadata,
    Probe::NotModified,
    Probe::Refresh,
    Probe::ListFresh,
    Probe::ListOrder,
    Probe::PublicRead,
];

impl Examiner {
    pub(super) async fn access(&self, say: &Say<'_>, known: &mut Known) {
        let prefix = escape(&format!("{}{}/", self.s3.root(), self.base));
        let list = Ask::bucket(Method::GET, &format!("list-type=2&max-keys=1&prefix={prefix}"));
        let listed = expect(&self.ask(list).await, &[200], false);
        known.list = matches!(listed, Seen::Well(_));
        say(Probe::List, listed);
        // Without a prefix, as the gateway looks for leftovers: MinIO takes one for a whole key.
        let uploads = Ask::bucket(Method::GET, "max-uploads=1&uploads=");
        say(Probe::Uploads, expect(&self.ask(uploads).await, &[200], false));
        let abort = Ask::key(Method::DELETE, NOBODY).query(&format!("uploadId={NO_UPLOAD}"));
        let mut aborted = expect(&self.ask(abort).await, &[204, 200, 404], false);
        // A name that it cannot read is refused for that, behind the permission.
        if let Seen::Failed(line) = &aborted
            && line.starts_with("HTTP 400")
        {
            aborted = Seen::Well(String::new());
        }
        known.abort = matches!(aborted, Seen::Well(_));
        say(Probe::Abort, aborted);
        self.deletes(say, known).await;
        known.no_write = self.why_not(known);
    }

    /// Whether we may delete, by deleting what is not there. Where versions are kept that leaves a mark, which is removed
    /// where that is allowed.
    async fn deletes(&self, say: &Say<'_>, known: &mut Known) {
        if known.versions != Some(false) {
            for version in NO_VERSIONS {
                let ask = Ask::key(Method::DELETE, NOBODY).query(&format!("versionId={version}"));
                let refused = self.ask(ask).await.is_ok_and(|raw| is_refusal(&raw));
                known.sticky |= refused && !self.depth.versions;
            }
            if known.versions == Some(true) && known.sticky {
                skip(say, &[Probe::Delete], STICKY);
                return;
            }
        }
        let seen = expect(&self.ask(Ask::key(Method::DELETE, NOBODY)).await, &[204, 200, 404], false);
        known.delete = matches!(seen, Seen::Well(_));
        say(Probe::Delete, seen);
    }

    /// Why nothing should be written, if so: all of it must be removable.
    fn why_not(&self, known: &Known) -> Option<String> {
        let versions = known.versions == Some(true) || self.ledger.has_versions();
        let why = match () {
            () if !self.depth.write => "this role does not write",
            () if known.sticky && versions => STICKY,
            () if known.retained => "what is written could not be removed again: the bucket retains it",
            () if !known.delete => "what is written could not be removed again: s3:DeleteObject",
            () => return None,
        };
        Some(why.to_owned())
    }

    /// Permissions to read and to write where nothing of ours is there and nothing may be.
    pub(super) async fn unwritten(&self, say: &Say<'_>, known: &Known, why: &str) {
        // Signed for another body than it has: a server looks at permissions first, and then refuses it.
        let put = Ask::key(Method::PUT, FIRST).body(b"larder").mismatched();
        let answer = self.ask(put).await;
        let seen = match &answer {
            Ok(raw) if raw.status == 200 => {
                Seen::Wrong("it stores bytes that do not match their signature".to_owned())
            }
            Ok(raw) if raw.status == 400 => {
                Seen::Well("tried with a write that is refused for its bytes".to_owned())
            }
            _ => expect(&answer, &[], false),
        };
        say(Probe::Write, seen);
        let absent = self.ask(Ask::key(Method::GET, SECOND)).await;
        let seen = match &absent {
            // A bucket that may not be listed refuses to say that there is nothing.
            Ok(raw) if is_refusal(raw) && !known.list => Seen::Skipped(
                "there is nothing to read, and without s3:ListBucket that is refused, too".to_owned(),
            ),
            _ => expect(&absent, &[200, 404], false),
        };
        say(Probe::Read, seen);
        skip(say, &NEED_OBJECTS, why);
        let seen = if known.delete { self.batch(&[NOBODY]).await } else { Seen::Skipped(why.to_owned()) };
        say(Probe::DeleteMany, seen);
        let list = self.public_list().await;
        say(Probe::PublicList, list);
        skip(say, &[Probe::PublicWrite], why);
    }
}
