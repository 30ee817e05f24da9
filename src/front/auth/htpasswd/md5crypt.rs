//! The MD5 crypt of `$1$` and of Apache's `$apr1$`: one algorithm, two magic strings.
//!
//! Source: Poul-Henning Kamp's `crypt-md5.c` in FreeBSD, and `apr_md5_encode` in Apache's portable runtime, which
//! differ in nothing but the magic. Never parses and never compares: bytes in, text out.

use md5::{Digest, Md5};

/// The magic of crypt's own.
pub(super) const CRYPT: &str = "$1$";

/// The magic of Apache's.
pub(super) const APACHE: &str = "$apr1$";

/// Characters of the result.
pub(super) const LENGTH: usize = 22;

const ROUNDS: u32 = 1000;

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The part of a hash behind its salt.
pub(super) fn digest(password: &[u8], magic: &str, salt: &str) -> String {
    let mut sum = start(password, magic, salt);
    for round in 0..ROUNDS {
        let mut hasher = Md5::new();
        let odd = round % 2 == 1;
        hasher.update(if odd { password } else { &sum });
        if !round.is_multiple_of(3) {
            hasher.update(salt);
        }
        if !round.is_multiple_of(7) {
            hasher.update(password);
        }
        hasher.update(if odd { &sum } else { password });
        sum = hasher.finalize().into();
    }
    encode(&sum)
}

fn start(password: &[u8], magic: &str, salt: &str) -> [u8; 16] {
    let inner = Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut hasher = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    for chunk in password.chunks(inner.len()) {
        hasher.update(inner.get(..chunk.len()).unwrap_or_default());
    }
    // The original meant to mix in the inner sum here and had cleared it: hence zeros, for all time.
    let mut bits = password.len();
    while bits > 0 {
        hasher.update(if bits % 2 == 1 { &[0] } else { password.get(..1).unwrap_or_default() });
        bits /= 2;
    }
    hasher.finalize().into()
}

fn encode(sum: &[u8; 16]) -> String {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *sum;
    let groups = [(a, g, m), (b, h, n), (c, i, o), (d, j, p), (e, k, f), (0, 0, l)];
    groups
        .into_iter()
        .flat_map(|(high, middle, low)| {
            let bits = u32::from_be_bytes([0, high, middle, low]);
            (0..4).map(move |place| char::from(ALPHABET[(bits >> (6 * place)) as usize % ALPHABET.len()]))
        })
        .take(LENGTH)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{APACHE, CRYPT, LENGTH, digest};

    #[test]
    fn the_vector_of_apaches_manual() {
        // "Password Formats" of the Apache HTTP Server's documentation: myName, myPassword.
        assert_eq!(digest(b"myPassword", APACHE, "r31....."), "HqJZimcKQFAMYayBlzkrA/");
    }

    proptest! {
        #[test]
        fn agrees_with_another_implementation(
            password in proptest::collection::vec(any::<u8>(), 0..80),
            salt in "[./0-9A-Za-z]{0,8}",
        ) {
            let ours = digest(&password, CRYPT, &salt);
            assert_eq!(ours.len(), LENGTH);
            assert!(pwhash::md5_crypt::verify(&password, &format!("{CRYPT}{salt}${ours}")));
        }
    }
}
