//! Where a client sees this server: what absolute addresses begin with.
//!
//! What a proxy says of it (`Forwarded`, RFC 7239, or `X-Forwarded-*`) counts only where the peer is one that the
//! operator trusts: else anybody could make addresses lead elsewhere. Headers to text; never asks anybody.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use http::header::{FORWARDED, HOST};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::peer::Encrypted;

const X_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The proxies whose word counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Those within these networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// How many of a chain's last entries trusted proxies wrote, where each entry names whom it came from: at least
    /// one, for the peer is trusted.
    fn wrote(&self, from: &[Option<IpAddr>]) -> usize {
        let trusted = from.iter().rev().take_while(|from| from.is_some_and(|from| self.trust(from)));
        (1 + trusted.count()).min(from.len().max(1))
    }
}

/// What trusted proxies say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    scheme: Option<&'static str>,
    host: Option<String>,
    prefix: Option<String>,
}

/// Scheme, host and perhaps a path, without a slash at its end.
pub(super) fn of(parts: &Parts, proxies: &Proxies) -> String {
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    let told = match peer {
        Some(peer) if proxies.trust(peer) => Told::read(&parts.headers, proxies),
        Some(_) | None => Told::default(),
    };
    let own = if parts.extensions.get::<Encrypted>().is_some() { "https" } else { "http" };
    let asked = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let asked = asked.or_else(|| parts.uri.authority().map(Authority::as_str)).and_then(host);
    let host = told.host.or(asked).unwrap_or_else(|| "localhost".to_owned());
    format!("{}://{host}{}", told.scheme.unwrap_or(own), told.prefix.unwrap_or_default())
}

impl Told {
    fn read(headers: &HeaderMap, proxies: &Proxies) -> Self {
        let elements: Vec<Vec<(String, String)>> =
            lists(headers, &FORWARDED).iter().map(|text| pairs(text)).collect();
        let value = |element: &[(String, String)], name: &str| {
            element.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        };
        let from: Vec<_> = elements.iter().map(|it| value(it, "for").as_deref().and_then(address)).collect();
        let ours = elements.get(elements.len().saturating_sub(proxies.wrote(&from))..).unwrap_or_default();
        let first = |name: &str| ours.iter().find_map(|element| value(element, name));

        let from: Vec<_> = lists(headers, &X_FOR).iter().map(|text| address(text)).collect();
        let wrote = proxies.wrote(&from);
        let other = |name: &HeaderName| {
            let all = lists(headers, name);
            all.get(all.len().saturating_sub(wrote)).cloned()
        };
        Self {
            scheme: first("proto").or_else(|| other(&X_PROTO)).as_deref().and_then(scheme),
            host: first("host").or_else(|| other(&X_HOST)).as_deref().and_then(host),
            prefix: other(&X_PREFIX).as_deref().and_then(prefix),
        }
    }
}

/// A text at a separator, but for those within quotes.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            letter if letter == separator && !quoted => {
                parts.push(text.get(begin..at).unwrap_or_default().trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text.get(begin..).unwrap_or_default().trim());
    parts
}

/// The members of a header that is a list, all of its lines together.
fn lists(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    let members = lines.flat_map(|line| split(line, ','));
    members.filter(|member| !member.is_empty()).map(str::to_owned).collect()
}

/// The pairs of an element of `Forwarded`, names in lower case, values without quotes.
fn pairs(element: &str) -> Vec<(String, String)> {
    let pairs = split(element, ';').into_iter().filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().replace(['"', '\\'], "")))
        .collect()
}

/// An address, perhaps with a port; `None` for `unknown` and made-up names.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

fn scheme(text: &str) -> Option<&'static str> {
    ["http", "https"].into_iter().find(|scheme| text.eq_ignore_ascii_case(scheme))
}

/// A host, perhaps with a port, that means in an address nothing but itself.
fn host(text: &str) -> Option<String> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b));
    (plain && text.parse::<Authority>().is_ok()).then(|| text.to_owned())
}

/// A path before all of ours; nothing for `/`.
fn prefix(text: &str) -> Option<String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let plain = |segment: &str| {
        let letters = segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
        letters && !segment.is_empty() && segment.bytes().any(|b| b != b'.')
    };
    text.strip_prefix('/').is_some_and(|path| path.split('/').all(plain)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn of(peer: &str, encrypted: bool, headers: &[(&str, &str)]) -> String {
        let mut request = Request::builder().uri("/api/a").header("host", "larder:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts.extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 9)));
        if encrypted {
            parts.extensions.insert(Encrypted);
        }
        let proxies = Proxies::new(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        super::of(&parts, &proxies)
    }

    #[test]
    fn a_stranger_says_nothing() {
        let said = [
            ("forwarded", "proto=https;host=evil"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-prefix", "/evil"),
        ];
        assert_eq!(of("192.0.2.1", false, &said), "http://larder:8080");
        assert_eq!(of("192.0.2.1", true, &said), "https://larder:8080");
    }

    #[test]
    fn a_proxy_says_how_it_is_seen() {
        for (headers, seen) in [
            (&[][..], "http://larder:8080"),
            (&[("x-forwarded-proto", "https"), ("x-forwarded-host", "cache")], "https://cache"),
            (&[("x-forwarded-host", "cache:8443"), ("x-forwarded-prefix", "/py/")], "http://cache:8443/py"),
            (&[("forwarded", "for=192.0.2.1;Proto=HTTPS;host=\"cache:8443\"")], "https://cache:8443"),
            (&[("forwarded", "for=\"[2001:db8::1]:9\";host=\"a;b,c\";proto=https")], "https://larder:8080"),
            (&[("x-forwarded-prefix", "/a/../b")], "http://larder:8080"),
            (&[("x-forwarded-prefix", "//evil")], "http://larder:8080"),
            (&[("x-forwarded-prefix", "/")], "http://larder:8080"),
            (&[("x-forwarded-proto", "gopher"), ("x-forwarded-host", "a@b")], "http://larder:8080"),
            // RFC 7239 counts before what came before it.
            (&[("forwarded", "host=new"), ("x-forwarded-host", "old")], "http://new"),
        ] {
            assert_eq!(of("10.1.2.3", false, headers), seen, "{headers:?}");
            assert_eq!(of("::ffff:10.1.2.3", false, headers), seen, "{headers:?}");
        }
    }

    #[test]
    fn only_what_trusted_proxies_wrote_counts() {
        for (headers, seen) in [
            // The first entry is what the client itself sent to the outer proxy.
            (
                &[("forwarded", "host=evil, for=192.0.2.1;host=cache, for=10.0.0.1;host=inner")][..],
                "http://cache",
            ),
            (&[("forwarded", "host=evil, for=192.0.2.1;host=cache")], "http://cache"),
            (&[("forwarded", "host=evil, for=unknown")], "http://larder:8080"),
            (
                &[
                    ("x-forwarded-for", "1.1.1.1, 192.0.2.1, 10.0.0.1"),
                    ("x-forwarded-host", "evil, cache, inner"),
                ],
                "http://cache",
            ),
            (&[("x-forwarded-for", "192.0.2.1, fd00::7"), ("x-forwarded-host", "cache")], "http://cache"),
        ] {
            assert_eq!(of("10.1.2.3", false, headers), seen, "{headers:?}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics_or_breaks_out(text in "[ -~]{0,40}", name in "forwarded|x-forwarded-(for|host|proto|prefix)") {
            let seen = of("10.0.0.1", false, &[(&name, &text)]);
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/[]".contains(&b);
            prop_assert!(seen.starts_with("http") && seen.bytes().all(plain), "{seen}");
        }
    }
}
