//! One who is asked: what it says, a test says, at any time.

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

/// What is said to a request for this path.
type Answer = Box<dyn Fn(&str) -> Response + Send>;

/// A wrong answer, and what the log says of it.
pub(crate) type Wrong = (fn() -> Response, &'static str);

/// Marks what stands for no answer.
#[derive(Clone)]
struct Silence;

/// A server on a socket. When dropped it ends as if it had been killed; its socket stays.
pub(crate) struct Fake {
    pub(crate) socket: PathBuf,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

struct State {
    answer: Answer,
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
    /// One that speaks gRPC.
    pub(crate) fn grpc(socket: &Path, answer: impl Fn(&str) -> Response + Send + 'static) -> Self {
        Self::start(socket, answer, |listener, router| async move {
            let connections = stream::unfold(listener, async |listener| {
                let connection = listener.accept().await.map(|(connection, _)| connection);
                Some((connection, listener))
            });
            let server = Server::builder().add_routes(Routes::from(router));
            server.serve_with_incoming(connections).await.expect("it serves");
        })
    }

    /// One that speaks plain HTTP.
    pub(crate) fn http(socket: &Path, answer: impl Fn(&str) -> Response + Send + 'static) -> Self {
        Self::start(socket, answer, |listener, router| async move {
            axum::serve(listener, router).await.expect("it serves");
        })
    }

    fn start<F: Future<Output = ()> + Send + 'static>(
        socket: &Path,
        answer: impl Fn(&str) -> Response + Send + 'static,
        serve: impl FnOnce(UnixListener, Router) -> F,
    ) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listener = {
            let _inside = runtime.enter();
            // It gets its name when it listens, so that nobody who finds it is refused.
            let unnamed = socket.with_extension("unnamed");
            let listener = UnixListener::bind(&unnamed).expect("nobody else has this path");
            std::fs::rename(unnamed, socket).expect("it is ours");
            listener
        };
        let state = Arc::new(Mutex::new(State { answer: Box::new(answer), requests: Vec::new() }));
        let shared = Arc::clone(&state);
        let router = Router::new().fallback(async move |request: Request| {
            let path = request.uri().path().to_owned();
            let answer = {
                let state = &mut *shared.lock().expect("no answer panics");
                state.requests.push(path.clone());
                (state.answer)(&path)
            };
            if answer.extensions().get::<Silence>().is_some() {
                std::future::pending::<()>().await;
            }
            answer
        });
        runtime.spawn(serve(listener, router));
        Self { socket: socket.to_owned(), state, runtime: Some(runtime) }
    }

    /// Says something else from now on.
    pub(crate) fn answer(&self, answer: impl Fn(&str) -> Response + Send + 'static) {
        self.state.lock().expect("no answer panics").answer = Box::new(answer);
    }

    /// What it was asked.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().expect("no answer panics").requests.clone()
    }
}

/// A message, as gRPC sends one. Source: the gRPC specification, "gRPC over HTTP2".
pub(crate) fn message(message: &impl Message) -> Response {
    framed(message.encode_to_vec())
}

/// Bytes in the place of a message.
pub(crate) fn framed(bytes: Vec<u8>) -> Response {
    let length = u32::try_from(bytes.len()).expect("it is not that long");
    let mut frame = vec![0];
    frame.extend(length.to_be_bytes());
    frame.extend(bytes);
    let trailers = [("grpc-status", "0")]
        .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
    let frames = [Frame::data(Bytes::from(frame)), Frame::trailers(trailers.into_iter().collect())];
    let body = StreamBody::new(stream::iter(frames.map(Ok::<_, std::convert::Infallible>)));
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(Body::new(body)).expect("its parts are sound")
}

/// A refusal, as gRPC sends one.
pub(crate) fn status(code: tonic::Code) -> Response {
    let response = Response::builder().header("content-type", "application/grpc");
    let response = response.header("grpc-status", (code as i32).to_string()).header("grpc-message", "no");
    response.body(Body::empty()).expect("its parts are sound")
}

/// An answer of HTTP.
pub(crate) fn http(status: u16, body: impl Into<Body>) -> Response {
    Response::builder().status(status).body(body.into()).expect("its parts are sound")
}

/// Nothing, ever.
pub(crate) fn silence() -> Response {
    let mut response = Response::default();
    response.extensions_mut().insert(Silence);
    response
}

/// What Docker says where one container runs.
pub(crate) fn one_container(_path: &str) -> Response {
    http(200, format!(r#"[{{"Id":"{WEB}","Names":["/web"]}}]"#))
}
