//! Who may do what: a handler is *given* a `Reader`, a `Writer` or an `Admin`, and reaches the domain only through it.
//!
//! The gateway is private to this file: forgetting to ask for a right does not compile. Where nobody is known everybody
//! may do everything. Else two things give rights, and the stronger counts: a certificate ([`certificates`]), and a
//! user's password, by the user's groups (`writers`, `admins`; without a group file every user may do everything).
//! Callers without credentials may read where that is set. Wrong passwords are never taken for none.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Extensions, HeaderMap};

use crate::domain::{Erases, Gateway, Reads, Writes};
use crate::peer::Certificate;
use crate::watch::Watched;

use super::App;
use super::status::Failure;

pub mod basic;
pub mod certificates;
pub mod groups;
pub mod htpasswd;
pub mod verify;

use basic::Credentials;
use certificates::Certificates;
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
    pub users: Option<Watched<Users>>,
    /// The group file.
    pub groups: Option<Watched<Groups>>,
    /// The certificates that mean something.
    pub certificates: Option<Certificates>,
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
    /// A gate that knows these; with `None` it stands open.
    pub fn new(listed: Option<Listed>, verifier: Verifier) -> Self {
        Self { listed, verifier }
    }

    /// The one question: whether a request with these headers, from the holder of this certificate, has a right.
    /// Quick but for a password, which may wait its turn; where the certificate will do no password is looked at.
    async fn admit(
        &self,
        headers: &HeaderMap,
        certificate: Option<&Certificate>,
        needed: Role,
    ) -> Result<(), Failure> {
        let Some(listed) = &self.listed else { return Ok(()) };
        let by_certificate = certificate.and_then(|shown| listed.role_of_certificate(shown));
        if by_certificate >= Some(needed) {
            return Ok(());
        }
        let by_password = match (&listed.users, headers.get(AUTHORIZATION)) {
            (Some(users), Some(header)) => Some(self.check(listed, users, header.as_bytes()).await?),
            (Some(_), None) | (None, _) => None,
        };
        let by_nothing = (listed.anonymous_read && by_password.is_none()).then_some(Role::Reader);
        if by_password.max(by_nothing) >= Some(needed) {
            return Ok(());
        }
        Err(listed.refusal(by_password.is_some(), certificate.is_some(), needed))
    }

    /// The role of who knows a password.
    async fn check(&self, listed: &Listed, users: &Watched<Users>, header: &[u8]) -> Result<Role, Failure> {
        let credentials = Credentials::from_header(header)
            .ok()
            .flatten()
            .ok_or(Failure::Unauthenticated("the Authorization header is no valid Basic credentials"))?;
        match self.verifier.check(&users.current(), &credentials).await {
            Verdict::Good => Ok(listed.role_of(credentials.user())),
            Verdict::Bad => Err(Failure::Unauthenticated("unknown user or wrong password")),
            Verdict::Busy => Err(Failure::Busy),
        }
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

    fn role_of_certificate(&self, shown: &Certificate) -> Option<Role> {
        self.certificates.as_ref().and_then(|known| known.role(shown, self.users.is_some()))
    }

    /// What to tell a caller that has not the right: 401 where credentials that it did not send could help, else 403.
    fn refusal(&self, password: bool, certificate: bool, needed: Role) -> Failure {
        let by_certificate = self.certificates.is_some();
        match (self.users.is_some(), password, certificate && by_certificate) {
            (true, true, _) => Failure::Forbidden(match needed {
                Role::Reader => "",
                Role::Writer => "this needs a user of the group writers",
                Role::Admin => "this needs a user of the group admins",
            }),
            (true, false, true) => Failure::Unauthenticated(
                "this certificate may not do that; a user name and password could help",
            ),
            (true, false, false) if self.anonymous_read => {
                Failure::Unauthenticated("reading is open to all; this needs a user name and password")
            }
            (true, false, false) if by_certificate => {
                Failure::Unauthenticated("a client certificate, or a user name and password, is needed")
            }
            (true, false, false) => Failure::Unauthenticated(""),
            (false, _, true) => Failure::Forbidden("this certificate may not do that"),
            (false, _, false) if self.anonymous_read => {
                Failure::Unauthenticated("reading is open to all; this needs a client certificate")
            }
            (false, _, false) => Failure::Unauthenticated("a client certificate is needed"),
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

    async fn admit(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
        needed: Role,
    ) -> Result<&Gateway, Failure> {
        self.gate.admit(headers, extensions.get::<Certificate>(), needed).await?;
        Ok(&self.gateway)
    }

    /// The right to look, for a request with these headers and extensions, whatever protocol it is of.
    pub(crate) async fn reader(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Reader, Failure> {
        Ok(Reader(self.admit(headers, extensions, Role::Reader).await?.reads()))
    }

    /// The right to store.
    pub(crate) async fn writer(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Writer, Failure> {
        Ok(Writer(self.admit(headers, extensions, Role::Writer).await?.writes()))
    }

    /// The right to delete everything.
    pub(crate) async fn admin(&self, headers: &HeaderMap, extensions: &Extensions) -> Result<Admin, Failure> {
        Ok(Admin(self.admit(headers, extensions, Role::Admin).await?.erases()))
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
        app.guarded.reader(&parts.headers, &parts.extensions).await
    }
}

impl FromRequestParts<App> for Writer {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        app.guarded.writer(&parts.headers, &parts.extensions).await
    }
}

impl FromRequestParts<App> for Admin {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        app.guarded.admin(&parts.headers, &parts.extensions).await
    }
}
