//! Promise: over RPC an entry comes back whole or not at all, whoever stores or deletes beside it, and whatever its store
//! does.

mod counted;
mod interop;
pub(crate) mod race;
mod trips;
