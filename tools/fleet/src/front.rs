//! The address that nodes push to: passes connections on to the gateway and counts connections, requests and bytes. Closing it is an
//! outage: connections end and new ones are refused. Entry point: [`Front::start`].

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};

/// Pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Connections of nodes.
    pub connections: u64,
    /// Requests, as HEADERS frames of nodes.
    pub requests: u64,
    /// Bytes from nodes to the gateway, without those of TCP.
    pub to_gateway: u64,
    /// Bytes from the gateway to nodes.
    pub to_nodes: u64,
}

impl Traffic {
    /// Adds other traffic.
    fn add(&mut self, other: Self) {
        self.connections += other.connections;
        self.requests += other.requests;
        self.to_gateway += other.to_gateway;
        self.to_nodes += other.to_nodes;
    }
}

/// Traffic of each second since the start.
struct Counts {
    start: Instant,
    seconds: Mutex<Vec<Traffic>>,
}

impl Counts {
    fn add(&self, traffic: Traffic) {
        let second = usize::try_from(self.start.elapsed().as_secs()).expect("a run is short");
        let mut seconds = self.seconds.lock().expect("no counter panics");
        if seconds.len() <= second {
            seconds.resize(second + 1, Traffic::default());
        }
        seconds[second].add(traffic);
    }
}

/// The listener and its connections.
pub struct Front {
    runtime: Runtime,
    address: SocketAddr,
    gateway: SocketAddr,
    counts: Arc<Counts>,
    /// `None` while it is closed.
    serving: Option<JoinHandle<()>>,
}

impl Front {
    /// Listens on a free port, for a gateway at this address.
    ///
    /// # Errors
    ///
    /// If there is no port.
    pub fn start(gateway: SocketAddr) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("front")
            .enable_all()
            .build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let counts = Counts { start: Instant::now(), seconds: Mutex::default() };
        let mut front = Self { runtime, address, gateway, counts: Arc::new(counts), serving: None };
        front.serve(listener);
        Ok(front)
    }

    /// Returns where nodes push to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections, and refuses others.
    pub fn close(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // Its end is what ends the connections.
            let _cancelled = self.runtime.block_on(serving);
        }
    }

    /// Accepts connections again.
    ///
    /// # Errors
    ///
    /// If another process took the port meanwhile.
    pub fn open(&mut self) -> io::Result<()> {
        if self.serving.is_none() {
            let listener = self.runtime.block_on(TcpListener::bind(self.address))?;
            self.serve(listener);
        }
        Ok(())
    }

    /// Returns the traffic of each second since the start.
    #[must_use]
    pub fn seconds(&self) -> Vec<Traffic> {
        let mut seconds = self.counts.seconds.lock().expect("no counter panics").clone();
        let passed = usize::try_from(self.counts.start.elapsed().as_secs()).expect("a run is short");
        seconds.resize(seconds.len().max(passed), Traffic::default());
        seconds
    }

    /// Returns the traffic since the start.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let mut sum = Traffic::default();
        self.counts.seconds.lock().expect("no counter panics").iter().for_each(|&second| sum.add(second));
        sum
    }

    fn serve(&mut self, listener: TcpListener) {
        let (gateway, counts) = (self.gateway, Arc::clone(&self.counts));
        self.serving = Some(self.runtime.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((node, _)) = accepted else {
                            // There may be no descriptor left for now.
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                            continue;
                        };
                        counts.add(Traffic { connections: 1, ..Traffic::default() });
                        connections.spawn(pass(node, gateway, Arc::clone(&counts)));
                    }
                    Some(_ended) = connections.join_next() => {}
                }
            }
        }));
    }
}

/// Passes a connection on until one side ends it.
async fn pass(node: TcpStream, gateway: SocketAddr, counts: Arc<Counts>) {
    // The node sees a connection that ends.
    let Ok(gateway) = TcpStream::connect(gateway).await else { return };
    let is_set = node.set_nodelay(true).and_then(|()| gateway.set_nodelay(true));
    let ((node, to_node), (gateway, to_gateway)) = (node.into_split(), gateway.into_split());
    let mut frames = Frames::default();
    let up = copy(node, to_gateway, |bytes| {
        counts.add(Traffic {
            requests: frames.requests(bytes),
            to_gateway: bytes.len() as u64,
            ..Traffic::default()
        });
    });
    let down = copy(gateway, to_node, |bytes| {
        counts.add(Traffic { to_nodes: bytes.len() as u64, ..Traffic::default() });
    });
    if is_set.is_ok() {
        // An error of either side is its end.
        tokio::select! { _ended = up => {}, _ended = down => {} }
    }
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut count: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        count(&buffer[..length]);
        to.write_all(&buffer[..length]).await?;
    }
}

/// The preface of an HTTP/2 connection.
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// Length of the head of a frame.
const HEAD: usize = 9;
/// The type of a frame that begins a request.
const HEADERS: u8 = 1;

/// The position in a stream of HTTP/2 frames of a client.
#[derive(Debug)]
struct Frames {
    /// Bytes to skip: of the preface, or of the body of a frame.
    skip: usize,
    head: Vec<u8>,
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: PREFACE, head: Vec::with_capacity(HEAD) }
    }
}

impl Frames {
    /// Returns the number of requests that begin in the next bytes.
    fn requests(&mut self, mut bytes: &[u8]) -> u64 {
        let mut requests = 0;
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let part = (HEAD - self.head.len()).min(bytes.len());
            self.head.extend_from_slice(&bytes[..part]);
            bytes = &bytes[part..];
            let [high, middle, low, kind, ..] = self.head[..] else { return requests };
            if self.head.len() < HEAD {
                return requests;
            }
            self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            requests += u64::from(kind == HEADERS);
            self.head.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for (kind, length) in [(4, 6_u8), (1, 40), (0, 200), (1, 0), (0, 255), (8, 4)] {
            bytes.extend([0, 0, length, kind, 0, 0, 0, 0, 1]);
            bytes.resize(bytes.len() + usize::from(length), 1);
        }
        bytes
    }

    #[test]
    fn requests_are_counted_however_the_stream_is_cut() {
        let stream = stream();
        for size in 1..stream.len() {
            let mut frames = Frames::default();
            let requests: u64 = stream.chunks(size).map(|chunk| frames.requests(chunk)).sum();
            assert_eq!(requests, 2, "pieces of {size} bytes");
        }
    }

    #[test]
    fn a_closed_front_refuses_connections_and_an_open_one_counts_them() {
        use std::io::{Read as _, Write as _};

        let gateway = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let mut front = Front::start(gateway.local_addr().expect("it listens")).expect("a port is free");
        let mut node = std::net::TcpStream::connect(front.address()).expect("it is open");
        let (mut behind, _) = gateway.accept().expect("it is passed on");
        node.write_all(&stream()).expect("it is connected");
        let mut received = vec![0; stream().len()];
        behind.read_exact(&mut received).expect("it is connected");
        assert_eq!(received, stream());
        let traffic = front.traffic();
        assert_eq!(
            (traffic.connections, traffic.requests, traffic.to_gateway),
            (1, 2, received.len() as u64)
        );
        front.close();
        let ended = node.read(&mut [0]);
        assert!(!matches!(ended, Ok(1..)), "the connection ended: {ended:?}");
        assert!(std::net::TcpStream::connect(front.address()).is_err(), "it is closed");
        front.open().expect("the port is free");
        let _node = std::net::TcpStream::connect(front.address()).expect("it is open");
        let (_behind, _) = gateway.accept().expect("it is passed on");
        assert_eq!(front.traffic().connections, 2);
        assert_eq!(front.seconds().iter().map(|second| second.connections).sum::<u64>(), 2);
    }
}
