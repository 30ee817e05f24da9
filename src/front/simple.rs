//! Python's Simple index, and the files that it leads to: `/simple/…` and `/files/…`, and the same below `/built/{env}/`.
//!
//! Pages are never cached without asking (`no-cache`, a strong validator): a fresh upload is seen by the next client.
//! `/by-key/{key}` leads from a build to its file. Files never change under their address, which holds their digest. Never
//! redirects a file, never answers HEAD with less than GET would.

use std::borrow::Cow;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use sha2::{Digest as _, Sha256};

use crate::domain::Reads;
use crate::domain::wheels::{BuildKey, DistributionFilename, IndexName, ProjectName, record};
use crate::metrics::Outcome;
use crate::payload::Want;

use super::auth::Reader;
use super::status::Failure;
use super::{App, body, conditional, path};
use accept::Form;

mod accept;
mod manage;
mod memo;
mod pages;

pub(super) use memo::Rendered;

const VERBS: &str = "GET, HEAD";

/// From a project's page up to the directory above `files/`.
const UP: &str = "../..";

/// A page may be kept, and is asked about each time.
const ASK: HeaderValue = HeaderValue::from_static("no-cache");

/// A file is what it is.
const FOREVER: HeaderValue = HeaderValue::from_static("max-age=365000000, immutable");

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(super) fn routes() -> Router<App> {
    let verbs = async || Failure::Verb(VERBS);
    let mut router = Router::new();
    for at in ["", "/built/{env}"] {
        router = router
            .merge(manage::routes(at))
            .route(&format!("{at}/simple"), get(page).fallback(verbs))
            .route(&format!("{at}/simple/"), get(page).fallback(verbs))
            .route(&format!("{at}/simple/{{project}}"), get(page).fallback(verbs))
            .route(&format!("{at}/simple/{{project}}/"), get(page).fallback(verbs))
            .route(&format!("{at}/by-key/{{key}}"), get(built).fallback(verbs))
            .route(&format!("{at}/files/{{digest}}/{{file}}"), get(fetch).head(look).fallback(verbs));
    }
    router
}

/// The index of a path, and the segments behind it; whether it ends in a slash.
fn place(uri: &Uri) -> Result<(IndexName, Vec<Cow<'_, str>>, bool), Failure> {
    let raw = uri.path();
    let (raw, slash) = raw.strip_suffix('/').map_or((raw, false), |raw| (raw, true));
    let mut segments = path::segments(raw).map_err(|error| Failure::Invalid(error.to_string()))?;
    let index = match segments.as_slice() {
        [first, environment, ..] if first == "built" => {
            let index = environment.parse().map(IndexName::Built).map_err(|_| Failure::Absent)?;
            segments.drain(..2);
            index
        }
        _ => IndexName::Shared,
    };
    Ok((index, segments, slash))
}

/// What an address of a page names.
enum Target {
    /// The list of projects.
    Projects(IndexName),
    /// A project.
    Project(IndexName, ProjectName),
    /// Another spelling of one of them.
    Moved(String),
}

impl Target {
    fn parse(uri: &Uri) -> Result<Self, Failure> {
        let (index, segments, slash) = place(uri)?;
        let name = match segments.as_slice() {
            [_, name] => name,
            _ if slash => return Ok(Self::Projects(index)),
            _ => return Ok(Self::Moved("simple/".to_owned())),
        };
        // A name that can be nobody's is a miss.
        let project: ProjectName = name.parse().map_err(|_| Failure::Absent)?;
        Ok(match (slash, project.as_str() == name) {
            (false, _) => Self::Moved(format!("{project}/")),
            (true, false) => Self::Moved(format!("../{project}/")),
            (true, true) => Self::Project(index, project),
        })
    }
}

async fn page(State(app): State<App>, Reader(reads): Reader, request: Request) -> Result<Response, Failure> {
    let (parts, _) = request.into_parts();
    let (index, project) = match Target::parse(&parts.uri)? {
        Target::Moved(to) => return Ok(moved(&to)),
        Target::Projects(index) => return projects(&reads, &index, &parts).await,
        Target::Project(index, project) => (index, project),
    };
    let form = accept::choose(&parts.headers).ok_or(Failure::NotAcceptable(accept::OFFERED))?;
    let shelf = reads.shelf(&index, &project).await?.ok_or(Failure::Absent)?;
    let tag = format!("{}{}", shelf.fingerprint(), form.suffix());
    if conditional::want(&parts.method, &parts.headers).has(&tag) {
        return Ok(answer(form, &tag, None));
    }
    if let Some(text) = app.pages.get(&tag) {
        return Ok(answer(form, &tag, Some(text)));
    }
    let page = reads.page(&shelf).await?;
    let text = match form {
        Form::Json => pages::project_json(&project, &page, UP),
        Form::Html | Form::VersionedHtml => pages::project_html(&project, &page, UP),
    };
    // To size: a text that grew has room for as much again, which would be kept with it.
    let text = Bytes::from(text.into_boxed_str().into_boxed_bytes());
    if page.whole && shelf.is_exact() {
        app.pages.keep(&tag, &text);
    }
    Ok(answer(form, &tag, Some(text)))
}

async fn projects(reads: &Reads, index: &IndexName, parts: &Parts) -> Result<Response, Failure> {
    let form = accept::choose(&parts.headers).ok_or(Failure::NotAcceptable(accept::OFFERED))?;
    let projects = reads.projects(index).await?;
    let text = match form {
        Form::Json => pages::projects_json(&projects),
        Form::Html | Form::VersionedHtml => pages::projects_html(&projects),
    };
    let digest = Sha256::digest(&text);
    let tag = format!("{}{}", record::hex(digest.get(..16).unwrap_or_default()), form.suffix());
    let same = conditional::want(&parts.method, &parts.headers).has(&tag);
    Ok(answer(form, &tag, (!same).then(|| text.into())))
}

/// The file that a build came to, as a page in JSON has it.
async fn built(Reader(reads): Reader, uri: Uri) -> Result<Response, Failure> {
    let (index, segments, _) = place(&uri)?;
    let key = segments.get(1).and_then(|key| key.parse::<BuildKey>().ok()).ok_or(Failure::Absent)?;
    let record = reads.built(&index, key).await?.ok_or(Failure::Absent)?;
    let mut response = Response::new(Body::from(pages::file(&record, None, "..").to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, ASK);
    response.extensions_mut().insert(Outcome::Hit);
    Ok(response)
}

/// A page, or that the client's is still good.
fn answer(form: Form, tag: &str, text: Option<Bytes>) -> Response {
    let (status, outcome) = match text {
        Some(_) => (StatusCode::OK, Outcome::Hit),
        None => (StatusCode::NOT_MODIFIED, Outcome::Unchanged),
    };
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, form.kind());
    headers.insert(CACHE_CONTROL, ASK);
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if let Some(etag) = conditional::etag(tag) {
        headers.insert(ETAG, etag);
    }
    let mut response = Response::new(text.map_or_else(Body::empty, Body::from));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.extensions_mut().insert(outcome);
    response
}

/// To the one spelling of an address. Relative, so that it holds behind any prefix.
fn moved(to: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(to) = HeaderValue::try_from(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

/// What an address of a file names.
struct Named {
    index: IndexName,
    filename: DistributionFilename,
    sha256: String,
    /// Its metadata, not itself.
    metadata: bool,
}

impl Named {
    /// An address that no page can have led to is a miss.
    fn parse(uri: &Uri) -> Result<Self, Failure> {
        let (index, segments, slash) = place(uri)?;
        let [_, digest, name] = segments.as_slice() else { return Err(Failure::Absent) };
        let (name, metadata) =
            name.strip_suffix(".metadata").map_or((name.as_ref(), false), |name| (name, true));
        let filename: DistributionFilename = name.parse().map_err(|_| Failure::Absent)?;
        let good = !slash && record::unhex::<32>(digest).is_some_and(|sum| record::hex(&sum) == *digest);
        if !good || (metadata && !filename.is_wheel()) {
            return Err(Failure::Absent);
        }
        Ok(Self { index, filename, sha256: digest.to_string(), metadata })
    }
}

async fn fetch(Reader(reads): Reader, request: Request) -> Result<Response, Failure> {
    let named = Named::parse(request.uri())?;
    let want = conditional::want(request.method(), request.headers());
    let (object, kind) = if named.metadata {
        (reads.distribution_metadata(&named.index, &named.filename, &named.sha256, &want).await?, TEXT)
    } else {
        (reads.distribution(&named.index, &named.filename, Some(&named.sha256), &want).await?, OCTETS)
    };
    let mut response = body::object(object.ok_or(Failure::Absent)?, kind);
    response.headers_mut().insert(CACHE_CONTROL, FOREVER);
    Ok(response)
}

async fn look(Reader(reads): Reader, request: Request) -> Result<Response, Failure> {
    let named = Named::parse(request.uri())?;
    let want = conditional::want(request.method(), request.headers());
    let (meta, kind) = if named.metadata {
        // Small, and asked for by hardly anybody.
        let all = Want::default();
        let object = reads.distribution_metadata(&named.index, &named.filename, &named.sha256, &all).await?;
        (object.map(|object| object.meta), TEXT)
    } else {
        (reads.distribution_meta(&named.index, &named.filename, Some(&named.sha256)).await?, OCTETS)
    };
    let mut response = body::about(&meta.ok_or(Failure::Absent)?, &want, kind);
    response.headers_mut().insert(CACHE_CONTROL, FOREVER);
    Ok(response)
}
