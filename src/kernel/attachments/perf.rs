//! Programs at tracepoints and probes that no link keeps there: the perf events of processes are asked for theirs.
//! Knows no event but by a descriptor of somebody's. Begin at [`look`].

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use nix::errno::Errno;

use super::Asking;
use super::merge::Place;
use crate::host::netns::{is_gone, processes};
use crate::host::text::printable;
use crate::kernel::targets::resolver::Resolver;
use crate::kernel::targets::{Target, describe};
use crate::model::enums::{fd_type, program_type};
use crate::sys::bpf::{EventProgram, event_program};
use crate::sys::{Error, errno_of};

/// The types of program that hang at events which tell them.
const TYPES: [u32; 4] = [
    program_type::KPROBE,
    program_type::TRACEPOINT,
    program_type::RAW_TRACEPOINT,
    program_type::RAW_TRACEPOINT_WRITABLE,
];

/// What the descriptors of events are called in `/proc/PID/fd`. Before 5.8 a raw tracepoint is no link.
const EVENTS: [&str; 2] = ["anon_inode:[perf_event]", "anon_inode:bpf-raw-tracepoint"];

/// The number of the inode of the initial namespace of processes (`PROC_PID_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_NAMESPACE: &str = "pid:[4026531836]";

/// Asks the events of processes, if there is a program of such a type that no link keeps attached. Those that hold BPF files come
/// first: where they have every such program at some event, nobody else is asked.
pub(crate) fn look(asking: &mut Asking<'_>) {
    let mut missing: HashSet<u32> = asking.subject.unlinked(&TYPES).collect();
    if missing.is_empty() {
        return;
    }
    // Processes out of sight are not asked.
    match fs::read_link(asking.root.join("proc/self/ns/pid")) {
        Ok(namespace) if namespace == Path::new(INITIAL_NAMESPACE) => {}
        Ok(_) => asking.refused(Error::new("/proc/self/ns/pid", Errno::EXDEV), &TYPES),
        Err(error) => asking.refused(Error::new("/proc/self/ns/pid", errno_of(&error)), &TYPES),
    }
    let mut processes = match processes(&asking.root) {
        Ok(processes) => processes,
        Err(error) => return asking.refused(Error::new("/proc", errno_of(&error)), &TYPES),
    };
    let holding: HashSet<u32> = asking.subject.pids.iter().copied().collect();
    processes.sort_by_key(|(pid, _)| !holding.contains(pid));
    let mut resolver = Resolver::below(&asking.root);
    let unlinked = missing.clone();
    for (pid, directory) in processes {
        if missing.is_empty() && !holding.contains(&pid) {
            return;
        }
        for fd in events(asking, &directory) {
            match event_program(pid, fd) {
                Ok(event) if unlinked.contains(&event.program_id) => {
                    missing.remove(&event.program_id);
                    asking.hanging.add_event(place(&event, &mut resolver), event.program_id);
                }
                // It is one of a link, and known from there; or the event has no program; the process or the descriptor is gone;
                // it is another type of program, or of file.
                Ok(_)
                | Err(Error {
                    errno:
                        Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EOPNOTSUPP | Errno::UnknownErrno,
                    ..
                }) => {}
                Err(error) => return asking.refused(error, &TYPES),
            }
        }
    }
}

/// The descriptors of a process that are events.
fn events(asking: &mut Asking<'_>, process: &Path) -> Vec<u32> {
    let entries = match fs::read_dir(process.join("fd")) {
        Ok(entries) => entries,
        Err(error) => {
            if !is_gone(&error) {
                asking.refused(Error::new("/proc/PID/fd", errno_of(&error)), &TYPES);
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
    // Who refuses one refuses all.
    if let Some(error) = refusal {
        asking.refused(Error::new("/proc/PID/fd", errno_of(&error)), &TYPES);
    }
    events
}

/// Where an event has its program, in the words that links have.
fn place(event: &EventProgram, resolver: &mut Resolver) -> Place {
    let name = printable(&event.name);
    let (hook, target) = match event.fd_type {
        fd_type::RAW_TRACEPOINT => ("raw_tracepoint", Target::RawTracepoint { name }),
        fd_type::TRACEPOINT => ("tracepoint", Target::Tracepoint { name, group: None }),
        fd_type::KPROBE | fd_type::KRETPROBE => {
            let return_probe = event.fd_type == fd_type::KRETPROBE;
            let symbol = (!name.is_empty()).then_some(name);
            let target =
                Target::Kprobe { symbol, offset: event.offset, address: event.address, return_probe };
            (if return_probe { "kretprobe" } else { "kprobe" }, target)
        }
        fd_type::UPROBE | fd_type::URETPROBE => {
            let return_probe = event.fd_type == fd_type::URETPROBE;
            let target = Target::Uprobe { path: name, offset: event.offset, return_probe };
            (if return_probe { "uretprobe" } else { "uprobe" }, target)
        }
        _ => return Place { hook: "perf_event".into(), target: None, netns: None },
    };
    Place { hook: hook.into(), target: describe(&target, resolver).map(Into::into), netns: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_have_the_words_of_links() {
        let mut resolver = Resolver::below(Path::new("/nonexistent"));
        for (fd_type, name, offset, address, hook, target) in [
            (0, "sched_switch", 0, 0, "raw_tracepoint", Some("sched_switch")),
            (1, "sched_switch", 0, 0, "tracepoint", Some("sched_switch")),
            (2, "tcp_connect", 16, 0, "kprobe", Some("tcp_connect+0x10")),
            (2, "", 0, 0xffff, "kprobe", Some("0xffff")),
            (3, "tcp_connect", 0, 0, "kretprobe", Some("tcp_connect%return")),
            (4, "/bin/x", 16, 0, "uprobe", Some("/bin/x:0x10")),
            (5, "/bin/x", 16, 0, "uretprobe", Some("/bin/x:0x10%return")),
            (9, "x", 0, 0, "perf_event", None),
        ] {
            let name = name.as_bytes().to_vec();
            let place = place(&EventProgram { program_id: 1, fd_type, name, offset, address }, &mut resolver);
            assert_eq!((&*place.hook, place.target.as_deref()), (hook, target));
        }
    }
}
