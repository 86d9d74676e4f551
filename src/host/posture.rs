//! Settings of the kernel for BPF, and the memory of machine code, from `/proc` and securityfs.
//!
//! Entry point: `HostSettingsReader::read`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::issues::Issues;
use super::kept_file::KeptFile;
use super::mounts;
use super::procfs::page_size;
use crate::model::{Feature, HostSettings, Part, Reason};
use crate::sys::{Error, Result, errno_of, failed};

const JIT_ENABLE: &str = "/proc/sys/net/core/bpf_jit_enable";
const JIT_HARDEN: &str = "/proc/sys/net/core/bpf_jit_harden";
const JIT_LIMIT: &str = "/proc/sys/net/core/bpf_jit_limit";
const UNPRIVILEGED_DISABLED: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";
const VMALLOCINFO: &str = "/proc/vmallocinfo";
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";
const LSM: &str = "/sys/kernel/security/lsm";
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Options of a bpffs that delegate to a user namespace, each with a mask or `any` (`bpf_show_options`, `kernel/bpf/inode.c`, since
/// 6.9). The kernel writes none that delegates nothing.
const DELEGATING: [&str; 4] = ["delegate_cmds", "delegate_maps", "delegate_progs", "delegate_attachs"];

/// The directory of these sysctls, and one that every kernel has, but only in the initial network namespace.
const NET_SYSCTLS: &str = "/proc/sys/net/core";
const ONLY_IN_INITIAL: &str = "/proc/sys/net/core/dev_weight";

/// The shortest time between two readings of `/proc/vmallocinfo`, and the part of the time that they may take: a line takes one to
/// three microseconds, and each area of the kernel's virtual memory has one. Stacks of threads and areas that were freed but not yet
/// unmapped are most of them.
const INTERVAL: Duration = Duration::from_mins(1);
const SHARE: u32 = 1000;

/// The most that is read of it: a quarter of a million lines.
const MAX_LEN: u64 = 16 << 20;

/// Functions that allocate memory for machine code and count it towards the limit (`kernel/bpf/core.c`, `kernel/bpf/trampoline.c`),
/// without the suffixes of compilers. Which one is the caller depends on what the compiler inlines. The page of each dispatcher
/// (`bpf_dispatcher_change_prog`) does not count towards the limit.
pub const ALLOCATORS: [&[u8]; 9] = [
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

/// What `/proc/vmallocinfo` says of the memory of machine code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MachineCode {
    /// Its size, in bytes.
    Bytes(u64),
    /// No line is about it: there is none, or the kernel names a common allocator as the caller.
    Unnamed,
    /// The file has no line at all.
    Empty,
}

/// Reads the settings and the size of the memory of machine code, and caches what is dear to read.
#[derive(Debug)]
pub(crate) struct HostSettingsReader {
    jit_enable: Setting,
    jit_harden: Setting,
    jit_limit: Setting,
    unprivileged_disabled: Setting,
    lockdown: Setting,
    lsm: Setting,
    /// Whether `/proc/sys/net` shows only what other network namespaces than the initial one have, once that is known.
    is_elsewhere: Option<bool>,
    cached: Option<CachedMachineCode>,
    /// The number of delegations, and when it was read: a node with pods has thousands of mounts.
    delegations: Option<(u64, Instant)>,
}

/// The memory of machine code, or why it could not be read, at the last attempt.
#[derive(Debug)]
struct CachedMachineCode {
    found: Result<MachineCode>,
    read_at: Instant,
    took: Duration,
}

impl CachedMachineCode {
    fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.read_at) >= INTERVAL.max(self.took.saturating_mul(SHARE))
    }
}

/// A file with a setting, and its path in issues.
#[derive(Debug)]
struct Setting {
    path: &'static str,
    file: KeptFile,
}

impl Setting {
    fn below(root: &Path, path: &'static str) -> Self {
        Self { path, file: KeptFile::below(root, path) }
    }

    /// Reads the text; `None` if this kernel or network namespace does not have it, or, with an issue, if it could not be read.
    fn text(&mut self, issues: &mut Issues) -> Option<String> {
        self.file.read().map_err(|error| record(self.path, &error, issues)).ok()
    }

    /// Reads a number; `None` as for [`Self::text`].
    fn number<N: FromStr>(&mut self, issues: &mut Issues) -> Option<N> {
        let number = self.text(issues)?.trim().parse();
        number.map_err(|_| issues.record(Part::Host, Error::new(self.path, Errno::EBADMSG))).ok()
    }
}

impl Default for HostSettingsReader {
    fn default() -> Self {
        let setting = |path| Setting::below(Path::new("/"), path);
        Self {
            jit_enable: setting(JIT_ENABLE),
            jit_harden: setting(JIT_HARDEN),
            jit_limit: setting(JIT_LIMIT),
            unprivileged_disabled: setting(UNPRIVILEGED_DISABLED),
            lockdown: setting(LOCKDOWN),
            lsm: setting(LSM),
            is_elsewhere: None,
            cached: None,
            delegations: None,
        }
    }
}

impl HostSettingsReader {
    /// Reads the settings, and how old the memory of machine code is. What could not be read is `None`, and an issue or a limit.
    pub(crate) fn read(&mut self, issues: &mut Issues) -> (HostSettings, Duration) {
        let began = Instant::now();
        let jit_enabled = self.jit_enable.number(issues);
        let machine_code = self.machine_code(|| File::open(VMALLOCINFO), issues);
        let posture = HostSettings {
            jit_enabled,
            jit_harden: self.jit_harden.number(issues),
            unprivileged_disabled: self.unprivileged_disabled.number(issues),
            jit_limit: self.jit_limit.number(issues),
            jit_used: used(jit_enabled, machine_code, issues),
            lockdown: lockdown(&mut self.lockdown, issues),
            lsm_enabled: lsm_enabled(&mut self.lsm, issues),
            delegations: self.delegations(Path::new("/"), began, issues),
        };
        if self.is_elsewhere() {
            issues.limit(Feature::HostSettings, Reason::NetworkNamespace);
        }
        let age = self.cached.as_ref().map(|cached| began.saturating_duration_since(cached.read_at));
        (posture, age.unwrap_or_default())
    }

    /// Returns whether the network's sysctls are those of another namespace than the initial one. The namespace of a thread stays what it
    /// is; without `/proc` it is read again.
    fn is_elsewhere(&mut self) -> bool {
        let find = || Path::new(NET_SYSCTLS).exists().then(|| !Path::new(ONLY_IN_INITIAL).exists());
        if self.is_elsewhere.is_none() {
            self.is_elsewhere = find();
        }
        self.is_elsewhere.unwrap_or(false)
    }

    /// Returns the number of bpffs that delegate, at most a minute old; `None` if the mounts could not be read.
    fn delegations(&mut self, root: &Path, now: Instant, issues: &mut Issues) -> Option<u64> {
        let is_due = |&(_, read_at): &(u64, Instant)| now.saturating_duration_since(read_at) >= INTERVAL;
        if self.delegations.as_ref().is_none_or(is_due) {
            self.delegations = delegations(root, issues).map(|count| (count, now));
        }
        self.delegations.map(|(count, _)| count)
    }

    /// Returns what the file says, or said not long ago; `None` if it is not there or could not be read. An attempt that failed is
    /// an issue of each reading until the next one.
    fn machine_code<F: Read>(
        &mut self,
        open: impl FnOnce() -> io::Result<F>,
        issues: &mut Issues,
    ) -> Option<MachineCode> {
        let read_at = Instant::now();
        let fresh = self.cached.take().filter(|cached| !cached.is_due(read_at));
        let cached = if let Some(cached) = fresh {
            cached
        } else {
            let file = open().map_err(|error| record(VMALLOCINFO, &error, issues)).ok()?;
            let found = machine_code_in(file, page_size());
            CachedMachineCode { found, read_at, took: read_at.elapsed() }
        };
        let found = self.cached.insert(cached).found;
        found.map_err(|error| issues.record(Part::Host, error)).ok()
    }
}

/// Returns the size of the memory of machine code. It is unknown where the JIT is enabled and no line is about it: the network code
/// of the kernel itself has programs, so that there is some.
fn used(jit_enabled: Option<u32>, machine_code: Option<MachineCode>, issues: &mut Issues) -> Option<u64> {
    match machine_code? {
        MachineCode::Bytes(bytes) => Some(bytes),
        MachineCode::Unnamed if jit_enabled.is_some_and(|enabled| enabled > 0) => {
            issues.limit(Feature::HostSettings, Reason::Kernel);
            None
        }
        MachineCode::Unnamed | MachineCode::Empty => None,
    }
}

/// Reads how far the kernel is locked down, as a number; `None` without lockdown or securityfs. The level in force is in brackets:
/// `none [integrity] confidentiality` (`lockdown_read`, `security/lockdown/lockdown.c`, since 5.4).
fn lockdown(file: &mut Setting, issues: &mut Issues) -> Option<u32> {
    let text = file.text(issues)?;
    match text.split_whitespace().find_map(|level| level.strip_prefix('[')?.strip_suffix(']')) {
        Some("none") => Some(0),
        Some("integrity") => Some(1),
        Some("confidentiality") => Some(2),
        _ => {
            issues.record(Part::Host, Error::new(LOCKDOWN, Errno::EBADMSG));
            None
        }
    }
}

/// Reads whether `bpf` is among the enabled security modules, `capability,lockdown,bpf`; `None` without securityfs (`lsm_read`,
/// `security/inode.c`, since 4.11; the module since 5.7).
fn lsm_enabled(file: &mut Setting, issues: &mut Issues) -> Option<bool> {
    let text = file.text(issues)?;
    Some(text.trim().split(',').any(|module| module == "bpf"))
}

/// Counts the bpffs in this mount namespace that delegate BPF to a user namespace, each once, however often it is mounted.
fn delegations(root: &Path, issues: &mut Issues) -> Option<u64> {
    let mounts = mounts::read(root).map_err(|error| record(MOUNTINFO, &error, issues)).ok()?;
    let delegating = mounts.iter().filter(|mount| mount.file_system == "bpf" && delegates(&mount.options));
    let devices: HashSet<u64> = delegating.map(|mount| mount.device).collect();
    u64::try_from(devices.len()).ok()
}

/// Returns whether options of a bpffs, `rw,delegate_cmds=0x20`, delegate anything.
fn delegates(options: &str) -> bool {
    let mut options = options.split(',').filter_map(|option| option.split_once('='));
    options.any(|(name, value)| DELEGATING.contains(&name) && !value.is_empty())
}

/// Records an error, unless the file does not exist.
fn record(path: &'static str, error: &io::Error, issues: &mut Issues) {
    if error.kind() != io::ErrorKind::NotFound {
        issues.record(Part::Host, Error::new(path, errno_of(error)));
    }
}

/// Adds up the memory in `/proc/vmallocinfo` that is allocated for machine code of BPF programs.
fn machine_code_in(file: impl Read, page_size: u64) -> Result<MachineCode> {
    let mut file = BufReader::with_capacity(1 << 16, file.take(MAX_LEN));
    let mut line = Vec::new();
    let mut pages = None;
    let mut is_empty = true;
    while file.read_until(b'\n', &mut line).map_err(failed(VMALLOCINFO))? > 0 {
        is_empty = false;
        if let Some(of_line) = jit_pages(&line) {
            pages = Some(of_line.saturating_add(pages.unwrap_or(0)));
        }
        line.clear();
    }
    if file.get_ref().limit() == 0 {
        return Err(Error::new(VMALLOCINFO, Errno::E2BIG));
    }
    Ok(match pages {
        Some(pages) => MachineCode::Bytes(u64::saturating_mul(pages, page_size)),
        None if is_empty => MachineCode::Empty,
        None => MachineCode::Unnamed,
    })
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
    let _size = machine_code_in(bytes, 4096);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// A root directory with one file.
    fn root_with(path: &str, text: &str) -> TempDir {
        let root = TempDir::new().expect("a temporary directory can be created");
        let file = root.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().expect("it is in a directory")).expect("the directory is writable");
        fs::write(file, text).expect("the directory is writable");
        root
    }

    #[test]
    fn lockdown_is_the_level_in_brackets() {
        let levels = [
            ("[none] integrity confidentiality\n", 0),
            ("none [integrity] confidentiality\n", 1),
            ("none integrity [confidentiality]\n", 2),
        ];
        for (text, level) in levels {
            let (root, mut issues) = (root_with(LOCKDOWN, text), Issues::default());
            assert_eq!(lockdown(&mut Setting::below(root.path(), LOCKDOWN), &mut issues), Some(level));
            assert_eq!(issues.all(), []);
        }
    }

    #[test]
    fn malformed_lockdown_is_an_issue() {
        for text in ["", "none integrity confidentiality\n", "[total] none\n", "[none integrity\n"] {
            let (root, mut issues) = (root_with(LOCKDOWN, text), Issues::default());
            assert_eq!(lockdown(&mut Setting::below(root.path(), LOCKDOWN), &mut issues), None);
            let [issue] = issues.all() else { panic!("{:?}", issues.all()) };
            assert_eq!((issue.part, &*issue.call, &*issue.error), (Part::Host, LOCKDOWN, "EBADMSG"));
        }
    }

    #[test]
    fn the_bpf_lsm_is_a_whole_word_of_the_list() {
        let lists = [
            ("capability,lockdown,bpf", true),
            ("bpf", true),
            ("capability,bpf,landlock\n", true),
            ("capability,lockdown,yama", false),
            ("capability,bpfilter,ebpf", false),
        ];
        for (text, enabled) in lists {
            let (root, mut issues) = (root_with(LSM, text), Issues::default());
            assert_eq!(
                lsm_enabled(&mut Setting::below(root.path(), LSM), &mut issues),
                Some(enabled),
                "{text}"
            );
            assert_eq!(issues.all(), []);
        }
    }

    #[test]
    fn what_the_kernel_does_not_have_is_absent_without_an_issue() {
        let (root, mut issues) = (TempDir::new().expect("it can be created"), Issues::default());
        assert_eq!(lockdown(&mut Setting::below(root.path(), LOCKDOWN), &mut issues), None);
        assert_eq!(lsm_enabled(&mut Setting::below(root.path(), LSM), &mut issues), None);
        assert_eq!(delegations(root.path(), &mut issues), None);
        assert_eq!(issues.all(), []);
    }

    #[test]
    fn what_cannot_be_read_is_an_issue() {
        let (root, mut issues) = (TempDir::new().expect("it can be created"), Issues::default());
        for path in [LOCKDOWN, LSM, MOUNTINFO] {
            let directory = root.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(directory).expect("the directory is writable");
        }
        assert_eq!(lockdown(&mut Setting::below(root.path(), LOCKDOWN), &mut issues), None);
        assert_eq!(lsm_enabled(&mut Setting::below(root.path(), LSM), &mut issues), None);
        assert_eq!(delegations(root.path(), &mut issues), None);
        let calls: Vec<_> = issues.all().iter().map(|issue| (&*issue.call, &*issue.error)).collect();
        assert_eq!(calls, [LOCKDOWN, LSM, MOUNTINFO].map(|path| (path, "EISDIR")));
    }

    #[test]
    fn each_bpffs_that_delegates_counts_once() {
        let count = |text: &str| {
            let (root, mut issues) = (root_with(MOUNTINFO, text), Issues::default());
            let count = delegations(root.path(), &mut issues);
            assert_eq!(issues.all(), []);
            count
        };
        let none = "\
            50 31 0:40 / /sys/fs/bpf rw shared:9 - bpf bpf rw,mode=700\n\
            51 31 0:41 / /a rw - bpf bpf rw,delegate_cmds=\n\
            52 31 0:42 / /b rw,delegate_cmds=any - bpf bpf rw\n\
            53 31 0:43 / /c rw - tmpfs none rw,delegate_cmds=any\n\
            54 31 0:44 / /d rw - bpf bpf rw,delegate_others=any\n";
        assert_eq!(count(none), Some(0));
        let some = "\
            60 31 0:50 / /e rw - bpf bpf rw,delegate_cmds=any\n\
            61 31 0:51 / /f rw - bpf bpf rw,delegate_maps=0x4,delegate_progs=any\n\
            62 31 0:52 / /g rw - bpf bpf rw,mode=700,delegate_progs=0x2\n\
            63 31 0:53 / /h rw - bpf bpf rw,delegate_attachs=any\n\
            64 31 0:50 / /again rw - bpf bpf rw,delegate_cmds=any\n\
            65 31 0:51 /directory /bound ro - bpf bpf rw,delegate_maps=0x4,delegate_progs=any\n";
        assert_eq!(count(some), Some(4));
        assert_eq!(count(&[none, some].concat()), Some(4));
        assert_eq!(count(""), Some(0));
    }

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
        assert_eq!(machine_code_in(file.as_bytes(), 4096), Ok(MachineCode::Bytes(515 * 4096)));
        assert_eq!(machine_code_in(file.as_bytes(), 65536), Ok(MachineCode::Bytes(515 * 65536)));
    }

    const UNNAMED: &str = "0xc0000000-0xc0005000 20480 execmem_alloc+0x94/0x3e0 pages=4 vmalloc N0=4\n";

    #[test]
    fn memory_is_unknown_where_no_line_names_the_jit() {
        assert_eq!(machine_code_in(UNNAMED.as_bytes(), 4096), Ok(MachineCode::Unnamed));
        assert_eq!(machine_code_in(&b""[..], 4096), Ok(MachineCode::Empty));
    }

    #[test]
    fn unknown_memory_is_a_limit_of_the_kernel_if_its_jit_is_enabled() {
        let reason_of = |jit_enabled, found| {
            let mut issues = Issues::default();
            assert_eq!(used(jit_enabled, found, &mut issues), None);
            assert_eq!(issues.all(), []);
            issues.state(Feature::HostSettings).reason
        };
        for enabled in [1, 2] {
            assert_eq!(reason_of(Some(enabled), Some(MachineCode::Unnamed)), Some(Reason::Kernel));
        }
        for jit_enabled in [None, Some(0)] {
            assert_eq!(reason_of(jit_enabled, Some(MachineCode::Unnamed)), None);
        }
        assert_eq!(reason_of(Some(1), Some(MachineCode::Empty)), None);
        assert_eq!(reason_of(Some(1), None), None);
        let mut issues = Issues::default();
        assert_eq!(used(Some(1), Some(MachineCode::Bytes(4096)), &mut issues), Some(4096));
        assert_eq!(issues.state(Feature::HostSettings).reason, None);
    }

    #[test]
    fn a_file_beyond_the_limit_is_an_error_rather_than_a_part_of_the_sum() {
        let line = "0xc0000000-0xc0002000 8192 bpf_prog_pack_alloc+0x94/0x3e0 pages=1 vmalloc N0=1\n";
        let endless = io::Cursor::new(line).chain(io::repeat(b'x'));
        assert_eq!(machine_code_in(endless, 4096), Err(Error::new(VMALLOCINFO, Errno::E2BIG)));
    }

    /// A file that cannot be read.
    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(Errno::ENOMEM.into())
        }
    }

    fn not_opened() -> io::Result<io::Empty> {
        panic!("it is read once a minute")
    }

    #[test]
    fn a_failed_attempt_is_an_issue_of_each_reading_until_the_next() {
        for broken in [true, false] {
            let (mut reader, mut issues) = (HostSettingsReader::default(), Issues::default());
            let open = || -> io::Result<Box<dyn Read>> {
                Ok(if broken { Box::new(Broken) } else { Box::new(io::repeat(b'x')) })
            };
            assert_eq!(reader.machine_code(open, &mut issues), None);
            for total in 2..4 {
                issues.start_reading();
                assert!(!issues.any(Part::Host));
                assert_eq!(reader.machine_code(not_opened, &mut issues), None);
                let [issue] = issues.all() else { panic!("{:?}", issues.all()) };
                let error = if broken { "ENOMEM" } else { "E2BIG" };
                assert_eq!((&*issue.error, issue.count, issue.total), (error, 1, total));
            }
        }
    }

    #[test]
    fn what_was_found_is_cached() {
        let (mut reader, mut issues) = (HostSettingsReader::default(), Issues::default());
        let found = reader.machine_code(|| Ok(UNNAMED.as_bytes()), &mut issues);
        assert_eq!(found, Some(MachineCode::Unnamed));
        assert_eq!(reader.machine_code(not_opened, &mut issues), found);
        assert_eq!(issues.all(), []);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_tried_in_each_reading() {
        let (mut reader, mut issues) = (HostSettingsReader::default(), Issues::default());
        let refused = || Err::<io::Empty, _>(io::Error::from(Errno::ENFILE));
        assert_eq!(reader.machine_code(refused, &mut issues), None);
        assert!(issues.any(Part::Host));
        let found = reader.machine_code(|| Ok(UNNAMED.as_bytes()), &mut issues);
        assert_eq!(found, Some(MachineCode::Unnamed));
    }

    #[test]
    fn the_memory_is_read_again_after_a_while_that_is_long_if_it_took_long() {
        let is_due = |age, took| {
            let read_at = Instant::now();
            CachedMachineCode { found: Ok(MachineCode::Empty), read_at, took }.is_due(read_at + age)
        };
        let millisecond = Duration::from_millis(1);
        assert!(!is_due(INTERVAL / 2, millisecond));
        assert!(is_due(INTERVAL, millisecond));
        assert!(!is_due(INTERVAL, INTERVAL / 500));
        assert!(is_due(INTERVAL * 2, INTERVAL / 500));
    }
}
