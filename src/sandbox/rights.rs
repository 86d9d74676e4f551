//! Capabilities of threads. Entry points: [`USED`], [`after_loading`] and [`keep`].

use caps::errors::CapsError;
use caps::{CapSet, CapsHashSet};

use crate::model::{Capability, Feature};

/// What the exporter uses at most: without any other capability of root it reports the same (`docs/privileges.md`).
pub const USED: [Capability; 7] = [
    Capability::Bpf,
    Capability::Perfmon,
    Capability::SysAdmin,
    Capability::NetAdmin,
    Capability::DacReadSearch,
    Capability::SysPtrace,
    Capability::Syslog,
];

/// What the enabled features need.
#[derive(Clone, Copy, Debug)]
pub struct Needs {
    /// Whether hooks are scanned.
    pub hooks: bool,
    /// Whether everything that needs a capability after the start is given up.
    pub nothing: bool,
}

/// Returns whether a process that gives up everything after the start does without a feature. What it does at start it still does.
#[must_use]
pub const fn gives_up(feature: Feature) -> bool {
    !matches!(feature, Feature::Iterators | Feature::KernelSymbols | Feature::RunStatistics)
}

/// Returns the capabilities that readings need once the iterators are loaded. A loaded iterator is read without any since 5.19, the
/// first release whose iterators are used.
pub(super) fn after_loading(needs: Needs, is_root: bool) -> Vec<Capability> {
    if needs.nothing {
        return Vec::new();
    }
    // Which functions a program calls is shown to who opened the program with CAP_SYSLOG.
    let mut capabilities =
        vec![Capability::SysAdmin, Capability::DacReadSearch, Capability::SysPtrace, Capability::Syslog];
    // The sysctls of the JIT are readable to root with CAP_SYS_ADMIN, and to others with both.
    if needs.hooks || !is_root {
        capabilities.push(Capability::NetAdmin);
    }
    capabilities
}

/// Reduces the calling thread to those of these capabilities that it is permitted, and returns them.
///
/// # Errors
///
/// That of prctl(2) or capset(2), if a seccomp filter refuses them.
pub(super) fn keep(capabilities: &[Capability]) -> Result<Vec<Capability>, CapsError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    let (mut kept, mut set) = (Vec::new(), CapsHashSet::new());
    for &capability in capabilities {
        let same: caps::Capability = capability.as_str().parse()?;
        if permitted.contains(&same) {
            kept.push(capability);
            set.insert(same);
        }
    }
    // The ambient set is limited by the inheritable one, and Linux 4.2 has none.
    caps::clear(None, CapSet::Inheritable)?;
    // Effective capabilities are permitted ones, before and after.
    let lowered: CapsHashSet = caps::read(None, CapSet::Effective)?.intersection(&set).copied().collect();
    caps::set(None, CapSet::Effective, &lowered)?;
    caps::set(None, CapSet::Permitted, &set)?;
    caps::set(None, CapSet::Effective, &set)?;
    Ok(kept)
}

/// Clears the bounding set: no program that is executed gets a capability. Without `CAP_SETPCAP` it stays, and only the seccomp filter,
/// which refuses to execute programs, protects from that.
pub(super) fn clear_bounding_set() {
    let _refused = caps::clear(None, CapSet::Bounding);
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn needs_follow_the_enabled_features() {
        let needs = |hooks, nothing| Needs { hooks, nothing };
        assert_eq!(after_loading(needs(true, true), true), []);
        assert!(after_loading(needs(true, false), true).contains(&Capability::NetAdmin));
        assert!(!after_loading(needs(false, false), true).contains(&Capability::NetAdmin));
        assert!(after_loading(needs(false, false), false).contains(&Capability::NetAdmin));
        for needed in after_loading(needs(true, false), false) {
            assert!(USED.contains(&needed));
        }
    }

    #[test]
    fn a_thread_keeps_what_it_may_and_no_more() {
        let read = |set| caps::read(None, set).expect("a thread may read its own");
        let kept = thread::spawn(move || {
            let kept =
                keep(&[Capability::SysPtrace, Capability::Bpf]).expect("a thread may drop capabilities");
            let names: CapsHashSet = kept.iter().map(|kept| kept.as_str().parse().expect("a name")).collect();
            for set in [CapSet::Effective, CapSet::Permitted] {
                assert_eq!(read(set), names);
            }
            assert!(read(CapSet::Inheritable).is_empty() && read(CapSet::Ambient).is_empty());
            keep(&USED).expect("a thread may keep what it has");
            assert_eq!(read(CapSet::Permitted), names, "nothing comes back");
            keep(&[]).expect("a thread may drop capabilities")
        });
        assert_eq!(kept.join().expect("nothing panics"), []);
    }
}
