//! Programs attached to perf events.

use super::scans::{look, words};
use test_support::objects::{Program, uapi};

pub(crate) fn tracepoint() {
    let program = Program::ready(uapi::program_type::TRACEPOINT, "hooks_event").expect("it can be loaded");
    let event = program.attach_to_tracepoint().expect("it can be attached");
    let id = program.id();
    drop(program);
    let found = words(&look(false), &[id]);
    let [hook] = &found[..] else { panic!("it is attached once: {found:?}") };
    // Its group is known only where tracefs is mounted.
    let known = ["tracepoint sched:sched_process_exec #0 0 -", "tracepoint sched_process_exec #0 0 -"];
    assert!(known.contains(&&**hook), "{hook}");
    drop(event);
    assert_eq!(words(&look(false), &[id]), [""; 0]);
}
