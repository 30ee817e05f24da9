//! A bucket's rules on the wire: raw XML, for the SDK's types would drop what they do not know.
//!
//! Reads nothing out of the text but whether the bucket has versions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::FutureExt as _;
use http::header::SERVER;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use md5::{Digest as _, Md5};

use super::body::Gather;
use super::sign::Hash;
use super::wire::{Call, Reply, Trouble};
use super::{S3, answers};
use crate::store::error::{Error, Op};
use crate::store::key::{Key, Prefix};
use crate::store::lifecycle::{Lifecycle, MOST, Place, Replaced, Rules};

/// S3 "PutBucketLifecycleConfiguration": left out of a PUT it goes back to AWS's default.
const MINIMUM: &str = "x-amz-transition-default-minimum-object-size";

/// The bucket itself, where a key could be.
const BUCKET: Option<&Key> = None;

impl S3 {
    /// See [`crate::store::Store::place`].
    pub(crate) fn place(&self) -> Place {
        let root = self.prefix.as_ref().map_or(Prefix::root(), Prefix::below);
        Place { bucket: self.bucket.clone(), root }
    }

    /// See [`crate::store::Store::lifecycle`].
    pub(crate) async fn lifecycle(&self) -> Result<Rules, Error> {
        let mut call = Call::new(Op::Lifecycle, "get_lifecycle", Method::GET);
        // With its equals sign, as it is signed.
        call.query = "lifecycle=".to_owned();
        let asked = self.wire.send(BUCKET, call, |reply| self.rules(reply).boxed()).await;
        let error = match asked {
            Ok(rules) => return Ok(rules),
            Err(error) => error,
        };
        match answer(&error) {
            Some((_, "NoSuchLifecycleConfiguration", _, server)) => {
                Ok(Rules::Are { server: server.map(str::to_owned), now: None })
            }
            Some((status, code, message, server)) if is_unknown(status, code) => Ok(Rules::Unsupported {
                server: server.map(str::to_owned),
                why: format!("{code}: {message}"),
            }),
            Some(_) | None => Err(error),
        }
    }

    async fn rules(&self, reply: Reply) -> Result<Rules, Trouble> {
        let (head, body) = reply.response.into_parts();
        let read = tokio::time::timeout(self.wire.idle, Limited::new(body, MOST).collect())
            .await
            .map_err(|_| Trouble::Slow(self.wire.idle))?;
        let bytes = read.map_err(|error| match error.is::<LengthLimitError>() {
            true => Trouble::Long(MOST),
            false => Trouble::Broken,
        })?;
        let text = String::from_utf8(bytes.to_bytes().to_vec()).map_err(|_| Trouble::Corrupt)?;
        let minimum = header(&head.headers, MINIMUM);
        let now = Some(Lifecycle { text, minimum });
        Ok(Rules::Are { server: header(&head.headers, SERVER.as_str()), now })
    }

    /// See [`crate::store::Store::replace_lifecycle`].
    pub(crate) async fn replace_lifecycle(
        &self,
        expected: Option<&Lifecycle>,
        new: Option<&Lifecycle>,
    ) -> Result<Replaced, Error> {
        match self.lifecycle().await? {
            Rules::Are { now, .. } if now.as_ref() == expected => {}
            Rules::Are { .. } => return Ok(Replaced::Others),
            Rules::Unsupported { why, .. } => return Ok(Replaced::Refused(why)),
            Rules::Never => return Ok(Replaced::Refused(String::new())),
        }
        let sent = self.wire.send(BUCKET, replacing(new), |reply| {
            async move {
                self.wire.drain(reply.response).await;
                Ok::<_, Trouble>(())
            }
            .boxed()
        });
        let Err(error) = sent.await else { return Ok(Replaced::Done) };
        match answer(&error) {
            Some((StatusCode::BAD_REQUEST | StatusCode::NOT_IMPLEMENTED, code, message, _)) => {
                Ok(Replaced::Refused(format!("{code}: {message}")))
            }
            Some(_) | None => Err(error),
        }
    }

    /// See [`crate::store::Store::keeps_versions`]. One request.
    pub(crate) async fn keeps_versions(&self) -> Result<bool, Error> {
        let mut call = Call::new(Op::Lifecycle, "get_versioning", Method::GET);
        call.query = "versioning=".to_owned();
        let asked = self.wire.send(BUCKET, call, |reply| {
            async move {
                let bytes = self.wire.collect(reply.response, MOST).await?;
                let text = String::from_utf8_lossy(&bytes);
                // S3 "GetBucketVersioning": without an element it never had any; suspended, it keeps those it has.
                Ok(answers::element(&text, "Status").is_some())
            }
            .boxed()
        });
        match asked.await {
            Err(error) if answer(&error).is_some_and(|(status, code, ..)| is_unknown(status, code)) => {
                Ok(false)
            }
            asked => asked,
        }
    }
}

fn replacing(new: Option<&Lifecycle>) -> Call {
    // Sent once: there is no condition for it, and a failure may mean that somebody else is at it right now.
    let Some(new) = new else {
        let mut call = Call::new(Op::Lifecycle, "delete_lifecycle", Method::DELETE);
        call.query = "lifecycle=".to_owned();
        call.once = true;
        return call;
    };
    let mut gather = Gather::default();
    gather.share(Bytes::copy_from_slice(new.text.as_bytes()));
    let body = gather.finish();
    let mut call = Call::new(Op::Lifecycle, "put_lifecycle", Method::PUT)
        // S3 wants a checksum of this request; this is the one that every server knows.
        .header("content-md5", &STANDARD.encode(Md5::digest(&new.text)))
        .header("content-type", "application/xml");
    if let Some(minimum) = &new.minimum {
        call = call.header(MINIMUM, minimum);
    }
    call.query = "lifecycle=".to_owned();
    call.once = true;
    call.hash = Hash::Sha256(body.sha256());
    call.body = body;
    call
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// What the server answered where it answered with an error: status, code, message, and what it calls itself.
fn answer(error: &Error) -> Option<(StatusCode, &str, &str, Option<&str>)> {
    match std::error::Error::source(error)?.downcast_ref::<Trouble>()? {
        Trouble::Answer { status, code, message, server, .. } => {
            Some((*status, code, message, server.as_deref()))
        }
        Trouble::Connection(_)
        | Trouble::Slow(_)
        | Trouble::Broken
        | Trouble::Corrupt
        | Trouble::Long(_)
        | Trouble::Unsigned(_)
        | Trouble::Request(_) => None,
    }
}

/// Whether a server says that it knows no such request: versitygw and gofakes3 do, with 501.
fn is_unknown(status: StatusCode, code: &str) -> bool {
    matches!(status, StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED)
        || matches!(code, "NotImplemented" | "MethodNotAllowed")
}
