//! An HTTP connection on a stream that is already open. Entry point: [`Connection`].

use std::error::Error;
use std::io;

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::payload::Payload;
use super::stream::{Observed, Stream};
use crate::export::otlp::settings::Protocol;

/// The longest head of an answer, of a proxy too, in bytes: a gRPC status has its message and details there.
pub(super) const MAX_HEAD_BYTES: usize = 64 << 10;

/// Why a connection has ended: an error of its stream, or of HTTP.
pub(super) type Cause = Box<dyn Error + Send + Sync>;

/// A connection that is kept for the next request.
///
/// Dropping it during a request ends it at once: without a reset from the peer, the kernel would keep it for minutes. Otherwise it is
/// closed as the protocol wants.
#[derive(Debug)]
pub(super) struct Connection {
    sender: Sender,
    /// The task that reads and writes, with the error that ends it.
    task: JoinHandle<Result<(), hyper::Error>>,
    /// The error that ends the stream, as an alert of TLS.
    stream_error: oneshot::Receiver<io::Error>,
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
    pub(super) async fn open(stream: Stream, protocol: Protocol) -> Result<Self, Cause> {
        let (stream, mut stream_error) = Observed::new(stream);
        match start(TokioIo::new(stream), protocol).await {
            Ok((sender, task)) => Ok(Self { sender, task, stream_error, is_busy: false }),
            Err(error) => Err(cause(&mut stream_error, error)),
        }
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
    ) -> Result<http::Response<Incoming>, Cause> {
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
        let error = match sent {
            Ok(response) => return Ok(response),
            // The task has ended before it took the request. It knows why.
            Err(error) if error.is_canceled() || error.is_closed() => match (&mut self.task).await {
                Ok(Err(cause)) => cause,
                _ => error,
            },
            Err(error) => error,
        };
        Err(cause(&mut self.stream_error, error))
    }

    /// Returns the error that has ended the stream, if one has.
    pub(super) fn stream_error(&mut self) -> Option<io::Error> {
        self.stream_error.try_recv().ok()
    }

    /// The answer was read: the connection can be used again.
    pub(super) fn finish(&mut self) {
        self.is_busy = false;
    }
}

/// Starts the protocol and the task that reads and writes.
async fn start(
    io: TokioIo<Observed>,
    protocol: Protocol,
) -> Result<(Sender, JoinHandle<Result<(), hyper::Error>>), hyper::Error> {
    Ok(match protocol {
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
    })
}

/// Returns the error of the stream rather than what HTTP makes of it.
fn cause(stream_error: &mut oneshot::Receiver<io::Error>, error: hyper::Error) -> Cause {
    match stream_error.try_recv() {
        Ok(error) => error.into(),
        Err(_) => error.into(),
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_busy {
            self.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use prost::bytes::Bytes;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;

    /// A stream whose peer says nothing and takes so many bytes.
    struct Failing {
        takes: usize,
    }

    impl AsyncRead for Failing {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Failing {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.takes == 0 {
                return Poll::Ready(Err(io::Error::other("an alert")));
            }
            let taken = self.takes.min(bytes.len());
            self.takes -= taken;
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_failed_write_is_the_cause_whatever_the_library_makes_of_it() {
        for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
            for takes in (0..200).step_by(10) {
                let request =
                    http::Request::post("http://localhost/").body(Payload::plain(Bytes::from(vec![0; 1000])));
                let sent = match Connection::open(Box::new(Failing { takes }), protocol).await {
                    Ok(mut connection) => connection.send(request.expect("it is sound")).await.err(),
                    Err(error) => Some(error),
                };
                let error = sent.expect("it cannot be written");
                assert_eq!(error.to_string(), "an alert", "{protocol:?} after {takes} bytes");
            }
        }
    }
}
