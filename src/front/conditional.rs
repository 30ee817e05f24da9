//! What request headers want of an object and declare of a body, and the head of the answer: conditionals, ranges,
//! validators and digests, as RFC 9110 and RFC 9530 have them.
//!
//! Headers to values, values to headers: never touches a body or a store.
//!
//! What is *ignored*, each as RFC 9110 allows: `If-Modified-Since` (a validator of a second's grain; the answer is then
//! the whole object, never a stale one), several ranges at once, unknown range units and malformed ranges.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use headers::{AcceptRanges, ContentLength, HeaderMapExt as _, LastModified};
use http::header::{CONTENT_RANGE, ETAG, IF_MATCH, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::domain::digest::{Algorithm, DeclareError, Declared};
use crate::payload::{Body, ByteRange, Meta, Object, Want};

/// Most validators of one `If-None-Match` that are looked at.
const MAX_TAGS: usize = 64;

/// The first second of the year 10000, which HTTP's dates cannot say.
const YEAR_10000: Duration = Duration::from_secs(253_402_300_800);

/// Digests are plain base64; the `=` at the end may be missing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a header cannot be honoured. Each prints as one line that a client may see: it is the client's to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderError {
    /// A digest field that does not parse.
    #[error("the header {0} is malformed")]
    Malformed(&'static str),
    /// A precondition that may not be ignored and that no store can keep.
    #[error("the header {0} is not supported here")]
    Unsupported(&'static str),
    /// A digest of the wrong length, or two that disagree.
    #[error(transparent)]
    Digest(#[from] DeclareError),
}

/// What a GET or HEAD wants. Cannot fail: what is malformed counts as not sent, which asks for more, never for less.
///
/// A range counts on GET only (RFC 9110 §14.2). With an `If-Range` that can never be shown to hold (a weak validator, a
/// date: two versions may share a second) the range is dropped, and the whole object is the answer.
pub(super) fn want(method: &Method, headers: &HeaderMap) -> Want {
    let mut want = Want::default();
    let mut conditions = headers.get_all(IF_NONE_MATCH).iter().peekable();
    if conditions.peek().is_some_and(|value| value.as_bytes().trim_ascii() == b"*") {
        want.unless_any = true;
    } else {
        conditions.for_each(|value| tags(value.as_bytes(), &mut want.unless));
    }
    if *method == Method::GET {
        want.range = range(headers);
    }
    if want.range.is_some()
        && let Some(value) = headers.get(IF_RANGE)
    {
        want.range_if = strong(value.as_bytes());
        want.range = want.range.filter(|_| want.range_if.is_some());
    }
    want
}

/// Splits one entity tag off: `W/"opaque"`, weak or not.
fn tag(text: &[u8]) -> Option<(bool, &str, &[u8])> {
    let quoted = text.strip_prefix(b"W/").unwrap_or(text);
    let inner = quoted.strip_prefix(b"\"")?;
    let end = inner.iter().position(|b| *b == b'"')?;
    let (opaque, rest) = inner.split_at_checked(end)?;
    Some((quoted.len() < text.len(), std::str::from_utf8(opaque).ok()?, rest.get(1..)?))
}

/// The opaque parts of a list of entity tags, up to the first that is none. Weak ones too: `If-None-Match` compares
/// weakly (RFC 9110 §13.1.2).
fn tags(mut text: &[u8], found: &mut Vec<String>) {
    loop {
        let skip = text.iter().take_while(|b| matches!(b, b' ' | b'\t' | b',')).count();
        text = text.get(skip..).unwrap_or_default();
        match tag(text) {
            Some((_, opaque, rest)) if found.len() < MAX_TAGS => {
                found.push(opaque.to_owned());
                text = rest;
            }
            Some(_) | None => return,
        }
    }
}

/// The one strong entity tag that a value is.
fn strong(value: &[u8]) -> Option<String> {
    match tag(value.trim_ascii()) {
        Some((false, opaque, [])) => Some(opaque.to_owned()),
        Some(_) | None => None,
    }
}

/// The one byte range that is asked for; `None` where there is none, several, or something else (RFC 9110 §14.1.2).
fn range(headers: &HeaderMap) -> Option<ByteRange> {
    let mut values = headers.get_all(RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (unit, set) = value.to_str().ok()?.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    match (first, last) {
        ("", last) => Some(ByteRange::Suffix(offset(last)?)),
        (first, "") => Some(ByteRange::From(offset(first)?)),
        (first, last) => {
            let (first, last) = (offset(first)?, offset(last)?);
            (first <= last).then_some(ByteRange::Between(first, last))
        }
    }
}

/// Digits only. Offsets beyond 64 bits are beyond any object, not malformed.
fn offset(digits: &str) -> Option<u64> {
    let good = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    good.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Whether a write may only create (`If-None-Match: *`; where something is there already the answer is 412).
///
/// # Errors
/// Every other precondition of a write: to ignore it would overwrite what the client wanted kept.
pub(super) fn create_only(headers: &HeaderMap) -> Result<bool, HeaderError> {
    if headers.contains_key(IF_MATCH) {
        return Err(HeaderError::Unsupported("If-Match"));
    }
    if headers.contains_key(IF_UNMODIFIED_SINCE) {
        return Err(HeaderError::Unsupported("If-Unmodified-Since"));
    }
    let mut conditions = headers.get_all(IF_NONE_MATCH).iter();
    match (conditions.next(), conditions.next()) {
        (None, _) => Ok(false),
        (Some(value), None) if value.as_bytes().trim_ascii() == b"*" => Ok(true),
        (Some(_), _) => Err(HeaderError::Unsupported("If-None-Match other than *")),
    }
}

/// An opaque validator as `ETag`; `None` where it cannot be said in a header.
pub(super) fn etag(opaque: &str) -> Option<HeaderValue> {
    if opaque.bytes().any(|b| b == b'"' || b == b' ' || b == b'\t') {
        return None;
    }
    let mut quoted = Vec::with_capacity(opaque.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(opaque.as_bytes());
    quoted.push(b'"');
    HeaderValue::try_from(quoted).ok()
}

/// `ETag` and `Last-Modified`, in a map with room for a handler's own.
fn validators(meta: &Meta) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    if let Some(value) = etag(&meta.etag) {
        headers.insert(ETAG, value);
    }
    // HTTP's dates say neither what was before 1970 nor after 9999.
    if meta.modified.duration_since(UNIX_EPOCH).is_ok_and(|age| age < YEAR_10000) {
        headers.typed_insert(LastModified::from(meta.modified));
    }
    headers
}

fn content_range(text: String) -> Option<HeaderValue> {
    HeaderValue::try_from(text).ok()
}

fn whole(meta: &Meta) -> (StatusCode, HeaderMap) {
    let mut headers = validators(meta);
    headers.typed_insert(AcceptRanges::bytes());
    headers.typed_insert(ContentLength(meta.size));
    (StatusCode::OK, headers)
}

/// The head of the answer to a GET that found its object: 200, 206, 304 or 416, all but `Content-Type`.
///
/// Without `Content-Length` on 304 (there is no body) and on 416 (its body is the caller's).
pub(super) fn head(object: &Object) -> (StatusCode, HeaderMap) {
    let (meta, size) = (&object.meta, object.meta.size);
    match &object.body {
        Body::Whole(_) => whole(meta),
        Body::Unchanged => (StatusCode::NOT_MODIFIED, validators(meta)),
        Body::Part { first, last, .. } => {
            let (_, mut headers) = whole(meta);
            headers.typed_insert(ContentLength(last.saturating_sub(*first).saturating_add(1)));
            if let Some(value) = content_range(format!("bytes {first}-{last}/{size}")) {
                headers.insert(CONTENT_RANGE, value);
            }
            (StatusCode::PARTIAL_CONTENT, headers)
        }
        Body::Unsatisfiable => {
            let mut headers = HeaderMap::with_capacity(4);
            headers.typed_insert(AcceptRanges::bytes());
            if let Some(value) = content_range(format!("bytes */{size}")) {
                headers.insert(CONTENT_RANGE, value);
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, headers)
        }
    }
}

/// The head of the answer to a HEAD that found its object: 200 or 304, all but `Content-Type`.
pub(super) fn head_of(meta: &Meta, want: &Want) -> (StatusCode, HeaderMap) {
    if want.has(&meta.etag) { (StatusCode::NOT_MODIFIED, validators(meta)) } else { whole(meta) }
}

/// The digests that a request declares of its body: `Content-MD5` (RFC 1864), `Content-Digest` and `Repr-Digest` (RFC
/// 9530; bodies are stored as they come, so both are of the same bytes), `x-amz-checksum-sha256`.
///
/// # Errors
/// A malformed field, a digest of the wrong length, two that disagree. Unknown algorithms are ignored.
pub(super) fn declared(headers: &HeaderMap) -> Result<Declared, HeaderError> {
    let mut declared = Declared::default();
    for (name, shown, algorithm) in [
        ("content-md5", "Content-MD5", Algorithm::Md5),
        ("x-amz-checksum-sha256", "x-amz-checksum-sha256", Algorithm::Sha256),
    ] {
        for value in headers.get_all(name) {
            let digest =
                BASE64.decode(value.as_bytes().trim_ascii()).map_err(|_| HeaderError::Malformed(shown))?;
            declared.declare(algorithm, &digest)?;
        }
    }
    for (name, shown) in [("content-digest", "Content-Digest"), ("repr-digest", "Repr-Digest")] {
        for value in headers.get_all(name) {
            let text = value.to_str().map_err(|_| HeaderError::Malformed(shown))?;
            dictionary(text, &mut declared).ok_or(HeaderError::Malformed(shown))??;
        }
    }
    Ok(declared)
}

/// Reads one line of a structured dictionary (RFC 9651 §3.2) of byte sequences; `None` where it is malformed. A member
/// never goes over several lines, so each line stands for itself.
fn dictionary(text: &str, declared: &mut Declared) -> Option<Result<(), DeclareError>> {
    let mut rest = text.trim_matches([' ', '\t']);
    while !rest.is_empty() {
        let end = rest.find(['=', ',', ';', ' ', '\t']).unwrap_or(rest.len());
        let (key, after) = rest.split_at_checked(end)?;
        if !key.starts_with(|c: char| c.is_ascii_lowercase() || c == '*') {
            return None;
        }
        let known = match key {
            "md5" => Some(Algorithm::Md5),
            "sha-256" => Some(Algorithm::Sha256),
            "sha-512" => Some(Algorithm::Sha512),
            _ => None,
        };
        rest = match known {
            Some(algorithm) => {
                let (digest, after) = after.strip_prefix("=:")?.split_once(':')?;
                let digest = BASE64.decode(digest).ok()?;
                // Only parameters may stand between a value and the next comma.
                if !after.trim_start().is_empty() && !after.trim_start().starts_with([',', ';']) {
                    return None;
                }
                if let Err(error) = declared.declare(algorithm, &digest) {
                    return Some(Err(error));
                }
                after
            }
            None => after,
        };
        rest = next_member(rest)?;
    }
    Some(Ok(()))
}

/// Skips what is left of a member, parameters and all, to the next one. Commas within quotes or brackets do not divide.
fn next_member(text: &str) -> Option<&str> {
    let (mut quoted, mut escaped, mut nested) = (false, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' if nested => return None,
            '(' => nested = true,
            ')' if !nested => return None,
            ')' => nested = false,
            ',' if !nested => {
                let next = text.get(at + 1..)?.trim_start_matches([' ', '\t']);
                // A comma with nothing behind it is malformed.
                return (!next.is_empty()).then_some(next);
            }
            _ => {}
        }
    }
    (!quoted && !nested).then_some("")
}

#[cfg(test)]
mod tests {
    use super::{
        Algorithm, Body, ByteRange, DeclareError, Declared, HeaderError, HeaderMap, HeaderValue, Meta,
        Method, Object, StatusCode, UNIX_EPOCH, Want, create_only, declared, etag, head, head_of, want,
    };
    use crate::payload::Content;
    use bytes::Bytes;
    use http::HeaderName;
    use proptest::prelude::*;
    use std::time::Duration;

    const SHA: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    const EMPTY_MD5: &str = "1B2M2Y8AsgTpgAmY7PhCfg==";

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    }

    fn get(lines: &[(&str, &str)]) -> Want {
        want(&Method::GET, &headers(lines))
    }

    #[test]
    fn known_validators() {
        for (value, unless, any) in [
            ("\"a\"", vec!["a"], false),
            ("W/\"a\"", vec!["a"], false),
            ("\"a\", W/\"b,c\" ,,\"d\"", vec!["a", "b,c", "d"], false),
            ("*", vec![], true),
            (" * ", vec![], true),
            ("a", vec![], false),
            ("\"a", vec![], false),
            ("", vec![], false),
            ("\"a\", b, \"c\"", vec!["a"], false),
            ("w/\"a\"", vec![], false),
            ("\"\"", vec![""], false),
        ] {
            let want = get(&[("if-none-match", value)]);
            assert_eq!(
                (want.unless, want.unless_any),
                (unless.into_iter().map(str::to_owned).collect(), any),
                "{value:?}"
            );
        }
        assert_eq!(get(&[("if-none-match", "\"a\""), ("if-none-match", "\"b\"")]).unless, ["a", "b"]);
        assert_eq!(get(&[]), Want::default());
        assert_eq!(get(&[("if-none-match", &"\"a\",".repeat(100))]).unless.len(), 64);
    }

    #[test]
    fn ranges() {
        for (value, expected) in [
            ("bytes=0-9", Some(ByteRange::Between(0, 9))),
            ("bytes=5-", Some(ByteRange::From(5))),
            ("bytes=-7", Some(ByteRange::Suffix(7))),
            ("bytes=-0", Some(ByteRange::Suffix(0))),
            ("Bytes= 0-0 ", Some(ByteRange::Between(0, 0))),
            ("bytes=9-0", None),
            ("bytes=0-1,3-4", None),
            ("bytes=-", None),
            ("bytes=", None),
            ("bytes", None),
            ("lines=0-1", None),
            ("bytes=+1-2", None),
            ("bytes=a-b", None),
            ("bytes=1-2-3", None),
            ("bytes=--1", None),
            ("", None),
            ("bytes=1 -2", None),
            ("bytes=99999999999999999999-", Some(ByteRange::From(u64::MAX))),
        ] {
            assert_eq!(get(&[("range", value)]).range, expected, "{value:?}");
            assert_eq!(
                want(&Method::HEAD, &headers(&[("range", value)])).range,
                None,
                "a HEAD has no ranges"
            );
        }
        assert_eq!(get(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]).range, None);
    }

    #[test]
    fn if_range_is_strong_or_the_whole() {
        for (value, held) in [
            ("\"a\"", Some("a")),
            (" \"a\" ", Some("a")),
            ("W/\"a\"", None),
            ("\"a\", \"b\"", None),
            ("a", None),
            ("Sat, 29 Oct 1994 19:43:31 GMT", None),
            ("*", None),
        ] {
            let want = get(&[("range", "bytes=0-1"), ("if-range", value)]);
            assert_eq!((want.range_if.as_deref(), want.range.is_some()), (held, held.is_some()), "{value:?}");
        }
        assert_eq!(get(&[("if-range", "\"a\"")]), Want::default());
    }

    #[test]
    fn writes_create_or_replace_and_nothing_else() {
        for (lines, expected) in [
            (vec![], Ok(false)),
            (vec![("if-none-match", "*")], Ok(true)),
            (vec![("if-none-match", "\"a\"")], Err(HeaderError::Unsupported("If-None-Match other than *"))),
            (
                vec![("if-none-match", "*"), ("if-none-match", "*")],
                Err(HeaderError::Unsupported("If-None-Match other than *")),
            ),
            (vec![("if-match", "*")], Err(HeaderError::Unsupported("If-Match"))),
            (vec![("if-unmodified-since", "x")], Err(HeaderError::Unsupported("If-Unmodified-Since"))),
        ] {
            assert_eq!(create_only(&headers(&lines)), expected, "{lines:?}");
        }
    }

    fn meta(size: u64) -> Meta {
        Meta {
            size,
            etag: "e-1".to_owned(),
            modified: UNIX_EPOCH + Duration::from_secs(784_111_777),
            mark: None,
        }
    }

    fn shown(answer: &(StatusCode, HeaderMap)) -> String {
        let mut lines: Vec<_> =
            answer.1.iter().map(|(name, v)| format!("{name}: {}", v.to_str().unwrap())).collect();
        lines.sort();
        format!("{} {}", answer.0.as_u16(), lines.join(" | "))
    }

    #[test]
    fn heads_of_answers() {
        let of = |body| shown(&head(&Object { meta: meta(100), body }));
        let nothing = || Content::Bytes(Bytes::new());
        let (tag, time) = ("etag: \"e-1\"", "last-modified: Sun, 06 Nov 1994 08:49:37 GMT");
        let whole = format!("200 accept-ranges: bytes | content-length: 100 | {tag} | {time}");
        assert_eq!(of(Body::Whole(nothing())), whole);
        assert_eq!(
            of(Body::Part { first: 10, last: 19, content: nothing() }),
            format!(
                "206 accept-ranges: bytes | content-length: 10 | content-range: bytes 10-19/100 | {tag} | {time}"
            )
        );
        assert_eq!(of(Body::Unchanged), format!("304 {tag} | {time}"));
        assert_eq!(of(Body::Unsatisfiable), "416 accept-ranges: bytes | content-range: bytes */100");
        assert_eq!(shown(&head_of(&meta(100), &Want::default())), whole);
        let known = get(&[("if-none-match", "W/\"e-1\"")]);
        assert_eq!(shown(&head_of(&meta(100), &known)), format!("304 {tag} | {time}"));
    }

    #[test]
    fn what_http_cannot_say_is_left_out() {
        for secs in [253_402_300_800, 1 << 40] {
            let odd = Meta {
                size: 0,
                etag: "a\"b".to_owned(),
                modified: UNIX_EPOCH + Duration::from_secs(secs),
                mark: None,
            };
            assert_eq!(
                shown(&head_of(&odd, &Want::default())),
                "200 accept-ranges: bytes | content-length: 0"
            );
        }
        let old = Meta {
            size: 0,
            etag: "a b".to_owned(),
            modified: UNIX_EPOCH - Duration::from_secs(1),
            mark: None,
        };
        assert_eq!(shown(&head_of(&old, &Want::default())), "200 accept-ranges: bytes | content-length: 0");
        assert_eq!(etag("a\n"), None);
    }

    fn sums(list: &[(Algorithm, &str)]) -> Declared {
        let mut declared = Declared::default();
        for (algorithm, text) in list {
            declared.declare(*algorithm, &base64::Engine::decode(&super::BASE64, text).unwrap()).unwrap();
        }
        declared
    }

    #[test]
    fn digests_are_found() {
        let sha = sums(&[(Algorithm::Sha256, SHA)]);
        let (plain, bare) = (format!("sha-256=:{SHA}:"), format!("sha-256=:{}:", SHA.trim_end_matches('=')));
        let crowd =
            format!("crc32c=:AAAA: , x=\"a,\\\",b\";p=1, y=(1 \"),\" 2), z, *q=?1,  {plain};v=\"1,2\" ");
        let both = format!("{plain}, md5=:{EMPTY_MD5}:");
        for (lines, expected) in [
            (vec![], Declared::default()),
            (vec![("content-digest", plain.as_str())], sha.clone()),
            (vec![("repr-digest", bare.as_str())], sha.clone()),
            (vec![("content-digest", crowd.as_str())], sha.clone()),
            (vec![("x-amz-checksum-sha256", SHA), ("repr-digest", &plain)], sha.clone()),
            (vec![("content-digest", "unixsum=:AAAA:"), ("content-digest", &plain)], sha.clone()),
            (vec![("content-md5", EMPTY_MD5)], sums(&[(Algorithm::Md5, EMPTY_MD5)])),
            (vec![("content-digest", &both)], sums(&[(Algorithm::Sha256, SHA), (Algorithm::Md5, EMPTY_MD5)])),
            (vec![("content-digest", "")], Declared::default()),
        ] {
            assert_eq!(declared(&headers(&lines)), Ok(expected), "{lines:?}");
        }
    }

    #[test]
    fn bad_digests_say_why() {
        let other = SHA.replace('4', "5");
        let (plain, two) = (format!("sha-256=:{SHA}:"), format!("sha-256=:{SHA}:, sha-256=:{other}:"));
        let content = HeaderError::Malformed("Content-Digest");
        for (lines, why) in [
            (vec![("content-md5", "x")], HeaderError::Malformed("Content-MD5")),
            (vec![("content-md5", SHA)], DeclareError::Length(Algorithm::Md5).into()),
            (vec![("x-amz-checksum-sha256", "abc-2")], HeaderError::Malformed("x-amz-checksum-sha256")),
            (vec![("repr-digest", "sha-256=abc")], HeaderError::Malformed("Repr-Digest")),
            (vec![("content-digest", "sha-256")], content),
            (vec![("content-digest", "sha-256=:a b:")], content),
            (vec![("content-digest", "sha-256=:AAAA")], content),
            (vec![("content-digest", "x=\"")], content),
            (vec![("content-digest", "x=(")], content),
            (vec![("content-digest", "a,")], content),
            (vec![("content-digest", ",a")], content),
            (vec![("content-digest", "SHA-256=:AAAA:")], content),
            (vec![("content-digest", "sha-512=:AAAA:x")], content),
            (vec![("content-digest", "\u{fc}")], content),
            (vec![("content-digest", "sha-512=:AAAA:")], DeclareError::Length(Algorithm::Sha512).into()),
            (vec![("content-digest", &two)], DeclareError::Disagree(Algorithm::Sha256).into()),
            (
                vec![("x-amz-checksum-sha256", &other), ("repr-digest", &plain)],
                DeclareError::Disagree(Algorithm::Sha256).into(),
            ),
        ] {
            assert_eq!(declared(&headers(&lines)), Err(why), "{lines:?}");
            assert!(!why.to_string().contains('\n'));
        }
    }

    proptest! {
        #[test]
        fn no_value_panics(
            name in prop_oneof![Just("if-none-match"), Just("range"), Just("if-range"), Just("content-digest"),
                Just("repr-digest"), Just("content-md5"), Just("x-amz-checksum-sha256")],
            value in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                "(sha-256|md5|=:|:|,|;|\"|\\(|\\)|\\\\|AAAA| |bytes=|-|9|W/|\\*){0,12}".prop_map(String::into_bytes),
            ],
        ) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let mut map = headers(&[("range", "bytes=0-1")]);
                map.insert(name, value);
                let want = want(&Method::GET, &map);
                prop_assert!(want.range_if.is_none() || want.range.is_some());
                prop_assert!(declared(&map).is_ok() || name.contains("digest") || name.contains("content") || name.contains("amz"));
                prop_assert!(create_only(&map).is_ok() || name == "if-none-match");
            }
        }

        /// What an answer calls its object is what a request for the same finds unchanged, or a range of.
        #[test]
        fn validators_round_trip(opaque in "[!#-~\u{e4}]{0,20}", size in 0u64..99, first in 0u64..99, last in 0u64..99) {
            let value = etag(&opaque).unwrap();
            let mut map = headers(&[("range", &format!("bytes={first}-{last}"))]);
            map.insert("if-none-match", value.clone());
            map.insert("if-range", value);
            let want = want(&Method::GET, &map);
            prop_assert!(want.has(&opaque) && !want.unless_any);
            let slice = (first <= last && first < size).then(|| (first, last.min(size - 1)));
            prop_assert_eq!(want.range_of(&opaque).and_then(|range| range.resolve(size)), slice);
        }
    }
}
