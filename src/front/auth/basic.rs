//! Basic credentials, out of the value of an `Authorization` header.
//!
//! Source: RFC 7617. More is taken than it asks for: both alphabets of base64 (RFC 4648 §4 and §5), padded or not, since
//! clients send all of these. Never decides whether credentials are good, and never guesses at bytes that are not UTF-8.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::htpasswd::MAX_PASSWORD;

/// Longest user name, in bytes: what `htpasswd` takes.
pub const MAX_USER: usize = 255;

/// Longest token that can hold both, in bytes; more is not even decoded.
const MAX_TOKEN: usize = (MAX_USER + 1 + MAX_PASSWORD).div_ceil(3) * 4;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A user name and a password, as a client sent them. Neither is ever shown: tokens are sent as either.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    user: Box<str>,
    password: Box<[u8]>,
}

/// Basic, but not to be read. Each says one thing that the sender can mend, and nothing of what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not base64.
    #[error("the Basic credentials are not base64")]
    Base64,
    /// More than can be right.
    #[error("the Basic credentials are too long")]
    TooLong,
    /// No colon between user and password.
    #[error("the Basic credentials have no colon")]
    NoColon,
    /// The user name is not UTF-8.
    #[error("the user name of the Basic credentials is not UTF-8")]
    NotUtf8,
    /// RFC 7617 §2 allows none.
    #[error("the Basic credentials have a control character")]
    Control,
}

impl Credentials {
    /// Credentials that came by another way than a header.
    pub fn new(user: &str, password: &[u8]) -> Result<Self, Malformed> {
        if user.len() > MAX_USER || password.len() > MAX_PASSWORD {
            return Err(Malformed::TooLong);
        }
        if user.chars().any(char::is_control) || password.iter().any(u8::is_ascii_control) {
            return Err(Malformed::Control);
        }
        Ok(Self { user: user.into(), password: password.into() })
    }

    /// Reads the value of an `Authorization` header. `None` where it is of another scheme than Basic.
    pub fn from_header(value: &[u8]) -> Result<Option<Self>, Malformed> {
        let value = value.trim_ascii();
        let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
        let (scheme, token) = value.split_at(end);
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return Ok(None);
        }
        let pair = decode(token.trim_ascii_start())?;
        let colon = pair.iter().position(|byte| *byte == b':').ok_or(Malformed::NoColon)?;
        let (user, password) = pair.split_at(colon);
        let user = std::str::from_utf8(user).map_err(|_| Malformed::NotUtf8)?;
        Self::new(user, password.get(1..).unwrap_or_default()).map(Some)
    }

    /// Who the client says it is. May be empty.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The password's bytes, of whatever encoding the client uses. May be empty; has no ASCII control characters.
    pub fn password(&self) -> &[u8] {
        &self.password
    }
}

fn decode(token: &[u8]) -> Result<Vec<u8>, Malformed> {
    if token.len() > MAX_TOKEN {
        return Err(Malformed::TooLong);
    }
    let plain: Vec<u8> = token
        .iter()
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    BASE64.decode(plain).map_err(|_| Malformed::Base64)
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
    use proptest::prelude::{any, proptest};

    use super::{Credentials, Malformed};

    fn of(pair: &[u8]) -> Result<Option<Credentials>, Malformed> {
        Credentials::from_header(format!("Basic {}", BASE64_STANDARD.encode(pair)).as_bytes())
    }

    #[test]
    fn reads_the_rfcs_examples() {
        let aladdin = Credentials::from_header(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").unwrap().unwrap();
        assert_eq!((aladdin.user(), aladdin.password()), ("Aladdin", b"open sesame".as_slice()));
        let pound = Credentials::from_header(b"Basic dGVzdDoxMjPCow==").unwrap().unwrap();
        assert_eq!((pound.user(), pound.password()), ("test", "123£".as_bytes()));
    }

    #[test]
    fn the_first_colon_parts() {
        let both = |pair: &[u8]| {
            let credentials = of(pair).unwrap().unwrap();
            (credentials.user().to_owned(), credentials.password().to_vec())
        };
        assert_eq!(both(b"a:b:c"), ("a".to_owned(), b"b:c".to_vec()));
        assert_eq!(both(b":"), (String::new(), Vec::new()));
        assert_eq!(both(b"a:"), ("a".to_owned(), Vec::new()));
        assert_eq!(
            both(b"a:p\xe4ss"),
            ("a".to_owned(), b"p\xe4ss".to_vec()),
            "Latin-1 passwords stay as they are"
        );
    }

    #[test]
    fn other_schemes_are_not_errors() {
        for value in ["", "Bearer abc", "Basicx QTpi", "Digest username=\"a\"", "QTpi"] {
            assert_eq!(Credentials::from_header(value.as_bytes()), Ok(None), "{value}");
        }
        for value in ["basic QTpi", "BASIC  QTpi ", "bAsIc QTpi"] {
            assert!(Credentials::from_header(value.as_bytes()).unwrap().is_some(), "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        let header = |value: &[u8]| Credentials::from_header(value);
        assert_eq!(header(b"Basic"), Err(Malformed::NoColon), "nothing decodes to nothing");
        assert_eq!(header(b"Basic QTpi QTpi"), Err(Malformed::Base64));
        assert_eq!(header(b"Basic Q"), Err(Malformed::Base64));
        assert_eq!(header(b"Basic QTp=i"), Err(Malformed::Base64));
        assert_eq!(header(b"Basic \xff\xfe"), Err(Malformed::Base64));
        assert_eq!(of(b"nobody"), Err(Malformed::NoColon));
        assert_eq!(of(b"j\xfcrgen:x"), Err(Malformed::NotUtf8));
        for pair in ["a\0:b", "a:b\0", "a\n:b", "a:\x7f", "\u{85}:b"] {
            assert_eq!(of(pair.as_bytes()), Err(Malformed::Control), "{pair:?}");
        }
        assert_eq!(of(format!("{}:", "u".repeat(256)).as_bytes()), Err(Malformed::TooLong));
        assert_eq!(of(format!(":{}", "p".repeat(513)).as_bytes()), Err(Malformed::TooLong));
        assert_eq!(header(&[b"Basic ".as_slice(), &[b'A'; 1 << 20]].concat()), Err(Malformed::TooLong));
        assert!(of(format!("{}:{}", "u".repeat(255), "p".repeat(512)).as_bytes()).unwrap().is_some());
    }

    #[test]
    fn says_nothing_of_itself() {
        assert_eq!(format!("{:?}", of(b"ann:secret").unwrap().unwrap()), "Credentials { .. }");
    }

    proptest! {
        #[test]
        fn no_header_is_a_panic(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            drop(Credentials::from_header(&value));
            drop(Credentials::from_header(&[b"Basic ".as_slice(), &value].concat()));
        }

        #[test]
        fn every_way_to_write_it_is_the_same(user in "[^\\p{Cc}:]{0,20}", password in "\\P{Cc}{0,40}") {
            let pair = format!("{user}:{password}");
            for engine in [BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD] {
                let value = format!("Basic {}", engine.encode(&pair));
                let read = Credentials::from_header(value.as_bytes()).unwrap().unwrap();
                assert_eq!((read.user(), read.password()), (user.as_str(), password.as_bytes()));
            }
        }
    }
}
