//! Buffers of delivered requests, reused for new ones: allocating megabytes costs more than filling them.
//! Entry point: [`BufferPool`].

use prost::bytes::Bytes;

/// Maximum size of the buffers that are kept.
const MAX_KEPT_BYTES: usize = 4 << 20;

/// Buffers of earlier requests.
#[derive(Debug, Default)]
pub(super) struct BufferPool {
    /// Requests that may not be delivered yet, [`MAX_KEPT_BYTES`] in all.
    kept: Vec<Bytes>,
    /// Length of the longest request so far.
    longest: usize,
}

impl BufferPool {
    /// Returns an empty buffer: that of a request that is no longer in use, or a new one.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let free = self.kept.iter().position(Bytes::is_unique);
        let mut buffer = free.map(|index| Vec::from(self.kept.swap_remove(index))).unwrap_or_default();
        buffer.clear();
        buffer.reserve(self.longest);
        buffer
    }

    /// Keeps a reference to a request's buffer, to take it once the request is dropped.
    pub(super) fn keep(&mut self, bytes: &Bytes) {
        self.longest = self.longest.max(bytes.len());
        if self.kept.iter().map(Bytes::len).sum::<usize>() + bytes.len() <= MAX_KEPT_BYTES {
            self.kept.push(bytes.clone());
        }
    }
}
