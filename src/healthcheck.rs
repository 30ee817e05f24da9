//! `larder healthcheck`: asks a running Larder whether it is ready, for the probes of containers.
//!
//! HTTP/1.1, plain or over TLS, to an address of this machine or another; no redirects, no credentials, and never longer
//! than [`TIMEOUT`]. Whose certificate answers is not asked: nothing secret is said, and nothing but health is believed.

mod tls;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// How long the whole check may take.
pub const TIMEOUT: Duration = Duration::from_secs(3);

/// What is asked where no path is given.
const PATH: &str = "/readyz";

/// Most bytes that are read of an answer.
const ANSWER: usize = 4096;

/// Why a text is nothing that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not `http://HOST[:PORT][/PATH]`, nor the same with `https`.
    #[error("expected http://HOST[:PORT][/PATH], or https://")]
    Url,
    /// Port 0 stands for a port that only the server knows.
    #[error("port 0 does not tell which port is served: give the URL")]
    Port,
}

/// Where to ask: `http://HOST[:PORT]/PATH`, or `https`. Invariant: has a host, and no user in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    tls: bool,
    authority: http::uri::Authority,
    path: String,
}

impl Target {
    /// `/readyz` of what listens at this address of this machine, over TLS or plain.
    pub fn local(listen: SocketAddr, tls: bool) -> Result<Self, TargetError> {
        let ip = match listen.ip() {
            // What listens everywhere is asked by the loopback.
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
        };
        if listen.port() == 0 {
            return Err(TargetError::Port);
        }
        let authority = SocketAddr::new(ip, listen.port()).to_string();
        let authority = authority.parse().map_err(|_| TargetError::Url)?;
        Ok(Self { tls, authority, path: PATH.to_owned() })
    }
}

impl FromStr for Target {
    type Err = TargetError;

    /// Without a path, or with `/` alone, `/readyz` is meant.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let uri: Uri = text.parse().map_err(|_| TargetError::Url)?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => return Err(TargetError::Url),
        };
        let authority = uri.authority().ok_or(TargetError::Url)?;
        let port = authority.as_str().rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        if authority.as_str().contains('@') || (port && authority.port_u16().is_none()) {
            return Err(TargetError::Url);
        }
        if authority.port_u16() == Some(0) {
            return Err(TargetError::Port);
        }
        let path = match uri.path_and_query().map_or("/", |path| path.as_str()) {
            "/" => PATH,
            path => path,
        };
        Ok(Self { tls, authority: authority.clone(), path: path.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

/// Why it counts as unhealthy.
#[derive(Debug, thiserror::Error)]
pub enum Unhealthy {
    /// It answered, and not with 2xx.
    #[error("answered {status}{}", said(text))]
    Status {
        /// The answer's status.
        status: StatusCode,
        /// The first line of the answer, printable.
        text: String,
    },
    /// No connection.
    #[error("cannot be reached")]
    Connect(#[source] std::io::Error),
    /// No handshake.
    #[error("does not speak TLS")]
    Tls(#[source] std::io::Error),
    /// No answer that is HTTP.
    #[error("did not answer properly")]
    Http(#[from] hyper::Error),
    /// Too slow.
    #[error("did not answer within {} s", TIMEOUT.as_secs())]
    Slow,
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// Asks. Any 2xx is healthy.
pub async fn check(target: &Target) -> Result<(), Unhealthy> {
    tokio::time::timeout(TIMEOUT, ask(target)).await.unwrap_or(Err(Unhealthy::Slow))
}

async fn ask(target: &Target) -> Result<(), Unhealthy> {
    let host = target.authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = target.authority.port_u16().unwrap_or(if target.tls { 443 } else { 80 });
    let socket = TcpStream::connect((host, port)).await.map_err(Unhealthy::Connect)?;
    if target.tls {
        let stream = tls::connect(host, socket).await.map_err(Unhealthy::Tls)?;
        exchange(target, stream).await
    } else {
        exchange(target, socket).await
    }
}

async fn exchange<S>(target: &Target, stream: S) -> Result<(), Unhealthy>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = target.path.parse().unwrap_or_else(|_| Uri::from_static(PATH));
    if let Ok(host) = target.authority.as_str().parse() {
        request.headers_mut().insert(header::HOST, host);
    }
    let asking = async move {
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        Err(Unhealthy::Status { status, text: first_line(response.into_body()).await })
    };
    // The connection ends when the exchange has dropped its sender; how it ends no longer matters then.
    let (answer, _ended) = tokio::join!(asking, connection);
    answer
}

async fn first_line(body: hyper::body::Incoming) -> String {
    match Limited::new(body, ANSWER).collect().await {
        Ok(body) => printable(&body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => "(a long answer)".to_owned(),
        Err(_) => String::new(),
    }
}

fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    proptest! {
        #[test]
        fn what_parses_prints_and_parses_the_same(text in "(https?://)?\\PC{0,20}(:[0-9]{1,6})?(/\\PC{0,9})?") {
            if let Ok(target) = text.parse::<Target>() {
                prop_assert_eq!(target.to_string().parse::<Target>(), Ok(target));
            }
        }
    }

    #[test]
    fn listeners_are_asked_on_this_machine() {
        let local =
            |listen: &str| Target::local(listen.parse().unwrap(), false).map(|target| target.to_string());
        assert_eq!(local("0.0.0.0:8080").unwrap(), "http://127.0.0.1:8080/readyz");
        assert_eq!(local("[::]:81").unwrap(), "http://[::1]:81/readyz");
        assert_eq!(local("10.0.0.7:80").unwrap(), "http://10.0.0.7:80/readyz");
        assert_eq!(local("127.0.0.1:0"), Err(TargetError::Port));
        let tls = Target::local("0.0.0.0:8443".parse().unwrap(), true).unwrap();
        assert_eq!(tls.to_string(), "https://127.0.0.1:8443/readyz");
    }

    #[test]
    fn urls_are_of_the_web() {
        let read = |text: &str| text.parse::<Target>().map(|target| target.to_string());
        assert_eq!(read("http://h:80").unwrap(), "http://h:80/readyz");
        assert_eq!(read("http://h/").unwrap(), "http://h/readyz");
        assert_eq!(read("http://[::1]/healthz?x").unwrap(), "http://[::1]/healthz?x");
        assert_eq!(read("https://h").unwrap(), "https://h/readyz");
        for bad in
            ["", "h:80", "ftp://h", "http://", "https://", "http://u:p@h/", "http://h:99999/", "http://h:x/"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    async fn answered(answer: &'static str) -> Result<(), Unhealthy> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::local(listener.local_addr().unwrap(), false).unwrap();
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 1024];
            let length = socket.read(&mut head).await.unwrap();
            assert!(head[..length].starts_with(b"GET /readyz HTTP/1.1\r\n"));
            socket.write_all(answer.as_bytes()).await.unwrap();
        };
        tokio::join!(check(&target), server).0
    }

    #[tokio::test]
    async fn only_success_is_healthy() {
        assert!(answered("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.is_ok());
        assert!(answered("HTTP/1.1 204 No Content\r\n\r\n").await.is_ok());
        let draining =
            answered("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\ndraining\n").await;
        assert_eq!(draining.unwrap_err().to_string(), "answered 503 Service Unavailable: draining");
        assert!(matches!(answered("").await, Err(Unhealthy::Http(_))));
        assert!(matches!(answered("SSH-2.0\r\n").await, Err(Unhealthy::Http(_))));
    }

    #[tokio::test]
    async fn what_speaks_no_tls_is_not_healthy_over_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::local(listener.local_addr().unwrap(), true).unwrap();
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        };
        let (checked, ()) = tokio::join!(check(&target), server);
        assert!(matches!(checked, Err(Unhealthy::Tls(_))), "{checked:?}");
    }
}
