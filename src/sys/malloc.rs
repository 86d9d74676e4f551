//! Settings of the allocator: large buffers are mapped separately, and returned to the system when they are freed.
//!
//! Readings, encodings and scrapes of a large node each allocate megabytes for a moment, each on another thread.
#![expect(unsafe_code, reason = "the allocator's settings have no safe interface")]

/// The size in bytes from which allocations are mapped separately: glibc's initial value.
#[cfg(target_env = "gnu")]
const MMAP_THRESHOLD: libc::c_int = 128 * 1024;

/// Keeps large allocations out of the heaps of threads.
///
/// glibc raises its threshold to the size of each large allocation that is freed. Later allocations of that size come from the
/// heap of the calling thread and stay there: five times as much memory for 16,000 objects (`docs/decisions/0004-memory.md`).
/// Setting the threshold turns this off. Other C libraries do not do it.
pub fn set_mmap_threshold() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two numbers and may be called at any time; nothing depends on its success.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
    }
}
