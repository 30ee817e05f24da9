//! `multipart/form-data` on its way in: fields one after the other, as they come, in memory of a bounded size.
//!
//! What is small is handed over as text, a file as a stream; what nobody asked for is passed over. Knows no protocol.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// Bytes that may arrive while nothing comes of them: the head of a part, or what stands before the first.
const AHEAD: u64 = 1 << 20;

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

/// A body of which the parser gets a chunk at a time, and not without end.
struct Paced {
    body: BoxStream<'static, Result<Bytes, BodyError>>,
    allowed: Arc<AtomicU64>,
    fed: bool,
}

impl Stream for Paced {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // The parser takes all that is ready before it looks at any of it.
        if std::mem::take(&mut self.fed) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = std::task::ready!(self.body.poll_next_unpin(context));
        Poll::Ready(match next {
            None => None,
            Some(Err(error)) => Some(Err(error.into())),
            Some(Ok(chunk)) => {
                self.fed = true;
                let left = self.allowed.load(Ordering::Relaxed).checked_sub(chunk.len() as u64);
                self.allowed.store(left.unwrap_or_default(), Ordering::Relaxed);
                Some(if left.is_some() { Ok(chunk) } else { Err(Flood.into()) })
            }
        })
    }
}

/// A part of a form.
pub(super) struct Part {
    /// The field's name.
    pub(super) name: String,
    /// The name of the file that it is.
    pub(super) filename: Option<String>,
    field: Field<'static>,
    allowed: Arc<AtomicU64>,
}

/// A form under way.
pub(super) struct Form {
    multipart: Multipart<'static>,
    allowed: Arc<AtomicU64>,
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
        let boundary = boundary.ok_or_else(|| {
            Failure::Invalid("the body is no multipart/form-data with a boundary".to_owned())
        })?;
        let (payload, terms) = body::incoming(request, app, counted)?;
        let body = terms.declared.check(payload).stream;
        let allowed = Arc::new(AtomicU64::new(AHEAD));
        let paced = Paced { body, allowed: Arc::clone(&allowed), fed: false };
        Ok(Self { multipart: Multipart::new(paced, boundary), allowed, left: MOST })
    }

    /// The next part; what is left of the one before is passed over.
    pub(super) async fn next(&mut self) -> Result<Option<Part>, FormError> {
        self.allowed.store(AHEAD, Ordering::Relaxed);
        let Some(field) = self.multipart.next_field().await.map_err(|error| cause(&error))? else {
            return Ok(None);
        };
        self.allowed.store(AHEAD, Ordering::Relaxed);
        let Some(name) = field.name().map(str::to_owned) else {
            return Err(FormError::Bad("the form has a part without a name".to_owned()));
        };
        let filename = field.file_name().map(str::to_owned);
        Ok(Some(Part { name, filename, field, allowed: Arc::clone(&self.allowed) }))
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

    /// Passes over all that is left, whatever it is: its sender reads the answer once it has sent all.
    pub(super) async fn drain(&mut self) {
        while let Ok(Some(mut part)) = self.next().await {
            while let Ok(Some(_)) = part.chunk().await {}
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
        self.allowed.store(AHEAD, Ordering::Relaxed);
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
