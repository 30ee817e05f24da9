//! How single flags are read: sizes, times, and the words of a choice.

use std::io::IsTerminal;
use std::net::IpAddr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::ValueEnum;
use ipnet::IpNet;

use crate::config::{Anonymous, Checksums, Sse, Sync};
use crate::objects::By;

/// A size: `64MiB`, `10GB`, or a number of bytes.
pub(super) fn size(text: &str) -> Result<u64, &'static str> {
    text.parse::<ByteSize>()
        .map(|size| size.as_u64())
        .map_err(|_| "a size is 64MiB, 10GB or a number of bytes")
}

/// A time: `30s`, `1m 30s`, `250ms`, `1d`.
pub(super) fn time(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text).map_err(|_| "a time is 250ms, 30s, 5m, 1d and the like")
}

/// A network, `10.0.0.0/8` or `fd00::/8`, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, &'static str> {
    let text = text.trim();
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map_err(|_| "a network is 10.0.0.0/8, fd00::/8 or one address")
}

/// Whether a person reads the log.
pub(super) fn on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Whether text in colour is welcome: on a terminal, unless `NO_COLOR` says otherwise (<https://no-color.org>).
#[expect(clippy::disallowed_methods, reason = "this is `cli`, the reader of the environment")]
pub(super) fn colour() -> bool {
    on_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// As [`colour`], of standard output.
#[expect(clippy::disallowed_methods, reason = "this is `cli`, the reader of the environment")]
pub(super) fn colour_out() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum LogFormatArg {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum AnonymousArg {
    /// Nothing
    None,
    /// Read
    Read,
}

impl From<AnonymousArg> for Anonymous {
    fn from(arg: AnonymousArg) -> Self {
        match arg {
            AnonymousArg::None => Self::None,
            AnonymousArg::Read => Self::Read,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum SyncArg {
    /// What was acknowledged survives a power cut
    Always,
    /// What was acknowledged survives a crash of Larder only
    Never,
}

impl From<SyncArg> for Sync {
    fn from(arg: SyncArg) -> Self {
        match arg {
            SyncArg::Always => Self::Always,
            SyncArg::Never => Self::Never,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum SseArg {
    /// Keys that S3 holds
    #[value(name = "aes256")]
    Aes256,
    /// Keys that KMS holds
    #[value(name = "aws:kms")]
    Kms,
}

impl From<SseArg> for Sse {
    fn from(arg: SseArg) -> Self {
        match arg {
            SseArg::Aes256 => Self::Aes256,
            SseArg::Kms => Self::Kms(None),
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ChecksumsArg {
    /// Only where S3 demands one
    WhenRequired,
    /// Always
    Always,
}

impl From<ChecksumsArg> for Checksums {
    fn from(arg: ChecksumsArg) -> Self {
        match arg {
            ChecksumsArg::WhenRequired => Self::WhenRequired,
            ChecksumsArg::Always => Self::Always,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ByArg {
    /// What lies directly below the prefix
    Prefix,
    /// A package on one operating system
    Package,
    /// A target on one operating system
    Target,
}

impl From<ByArg> for By {
    fn from(arg: ByArg) -> Self {
        match arg {
            ByArg::Prefix => Self::Prefix,
            ByArg::Package => Self::Package,
            ByArg::Target => Self::Target,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_input_panics(text in any::<String>()) {
            prop_assert!(size(&text).is_ok() || size(&text).is_err());
            prop_assert!(time(&text).is_ok() || time(&text).is_err());
        }

        #[test]
        fn plain_numbers_are_bytes(bytes in any::<u64>()) {
            prop_assert_eq!(size(&bytes.to_string()), Ok(bytes));
        }
    }

    #[test]
    fn networks_are_one_address_or_many() {
        for (text, network) in [
            ("10.1.0.0/16", "10.1.0.0/16"),
            ("127.0.0.1", "127.0.0.1/32"),
            (" fd00::/8", "fd00::/8"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(network.parse::<IpNet>().ok(), super::network(text).ok(), "{text}");
        }
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0.0/", "*"] {
            assert!(super::network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn units_are_known() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("10 GB"), Ok(10_000_000_000));
        assert_eq!(time("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(time("0"), Ok(Duration::ZERO));
        assert!(size("-1").is_err() && size("").is_err() && size("1 potato").is_err());
        assert!(time("30").is_err() && time("-1s").is_err());
    }
}
