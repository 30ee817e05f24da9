//! Larger objects on their way out: chunk by chunk, the last one only once all bytes agree with their checksum.
//!
//! A part is read with all that is around it, since the checksum is of the whole. Never reads ahead of its consumer: a chunk is
//! being sent while at most one more is read.

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
/// After so many bytes others have their turn: what is in the page cache is read, and thrown away, without ever waiting.
const TURN: usize = 1 << 20;

struct Reader {
    place: Arc<Place>,
    file: Arc<File>,
    key: Key,
    left: Range<u64>,
    /// Which of the bytes are handed on.
    wanted: Range<u64>,
    /// Held back until all that follows it has been read too.
    kept: Option<Bytes>,
    check: Option<(Running, Crc)>,
    held: Option<Held>,
    /// Bytes read since others had their turn.
    turn: usize,
    /// The caller holds the budget's share.
    paid: bool,
}

/// The bytes at the wanted offsets; those to be read hold them, and are checked where there is a checksum.
pub(super) fn content(
    place: &Arc<Place>,
    file: File,
    key: &Key,
    left: Range<u64>,
    wanted: Range<u64>,
    crc: Option<Crc>,
    paid: bool,
) -> Content {
    let reader = Reader {
        place: Arc::clone(place),
        file: Arc::new(file),
        key: key.clone(),
        left,
        wanted,
        kept: None,
        check: crc.map(|crc| (Running::new(), crc)),
        held: None,
        turn: 0,
        paid,
    };
    Content::Stream(Box::pin(stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next().await {
            Ok(bytes) => bytes.map(|bytes| (Ok(bytes), Some(reader))),
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
    /// The next bytes that are wanted. Where more is read behind them, the last ones wait for it.
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        while !self.left.is_empty() {
            let begin = self.left.start;
            let chunk = self.chunk().await?;
            let end = begin + chunk.len() as u64;
            let first = self.wanted.start.clamp(begin, end) - begin;
            let last = self.wanted.end.clamp(begin, end) - begin;
            if first == last {
                continue;
            }
            let part = chunk.slice(first as usize..last as usize);
            let ready = if self.wanted.end < self.left.end { self.kept.replace(part) } else { Some(part) };
            if ready.is_some() {
                return Ok(ready);
            }
        }
        Ok(self.kept.take())
    }

    async fn chunk(&mut self) -> Result<Bytes, Fault> {
        if self.held.is_none() && !self.paid {
            self.held = Some(self.place.budget.take(2 * CHUNK as u64).await);
        }
        if self.turn >= TURN {
            self.turn = 0;
            tokio::task::yield_now().await;
        }
        let size = usize::try_from(self.left.end - self.left.start).map_or(CHUNK, |left| left.min(CHUNK));
        let bytes = self.read(size).await?;
        self.left.start += size as u64;
        self.turn += size;
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
