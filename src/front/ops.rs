//! Health, readiness and metrics: never behind the gate, never waiting for the store.

use std::sync::Arc;

use axum::Router;
use axum::extract;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use tokio::sync::watch;

use crate::budget::Budget;
use crate::metrics::Metrics;

use super::status::Failure;

/// Whether requests should come here: the store answers, and the drain has not begun. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<watch::Sender<State>>);

/// What [`Readiness`] is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    store: bool,
    draining: bool,
}

impl State {
    /// Whether requests should come here.
    pub const fn is_ready(self) -> bool {
        self.store && !self.draining
    }

    /// Whether we are leaving.
    pub const fn is_draining(self) -> bool {
        self.draining
    }
}

impl Readiness {
    /// Notes whether the store answers. `true` where that is news.
    pub fn store(&self, answers: bool) -> bool {
        self.0.send_if_modified(|state| std::mem::replace(&mut state.store, answers) != answers)
    }

    /// From now on new work is refused.
    pub fn drain(&self) {
        self.0.send_modify(|state| state.draining = true);
    }

    /// The state, now and whenever it changes.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.0.subscribe()
    }
}

/// What the routes show.
#[derive(Debug, Clone)]
pub struct Ops {
    /// For `/readyz`.
    pub readiness: Readiness,
    /// For `/metrics`.
    pub metrics: Metrics,
    /// For the gauge of bytes in flight.
    pub budget: Budget,
}

/// `/healthz`, `/readyz`, `/metrics`.
pub fn routes(ops: Ops) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n").fallback(verb))
        .route("/readyz", get(ready).fallback(verb))
        .route("/metrics", get(metrics).fallback(verb))
        .with_state(ops)
}

async fn verb() -> Failure {
    Failure::Verb("GET, HEAD")
}

async fn ready(extract::State(ops): extract::State<Ops>) -> (StatusCode, &'static str) {
    let state = *ops.readiness.watch().borrow();
    if state.draining {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if state.store {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n")
    }
}

async fn metrics(extract::State(ops): extract::State<Ops>) -> Response {
    ops.metrics.inflight.set(i64::try_from(ops.budget.held()).unwrap_or(i64::MAX));
    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, form)], ops.metrics.page()).into_response()
}
