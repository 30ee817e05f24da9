//! Larger objects on their way out: chunk by chunk, the last one only once all bytes agree with their checksum.
//!
//! Never reads ahead of its consumer: a chunk is being sent while at most one more is read.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;

use super::fault::Fault;
use super::read::{exactly, now};
use super::{Place, hop};
use crate::budget::Held;
use crate::payload::{Content, ReadError};
use crate::store::Key;
use crate::store::checksum::{Crc, Running};

/// Bytes of a chunk.
const CHUNK: usize = 256 * 1024;

struct Reader {
    place: Arc<Place>,
    file: Arc<File>,
    key: Key,
    left: Range<u64>,
    check: Option<(Running, Crc)>,
    held: Option<Held>,
    /// The caller holds the budget's share.
    paid: bool,
}

/// The bytes at these offsets, checked against the checksum where there is one.
pub(super) fn content(
    place: &Arc<Place>,
    file: File,
    key: &Key,
    left: Range<u64>,
    crc: Option<Crc>,
    paid: bool,
) -> Content {
    let reader = Reader {
        place: Arc::clone(place),
        file: Arc::new(file),
        key: key.clone(),
        left,
        check: crc.map(|crc| (Running::new(), crc)),
        held: None,
        paid,
    };
    Content::Stream(Box::pin(stream::unfold(Some(reader), |reader| async {
        let mut reader = reader.filter(|reader| !reader.left.is_empty())?;
        match reader.chunk().await {
            Ok(bytes) => Some((Ok(bytes), Some(reader))),
            Err(fault) => {
                tracing::warn!(key = %reader.key, error = %fault, "reading broke off");
                let error = match fault {
                    Fault::Corrupt(_) if reader.left.is_empty() => ReadError::Corrupt,
                    Fault::Corrupt(_)
                    | Fault::Again
                    | Fault::Conflict(_)
                    | Fault::Gone
                    | Fault::Left
                    | Fault::Io(_) => ReadError::Broken,
                };
                Some((Err(error), None))
            }
        }
    })))
}

impl Reader {
    async fn chunk(&mut self) -> Result<Bytes, Fault> {
        if self.held.is_none() && !self.paid {
            self.held = Some(self.place.budget.take(2 * CHUNK as u64).await);
        }
        let size = usize::try_from(self.left.end - self.left.start).map_or(CHUNK, |left| left.min(CHUNK));
        let bytes = self.read(size).await?;
        self.left.start += size as u64;
        if let Some((running, crc)) = &mut self.check {
            running.update(&bytes);
            if self.left.is_empty() && running.finish() != *crc {
                return Err(Fault::Corrupt("the bytes fail the checksum they were stored with"));
            }
        }
        Ok(bytes.into())
    }

    async fn read(&self, size: usize) -> Result<Vec<u8>, Fault> {
        let at = self.left.start;
        let mut bytes = vec![0; size];
        let got = now(&self.file, &mut bytes, at);
        if got == size {
            return Ok(bytes);
        }
        let file = Arc::clone(&self.file);
        hop(move || {
            exactly(&file, bytes.get_mut(got..).unwrap_or_default(), at + got as u64)?;
            Ok(bytes)
        })
        .await
    }
}
