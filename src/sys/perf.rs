//! `perf_event_open(2)`: the kernel's records of BPF programs that are loaded and unloaded on one CPU.
//!
//! Entry point: [`PerfRing::open`]. Independent of what the records mean.
#![expect(
    unsafe_code,
    reason = "perf_event_open(2) has no wrapper in the C library, and its ring is shared memory"
)]

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;

use crate::sys::{Result, failed};

/// The start of `struct perf_event_attr` of `include/uapi/linux/perf_event.h`, up to `PERF_ATTR_SIZE_VER5`.
#[repr(C)]
#[derive(Default)]
struct EventAttr {
    event_type: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_watermark: u32,
    bp_type: u32,
    config1: u64,
    config2: u64,
    branch_sample_type: u64,
    sample_regs_user: u64,
    sample_stack_user: u32,
    clockid: i32,
    sample_regs_intr: u64,
    aux_watermark: u32,
    sample_max_stack: u16,
    reserved: u16,
}

/// The start of `struct perf_event_mmap_page`, the first page of a ring: the positions are at a fixed distance.
#[repr(C)]
struct ControlPage {
    before: [u8; 1024],
    data_head: AtomicU64,
    data_tail: AtomicU64,
}

const _: () = assert!(std::mem::offset_of!(ControlPage, data_head) == 1024);

/// The ring with the records of one CPU. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct PerfRing {
    fd: OwnedFd,
    control: NonNull<ControlPage>,
    /// Size of a page, where the records begin.
    page: usize,
    /// Size of the records, a power of two.
    data: usize,
    /// How long the event had been enabled at the last look, in nanoseconds.
    enabled: u64,
}

// SAFETY: the mapping belongs to this value alone and can be used from any thread; the kernel writes to it from any CPU.
unsafe impl Send for PerfRing {}

impl PerfRing {
    /// Opens the events of a CPU, with a ring of this many bytes, a power of two; of one page if that is larger. Each record wakes who polls the descriptor.
    ///
    /// Records end with the pid and thread of the actor and the time since boot: `PERF_SAMPLE_TID` and `PERF_SAMPLE_TIME` with
    /// `sample_id_all`. Those of symbols come before that of their program, and have its name.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the CPU is not online; `EACCES` without `CAP_PERFMON` (`CAP_SYS_ADMIN` before 5.8), also with `EPERM` if a seccomp
    /// filter or a security module refuses the call; `EINVAL` before 5.1; `EPERM` of mmap(2) beyond `kernel.perf_event_mlock_kb`.
    pub(crate) fn open(cpu: u32, bytes: NonZeroUsize) -> Result<Self> {
        const PERF_TYPE_SOFTWARE: u32 = 1;
        const PERF_COUNT_SW_DUMMY: u64 = 9;
        const PERF_SAMPLE_TID: u64 = 1 << 1;
        const PERF_SAMPLE_TIME: u64 = 1 << 2;
        const PERF_FORMAT_TOTAL_TIME_ENABLED: u64 = 1 << 0;
        const WATERMARK: u64 = 1 << 14;
        const SAMPLE_ID_ALL: u64 = 1 << 18;
        const USE_CLOCKID: u64 = 1 << 25;
        const KSYMBOL: u64 = 1 << 29;
        const BPF_EVENT: u64 = 1 << 30;
        const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 1 << 3;
        let mut attr = EventAttr {
            event_type: PERF_TYPE_SOFTWARE,
            size: u32::try_from(size_of::<EventAttr>()).expect("the size is 112"),
            config: PERF_COUNT_SW_DUMMY,
            sample_type: PERF_SAMPLE_TID | PERF_SAMPLE_TIME,
            read_format: PERF_FORMAT_TOTAL_TIME_ENABLED,
            flags: bit_fields(
                WATERMARK | SAMPLE_ID_ALL | USE_CLOCKID | KSYMBOL | BPF_EVENT,
                cfg!(target_endian = "big"),
            ),
            wakeup_watermark: 1,
            clockid: libc::CLOCK_BOOTTIME,
            ..EventAttr::default()
        };
        let cpu = libc::c_int::try_from(cpu).expect("the kernel has fewer CPUs");
        let (every_process, no_group): (libc::pid_t, libc::c_int) = (-1, -1);
        // SAFETY: `attr` outlives the call and is as long as its field `size` says.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw mut attr,
                every_process,
                cpu,
                no_group,
                PERF_FLAG_FD_CLOEXEC,
            )
        };
        let fd = Errno::result(fd).map_err(failed("perf_event_open"))?;
        // SAFETY: on success the call returns a new descriptor without another owner.
        let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor is an int")) };
        Self::map(fd, bytes, libc::MAP_SHARED)
    }

    fn map(fd: OwnedFd, bytes: NonZeroUsize, flags: libc::c_int) -> Result<Self> {
        // SAFETY: sysconf(3) takes a number.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).expect("Linux reports the page size");
        let data = bytes.get().max(page);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses touches no other memory.
        let start = unsafe { libc::mmap(ptr::null_mut(), page + data, access, flags, fd.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(failed("mmap(perf_event)")(Errno::last()));
        }
        let control = NonNull::new(start.cast()).expect("a mapping is not at address 0");
        Ok(Self { fd, control, page, data, enabled: 0 })
    }

    /// Returns whether nothing is recorded any more. The kernel disables the events of a CPU that goes offline, also when the host
    /// is suspended, and does not enable them when it is back. It says so nowhere, but the time that they were enabled stands still.
    ///
    /// The CPU is interrupted for it. Source: `perf_event_exit_cpu` and `perf_event_read`, `kernel/events/core.c`.
    pub(crate) fn has_ended(&mut self) -> bool {
        // The count, and the time in nanoseconds.
        let mut counts = [0_u8; 16];
        let Ok(16) = nix::unistd::read(&self.fd, &mut counts) else { return true };
        let enabled = u64::from_ne_bytes(counts[8..].try_into().expect("8 bytes"));
        std::mem::replace(&mut self.enabled, enabled) == enabled
    }

    /// Appends the records that were not read yet to `out`, whole and in the order of the kernel, and makes room for as many.
    pub(crate) fn read(&mut self, out: &mut Vec<u8>) {
        let control = self.control.as_ptr();
        // The page is never borrowed as a whole: the kernel writes to the rest of it at any time.
        // SAFETY: the mapping begins with this page and lives as long as `self`; the kernel accesses the two positions atomically.
        let (data_head, data_tail) = unsafe { (&(*control).data_head, &(*control).data_tail) };
        // After the load, what the kernel wrote before it moved the position is visible.
        let head = data_head.load(Ordering::Acquire);
        let tail = data_tail.load(Ordering::Relaxed);
        // The kernel never overtakes the tail of a ring that can be written.
        let len = usize::try_from(head.wrapping_sub(tail)).unwrap_or(usize::MAX).min(self.data);
        let offset = usize::try_from(tail % self.data as u64).expect("it is below the size");
        let first = len.min(self.data - offset);
        for (from, len) in [(offset, first), (0, len - first)] {
            // SAFETY: `from + len` is at most the size of the records, which begin one page after the start of the mapping. The kernel
            // does not write there before the tail moves.
            let bytes = unsafe {
                std::slice::from_raw_parts(self.control.as_ptr().cast::<u8>().add(self.page + from), len)
            };
            out.extend_from_slice(bytes);
        }
        data_tail.store(head, Ordering::Release);
    }
}

impl AsFd for PerfRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for PerfRing {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `map` made, and nothing refers to it any more.
        let _never_fails = unsafe { libc::munmap(self.control.as_ptr().cast(), self.page + self.data) };
    }
}

/// Returns the bits of C bit-fields, counted from the first, as the number that they are in memory: the ABI of a big-endian machine
/// allocates them from the top.
fn bit_fields(bits: u64, is_big_endian: bool) -> u64 {
    if is_big_endian { bits.reverse_bits() } else { bits }
}

#[cfg(test)]
impl PerfRing {
    /// Returns a ring that no kernel writes to. Its descriptor stands in for that of the event.
    pub(crate) fn detached(fd: OwnedFd) -> Self {
        Self::map(fd, NonZeroUsize::MIN, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).expect("there is memory")
    }

    /// Writes as the kernel does.
    pub(crate) fn write(&mut self, record: &[u8]) {
        let control = self.control.as_ptr();
        // SAFETY: the mapping begins with this page and lives as long as `self`.
        let data_head = unsafe { &(*control).data_head };
        let head = data_head.load(Ordering::Relaxed);
        for (position, byte) in (head..).zip(record) {
            let offset = usize::try_from(position % self.data as u64).expect("it is below the size");
            // SAFETY: the offset is below the size of the records, which begin one page after the start of the mapping.
            unsafe { control.cast::<u8>().add(self.page + offset).write(*byte) };
        }
        data_head.store(head + record.len() as u64, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Write as _, pipe};

    use super::*;

    #[test]
    fn the_first_bit_field_is_in_the_first_byte() {
        assert_eq!(bit_fields(1 | 1 << 9, false).to_le_bytes(), [0x01, 0x02, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bit_fields(1 | 1 << 9, true).to_be_bytes(), [0x80, 0x40, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn records_are_read_once_and_whole_also_beyond_the_end_of_the_ring() {
        let mut ring = PerfRing::detached(pipe().expect("a pipe").0.into());
        let record: Vec<u8> = (0..=255).cycle().take(ring.data / 3 + 1).collect();
        for _ in 0..10 {
            ring.write(&record);
            ring.write(&record);
            let mut out = Vec::new();
            ring.read(&mut out);
            ring.read(&mut out);
            assert_eq!(out, [&record[..], &record].concat());
        }
    }

    #[test]
    fn an_event_has_ended_when_its_time_stands_still() {
        let (reader, mut counts) = pipe().expect("a pipe");
        let mut ring = PerfRing::detached(reader.into());
        let mut has_ended = |enabled: u64| {
            counts.write_all(&[0_u64.to_ne_bytes(), enabled.to_ne_bytes()].concat()).expect("there is room");
            ring.has_ended()
        };
        assert_eq!([5, 6, 6, 7].map(&mut has_ended), [false, false, true, false]);
        drop(counts);
        assert!(ring.has_ended(), "nothing can be read");
    }
}
