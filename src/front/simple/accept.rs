//! Which form of a page a client gets (RFC 9110 §12.5.1, PEP 691). Header to value; never looks at a page.

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue};

/// A form of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `application/vnd.pypi.simple.v1+json`.
    Json,
    /// `application/vnd.pypi.simple.v1+html`: the same bytes as [`Self::Html`].
    VersionedHtml,
    /// `text/html`.
    Html,
}

/// In the order in which they are preferred where a client likes them alike.
const FORMS: [Form; 3] = [Form::Json, Form::VersionedHtml, Form::Html];

/// What there is, for who accepts none of it.
pub(super) const OFFERED: &str =
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html and text/html";

/// How well a range of an `Accept` fits: by name, `text/*`, `*/*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Any,
    Type,
    Named,
}

impl Form {
    /// Its media type.
    pub(super) const fn kind(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/vnd.pypi.simple.v1+json",
            Self::VersionedHtml => "application/vnd.pypi.simple.v1+html; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
        })
    }

    /// What its validator ends in: two forms are two entities.
    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::Json => "j",
            Self::VersionedHtml => "v",
            Self::Html => "h",
        }
    }

    fn fit(self, range: &str) -> Option<Fit> {
        let names: &[&str] = match self {
            Self::Json => &["application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.latest+json"],
            Self::VersionedHtml => {
                &["application/vnd.pypi.simple.v1+html", "application/vnd.pypi.simple.latest+html"]
            }
            Self::Html => &["text/html"],
        };
        let family = if self == Self::Html { "text/*" } else { "application/*" };
        if names.iter().any(|name| range.eq_ignore_ascii_case(name)) {
            Some(Fit::Named)
        } else if range.eq_ignore_ascii_case(family) {
            Some(Fit::Type)
        } else {
            (range == "*/*").then_some(Fit::Any)
        }
    }
}

/// A range and its weight in thousandths. A weight that does not parse is none: the range counts in full.
fn weighed(range: &str) -> (&str, u32) {
    let mut parts = range.split(';');
    let name = parts.next().unwrap_or_default().trim();
    let weight = parts.find_map(|part| {
        let (key, value) = part.split_once('=')?;
        let value: f32 = key.trim().eq_ignore_ascii_case("q").then(|| value.trim().parse().ok())??;
        (0.0..=1.0).contains(&value).then_some(value)
    });
    // Three decimals are all that there are.
    let thousandths = (weight.unwrap_or(1.0) * 1000.0).round();
    (name, (0..=1000).rev().find(|step| f64::from(*step) <= f64::from(thousandths)).unwrap_or(0))
}

/// The form that a client gets; `None` where it accepts none. Without `Accept`, and for `*/*` alone, it is HTML, which
/// those understand who do not say what they do.
pub(super) fn choose(headers: &HeaderMap) -> Option<Form> {
    let values: Vec<&HeaderValue> = headers.get_all(ACCEPT).iter().collect();
    let texts = values.iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<(&str, u32)> =
        texts.flat_map(|value| value.split(',')).map(weighed).filter(|(name, _)| !name.is_empty()).collect();
    if ranges.is_empty() {
        return Some(Form::Html);
    }
    let weights = FORMS.into_iter().filter_map(|form| {
        let fits = ranges.iter().filter_map(|(name, weight)| Some((form.fit(name)?, *weight)));
        // The most particular range decides, not the heaviest.
        let (fit, weight) = fits.max()?;
        (weight > 0).then_some((weight, fit, form))
    });
    let liked: Vec<(u32, Fit, Form)> = weights.collect();
    let best = liked.iter().copied().reduce(|a, b| if (b.0, b.1) > (a.0, a.1) { b } else { a })?;
    let html = liked.iter().any(|(weight, _, form)| *form == Form::Html && *weight == best.0);
    Some(if best.1 == Fit::Any && html { Form::Html } else { best.2 })
}

#[cfg(test)]
mod tests {
    use super::{Form, choose};
    use http::header::ACCEPT;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    fn of(accept: &str) -> Option<Form> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        choose(&headers)
    }

    #[test]
    fn what_real_clients_send() {
        let pip = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01";
        let uv = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01";
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (accept, form) in [
            (pip, Some(Form::Json)),
            (uv, Some(Form::Json)),
            ("application/vnd.pypi.simple.v1+json, */*;q=0.1", Some(Form::Json)),
            ("text/html", Some(Form::Html)),
            ("*/*", Some(Form::Html)),
            ("", Some(Form::Html)),
            (browser, Some(Form::Html)),
            ("application/vnd.pypi.simple.latest+json", Some(Form::Json)),
            ("application/vnd.pypi.simple.latest+html", Some(Form::VersionedHtml)),
            ("application/vnd.pypi.simple.v2+json", None),
            ("application/json", None),
            ("image/png", None),
            ("text/html;q=0", None),
            ("text/html;q=0, */*", Some(Form::Json)),
            ("text/html;q=0.5, application/vnd.pypi.simple.v1+json;q=0.4", Some(Form::Html)),
            ("text/html;q=0.5, application/vnd.pypi.simple.v1+json;q=0.5", Some(Form::Json)),
            ("application/*", Some(Form::Json)),
            ("text/*;q=0.3, application/vnd.pypi.simple.v1+html;Q=0.2", Some(Form::Html)),
            ("TEXT/HTML", Some(Form::Html)),
        ] {
            assert_eq!(of(accept), form, "{accept}");
        }
        assert_eq!(choose(&HeaderMap::new()), Some(Form::Html));
    }

    proptest! {
        #[test]
        fn no_input_panics(accept in "[ -~]{0,60}") {
            prop_assert!(of(&accept).is_some() || !accept.trim().is_empty());
        }

        #[test]
        fn what_is_refused_is_never_sent(a in 0u32..=1000, b in 0u32..=1000) {
            let text = format!("text/html;q={}, application/vnd.pypi.simple.v1+json;q={}",
                f64::from(a) / 1000.0, f64::from(b) / 1000.0);
            let expected = match (a, b) {
                (0, 0) => None,
                _ if b >= a => Some(Form::Json),
                _ => Some(Form::Html),
            };
            prop_assert_eq!(of(&text), expected);
        }
    }
}
