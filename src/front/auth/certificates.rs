//! What a client's certificate is worth.
//!
//! Either every certificate that an authority of ours has signed may do everything, or lists name those that may do
//! something, byte for byte: neither a name in a certificate nor who signed it gives a right then. Never decides
//! whether a certificate is genuine; who carries one here has its key.

use std::collections::HashMap;

use crate::peer::{self, Certificate};
use crate::watch::{Place, Read, WatchError, Watched};

use super::Role;

/// Which certificates mean something.
#[derive(Debug, Clone)]
pub enum Certificates {
    /// All that an authority has signed.
    Signed,
    /// Those of the lists.
    Listed(Watched<Roles>),
}

impl Certificates {
    /// What its holder may do; nothing where `None`. With users, deleting everything is left to them: a group
    /// names who may.
    pub(super) fn role(&self, certificate: &Certificate, has_users: bool) -> Option<Role> {
        match self {
            Self::Signed if !certificate.is_signed() => None,
            Self::Signed if has_users => Some(Role::Writer),
            Self::Signed => Some(Role::Admin),
            Self::Listed(roles) => roles.current().of(certificate),
        }
    }
}

/// Certificates and the role of each.
#[derive(Debug, Default)]
pub struct Roles(HashMap<Box<[u8]>, Role>);

impl Roles {
    /// Reads the lists of those that may write and of those that may read: PEM files, or directories of such. Which
    /// list is given is told by its presence; a certificate on both may write. Blocks.
    ///
    /// # Errors
    /// Where a file cannot be read, or holds anything but certificates that a client could show.
    pub fn open(writable: Option<Place>, readonly: Option<Place>) -> Result<Watched<Self>, WatchError> {
        let lists = [(writable, Role::Writer), (readonly, Role::Reader)];
        let given = lists.into_iter().filter_map(|(place, role)| place.map(|place| (place, role)));
        let (places, roles): (Vec<Place>, Vec<Role>) = given.unzip();
        Watched::open_all(places, move |files| Self::read(files, &roles))
    }

    fn read(files: &[Read], of_place: &[Role]) -> Result<Self, WatchError> {
        let mut all = HashMap::new();
        for file in files {
            let certificates = peer::usable_certificates(&file.bytes)
                .map_err(|error| WatchError::unparsable(&file.path, error))?;
            let role = of_place[file.place];
            for der in certificates {
                let known = all.entry(der.as_ref().into()).or_insert(role);
                *known = role.max(*known);
            }
        }
        Ok(Self(all))
    }

    fn of(&self, certificate: &Certificate) -> Option<Role> {
        self.0.get(certificate.der()).copied()
    }
}
