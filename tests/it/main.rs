//! One test binary; modules are named by promise.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod abandoned;
mod artifact_http;
mod auth_matrix;
mod cli;
mod cli_page;
mod conditional;
mod counted;
mod doctor;
mod faults;
mod hostile;
mod killed;
mod laws;
mod leaks;
mod lifecycle;
mod memory;
mod metrics_page;
mod please_dir;
mod please_http;
mod refresh;
mod replicas;
mod rooms;
mod rpc;
mod serving;
mod support;
mod surface;
mod sweep;
mod tls;
mod turns;
mod wheels;
