//! Scans without the privilege to query.

use std::thread;

use bpf_metrics_exporter::model::{self, Feature, Reason};
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
    let look = snapshot.hooks.as_ref().expect("a scan was made");
    assert!(
        look.unqueryable.contains(&uapi::program_type::CGROUP_SKB),
        "its attachments could not be queried"
    );
    let refused = |call: &str| snapshot.issues.iter().any(|issue| issue.call == call && issue.count > 0);
    assert!(!refused("BPF_PROG_QUERY") && !refused("setns"), "a missing right is no failure");
    let reason = |feature| snapshot.feature(feature).and_then(|state| state.reason);
    for feature in [Feature::CgroupHooks, Feature::NetworkHooks] {
        assert_eq!(reason(feature), Some(Reason::Missing(model::Capability::NetAdmin)));
    }
    for feature in [Feature::PerfEventHooks, Feature::MapContents] {
        assert_eq!(reason(feature), Some(Reason::Missing(model::Capability::SysAdmin)));
    }
    let path = format!("/{}", cgroup.name());
    let place = look.attach_points.iter().find(|place| is_at(place.target.as_ref(), &path));
    let place = place.expect("it is remembered");
    assert_eq!((place.programs, place.detached), (1, Some(0)), "unqueryable programs are not detached");
}
