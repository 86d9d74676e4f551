//! An HTTP connection on a stream that is already open. Entry point: [`Connection`].

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinHandle;

use super::payload::Payload;
use super::stream::Stream;
use crate::export::otlp::settings::Protocol;

/// The longest head of an answer, of a proxy too, in bytes: a gRPC status has its message and details there.
pub(super) const MAX_HEAD_BYTES: usize = 64 << 10;

/// A connection that is kept for the next request.
///
/// Dropping it during a request ends it at once: without a reset from the peer, the kernel would keep it for minutes. Otherwise it is
/// closed as the protocol wants.
#[derive(Debug)]
pub(super) struct Connection {
    sender: Sender,
    /// The task that reads and writes, with the error that ends it.
    task: JoinHandle<Result<(), hyper::Error>>,
    /// Whether a request was sent whose answer has not been read.
    is_busy: bool,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Payload>),
    Http2(http2::SendRequest<Payload>),
}

impl Connection {
    /// Starts the protocol on a stream.
    ///
    /// # Errors
    ///
    /// Fails if the peer closes the stream.
    pub(super) async fn open(stream: Stream, protocol: Protocol) -> Result<Self, hyper::Error> {
        let io = TokioIo::new(stream);
        let (sender, task) = match protocol {
            Protocol::Grpc => {
                let mut http = http2::Builder::new(TokioExecutor::new());
                http.max_header_list_size(u32::try_from(MAX_HEAD_BYTES).expect("it is small"));
                let (sender, connection) = http.handshake(io).await?;
                (Sender::Http2(sender), tokio::spawn(connection))
            }
            Protocol::HttpProtobuf => {
                let mut http = http1::Builder::new();
                http.max_buf_size(MAX_HEAD_BYTES);
                let (sender, connection) = http.handshake(io).await?;
                (Sender::Http1(sender), tokio::spawn(connection))
            }
        };
        Ok(Self { sender, task, is_busy: false })
    }

    /// Returns whether the peer has closed the connection, as far as is known.
    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Sends a request and waits for the head of the answer. The caller reads the rest, then calls [`Connection::finish`].
    ///
    /// # Errors
    ///
    /// Fails if the connection ends before, or what arrives is not HTTP.
    pub(super) async fn send(
        &mut self,
        request: http::Request<Payload>,
    ) -> Result<http::Response<Incoming>, hyper::Error> {
        self.is_busy = true;
        let sent = match &mut self.sender {
            Sender::Http1(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
            Sender::Http2(sender) => match sender.ready().await {
                Ok(()) => sender.send_request(request).await,
                Err(error) => Err(error),
            },
        };
        match sent {
            // The task has ended before it took the request. It knows why, as an alert of TLS.
            Err(error) if error.is_canceled() || error.is_closed() => Err(match (&mut self.task).await {
                Ok(Err(cause)) => cause,
                _ => error,
            }),
            sent => sent,
        }
    }

    /// The answer was read: the connection can be used again.
    pub(super) fn finish(&mut self) {
        self.is_busy = false;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_busy {
            self.task.abort();
        }
    }
}
