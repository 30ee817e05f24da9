//! What admins do to a file of an index: `DELETE …/simple/{project}/{file}`, and `PUT` and `DELETE` of `…/{file}/yank`.
//!
//! No standard has words for this; the addresses are ours. Never changes a file's bytes.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, put};
use futures_util::StreamExt as _;
use http::Uri;

use super::{App, Failure, place};
use crate::domain::wheels::{DistributionFilename, IndexName, Reason, ReasonError};
use crate::front::auth::Admin;
use crate::front::body;
use crate::metrics::{Outcome, Protocol, Verb};

/// Most bytes of a body that may be a reason.
const MOST_BODY: usize = 4096;

pub(super) fn routes(at: &str) -> Router<App> {
    let mark = put(yank).delete(unyank).fallback(async || Failure::Verb("PUT, DELETE"));
    Router::new()
        .route(
            &format!("{at}/simple/{{project}}/{{file}}"),
            delete(drop_file).fallback(async || Failure::Verb("DELETE")),
        )
        .route(&format!("{at}/simple/{{project}}/{{file}}/yank"), mark)
}

/// The file that an address names; its project has to be the file's.
fn named(uri: &Uri) -> Result<(IndexName, DistributionFilename), Failure> {
    let (index, segments, _) = place(uri)?;
    let (Some(project), Some(file)) = (segments.get(1), segments.get(2)) else { return Err(Failure::Absent) };
    let filename: DistributionFilename = file.parse().map_err(|_| Failure::Absent)?;
    if filename.project().as_str() == project { Ok((index, filename)) } else { Err(Failure::Absent) }
}

fn done(there: bool, said: &'static str, outcome: Outcome) -> Result<Response, Failure> {
    if !there {
        return Err(Failure::Absent);
    }
    let mut response = said.into_response();
    response.extensions_mut().insert(outcome);
    Ok(response)
}

async fn drop_file(Admin(erases): Admin, uri: Uri) -> Result<Response, Failure> {
    let (index, filename) = named(&uri)?;
    done(erases.distribution(&index, &filename).await?, "deleted\n", Outcome::Deleted)
}

async fn yank(Admin(erases): Admin, State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let (index, filename) = named(request.uri())?;
    let (payload, terms) = body::incoming(request, &app, (Protocol::Simple, Verb::Put))?;
    let (mut stream, mut reason) = (terms.declared.check(payload).stream, Vec::new());
    while let Some(chunk) = stream.next().await {
        reason.extend_from_slice(&chunk?);
        if reason.len() > MOST_BODY {
            return Err(Failure::Invalid(ReasonError::Long.to_string()));
        }
    }
    let invalid = |why: ReasonError| Failure::Invalid(why.to_string());
    let reason = std::str::from_utf8(&reason).map_err(|_| invalid(ReasonError::Line))?;
    let reason = reason.parse::<Reason>().map_err(invalid)?;
    done(erases.yank(&index, &filename, &reason).await?, "yanked\n", Outcome::Stored)
}

async fn unyank(Admin(erases): Admin, uri: Uri) -> Result<Response, Failure> {
    let (index, filename) = named(&uri)?;
    done(erases.unyank(&index, &filename).await?, "no longer yanked\n", Outcome::Deleted)
}
