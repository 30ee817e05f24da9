//! CRC-64/NVME, S3's full-object checksum, as both stores keep it: base64 of eight big-endian bytes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::{CrcAlgorithm, Digest};

/// The checksum of a whole object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crc(u64);

impl Crc {
    /// Of bytes at hand.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes))
    }

    /// Reads the base64 form; `None` where it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        Some(Self(u64::from_be_bytes(bytes.try_into().ok()?)))
    }

    /// The number itself.
    pub(super) const fn value(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Crc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0.to_be_bytes()))
    }
}

/// A checksum in the making.
pub(super) struct Running(Digest);

impl Running {
    /// Of nothing yet.
    pub(super) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc64Nvme))
    }

    /// Adds bytes.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all bytes so far.
    pub(super) fn finish(&self) -> Crc {
        Crc(self.0.finalize())
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Running({})", self.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_value_and_form() {
        // The check value of CRC-64/NVME in the catalogue of parametrised CRC algorithms.
        let crc = Crc::of(b"123456789");
        assert_eq!(crc.value(), 0xae8b_1486_0a79_9888);
        assert_eq!(Crc::parse(&crc.to_string()), Some(crc));
        let mut running = Running::new();
        running.update(b"1234");
        running.update(b"56789");
        assert_eq!(running.finish(), crc);
        assert_eq!(Crc::parse("AAAA"), None);
    }
}
