//! Writing `multipart/form-data` (RFC 7578): the answer to a directory, a glob or a whole entry.
//!
//! Makes the bytes around the files, never the files' own. Reads nothing back: Larder takes no multipart here.

use std::fmt;

use bytes::Bytes;
use http::HeaderValue;

use crate::domain::artifact::ArtifactKey;

/// What follows the bytes of each part.
pub(super) const AFTER_PART: &[u8] = b"\r\n";

/// The line that divides the parts of one answer: 128 random bits, so that no file can hold it but by guessing.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Boundary([u8; 32]);

impl Boundary {
    /// A new one.
    ///
    /// # Errors
    /// Where the operating system has no randomness to give.
    pub(super) fn random() -> Result<Self, getrandom::Error> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits)?;
        Ok(Self::from_bits(bits))
    }

    fn from_bits(bits: [u8; 16]) -> Self {
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        let mut hex = [0; 32];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(bits) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        Self(hex)
    }

    /// The answer's `Content-Type`.
    pub(super) fn content_type(&self) -> HeaderValue {
        match HeaderValue::try_from(format!("multipart/form-data; boundary={self}")) {
            Ok(value) => value,
            Err(_) => unreachable!("hex digits are good in a header"),
        }
    }

    /// What precedes the bytes of a file. Its name relative to the entry is both `name` and `filename`, quoted, in raw
    /// UTF-8; `"` is escaped by a backslash (Go, Python and RFC 2183 read it back), and nothing else needs it: names
    /// hold neither backslashes nor control characters. No `Content-Length`: RFC 7578 §4.8 forbids it.
    pub(super) fn head(&self, file: &ArtifactKey) -> Bytes {
        let name = file.file().replace('"', "\\\"");
        Bytes::from(format!(
            "--{self}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        ))
    }

    /// What follows the last part.
    pub(super) fn end(&self) -> Bytes {
        Bytes::from(format!("--{self}--\r\n"))
    }
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Boundary({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::{AFTER_PART, ArtifactKey, Boundary};
    use proptest::prelude::*;

    const H20: &str = "AAECAwQFBgcICQoLDA0ODxAREhM";

    fn write(boundary: &Boundary, files: &[(ArtifactKey, Vec<u8>)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (file, bytes) in files {
            out.extend_from_slice(&boundary.head(file));
            out.extend_from_slice(bytes);
            out.extend_from_slice(AFTER_PART);
        }
        out.extend_from_slice(&boundary.end());
        out
    }

    fn find(haystack: &[u8], needle: &[u8]) -> usize {
        haystack.windows(needle.len()).position(|w| w == needle).unwrap()
    }

    /// Reads one answer by the book: the delimiter is CRLF, two dashes and the boundary.
    fn read(boundary: &str, body: &[u8]) -> Vec<(String, Vec<u8>)> {
        let (dashes, delimiter) = (format!("--{boundary}"), format!("\r\n--{boundary}"));
        let mut rest = body.strip_prefix(dashes.as_bytes()).unwrap();
        let mut parts = Vec::new();
        while let Some(part) = rest.strip_prefix(b"\r\n".as_slice()) {
            let head_end = find(part, b"\r\n\r\n");
            let head = std::str::from_utf8(&part[..head_end]).unwrap();
            let (_, quoted) = head.split_once("; filename=\"").unwrap();
            let (mut name, mut letters) = (String::new(), quoted.chars());
            loop {
                match letters.next().unwrap() {
                    '"' => break,
                    '\\' => name.push(letters.next().unwrap()),
                    other => name.push(other),
                }
            }
            assert_eq!(letters.as_str(), "\r\nContent-Type: application/octet-stream");
            let body = &part[head_end + 4..];
            let end = find(body, delimiter.as_bytes());
            parts.push((name, body[..end].to_vec()));
            rest = &body[end + delimiter.len()..];
        }
        assert_eq!(rest, b"--\r\n");
        parts
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            files in proptest::collection::vec(
                ("[^/\\\\\\p{Cc}]{1,20}(/[a-z\"; =%]{1,9}){0,2}", proptest::collection::vec(any::<u8>(), 0..40)), 0..5),
            bits in any::<[u8; 16]>(),
        ) {
            let boundary = Boundary::from_bits(bits);
            let files: Vec<(ArtifactKey, Vec<u8>)> = files.into_iter()
                .filter_map(|(name, bytes)| format!("linux_amd64/p/x/{H20}/{name}").parse().ok().map(|k| (k, bytes)))
                .collect();
            let out = write(&boundary, &files);
            let expected: Vec<_> = files.iter().map(|(k, bytes)| (k.file().to_owned(), bytes.clone())).collect();
            prop_assert_eq!(read(&boundary.to_string(), &out), expected);
        }
    }

    #[test]
    fn boundaries_are_hex_and_new() {
        let (one, two) = (Boundary::random().unwrap(), Boundary::random().unwrap());
        assert_ne!(one, two);
        let boundary = Boundary::from_bits([0x0f; 16]);
        assert_eq!(boundary.content_type(), format!("multipart/form-data; boundary={}", "0f".repeat(16)));
    }
}
