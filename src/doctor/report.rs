//! The report: one line a check, then what is wrong and how it is mended; or all of it as JSON.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;

use super::Role;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// The cache works, but costs more, keeps less or is safe from less than it could be.
    Warn,
    /// The cache does not work, or not as it promises.
    Fail,
    /// Not tried, or nothing to be told.
    Skipped,
}

impl State {
    /// The mark of a line, and its colour on a terminal.
    const fn mark(self) -> (&'static str, &'static str) {
        match self {
            Self::Ok => ("ok  ", "\x1b[32m"),
            Self::Warn => ("warn", "\x1b[33m"),
            Self::Fail => ("FAIL", "\x1b[31m"),
            Self::Skipped => ("skip", "\x1b[2m"),
        }
    }
}

/// A permission that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Permission {
    /// As IAM calls it.
    pub action: &'static str,
    /// What it has to be allowed on.
    pub resource: String,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, which does not change.
    pub check: &'static str,
    /// What is asked, for people.
    pub title: String,
    /// How it came out.
    pub state: State,
    /// What was seen; why not, where nothing was tried.
    pub seen: String,
    /// What it means for the cache, where it is not well.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub means: Cow<'static, str>,
    /// How it is mended.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
    /// The permission that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<Permission>,
}

/// All checks of a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    store: String,
    #[serde(rename = "for")]
    role: Role,
    /// Whether the store was reached at all.
    reached: bool,
    ok: usize,
    warn: usize,
    fail: usize,
    skipped: usize,
    checks: Vec<Check>,
}

impl Report {
    pub(super) fn new(store: &str, role: Role, unreached: bool, checks: Vec<Check>) -> Self {
        let count = |state| checks.iter().filter(|check| check.state == state).count();
        Self {
            store: store.to_owned(),
            role,
            reached: !unreached,
            ok: count(State::Ok),
            warn: count(State::Warn),
            fail: count(State::Fail),
            skipped: count(State::Skipped),
            checks,
        }
    }

    /// The same report, with what others found.
    #[must_use]
    pub fn with(self, more: impl IntoIterator<Item = Check>) -> Self {
        let checks = self.checks.into_iter().chain(more).collect();
        Self::new(&self.store, self.role, !self.reached, checks)
    }

    /// All checks, in the order in which they were made.
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// Whether the store was reached at all.
    pub const fn reached(&self) -> bool {
        self.reached
    }

    /// The worst of all checks: [`State::Ok`], [`State::Warn`] or [`State::Fail`].
    pub const fn worst(&self) -> State {
        match (self.fail, self.warn) {
            (0, 0) => State::Ok,
            (0, _) => State::Warn,
            (_, _) => State::Fail,
        }
    }

    /// For people.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn tell(&self, out: &mut dyn Write, colour: bool) -> io::Result<()> {
        writeln!(out, "larder doctor: {} as {}\n", self.store, self.role)?;
        let width = self.checks.iter().map(|check| check.title.len()).max().unwrap_or(0);
        for check in &self.checks {
            writeln!(out, "{} {:width$}  {}", painted(check.state, colour), check.title, check.seen)?;
        }
        for check in self.checks.iter().filter(|check| matches!(check.state, State::Warn | State::Fail)) {
            writeln!(out, "\n{} {}: {}", painted(check.state, colour), check.title, check.seen)?;
            for (name, text) in [("means", &*check.means), ("mend", check.mend.as_str())] {
                if !text.is_empty() {
                    writeln!(out, "     {name}: {text}")?;
                }
            }
        }
        let Self { ok, warn, fail, skipped, .. } = self;
        writeln!(out, "\n{ok} ok, {warn} to be looked at, {fail} failed, {skipped} skipped")
    }
}

fn painted(state: State, colour: bool) -> String {
    let (mark, paint) = state.mark();
    if colour { format!("{paint}{mark}\x1b[0m") } else { mark.to_owned() }
}
