//! A TCP proxy that harms what passes: it delays, swallows, cuts, throttles and corrupts.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the proxy does to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Resets each connection when it is made.
    Refuse,
    /// Forwards nothing, and never closes.
    BlackHole,
    /// Forwards what the server sends after this time.
    Delay(Duration),
    /// Resets a connection once this many bytes from the server have passed on it.
    CutAfter(usize),
    /// Forwards one byte from the server in this time.
    Throttle(Duration),
    /// Inverts every byte from the server from this one on.
    Corrupt(usize),
}

/// A running proxy. Dropping it ends it and its connections.
pub struct FaultProxy {
    /// The address on which it listens.
    pub address: SocketAddr,
    fault: watch::Sender<Fault>,
    _tasks: JoinSet<()>,
}

impl FaultProxy {
    /// Starts a proxy before a server.
    ///
    /// # Panics
    ///
    /// If the loopback interface has no free port.
    pub async fn start(server: SocketAddr, fault: Fault) -> Self {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let (fault, chosen) = watch::channel(fault);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("it listens");
                connections.spawn(forward(client, server, chosen.clone()));
            }
        });
        Self { address, fault, _tasks: tasks }
    }

    /// Sets what happens to new connections, and to what passes on the others from now on.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }
}

async fn forward(client: TcpStream, server: SocketAddr, fault: watch::Receiver<Fault>) {
    // A reset instead of an orderly end.
    client.set_zero_linger().expect("it is a TCP socket");
    if *fault.borrow() == Fault::Refuse {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let out = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = from_client.read(&mut buffer).await.unwrap_or(0);
            if *fault.borrow() == Fault::BlackHole {
                std::future::pending::<()>().await;
            }
            if read == 0 || to_server.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
    };
    let back = async {
        let mut buffer = vec![0; 64 << 10];
        let mut passed = 0;
        loop {
            let read = from_server.read(&mut buffer).await.unwrap_or(0);
            let mut bytes = &mut buffer[..read];
            let now = *fault.borrow();
            match now {
                Fault::None | Fault::Refuse => {}
                Fault::BlackHole => std::future::pending().await,
                Fault::Delay(delay) => tokio::time::sleep(delay).await,
                Fault::CutAfter(limit) => bytes = &mut bytes[..read.min(limit.saturating_sub(passed))],
                Fault::Throttle(pause) => {
                    for byte in bytes.iter() {
                        tokio::time::sleep(pause).await;
                        if to_client.write_all(&[*byte]).await.is_err() {
                            return;
                        }
                    }
                    bytes = &mut [];
                }
                Fault::Corrupt(first) => {
                    for byte in bytes.iter_mut().skip(first.saturating_sub(passed)) {
                        *byte = !*byte;
                    }
                }
            }
            passed += bytes.len();
            let is_cut = matches!(now, Fault::CutAfter(limit) if passed >= limit);
            if read == 0 || to_client.write_all(bytes).await.is_err() || is_cut {
                break;
            }
        }
    };
    tokio::select! {
        () = out => {}
        () = back => {}
    }
}
