//! # Larder: the map
//!
//! A stateless gateway: build tools speak their own cache protocols to it, and it keeps everything as plainly named
//! objects in one S3-compatible bucket, or in one directory. Any number of Larders over the same bucket are one cache.
//!
//! ```text
//! socket → server → front (auth, limits, one file or folder a protocol) → domain (keys, entries, verbs) → store → s3 | dir
//! ```
//!
//! ## Rooms
//! - [`cli`] reads arguments and environment, and nobody else does; [`config`] holds what came of it, checked.
//! - [`serve`] puts the gateway together; [`server`] drives sockets: accept, TLS, time-outs, drain.
//! - [`front`] is the wire: one file a protocol, and what they share. [`domain`] is what artifacts and entries *are*,
//!   whatever carries them; `domain::layout` is the only spelling of bucket keys. [`store`] is where objects rest: a
//!   directory or a bucket behind one contract.
//! - [`objects`], [`releases`], [`sweep`], [`lifecycle`], [`doctor`], [`please_dir`] and [`healthcheck`] are the side jobs of the command line;
//!   [`client`] speaks to a shared cache for them.
//! - [`payload`], [`peer`], [`reach`], [`budget`], [`metrics`], [`telemetry`], [`mod@watch`] are the coins that every room accepts.
//!
//! Which room may name which is held by `tests/it/rooms.rs`.
//!
//! ## Invariants
//! - **No state.** Nothing outlives a request but what is in the store; what is remembered (passwords that were right,
//!   names that were directories, what was refreshed lately) only saves time.
//! - **Only "no such key" is a miss.** Every other failure of the store is an error on the wire.
//! - **A 2xx to a write leaves after the commit.** An upload that broke leaves nothing.
//! - **Bytes are checked** on their way in against declared digests, on their way out against the stored checksum, before
//!   the last of them leaves.
//! - **Memory follows requests, never objects**: bodies stream within one [`budget`].
//! - **Absent on purpose:** locks, leaders, queues that outlive a process, a disk cache, a database.
//!
//! ## One request, walked
//! `GET /artifact/linux_amd64/src/core/core/{hash}/core.a`: [`server`] accepts and hands hyper's request to
//! [`front::router`]; `front::trace` opens its log line; the handler in `front/artifact.rs` is given a `Reader` by
//! `front::auth`, parses the path (`front/path.rs`, [`domain::artifact`]) and the conditions (`front/conditional.rs`), asks
//! [`domain::Reads::artifact`], which spells the key ([`domain::layout`]) and asks [`store::Store::get`]; `front/body.rs`
//! turns the object into a response. A miss goes on to `Reads::members`, since the name may be a directory.

pub mod budget;
pub mod cli;
pub mod client;
pub mod config;
pub mod doctor;
pub mod domain;
pub mod front;
pub mod healthcheck;
pub mod lifecycle;
pub mod metrics;
pub mod objects;
pub mod payload;
pub mod peer;
pub mod please_dir;
pub mod reach;
pub mod releases;
pub mod serve;
pub mod server;
pub mod store;
pub mod sweep;
pub mod telemetry;
pub mod watch;
