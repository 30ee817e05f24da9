//! A body on its way through the proxy, and the one thing that happens to it at one offset. It never
//! holds more than a frame.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use tokio::sync::mpsc::UnboundedSender;

/// A body that the proxy passes on or makes up.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How a connection is brought down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Down {
    /// By RST.
    Reset,
    /// By FIN.
    Close,
}

/// What happens at the offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The connection comes down.
    Fall(Down),
    /// Nothing more comes.
    Hang,
    /// The body ends.
    End,
    /// A bit is turned over, and the body goes on.
    Flip,
}

/// A body as it came.
pub(super) fn whole(body: Incoming) -> Body {
    body.map_err(io::Error::other).boxed_unsync()
}

/// The body with `event` at the offset `at`, which is told to `down` where it ends the connection.
pub(super) fn struck(body: Incoming, at: u64, event: Event, down: UnboundedSender<Down>) -> Body {
    // An absent body stays absent: a stream of unknown length would come out as chunked.
    if body.is_end_stream() {
        return whole(body);
    }
    let state = Struck { body, left: at, event, down, due: false };
    StreamBody::new(stream::unfold(state, Struck::next)).boxed_unsync()
}

struct Struck {
    body: Incoming,
    /// Bytes to pass before the event.
    left: u64,
    event: Event,
    down: UnboundedSender<Down>,
    /// The bytes before the event are passed.
    due: bool,
}

impl Struck {
    async fn next(mut self) -> Option<(io::Result<Frame<Bytes>>, Self)> {
        if self.due {
            return self.strike().await;
        }
        let frame = match self.body.frame().await? {
            Ok(frame) => frame,
            Err(broken) => return Some((Err(io::Error::other(broken)), self)),
        };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => return Some((Ok(trailers), self)),
        };
        let passed = usize::try_from(self.left).unwrap_or(usize::MAX);
        if data.len() <= passed {
            self.left -= data.len() as u64;
            return Some((Ok(Frame::data(data)), self));
        }
        if self.event == Event::Flip {
            // Far beyond any body: once is enough.
            self.left = u64::MAX;
            let mut data = BytesMut::from(data);
            data[passed] ^= 1;
            return Some((Ok(Frame::data(data.freeze())), self));
        }
        self.due = true;
        if passed == 0 {
            return self.strike().await;
        }
        Some((Ok(Frame::data(data.slice(..passed))), self))
    }

    async fn strike(self) -> Option<(io::Result<Frame<Bytes>>, Self)> {
        match self.event {
            Event::End | Event::Flip => None,
            Event::Hang => std::future::pending().await,
            Event::Fall(down) => {
                // While this body is not ready, the connection writes out what it holds.
                tokio::task::yield_now().await;
                // Where nobody listens any more, the connection is down already.
                self.down.send(down).ok();
                std::future::pending().await
            }
        }
    }
}
