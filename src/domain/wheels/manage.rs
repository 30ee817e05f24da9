//! What admins do to a file that is there: delete it, yank it (PEP 592), take that back.
//!
//! The record goes first: from then on the file is in no page, whatever becomes of the rest.

use std::str::FromStr;

use super::filename::DistributionFilename;
use super::name::IndexName;
use crate::domain::layout::wheels::{self as layout, Part};
use crate::domain::{Erases, Error};
use crate::payload::Payload;
use crate::store::Put;

/// Most bytes of a reason.
const MOST: usize = 1024;

/// Why a text is no reason. Each prints as one line that a client may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReasonError {
    /// Too long.
    #[error("the reason is longer than {MOST} bytes")]
    Long,
    /// More than a line, or no text.
    #[error("the reason is not one line of text")]
    Line,
}

/// Why a file is yanked: what installers show, perhaps nothing.
///
/// Invariants: at most 1024 bytes, no control characters, no blanks around it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reason(String);

impl FromStr for Reason {
    type Err = ReasonError;

    fn from_str(text: &str) -> Result<Self, ReasonError> {
        let text = text.trim();
        if text.len() > MOST {
            return Err(ReasonError::Long);
        }
        if text.chars().any(char::is_control) { Err(ReasonError::Line) } else { Ok(Self(text.to_owned())) }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

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
        reason: &Reason,
    ) -> Result<bool, Error> {
        if !self.is_there(index, filename).await? {
            return Ok(false);
        }
        let key = layout::file(index, filename, Part::Yank);
        let how = Put { settled: crate::domain::layout::settled(&key), ..Put::default() };
        self.store.put(&key, Payload::from(bytes::Bytes::from(reason.0.clone())), how).await?;
        Ok(true)
    }

    /// Takes the mark away. Whether the file is there.
    pub async fn unyank(&self, index: &IndexName, filename: &DistributionFilename) -> Result<bool, Error> {
        let there = self.is_there(index, filename).await?;
        self.store.delete(&[layout::file(index, filename, Part::Yank)]).await?;
        Ok(there)
    }
}

#[cfg(test)]
mod tests {
    use super::{Reason, ReasonError};

    #[test]
    fn a_reason_is_one_line() {
        assert_eq!(" breaks\n".parse::<Reason>().map(|reason| reason.to_string()), Ok("breaks".to_owned()));
        assert_eq!("".parse::<Reason>(), Ok(Reason::default()));
        assert_eq!("a\nb".parse::<Reason>(), Err(ReasonError::Line));
        assert_eq!("a".repeat(1025).parse::<Reason>(), Err(ReasonError::Long));
    }
}
