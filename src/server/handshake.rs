//! A TLS handshake: under the clock, under orders, and with an end that its peer hears of.
//!
//! Runs in the connection's own task, so that no peer holds up another. Never logs what is in a certificate.

use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;
use tracing::debug;

use super::activity::{Activity, Order};
use super::io::{Version, Wire};
use super::tls::Tls;
use crate::metrics::{Handshake, Metrics};
use crate::peer::Certificate;

/// A stream that is encrypted from here on.
pub(super) struct Secured {
    pub(super) stream: TlsStream<TcpStream>,
    /// What was agreed upon; `None` where the peer did not ask (ALPN).
    pub(super) version: Option<Version>,
    /// The peer's, if it showed one.
    pub(super) certificate: Option<Certificate>,
}

impl Secured {
    fn of(stream: TlsStream<TcpStream>, tls: &Tls) -> Self {
        let (_, session) = stream.get_ref();
        let version = session.alpn_protocol().map(|protocol| match protocol {
            b"h2" => Version::Two,
            _ => Version::One,
        });
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.map(|certificate| tls.certificate(certificate));
        Self { stream, version, certificate }
    }
}

/// Shakes hands until the deadline. What came of it is counted; `None` where the connection is over.
pub(super) async fn shake(
    tls: &Tls,
    stream: TcpStream,
    peer: SocketAddr,
    activity: &Arc<Activity>,
    deadline: Instant,
    metrics: &Metrics,
) -> Option<Secured> {
    let mut accepting = pin!(tls.acceptor().accept(stream).into_fallible());
    let accepted = poll_fn(|cx| {
        activity.listen(cx.waker());
        match accepting.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if activity.order() > Order::Go => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    match timeout_at(deadline, accepted).await {
        Ok(Some(Ok(stream))) => {
            metrics.handshake(Handshake::Done);
            Some(Secured::of(stream, tls))
        }
        Ok(Some(Err((error, stream)))) => {
            let outcome = outcome(&error);
            metrics.handshake(outcome);
            debug!(%peer, %error, outcome = outcome.name(), "TLS handshake failed");
            if outcome != Handshake::Closed {
                part(stream, activity, deadline).await;
            }
            None
        }
        Ok(None) => None,
        Err(_) => {
            metrics.handshake(Handshake::Slow);
            debug!(%peer, "TLS handshake cut: out of time");
            None
        }
    }
}

/// Lets the alert arrive that says why: a close with bytes unread would overtake it.
async fn part(stream: TcpStream, activity: &Arc<Activity>, deadline: Instant) {
    let mut wire = Wire::new(stream, Arc::clone(activity));
    // Whatever the peer has sent it may go on to send.
    activity.received();
    if let Ok(Err(error)) = timeout_at(deadline, wire.shutdown()).await {
        debug!(%error, "the peer left before it could be told why");
    }
}

fn outcome(error: &io::Error) -> Handshake {
    use rustls::Error;
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        None => Handshake::Closed,
        Some(Error::InvalidCertificate(_)) => Handshake::Certificate,
        Some(Error::AlertReceived(_)) => Handshake::Declined,
        Some(_) => Handshake::Failed,
    }
}
