//! What follows a file's bytes: its metadata, and the record that brings it into its index.
//!
//! Whoever finds bytes without a record writes it, whoever's they are; a record of bytes that are gone becomes that of the next
//! ones. What stands, bytes and record, is never replaced. Takes no body in.

use std::time::SystemTime;

use bytes::Bytes;
use futures_util::stream::StreamExt as _;

use super::build::BuildKey;
use super::filename::DistributionFilename;
use super::inspect::{Inspected, Inspector};
use super::name::IndexName;
use super::record::{Record, hex};
use super::upload::{Landed, Refused, UploadError};
use crate::domain::layout::wheels::{self as layout, Part};
use crate::domain::{Error, Fault, Writes};
use crate::payload::{Body, Payload, Want};
use crate::store::{Key, Mode, Put, Stored};

impl Writes {
    /// Bytes are there, whoever stored them: makes sure that they are in the index, and says whether they are ours.
    pub(super) async fn settle(
        &self,
        index: &IndexName,
        filename: &DistributionFilename,
        ours: &Inspected,
        build: Option<BuildKey>,
    ) -> Result<Landed, UploadError> {
        if let Some(record) = self.record(index, filename).await? {
            return compare(&record, filename, ours);
        }
        let theirs = self.look(index, filename).await?;
        let same = theirs.digests.sha256 == ours.digests.sha256;
        let landed = self.commit(index, filename, &theirs, build.filter(|_| same)).await?;
        if same {
            return Ok(landed);
        }
        Err(Refused::Taken(filename.clone()).into())
    }

    /// Writes metadata and record of bytes that are stored. Where another's record stands, nothing is replaced.
    pub(super) async fn commit(
        &self,
        index: &IndexName,
        filename: &DistributionFilename,
        found: &Inspected,
        build: Option<BuildKey>,
    ) -> Result<Landed, UploadError> {
        if let Stored::Exists = self.sidecar(index, filename, found, Mode::Create).await? {
            if let Some(record) = self.record(index, filename).await? {
                return compare(&record, filename, found);
            }
            // Left by an upload that died, perhaps of other bytes.
            self.sidecar(index, filename, found, Mode::Replace).await?;
        }
        let key = layout::file(index, filename, Part::Record);
        match self.small(&key, record_of(filename, found, build), Mode::Create).await? {
            Stored::Done { .. } => Ok(Landed::Stored),
            Stored::Exists => match self.record(index, filename).await? {
                Some(record) => compare(&record, filename, found),
                None => Err(Error::Store(Fault::Unavailable).into()),
            },
        }
    }

    /// Writes the metadata of a wheel, marked with the digest of the file that they are of.
    async fn sidecar(
        &self,
        index: &IndexName,
        filename: &DistributionFilename,
        found: &Inspected,
        mode: Mode,
    ) -> Result<Stored, Error> {
        let Some(metadata) = &found.metadata else { return Ok(Stored::Done { etag: String::new() }) };
        let key = layout::file(index, filename, Part::Metadata);
        let mark = Some(hex(&found.digests.sha256));
        let how = Put { mode, settled: crate::domain::layout::settled(&key), mark };
        Ok(self.store.put(&key, Payload::from(metadata.clone()), how).await?)
    }

    /// Bytes were stored where none were, and there is a record of others: what it is of was deleted just when it was
    /// written. It becomes the record of what is there, unless that is another's by now.
    pub(super) async fn replace(
        &self,
        index: &IndexName,
        filename: &DistributionFilename,
        found: &Inspected,
        build: Option<BuildKey>,
        ours: &str,
    ) -> Result<Landed, UploadError> {
        let again = || UploadError::from(Error::Store(Fault::Unavailable));
        let key = layout::file(index, filename, Part::Record);
        let record = self.store.head(&key).await.map_err(Error::from)?.ok_or_else(again)?;
        let content = layout::file(index, filename, Part::Content);
        let content = self.store.head(&content).await.map_err(Error::from)?;
        if content.is_none_or(|content| content.etag != ours) {
            return Err(Refused::Taken(filename.clone()).into());
        }
        tracing::warn!(%filename, "a record of bytes that are gone is replaced");
        self.sidecar(index, filename, found, Mode::Replace).await?;
        match self.small(&key, record_of(filename, found, build), Mode::Swap(record.etag)).await? {
            Stored::Done { .. } => Ok(Landed::Stored),
            Stored::Exists => Err(again()),
        }
    }

    pub(super) async fn small(&self, key: &Key, bytes: Bytes, mode: Mode) -> Result<Stored, Error> {
        let how = Put { mode, settled: crate::domain::layout::settled(key), mark: None };
        Ok(self.store.put(key, Payload::from(bytes), how).await?)
    }

    async fn record(
        &self,
        index: &IndexName,
        filename: &DistributionFilename,
    ) -> Result<Option<Record>, Error> {
        let key = layout::file(index, filename, Part::Record);
        let Some(object) = self.store.get(&key, &Want::default()).await? else { return Ok(None) };
        let Body::Whole(content) = object.body else { return Err(Error::Store(Fault::Corrupt)) };
        let json = content.collect().await.map_err(Error::from)?;
        Record::parse(filename, &json).map(Some).ok_or(Error::Store(Fault::Corrupt))
    }

    /// Looks at bytes that are stored.
    async fn look(
        &self,
        index: &IndexName,
        filename: &DistributionFilename,
    ) -> Result<Inspected, UploadError> {
        let key = layout::file(index, filename, Part::Content);
        let object = self.store.get(&key, &Want::default()).await.map_err(Error::from)?;
        // Deleted just now: the same upload again finds room.
        let Some(object) = object else { return Err(Error::Store(Fault::Unavailable).into()) };
        let Body::Whole(content) = object.body else { return Err(Error::Store(Fault::Corrupt).into()) };
        let (mut stream, mut inspector) = (content.into_stream(), Inspector::new(filename));
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(Error::from)?;
            // What an operator laid there is not this sender's to mend.
            inspector.push(&chunk).map_err(|_| Refused::Taken(filename.clone()))?;
        }
        Ok(inspector.finish().map_err(|_| Refused::Taken(filename.clone()))?)
    }
}

fn record_of(filename: &DistributionFilename, found: &Inspected, build: Option<BuildKey>) -> Bytes {
    let mut record = Record::new(filename, found, SystemTime::now());
    record.build_key = build.map(|build| build.to_string());
    record.to_json().into()
}

fn compare(
    record: &Record,
    filename: &DistributionFilename,
    ours: &Inspected,
) -> Result<Landed, UploadError> {
    if record.sha256 == hex(&ours.digests.sha256) {
        return Ok(Landed::Same);
    }
    Err(Refused::Taken(filename.clone()).into())
}
