//! Bodies of requests whose message is already encoded. Entry point: [`Payload`].
//!
//! An encoder would copy megabytes each time into newly allocated memory.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Frame, SizeHint};
use prost::bytes::Bytes;

/// A body of at most two pieces.
#[derive(Debug)]
pub(super) struct Payload {
    /// What is not sent yet, in order.
    pieces: [Option<Bytes>; 2],
}

impl Payload {
    /// Returns the body of a gRPC request: a prefix and the message.
    ///
    /// Source: the gRPC specification, "Length-Prefixed-Message".
    pub(super) fn framed(message: Bytes, compressed: bool) -> Self {
        let mut prefix = Vec::with_capacity(5);
        prefix.push(u8::from(compressed));
        let length = u32::try_from(message.len()).expect("requests are split below this size");
        prefix.extend(length.to_be_bytes());
        Self { pieces: [Some(prefix.into()), Some(message)] }
    }

    /// Returns a body that is the message alone.
    pub(super) fn plain(message: Bytes) -> Self {
        Self { pieces: [Some(message), None] }
    }
}

impl http_body::Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.pieces.iter_mut().find_map(Option::take);
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.iter().all(Option::is_none)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.pieces.iter().flatten().map(|bytes| bytes.len() as u64).sum())
    }
}
