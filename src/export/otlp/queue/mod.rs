//! Queues of encoded requests between the producer and the delivery to one destination.
//! Entry point: [`MemoryQueue`].
//!
//! A request stays in its queue until it is settled: delivered, refused, dropped for lack of space, or dropped at shutdown. The
//! delivery peeks at the oldest request and acknowledges it, so a delivery that is cancelled loses nothing: the next
//! [`front`](MemoryQueue::front) returns the same request. What every queue offers, in memory or on disk:
//!
//! - `begin_sample`, `push`: add a request, called on a blocking thread, so a disk queue may write there. Without space the
//!   oldest request that is not in flight is dropped; the newest sample stays complete. `push` does not fail: a disk queue
//!   counts a request that it cannot write as it counts one without space.
//! - `front`: waits for the oldest request, marks it in flight and returns it. A disk queue reads it here.
//! - `done`: removes the request in flight. A disk queue moves its cursor.
//! - `retry`: marks the request in flight as waiting again, at the front, where it may be dropped.
//! - `drained`: waits until the producer can reuse the buffers of its requests. A disk queue returns at once, since its copy is on disk.
//! - `close`, `closed`, `is_closed`: end of the producer. `front` still returns what is left, then `None`.
//! - `shut_down`: end of the delivery; returns how many items are dropped. A disk queue drops nothing and leaves its requests to the
//!   next start.
//!
//! One delivery reads a queue. Each destination has its own queue, ledger and delivery: the producer pushes the same
//! `Arc<Request>` to all of them, so a slow destination costs others no copy, only the reuse of the buffer.

mod memory;

pub use self::memory::MemoryQueue;
