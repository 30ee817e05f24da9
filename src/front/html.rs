//! What pages for people and for installers are made of: texts that are safe in HTML, and addresses of files.
//!
//! Texts to texts. Knows no page.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What is escaped in an address: some clients take `+` for a blank.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'.').remove(b'_').remove(b'-').remove(b'!');

/// A segment of an address.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// A file's address, where `up` leads from its page to the directory above `files/`.
pub(super) fn file(sha256: &str, filename: &str, up: &str) -> String {
    format!("{up}/files/{sha256}/{}", segment(filename))
}

/// Text within an element or a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::{escape, file};
    use proptest::prelude::*;

    #[test]
    fn addresses_hold_nothing_that_a_client_could_misread() {
        assert_eq!(
            file("ab", "a-1+cu12-py3-none-any.whl", "../.."),
            "../../files/ab/a-1%2Bcu12-py3-none-any.whl"
        );
    }

    proptest! {
        #[test]
        fn nothing_breaks_out(text in any::<String>()) {
            let safe = escape(&text);
            prop_assert!(!safe.contains(['<', '>', '"', '\'']));
            prop_assert_eq!(safe.len() >= text.len(), true);
        }
    }
}
