//! Bytes in both directions, whatever is below. Entry points: [`Stream`], [`Observed`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// What every stream can do.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// TCP, a Unix socket, a tunnel or TLS.
pub(super) type Stream = Box<dyn ByteStream>;

/// A stream that hands its first error to a receiver; HTTP gets a copy of its text. The HTTP/2 library passes on the text of a failed
/// read only, and nothing of a failed write.
pub(super) struct Observed {
    stream: Stream,
    report: Option<oneshot::Sender<io::Error>>,
}

impl Observed {
    /// Returns the stream, and what receives its first error.
    pub(super) fn new(stream: Stream) -> (Self, oneshot::Receiver<io::Error>) {
        let (report, error) = oneshot::channel();
        (Self { stream, report: Some(report) }, error)
    }

    fn observe<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(error)) = result else { return result };
        let Some(report) = self.report.take() else { return Poll::Ready(Err(error)) };
        let text = io::Error::new(error.kind(), error.to_string());
        // Nobody receives it if the connection was dropped.
        Poll::Ready(Err(report.send(error).err().unwrap_or(text)))
    }
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.observe(read)
    }
}

impl AsyncWrite for Observed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.observe(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.observe(written)
    }

    /// If this were false, HTTP would copy each request behind its head.
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.observe(flushed)
    }

    /// A failure to say goodbye says nothing of what ended the connection.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
