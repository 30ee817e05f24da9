//! What admins do to a file that is there: delete it, yank it (PEP 592), take that back.
//!
//! The record goes first: from then on the file is in no page, whatever becomes of the rest.

use super::filename::DistributionFilename;
use super::name::IndexName;
use crate::domain::layout::wheels::{self as layout, Part};
use crate::domain::{Erases, Error};
use crate::payload::Payload;
use crate::store::Put;

impl Erases {
    /// Whether a file is in an index. One request to the store, two where it is not.
    async fn is_there(&self, index: &IndexName, filename: &DistributionFilename) -> Result<bool, Error> {
        let there = self.store.head(&layout::file(index, filename, Part::Record)).await?.is_some();
        if !there {
            self.store.confirm_absence().await?;
        }
        Ok(there)
    }

    /// Deletes a file, also what an upload that died left of one. Whether it was in the index.
    pub async fn distribution(
        &self,
        index: &IndexName,
        filename: &DistributionFilename,
    ) -> Result<bool, Error> {
        let there = self.is_there(index, filename).await?;
        let at = |part| layout::file(index, filename, part);
        self.store.delete(&[at(Part::Record)]).await?;
        self.store.delete(&[at(Part::Yank), at(Part::Metadata), at(Part::Content)]).await?;
        Ok(there)
    }

    /// Marks a file so that installers pass it over unless it is asked for by its very version. Whether it is there.
    pub async fn yank(
        &self,
        index: &IndexName,
        filename: &DistributionFilename,
        reason: &str,
    ) -> Result<bool, Error> {
        if !self.is_there(index, filename).await? {
            return Ok(false);
        }
        let key = layout::file(index, filename, Part::Yank);
        let how = Put { settled: crate::domain::layout::settled(&key), ..Put::default() };
        let reason = bytes::Bytes::copy_from_slice(reason.as_bytes());
        self.store.put(&key, Payload::from(reason), how).await?;
        Ok(true)
    }

    /// Takes the mark away. Whether the file is there.
    pub async fn unyank(&self, index: &IndexName, filename: &DistributionFilename) -> Result<bool, Error> {
        let there = self.is_there(index, filename).await?;
        self.store.delete(&[layout::file(index, filename, Part::Yank)]).await?;
        Ok(there)
    }
}
