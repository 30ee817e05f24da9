//! One password hash: read once, with all that could hang or panic refused there, then compared in constant time.
//!
//! Kinds, as Apache's htpasswd and crypt(3) write them: bcrypt, `$apr1$`, `{SHA}`, crypt's `$1$`, `$5$`, `$6$` and
//! traditional DES. Never plain text, and never shows a hash or a password, not even in [`Debug`](fmt::Debug).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;

use super::md5crypt;

/// Longest password that can match, in bytes: what libxcrypt takes. The work of `$5$` and `$6$` grows with its square.
pub const MAX_PASSWORD: usize = 512;

/// Least and greatest cost of bcrypt, as exponents of two. 17 is some seconds of a core already.
const BCRYPT_COSTS: std::ops::RangeInclusive<u32> = 4..=17;

/// Characters of bcrypt's digest, the end of its hash.
const BCRYPT_DIGEST: usize = 31;

/// Least and greatest rounds of `$5$` and `$6$`. The least is the algorithm's own.
const ROUNDS: std::ops::RangeInclusive<u32> = 1000..=1_000_000;

/// Rounds where a hash does not name them.
const DEFAULT_ROUNDS: u32 = 5000;

/// Up to so many µs of work are done where they are asked for, without another thread.
const CHEAP: u64 = 20;

/// A hash of a known kind, within the limits of what may be asked of a server.
///
/// What its kind ignores is ignored: bcrypt looks at the first 72 bytes of a password, DES at the first eight bytes and
/// seven bits of each, as in every implementation of them.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    text: Box<str>,
    kind: Kind,
}

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Bcrypt { cost: u32 },
    Md5 { magic: &'static str, salt: Box<str> },
    Sha1([u8; 20]),
    Sha256 { rounds: u32 },
    Sha512 { rounds: u32 },
    Des,
}

/// Why a text is no hash that Larder verifies. Never says what the text was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Plain text, or a kind that is not known.
    #[error(
        "unknown kind of hash; known are bcrypt ($2a$, $2b$, $2y$), $apr1$, {{SHA}}, and crypt's $1$, $5$, $6$ and \
         traditional DES"
    )]
    Unknown,
    /// It begins like one of this kind.
    #[error("malformed {0} hash")]
    Malformed(&'static str),
    /// Checking it would take too long.
    #[error("too costly {kind} hash; the {what} may be {most} at most")]
    Costly {
        /// The kind.
        kind: &'static str,
        /// What of it is too great.
        what: &'static str,
        /// The limit.
        most: u32,
    },
}

impl PasswordHash {
    /// Whether this is the hash of that password.
    ///
    /// Blocks for the time that the hash was made to cost. A password over [`MAX_PASSWORD`] bytes, or with a NUL in
    /// it, matches nothing: C's crypt(3) would have stopped at the NUL, and bcrypt takes `a` and `a\0a` for the same.
    pub fn verify(&self, password: &[u8]) -> bool {
        if password.len() > MAX_PASSWORD || password.contains(&0) {
            return false;
        }
        let text = &*self.text;
        match &self.kind {
            // Only the digest: the salt before it has unused bits, which some tools set.
            Kind::Bcrypt { .. } => pwhash::bcrypt::hash_with(text, password)
                .is_ok_and(|computed| same_end(text, &computed, BCRYPT_DIGEST)),
            Kind::Md5 { magic, salt } => {
                same_end(text, &md5crypt::digest(password, magic, salt), md5crypt::LENGTH)
            }
            Kind::Sha1(digest) => Sha1::digest(password).as_slice().ct_eq(digest).into(),
            Kind::Sha256 { .. } => pwhash::sha256_crypt::verify(password, text),
            Kind::Sha512 { .. } => pwhash::sha512_crypt::verify(password, text),
            Kind::Des => pwhash::unix_crypt::verify(password, text),
        }
    }

    /// Roughly how long [`verify`](Self::verify) takes, in µs on a machine of today: to compare kinds by.
    pub fn work(&self) -> u64 {
        match self.kind {
            Kind::Bcrypt { cost } => 50 << cost,
            Kind::Md5 { .. } => 300,
            Kind::Sha1(_) => 1,
            Kind::Sha256 { rounds } | Kind::Sha512 { rounds } => u64::from(rounds),
            Kind::Des => 10,
        }
    }

    /// Whether verifying is too short to be worth another thread.
    pub fn is_cheap(&self) -> bool {
        self.work() <= CHEAP
    }

    /// The hash as it stood in the file: a secret.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHash").finish_non_exhaustive()
    }
}

impl FromStr for PasswordHash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let bcrypt = ["$2a$", "$2b$", "$2y$"].into_iter().find_map(|magic| text.strip_prefix(magic));
        let kind = if let Some(rest) = bcrypt {
            parse_bcrypt(rest)?
        } else if let Some(rest) = text.strip_prefix(md5crypt::APACHE) {
            parse_md5("$apr1$", md5crypt::APACHE, rest)?
        } else if let Some(rest) = text.strip_prefix(md5crypt::CRYPT) {
            parse_md5("$1$", md5crypt::CRYPT, rest)?
        } else if let Some(rest) = text.strip_prefix("{SHA}") {
            Kind::Sha1(parse_sha1(rest).ok_or(HashError::Malformed("{SHA}"))?)
        } else if let Some(rest) = text.strip_prefix("$5$") {
            Kind::Sha256 { rounds: parse_sha2("$5$", rest, 43)? }
        } else if let Some(rest) = text.strip_prefix("$6$") {
            Kind::Sha512 { rounds: parse_sha2("$6$", rest, 86)? }
        } else if text.len() == 13 && is_crypt64(text) {
            Kind::Des
        } else {
            return Err(HashError::Unknown);
        };
        Ok(Self { text: text.into(), kind })
    }
}

/// `12$` and 22 characters of salt and 31 of digest.
fn parse_bcrypt(rest: &str) -> Result<Kind, HashError> {
    let malformed = HashError::Malformed("bcrypt");
    let (cost, body) = rest.split_once('$').ok_or(malformed)?;
    if cost.len() != 2 || body.len() != 53 || !is_crypt64(body) {
        return Err(malformed);
    }
    let cost = parse_number(cost.strip_prefix('0').unwrap_or(cost)).ok_or(malformed)?;
    within(cost, &BCRYPT_COSTS, "bcrypt", "cost").map(|cost| Kind::Bcrypt { cost })
}

fn parse_md5(kind: &'static str, magic: &'static str, rest: &str) -> Result<Kind, HashError> {
    let salt = salt_before(rest, 8, md5crypt::LENGTH).ok_or(HashError::Malformed(kind))?;
    Ok(Kind::Md5 { magic, salt: salt.into() })
}

fn parse_sha1(rest: &str) -> Option<[u8; 20]> {
    BASE64_STANDARD.decode(rest).ok()?.try_into().ok()
}

/// Perhaps `rounds=N$`, then the salt, `$` and the digest. Returns the rounds.
fn parse_sha2(kind: &'static str, rest: &str, digest: usize) -> Result<u32, HashError> {
    let malformed = HashError::Malformed(kind);
    let (rounds, rest) = match rest.strip_prefix("rounds=") {
        None => (DEFAULT_ROUNDS, rest),
        Some(rest) => {
            let (rounds, rest) = rest.split_once('$').ok_or(malformed)?;
            let rounds = parse_number(rounds).ok_or(malformed)?;
            (within(rounds, &ROUNDS, kind, "rounds")?, rest)
        }
    };
    salt_before(rest, 16, digest).map(|_| rounds).ok_or(malformed)
}

/// The salt, where `rest` is a salt of at most so many characters, `$`, and a digest of exactly so many.
fn salt_before(rest: &str, most: usize, digest: usize) -> Option<&str> {
    let (salt, end) = rest.split_once('$')?;
    (salt.len() <= most && end.len() == digest && is_crypt64(salt) && is_crypt64(end)).then_some(salt)
}

fn within(
    number: u32,
    range: &std::ops::RangeInclusive<u32>,
    kind: &'static str,
    what: &'static str,
) -> Result<u32, HashError> {
    if number > *range.end() {
        return Err(HashError::Costly { kind, what, most: *range.end() });
    }
    if range.contains(&number) { Ok(number) } else { Err(HashError::Malformed(kind)) }
}

/// Digits only and no leading zero. One that is too large is the largest.
fn parse_number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0') && !text.is_empty();
    plain.then(|| text.parse().unwrap_or(u32::MAX))
}

fn is_crypt64(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'/'))
}

/// Whether both end in the same digest of so many characters.
fn same_end(text: &str, computed: &str, digest: usize) -> bool {
    match (last(text, digest), last(computed, digest)) {
        (Some(ours), Some(theirs)) => ours.ct_eq(theirs).into(),
        (None, _) | (_, None) => false,
    }
}

fn last(text: &str, count: usize) -> Option<&[u8]> {
    text.as_bytes().get(text.len().checked_sub(count)?..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

    use super::{HashError, PasswordHash};

    fn parse(text: &str) -> Result<PasswordHash, HashError> {
        text.parse()
    }

    /// `secret`, at bcrypt's least cost.
    const BCRYPT: &str = "$2y$04$fqYW4l4m2SOCL0DfHhAm7eEHBN/ndLrX9lrixIoTdG./g/HChtWo2";
    const DES: &str = "aZGJuE6EXrjEE";

    #[test]
    fn what_would_hang_is_refused() {
        let body = &BCRYPT[7..];
        assert_eq!(
            parse(&format!("$2b$18${body}")).unwrap_err().to_string(),
            "too costly bcrypt hash; the cost may be 17 at most"
        );
        assert!(parse(&format!("$2b$17${body}")).is_ok());
        assert!(parse(&format!("$2b$99${body}")).is_err());
        for cost in ["03", "00", "4", "+4", "004", "", "a4"] {
            assert_eq!(parse(&format!("$2b${cost}${body}")), Err(HashError::Malformed("bcrypt")), "{cost}");
        }
        let end = "a".repeat(86);
        for rounds in ["1000001", "999999999", "99999999999999999999"] {
            let most = 1_000_000;
            assert_eq!(
                parse(&format!("$6$rounds={rounds}$salt${end}")),
                Err(HashError::Costly { kind: "$6$", what: "rounds", most })
            );
        }
        for rounds in ["999", "0", "01000", "+1000", "-1", "", "1e3"] {
            assert_eq!(parse(&format!("$6$rounds={rounds}$salt${end}")), Err(HashError::Malformed("$6$")));
        }
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for unknown in
            ["", "secret", "!", "*", "x", "$2x$04$a", "$y$j9T$a$b", "$sha1$1$a$b", "{SSHA}AAAA", "$7$a"]
        {
            assert_eq!(parse(unknown), Err(HashError::Unknown), "{unknown}");
        }
        let md5 = "a".repeat(22);
        for malformed in [
            "{SHA}",
            "{SHA}AAAA",
            "{SHA}&&&&",
            "$1$",
            "$1$salt",
            "$1$salt$",
            "$apr1$salt$short",
            &format!("$1$ninechars${md5}"),
            &format!("$1$s lt${md5}"),
            &format!("$1$\u{80}${md5}"),
            &format!("$apr1$salt${md5}$"),
            "$5$salt$short",
            "$2y$04$short",
        ] {
            assert!(matches!(parse(malformed), Err(HashError::Malformed(_))), "{malformed}");
        }
    }

    #[test]
    fn a_bcrypt_salt_with_unused_bits_set_is_the_same_salt() {
        assert!(parse(BCRYPT).unwrap().verify(b"secret"));
        let mut odd = BCRYPT.to_owned();
        let last = odd.as_bytes()[28];
        odd.replace_range(28..29, &char::from(last + 1).to_string());
        assert!(parse(&odd).unwrap().verify(b"secret"), "{odd}");
    }

    #[test]
    fn nul_and_endless_passwords_match_nothing() {
        let hash = parse(DES).unwrap();
        assert!(hash.verify(b"test"));
        assert!(!hash.verify(b"test\0"), "C would have stopped there");
        assert!(!hash.verify(b"test\0more"));
        assert!(!hash.verify(&[b't'; 513]));
        assert!(parse("{SHA}2jmj7l5rSw0yVb/vlWAYkK/YBwk=").unwrap().verify(b""));
    }

    #[test]
    fn says_nothing_of_itself() {
        let shown = format!("{:?}", parse(DES).unwrap());
        assert_eq!(shown, "PasswordHash { .. }");
    }

    fn hash_like() -> impl Strategy<Value = String> {
        let magic = prop_oneof![
            Just("$1$"),
            Just("$apr1$"),
            Just("$2y$04$"),
            Just("$5$"),
            Just("$6$rounds=1000$"),
            Just("{SHA}"),
            Just("")
        ];
        let end = prop_oneof![
            "[./0-9A-Za-z]{0,9}\\$[./0-9A-Za-z]{22}",
            "[./0-9A-Za-z]{53}",
            "[./0-9A-Za-z]{13}",
            "[./0-9A-Za-z]{0,17}\\$[./0-9A-Za-z]{43}",
            "[./0-9A-Za-z]{0,17}\\$[./0-9A-Za-z]{86}",
            "\\PC{0,90}"
        ];
        (magic, end).prop_map(|(magic, end)| format!("{magic}{end}"))
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic(text in any::<String>()) {
            drop(parse(&text));
        }

        #[test]
        fn what_looks_like_a_hash_is_verified_without_panic(
            text in hash_like(), password in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            if let Ok(hash) = parse(&text) {
                assert_eq!(hash.text(), text);
                assert!(!hash.verify(&password), "a hit by chance");
            }
        }
    }
}
