//! Fake runtimes with responses that the test sets at any time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures_util::stream;
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use prost::Message;
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tonic::service::Routes;
use tonic::transport::Server;

use super::WEB;

/// Returns the response to a request for a path.
type Responder = Box<dyn Fn(&str) -> Response + Send>;

/// An invalid response, and a part of the log line about it.
pub(crate) type BadResponse = (fn() -> Response, &'static str);

/// Marks a request that is never answered.
#[derive(Clone)]
struct NoResponse;

/// A server on a socket. Dropping it ends it as if killed: its socket stays.
pub(crate) struct Fake {
    pub(crate) socket: PathBuf,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

struct State {
    respond: Responder,
    requests: Vec<String>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Fake {
    /// Starts a gRPC server.
    pub(crate) fn grpc(socket: &Path, respond: impl Fn(&str) -> Response + Send + 'static) -> Self {
        Self::start(socket, respond, |listener, router| async move {
            let connections = stream::unfold(listener, async |listener| {
                let connection = listener.accept().await.map(|(connection, _)| connection);
                Some((connection, listener))
            });
            let server = Server::builder().add_routes(Routes::from(router));
            server.serve_with_incoming(connections).await.expect("it serves");
        })
    }

    /// Starts an HTTP server.
    pub(crate) fn http(socket: &Path, respond: impl Fn(&str) -> Response + Send + 'static) -> Self {
        Self::start(socket, respond, |listener, router| async move {
            axum::serve(listener, router).await.expect("it serves");
        })
    }

    fn start<F: Future<Output = ()> + Send + 'static>(
        socket: &Path,
        respond: impl Fn(&str) -> Response + Send + 'static,
        serve: impl FnOnce(UnixListener, Router) -> F,
    ) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = {
            let _inside = runtime.enter();
            // Renamed once it listens, so that no client is refused.
            let unnamed = socket.with_extension("unnamed");
            let listener = UnixListener::bind(&unnamed).expect("the path is new");
            std::fs::rename(unnamed, socket).expect("it is our own");
            listener
        };
        let state = Arc::new(Mutex::new(State { respond: Box::new(respond), requests: Vec::new() }));
        let shared = Arc::clone(&state);
        let router = Router::new().fallback(async move |request: Request| {
            let path = request.uri().path_and_query().expect("a path").to_string();
            let response = {
                let state = &mut *shared.lock().expect("no responder panics");
                state.requests.push(path.clone());
                (state.respond)(&path)
            };
            if response.extensions().get::<NoResponse>().is_some() {
                std::future::pending::<()>().await;
            }
            response
        });
        runtime.spawn(serve(listener, router));
        Self { socket: socket.to_owned(), state, runtime: Some(runtime) }
    }

    /// Sets the responses from now on.
    pub(crate) fn respond(&self, respond: impl Fn(&str) -> Response + Send + 'static) {
        self.state.lock().expect("no responder panics").respond = Box::new(respond);
    }

    /// Returns how often Docker was queried: the requests for its list of running containers.
    pub(crate) fn docker_queries(&self) -> usize {
        self.requests().iter().filter(|path| *path == "/containers/json").count()
    }

    /// Returns the paths of all requests.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().expect("no responder panics").requests.clone()
    }
}

/// Returns a gRPC response with a message. Source: the gRPC specification, "gRPC over HTTP2".
pub(crate) fn message(message: &impl Message) -> Response {
    framed(message.encode_to_vec())
}

/// Returns a gRPC response with arbitrary bytes in place of a message.
pub(crate) fn framed(bytes: Vec<u8>) -> Response {
    let length = u32::try_from(bytes.len()).expect("it is shorter than 4 GiB");
    let mut frame = vec![0];
    frame.extend(length.to_be_bytes());
    frame.extend(bytes);
    let trailers = [("grpc-status", "0")]
        .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
    let frames = [Frame::data(Bytes::from(frame)), Frame::trailers(trailers.into_iter().collect())];
    let body = StreamBody::new(stream::iter(frames.map(Ok::<_, std::convert::Infallible>)));
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(Body::new(body)).expect("all parts are valid")
}

/// Returns a gRPC error.
pub(crate) fn status(code: tonic::Code) -> Response {
    let response = Response::builder().header("content-type", "application/grpc");
    let response = response.header("grpc-status", (code as i32).to_string()).header("grpc-message", "no");
    response.body(Body::empty()).expect("all parts are valid")
}

/// Returns an HTTP response.
pub(crate) fn http(status: u16, body: impl Into<Body>) -> Response {
    Response::builder().status(status).body(body.into()).expect("all parts are valid")
}

/// Marks the request as one that is never answered.
pub(crate) fn no_response() -> Response {
    let mut response = Response::default();
    response.extensions_mut().insert(NoResponse);
    response
}

/// Returns the response of Docker on a host with one container.
pub(crate) fn one_container(_path: &str) -> Response {
    http(200, format!(r#"[{{"Id":"{WEB}","Names":["/web"]}}]"#))
}
