//! Please's RPC cache: entries as units, over gRPC (`proto.rpc_cache.RpcCache`), with the standard health and reflection
//! services beside it.
//!
//! A client gives the cache up for its whole run after five errors, and takes artifacts for a hit whatever `success` says:
//! so a miss is an answer without artifacts, and only what is wrong is an error. `ListNodes` is asked first, and waited
//! for fifty milliseconds: it passes no gate and asks nobody.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts as _, Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use http::Version;
use http::header::AUTHORIZATION;
use http::request::Parts;
use prost::Message;

use crate::budget::{Budget, Held};
use crate::domain::Reads;
use crate::domain::artifact::EntryKey;
use crate::domain::manifest::Provenance;
use crate::domain::units::fetch::{Found, Wish, size};
use crate::metrics::{Outcome, Protocol, Verb};

use super::App;
use super::auth::basic::Credentials;
use super::auth::{Admin, Reader, Writer};
use super::ops::Readiness;
use super::status::Failure;

mod answer;
mod frame;
mod health;
mod names;

/// The messages, out of `rpc_cache.proto`.
pub mod proto {
    tonic::include_proto!("proto.rpc_cache");
}

use answer::Outgoing;
use frame::{Room, Taken};
use names::Place;
use proto::{
    DeleteRequest, DeleteResponse, ListResponse, RetrieveRequest, RetrieveResponse, StoreRequest,
    StoreResponse,
};

/// What server reflection tells of the service.
const DESCRIPTION: &[u8] = tonic::include_file_descriptor_set!("rpc_cache");

/// Entries up to this size are read before they are answered; of larger ones the answer flows.
const WHOLE: u64 = 1 << 20;
/// What a flowing answer holds of the budget: buffers of the files that are open at once.
const FLOWING: u64 = 2 << 20;

/// Of a host's or a user's name so many characters are kept.
const NAME_MOST: usize = 255;

/// How the RPC cache is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Largest message, in bytes, either way.
    pub max_message_size: u64,
    /// Whether links may lead out of their entries.
    pub allow_outside_symlinks: bool,
    /// The process's budget.
    pub budget: Budget,
    /// For the health service.
    pub readiness: Readiness,
}

/// What the calls share.
#[derive(Debug)]
pub(super) struct Rpc {
    settings: Settings,
    room: Room,
}

impl Rpc {
    pub(super) fn new(settings: Settings) -> Self {
        let (most, packed) = (settings.max_message_size, settings.budget.clone());
        // Room for one of the largest, or for many small ones.
        let room = Room { most, messages: Budget::new(most), packed };
        Self { settings, room }
    }
}

pub(super) fn routes(app: App) -> Router {
    let health = health::service(app.rpc.settings.readiness.clone());
    let router = Router::new()
        .route("/proto.rpc_cache.RpcCache/{method}", post(call))
        .with_state(app)
        .route_service("/grpc.health.v1.Health/{method}", health);
    let described = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTION)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // The descriptions are ours: a test asks for them.
    let (Ok(now), Ok(before)) = (described().build_v1(), described().build_v1alpha()) else { return router };
    router
        .route_service("/grpc.reflection.v1.ServerReflection/{method}", now)
        .route_service("/grpc.reflection.v1alpha.ServerReflection/{method}", before)
}

async fn call(State(app): State<App>, Path(method): Path<String>, request: Request) -> Response {
    if request.version() < Version::HTTP_2 {
        return Failure::Unsupported("gRPC needs HTTP/2").into_response();
    }
    if !frame::is_grpc(request.headers()) {
        return Failure::Unsupported("this route speaks gRPC").into_response();
    }
    let deadline = frame::deadline(request.headers());
    let work = answer(&app, &method, request);
    let answer = match deadline {
        Ok(None) => work.await,
        // What is under way ends with it.
        Ok(Some(most)) => tokio::time::timeout(most, work).await.unwrap_or(Err(Failure::Late)),
        Err(failure) => Err(failure),
    };
    answer.unwrap_or_else(|failure| frame::refusal(&failure))
}

async fn answer(app: &App, method: &str, request: Request) -> Result<Response, Failure> {
    let (mut parts, body) = request.into_parts();
    match method {
        "ListNodes" => Ok(reply(&ListResponse::default(), &parts, Outcome::Done)),
        "Retrieve" => retrieve(app, &mut parts, body).await,
        "Store" => store(app, &mut parts, body).await,
        "Delete" => delete(app, &mut parts, body).await,
        _ => Err(Failure::NoRoute),
    }
}

fn reply(message: &impl Message, parts: &Parts, outcome: Outcome) -> Response {
    frame::answer(&Bytes::from(message.encode_to_vec()), &parts.headers, outcome)
}

/// The call's message. Who may not call is told before it is read.
async fn message<M: Message + Default + 'static>(
    app: &App,
    parts: &Parts,
    body: Body,
    verb: Verb,
) -> Result<(M, Held), Failure> {
    let Taken { message, bytes, held } = frame::read(&parts.headers, body, &app.rpc.room).await?;
    app.metrics.receive(Protocol::Rpc, verb, bytes);
    Ok((message, held))
}

async fn retrieve(app: &App, parts: &mut Parts, body: Body) -> Result<Response, Failure> {
    let Reader(reads) = Reader::from_request_parts(parts, app).await?;
    let (request, asking) = message::<RetrieveRequest>(app, parts, body, Verb::Get).await?;
    let place = Place::new(&request.os, &request.arch, &request.hash)?;
    let miss = reply(&RetrieveResponse::default(), parts, Outcome::Miss);
    let Some(wishes) = names::wishes(&place, &request.artifacts)? else { return Ok(miss) };
    drop((request, asking));
    let held = app.rpc.settings.budget.take(FLOWING).await;
    let Some(found) = find(&reads, wishes).await? else { return Ok(miss) };
    let outgoing = Outgoing::new(found);
    let most = app.rpc.settings.max_message_size;
    if outgoing.length > most {
        return Err(Failure::TooLarge(most));
    }
    Ok(match outgoing.whole() {
        Ok(message) => frame::answer(&message, &parts.headers, Outcome::Hit),
        Err(outgoing) => frame::flowing(outgoing.flow(reads, held), Outcome::Hit),
    })
}

/// All that is wished for, or nothing.
async fn find(
    reads: &Reads,
    wishes: BTreeMap<EntryKey, Vec<Wish>>,
) -> Result<Option<Vec<(EntryKey, Found)>>, Failure> {
    let (mut all, mut room) = (Vec::new(), WHOLE);
    for (entry, wishes) in wishes {
        let Some(found) = reads.unit(&entry, &wishes, room).await? else { return Ok(None) };
        room = room.saturating_sub(found.values().map(size).sum());
        all.push((entry, found));
    }
    Ok((!all.is_empty()).then_some(all))
}

async fn store(app: &App, parts: &mut Parts, body: Body) -> Result<Response, Failure> {
    let Writer(writes) = Writer::from_request_parts(parts, app).await?;
    let (request, _held) = message::<StoreRequest>(app, parts, body, Verb::Put).await?;
    let place = Place::new(&request.os, &request.arch, &request.hash)?;
    let most = app.limits.max_object_size;
    if request.artifacts.iter().any(|artifact| artifact.body.len() as u64 > most) {
        return Err(Failure::TooLarge(most));
    }
    let by = provenance(&request.hostname, parts);
    let units = names::parts(&place, request.artifacts, app.rpc.settings.allow_outside_symlinks)?;
    for (entry, files) in units {
        writes.unit(&entry, files, &by).await?;
    }
    Ok(reply(&StoreResponse { success: true }, parts, Outcome::Stored))
}

/// Who stores: what the message says, where it came from, as whom.
fn provenance(hostname: &str, parts: &Parts) -> Provenance {
    let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(NAME_MOST).collect::<String>();
    let host = Some(plain(hostname)).filter(|host| !host.is_empty());
    let from =
        parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_string());
    let basic = parts.headers.get(AUTHORIZATION).map(|value| Credentials::from_header(value.as_bytes()));
    let user = basic.and_then(Result::ok).flatten().map(|credentials| plain(credentials.user()));
    Provenance::now(host, from, user)
}

async fn delete(app: &App, parts: &mut Parts, body: Body) -> Result<Response, Failure> {
    let Writer(writes) = Writer::from_request_parts(parts, app).await?;
    let (request, _held) = message::<DeleteRequest>(app, parts, body, Verb::Delete).await?;
    if request.everything {
        let Admin(erases) = Admin::from_request_parts(parts, app).await?;
        erases.artifacts().await?;
    } else {
        for target in names::targets(&request.os, &request.arch, &request.artifacts)? {
            writes.drop_versions(&target).await?;
        }
    }
    Ok(reply(&DeleteResponse { success: true }, parts, Outcome::Deleted))
}
