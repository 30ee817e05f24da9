//! Curdling's API: `/`, `/api`, `/api/{package}`, `/p/{file}`, `/s/{query}`, over the shared index; and what people read
//! of it, in `people`.
//!
//! Its client takes the first of a version's addresses and tells by an address's end what a file is: wheels come first,
//! addresses are absolute and end in the file's name, and nothing is ever redirected.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::map_response;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use futures_util::stream::{self, StreamExt as _};
use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::domain::wheels::{
    Beside, Claims, DistributionFilename, IndexName, Offer, Page, ProjectName, Query, Refused, UploadError,
};
use crate::metrics::{Outcome, Protocol, Verb};
use crate::payload::{BodyError, Want};

use super::auth::{Reader, Writer};
use super::form::{Form, FormError, Part};
use super::status::Failure;
use super::{App, body, conditional, html, origin, path};

mod people;

const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a file's address here leads to can be deleted and stored anew.
const ASK: HeaderValue = HeaderValue::from_static("no-cache");

pub(super) fn routes() -> Router<App> {
    let reads = async || Failure::Verb("GET, HEAD");
    let files = get(fetch).head(look).put(store).fallback(async || Failure::Verb("GET, HEAD, PUT"));
    Router::new()
        .route("/", get(people::home).fallback(async || Failure::Verb("GET, HEAD, DELETE")))
        .route("/project/{project}", get(people::project).fallback(reads))
        .route("/api", get(packages).fallback(reads))
        .route("/api/", get(packages).fallback(reads))
        .route("/api/{package}", get(package).fallback(reads))
        .route("/p/{file}", files)
        .route("/s/{query}", get(search).fallback(reads))
        .layer(map_response(realm))
}

/// The words that Curdling's own server uses.
async fn realm(mut response: Response) -> Response {
    if response.status() == StatusCode::UNAUTHORIZED {
        let realm = HeaderValue::from_static("Basic realm=\"Login Required\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, realm);
    }
    response
}

/// The one decoded segment behind a route's name.
fn operand(uri: &Uri) -> Result<String, Failure> {
    let segments = path::segments(uri.path()).map_err(|error| Failure::Invalid(error.to_string()))?;
    match segments.as_slice() {
        [_, operand] => Ok(operand.to_string()),
        [] | [_] | [_, _, ..] => Err(Failure::Absent),
    }
}

fn found(body: String, kind: HeaderValue) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, ASK);
    response.extensions_mut().insert(Outcome::Hit);
    response
}

async fn packages(Reader(reads): Reader) -> Result<Response, Failure> {
    let projects = reads.projects(&IndexName::Shared).await?;
    let names: Vec<&str> = projects.iter().map(ProjectName::as_str).collect();
    Ok(found(json!(names).to_string(), JSON))
}

async fn package(
    Reader(reads): Reader,
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, _) = request.into_parts();
    let asked = operand(&parts.uri)?;
    let shelf = match asked.parse::<ProjectName>() {
        Ok(project) => reads.shelf(&IndexName::Shared, &project).await?,
        Err(_) => None,
    };
    let Some(shelf) = shelf else {
        let mut response = found(json!({ "status": "error" }).to_string(), JSON);
        *response.status_mut() = StatusCode::NOT_FOUND;
        response.extensions_mut().insert(Outcome::Miss);
        return Ok(response);
    };
    let page = reads.page(&shelf).await?;
    Ok(found(releases(&asked, &page, &origin::of(&parts, &app.proxies)).to_string(), JSON))
}

/// One object a release, newest first; wheels first among its files.
fn releases(asked: &str, page: &Page, origin: &str) -> Value {
    let releases = page.releases().into_iter().rev().map(|(version, mut files)| {
        files.sort_by_key(|entry| !entry.record.filename.ends_with(".whl"));
        let urls: Vec<Value> = files
            .iter()
            .map(|entry| {
                let name = html::segment(&entry.record.filename);
                json!({ "url": format!("{origin}/p/{name}"), "sha256": entry.record.sha256 })
            })
            .collect();
        json!({ "name": asked, "version": version, "urls": urls })
    });
    releases.collect()
}

/// A file's name in an address; one that can be no file's is a miss.
fn filename(uri: &Uri) -> Result<DistributionFilename, Failure> {
    operand(uri)?.parse().map_err(|_| Failure::Absent)
}

async fn fetch(Reader(reads): Reader, request: Request) -> Result<Response, Failure> {
    let filename = filename(request.uri())?;
    let want = conditional::want(request.method(), request.headers());
    let object = reads.distribution(&IndexName::Shared, &filename, None, &want).await?;
    let mut response = body::object(object.ok_or(Failure::Absent)?, OCTETS);
    response.headers_mut().insert(CACHE_CONTROL, ASK);
    Ok(response)
}

async fn look(Reader(reads): Reader, request: Request) -> Result<Response, Failure> {
    let filename = filename(request.uri())?;
    let want = conditional::want(request.method(), request.headers());
    let meta = reads.distribution_meta(&IndexName::Shared, &filename, None).await?;
    let mut response = body::about(&meta.ok_or(Failure::Absent)?, &want, OCTETS);
    response.headers_mut().insert(CACHE_CONTROL, ASK);
    Ok(response)
}

async fn search(Reader(reads): Reader, request: Request) -> Result<Response, Failure> {
    let invalid = |error: crate::domain::wheels::QueryError| Failure::Invalid(error.to_string());
    let query: Query = operand(request.uri())?.parse().map_err(invalid)?;
    let absent = || {
        let mut response = (StatusCode::NOT_FOUND, "package not found\n").into_response();
        response.extensions_mut().insert(Outcome::Miss);
        response
    };
    let Some(shelf) = reads.shelf(&IndexName::Shared, query.project()).await? else { return Ok(absent()) };
    let page = reads.page(&shelf).await?;
    let Some(entry) = query.pick(&page) else { return Ok(absent()) };
    let Ok(filename) = entry.record.filename.parse() else { return Ok(absent()) };
    let sha256 = Some(entry.record.sha256.as_str());
    let object = reads.distribution(&IndexName::Shared, &filename, sha256, &Want::default()).await?;
    let mut response = body::object(object.ok_or(Failure::Absent)?, OCTETS);
    // A file's name holds nothing that would have to be quoted.
    if let Ok(value) = HeaderValue::try_from(format!("attachment; filename=\"{filename}\"")) {
        response.headers_mut().insert(CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

async fn store(
    Writer(writes): Writer,
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let name = operand(request.uri());
    let mut form = Form::open(request, &app, (Protocol::Curdling, Verb::Put))?;
    let filename = name.and_then(|name| {
        let parsed = name.parse::<DistributionFilename>();
        parsed.map_err(|error| Failure::Invalid(error.to_string()))
    });
    let filename = match filename {
        Ok(filename) => filename,
        Err(failure) => {
            form.drain().await;
            return Err(failure);
        }
    };
    match writes.distribution(&IndexName::Shared, offer(form, filename).await?).await {
        Ok(_) => {
            let mut response = "ok".into_response();
            response.extensions_mut().insert(Outcome::Stored);
            Ok(response)
        }
        Err(UploadError::Refused(why @ Refused::Taken(_))) => Err(Failure::Taken(why.to_string())),
        Err(UploadError::Refused(why)) => Err(Failure::Invalid(why.to_string())),
        Err(UploadError::Failed(error)) => Err(error.into()),
    }
}

/// The one file of a form, whatever its field is called.
async fn offer(mut form: Form, filename: DistributionFilename) -> Result<Offer, Failure> {
    let part = match first_file(&mut form).await {
        Ok(Some(part)) => part,
        Ok(None) => return Err(Failure::Invalid("the form has no file".to_owned())),
        Err(error) => {
            if matches!(error, FormError::Bad(_)) {
                form.drain().await;
            }
            return Err(error.into());
        }
    };
    let (tell, claims) = oneshot::channel();
    let arriving = Arriving { form, part: Some(part), tell: Some(tell) };
    let body = stream::unfold(arriving, Arriving::step).boxed();
    Ok(Offer { filename, sha256: None, beside: Beside::default(), body, claims })
}

async fn first_file(form: &mut Form) -> Result<Option<Part>, FormError> {
    while let Some(part) = form.next().await? {
        if part.filename.is_some() {
            return Ok(Some(part));
        }
        form.skip(part).await?;
    }
    Ok(None)
}

/// The file on its way, and the form around it.
struct Arriving {
    form: Form,
    part: Option<Part>,
    tell: Option<oneshot::Sender<Result<Claims, String>>>,
}

impl Arriving {
    /// The next bytes of the file. Behind an error whatever is left is passed over, where somebody still asks for it.
    async fn step(mut self) -> Option<(Result<bytes::Bytes, BodyError>, Self)> {
        let Some(mut part) = self.part.take() else {
            self.form.drain().await;
            return None;
        };
        let error = match part.chunk().await {
            Ok(Some(chunk)) => {
                self.part = Some(part);
                return Some((Ok(chunk), self));
            }
            Ok(None) => {
                drop(part);
                match only(&mut self.form).await {
                    Ok(()) => {
                        self.say(Ok(Claims::default()));
                        return None;
                    }
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if let FormError::Bad(why) = &error {
            self.say(Err(why.clone()));
        }
        Some((Err(error.as_body()), self))
    }

    fn say(&mut self, claims: Result<Claims, String>) {
        if let Some(tell) = self.tell.take()
            && tell.send(claims).is_err()
        {
            tracing::debug!("nobody waits for the claims of an upload any more");
        }
    }
}

/// Holds a form to one file.
async fn only(form: &mut Form) -> Result<(), FormError> {
    while let Some(part) = form.next().await? {
        if part.filename.is_some() {
            return Err(FormError::Bad("the form has more than one file".to_owned()));
        }
        form.skip(part).await?;
    }
    Ok(())
}
