//! Please's HTTP cache, v14 and later: `GET` and `PUT` of `/please/{hex}`, a gzipped tar that is nobody's business here.
//!
//! The client tries 5xx and 429 of a PUT five times over 15 s: rights are refused with 401 and 403 only.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use http::{HeaderValue, StatusCode, Uri};

use crate::domain::please::CacheHash;
use crate::domain::writes::Kept;
use crate::metrics::{Protocol, Verb};

use super::auth::{Reader, Writer};
use super::status::Failure;
use super::{App, body, conditional, path};

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");

pub(super) fn routes() -> Router<App> {
    let entries = || get(fetch).head(look).put(store).fallback(async || Failure::Verb("GET, HEAD, PUT"));
    Router::new().route("/please", entries()).route("/please/{*hex}", entries())
}

fn hash(uri: &Uri) -> Result<CacheHash, Failure> {
    let invalid = |why: String| Failure::Invalid(why);
    let raw = uri.path().strip_prefix("/please").unwrap_or_default();
    let segments = path::segments(raw).map_err(|error| invalid(error.to_string()))?;
    match segments.as_slice() {
        [hex] => {
            hex.parse().map_err(|error: crate::domain::please::CacheHashError| invalid(error.to_string()))
        }
        [] | [_, ..] => Err(invalid("the path is not /please/{hash in lower-case hex}".to_owned())),
    }
}

async fn fetch(Reader(reads): Reader, request: Request) -> Result<Response, Failure> {
    let hash = hash(request.uri())?;
    let want = conditional::want(request.method(), request.headers());
    let object = reads.please(&hash, &want).await?.ok_or(Failure::Absent)?;
    Ok(body::object(object, OCTETS))
}

async fn look(Reader(reads): Reader, request: Request) -> Result<Response, Failure> {
    let hash = hash(request.uri())?;
    let want = conditional::want(request.method(), request.headers());
    let meta = reads.please_meta(&hash).await?.ok_or(Failure::Absent)?;
    Ok(body::about(&meta, &want, OCTETS))
}

async fn store(
    Writer(writes): Writer,
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let hash = hash(request.uri())?;
    let (payload, terms) = body::incoming(request, &app, (Protocol::Please, Verb::Put))?;
    match writes.please(&hash, payload, terms).await? {
        Kept::Stored { etag } => Ok(body::stored(StatusCode::OK, &etag)),
        Kept::Exists => Err(Failure::Exists),
    }
}
