//! Who may do what: a handler is *given* a `Reader`, a `Writer` or an `Admin`, and reaches the domain only through it.
//!
//! The gateway is private to this file: forgetting to ask for a right does not compile. With no user file everybody may do
//! everything; with one, a user's groups decide (`writers`, `admins`; without a group file every user may do
//! everything), and callers without credentials may read where that is set. Wrong credentials are never taken for none.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::domain::{Erases, Gateway, Reads, Writes};
use crate::watch::Watched;

use super::status::Failure;
use super::{App, auth};

pub mod basic;
pub mod groups;
pub mod htpasswd;
pub mod verify;

use basic::Credentials;
use groups::Groups;
use htpasswd::Users;
use verify::{Verdict, Verifier};

/// The groups of the group file that have meaning.
const WRITERS: &str = "writers";
const ADMINS: &str = "admins";

/// What a caller may do; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Look.
    Reader,
    /// Store, and delete one target's artifacts.
    Writer,
    /// Delete everything.
    Admin,
}

/// Who is known, from which files.
#[derive(Debug)]
pub struct Listed {
    /// The htpasswd file.
    pub users: Watched<Users>,
    /// The group file.
    pub groups: Option<Watched<Groups>>,
    /// Whether callers without credentials may read.
    pub anonymous_read: bool,
}

/// The gate that every request passes.
#[derive(Debug)]
pub struct Gate {
    listed: Option<Listed>,
    verifier: Verifier,
}

impl Gate {
    /// A gate that knows these users; with `None` it stands open.
    pub fn new(listed: Option<Listed>, verifier: Verifier) -> Self {
        Self { listed, verifier }
    }

    /// The caller's role. Pure but for the password check, which may wait its turn.
    async fn role(&self, headers: &HeaderMap) -> Result<Role, Failure> {
        let Some(listed) = &self.listed else { return Ok(Role::Admin) };
        let Some(header) = headers.get(AUTHORIZATION) else {
            return if listed.anonymous_read { Ok(Role::Reader) } else { Err(Failure::Unauthenticated("")) };
        };
        let credentials = Credentials::from_header(header.as_bytes())
            .ok()
            .flatten()
            .ok_or(Failure::Unauthenticated("the Authorization header is no valid Basic credentials"))?;
        match self.verifier.check(&listed.users.current(), &credentials).await {
            Verdict::Good => Ok(listed.role_of(credentials.user())),
            Verdict::Bad => Err(Failure::Unauthenticated("unknown user or wrong password")),
            Verdict::Busy => Err(Failure::Busy),
        }
    }

    async fn admit(&self, headers: &HeaderMap, needed: Role) -> Result<(), Failure> {
        let role = self.role(headers).await?;
        if role >= needed {
            return Ok(());
        }
        if !headers.contains_key(AUTHORIZATION) {
            return Err(Failure::Unauthenticated(
                "reading is open to all; this needs a user name and password",
            ));
        }
        Err(Failure::Forbidden(match needed {
            Role::Reader => "",
            Role::Writer => "this needs a user of the group writers",
            Role::Admin => "this needs a user of the group admins",
        }))
    }
}

impl Listed {
    fn role_of(&self, user: &str) -> Role {
        let Some(groups) = &self.groups else { return Role::Admin };
        let groups = groups.current();
        if groups.has(ADMINS, user) {
            Role::Admin
        } else if groups.has(WRITERS, user) {
            Role::Writer
        } else {
            Role::Reader
        }
    }
}

/// The domain behind the gate.
#[derive(Debug, Clone)]
pub struct Guarded {
    gateway: Gateway,
    gate: Arc<Gate>,
}

impl Guarded {
    /// Puts a gateway behind a gate.
    pub fn new(gateway: Gateway, gate: Gate) -> Self {
        Self { gateway, gate: Arc::new(gate) }
    }
}

/// The right to look.
#[derive(Debug)]
pub(crate) struct Reader(pub(crate) Reads);

/// The right to store, and to delete one target's artifacts.
#[derive(Debug)]
pub(crate) struct Writer(pub(crate) Writes);

/// The right to delete everything.
#[derive(Debug)]
pub(crate) struct Admin(pub(crate) Erases);

impl FromRequestParts<App> for Reader {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let guarded = &app.guarded;
        guarded.gate.admit(&parts.headers, auth::Role::Reader).await?;
        Ok(Self(guarded.gateway.reads()))
    }
}

impl FromRequestParts<App> for Writer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let guarded = &app.guarded;
        guarded.gate.admit(&parts.headers, auth::Role::Writer).await?;
        Ok(Self(guarded.gateway.writes()))
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let guarded = &app.guarded;
        guarded.gate.admit(&parts.headers, auth::Role::Admin).await?;
        Ok(Self(guarded.gateway.erases()))
    }
}
