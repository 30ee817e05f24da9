//! The flags that say how long what lies in each place is kept: for the gateway's refreshing and for the bucket's rules alike.

use std::time::Duration;

use clap::Args;

use super::values;
use crate::config::{Expiry, Fraction};

/// A time, or none: a type of its own, for clap takes an `Option` for a flag that may be left out.
#[derive(Debug, Clone, Copy)]
struct Life(Option<Duration>);

/// A time of life, or `never`.
fn life(text: &str) -> Result<Life, &'static str> {
    match text {
        "never" => Ok(Life(None)),
        text => match values::time(text) {
            Ok(time) if !time.is_zero() => Ok(Life(Some(time))),
            _ => Err("a time is 30d, 12h and the like, more than 0, or `never`"),
        },
    }
}

/// How long things are kept.
#[derive(Debug, Args)]
#[command(next_help_heading = "Expiry")]
pub(super) struct ExpiryFlags {
    /// How long artifacts (releases of Please up to v13, and RPC) are kept after their last use, or `never` to let go
    #[arg(long, env = "LARDER_EXPIRE_ARTIFACTS", value_name = "TIME", default_value = "30d", value_parser = life)]
    expire_artifacts: Life,
    /// The same of entries of Please v14 and later
    #[arg(long, env = "LARDER_EXPIRE_PLEASE", value_name = "TIME", default_value = "30d", value_parser = life)]
    expire_please: Life,
    /// The same of distributions in the shared index, whose makers may be gone
    #[arg(long, env = "LARDER_EXPIRE_WHEELS", value_name = "TIME", default_value = "never", value_parser = life)]
    expire_wheels: Life,
    /// The same of distributions that were built for one environment
    #[arg(long, env = "LARDER_EXPIRE_BUILT", value_name = "TIME", default_value = "180d", value_parser = life)]
    expire_built: Life,
}

impl ExpiryFlags {
    /// What they say; of what has no flag here the defaults.
    pub(super) fn expiry(&self) -> Expiry {
        Expiry {
            artifacts: self.expire_artifacts.0,
            please: self.expire_please.0,
            wheels: self.expire_wheels.0,
            built: self.expire_built.0,
            ..Expiry::default()
        }
    }
}

/// All times that a bucket's rules have: whole days.
#[derive(Debug, Args)]
pub(super) struct Times {
    #[command(flatten)]
    kept: ExpiryFlags,
    /// How long multipart uploads that nobody completes are kept, or `never` to let go
    #[arg(long, env = "LARDER_EXPIRE_UPLOADS", value_name = "TIME", default_value = "1d", value_parser = life,
          help_heading = "Expiry")]
    expire_uploads: Life,
    /// How long versions that are not the current one are kept, where the bucket keeps versions, or `never` to let go
    #[arg(long, env = "LARDER_EXPIRE_NONCURRENT", value_name = "TIME", default_value = "1d", value_parser = life,
          help_heading = "Expiry")]
    expire_noncurrent: Life,
}

impl Times {
    /// What they say.
    pub(super) fn expiry(&self) -> Expiry {
        Expiry { uploads: self.expire_uploads.0, noncurrent: self.expire_noncurrent.0, ..self.kept.expiry() }
    }
}

/// Whether uses refresh.
#[derive(Debug, Args)]
#[command(next_help_heading = "Expiry")]
pub(super) struct RefreshFlags {
    /// A use makes an object young again once it has lived this part of its time; `off` where copies are dear
    #[arg(long, env = "LARDER_REFRESH", value_name = "PART", default_value = "0.5", value_parser = refresh)]
    refresh: Refresh,
}

impl RefreshFlags {
    /// The part; `None`: never.
    pub(super) const fn part(&self) -> Option<Fraction> {
        self.refresh.0
    }
}

/// After which part of its time of life a use refreshes an object.
#[derive(Debug, Clone, Copy)]
struct Refresh(Option<Fraction>);

/// `off`, or a part of 1.
fn refresh(text: &str) -> Result<Refresh, &'static str> {
    match text {
        "off" => Ok(Refresh(None)),
        text => match text.parse().ok().and_then(Fraction::new) {
            Some(part) => Ok(Refresh(Some(part))),
            None => Err("a part is 0.1 to 0.9, or `off`"),
        },
    }
}
