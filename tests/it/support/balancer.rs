//! A plain TCP load balancer: round robin, the next backend where one does not answer. It knows
//! nothing of HTTP, keeps no health checks, and repeats nothing that was once sent: what breaks under
//! way breaks for its client.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{Background, loopback};

/// One address in front of several.
#[derive(Debug)]
pub(crate) struct Balancer {
    addr: SocketAddr,
    backends: Arc<Mutex<Backends>>,
    _serving: Background,
}

#[derive(Debug)]
struct Backends {
    all: Vec<SocketAddr>,
    next: usize,
}

impl Backends {
    /// Every backend once, beginning with the one whose turn it is.
    fn turn(&mut self) -> Vec<SocketAddr> {
        let mut order = self.all.clone();
        if !order.is_empty() {
            order.rotate_left(self.next % self.all.len());
            self.next = (self.next + 1) % self.all.len();
        }
        order
    }
}

impl Balancer {
    /// Listens, and spreads connections over `backends`.
    pub(crate) fn start(backends: &[SocketAddr]) -> Self {
        let listener = std::net::TcpListener::bind(loopback()).expect("a port for the balancer");
        listener.set_nonblocking(true).expect("a listener for the runtime");
        let addr = listener.local_addr().expect("the balancer's address");
        let backends = Arc::new(Mutex::new(Backends { all: backends.to_vec(), next: 0 }));
        let shared = Arc::clone(&backends);
        let serving = Background::run(move || accept(listener, shared));
        Self { addr, backends, _serving: serving }
    }

    /// Where clients connect.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends new connections to `backend` too.
    pub(crate) fn add(&self, backend: SocketAddr) {
        lock(&self.backends).all.push(backend);
    }

    /// Sends no new connections to `backend`. Those that it has go on.
    pub(crate) fn remove(&self, backend: SocketAddr) {
        lock(&self.backends).all.retain(|one| *one != backend);
    }
}

fn lock(backends: &Mutex<Backends>) -> std::sync::MutexGuard<'_, Backends> {
    backends.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: std::net::TcpListener, backends: Arc<Mutex<Backends>>) {
    let listener = TcpListener::from_std(listener).expect("the listener on the runtime");
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                let order = lock(&backends).turn();
                connections.spawn(relay(client, order));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Carries one connection to the first backend that takes it. A reset on one side is a reset on the
/// other, so that a client is not told of an orderly end that there was not.
async fn relay(mut client: TcpStream, order: Vec<SocketAddr>) {
    for backend in order {
        let Ok(mut upstream) = TcpStream::connect(backend).await else { continue };
        // Small answers wait for no acknowledgement. A socket already gone shows in the copy.
        drop((client.set_nodelay(true), upstream.set_nodelay(true)));
        if copy_bidirectional(&mut client, &mut upstream).await.is_err() {
            drop((reset_on_drop(&client), reset_on_drop(&upstream)));
        }
        return;
    }
    drop(reset_on_drop(&client));
}

fn reset_on_drop(stream: &TcpStream) -> std::io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::{Background, Balancer, SocketAddr, TcpListener, TcpStream, loopback};

    /// A backend that says its name and closes.
    fn named(name: &'static [u8]) -> (SocketAddr, Background) {
        let listener = std::net::TcpListener::bind(loopback()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = Background::run(move || async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(name).await.unwrap();
            }
        });
        (addr, serving)
    }

    async fn ask(addr: SocketAddr) -> Option<String> {
        let mut answer = String::new();
        // A reset may come so soon that it is connecting which fails.
        TcpStream::connect(addr).await.ok()?.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }

    #[tokio::test]
    async fn connections_go_round_and_past_a_dead_backend() {
        let (one, _serving_one) = named(b"one");
        let (two, serving_two) = named(b"two");
        let balancer = Balancer::start(&[one]);
        balancer.add(two);
        let mut seen = [ask(balancer.addr()).await.unwrap(), ask(balancer.addr()).await.unwrap()];
        seen.sort();
        assert_eq!(seen, ["one", "two"]);

        drop(serving_two);
        for _ in 0..4 {
            assert_eq!(ask(balancer.addr()).await.as_deref(), Some("one"));
        }
        balancer.remove(one);
        assert_eq!(ask(balancer.addr()).await, None, "nobody is left to answer");
    }
}
