//! Request paths: split at the slashes first, decoded a segment at a time, and refused where they are not plain.
//!
//! Never cleans a path: what is odd is an error, so no two spellings reach the same object by accident.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::domain::artifact::{KeyError, check_segment};

/// Most bytes of a raw path: three for each byte of the longest key, and room for the route.
const MAX_RAW: usize = 4096;

/// Why a path is refused. Each prints as one line that a client may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    /// `%` without two hex digits behind it.
    #[error("the path holds a bad percent escape")]
    Escape,
    /// `%2f`: a slash that does not divide.
    #[error("a path segment holds an escaped slash")]
    Slash,
    /// The bytes are not UTF-8.
    #[error("a path segment is not UTF-8")]
    Encoding,
    /// Empty, dots, control characters, too long.
    #[error(transparent)]
    Segment(#[from] KeyError),
}

/// The decoded segments of a raw path as it came in the request line (`/a/b`; the first slash may be missing). `/`
/// has none. `+` is a plus.
///
/// # Errors
/// A slash at the end is an empty segment and refused like any other, on reads too: `x/` is not a second name of `x`.
pub(super) fn segments(raw: &str) -> Result<Vec<Cow<'_, str>>, PathError> {
    if raw.len() > MAX_RAW {
        return Err(KeyError::Long.into());
    }
    match raw.strip_prefix('/').unwrap_or(raw) {
        "" => Ok(Vec::new()),
        path => path.split('/').map(segment).collect(),
    }
}

/// One raw segment, decoded and checked.
///
/// # Errors
/// As [`segments`].
pub(super) fn segment(raw: &str) -> Result<Cow<'_, str>, PathError> {
    // The decoder passes bad escapes through: they are looked for here.
    let mut escapes = raw.split('%').skip(1);
    if !escapes.all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit())) {
        return Err(PathError::Escape);
    }
    let decoded = percent_decode_str(raw).decode_utf8().map_err(|_| PathError::Encoding)?;
    if decoded.contains('/') {
        return Err(PathError::Slash);
    }
    check_segment(&decoded)?;
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::{KeyError, PathError, segments};
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    #[test]
    fn plain_paths() {
        for (raw, expected) in [
            ("/", vec![]),
            ("", vec![]),
            ("/ping", vec!["ping"]),
            ("/a/b%20c/d+e", vec!["a", "b c", "d+e"]),
            ("/%C3%BC%c3%bc/\u{fc}", vec!["üü", "ü"]),
            ("/a%23b/%3F%2A%25", vec!["a#b", "?*%"]),
            ("/...", vec!["..."]),
        ] {
            assert_eq!(segments(raw).unwrap(), expected, "{raw:?}");
        }
    }

    #[test]
    fn odd_paths_say_why() {
        let (long, longer) = (format!("/{}", "x".repeat(256)), "/x".repeat(3000));
        for (raw, why) in [
            ("/a/%zz", PathError::Escape),
            ("/a/%4", PathError::Escape),
            ("/a/%", PathError::Escape),
            ("/%%41", PathError::Escape),
            ("/a%2fb", PathError::Slash),
            ("/a%2Fb", PathError::Slash),
            ("/a%00b", KeyError::Character.into()),
            ("/a%0ab", KeyError::Character.into()),
            ("/a%7fb", KeyError::Character.into()),
            ("/a%c2%85b", KeyError::Character.into()),
            ("/a\\b", KeyError::Character.into()),
            ("/a%5cb", KeyError::Character.into()),
            ("/../x", KeyError::Dots.into()),
            ("/%2e%2E/x", KeyError::Dots.into()),
            ("/a/.%2e", KeyError::Dots.into()),
            ("/a/%2e", KeyError::Dots.into()),
            ("//a", KeyError::Empty.into()),
            ("/a//b", KeyError::Empty.into()),
            ("/a/", KeyError::Empty.into()),
            ("/%ff", PathError::Encoding),
            ("/%c3", PathError::Encoding),
            ("/%c0%af", PathError::Encoding),
            (long.as_str(), KeyError::LongSegment.into()),
            (longer.as_str(), KeyError::Long.into()),
            ("/%+1", PathError::Escape),
            ("/%\u{fc}", PathError::Escape),
        ] {
            assert_eq!(segments(raw), Err(why), "{raw:?}");
        }
    }

    proptest! {
        #[test]
        fn encoded_segments_come_back(names in proptest::collection::vec("[^/\\\\\\p{Cc}]{1,20}", 0..6)) {
            prop_assume!(names.iter().all(|name| name != "." && name != ".."));
            let raw: String = names.iter().map(|n| format!("/{}", utf8_percent_encode(n, NON_ALPHANUMERIC))).collect();
            prop_assert_eq!(segments(&raw).unwrap(), names);
        }

        #[test]
        fn no_input_panics(raw in any::<String>()) {
            if let Ok(all) = segments(&raw) {
                prop_assert!(all.iter().all(|s| !s.is_empty() && !s.contains(['/', '\\', '\0']) && s != ".."));
                prop_assert_eq!(all.len(), raw.matches('/').count() + usize::from(!raw.starts_with('/') && !raw.is_empty())
                    - usize::from(raw == "/"));
            }
        }

        #[test]
        fn escapes_never_panic(raw in "(/|%|%2|%2e|%2f|%c3|%bc|%00|[a-z.]){0,12}") {
            prop_assert!(segments(&raw).is_ok() || !raw.is_empty());
        }
    }
}
