//! Settings of the host, and the memory of machine code.

use std::fs;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use bpf_metrics_exporter::host::posture::ALLOCATORS;
use bpf_metrics_exporter::model::{self, Feature, HostSettings, Part, Reason, Snapshot};
use caps::{CapSet, CapsHashSet};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use seccompiler::{BpfProgram, sock_filter};
use tempfile::TempDir;
use test_support::objects::{Instruction, Program, ProgramSpec, uapi, wait_until};
use test_support::readers;

const SYSCTLS: [&str; 4] = [
    "net/core/bpf_jit_enable",
    "net/core/bpf_jit_harden",
    "kernel/unprivileged_bpf_disabled",
    "net/core/bpf_jit_limit",
];

/// How long the kernel may take to free programs.
const LIMIT: Duration = Duration::from_secs(30);

/// The first snapshot of a new reader, which has no memory of machine code from before.
fn read() -> Snapshot {
    readers::by_ids().read()
}

/// Reads in a thread that `prepare` changes, and that ends.
fn read_after(prepare: fn()) -> Snapshot {
    let read = move || {
        prepare();
        read()
    };
    thread::spawn(read).join().expect("a reading does not panic")
}

fn reason(snapshot: &Snapshot) -> Option<Reason> {
    snapshot.feature(Feature::HostSettings).expect("it is reported").reason
}

fn assert_no_issue(snapshot: &Snapshot) {
    let issues: Vec<_> = snapshot.issues.iter().filter(|issue| issue.part == Part::Host).collect();
    assert!(issues.is_empty(), "{issues:?}");
    let collector = snapshot.collectors.iter().find(|collector| collector.part == Part::Host);
    assert!(collector.is_some_and(|collector| collector.success), "{collector:?}");
}

pub(crate) fn settings() {
    // There is machine code of a program, if of no other.
    let program = large_program();
    let snapshot = read();
    let is_unknown = jit_is_unnamed();
    drop(program);
    let HostSettings { jit_enabled, jit_harden, unprivileged_disabled, jit_limit, .. } = snapshot.posture;
    let found = [
        jit_enabled.map(u64::from),
        jit_harden.map(u64::from),
        unprivileged_disabled.map(u64::from),
        jit_limit,
    ];
    let expected = SYSCTLS.map(|sysctl| {
        let text = fs::read_to_string(format!("/proc/sys/{sysctl}")).ok()?;
        Some(text.trim().parse().expect("it is a number"))
    });
    assert!(expected.iter().flatten().count() >= 3, "this kernel has them: {expected:?}");
    assert_eq!(found, expected);
    assert_eq!(reason(&snapshot), is_unknown.then_some(Reason::Kernel));
    assert_no_issue(&snapshot);
}

pub(crate) fn without_rights() {
    let snapshot = read_after(|| {
        caps::set(None, CapSet::Effective, &CapsHashSet::new()).expect("a thread may drop capabilities");
    });
    let HostSettings { jit_enabled, jit_harden, jit_limit, .. } = snapshot.posture;
    assert!(jit_enabled.is_some(), "everybody may read it");
    assert_eq!((jit_harden, jit_limit), (None, None));
    let missing = reason(&snapshot);
    let of_sysctls = [model::Capability::SysAdmin, model::Capability::NetAdmin].map(Reason::Missing);
    assert!(missing.is_some_and(|missing| of_sysctls.contains(&missing)), "{missing:?}");
    assert_no_issue(&snapshot);
}

pub(crate) fn in_another_network_namespace() {
    let snapshot = read_after(|| unshare(CloneFlags::CLONE_NEWNET).expect("root may unshare"));
    let HostSettings { jit_enabled, jit_harden, unprivileged_disabled, jit_limit, .. } = snapshot.posture;
    assert_eq!((jit_enabled, jit_harden, jit_limit), (None, None, None));
    assert!(unprivileged_disabled.is_some(), "it belongs to no namespace");
    assert_eq!(reason(&snapshot), Some(Reason::NetworkNamespace));
    assert_no_issue(&snapshot);
}

/// No other test mounts a bpffs that delegates, and all are in a mount namespace of their own.
pub(crate) fn delegations() {
    let nothing: Option<&str> = None;
    let count = || read().posture.delegations.expect("/proc is mounted");
    let before = count();
    let directory = TempDir::with_prefix("delegating-").expect("a temporary directory can be created");
    let [at, again] = ["at", "again"].map(|name| directory.path().join(name));
    for point in [&at, &again] {
        fs::create_dir(point).expect("the directory is writable");
    }
    mount(Some("bpf"), &at, Some("bpf"), MsFlags::empty(), Some("delegate_cmds=any"))
        .expect("root may mount");
    mount(Some(&at), &again, nothing, MsFlags::MS_BIND, nothing).expect("root may mount");
    // Older kernels ignore options of a bpffs that they do not know.
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let point = at.to_str().expect("it is text");
    let line = mountinfo.lines().find(|line| line.split(' ').nth(4) == Some(point));
    let delegates = line.expect("it is mounted").contains("delegate_cmds=any");
    let mounted = count();
    for point in [&again, &at] {
        umount2(point, MntFlags::MNT_DETACH).expect("root may unmount");
    }
    assert_eq!(mounted, before + u64::from(delegates));
    assert_eq!(count(), before);
}

/// Returns whether this kernel compiles programs, of which there is one, but names none of the JIT's allocators.
fn jit_is_unnamed() -> bool {
    let enabled = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").expect("this kernel has it");
    let text = fs::read("/proc/vmallocinfo").expect("root may read it");
    let allocators: Vec<_> = ALLOCATORS.map(|name| format!(" {}", String::from_utf8_lossy(name))).into();
    let text = String::from_utf8_lossy(&text);
    let is_named = allocators
        .iter()
        .any(|name| text.match_indices(name).any(|(at, _)| text[at + name.len()..].starts_with(['+', '.'])));
    enabled.trim() != "0" && !is_named
}

fn used() -> u64 {
    read().posture.jit_used.expect("this kernel names the allocators of machine code")
}

/// Waits until the memory of machine code meets a condition.
fn wait_for(what: &str, is_met: impl Fn(u64) -> bool) {
    wait_until(what, LIMIT, || Ok(is_met(used()))).expect("it is seen");
}

/// One test of two kinds of programs: run at the same time, each would disturb the other.
pub(crate) fn memory_of_machine_code() {
    let program = large_program();
    if jit_is_unnamed() {
        let snapshot = read();
        assert_eq!((snapshot.posture.jit_used, reason(&snapshot)), (None, Some(Reason::Kernel)));
        assert_no_issue(&snapshot);
        return;
    }
    drop(program);
    memory_of_programs();
    memory_of_seccomp_filters();
}

fn memory_of_programs() {
    let listed: u64 = {
        let snapshot = read();
        let code = |program: &model::Program| u64::from(program.facts.size_jitted);
        let sum = snapshot.programs.iter().flatten().map(code).sum();
        assert!(snapshot.posture.jit_used.is_some_and(|used| used > 0), "{:?}", snapshot.posture);
        sum
    };
    assert!(used() > listed / 2, "programs that are listed take {listed} bytes");

    let before = used();
    let programs: Vec<_> = (0..16).map(|_| large_program()).collect();
    let snapshot = read();
    let of_one = |program: &Program| u64::from(readers::program(&snapshot, program.id()).facts.size_jitted);
    let size: u64 = programs.iter().map(of_one).sum();
    assert!(size > 8 << 20, "{size} bytes fill packs of every machine");
    wait_for("the memory grows with programs", |now| now >= before + size / 2);
    let loaded = used();
    drop(programs);
    wait_for("the memory shrinks with programs", |now| now <= loaded.saturating_sub(size / 2));
}

/// Filters of seccomp are programs without an id.
fn memory_of_seccomp_filters() {
    const THREADS: usize = 64;
    let before = used();
    let (filtered, measured) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    let loaded = thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..7 {
                    seccompiler::apply_filter(&large_filter()).expect("a thread may restrict itself");
                }
                filtered.wait();
                measured.wait();
            });
        }
        filtered.wait();
        let loaded = used();
        measured.wait();
        loaded
    });
    let size = THREADS * 7 * FILTER_LEN * LEAST_CODE;
    let size = u64::try_from(size).expect("some megabytes");
    assert!(loaded >= before + size / 2, "{before} and then {loaded} with {size} bytes of filters");
    wait_for("the memory shrinks with filters", |now| now <= loaded.saturating_sub(size / 2));
}

/// A program of 100,000 instructions, each of some bytes of machine code.
fn large_program() -> Program {
    let mut instructions = vec![Instruction::mov(0, i32::MIN); 100_000];
    instructions.extend(Instruction::returning(0));
    let spec =
        ProgramSpec { name: "large", instructions, ..ProgramSpec::new(uapi::program_type::SOCKET_FILTER, 0) };
    Program::load(&spec).expect("root may load long programs")
}

/// The length of a filter, of which a thread can have seven.
const FILTER_LEN: usize = 4000;
/// The machine code of an addition, in bytes: the least on any machine.
const LEAST_CODE: usize = 4;

/// A filter that allows everything at once, followed by instructions that it never reaches.
fn large_filter() -> BpfProgram {
    let allow = || sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 };
    let add = sock_filter { code: 0x04, jt: 0, jf: 0, k: 0x7fff_ffff };
    let mut filter = vec![add; FILTER_LEN];
    filter[0] = allow();
    filter[FILTER_LEN - 1] = allow();
    filter
}
