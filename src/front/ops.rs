//! Health, readiness and metrics: never behind the gate, never waiting for the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use crate::budget::Budget;
use crate::metrics::Metrics;

use super::status::Failure;

/// Whether requests should come here: the store answers, and the drain has not begun.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    store: Arc<AtomicBool>,
    draining: Arc<AtomicBool>,
}

impl Readiness {
    /// Notes whether the store answers. `true` where that is news.
    pub fn store(&self, answers: bool) -> bool {
        self.store.swap(answers, Ordering::Relaxed) != answers
    }

    /// From now on new work is refused.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
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

async fn ready(State(ops): State<Ops>) -> (StatusCode, &'static str) {
    if ops.readiness.draining.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if ops.readiness.store.load(Ordering::Relaxed) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the store does not answer\n")
    }
}

async fn metrics(State(ops): State<Ops>) -> Response {
    ops.metrics.inflight.set(i64::try_from(ops.budget.held()).unwrap_or(i64::MAX));
    let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, form)], ops.metrics.page()).into_response()
}
