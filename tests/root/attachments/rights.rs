//! Scans without the privilege to query.

use std::thread;

use bpf_metrics_exporter::model::Part;
use caps::{CapSet, Capability};

use super::scans::{enricher, is_at, looked};
use test_support::objects::{Cgroup, Program, uapi};

pub(crate) fn refused() {
    let cgroup = Cgroup::new().expect("it can be made");
    let program = Program::ready(uapi::program_type::CGROUP_SKB, "hooks_refused").expect("it can be loaded");
    program.attach_to_cgroup(&cgroup).expect("it can be attached");
    let mut enricher = enricher(true);
    looked(&enricher.read());
    // Capabilities belong to a thread, and its new threads inherit them.
    let without = move || {
        for right in [Capability::CAP_NET_ADMIN, Capability::CAP_SYS_ADMIN] {
            caps::drop(None, CapSet::Effective, right).expect("capabilities can be dropped");
        }
        enricher.read()
    };
    let snapshot = thread::spawn(without).join().expect("it does not panic");
    let look = snapshot.hooks.expect("a scan was made");
    assert!(
        look.unqueryable.contains(&uapi::program_type::CGROUP_SKB),
        "its attachments could not be queried"
    );
    let issue =
        |call: &str| snapshot.issues.iter().find(|issue| issue.part == Part::Hook && issue.call == call);
    let query = issue("BPF_PROG_QUERY").expect("it was refused");
    assert_eq!((&*query.error, issue("setns").map(|issue| &*issue.error)), ("EPERM", Some("EPERM")));
    let path = format!("/{}", cgroup.name());
    let place = look.attach_points.iter().find(|place| is_at(place.target.as_ref(), &path));
    let place = place.expect("it is remembered");
    assert_eq!((place.programs, place.detached), (1, 0), "unqueryable programs are not detached");
}
