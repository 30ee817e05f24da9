//! Curdling's own command line: `curd-server`, as what `larder serve` runs with.

use std::net::ToSocketAddrs as _;
use std::time::Duration;

use super::CurdServer;
use super::flags::Error;
use crate::config::{AuthConfig, Config, DirConfig, Expiry, Limits, Log, StoreConfig, Sync};

/// Small files that are kept in memory, as `--dir-memory` of `larder serve`, in bytes.
const MEMORY: u64 = 24 << 20;

/// What broken uploads left is removed once it is this old, as `--leftover-age` of `larder serve`.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

impl CurdServer {
    /// All that the gateway runs with. The folder is all of the store, and the store is one index.
    pub(super) fn config(self, log: Log) -> Result<Config, Error> {
        let mut addresses = (self.host.as_str(), self.port).to_socket_addrs().ok().into_iter().flatten();
        let config = Config {
            store: StoreConfig::Dir(DirConfig { root: self.directory, sync: Sync::Always, memory: MEMORY }),
            listen: addresses.next().ok_or(Error::Host(self.host))?,
            ops_listen: None,
            tls: None,
            auth: AuthConfig { users: self.user_db, ..AuthConfig::default() },
            limits: Limits::default(),
            leftover_age: LEFTOVER_AGE,
            // Nothing there is ever removed for its age.
            expiry: Expiry::default(),
            refresh: None,
            allow_outside_symlinks: false,
            folder: true,
            // Its users know what machines they serve: so it was.
            allow_linux_tags: true,
            trusted_proxies: Vec::new(),
            log,
        };
        Ok(config.checked()?)
    }
}
