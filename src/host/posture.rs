//! Settings of the kernel for BPF, and the memory of machine code, from `/proc`. Entry point: [`PostureReader::read`].

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};

use super::issues::Issues;
use crate::model::{Feature, HostPosture, Part, Reason};
use crate::sys::{Error, Result, errno_of, failed};

const JIT_ENABLE: &str = "/proc/sys/net/core/bpf_jit_enable";
const JIT_HARDEN: &str = "/proc/sys/net/core/bpf_jit_harden";
const JIT_LIMIT: &str = "/proc/sys/net/core/bpf_jit_limit";
const UNPRIVILEGED_DISABLED: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";
const VMALLOCINFO: &str = "/proc/vmallocinfo";

/// The directory of these sysctls, and one that every kernel has, but only in the initial network namespace.
const NET_SYSCTLS: &str = "/proc/sys/net/core";
const ONLY_IN_INITIAL: &str = "/proc/sys/net/core/dev_weight";

/// The shortest time between two readings of `/proc/vmallocinfo`, and the part of the time that they may take: there is a line for
/// each thread of the host, of about a microsecond.
const INTERVAL: Duration = Duration::from_mins(1);
const SHARE: u32 = 1000;

/// The most that is read of it: a quarter of a million lines.
const MAX_LEN: u64 = 16 << 20;

/// Functions that allocate memory for machine code and count it towards the limit (`kernel/bpf/core.c`, `kernel/bpf/trampoline.c`),
/// without the suffixes of compilers. Which one is the caller depends on what the compiler inlines. The page of each dispatcher
/// (`bpf_dispatcher_change_prog`) does not count towards the limit.
const ALLOCATORS: [&[u8]; 9] = [
    b"bpf_jit_alloc_exec",
    b"bpf_jit_alloc_exec_page",
    b"bpf_jit_binary_alloc",
    b"bpf_jit_binary_pack_alloc",
    b"bpf_prog_pack_alloc",
    b"alloc_new_pack",
    b"bpf_tramp_image_alloc",
    b"bpf_trampoline_update",
    b"arch_alloc_bpf_trampoline",
];

/// Reads the settings, and keeps the memory of machine code for a while.
#[derive(Debug, Default)]
pub(crate) struct PostureReader {
    used: Option<CachedSize>,
}

/// The memory of machine code, as last read.
#[derive(Debug)]
struct CachedSize {
    bytes: Option<u64>,
    read_at: Instant,
    took: Duration,
}

impl CachedSize {
    fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.read_at) >= INTERVAL.max(self.took.saturating_mul(SHARE))
    }
}

impl PostureReader {
    /// Reads the settings, and how old the memory of machine code is. What could not be read is `None`, and an issue or a limit.
    pub(crate) fn read(&mut self, issues: &mut Issues) -> (HostPosture, Duration) {
        let began = Instant::now();
        let posture = HostPosture {
            jit_enabled: setting(JIT_ENABLE, issues),
            jit_harden: setting(JIT_HARDEN, issues),
            unprivileged_disabled: setting(UNPRIVILEGED_DISABLED, issues),
            jit_limit: setting(JIT_LIMIT, issues),
            jit_used: self.jit_used(issues),
        };
        if Path::new(NET_SYSCTLS).exists() && !Path::new(ONLY_IN_INITIAL).exists() {
            issues.limit(Feature::HostSettings, Reason::NetworkNamespace);
        }
        let age = self.used.as_ref().map(|used| began.saturating_duration_since(used.read_at));
        (posture, age.unwrap_or_default())
    }

    fn jit_used(&mut self, issues: &mut Issues) -> Option<u64> {
        let read_at = Instant::now();
        if self.used.as_ref().is_none_or(|used| used.is_due(read_at)) {
            self.used = None;
            let file = match File::open(VMALLOCINFO) {
                Ok(file) => file,
                Err(error) => {
                    record(VMALLOCINFO, &error, issues);
                    return None;
                }
            };
            let bytes = page_size().and_then(|page_size| allocated(file, page_size));
            let bytes = bytes.unwrap_or_else(|error| {
                issues.record(Part::Host, error);
                None
            });
            self.used = Some(CachedSize { bytes, read_at, took: read_at.elapsed() });
        }
        self.used.as_ref()?.bytes
    }
}

/// Reads the number in a sysctl; `None` if this kernel or network namespace does not have it.
fn setting<N: FromStr>(path: &'static str, issues: &mut Issues) -> Option<N> {
    let text = fs::read_to_string(path).map_err(|error| record(path, &error, issues)).ok()?;
    let number = text.trim().parse();
    number.map_err(|_| issues.record(Part::Host, Error::new(path, Errno::EBADMSG))).ok()
}

/// Records an error, unless the file does not exist.
fn record(path: &'static str, error: &io::Error, issues: &mut Issues) {
    if error.kind() != io::ErrorKind::NotFound {
        issues.record(Part::Host, Error::new(path, errno_of(error)));
    }
}

fn page_size() -> Result<u64> {
    let size = sysconf(SysconfVar::PAGE_SIZE).map_err(|errno| Error::new("sysconf", errno))?;
    size.and_then(|size| u64::try_from(size).ok()).ok_or(Error::new("sysconf", Errno::EINVAL))
}

/// Returns the memory in `/proc/vmallocinfo` that is allocated for machine code of BPF programs, in bytes; `None` if no line is
/// about it, as where the kernel names a common allocator as the caller: then it is unknown.
fn allocated(file: impl Read, page_size: u64) -> Result<Option<u64>> {
    let mut file = BufReader::with_capacity(1 << 16, file.take(MAX_LEN));
    let mut line = Vec::new();
    let mut pages = None;
    while file.read_until(b'\n', &mut line).map_err(failed(VMALLOCINFO))? > 0 {
        if let Some(of_line) = jit_pages(&line) {
            pages = Some(of_line.saturating_add(pages.unwrap_or(0)));
        }
        line.clear();
    }
    if file.get_ref().limit() == 0 {
        return Err(Error::new(VMALLOCINFO, Errno::E2BIG));
    }
    Ok(pages.map(|pages: u64| pages.saturating_mul(page_size)))
}

/// Returns the number of pages in a line about machine code: `0xADDRESS-0xADDRESS 2101248 bpf_prog_pack_alloc+0x28b/0x3a0 pages=512
/// vmalloc N0=512`. The size in front includes a guard page.
fn jit_pages(line: &[u8]) -> Option<u64> {
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
    let caller = fields.nth(2)?.split(|byte| b"+.".contains(byte)).next()?;
    if !ALLOCATORS.contains(&caller) {
        return None;
    }
    let pages = fields.find_map(|field| field.strip_prefix(b"pages="))?;
    str::from_utf8(pages).ok()?.parse().ok()
}

/// Entry point of a fuzzer.
pub(crate) fn fuzz(bytes: &[u8]) {
    let _size = allocated(bytes, 4096);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_machine_code_is_that_of_its_allocators_without_guard_pages() {
        let file = "\
            0x00000000a0000000-0x00000000a0005000   20480 kernel_clone+0x94/0x3e0 pages=4 vmalloc N0=4\n\
            0x00000000a1000000-0x00000000a1201000 2101248 bpf_prog_pack_alloc+0x28b/0x3a0 pages=512 vmalloc N0=512\n\
            0xffffffffc0000000-0xffffffffc0002000    8192 bpf_jit_binary_alloc+0x8e/0x140 pages=1 vmalloc N0=1\n\
            0xffffffffc0004000-0xffffffffc0007000   12288 alloc_new_pack.constprop.0+0x2/0x9 pages=2 vmalloc vpages N1=2\n\
            0xffffffffc0008000-0xffffffffc000a000    8192 bpf_prog_alloc_no_stats+0x39/0x230 pages=1 vmalloc N0=1\n\
            0xffffffffc000c000-0xffffffffc000e000    8192 bpf_dispatcher_change_prog+0x2/0x9 pages=1 vmalloc N0=1\n\
            0xffffffffc0010000-0xffffffffc0012000    8192 execmem_alloc+0x8e/0x140 pages=1 vmalloc N0=1\n\
            0xffffffffc0014000-0xffffffffc0016000    8192 vmap\n\
            0xffffffffc0018000-0xffffffffc001a000    8192\n";
        assert_eq!(allocated(file.as_bytes(), 4096), Ok(Some(515 * 4096)));
        assert_eq!(allocated(file.as_bytes(), 65536), Ok(Some(515 * 65536)));
    }

    #[test]
    fn memory_is_unknown_where_no_line_names_the_jit() {
        let file = "0xc0000000-0xc0005000 20480 execmem_alloc+0x94/0x3e0 pages=4 vmalloc N0=4\n";
        assert_eq!(allocated(file.as_bytes(), 4096), Ok(None));
        assert_eq!(allocated(&b""[..], 4096), Ok(None));
    }

    #[test]
    fn a_file_beyond_the_limit_is_an_error_rather_than_a_part_of_the_sum() {
        let line = "0xc0000000-0xc0002000 8192 bpf_prog_pack_alloc+0x94/0x3e0 pages=1 vmalloc N0=1\n";
        let endless = io::Cursor::new(line).chain(io::repeat(b'\n'));
        assert_eq!(allocated(endless, 4096), Err(Error::new(VMALLOCINFO, Errno::E2BIG)));
    }

    #[test]
    fn the_memory_is_read_again_after_a_while_that_is_long_if_it_took_long() {
        let is_due = |age, took| {
            let read_at = Instant::now();
            CachedSize { bytes: None, read_at, took }.is_due(read_at + age)
        };
        let millisecond = Duration::from_millis(1);
        assert!(!is_due(INTERVAL / 2, millisecond));
        assert!(is_due(INTERVAL, millisecond));
        assert!(!is_due(INTERVAL, INTERVAL / 500));
        assert!(is_due(INTERVAL * 2, INTERVAL / 500));
    }
}
