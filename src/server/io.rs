//! A connection's bytes: what was read ahead, who is waiting, and a close that lets the last answer arrive.
//!
//! Over any stream, encrypted or not. Never looks into HTTP beyond the 24 bytes that tell its version.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::activity::{Activity, Order};

/// What an HTTP/2 client sends first (RFC 9113, 3.4). No HTTP/1 request begins so.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Most bytes that are thrown away for the sake of an answer.
const LINGER_BYTES: usize = 64 << 20;
/// Looks at a lingering peer: it is given up at the first one that finds nothing came since the last.
const LINGER_QUIET: Duration = Duration::from_secs(2);
/// Most looks.
const LINGER_LOOKS: u32 = 5;

/// Which HTTP a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP/1.0 or 1.1.
    One,
    /// HTTP/2.
    Two,
}

/// A peer's byte stream, watched.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    activity: Arc<Activity>,
    ahead: [u8; PREFACE.len()],
    filled: usize,
    taken: usize,
    ended: bool,
    closing: Closing,
}

#[derive(Debug)]
enum Closing {
    Open,
    Lingering { left: usize, heard: bool, looks: u32, timer: Pin<Box<Sleep>> },
    Closed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        let ahead = [0; PREFACE.len()];
        Self { stream, activity, ahead, filled: 0, taken: 0, ended: false, closing: Closing::Open }
    }

    /// Reads as many bytes as tell the version; they are read again by who reads next. `None`: the peer left
    /// without a word, was silent until the deadline, or the connection was told to end before it had begun.
    pub(super) async fn version(&mut self, deadline: Instant) -> Option<Version> {
        let seen = std::future::poll_fn(|cx| self.poll_version(cx));
        tokio::time::timeout_at(deadline, seen).await.ok().flatten()
    }

    fn poll_version(&mut self, cx: &mut Context<'_>) -> Poll<Option<Version>> {
        self.activity.listen(cx.waker());
        loop {
            let mut buf = ReadBuf::new(&mut self.ahead[self.filled..]);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(None),
                Poll::Ready(Ok(())) => self.filled += buf.filled().len(),
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending if self.activity.order() > Order::Go => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
            self.activity.received();
            if self.ahead[..self.filled] != PREFACE[..self.filled] {
                return Poll::Ready(Some(Version::One));
            }
            if self.filled == PREFACE.len() {
                return Poll::Ready(Some(Version::Two));
            }
        }
    }

    fn noted<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &written {
            Poll::Pending => self.activity.block(),
            Poll::Ready(_) => self.activity.unblock(),
        }
        written
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Reads and forgets what still comes, within bounds: closing with bytes unread resets the connection, and a
    /// reset can overtake the answer (RFC 9112, 9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Closing::Lingering { left, heard, looks, timer } = &mut self.closing else {
            return Poll::Ready(());
        };
        let mut bytes = [MaybeUninit::uninit(); 16 << 10];
        loop {
            let mut buf = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && buf.filled().len() < *left => {
                    *left -= buf.filled().len();
                    *heard = true;
                }
                Poll::Ready(Ok(()) | Err(_)) => return Poll::Ready(()),
                Poll::Pending => {
                    ready!(timer.as_mut().poll(cx));
                    if !*heard || *looks == 0 {
                        return Poll::Ready(());
                    }
                    *heard = false;
                    *looks -= 1;
                    timer.as_mut().reset(Instant::now() + LINGER_QUIET);
                }
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.taken < this.filled {
            let upto = this.filled.min(this.taken + buf.remaining());
            buf.put_slice(&this.ahead[this.taken..upto]);
            this.taken = upto;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            this.activity.received();
        } else if buf.remaining() > 0 {
            this.ended = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // An encrypted stream holds bytes back until here.
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.noted(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Closing::Open = this.closing {
            let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.noted(shut))?;
            this.closing = if this.activity.is_sent_to() && !this.ended {
                this.activity.linger();
                let timer = Box::pin(sleep(LINGER_QUIET));
                Closing::Lingering { left: LINGER_BYTES, heard: false, looks: LINGER_LOOKS, timer }
            } else {
                Closing::Closed
            };
        }
        ready!(this.poll_linger(cx));
        this.closing = Closing::Closed;
        Poll::Ready(Ok(()))
    }
}
