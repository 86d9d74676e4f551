//! An HTTP server in this process that answers as a script says: any status, headers, body and trailers, whole or cut off, over TCP or a
//! Unix socket, with or without TLS.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future as _;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::CertificateDer;

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Script {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
    /// Whether the connection breaks off after the body.
    is_cut: bool,
    /// Whether the connection is closed after the answer.
    closes: bool,
}

impl Script {
    /// An answer with this status and nothing else.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// A gRPC answer with a message, and a status in its trailers.
    #[must_use]
    pub fn grpc(message: &[u8], status: u16) -> Self {
        let mut body = vec![0];
        body.extend(u32::try_from(message.len()).expect("it is short").to_be_bytes());
        body.extend(message);
        Self::status(200)
            .header("content-type", "application/grpc")
            .body(body)
            .trailer("grpc-status", &status.to_string())
    }

    /// A gRPC success with a message that is compressed.
    #[must_use]
    pub fn grpc_compressed(message: &[u8]) -> Self {
        let mut script = Self::grpc(message, 0);
        let mut body = script.body.to_vec();
        body[0] = 1;
        script.body = body.into();
        script
    }

    /// A success of OTLP over HTTP.
    #[must_use]
    pub fn accepted() -> Self {
        Self::status(200).header("content-type", "application/x-protobuf")
    }

    /// A proxy's page.
    #[must_use]
    pub fn page(status: u16) -> Self {
        Self::status(status)
            .header("content-type", "text/html")
            .body(format!("<html>\n<h1>{status} of a proxy</h1>\n</html>"))
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Adds a trailer.
    #[must_use]
    pub fn trailer(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a value");
        self.trailers.get_or_insert_default().append(HeaderName::from_static(name), value);
        self
    }

    /// Breaks off after the body.
    #[must_use]
    pub fn cut(mut self) -> Self {
        self.is_cut = true;
        self
    }

    /// Closes the connection after the answer.
    #[must_use]
    pub fn close(mut self) -> Self {
        self.closes = true;
        self
    }
}

/// A request that arrived.
#[derive(Debug)]
pub struct Seen {
    /// The path.
    pub path: String,
    /// The host in the head.
    pub authority: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The number of the connection on which it came, from 1 on.
    pub connection: usize,
    /// The certificate of the client.
    pub client: Option<CertificateDer<'static>>,
}

impl Seen {
    /// Returns the text of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A running server. Dropping it ends it.
pub struct Answerer {
    /// The address on which it listens; unspecified for a Unix socket.
    pub address: SocketAddr,
    /// Every request, in order of arrival.
    pub requests: mpsc::UnboundedReceiver<Seen>,
    _tasks: JoinSet<()>,
}

/// How long a server takes to send what is to arrive before it breaks off.
const FLUSHED: Duration = Duration::from_millis(50);

/// Protocol of a server.
#[derive(Clone, Copy, Debug)]
pub enum Http {
    /// HTTP/1.1.
    One,
    /// HTTP/2 without an upgrade.
    Two,
}

#[derive(Clone)]
struct Shared {
    http: Http,
    scripts: Arc<Mutex<VecDeque<Script>>>,
    requests: mpsc::UnboundedSender<Seen>,
}

/// Starts a server on an address. It gives one answer after the other, the last one again and again.
///
/// # Panics
///
/// If the address is in use.
pub async fn start(
    http: Http,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    scripts: impl IntoIterator<Item = Script>,
) -> Answerer {
    let listener = TcpListener::bind(address).await.expect("the address is free");
    let address = listener.local_addr().expect("it is bound");
    let (shared, requests) = shared(http, scripts);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        for number in 1.. {
            let (stream, _) = listener.accept().await.expect("it listens");
            let (shared, tls) = (shared.clone(), tls.clone());
            connections.spawn(async move {
                let Some(tls) = tls else { return serve(shared, stream, number, None).await };
                // A client that does not trust the server goes away.
                let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
                let client =
                    stream.get_ref().1.peer_certificates().map(|chain| chain[0].clone().into_owned());
                serve(shared, stream, number, client).await;
            });
        }
    });
    Answerer { address, requests, _tasks: tasks }
}

/// Starts a server on a Unix socket.
///
/// # Panics
///
/// If the path is in use.
pub fn start_unix(http: Http, path: &Path, scripts: impl IntoIterator<Item = Script>) -> Answerer {
    let listener = UnixListener::bind(path).expect("the path is free");
    let (shared, requests) = shared(http, scripts);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        for number in 1.. {
            let (stream, _) = listener.accept().await.expect("it listens");
            connections.spawn(serve(shared.clone(), stream, number, None));
        }
    });
    Answerer { address: ([0, 0, 0, 0], 0).into(), requests, _tasks: tasks }
}

fn shared(http: Http, scripts: impl IntoIterator<Item = Script>) -> (Shared, mpsc::UnboundedReceiver<Seen>) {
    let (sender, requests) = mpsc::unbounded_channel();
    let scripts = Arc::new(Mutex::new(scripts.into_iter().collect()));
    (Shared { http, scripts, requests: sender }, requests)
}

async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    shared: Shared,
    stream: S,
    connection: usize,
    client: Option<CertificateDer<'static>>,
) {
    let http = shared.http;
    let service = service_fn(move |request| answer(shared.clone(), request, connection, client.clone()));
    let io = TokioIo::new(stream);
    // How a connection ends is what the client sees.
    match http {
        Http::One => drop(http1::Builder::new().serve_connection(io, service).await),
        Http::Two => {
            drop(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await);
        }
    }
}

async fn answer(
    shared: Shared,
    request: http::Request<Incoming>,
    connection: usize,
    client: Option<CertificateDer<'static>>,
) -> Result<http::Response<Scripted>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let host = head.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let authority = head.uri.authority().map_or_else(|| host.to_owned(), ToString::to_string);
    let path = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let seen = Seen { path, authority, headers: head.headers, body, connection, client };
    // The test may not wait for more.
    drop(shared.requests.send(seen));
    let script = {
        let mut scripts = shared.scripts.lock().expect("no test panics here");
        if scripts.len() > 1 { scripts.pop_front() } else { scripts.front().cloned() }
    };
    let script = script.expect("there is a script");
    let mut response =
        http::Response::new(Scripted { script: script.clone(), ends: Box::pin(tokio::time::sleep(FLUSHED)) });
    *response.status_mut() = http::StatusCode::from_u16(script.status).expect("a status");
    *response.headers_mut() = script.headers;
    if script.closes {
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// The body of a script.
struct Scripted {
    script: Script,
    /// Breaks off once what came before is sent.
    ends: Pin<Box<tokio::time::Sleep>>,
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if !self.script.body.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.script.body)))));
        }
        if self.script.is_cut {
            return match self.ends.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Some(Err(std::io::Error::other("cut")))),
                Poll::Pending => Poll::Pending,
            };
        }
        Poll::Ready(self.script.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }
}
