//! The files of an index, for who knows their names: the bytes, and the metadata beside them.
//!
//! What is asked for by a digest is only told where it is known to have that digest. Never looks into the bytes.

use super::filename::DistributionFilename;
use super::folder::{Behind, behind};
use super::name::IndexName;
use super::pages::small;
use super::record::Record;
use crate::domain::layout;
use crate::domain::layout::wheels::Part;
use crate::domain::refresh::{Place, Unit};
use crate::domain::{Error, Reads};
use crate::payload::{Meta, Object, Want};

impl Reads {
    /// A file's bytes. One request; two with `sha256` where nothing is noted beside the bytes, and then only if it is that file.
    pub async fn distribution(
        &self,
        index: &IndexName,
        filename: &DistributionFilename,
        sha256: Option<&str>,
        want: &Want,
    ) -> Result<Option<Object>, Error> {
        match behind(&self.folder, index) {
            Behind::Folder(folder) => return folder.get(filename, sha256, want).await,
            Behind::Nothing => return Ok(None),
            Behind::Records => {}
        }
        let key = layout::wheels::file(index, filename, Part::Content);
        let Some(object) = self.store.get(&key, want).await? else { return Ok(None) };
        let found = self.is_of(index, filename, &object.meta, sha256).await?.then_some(object);
        if let Some(object) = &found {
            self.refresh
                .read(Place::of(index), object, || Unit::Distribution(index.clone(), filename.clone()));
        }
        Ok(found)
    }

    /// About a file. One request, two for a miss; one more as [`Reads::distribution`].
    pub async fn distribution_meta(
        &self,
        index: &IndexName,
        filename: &DistributionFilename,
        sha256: Option<&str>,
    ) -> Result<Option<Meta>, Error> {
        match behind(&self.folder, index) {
            Behind::Folder(folder) => return folder.head(filename, sha256).await,
            Behind::Nothing => return Ok(None),
            Behind::Records => {}
        }
        let key = layout::wheels::file(index, filename, Part::Content);
        let Some(meta) = self.store.head(&key).await? else {
            self.store.confirm_absence().await?;
            return Ok(None);
        };
        let found = self.is_of(index, filename, &meta, sha256).await?.then_some(meta);
        if let Some(meta) = &found {
            let unit = || Unit::Distribution(index.clone(), filename.clone());
            self.refresh.used(Place::of(index), meta.modified, unit);
        }
        Ok(found)
    }

    /// The metadata of the wheel with this digest. One request; one more as [`Reads::distribution`].
    pub async fn distribution_metadata(
        &self,
        index: &IndexName,
        filename: &DistributionFilename,
        sha256: &str,
        want: &Want,
    ) -> Result<Option<Object>, Error> {
        match behind(&self.folder, index) {
            Behind::Folder(folder) => return folder.metadata(filename, sha256, want).await,
            Behind::Nothing => return Ok(None),
            Behind::Records => {}
        }
        let key = layout::wheels::file(index, filename, Part::Metadata);
        let Some(object) = self.store.get(&key, want).await? else { return Ok(None) };
        let found = self.is_of(index, filename, &object.meta, Some(sha256)).await?.then_some(object);
        if let Some(object) = &found {
            self.refresh
                .read(Place::of(index), object, || Unit::Distribution(index.clone(), filename.clone()));
        }
        Ok(found)
    }

    /// Whether an object is of the file with this digest: as is noted with it, or else in the file's record.
    async fn is_of(
        &self,
        index: &IndexName,
        filename: &DistributionFilename,
        meta: &Meta,
        sha256: Option<&str>,
    ) -> Result<bool, Error> {
        let Some(sha256) = sha256 else { return Ok(true) };
        if let Some(mark) = &meta.mark {
            return Ok(mark == sha256);
        }
        let key = layout::wheels::file(index, filename, Part::Record);
        let json = small(&self.store, &key).await?;
        let record = json.and_then(|json| Record::parse(filename, &json));
        Ok(record.is_some_and(|record| record.sha256 == sha256))
    }
}
