//! Attachments to tracepoints and probes without links: the perf events of processes are queried for their programs.
//! Entry point: [`scan`]. Finds perf events only through open file descriptors.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use nix::errno::Errno;

use super::ScanContext;
use super::merge::{AttachPoint, event_hook};
use crate::host::netns::{is_gone, processes};
use crate::kernel::targets::resolver::Resolver;
use crate::kernel::targets::{RawTarget, kprobe, resolve};
use crate::model::enums::{fd_type, program_type};
use crate::model::{Feature, Reason, Target};
use crate::sys::bpf::{EventProgram, task_fd_query};
use crate::sys::{Error, failed};
use crate::text::printable;

/// The types of program that attach to events which report them.
const TYPES: [u32; 4] = [
    program_type::KPROBE,
    program_type::TRACEPOINT,
    program_type::RAW_TRACEPOINT,
    program_type::RAW_TRACEPOINT_WRITABLE,
];

/// The names of event descriptors in `/proc/PID/fd`. Before 5.8 a raw tracepoint is no link.
const EVENTS: [&str; 2] = ["anon_inode:[perf_event]", "anon_inode:bpf-raw-tracepoint"];

/// Queries the events of processes, if there is a program of such a type that no link attaches. Those that hold BPF files come
/// first: once every such program is found, the others are not queried.
pub(crate) fn scan(cx: &mut ScanContext<'_>) {
    let mut missing: HashSet<u32> = cx.subject.unlinked(&TYPES).collect();
    if missing.is_empty() {
        return;
    }
    // `BPF_TASK_FD_QUERY` takes ids of our pid namespace, and `/proc` may be mounted in another one.
    let own = fs::read_link(cx.root.join("proc/self")).ok();
    if own.as_deref() != Some(Path::new(&std::process::id().to_string())) {
        cx.issues.limit(Feature::PerfEventHooks, Reason::PidNamespace);
        return cx.unqueryable.extend(TYPES);
    }
    if cx.issues.state(Feature::PerfEventHooks).reason.is_some() {
        cx.unqueryable.extend(TYPES);
    }
    let mut processes = match processes(&cx.root) {
        Ok(processes) => processes,
        Err(error) => return cx.refused(failed("/proc")(error), &TYPES),
    };
    let holding: HashSet<u32> = cx.subject.pids.iter().copied().collect();
    processes.sort_by_key(|(pid, _)| !holding.contains(pid));
    let unlinked = missing.clone();
    for (pid, directory) in processes {
        if missing.is_empty() && !holding.contains(&pid) {
            return;
        }
        for fd in events(cx, &directory) {
            match task_fd_query(pid, fd) {
                Ok(event) if unlinked.contains(&event.program_id) => {
                    missing.remove(&event.program_id);
                    cx.attachments.add_event(point(&event, &mut cx.names), event.program_id);
                }
                // A link attaches the program; or the event has none; the process or the descriptor is gone; it is another type
                // of program, or of file.
                Ok(_)
                | Err(Error {
                    errno:
                        Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EOPNOTSUPP | Errno::UnknownErrno,
                    ..
                }) => {}
                Err(error) => return cx.refused(error, &TYPES),
            }
        }
    }
}

/// The descriptors of a process that are events.
fn events(cx: &mut ScanContext<'_>, process: &Path) -> Vec<u32> {
    let entries = match fs::read_dir(process.join("fd")) {
        Ok(entries) => entries,
        Err(error) => {
            if !is_gone(&error) {
                cx.refused(failed("/proc/PID/fd")(error), &TYPES);
            }
            return Vec::new();
        }
    };
    let (mut events, mut refusal) = (Vec::new(), None);
    for entry in entries.flatten() {
        match fs::read_link(entry.path()) {
            Ok(link) if EVENTS.iter().any(|event| link == Path::new(event)) => {
                events.extend(entry.file_name().to_str().and_then(|fd| fd.parse::<u32>().ok()));
            }
            Ok(_) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => refusal = Some(error),
        }
    }
    // If one is refused, all are.
    if let Some(error) = refusal {
        cx.refused(failed("/proc/PID/fd")(error), &TYPES);
    }
    events
}

/// The attach point of an event, as that of a link.
fn point(event: &EventProgram, resolver: &mut Resolver) -> AttachPoint {
    let name = printable(&event.name);
    let at_return = [fd_type::KRETPROBE, fd_type::URETPROBE].contains(&event.fd_type);
    let target = match event.fd_type {
        fd_type::RAW_TRACEPOINT => Some(Target::RawTracepoint { name: name.into() }.into()),
        fd_type::TRACEPOINT => Some(Target::Tracepoint { group: None, name: name.into() }.into()),
        fd_type::KPROBE | fd_type::KRETPROBE => {
            Some(kprobe(Some(&name), event.offset, event.address, at_return))
        }
        fd_type::UPROBE | fd_type::URETPROBE => {
            Some(Target::Uprobe { path: name.into(), offset: event.offset, at_return }.into())
        }
        _ => None,
    };
    let hook = event_hook(target.as_ref().map(|raw: &RawTarget| &raw.target), None).into();
    let target = target.and_then(|target| resolve(target, resolver)).map(|(target, _)| target);
    AttachPoint { hook, target, netns: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_targets_of_links() {
        let mut resolver = Resolver::below(Path::new("/nonexistent"));
        for (fd_type, name, offset, address, hook, target) in [
            (0, "sched_switch", 0, 0, "raw_tracepoint", Some("sched_switch")),
            (1, "sched_switch", 0, 0, "tracepoint", Some("sched_switch")),
            (2, "tcp_connect", 16, 0, "kprobe", Some("tcp_connect+0x10")),
            (2, "", 0, 0xffff, "kprobe", Some("1 function")),
            (2, "", 0, 0, "kprobe", None),
            (3, "tcp_connect", 0, 0, "kretprobe", Some("tcp_connect%return")),
            (4, "/bin/x", 16, 0, "uprobe", Some("/bin/x:0x10")),
            (4, "relative/x", 16, 0, "uprobe", Some("relative/x:0x10")),
            (5, "/bin/x", 16, 0, "uretprobe", Some("/bin/x:0x10%return")),
            (9, "x", 0, 0, "perf_event", None),
        ] {
            let name = name.as_bytes().to_vec();
            let point = point(&EventProgram { program_id: 1, fd_type, name, offset, address }, &mut resolver);
            let found = point.target.map(|target| target.to_string());
            assert_eq!((&*point.hook, found.as_deref()), (hook, target));
        }
    }
}
