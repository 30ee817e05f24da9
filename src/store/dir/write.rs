//! Writing: take the body in, hop by hop, and commit it.
//!
//! A small body is written in a single hop. A larger one alternates between two buffers: one fills from the sender
//! while the other is written. Whatever goes wrong before the rename, the staged file is gone with its handle.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf as _, Bytes};
use futures_util::stream::{BoxStream, StreamExt as _};
use tokio::task::JoinHandle;

use super::fault::Fault;
use super::stage::Staged;
use super::{Place, Sync, hop, joined, read, start};
use crate::budget::FREE;
use crate::payload::{BodyError, Payload};
use crate::store::{Key, Mode, Op, Put, PutError, Stored};

/// Bytes of each of the two buffers of a larger body.
const CHUNK: usize = 1024 * 1024;

/// So many bytes may wait for the medium while more arrive.
const BEHIND: usize = 8 * 1024 * 1024;

/// A body as it arrives: counts, and cuts into buffers.
struct Incoming {
    stream: BoxStream<'static, Result<Bytes, BodyError>>,
    announced: Option<u64>,
    seen: u64,
    left: Bytes,
}

impl Incoming {
    fn new(payload: Payload) -> Self {
        let Payload { len, stream, .. } = payload;
        Self { stream, announced: len, seen: 0, left: Bytes::new() }
    }

    /// Fills a buffer up to `size` bytes. `true` where the body ended with it, at the length it was announced with.
    /// Copies, for a chunk of a byte may keep a whole network buffer alive.
    async fn fill(&mut self, buffer: &mut Vec<u8>, size: usize) -> Result<bool, BodyError> {
        loop {
            if self.left.is_empty() {
                let Some(next) = self.stream.next().await else { return self.ended() };
                self.left = next?;
                self.seen = self.seen.saturating_add(self.left.len() as u64);
                if self.announced.is_some_and(|announced| self.seen > announced) {
                    return Err(BodyError::Length);
                }
                continue;
            }
            let room = size.saturating_sub(buffer.len()).min(self.left.len());
            if room == 0 {
                return Ok(false);
            }
            let (now, _) = self.left.split_at(room);
            buffer.extend_from_slice(now);
            self.left.advance(room);
        }
    }

    fn ended(&self) -> Result<bool, BodyError> {
        match self.announced {
            Some(announced) if announced != self.seen => Err(BodyError::Length),
            Some(_) | None => Ok(true),
        }
    }
}

/// Raised when the put is dropped: what is not committed by then shall not be.
struct Leaving(Arc<AtomicBool>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Stores a body under a key.
pub(super) async fn put(
    place: &Arc<Place>,
    key: &Key,
    payload: Payload,
    how: Put,
) -> Result<Stored, PutError> {
    let leaving = Leaving(Arc::new(AtomicBool::new(false)));
    if let Some(whole) = payload.whole {
        let stored = in_one(place, key, whole, how, &leaving).await;
        return stored.map_err(|fault| fault.at(Op::Put, key).into());
    }
    let mut body = Incoming::new(payload);
    let likely = body.announced.map_or(FREE, |len| usize::try_from(len).map_or(FREE, |len| len.min(FREE)));
    let mut buffer = Vec::with_capacity(likely);
    let ended = body.fill(&mut buffer, FREE).await?;
    let stored = if ended {
        in_one(place, key, buffer, how, &leaving).await
    } else {
        return large(place, key, body, buffer, how, &leaving).await;
    };
    stored.map_err(|fault| fault.at(Op::Put, key).into())
}

/// Bytes at hand, in one hop.
async fn in_one(
    place: &Arc<Place>,
    key: &Key,
    bytes: impl AsRef<[u8]> + Send + 'static,
    how: Put,
    leaving: &Leaving,
) -> Result<Stored, Fault> {
    let (at, key, left) = (Arc::clone(place), key.clone(), Arc::clone(&leaving.0));
    let work = move || {
        let mut staged = Staged::create(&at)?;
        staged.write(bytes.as_ref())?;
        staged.commit(&at, &key, &how, &left)
    };
    joined(place.writers.start_work(work).await)
}

/// Has the medium take what is written while more arrives; else all of it would be left for the sync before the commit, which
/// is the one that counts: this one's failures are not ours to tell, and the other sees them by a handle of its own.
struct Ahead {
    file: Option<Arc<File>>,
    behind: usize,
    under_way: Option<JoinHandle<()>>,
}

impl Ahead {
    fn new(file: Option<File>) -> Self {
        Self { file: file.map(Arc::new), behind: 0, under_way: None }
    }

    fn wrote(&mut self, bytes: usize) {
        self.behind = self.behind.saturating_add(bytes);
        let busy = self.under_way.as_ref().is_some_and(|work| !work.is_finished());
        let Some(file) = self.file.as_ref().filter(|_| self.behind >= BEHIND && !busy).map(Arc::clone) else {
            return;
        };
        self.behind = 0;
        self.under_way = Some(start(move || match file.sync_data() {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "a staged file could not be synced ahead"),
        }));
    }
}

type Written = Result<(Staged, Vec<u8>), Fault>;

/// Writes a buffer while the next one fills; both come back.
fn write_on(mut staged: Staged, mut buffer: Vec<u8>) -> JoinHandle<Written> {
    start(move || {
        staged.write(&buffer)?;
        buffer.clear();
        Ok((staged, buffer))
    })
}

async fn large(
    place: &Arc<Place>,
    key: &Key,
    mut body: Incoming,
    first: Vec<u8>,
    how: Put,
    leaving: &Leaving,
) -> Result<Stored, PutError> {
    let failed = |fault: Fault| PutError::from(fault.at(Op::Put, key));
    let _held = place.budget.take(2 * CHUNK as u64).await;
    let Some((staged, again)) = begin(place, key, &how.mode).await.map_err(failed)? else {
        return Ok(Stored::Exists);
    };
    let mut ahead = Ahead::new(again);
    let mut writing = write_on(staged, first);
    let mut filling = Vec::with_capacity(CHUNK);
    loop {
        let ended = body.fill(&mut filling, CHUNK).await;
        // Waited for even where the body failed, so that the staged file is gone before that is told.
        let (staged, written) = joined(writing.await).map_err(failed)?;
        match ended {
            Ok(true) => {
                let (place, key, left) = (Arc::clone(place), key.clone(), Arc::clone(&leaving.0));
                let commit = move || {
                    let mut staged = staged;
                    staged.write(&filling)?;
                    staged.commit(&place, &key, &how, &left)
                };
                return hop(commit).await.map_err(failed);
            }
            Ok(false) => {
                ahead.wrote(filling.len());
                writing = write_on(staged, filling);
                filling = written;
            }
            Err(error) => {
                // Freeing a large file takes its time.
                let gone = hop(move || {
                    drop(staged);
                    Ok(())
                });
                gone.await.map_err(failed)?;
                return Err(error.into());
            }
        }
    }
}

/// A staged file, and another handle of it where it is to be synced; or nothing where the upload would be in vain. Only the
/// commit decides; this spares the transfer.
async fn begin(place: &Arc<Place>, key: &Key, mode: &Mode) -> Result<Option<(Staged, Option<File>)>, Fault> {
    let (place, path) = (Arc::clone(place), place.path(key));
    let create = *mode == Mode::Create;
    hop(move || match create && read::exists(&path)? {
        true => Ok(None),
        false => {
            let staged = Staged::create(&place)?;
            let again = match place.sync {
                Sync::Always => Some(staged.again()?),
                Sync::Never => None,
            };
            Ok(Some((staged, again)))
        }
    })
    .await
}
