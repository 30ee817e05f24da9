//! Please's HTTP cache, releases up to v13: `/artifact/…`, `DELETE /`, `/ping`.
//!
//! A GET names a file, or a directory, a glob or a whole entry, whose files come back as one multipart answer. The
//! client takes 404 for a miss and warns about everything else; it never follows a redirect with its body.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode, Uri};

use crate::domain::artifact::{ArtifactError, ArtifactKey, ArtifactPath, DeleteTarget, Wanted};
use crate::domain::reads::{Member, Members, Selection};
use crate::domain::writes::Kept;
use crate::metrics::{Outcome, Protocol, Verb};
use crate::payload::ReadError;

use super::auth::{Admin, Reader, Writer};
use super::multipart::{AFTER_PART, Boundary};
use super::status::Failure;
use super::{App, body, conditional, path};

/// What the client compares with, to the letter.
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

const VERBS: &str = "GET, HEAD, POST, DELETE";

pub(super) fn routes() -> Router<App> {
    let artifacts = || get(fetch).head(look).post(store).delete(drop_target).fallback(verb);
    Router::new()
        .route("/ping", get(async || "pong\n").fallback(async || Failure::Verb("GET, HEAD")))
        // What else there is at the root is another protocol's.
        .route("/", delete(drop_all))
        .route("/artifact", artifacts())
        .route("/artifact/", artifacts())
        .route("/artifact/{*path}", artifacts())
}

async fn verb() -> Failure {
    Failure::Verb(VERBS)
}

/// The decoded segments behind `/artifact`.
fn segments(uri: &Uri) -> Result<Vec<std::borrow::Cow<'_, str>>, Failure> {
    let raw = uri.path().strip_prefix("/artifact").unwrap_or_default();
    path::segments(raw).map_err(|error| Failure::Invalid(error.to_string()))
}

/// What a read names. Where nothing can ever be stored it is a miss, not an error.
fn wanted(uri: &Uri) -> Result<Wanted, Failure> {
    ArtifactPath::parse(segments(uri)?)
        .and_then(ArtifactPath::into_wanted)
        .map_err(|error| if error.is_absent() { Failure::Absent } else { invalid(error) })
}

fn invalid(error: ArtifactError) -> Failure {
    Failure::Invalid(error.to_string())
}

async fn fetch(Reader(reads): Reader, request: Request) -> Result<Response, Failure> {
    let selection = match wanted(request.uri())? {
        Wanted::Entry(entry) => Selection::Entry(entry),
        Wanted::Glob(entry, glob) => Selection::Glob(entry, glob),
        Wanted::Name(name) => {
            let want = conditional::want(request.method(), request.headers());
            if let Some(object) = reads.artifact(&name, &want).await? {
                return Ok(body::object(object, OCTETS));
            }
            Selection::Directory(name)
        }
    };
    let members = reads.members(selection).await?.ok_or(Failure::Absent)?;
    multipart(members)
}

async fn look(Reader(reads): Reader, request: Request) -> Result<Response, Failure> {
    let selection = match wanted(request.uri())? {
        Wanted::Entry(entry) => Selection::Entry(entry),
        Wanted::Glob(entry, glob) => Selection::Glob(entry, glob),
        Wanted::Name(name) => {
            if let Some(meta) = reads.artifact_meta(&name).await? {
                let want = conditional::want(request.method(), request.headers());
                return Ok(body::about(&meta, &want, OCTETS));
            }
            Selection::Directory(name)
        }
    };
    if !reads.any(&selection).await? {
        return Err(Failure::Absent);
    }
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(CONTENT_TYPE, boundary()?.content_type());
    response.extensions_mut().insert(Outcome::Hit);
    Ok(response)
}

async fn store(
    Writer(writes): Writer,
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let file: ArtifactKey =
        ArtifactPath::parse(segments(request.uri())?).and_then(ArtifactPath::into_file).map_err(invalid)?;
    let (payload, terms) = body::incoming(request, &app, (Protocol::Artifact, Verb::Post))?;
    match writes.artifact(&file, payload, terms).await? {
        Kept::Stored { etag } => Ok(body::stored(StatusCode::OK, &etag)),
        Kept::Exists => Err(Failure::Exists),
    }
}

async fn drop_target(Writer(writes): Writer, uri: Uri) -> Result<Response, Failure> {
    let target = DeleteTarget::parse(segments(&uri)?).map_err(invalid)?;
    let gone = writes.drop_target(&target).await?;
    Ok(deleted(gone))
}

async fn drop_all(Admin(erases): Admin) -> Result<Response, Failure> {
    let gone = erases.artifacts().await?;
    Ok(deleted(gone))
}

fn deleted(gone: u64) -> Response {
    let mut response = format!("{gone} files removed\n").into_response();
    response.extensions_mut().insert(Outcome::Deleted);
    response
}

fn boundary() -> Result<Boundary, Failure> {
    Boundary::random().map_err(|error| {
        tracing::error!(cause = %error, "no randomness for a multipart boundary");
        Failure::Store(crate::domain::Fault::Unavailable)
    })
}

/// Files as one answer, of unknown length: a file that cannot be read breaks it off before its last delimiter.
fn multipart(members: Members) -> Result<Response, Failure> {
    let boundary = boundary()?;
    let kind = boundary.content_type();
    let end = boundary.end();
    let parts = members.flat_map(move |member| part(&boundary, member)).chain(stream::iter([Ok(end)]));
    let mut response = Response::new(Body::from_stream(parts));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.extensions_mut().insert(Outcome::Hit);
    Ok(response)
}

fn part(
    boundary: &Boundary,
    member: Result<Member, ReadError>,
) -> impl stream::Stream<Item = Result<Bytes, ReadError>> + Send + use<> {
    match member {
        Err(error) => stream::iter([Err(error)]).boxed(),
        Ok(member) => stream::iter([Ok(boundary.head(&member.file))])
            .chain(member.content.into_stream())
            .chain(stream::iter([Ok(Bytes::from_static(AFTER_PART))]))
            .boxed(),
    }
}
