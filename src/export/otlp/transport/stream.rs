//! Bytes in both directions, whatever is below. Entry point: [`Stream`].

use tokio::io::{AsyncRead, AsyncWrite};

/// What every stream can do.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// TCP, a Unix socket, a tunnel or TLS.
pub(super) type Stream = Box<dyn ByteStream>;
