//! How the C library hands memory out: large pieces by themselves, so that they go back to the system when they are done with.
//! A reading, an encoding and a scrape of a big node each take megabytes for a moment, every one on another thread.
#![expect(unsafe_code, reason = "the allocator's settings have no safe interface")]

/// From this size on a piece is mapped by itself and unmapped when it is freed. It is glibc's own value at start.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: libc::c_int = 128 * 1024;

/// Keeps large pieces out of the heaps of the threads.
///
/// glibc raises its threshold to the size of whatever large piece is freed first. From then on such pieces come from the heap
/// of the thread that asks, and stay there: five times as much memory for 16,000 objects (`docs/decisions/0004-memory.md`).
/// Setting the threshold keeps it where it is. Other C libraries need no such thing.
pub fn return_large_pieces() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers and may be called at any time; nothing rests on its success.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
    }
}
