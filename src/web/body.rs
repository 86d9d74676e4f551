//! The body of a response. A stored answer is shared by all who take it: each client has a position in it, not a copy.

use std::convert::Infallible;
use std::io::{self, BufRead, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use flate2::bufread::GzDecoder;
use http_body::{Frame, SizeHint};
use hyper::body::Bytes;

use super::activity::Busy;
use super::answers::Answer;
use super::connections::Scrape;
use super::event_stream::EventStream;
use super::negotiate::Coding;
use crate::export::prometheus::Cursor;

/// Size of the pieces in which an answer is sent that is not stored as it is sent.
const PIECE: usize = 16 << 10;

/// A response's body; it keeps what the connection's bounds depend on.
pub(super) struct Body {
    content: Content,
    /// A text is no scrape.
    _scrape: Option<Arc<Scrape>>,
    busy: Busy,
}

enum Content {
    Text(Bytes),
    /// As it is stored.
    Stored(Pieces),
    /// Decompressed for a client that does not do it itself, and how much is left.
    Inflated(Box<GzDecoder<Pieces>>, u64),
    /// Put together from what is in memory once, and how much is left.
    Lines {
        cursor: Box<Cursor>,
        left: u64,
        _answer: Arc<Answer>,
    },
    Events(EventStream),
}

/// A stored answer, from a position on.
pub(super) struct Pieces {
    all: Arc<[Bytes]>,
    next: usize,
    /// What was read of the next piece.
    consumed: usize,
}

impl Pieces {
    pub(super) fn new(all: Arc<[Bytes]>) -> Self {
        Self { all, next: 0, consumed: 0 }
    }

    fn len(&self) -> u64 {
        self.all.iter().skip(self.next).map(|piece| piece.len() as u64).sum()
    }
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.all.get(self.next).map_or(&[], |piece| &piece[self.consumed..]))
    }

    fn consume(&mut self, bytes: usize) {
        self.consumed += bytes;
        if self.all.get(self.next).is_some_and(|piece| self.consumed >= piece.len()) {
            self.next += 1;
            self.consumed = 0;
        }
    }
}

impl Body {
    pub(super) fn text(text: impl Into<Bytes>, busy: Busy) -> Self {
        Self::new(Content::Text(text.into()), None, busy)
    }

    /// Returns a body with these pieces.
    pub(super) fn stored(pieces: Pieces, scrape: Arc<Scrape>, busy: Busy) -> Self {
        Self::new(Content::Stored(pieces), Some(scrape), busy)
    }

    /// Returns a body with an answer that was rendered for this coding.
    pub(super) fn answer(answer: &Arc<Answer>, coding: Coding, scrape: Arc<Scrape>, busy: Busy) -> Self {
        let content = match &**answer {
            Answer::Compressed { pieces, plain } => {
                let pieces = Pieces::new(Arc::clone(pieces));
                match coding {
                    Coding::Identity => Content::Inflated(Box::new(GzDecoder::new(pieces)), *plain),
                    Coding::Gzip | Coding::Zstd => Content::Stored(pieces),
                }
            }
            Answer::Lines { lines, .. } => {
                let cursor = Box::new(Cursor::new(Arc::clone(lines)));
                Content::Lines { cursor, left: lines.text_len(), _answer: Arc::clone(answer) }
            }
        };
        Self::new(content, Some(scrape), busy)
    }

    pub(super) fn events(stream: EventStream, busy: Busy) -> Self {
        Self::new(Content::Events(stream), None, busy)
    }

    /// Every body is under way from here on, also the shortest: a client of HTTP/2 may take nothing of it.
    fn new(content: Content, scrape: Option<Arc<Scrape>>, busy: Busy) -> Self {
        match content.len() {
            Some(bytes) => busy.answers(bytes),
            None => busy.streams(),
        }
        Self { content, _scrape: scrape, busy }
    }
}

impl Content {
    /// Returns what is left to send, in bytes. `None` if it has no end.
    fn len(&self) -> Option<u64> {
        match self {
            Self::Text(text) => Some(text.len() as u64),
            Self::Stored(pieces) => Some(pieces.len()),
            Self::Inflated(_, left) | Self::Lines { left, .. } => Some(*left),
            Self::Events(_) => None,
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut self.content {
            Content::Text(text) => {
                Some(Ok(std::mem::take(text))).filter(|text| !matches!(text, Ok(text) if text.is_empty()))
            }
            Content::Stored(pieces) => {
                let piece = pieces.all.get(pieces.next).cloned();
                pieces.next += 1;
                piece.map(Ok)
            }
            Content::Inflated(_, 0) | Content::Lines { left: 0, .. } => None,
            Content::Lines { cursor, left, .. } => {
                let piece = cursor.read(PIECE);
                *left -= piece.len() as u64;
                Some(Ok(piece.into()))
            }
            Content::Inflated(decoder, left) => {
                let size = usize::try_from(*left).map_or(PIECE, |left| left.min(PIECE));
                let mut piece = vec![0; size];
                let inflated = decoder.read_exact(&mut piece).map(|()| Bytes::from(piece));
                *left -= size as u64;
                Some(inflated)
            }
            Content::Events(stream) => ready!(stream.poll_piece(context)),
        };
        if let Some(Ok(piece)) = &next {
            self.busy.taken(piece.len());
        }
        Poll::Ready(next.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Text(text) => text.is_empty(),
            Content::Stored(pieces) => pieces.next >= pieces.all.len(),
            Content::Inflated(_, left) | Content::Lines { left, .. } => *left == 0,
            Content::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.content.len().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// The error of a service that always answers.
pub(super) type Never = Infallible;
