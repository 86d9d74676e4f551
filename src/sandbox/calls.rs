//! The system calls that threads use once the iterators are loaded. Entry points: [`of_readings`] and [`of_others`].
//!
//! What is in the lists: calls of this program and its libraries, and those that the C library (glibc, musl) and tokio use in their
//! place on some kernel or processor. The hot ones have no condition: then the kernel does not run the filter for them.

use super::filter::Condition::{Absent, AllOf, Always, NoneOf, OneOf};
use super::filter::Rule;
use crate::sys::bpf::Command;

/// Flags of open(2) that write: the access mode, `O_CREAT` and `O_TRUNC`.
const WRITING: u32 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC).cast_unsigned();

/// `CLONE_THREAD`: a thread of this process. Without it a call makes a process.
const THREAD: u32 = libc::CLONE_THREAD.cast_unsigned();

/// What prctl(2) may do: names of threads and of memory (`PR_SET_VMA`, glibc 2.39), and reading.
const PROCESS_SETTINGS: &[u32] = &[
    libc::PR_SET_NAME.cast_unsigned(),
    libc::PR_GET_NAME.cast_unsigned(),
    libc::PR_GET_DUMPABLE.cast_unsigned(),
    libc::PR_GET_NO_NEW_PRIVS.cast_unsigned(),
    libc::PR_GET_SECCOMP.cast_unsigned(),
    libc::PR_CAPBSET_READ.cast_unsigned(),
    0x5356_4D41,
];

/// Commands of bpf(2) for readings: queries, and updates of the iterators' own maps. None loads, creates, attaches or detaches. Those of
/// a reading by id come first.
const BPF_QUERIES: &[u32] = &[
    Command::ObjGetInfoByFd as u32,
    Command::ProgGetFdById as u32,
    Command::MapGetFdById as u32,
    Command::ProgGetNextId as u32,
    Command::MapGetNextId as u32,
    Command::LinkGetFdById as u32,
    Command::LinkGetNextId as u32,
    Command::BtfGetFdById as u32,
    Command::BtfGetNextId as u32,
    Command::ProgQuery as u32,
    Command::IterCreate as u32,
    Command::MapLookupElem as u32,
    Command::MapUpdateElem as u32,
    Command::MapGetNextKey as u32,
    Command::MapLookupBatch as u32,
    Command::ObjGet as u32,
    Command::TaskFdQuery as u32,
    Command::EnableStats as u32,
];

/// The family of sockets of readings.
const NETLINK: &[u32] = &[libc::AF_NETLINK.cast_unsigned()];

/// The kind of namespaces that a scan enters.
const NETWORK: &[u32] = &[libc::CLONE_NEWNET.cast_unsigned()];

/// Families of sockets for the endpoint, receivers, container runtimes, systemd and the resolver.
const FAMILIES: &[u32] = &[
    libc::AF_UNIX.cast_unsigned(),
    libc::AF_INET.cast_unsigned(),
    libc::AF_INET6.cast_unsigned(),
    libc::AF_NETLINK.cast_unsigned(),
];

/// Memory, threads, time, signals, and reading of open files.
const EVERYWHERE: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_readlinkat,
    libc::SYS_lseek,
    libc::SYS_getdents64,
    libc::SYS_faccessat,
    FACCESSAT2,
    libc::SYS_getcwd,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_ioctl,
    libc::SYS_pipe2,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    MSEAL,
    MAP_SHADOW_STACK,
    libc::SYS_futex,
    FUTEX_WAITV,
    FUTEX_WAKE,
    FUTEX_WAIT,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_rseq,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_membarrier,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigsuspend,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_tgkill,
    libc::SYS_tkill,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_capget,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrusage,
    libc::SYS_prlimit64,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_eventfd2,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
];

/// What the older processors have beside: calls that others replace.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] = &[
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_readlink,
    libc::SYS_access,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_time,
    libc::SYS_getrlimit,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];

// Numbers of calls since 5.0 are the same on all processors, and not every C library has them.
const EPOLL_PWAIT2: libc::c_long = 441;
const FACCESSAT2: libc::c_long = 439;
const FUTEX_WAITV: libc::c_long = 449;
const FCHMODAT2: libc::c_long = 452;
const MAP_SHADOW_STACK: libc::c_long = 453;
const FUTEX_WAKE: libc::c_long = 454;
const FUTEX_WAIT: libc::c_long = 455;
const MSEAL: libc::c_long = 462;
const OPENAT2: libc::c_long = 437;
const CLONE3: libc::c_long = 435;

// The libc crate does not have it for every C library of aarch64.
#[cfg(target_arch = "aarch64")]
const RENAMEAT: libc::c_long = 38;
#[cfg(not(target_arch = "aarch64"))]
const RENAMEAT: libc::c_long = libc::SYS_renameat;

/// What readings and scans use beside: identity of descriptor tables, cgroups by id, and records of CPUs that come online.
const OF_READINGS: &[libc::c_long] =
    &[libc::SYS_kcmp, libc::SYS_open_by_handle_at, libc::SYS_perf_event_open];

/// What the other threads use beside: connections, and files of the backlog.
const OF_OTHERS: &[libc::c_long] = &[
    libc::SYS_openat,
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_accept,
    libc::SYS_shutdown,
    libc::SYS_getpeername,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_socketpair,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    EPOLL_PWAIT2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    RENAMEAT,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_flock,
    libc::SYS_fchmod,
];

#[cfg(target_arch = "x86_64")]
const OLDER_OF_OTHERS: &[libc::c_long] =
    &[libc::SYS_open, libc::SYS_creat, libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_unlink, libc::SYS_rename];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_OF_OTHERS: &[libc::c_long] = &[];

/// Returns the calls of the threads that read the kernel: they query BPF and open files for reading, and can neither load a program nor
/// connect nor write a file.
pub(super) fn of_readings() -> Vec<Rule> {
    let mut rules = common();
    rules.extend(OF_READINGS.iter().map(|&call| (number(call), Always)));
    rules.extend([
        (number(libc::SYS_bpf), OneOf(0, BPF_QUERIES)),
        (number(libc::SYS_setns), OneOf(1, NETWORK)),
        (number(libc::SYS_openat), NoneOf(2, WRITING)),
        (number(libc::SYS_socket), OneOf(0, NETLINK)),
    ]);
    #[cfg(target_arch = "x86_64")]
    rules.push((number(libc::SYS_open), NoneOf(1, WRITING)));
    rules
}

/// Returns the calls of all other threads: they talk to receivers, scrapers and container runtimes, and never to BPF.
pub(super) fn of_others() -> Vec<Rule> {
    let mut rules = common();
    rules.extend(OF_OTHERS.iter().chain(OLDER_OF_OTHERS).map(|&call| (number(call), Always)));
    rules.push((number(libc::SYS_socket), OneOf(0, FAMILIES)));
    rules
}

fn common() -> Vec<Rule> {
    let mut rules: Vec<_> = EVERYWHERE.iter().chain(OLDER).map(|&call| (number(call), Always)).collect();
    rules.extend([
        (number(libc::SYS_prctl), OneOf(0, PROCESS_SETTINGS)),
        (number(libc::SYS_clone), AllOf(0, THREAD)),
        // Its flags are in memory, where a filter cannot see them.
        (number(CLONE3), Absent),
        (number(OPENAT2), Absent),
        (number(FCHMODAT2), Absent),
    ]);
    rules
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).expect("numbers of calls are small")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_call_is_in_a_list_once() {
        for rules in [of_readings(), of_others()] {
            let numbers: BTreeSet<_> = rules.iter().map(|&(number, _)| number).collect();
            assert_eq!(numbers.len(), rules.len());
        }
    }

    /// aarch64 has none of the older calls: what the C library and tokio use there in their place.
    #[test]
    fn calls_without_an_older_form_are_permitted() {
        let always = |rules: Vec<Rule>, call| {
            rules
                .iter()
                .any(|(number, condition)| *number == self::number(call) && matches!(condition, Always))
        };
        for call in [
            libc::SYS_newfstatat,
            libc::SYS_readlinkat,
            libc::SYS_faccessat,
            libc::SYS_dup3,
            libc::SYS_pipe2,
            libc::SYS_ppoll,
            libc::SYS_pselect6,
            libc::SYS_epoll_pwait,
            libc::SYS_prlimit64,
            libc::SYS_clock_gettime,
        ] {
            assert!(always(of_readings(), call) && always(of_others(), call), "{call}");
        }
        for call in [libc::SYS_openat, libc::SYS_mkdirat, libc::SYS_unlinkat, RENAMEAT, libc::SYS_fchmod] {
            assert!(always(of_others(), call), "{call}");
        }
    }

    #[test]
    fn nothing_loads_or_starts_a_program() {
        for loading in [Command::MapCreate, Command::ProgLoad, Command::BtfLoad, Command::LinkCreate] {
            assert!(!BPF_QUERIES.contains(&(loading as u32)));
        }
        for rules in [of_readings(), of_others()] {
            for call in
                [libc::SYS_execve, libc::SYS_execveat, libc::SYS_ptrace, libc::SYS_mount, libc::SYS_capset]
            {
                assert!(!rules.iter().any(|rule| rule.0 == number(call)));
            }
        }
        assert!(!of_others().iter().any(|rule| rule.0 == number(libc::SYS_bpf)));
    }
}
