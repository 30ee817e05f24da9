//! Taking a distribution in: its bytes, then its metadata, then its record, which is the commit.
//!
//! Bytes are stored while they arrive, under the file's own name and only where nothing is there; the file is looked at
//! on the way, and one that is not good ends as a body that broke, which leaves nothing. Who finds bytes without a record
//! (their writer died, or is about to go on) looks at them and writes the record himself: a file that is there as a
//! whole is never lost, and never stands in the way of itself.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::sync::oneshot;

use super::build::BuildKey;
use super::filename::{DistributionFilename, Kind};
use super::folder::{Behind, Folder, behind};
use super::inspect::{Beside, Digests, Inspected, Inspector, Unsound};
use super::large::{Place, Places};
use super::name::{IndexName, ProjectName};
use super::record::hex;
use crate::budget::FREE;
use crate::domain::layout::wheels::{self as layout, Part};
use crate::domain::{Error, Fault, Writes};
use crate::payload::{BodyError, Payload};
use crate::store::{Mode, Put, PutError, Stored};

/// What a sender claims of a file, beside its name. What is not claimed is not checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// Whose it is.
    pub project: Option<ProjectName>,
    /// Of which release.
    pub version: Option<pep440_rs::Version>,
    /// Built (`true`) or source.
    pub wheel: Option<bool>,
    /// SHA-256 of the bytes.
    pub sha256: Option<[u8; 32]>,
    /// BLAKE2b of 256 bits.
    pub blake2: Option<[u8; 32]>,
    /// MD5.
    pub md5: Option<[u8; 16]>,
    /// Of which build it is the outcome.
    pub build: Option<BuildKey>,
}

/// A file that is offered.
pub struct Offer {
    /// Its name.
    pub filename: DistributionFilename,
    /// Its SHA-256, where it is claimed before the bytes come.
    pub sha256: Option<[u8; 32]>,
    /// Which digests may be claimed of it beside that. One that is claimed and not among these refuses the file.
    pub beside: Beside,
    /// Its bytes.
    pub body: BoxStream<'static, Result<Bytes, BodyError>>,
    /// What is claimed of it, or why the sender's message is not taken: known once the body has ended.
    pub claims: oneshot::Receiver<Result<Claims, String>>,
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offer").field("filename", &self.filename).finish_non_exhaustive()
    }
}

/// How an upload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed {
    /// It is in its index now.
    Stored,
    /// The same bytes were there.
    Same,
}

/// Why a file is refused. Nothing of it is stored. Each prints as one line that a client may see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It is not what its name says.
    #[error(transparent)]
    Unsound(#[from] Unsound),
    /// The sender's message is not good.
    #[error("{0}")]
    Form(String),
    /// The sender claims one thing, and the file is another.
    #[error("the {0} that was sent does not agree with the file")]
    Claim(&'static str),
    /// A digest that was claimed too late to be computed.
    #[error("the {0} came behind the file, and other digests before it: they have to be on one side of it")]
    Late(&'static str),
    /// Its place is an environment's index.
    #[error(
        "{0} says nothing of the libc that the wheel was built for, so it could break other machines: it belongs \
         to the index of its environment, /built/ENVIRONMENT/legacy/"
    )]
    Platform(String),
    /// There are no environments here.
    #[error("this server has one index, and none for environments: upload to /legacy/")]
    OneIndex,
    /// Other bytes have the name.
    #[error(
        "File already exists ({0}), with other contents. A file's contents never change: use another version or build number"
    )]
    Taken(DistributionFilename),
}

/// Why an upload failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// The file, or what was said of it.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The connection or the store.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// A body on its way, and what it turns out to be. Shared, for a store may leave a body that it does not need.
struct Arriving {
    body: BoxStream<'static, Result<Bytes, BodyError>>,
    filename: DistributionFilename,
    inspector: Option<Inspector>,
    claims: oneshot::Receiver<Result<Claims, String>>,
    large: Places,
    place: Option<Place>,
    end: Option<Result<Arrived, End>>,
}

/// A file that arrived whole, and is good.
struct Arrived {
    found: Inspected,
    build: Option<BuildKey>,
}

/// Why a body did not end well.
#[derive(Debug, Clone)]
enum End {
    Refused(Refused),
    Broken(BodyError),
    /// Others hold what there may be in memory of files' metadata.
    Crowded,
}

type Shared = Arc<tokio::sync::Mutex<Arriving>>;

impl Arriving {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        if self.end.is_some() {
            return None;
        }
        let came = match &self.place {
            Some(place) => place.wait(self.body.next()).await,
            None => Some(self.body.next().await),
        };
        let end = match came {
            None => Err(End::Crowded),
            Some(Some(Ok(chunk))) => match self.look(&chunk) {
                Ok(()) => return Some(Ok(chunk)),
                Err(end) => Err(end),
            },
            Some(Some(Err(error))) => Err(self.broken(error)),
            Some(None) => self.verdict(),
        };
        let error = match &end {
            Ok(_) => None,
            // The store hears of it at once: nothing is held while the rest of the body is taken.
            Err(End::Refused(_) | End::Crowded) => Some(Err(BodyError::Refused)),
            Err(End::Broken(error)) => Some(Err(*error)),
        };
        if end.is_err() {
            (self.inspector, self.place) = (None, None);
        }
        self.end = Some(end);
        error
    }

    fn look(&mut self, chunk: &[u8]) -> Result<(), End> {
        let Some(inspector) = &mut self.inspector else { return Ok(()) };
        inspector.push(chunk).map_err(|why| End::Refused(why.into()))?;
        if inspector.held() > FREE && self.place.is_none() {
            // Few files have metadata of this size.
            self.place = Some(self.large.take(Instant::now()).ok_or(End::Crowded)?);
        }
        Ok(())
    }

    /// Takes what is left of a body that is not wanted any more.
    async fn rest(&mut self) {
        if matches!(self.end, Some(Err(End::Refused(_) | End::Crowded))) {
            drain(std::mem::replace(&mut self.body, stream::empty().boxed())).await;
        }
    }

    /// A body that its sender's message made end.
    fn broken(&mut self, error: BodyError) -> End {
        match self.claims.try_recv() {
            Ok(Err(why)) => End::Refused(Refused::Form(why)),
            Ok(Ok(_)) | Err(_) => End::Broken(error),
        }
    }

    fn verdict(&mut self) -> Result<Arrived, End> {
        let refused = |why: Unsound| End::Refused(why.into());
        let claims = match self.claims.try_recv() {
            Ok(Ok(claims)) => claims,
            Ok(Err(why)) => return Err(End::Refused(Refused::Form(why))),
            Err(_) => return Err(End::Broken(BodyError::Incomplete)),
        };
        let inspector = self.inspector.take().ok_or(End::Broken(BodyError::Incomplete))?;
        claims.check_name(&self.filename).map_err(End::Refused)?;
        let found = inspector.finish().map_err(refused)?;
        claims.check(&found).map_err(End::Refused)?;
        Ok(Arrived { found, build: claims.build })
    }
}

impl Claims {
    /// Holds what was claimed against what arrived.
    fn check(&self, found: &Inspected) -> Result<(), Refused> {
        let Digests { sha256, blake2, md5 } = found.digests;
        agree(self.sha256, Some(sha256), "sha256_digest")?;
        agree(self.blake2, blake2, "blake2_256_digest")?;
        agree(self.md5, md5, "md5_digest")
    }

    /// Holds what was claimed against the file's name.
    ///
    /// # Errors
    /// What disagrees.
    pub fn check_name(&self, filename: &DistributionFilename) -> Result<(), Refused> {
        let right = |claimed: bool, what| if claimed { Ok(()) } else { Err(Refused::Claim(what)) };
        right(self.project.as_ref().is_none_or(|name| name == filename.project()), "name")?;
        right(self.version.as_ref().is_none_or(|version| version == filename.version()), "version")?;
        right(self.build.is_none() || filename.is_wheel(), "build_key")?;
        right(self.wheel.is_none_or(|wheel| wheel == filename.is_wheel()), "filetype")
    }
}

impl Writes {
    /// Takes a file in. Three requests to the store for a new wheel of up to 8 MiB, two where it was there; one more
    /// where it is the outcome of a build that was named.
    ///
    /// # Errors
    /// What is refused leaves nothing. Where the store fails after the bytes were stored, the same upload again, or any
    /// other under the same name, brings them into the index.
    pub async fn distribution(&self, index: &IndexName, offer: Offer) -> Result<Landed, UploadError> {
        let filename = offer.filename.clone();
        if let Some(tag) = misplaced(index, &filename).filter(|_| !self.wheels.linux_tags) {
            drain(offer.body).await;
            return Err(Refused::Platform(tag).into());
        }
        let key = match behind(&self.folder, index) {
            Behind::Records => layout::file(index, &filename, Part::Content),
            Behind::Folder(folder) => folder.room(&filename).await?,
            Behind::Nothing => {
                drain(offer.body).await;
                return Err(Refused::OneIndex.into());
            }
        };
        let mark = offer.sha256.map(|sum| hex(&sum));
        let how = Put { mode: Mode::Create, mark, settled: crate::domain::layout::settled(&key) };
        let arriving = self.arriving(offer);
        let put = self.store.put(&key, Payload::new(None, stream_of(&arriving)), how).await;
        let stored = match put {
            Ok(stored) => Some(stored),
            // Why it broke is known better here.
            Err(PutError::Body(_)) => None,
            Err(PutError::Store(error)) => return Err(Error::from(error).into()),
        };
        let Arrived { found, build } = finish(&arriving).await?;
        let landed = match (stored, &self.folder) {
            (Some(Stored::Done { .. }), Some(_)) => Ok(Landed::Stored),
            (Some(Stored::Exists), Some(folder)) => self.held(folder, &filename, &found).await,
            (Some(Stored::Done { etag }), None) => {
                let landed = self.commit(index, &filename, &found, build).await;
                match landed {
                    Err(UploadError::Refused(Refused::Taken(_))) => {
                        self.replace(index, &filename, &found, build, &etag).await
                    }
                    Ok(_) | Err(_) => landed,
                }
            }
            (Some(Stored::Exists), None) => self.settle(index, &filename, &found, build).await,
            (None, _) => Err(Error::Body(BodyError::Incomplete).into()),
        }?;
        if let (Some(build), None) = (build, &self.folder) {
            self.note_build(index, build, &filename, &found.digests.sha256).await?;
        }
        Ok(landed)
    }

    fn arriving(&self, offer: Offer) -> Shared {
        Arc::new(tokio::sync::Mutex::new(Arriving {
            body: offer.body.fuse().boxed(),
            inspector: Some(Inspector::new(&offer.filename).with(offer.beside)),
            filename: offer.filename,
            claims: offer.claims,
            large: self.large.clone(),
            place: None,
            end: None,
        }))
    }

    /// Bytes are in a folder, and so in its index: says whether they are ours.
    async fn held(
        &self,
        folder: &Folder,
        filename: &DistributionFilename,
        ours: &Inspected,
    ) -> Result<Landed, UploadError> {
        match folder.sha256(filename).await? {
            Some(sha256) if sha256 == hex(&ours.digests.sha256) => Ok(Landed::Same),
            Some(_) => Err(Refused::Taken(filename.clone()).into()),
            // Taken away just now: the same upload again finds room.
            None => Err(Error::Store(Fault::Unavailable).into()),
        }
    }
}

/// The platform tag for which a file's place is another index.
fn misplaced(index: &IndexName, filename: &DistributionFilename) -> Option<String> {
    match filename.kind() {
        Kind::Source(_) => None,
        Kind::Wheel { platform, .. } => {
            platform.split('.').find(|tag| !index.takes_platform(tag)).map(str::to_owned)
        }
    }
}

/// Takes what is left: its sender reads the answer once it has sent all.
async fn drain(mut body: BoxStream<'static, Result<Bytes, BodyError>>) {
    while let Some(Ok(_)) = body.next().await {}
}

/// Holds a digest that was claimed to the one that was found.
fn agree<const N: usize>(
    claimed: Option<[u8; N]>,
    found: Option<[u8; N]>,
    what: &'static str,
) -> Result<(), Refused> {
    match (claimed, found) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Refused::Late(what)),
        (Some(claimed), Some(found)) if claimed == found => Ok(()),
        (Some(_), Some(_)) => Err(Refused::Claim(what)),
    }
}

fn stream_of(arriving: &Shared) -> impl futures_util::Stream<Item = Result<Bytes, BodyError>> + Send + use<> {
    let arriving = Arc::clone(arriving);
    stream::unfold(arriving, async |arriving| {
        let next = arriving.lock().await.next().await?;
        Some((next, arriving))
    })
}

/// What arrived, once all of it has: also where the store left the rest, for its sender reads no answer before.
async fn finish(arriving: &Shared) -> Result<Arrived, UploadError> {
    let mut arriving = arriving.lock().await;
    while arriving.next().await.is_some() {}
    arriving.rest().await;
    match arriving.end.take() {
        Some(Ok(found)) => Ok(found),
        Some(Err(End::Refused(why))) => Err(why.into()),
        Some(Err(End::Broken(error))) => Err(Error::Body(error).into()),
        Some(Err(End::Crowded)) => {
            tracing::warn!(filename = %arriving.filename, "an upload is put off: others hold as much metadata as there may be");
            Err(Error::Store(Fault::Unavailable).into())
        }
        None => Err(Error::Body(BodyError::Incomplete).into()),
    }
}
