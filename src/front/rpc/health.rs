//! `grpc.health.v1.Health`: the standard question whether requests should come here, answered as `/readyz` answers it.
//!
//! Never behind the gate, never waiting for the store.

use std::pin::Pin;

use futures_util::stream::{self, Stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::front::ops::{Readiness, State};

/// The services that there are, beside the nameless one that stands for all.
const NAMES: [&str; 2] = ["plz-rpc-cache", "proto.rpc_cache.RpcCache"];

/// The service over a state.
pub(super) fn service(readiness: Readiness) -> HealthServer<Answers> {
    HealthServer::new(Answers(readiness))
}

#[derive(Debug)]
pub(super) struct Answers(Readiness);

type Answer = Result<HealthCheckResponse, Status>;

fn is_known(service: &str) -> bool {
    service.is_empty() || NAMES.contains(&service)
}

fn answer(state: State) -> HealthCheckResponse {
    let status = if state.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
    HealthCheckResponse { status: status.into() }
}

#[tonic::async_trait]
impl Health for Answers {
    type WatchStream = Pin<Box<dyn Stream<Item = Answer> + Send>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_known(&request.get_ref().service) {
            return Err(Status::not_found("no such service"));
        }
        Ok(Response::new(answer(*self.0.watch().borrow())))
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let known = is_known(&request.get_ref().service);
        let changes = stream::unfold((self.0.watch(), true), move |(state, first)| next(state, first, known));
        Ok(Response::new(Box::pin(changes)))
    }
}

/// The state now, and then each that differs. Ends with the drain, which would wait for it.
async fn next(
    mut state: watch::Receiver<State>,
    first: bool,
    known: bool,
) -> Option<(Answer, (watch::Receiver<State>, bool))> {
    if !first {
        if state.borrow().is_draining() {
            return None;
        }
        state.changed().await.ok()?;
    }
    let now = *state.borrow_and_update();
    let unknown = HealthCheckResponse { status: ServingStatus::ServiceUnknown.into() };
    Some((Ok(if known { answer(now) } else { unknown }), (state, false)))
}
