//! What admins do to a file that is there: delete it, yank it (PEP 592), take that back.
//!
//! The record goes first: from then on the file is in no page, whatever becomes of the rest.

use std::str::FromStr;

use super::filename::DistributionFilename;
use super::folder::{Behind, behind};
use super::name::IndexName;
use crate::domain::layout::wheels::{self as layout, Part};
use crate::domain::{Erases, Error};
use crate::payload::Payload;
use crate::store::{Key, Put};

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

/// Where the parts of a file are that is there.
struct Parts {
    /// What makes it be in its index.
    first: Key,
    /// The file's mark; `None` where its name is too long for one.
    yank: Option<Key>,
    others: Vec<Key>,
    there: bool,
}

impl Erases {
    /// Looks for a file. One request to the store, two where it is not there. `None` where no file can be.
    async fn look(&self, index: &IndexName, filename: &DistributionFilename) -> Result<Option<Parts>, Error> {
        let at = |part| layout::file(index, filename, part);
        match behind(&self.folder, index) {
            Behind::Nothing => Ok(None),
            Behind::Folder(folder) => Ok(folder.keys(filename).await?.map(|(first, yank)| Parts {
                first,
                yank,
                others: Vec::new(),
                there: true,
            })),
            Behind::Records => {
                let first = at(Part::Record);
                let there = self.store.head(&first).await?.is_some();
                if !there {
                    self.store.confirm_absence().await?;
                }
                // The page as it was last read goes too: where times are told by the second, a file that takes the name at once
                // could be taken for this one.
                let page = layout::snapshot(index, filename.project());
                let others = vec![at(Part::Metadata), at(Part::Content), page];
                Ok(Some(Parts { first, yank: Some(at(Part::Yank)), others, there }))
            }
        }
    }

    /// Deletes a file, also what an upload that died left of one. Whether it was in the index.
    pub async fn distribution(
        &self,
        index: &IndexName,
        filename: &DistributionFilename,
    ) -> Result<bool, Error> {
        let Some(mut parts) = self.look(index, filename).await? else { return Ok(false) };
        self.store.delete(std::slice::from_ref(&parts.first)).await?;
        parts.others.extend(parts.yank);
        // Once more, and last: an upload under way may have written it since.
        parts.others.push(parts.first);
        self.store.delete(&parts.others).await?;
        Ok(parts.there)
    }

    /// Marks a file so that installers pass it over unless it is asked for by its very version. Whether it is there.
    pub async fn yank(
        &self,
        index: &IndexName,
        filename: &DistributionFilename,
        reason: &Reason,
    ) -> Result<bool, Error> {
        let Some(parts) = self.look(index, filename).await?.filter(|parts| parts.there) else {
            return Ok(false);
        };
        let yank = parts.yank.ok_or(Error::Long)?;
        let how = Put { settled: crate::domain::layout::settled(&yank), ..Put::default() };
        self.store.put(&yank, Payload::from(bytes::Bytes::from(reason.0.clone())), how).await?;
        if self.folder.is_none() {
            self.rejuvenate(index, filename).await;
        }
        Ok(true)
    }

    /// A file is to be as young as its mark: were it gone first, by a rule of the bucket, the next of its name would be born
    /// with the mark.
    async fn rejuvenate(&self, index: &IndexName, filename: &DistributionFilename) {
        for part in [Part::Record, Part::Metadata, Part::Content] {
            if let Err(error) = self.store.touch(&layout::file(index, filename, part)).await {
                tracing::debug!(key = %error.key, cause = %error.chain(), "a file is older than its mark");
            }
        }
    }

    /// Takes the mark away. Whether the file is there.
    pub async fn unyank(&self, index: &IndexName, filename: &DistributionFilename) -> Result<bool, Error> {
        let Some(parts) = self.look(index, filename).await? else { return Ok(false) };
        self.store.delete(parts.yank.as_slice()).await?;
        Ok(parts.there)
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
