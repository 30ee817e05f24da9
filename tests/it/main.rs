//! One test binary; modules are named by promise.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod cli;
mod laws;
mod serving;
mod support;
