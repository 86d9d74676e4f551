//! The HTTP server. Its routes:
//!
//! | path | response |
//! |---|---|
//! | `/` | the page: every table, object and event, and the exporter itself; without `--web.page` a list of links |
//! | `/assets/...` | its script, style and icon |
//! | `/metrics` (`--web.telemetry-path`) | the metrics, in a format and compression that the scraper accepts |
//! | `/api/v1/snapshot` | a whole reading as JSON |
//! | `/api/v1/objects` | rows of a table as JSON |
//! | `/api/v1/object` | everything that is known of one object |
//! | `/api/v1/tables` | every table with its columns |
//! | `/api/v1/status` | the state of the exporter itself |
//! | `/api/v1/events` | what happens to BPF objects, as server-sent events |
//! | `/-/healthy` | 200 while the process serves |
//! | `/-/ready` | 200 if BPF objects can be read, else 503 |
//!
//! Entry points: [`Listener`], [`Server::new`] and [`Server::serve`]. Every bound is in [`bounds`].

mod activity;
mod answers;
mod api;
mod body;
pub mod bounds;
mod collectors;
mod config;
mod connections;
pub mod descriptors;
mod event_stream;
mod history;
mod host;
mod listen;
mod live;
mod negotiate;
mod page;
mod pages;
mod query;
mod response;
mod site;
mod watched;

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CACHE_CONTROL, CONNECTION, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use self::activity::Activity;
use self::config::Config;
pub use self::config::{ConfigError, ConfigFile};
use self::connections::{Admitted, Connections};
pub use self::host::{Hosts, own_names};
pub use self::listen::{Listener, SocketFile};
use self::pages::Pages;
use self::watched::Watched;
use crate::events::Events;
use crate::model::{SettingInForce, WallClock};
use crate::source::Source;
use crate::worker::Worker;

/// Since Chromium 73, Firefox 74 and Safari 12. Source: the Fetch standard.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// In every answer that does not say for how long it may be kept.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// How often a connection is compared with its bounds.
const WATCH: Duration = Duration::from_secs(1);

/// How long the server waits before it accepts again, after the system refused a descriptor or memory.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Options of the server.
#[derive(Clone)]
pub struct Settings {
    /// The path of the metrics, which begins with `/`.
    pub telemetry_path: String,
    /// How many scrapes are answered at a time; 0 for no limit.
    pub max_requests: usize,
    /// The names that are served over TCP.
    pub hosts: Hosts,
    /// Whether `OpenMetrics` has the start of each counter.
    pub created: bool,
    /// What happens to BPF objects.
    pub events: Events,
    /// Returns the wall clock, for the dates of events.
    pub clock: Arc<dyn Fn() -> WallClock + Send + Sync>,
    /// TLS, users and headers; `None` for none.
    pub config: Option<ConfigFile>,
    /// How many file descriptors the process may have.
    pub descriptors: u64,
    /// Whether the page and its API are served.
    pub page: bool,
    /// The settings in force, which the page shows.
    pub settings: Arc<[SettingInForce]>,
}

/// A server on any number of listeners, which share its bounds.
#[derive(Clone)]
pub struct Server {
    pages: Arc<Pages>,
    connections: Arc<Connections>,
    config: Option<ConfigFile>,
    without_config: Arc<Config>,
}

impl Server {
    /// Returns a server of readings, which are rendered on a thread.
    #[must_use]
    pub fn new(source: Source, rendering: Worker, settings: Settings) -> Self {
        let Settings { descriptors, config, .. } = settings;
        Self {
            connections: Connections::new(descriptors),
            config: config.clone(),
            pages: Arc::new(Pages::new(source, rendering, Settings { config, ..settings })),
            without_config: Config::none(),
        }
    }

    /// Reads the configuration file again, if there is one.
    pub async fn reload(&self) {
        if let Some(config) = &self.config {
            config.reload().await;
        }
    }

    /// Serves on a listener until `stop`, and finishes requests in flight, for a second at most.
    ///
    /// # Errors
    ///
    /// If the listener cannot be used.
    pub async fn serve(self, listener: Listener, stop: watch::Receiver<bool>) -> io::Result<()> {
        match listener {
            Listener::Tcp(socket) => self.accept(TcpListener::from_std(socket)?, stop).await,
            Listener::Unix { socket, file } => {
                self.accept(UnixListener::from_std(socket)?, stop).await;
                drop(file);
            }
        }
        Ok(())
    }

    /// Accepts connections until `stop`, then waits for their requests.
    async fn accept(&self, socket: impl Accept, mut stop: watch::Receiver<bool>) {
        let mut tasks = JoinSet::new();
        let mut refused = false;
        loop {
            let accepted = tokio::select! {
                () = stopped(&mut stop) => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok(stream) => {
                    refused = false;
                    // Without room, the connection is closed at once.
                    if let Some(admitted) = self.connections.admit() {
                        let (server, stop) = (self.clone(), stop.clone());
                        tasks.spawn(async move { server.connection(stream, admitted, stop).await });
                    }
                }
                Err(error) if is_of_the_client(&error) => {
                    debug!("a connection ended before it was accepted: {error}");
                }
                Err(error) => {
                    if !refused {
                        warn!("failed to accept a connection: {error}; trying again");
                        refused = true;
                    }
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(bounds::DRAIN, drained).await.is_err() {
            debug!("closed {} connections with requests in flight", tasks.len());
        }
    }

    /// Serves one connection until it ends, exceeds a bound, or makes room for another.
    async fn connection<S: Stream>(self, stream: S, admitted: Admitted, stop: watch::Receiver<bool>) {
        let activity = Arc::clone(&admitted.activity);
        tokio::select! {
            () = self.talk(stream, &activity, stop) => {}
            () = activity.closed() => debug!("closed a connection to make room"),
            reason = watch_over(&activity) => debug!("closed a connection: {reason}"),
        }
    }

    async fn talk<S: Stream>(&self, stream: S, activity: &Arc<Activity>, mut stop: watch::Receiver<bool>) {
        let stream = Watched::new(stream, Arc::clone(activity));
        let accepted = async {
            let config = self.config().await;
            let stream = Transport::accept(stream, &config).await;
            (stream, config)
        };
        let (stream, config) = tokio::select! {
            accepted = accepted => accepted,
            // Nothing was asked yet.
            () = stopped(&mut stop) => return,
        };
        let peer = Peer {
            activity: Arc::clone(activity),
            config,
            is_unix: S::IS_UNIX,
            stop: stop.clone(),
            outdated: Notify::new(),
        };
        match stream {
            Ok(Transport::Plain(stream)) => self.http1(stream, peer, stop).await,
            Ok(Transport::Tls(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                self.http2(*stream, peer, stop).await;
            }
            Ok(Transport::Tls(stream)) => self.http1(*stream, peer, stop).await,
            Err(error) => debug!("TLS handshake failed: {error}"),
        }
    }

    async fn http1<S>(&self, stream: S, peer: Peer, stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(|request| self.respond(request, &peer));
        let connection = http1::Builder::new()
            .max_headers(bounds::HEADER_LINES)
            .max_header_size(bounds::HEAD)
            .max_buf_size(bounds::UNSENT)
            // Ours counts from the first byte of a request on.
            .header_read_timeout(None)
            .serve_connection(TokioIo::new(stream), service);
        finish(connection, http1::Connection::graceful_shutdown, peer.ends(stop)).await;
    }

    async fn http2<S>(&self, stream: S, peer: Peer, stop: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        peer.activity.is_http2();
        let peer = Arc::new(peer);
        let service = service_fn(|request| {
            let (server, peer) = (self.clone(), Arc::clone(&peer));
            async move { server.respond(request, &peer).await }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(bounds::STREAMS)
            .max_header_list_size(u32::try_from(bounds::HEAD).unwrap_or(u32::MAX))
            .max_send_buf_size(bounds::UNSENT)
            .serve_connection(TokioIo::new(stream), service);
        finish(connection, http2::Connection::graceful_shutdown, peer.ends(stop)).await;
    }

    async fn respond(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> Result<http::Response<body::Body>, body::Never> {
        let busy = peer.activity.request();
        let config = self.config().await;
        let is_outdated = !config.has_tls_of(&peer.config);
        let mut response = if is_outdated && config.is_stricter_than(&peer.config) {
            pages::reconnect(busy)
        } else {
            let needs_host = request.version() >= Version::HTTP_11;
            self.pages.respond(&request, &config, peer, busy, needs_host).await
        };
        let headers = response.headers_mut();
        // Names of objects are of any origin: nothing that is served is anything but what it is said to be.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Nothing of it belongs into a page of another origin.
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        // What may be kept says so.
        headers.entry(CACHE_CONTROL).or_insert(NO_STORE);
        if is_outdated {
            peer.outdated.notify_one();
            // HTTP/2 has a frame for it instead.
            if request.version() < Version::HTTP_2 {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
        }
        Ok(response)
    }

    async fn config(&self) -> Arc<Config> {
        match &self.config {
            Some(file) => file.current().await,
            None => Arc::clone(&self.without_config),
        }
    }
}

/// The other end of a connection.
struct Peer {
    activity: Arc<Activity>,
    /// By which it was accepted.
    config: Arc<Config>,
    is_unix: bool,
    stop: watch::Receiver<bool>,
    /// Notified when the configuration asks for another kind of connection.
    outdated: Notify,
}

impl Peer {
    /// Waits until no further request is to be answered.
    async fn ends(&self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = stopped(&mut stop) => {}
            () = self.outdated.notified() => {}
        }
    }
}

/// A connection that was accepted.
enum Transport<S> {
    Plain(S),
    Tls(Box<TlsStream<S>>),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    async fn accept(stream: S, config: &Config) -> io::Result<Self> {
        Ok(match &config.tls {
            None => Self::Plain(stream),
            Some(tls) => Self::Tls(Box::new(tls.acceptor.accept(stream).await?)),
        })
    }
}

/// Serves a connection until it ends; once `end` is ready, only its requests in flight.
async fn finish<C: Future<Output = hyper::Result<()>>>(
    connection: C,
    shut_down: impl FnOnce(Pin<&mut C>),
    end: impl Future<Output = ()>,
) {
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = end => {
            shut_down(connection.as_mut());
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!("a connection ended: {error}");
    }
}

/// A socket that accepts connections.
trait Accept: Send + Sync {
    type Stream: Stream;

    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// A connection.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// Whether permissions of a file decide who may connect, which keeps browsers out.
    const IS_UNIX: bool;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = Self::accept(self).await?;
        probe(&stream)?;
        Ok(stream)
    }
}

impl Stream for TcpStream {
    const IS_UNIX: bool = false;
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(Self::accept(self).await?.0)
    }
}

impl Stream for UnixStream {
    const IS_UNIX: bool = true;
}

/// Reads bytes as the headers and the query of a request.
#[doc(hidden)]
pub fn fuzz_headers(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _any = (negotiate::format(&[&text]), negotiate::coding(&[&text]));
    let _any = (Hosts::default().serve(&text), collectors::Collectors::parse(&text));
    let _any = event_stream::Query::parse(&text);
}

/// Reads bytes as the query of a request for the page and its API, and writes them as a text of the page.
#[doc(hidden)]
pub fn fuzz_page(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    api::parameters::fuzz(&text);
    page::fuzz(&text);
}

#[doc(hidden)]
pub use self::config::{fuzz_certificate, fuzz_config};

/// Waits for the stop; an error means that the sender is gone: stop as well.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _: Result<_, watch::error::RecvError> = stop.wait_for(|stop| *stop).await.map(drop);
}

/// Waits until a connection exceeds a bound, and returns which.
async fn watch_over(activity: &Activity) -> &'static str {
    loop {
        tokio::time::sleep(WATCH).await;
        if let Some(reason) = activity.overdue(Instant::now()) {
            return reason;
        }
    }
}

/// Returns whether accepting failed for a reason of the client, which says nothing about the next one.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::NotConnected
            | io::ErrorKind::Interrupted
    )
}

/// Makes the kernel find out whether a quiet client is still there.
fn probe(stream: &TcpStream) -> io::Result<()> {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &seconds(bounds::PROBE_AFTER))?;
    setsockopt(stream, sockopt::TcpKeepInterval, &seconds(bounds::PROBE_INTERVAL))?;
    setsockopt(stream, sockopt::TcpKeepCount, &bounds::PROBES)?;
    Ok(())
}
