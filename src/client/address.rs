//! Where a cache is, and who asks: `http://USER:PASSWORD@HOST:PORT/PATH`, as build tools have it configured.
//!
//! Pure values. Credentials are never printed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

/// Why a text is no address, or no credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not `http://HOST[:PORT][/PATH]`, nor the same with `https`.
    #[error("expected http://[USER:PASSWORD@]HOST[:PORT][/PATH], or https://")]
    Url,
    /// A name and a password, with a colon between them.
    #[error("expected USER:PASSWORD, without control characters")]
    Credentials,
}

/// A name and a password, as the value of `Authorization` (Basic, RFC 7617).
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(HeaderValue);

impl Credentials {
    pub(super) const fn header(&self) -> &HeaderValue {
        &self.0
    }
}

impl FromStr for Credentials {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if !text.contains(':') || text.chars().any(char::is_control) {
            return Err(AddressError::Credentials);
        }
        let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(text)));
        let mut value = value.map_err(|_| AddressError::Credentials)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials { .. }")
    }
}

/// A cache's address. Prints without the credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    scheme: Scheme,
    authority: Authority,
    /// Empty, or begins with a slash and does not end in one.
    base: String,
    credentials: Option<Credentials>,
}

impl Address {
    /// The same, asked as somebody else.
    #[must_use]
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    pub(super) const fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    pub(super) fn is_secure(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// A place below it. `path` begins with a slash and is encoded.
    pub(super) fn join(&self, path: &str) -> Result<Uri, http::Error> {
        let path = format!("{}{path}", self.base);
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(path)
            .build()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let uri: Uri = text.parse().map_err(|_| AddressError::Url)?;
        let parts = uri.into_parts();
        let (Some(scheme), Some(authority)) = (parts.scheme, parts.authority) else {
            return Err(AddressError::Url);
        };
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS {
            return Err(AddressError::Url);
        }
        let (user, host) = match authority.as_str().rsplit_once('@') {
            None => (None, authority.as_str()),
            Some((user, host)) => (Some(user), host),
        };
        let credentials = user.map(decoded).transpose()?;
        let authority: Authority = host.parse().map_err(|_| AddressError::Url)?;
        let port = host.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        if authority.host().is_empty() || (port && authority.port_u16().is_none_or(|port| port == 0)) {
            return Err(AddressError::Url);
        }
        let path = parts.path_and_query;
        if path.as_ref().is_some_and(|path| path.query().is_some()) {
            return Err(AddressError::Url);
        }
        let base = path.map_or_else(String::new, |path| path.path().trim_end_matches('/').to_owned());
        Ok(Self { scheme, authority, base, credentials })
    }
}

/// A URL spells a password's odd characters in percent.
fn decoded(user: &str) -> Result<Credentials, AddressError> {
    let text = percent_decode_str(user).decode_utf8().map_err(|_| AddressError::Credentials)?;
    // A name alone has the empty password.
    if text.contains(':') { text.parse() } else { format!("{text}:").parse() }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, Option<String>), AddressError> {
        let address: Address = text.parse()?;
        let header = address.credentials().map(|who| who.header().to_str().unwrap().to_owned());
        Ok((address.to_string(), header))
    }

    #[test]
    fn addresses_are_of_the_web_and_keep_their_secrets() {
        assert_eq!(read("http://h:80/"), Ok(("http://h:80".to_owned(), None)));
        assert_eq!(read("https://[::1]:8443/a/b//"), Ok(("https://[::1]:8443/a/b".to_owned(), None)));
        let basic = |pair: &str| Some(format!("Basic {}", STANDARD.encode(pair)));
        assert_eq!(read("http://ci:p%40ss@h"), Ok(("http://h".to_owned(), basic("ci:p@ss"))));
        assert_eq!(read("http://ci@h/x"), Ok(("http://h/x".to_owned(), basic("ci:"))));
        for bad in [
            "",
            "h:80",
            "/x",
            "ftp://h",
            "http://",
            "http://h:x/",
            "http://h:0/",
            "http://h:99999",
            "http://h/?x",
        ] {
            assert_eq!(read(bad), Err(AddressError::Url), "{bad}");
        }
        assert_eq!(read("http://a%0a:b@h"), Err(AddressError::Credentials));
        let address: Address = "http://ci:secret@h".parse().unwrap();
        assert!(!format!("{address:?} {address}").contains("secret"));
        assert_eq!("ci".parse::<Credentials>(), Err(AddressError::Credentials));
    }

    #[test]
    fn places_are_below_it() {
        let address: Address = "http://u:p@h:1/base/".parse().unwrap();
        assert_eq!(address.join("/ping").unwrap().to_string(), "http://h:1/base/ping");
        assert_eq!(
            "http://h".parse::<Address>().unwrap().join("/a%23b").unwrap().to_string(),
            "http://h/a%23b"
        );
    }
}
