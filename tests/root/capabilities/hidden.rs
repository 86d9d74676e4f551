//! Where the kernel does not show what programs call.

use std::{fs, thread};

use bpf_metrics_exporter::model::{self, Feature, Reason, Snapshot};
use caps::{CapSet, Capability, CapsHashSet};
use test_support::objects::{Program, uapi};
use test_support::readers;

use super::Argument::Number;
use super::{calling, words};

/// Reads in a thread without one capability, which ends.
fn read_without(capability: Capability, iterators_first: bool) -> Snapshot {
    let read = move || {
        let loaded = iterators_first.then(readers::by_iterators);
        let mut rights: CapsHashSet = caps::read(None, CapSet::Effective).expect("they can be read");
        rights.remove(&capability);
        caps::set(None, CapSet::Effective, &rights).expect("a thread may drop capabilities");
        loaded.unwrap_or_else(readers::by_ids).read()
    };
    thread::spawn(read).join().expect("a reading does not panic")
}

fn reason(snapshot: &Snapshot) -> Option<Reason> {
    snapshot.feature(Feature::ProgramCapabilities).expect("it is reported").reason
}

/// Returns whether the kernel shows addresses to everybody (`kallsyms_show_value`, `kernel/ksyms_common.c`).
fn are_shown_to_all() -> bool {
    let number = |name| -> i32 {
        let text = fs::read_to_string(format!("/proc/sys/kernel/{name}")).expect("this kernel has it");
        text.trim().parse().expect("a number")
    };
    number("kptr_restrict") == 0 && number("perf_event_paranoid") <= 1
}

pub(crate) fn calls() {
    let signals = calling(uapi::program_type::KPROBE, 109, &[Number(0)]).expect("it can be made");
    let plain = Program::ready(uapi::program_type::XDP, "calls_nothing").expect("it can be made");
    let snapshot = read_without(Capability::CAP_SYSLOG, false);
    let drops = Some(vec!["drop_packet".to_owned()]);
    assert_eq!(words(&snapshot, plain.id()), drops, "there is nothing to hide");
    assert_eq!(snapshot.issues, [], "a refusal is no issue");
    if are_shown_to_all() {
        assert_eq!(words(&snapshot, signals.id()), Some(vec!["send_signal".to_owned()]));
        assert_eq!(reason(&snapshot), None);
    } else {
        assert_eq!(words(&snapshot, signals.id()), None, "some of its words would be wrong");
        assert_eq!(reason(&snapshot), Some(Reason::Missing(model::Capability::Syslog)));
    }
    let of_root = readers::by_ids().read();
    assert_eq!(words(&of_root, signals.id()), Some(vec!["send_signal".to_owned()]));
    assert_eq!(reason(&of_root), None);
}

pub(crate) fn programs() {
    let plain = Program::ready(uapi::program_type::XDP, "calls_nothing").expect("it can be made");
    let snapshot = read_without(Capability::CAP_SYS_ADMIN, readers::iterators_missing().is_none());
    assert_eq!(reason(&snapshot), Some(Reason::Missing(model::Capability::SysAdmin)));
    assert_eq!(snapshot.issues, [], "a refusal is no issue");
    if readers::iterators_missing().is_none() {
        assert_eq!(words(&snapshot, plain.id()), None);
    } else {
        assert!(snapshot.programs.is_none());
    }
}
