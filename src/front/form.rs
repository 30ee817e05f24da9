//! `multipart/form-data` on its way in: fields one after the other, as they come, in memory of a bounded size.
//!
//! What is small is handed over as text, a file as a stream; what nobody asked for is passed over. Knows no protocol.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::extract::Request;
use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt as _};
use http::header::CONTENT_TYPE;
use multer::{Field, Multipart};

use crate::metrics::{Protocol, Verb};
use crate::payload::BodyError;

use super::status::Failure;
use super::{App, body};

/// Bytes that may arrive while nothing comes of them: the head of a part, or what stands before the first. So much of a body a
/// form has in memory.
const AHEAD: usize = 64 << 10;

/// Bytes that the parser is given at a time.
const STEP: usize = 16 << 10;

/// Most bytes of what stands between two parts (RFC 2046 §5.1.1).
const MOST_BOUNDARY: usize = 70;

/// Most bytes of all fields but files.
const MOST: u64 = 8 << 20;

/// Most bytes of a field that is read as text.
const MOST_TEXT: usize = 4096;

/// Why a form is not read on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FormError {
    /// The body.
    Body(BodyError),
    /// The form: one line that a client may see.
    Bad(String),
}

impl From<FormError> for Failure {
    fn from(error: FormError) -> Self {
        match error {
            FormError::Body(error) => error.into(),
            FormError::Bad(why) => Self::Invalid(why),
        }
    }
}

impl FormError {
    /// As a body's end.
    pub(super) const fn as_body(&self) -> BodyError {
        match self {
            Self::Body(error) => *error,
            Self::Bad(_) => BodyError::Refused,
        }
    }
}

/// Too much arrived of which nothing came.
#[derive(Debug, thiserror::Error)]
#[error("the form has a part whose head does not end")]
struct Flood;

/// A body on its way to the parser, which takes all that is ready before it looks at any of it: it is given a little at a time,
/// and not without end. What the parser leaves of it is taken past it.
struct Source {
    body: BoxStream<'static, Result<Bytes, BodyError>>,
    /// Of a chunk that was larger.
    left: Bytes,
    /// Bytes that may come before something comes of them.
    allowed: usize,
    fed: bool,
    over: bool,
}

impl Source {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        while self.left.is_empty() {
            if self.over {
                return Poll::Ready(None);
            }
            match std::task::ready!(self.body.poll_next_unpin(context)) {
                Some(Ok(chunk)) => self.left = chunk,
                end @ (Some(Err(_)) | None) => {
                    self.over = true;
                    return Poll::Ready(end);
                }
            }
        }
        let now = self.left.len().min(STEP);
        Poll::Ready(Some(Ok(self.left.split_to(now))))
    }
}

/// The same body to whoever reads it.
#[derive(Clone)]
struct Shared(Arc<Mutex<Source>>);

impl Shared {
    fn new(body: BoxStream<'static, Result<Bytes, BodyError>>) -> Self {
        let source = Source { body, left: Bytes::new(), allowed: AHEAD, fed: false, over: false };
        Self(Arc::new(Mutex::new(source)))
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something came of what arrived.
    fn go_on(&self) {
        self.source().allowed = AHEAD;
    }

    /// Takes all that the parser has not.
    async fn rest(&self) -> Result<(), BodyError> {
        while let Some(chunk) = poll_fn(|context| self.source().poll(context)).await {
            chunk?;
        }
        Ok(())
    }
}

/// The parser's way to a body.
struct Paced(Shared);

impl Stream for Paced {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut source = self.0.source();
        if std::mem::take(&mut source.fed) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(next) = std::task::ready!(source.poll(context)) else { return Poll::Ready(None) };
        let chunk = next?;
        source.fed = true;
        let left = source.allowed.checked_sub(chunk.len());
        source.allowed = left.unwrap_or_default();
        Poll::Ready(Some(if left.is_some() { Ok(chunk) } else { Err(Flood.into()) }))
    }
}

/// A part of a form.
pub(super) struct Part {
    /// The field's name.
    pub(super) name: String,
    /// The name of the file that it is.
    pub(super) filename: Option<String>,
    field: Field<'static>,
    body: Shared,
}

/// A form under way.
pub(super) struct Form {
    multipart: Multipart<'static>,
    body: Shared,
    left: u64,
}

impl Form {
    /// The form that a request brings.
    ///
    /// # Errors
    /// Another kind of body, or one that is announced too large.
    pub(super) fn open(request: Request, app: &App, counted: (Protocol, Verb)) -> Result<Self, Failure> {
        let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let boundary = kind.and_then(|kind| multer::parse_boundary(kind).ok());
        let boundary = boundary.filter(|boundary| boundary.len() <= MOST_BOUNDARY).ok_or_else(|| {
            Failure::Invalid("the body is no multipart/form-data with a boundary".to_owned())
        })?;
        let (payload, terms) = body::incoming(request, app, counted)?;
        let body = Shared::new(terms.declared.check(payload).stream);
        Ok(Self { multipart: Multipart::new(Paced(body.clone()), boundary), body, left: MOST })
    }

    /// The next part, once the one before has been read. Behind the last one the body is taken to its end, which may not be
    /// what was declared of it.
    pub(super) async fn next(&mut self) -> Result<Option<Part>, FormError> {
        self.body.go_on();
        let Some(field) = self.multipart.next_field().await.map_err(|error| cause(&error))? else {
            self.body.rest().await.map_err(FormError::Body)?;
            return Ok(None);
        };
        self.body.go_on();
        let Some(name) = field.name().map(str::to_owned) else {
            return Err(FormError::Bad("the form has a part without a name".to_owned()));
        };
        let filename = field.file_name().map(str::to_owned);
        Ok(Some(Part { name, filename, field, body: self.body.clone() }))
    }

    /// A part as text, without blanks around it.
    pub(super) async fn text(&mut self, mut part: Part) -> Result<String, FormError> {
        let mut all = Vec::new();
        while let Some(chunk) = self.counted(&mut part).await? {
            if all.len() + chunk.len() > MOST_TEXT {
                return Err(FormError::Bad(format!("the field {:.40} is larger than 4 KiB", part.name)));
            }
            all.extend_from_slice(&chunk);
        }
        let text = String::from_utf8(all);
        let text = text.map_err(|_| FormError::Bad(format!("the field {:.40} is not UTF-8", part.name)))?;
        Ok(text.trim().to_owned())
    }

    /// Passes a part over.
    pub(super) async fn skip(&mut self, mut part: Part) -> Result<(), FormError> {
        while self.counted(&mut part).await?.is_some() {}
        Ok(())
    }

    /// Passes over all that is left, form or not: its sender reads the answer once it has sent all.
    pub(super) async fn drain(&mut self) {
        if let Err(error) = self.body.rest().await {
            tracing::debug!(cause = %error, "a form that is refused broke off");
        }
    }

    async fn counted(&mut self, part: &mut Part) -> Result<Option<Bytes>, FormError> {
        let chunk = part.chunk().await?;
        let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        let left = self.left.checked_sub(length);
        self.left =
            left.ok_or_else(|| FormError::Bad("the form's fields are larger than 8 MiB".to_owned()))?;
        Ok(chunk)
    }
}

impl Part {
    /// The next bytes of it.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, FormError> {
        let chunk = self.field.chunk().await.map_err(|error| cause(&error));
        self.body.go_on();
        chunk
    }
}

/// Whose fault it is that a form cannot be read.
fn cause(error: &multer::Error) -> FormError {
    if let multer::Error::StreamReadFailed(inner) = error {
        return match inner.downcast_ref::<BodyError>() {
            Some(error) => FormError::Body(*error),
            None => FormError::Bad(inner.to_string()),
        };
    }
    FormError::Bad(format!("the form is malformed: {error}"))
}
