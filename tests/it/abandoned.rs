//! Promise: a client may leave at the worst moment, which is while the bucket opens an upload whose name nobody has yet.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use larder::metrics::RequestLabels;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::backends::servers;
use crate::support::gateway::{Options, TestGateway, eventually};
use crate::support::http::{Client, Pattern, request};
use crate::support::{Background, loopback};

/// A way to a server on which answers wait until they are let through; requests do not.
struct Slow {
    addr: SocketAddr,
    /// A permit for each answer that waits.
    waiting: Arc<Semaphore>,
    /// A permit for each piece of an answer that may pass.
    pass: Arc<Semaphore>,
    _serving: Background,
}

impl Slow {
    fn start(upstream: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind(loopback()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let (waiting, pass) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let signs = (Arc::clone(&waiting), Arc::clone(&pass));
        let serving = Background::run(move || async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let mut relays = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                relays.spawn(relay(client, upstream, signs.clone()));
            }
        });
        Self { addr, waiting, pass, _serving: serving }
    }
}

/// Goes on reading the server's answer though the client has left: the server is to have heard it all.
async fn relay(client: TcpStream, upstream: SocketAddr, (waiting, pass): (Arc<Semaphore>, Arc<Semaphore>)) {
    let server = TcpStream::connect(upstream).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        // Either may leave.
        drop(tokio::io::copy(&mut from_client, &mut to_server).await);
        std::future::pending::<()>().await;
    };
    let down = async {
        let mut some = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from_server.read(&mut some).await {
            waiting.add_permits(1);
            pass.acquire().await.unwrap().forget();
            drop(to_client.write_all(&some[..length]).await);
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_abandoned_as_it_opens_leaves_nothing() {
    let labels = RequestLabels { protocol: "artifact", verb: "post", outcome: "broken" };
    for server in servers() {
        let slow = Slow::start(server.endpoint.trim_start_matches("http://").parse().unwrap());
        let gateway = TestGateway::over(&server, &format!("http://{}", slow.addr), 1, Options::default());
        let client = Client::h2(gateway.addr());
        let mut asking = JoinSet::new();
        asking.spawn(async move {
            // More than one part, and then nothing. Over HTTP/1 nobody would notice that it left before it is read on.
            let blocks = Pattern { seed: 3, length: 9 << 20 }.blocks();
            let body = stream::iter(blocks).chain(stream::pending::<Bytes>()).map(Frame::data).map(Ok);
            let path = "/artifact/linux_amd64/p/x/AAECAwQFBgcICQoLDA0ODxAREhM/f";
            client.try_send(request("POST", path).body(StreamBody::new(body).boxed_unsync()).unwrap()).await
        });
        // The bucket has opened it, and the gateway does not know.
        slow.waiting.acquire().await.unwrap().forget();
        asking.shutdown().await;
        eventually("the request ends", async || gateway.counted(&labels) == 1).await;
        slow.pass.add_permits(1000);
        gateway.holds(&[]).await;
    }
}
