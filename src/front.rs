//! The front door: one router over every protocol, each in its own file; here is the one list of them.
//!
//! Translates wire to domain and back. What is shared by protocols: `auth` (rights), `status` (failures), `body`
//! (payloads), `form` (uploads of several fields), `conditional` (validators and ranges), `path` (names), `origin` (where
//! clients see us), `html` (what pages are made of), `trace` (log and counts). Never names the store, files or the SDK, and no
//! protocol names another.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;

use crate::metrics::Metrics;

mod artifact;
pub mod auth;
pub mod body;
mod conditional;
mod curdling;
mod form;
mod html;
mod legacy;
mod multipart;
pub mod ops;
pub mod origin;
mod path;
mod please;
pub mod rpc;
mod simple;
mod status;
mod trace;

use auth::Guarded;
use body::BodyLimits;
use origin::Proxies;
use status::Failure;

/// What handlers are given a part of.
#[derive(Debug, Clone)]
pub struct App(Arc<Parts>);

/// What [`App`] shares.
#[derive(Debug)]
pub struct Parts {
    guarded: Guarded,
    limits: BodyLimits,
    proxies: Proxies,
    rpc: rpc::Rpc,
    pages: simple::Rendered,
    metrics: Metrics,
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// The domain behind its gate, within limits, and behind these proxies.
    pub fn new(
        guarded: Guarded,
        limits: BodyLimits,
        proxies: Proxies,
        rpc: rpc::Settings,
        metrics: Metrics,
    ) -> Self {
        Self(Arc::new(Parts {
            guarded,
            limits,
            proxies,
            rpc: rpc::Rpc::new(rpc),
            pages: simple::Rendered::default(),
            metrics,
        }))
    }
}

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocols {
    /// Everything.
    All,
    /// The wheel cache alone, over a folder that is nothing else.
    Python,
}

/// The whole service as a value. With `ops` its routes are here too; else they are served on a port of their own.
pub fn router(app: App, protocols: Protocols, ops: Option<ops::Ops>) -> Router {
    let metrics = app.metrics.clone();
    let python = Router::new().merge(simple::routes()).merge(legacy::routes()).merge(curdling::routes());
    let protocols = match protocols {
        Protocols::Python => python.with_state(app),
        Protocols::All => {
            let rpc = rpc::routes(app.clone());
            let http = Router::new().merge(artifact::routes()).merge(please::routes()).merge(python);
            http.with_state(app).merge(rpc)
        }
    };
    let all = match ops {
        Some(ops) => protocols.merge(ops::routes(ops)),
        None => protocols,
    };
    all.fallback(unknown).layer(from_fn_with_state(metrics, trace::trace))
}

/// The operator's routes alone.
pub fn ops_router(ops: ops::Ops) -> Router {
    let metrics = ops.metrics.clone();
    ops::routes(ops).fallback(unknown).layer(from_fn_with_state(metrics, trace::trace))
}

async fn unknown() -> Failure {
    Failure::NoRoute
}
