//! Between hyper and the router: each request and answer, watched until it ends.
//!
//! Never looks at what a request asks for, but for one doubled slash. Adds no allocation to a request without a body.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::routing::future::RouteFuture;
use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service as _;

use super::activity::{Activity, LONGEST, Underway};
use crate::payload::BodyError;
use crate::peer::{Certificate, Encrypted};

/// The router, for one connection.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) router: Router,
    pub(super) peer: SocketAddr,
    pub(super) certificate: Option<Certificate>,
    pub(super) encrypted: bool,
    pub(super) activity: Arc<Activity>,
    pub(super) body_timeout: Duration,
}

impl hyper::service::Service<Request<Incoming>> for Service {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let underway = Some(Underway::begin(&self.activity));
        let mut request = request.map(|body| Upload::new(body, &self.activity, self.body_timeout));
        request.extensions_mut().insert(ConnectInfo(self.peer));
        if self.encrypted {
            request.extensions_mut().insert(Encrypted);
        }
        if let Some(certificate) = &self.certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        if let Some(uri) = with_one_slash(request.uri()) {
            *request.uri_mut() = uri;
        }
        Answering { route: self.router.clone().call(request), underway }
    }
}

/// The same with one slash where the path begins with exactly two: Please, configured with a slash at its URL's
/// end, sends `//ping`. More slashes, and doubled ones elsewhere, are left to be refused.
fn with_one_slash(uri: &Uri) -> Option<Uri> {
    let all = uri.path_and_query()?.as_str();
    let rest = all.strip_prefix("//").filter(|rest| !rest.starts_with('/'))?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(&all[all.len() - rest.len() - 1..]).ok()?);
    Uri::from_parts(parts).ok()
}

pin_project! {
    /// An answer on its way.
    pub(super) struct Answering {
        #[pin]
        route: RouteFuture<Infallible>,
        underway: Option<Underway>,
    }
}

impl Future for Answering {
    type Output = Result<Response<Answer>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.route.poll(cx))?;
        let underway = this.underway.take();
        if underway.as_ref().is_some_and(Underway::is_last) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Poll::Ready(Ok(response.map(|body| Answer { body, underway })))
    }
}

/// An answer's body; the request ends with it.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    underway: Option<Underway>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(underway) = &self.underway {
            if frame.is_pending() { underway.awaited() } else { underway.offered() }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request's body, that does not wait for ever and knows when it was given up.
#[derive(Debug)]
pub(super) struct Upload {
    body: Incoming,
    /// Whom to tell; nobody where nothing is to come.
    activity: Option<Arc<Activity>>,
    timeout: Duration,
    waiting: Option<Instant>,
    /// Made at the first wait, then moved: most waits are over long before it rings.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    fn new(body: Incoming, activity: &Arc<Activity>, timeout: Duration) -> Self {
        let empty = http_body::Body::is_end_stream(&body);
        let activity = (!empty).then(|| Arc::clone(activity));
        Self { body, activity, timeout: timeout.min(LONGEST), waiting: None, timer: None }
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.waiting.get_or_insert_with(Instant::now) + self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Pending => {
                ready!(this.poll_stalled(cx));
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
            Poll::Ready(frame) => {
                this.waiting = None;
                if !matches!(frame, Some(Ok(_))) || this.body.is_end_stream() {
                    this.activity = None;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(|_| BodyError::Incomplete)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(activity) = &self.activity {
            activity.leave_unread();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::with_one_slash;

    #[test]
    fn one_doubled_slash_is_mended_and_only_there() {
        let mended = |uri: &str| with_one_slash(&uri.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(mended("//ping"), Some("/ping".to_owned()));
        assert_eq!(mended("//artifact/a//b?c=//d"), Some("/artifact/a//b?c=//d".to_owned()));
        assert_eq!(mended("//"), Some("/".to_owned()));
        assert_eq!(mended("http://host//ping?x"), Some("http://host/ping?x".to_owned()));
        for untouched in ["/", "/ping", "/artifact//b", "///ping", "*", "host:80"] {
            assert_eq!(mended(untouched), None, "{untouched}");
        }
    }
}
