//! An HTTP connection on a stream that is already open. Entry point: [`Connection`].

use std::error::Error;
use std::io;

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::causes;
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
    /// The error that ends the stream, such as an alert of TLS.
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

/// Returns the error of the stream rather than what HTTP makes of it, unless that is about what the peer sent: it came first.
fn cause(stream_error: &mut oneshot::Receiver<io::Error>, error: hyper::Error) -> Cause {
    match stream_error.try_recv() {
        Ok(stream_error) if !is_of_peer(&error) => stream_error.into(),
        _ => error.into(),
    }
}

/// Returns whether an error is about what the peer sent: an answer that is not HTTP or has too long a head, or the end of a request or of
/// the connection. An error of the stream is neither of the peer nor of the library.
fn is_of_peer(error: &hyper::Error) -> bool {
    let http2 = causes(error).find_map(|error| error.downcast_ref::<h2::Error>());
    error.is_parse() || http2.is_some_and(|error| error.is_remote() || error.is_library())
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

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;

    /// The length of the body of a request.
    const BODY: usize = 1000;

    /// A stream that accepts `takes` bytes. A peer that has received the whole request answers with `sends` and closes the stream:
    /// later writes fail.
    struct Failing {
        takes: usize,
        taken: usize,
        sends: &'static [u8],
    }

    impl Failing {
        fn new(takes: usize, sends: &'static [u8]) -> Self {
            Self { takes, taken: 0, sends }
        }
    }

    impl AsyncRead for Failing {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.taken < BODY {
                return Poll::Pending;
            }
            if self.sends.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            buffer.put_slice(std::mem::take(&mut self.sends));
            self.takes = self.taken;
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Failing {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let taken = bytes.len().min(self.takes - self.taken);
            if taken == 0 {
                return Poll::Ready(Err(io::Error::other("an alert")));
            }
            self.taken += taken;
            context.waker().wake_by_ref();
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Returns why a request on this stream fails.
    async fn error_of(stream: Failing, protocol: Protocol) -> Cause {
        let request = http::Request::post("http://localhost/").body(Payload::plain(vec![0; BODY].into()));
        let sent = match Connection::open(Box::new(stream), protocol).await {
            Ok(mut connection) => connection.send(request.expect("it is sound")).await.err(),
            Err(error) => Some(error),
        };
        sent.expect("the stream fails")
    }

    #[tokio::test]
    async fn a_failed_write_is_the_cause_whatever_the_library_makes_of_it() {
        for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
            for takes in (0..200).step_by(10) {
                let error = error_of(Failing::new(takes, b""), protocol).await;
                assert_eq!(error.to_string(), "an alert", "{protocol:?} after {takes} bytes");
            }
        }
    }

    #[tokio::test]
    async fn what_the_peer_says_is_the_cause_although_the_stream_breaks_off_then() {
        // Settings, and GOAWAY with ENHANCE_YOUR_CALM.
        let calm = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";
        let error = error_of(Failing::new(usize::MAX, calm), Protocol::Grpc).await;
        let reasons: Vec<_> = causes(&*error).filter_map(|error| error.downcast_ref::<h2::Error>()).collect();
        assert_eq!(reasons[0].reason(), Some(h2::Reason::ENHANCE_YOUR_CALM), "{error:?}");

        let no_http2 = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        let error = error_of(Failing::new(usize::MAX, no_http2), Protocol::Grpc).await;
        let reasons: Vec<_> = causes(&*error).filter_map(|error| error.downcast_ref::<h2::Error>()).collect();
        assert_eq!(reasons[0].reason(), Some(h2::Reason::FRAME_SIZE_ERROR), "{error:?}");

        let other = Failing::new(usize::MAX, b"SSH-2.0-OpenSSH\r\n");
        let error = error_of(other, Protocol::HttpProtobuf).await;
        assert!(error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse), "{error:?}");

        let broken = Failing::new(usize::MAX, b"HTTP/1.1 2");
        let error = error_of(broken, Protocol::HttpProtobuf).await;
        assert!(error.is::<io::Error>(), "{error:?}");
    }
}
