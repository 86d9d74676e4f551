//! Pages shared with the kernel: mmap(2) of a map, read and written one whole number at a time.
//! Independent of the contents. Entry point: [`Mapping::new`].

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What may be done with a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Access {
    Read,
    ReadAndWrite,
}

/// Pages of a file, mapped until dropped.
#[derive(Debug)]
pub(in super::super) struct Mapping {
    start: NonNull<u8>,
    length: usize,
    access: Access,
}

// SAFETY: the pages belong to the mapping wherever it goes, and are reached by atomic operations only.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of `file` from `offset`, which is a multiple of the page size.
    pub(in super::super) fn new(
        file: BorrowedFd<'_>,
        offset: usize,
        length: usize,
        access: Access,
    ) -> io::Result<Self> {
        let protection = match access {
            Access::Read => libc::PROT_READ,
            Access::ReadAndWrite => libc::PROT_READ | libc::PROT_WRITE,
        };
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let anywhere = ptr::null_mut();
        // SAFETY: the kernel chooses a place where nothing is mapped.
        let mapped =
            unsafe { libc::mmap(anywhere, length, protection, libc::MAP_SHARED, file.as_raw_fd(), offset) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(mapped.cast()).ok_or_else(|| io::Error::other("a mapping at nowhere"))?;
        Ok(Self { start, length, access })
    }

    /// The number at `offset`, in bytes, and all that was written before it.
    pub(in super::super) fn load(&self, offset: usize) -> u64 {
        let place = self.place(offset, size_of::<u64>()).cast::<AtomicU64>();
        // SAFETY: `place` lies in the mapping, is aligned, and all accesses are atomic.
        unsafe { place.as_ref() }.load(Ordering::Acquire)
    }

    /// The same, of half the size.
    pub(in super::super) fn load_half(&self, offset: usize) -> u32 {
        let place = self.place(offset, size_of::<u32>()).cast::<AtomicU32>();
        // SAFETY: as in `load`.
        unsafe { place.as_ref() }.load(Ordering::Acquire)
    }

    /// Writes a number at `offset`, in bytes, after all that was written before it.
    pub(in super::super) fn store(&self, offset: usize, number: u64) {
        assert_eq!(self.access, Access::ReadAndWrite, "the pages may be written");
        let place = self.place(offset, size_of::<u64>()).cast::<AtomicU64>();
        // SAFETY: as in `load`, and the pages may be written.
        unsafe { place.as_ref() }.store(number, Ordering::Release);
    }

    fn place(&self, offset: usize, size: usize) -> NonNull<u8> {
        assert!(
            offset.is_multiple_of(size) && offset + size <= self.length,
            "{offset} is not in the mapping"
        );
        // SAFETY: the assertion has found it to lie inside.
        unsafe { self.start.add(offset) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it outlives a call.
        let _unmapped: c_int = unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// How many bytes a page has on this machine.
pub(in super::super) fn page_size() -> io::Result<usize> {
    // SAFETY: the argument is a number.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(io::Error::other)
}
