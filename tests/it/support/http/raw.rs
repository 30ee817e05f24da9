//! Bytes on a socket, for what no client library would send.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::bounded;

/// How long a server may be silent before a raw exchange is taken to be over. Servers keep
/// connections open, so there is no event to wait for.
const IDLE: Duration = Duration::from_secs(2);

/// Writes, then reads to the end, a reset or silence.
pub(super) async fn exchange(addr: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = bounded(TcpStream::connect(addr)).await??;
    // A server may refuse what it reads and close while we still write: its answer counts.
    drop(bounded(stream.write_all(bytes)).await?);
    let mut answer = Vec::new();
    loop {
        let mut some = [0; 4096];
        match tokio::time::timeout(IDLE, stream.read(&mut some)).await {
            Ok(Ok(length)) if length > 0 => answer.extend_from_slice(&some[..length]),
            Ok(_) | Err(_) => return Ok(answer),
        }
    }
}

/// Writes, reads one head, and hangs up.
pub(super) async fn head(addr: SocketAddr, bytes: &[u8]) -> io::Result<String> {
    let mut stream = bounded(TcpStream::connect(addr)).await??;
    drop(bounded(stream.write_all(bytes)).await?);
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        match bounded(stream.read_u8()).await? {
            Ok(byte) => answer.push(byte),
            Err(_) => break,
        }
    }
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
