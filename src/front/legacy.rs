//! Python's uploads: `POST /legacy/`, and `/built/{env}/legacy/`, as twine, uv, poetry, flit and hatch send them.
//!
//! The fields of a form come in any order, also behind the file; none is required but those that every client sends, and
//! every digest that is sent is checked, wherever it stands. What is refused is said three times over, for clients show their users the
//! status line, or the body, or a problem document, and hardly one of them shows more than one.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::stream::{self, StreamExt as _};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use hyper::ext::ReasonPhrase;
use tokio::sync::oneshot;

use crate::domain::wheels::{
    Beside, BuildKey, BuildKeyError, Claims, DistributionFilename, IndexName, Landed, Offer, Refused,
    UploadError, record,
};
use crate::metrics::{Outcome, Protocol, Verb};

use super::auth::Writer;
use super::form::{Form, FormError, Part};
use super::status::Failure;
use super::{App, path};

/// Most bytes of a reason in the status line.
const MOST_REASON: usize = 240;

pub(super) fn routes() -> Router<App> {
    let uploads = || post(upload).fallback(async || Failure::Verb("POST"));
    Router::new()
        .route("/legacy", uploads())
        .route("/legacy/", uploads())
        .route("/built/{env}/legacy", uploads())
        .route("/built/{env}/legacy/", uploads())
}

async fn upload(Writer(writes): Writer, State(app): State<App>, request: Request) -> Response {
    let problem = wants_problem(request.headers());
    let taken = async {
        let index = index(request.uri())?;
        let form = Form::open(request, &app, (Protocol::Legacy, Verb::Post))?;
        match offer(form).await? {
            None => Ok("nothing to do"),
            Some(offer) => match writes.distribution(&index, offer).await {
                Ok(Landed::Stored) => Ok("stored"),
                Ok(Landed::Same) => Ok("the same file was there"),
                Err(UploadError::Refused(why)) => Err(refusal(&why)),
                Err(UploadError::Failed(error)) => Err(error.into()),
            },
        }
    };
    match taken.await {
        Ok(said) => {
            let mut response = format!("{said}\n").into_response();
            response.extensions_mut().insert(Outcome::Stored);
            response
        }
        Err(failure) => dress(failure, problem),
    }
}

fn refusal(why: &Refused) -> Failure {
    Failure::Invalid(why.to_string())
}

/// The index that a path uploads to.
fn index(uri: &Uri) -> Result<IndexName, Failure> {
    let raw = uri.path().strip_suffix('/').unwrap_or(uri.path());
    let invalid = |why: String| Failure::Invalid(why);
    let segments = path::segments(raw).map_err(|error| invalid(error.to_string()))?;
    match segments.as_slice() {
        [_, environment, _] => {
            let environment = environment.parse().map_err(|error| {
                let error: crate::domain::wheels::NameError = error;
                invalid(error.to_string())
            })?;
            Ok(IndexName::Built(environment))
        }
        _ => Ok(IndexName::Shared),
    }
}

/// What a form says.
#[derive(Debug, Default)]
struct Fields {
    action: Option<String>,
    name: Option<String>,
    version: Option<String>,
    filetype: Option<String>,
    sha256: Option<String>,
    blake2: Option<String>,
    md5: Option<String>,
    build: Option<String>,
}

impl Fields {
    fn slot(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            ":action" => &mut self.action,
            "name" => &mut self.name,
            "version" => &mut self.version,
            "filetype" => &mut self.filetype,
            "sha256_digest" => &mut self.sha256,
            "blake2_256_digest" => &mut self.blake2,
            "md5_digest" => &mut self.md5,
            // Ours: no standard has a word for it.
            "build_key" => &mut self.build,
            _ => return None,
        })
    }

    /// Reads a part that is not the file.
    async fn read(&mut self, form: &mut Form, part: Part) -> Result<(), FormError> {
        let name = part.name.clone();
        if part.filename.is_some() && !["gpg_signature", "attestations"].contains(&name.as_str()) {
            return Err(FormError::Bad(
                "the form has more than one file, or one that is not \"content\"".to_owned(),
            ));
        }
        let Some(slot) = self.slot(&name) else { return form.skip(part).await };
        let text = form.text(part).await?;
        if text.is_empty() {
            return Ok(());
        }
        if slot.get_or_insert_with(|| text.clone()) != &text {
            return Err(FormError::Bad(format!("the form has two fields {name} that disagree")));
        }
        Ok(())
    }

    fn build(&self) -> Result<Option<BuildKey>, String> {
        let parsed = self.build.as_deref().map(str::parse).transpose();
        parsed.map_err(|error: BuildKeyError| format!("the field build_key is wrong: {error}"))
    }

    /// What they claim of the file.
    fn claims(&self) -> Result<Claims, String> {
        if self.action.as_deref().is_some_and(|action| action != "file_upload") {
            return Err(":action is not file_upload".to_owned());
        }
        let name = self.name.as_deref().ok_or("the form has no field name")?;
        let version = self.version.as_deref().ok_or("the form has no field version")?;
        let project = name.parse().map_err(|_| "the field name is no project's name".to_owned())?;
        let version =
            version.parse().map_err(|_| "the field version is none that PEP 440 knows".to_owned())?;
        let wheel = match self.filetype.as_deref() {
            None => None,
            Some("bdist_wheel") => Some(true),
            Some("sdist") => Some(false),
            Some(_) => return Err("filetype is neither sdist nor bdist_wheel".to_owned()),
        };
        Ok(Claims {
            project: Some(project),
            version: Some(version),
            wheel,
            sha256: digest(self.sha256.as_deref(), "sha256_digest")?,
            blake2: digest(self.blake2.as_deref(), "blake2_256_digest")?,
            md5: digest(self.md5.as_deref(), "md5_digest")?,
            build: self.build()?,
        })
    }
}

fn digest<const N: usize>(text: Option<&str>, name: &str) -> Result<Option<[u8; N]>, String> {
    let wrong = || format!("the field {name} is no digest in hex");
    text.map(|text| record::unhex(text).ok_or_else(wrong)).transpose()
}

/// The file that a form brings. `None` where it asks for one of the old actions that have no meaning any more.
async fn offer(mut form: Form) -> Result<Option<Offer>, Failure> {
    let mut fields = Fields::default();
    match up_to_content(&mut form, &mut fields).await {
        Ok(Some((filename, part))) => {
            let sha256 = fields.sha256.as_deref().and_then(record::unhex);
            // Any of them may yet come behind the file.
            let beside = Beside { blake2: true, md5: true };
            let (tell, claims) = oneshot::channel();
            let arriving = Arriving { form, part: Some(part), fields, tell: Some(tell) };
            let body = stream::unfold(arriving, Arriving::step).boxed();
            Ok(Some(Offer { filename, sha256, beside, body, claims }))
        }
        Ok(None) if matches!(fields.action.as_deref(), Some("submit" | "verify")) => Ok(None),
        Ok(None) => Err(Failure::Invalid("the form has no file \"content\"".to_owned())),
        Err(error) => {
            if matches!(error, FormError::Bad(_)) {
                form.drain().await;
            }
            Err(error.into())
        }
    }
}

/// Reads fields until the file begins.
async fn up_to_content(
    form: &mut Form,
    fields: &mut Fields,
) -> Result<Option<(DistributionFilename, Part)>, FormError> {
    while let Some(part) = form.next().await? {
        if part.name != "content" {
            fields.read(form, part).await?;
            continue;
        }
        let filename = part.filename.as_deref().unwrap_or_default();
        let filename = filename.parse::<DistributionFilename>();
        return Ok(Some((filename.map_err(|error| FormError::Bad(error.to_string()))?, part)));
    }
    Ok(None)
}

/// The file on its way, and the form around it.
struct Arriving {
    form: Form,
    part: Option<Part>,
    fields: Fields,
    tell: Option<oneshot::Sender<Result<Claims, String>>>,
}

impl Arriving {
    /// The next bytes of the file. Once they are over the rest of the form is read, and what it claims is told. Behind an error
    /// whatever is left is passed over, where somebody still asks for it.
    async fn step(mut self) -> Option<(Result<bytes::Bytes, crate::payload::BodyError>, Self)> {
        let Some(mut part) = self.part.take() else {
            self.form.drain().await;
            return None;
        };
        match part.chunk().await {
            Ok(Some(chunk)) => {
                self.part = Some(part);
                Some((Ok(chunk), self))
            }
            Ok(None) => {
                drop(part);
                match self.rest().await {
                    Ok(()) => {
                        let claims = self.fields.claims();
                        self.say(claims);
                        None
                    }
                    Err(error) => Some((Err(self.fail(&error)), self)),
                }
            }
            Err(error) => Some((Err(self.fail(&error)), self)),
        }
    }

    async fn rest(&mut self) -> Result<(), FormError> {
        while let Some(part) = self.form.next().await? {
            if part.name == "content" {
                return Err(FormError::Bad("the form has more than one file".to_owned()));
            }
            self.fields.read(&mut self.form, part).await?;
        }
        Ok(())
    }

    fn fail(&mut self, error: &FormError) -> crate::payload::BodyError {
        if let FormError::Bad(why) = error {
            self.say(Err(why.clone()));
        }
        error.as_body()
    }

    fn say(&mut self, claims: Result<Claims, String>) {
        if let Some(tell) = self.tell.take()
            && tell.send(claims).is_err()
        {
            tracing::debug!("nobody waits for the claims of an upload any more");
        }
    }
}

/// Whether the client would rather read a problem document (RFC 9457).
fn wants_problem(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts.flat_map(|value| value.split(',')).any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        kind == "application/problem+json" || kind == "application/json"
    })
}

/// A refusal as clients of this protocol show it.
fn dress(failure: Failure, problem: bool) -> Response {
    let (status, line) = (failure.row().status, failure.line());
    let mut response = failure.into_response();
    if status == StatusCode::BAD_REQUEST {
        let reason: String =
            line.chars().filter(|letter| (' '..='~').contains(letter)).take(MOST_REASON).collect();
        if let Ok(reason) = ReasonPhrase::try_from(reason.into_bytes()) {
            response.extensions_mut().insert(reason);
        }
    }
    if problem {
        let document = serde_json::json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "detail": line,
        });
        *response.body_mut() = Body::from(document.to_string());
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}
