//! Reduced privileges: iterators need none once they are loaded.

use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::{env, thread};

use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::model::{self, Feature, Map as Found, Reason, Snapshot};
use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::readers;
use test_support::objects::{Filled, Herd, Link, Map, Program, every_link_kind, every_map_type, uapi};

/// Set in a process that drops its privileges: the user is a property of the process.
const HELPER: &str = "GIVES_UP_ALL_RIGHTS";

const NOBODY: u32 = 65534;

/// Name of a map whose memory grows with its entries.
const GROWS: &str = "grows";

/// In the helper process: reads as root, as nobody, and as nobody after a map has grown; writes the snapshots to standard output.
pub(crate) fn helper() -> Option<ExitCode> {
    env::var_os(HELPER)?;
    let mut reader = readers::by_iterators();
    let grows = Map::ready_with(uapi::map_type::HASH, GROWS, uapi::map_flag::NO_PREALLOC);
    let mut grows = Filled::empty(grows.expect("it can be made")).expect("it can be filled");
    grows.add(0..10).expect("there is room");
    let privileged = reader.read();
    setgroups(&[]).expect("root may");
    setresgid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::from_raw(NOBODY)).expect("root may");
    setresuid(Uid::from_raw(NOBODY), Uid::from_raw(NOBODY), Uid::from_raw(NOBODY)).expect("root may");
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Ambient] {
        assert!(caps::read(None, set).expect("they can be read").is_empty(), "{set:?}");
    }
    let nobody = reader.read();
    grows.add(10..20).expect("a descriptor is enough");
    let later = reader.read();
    let snapshots = serde_json::to_vec(&[privileged, nobody, later]).expect("a snapshot can be written");
    std::io::stdout().write_all(&snapshots).expect("the parent reads");
    Some(ExitCode::SUCCESS)
}

/// Returns the maps but for one.
fn maps_but<'a>(snapshot: &'a Snapshot, name: &str) -> Vec<&'a Found> {
    snapshot.maps.iter().flatten().filter(|map| map.facts.name != name).collect()
}

pub(crate) fn given_up() {
    let herd = Herd::new(30, 30).expect("they can be made");
    let maps = every_map_type();
    let links = every_link_kind();
    let helper = Command::new(env::current_exe().expect("this program")).env(HELPER, "1").output();
    let helper = helper.expect("it starts");
    let errors = String::from_utf8_lossy(&helper.stderr);
    assert!(helper.status.success(), "{errors}");
    let snapshots: [Snapshot; 3] = serde_json::from_slice(&helper.stdout).expect("they are snapshots");
    let [privileged, nobody, later] = &snapshots;
    assert_eq!(privileged.issues, []);

    // Only the test's own objects are compared.
    for program in herd.programs().iter().map(Program::id) {
        let of = |snapshot| format!("{:?}", readers::program(snapshot, program));
        assert_eq!(of(privileged), of(nobody));
    }
    // Before 6.4 iterators cannot detect changes of their memory, and it is read each time.
    let unseen = |map: &Map| {
        let kinds = [uapi::map_type::DEVMAP, uapi::map_type::XSKMAP];
        kinds.contains(&map.shape().kind) && readers::version() < (6, 4)
    };
    let own = herd.maps().iter().chain(maps.iter().filter_map(|(_, map)| map.as_ref().ok()));
    let own = own.filter(|map| !unseen(map)).map(Map::id);
    for map in own {
        let of = |snapshot| format!("{:?}", readers::map(snapshot, map));
        assert_eq!(of(privileged), of(nobody));
        assert_eq!(of(privileged), of(later));
    }
    for link in links.iter().filter_map(|(_, link)| Some(link.as_ref().ok()?.id())) {
        let of = |snapshot| format!("{:?}", readers::link(snapshot, link));
        assert_eq!(of(privileged), of(nobody));
    }
    assert!(maps_but(nobody, GROWS).iter().any(|map| map.mem.is_some()), "cached values stay");
    for snapshot in [nobody, later] {
        assert_eq!(snapshot.btfs.as_ref().map(Vec::len), None, "there is no iterator over BTF objects");
        for feature in [Feature::BtfObjects, Feature::MapMemory] {
            let reason = snapshot.feature(feature).expect("it is reported").reason;
            assert_eq!(reason, Some(Reason::Missing(model::Capability::SysAdmin)));
        }
        assert_eq!(snapshot.issues, [], "what the granted rights allow was read");
        assert!(snapshot.collectors.iter().all(|collector| collector.success));
    }

    let grown = |snapshot| {
        let maps: &Snapshot = snapshot;
        let found = maps.maps.iter().flatten().find(|map| map.facts.name == GROWS).expect("it is found");
        (found.mem, found.entries)
    };
    assert_eq!(grown(privileged), grown(nobody));
    assert_eq!(grown(later), (None, Some(20)), "outdated values are dropped");
}

pub(crate) fn bpf_and_perfmon() {
    let herd = Herd::new(20, 20).expect("they can be made");
    let link = Link::xdp().expect("it can be attached");
    let privileged = readers::by_iterators().read();
    let mut new = None;
    let read = || {
        let rights: CapsHashSet = [Capability::CAP_BPF, Capability::CAP_PERFMON].into_iter().collect();
        caps::set(None, CapSet::Effective, &rights).expect("a thread may drop capabilities");
        let mut reader = Reader::default();
        let first = reader.read();
        new = Some(Herd::new(3, 3).expect("the rights are enough for these, too"));
        (reader.choices().to_vec(), first, reader.read())
    };
    let (choices, first, second) =
        thread::scope(|scope| scope.spawn(read).join().expect("a reading does not panic"));
    let new = new.expect("they were made");
    for program in new.programs().iter().map(Program::id) {
        assert!(readers::program(&second, program).facts.name.starts_with("herd"));
    }
    for map in new.maps().iter().map(Map::id) {
        assert_eq!(readers::map(&second, map).frozen, Some(false));
    }
    assert!(choices.iter().all(|choice| choice.reason.is_none()), "{choices:?}");
    for snapshot in [&first, &second] {
        for program in herd.programs().iter().map(Program::id) {
            let of = |snapshot| {
                let found = readers::program(snapshot, program).clone();
                format!("{:?}", model::Program { capabilities: None, metadata: None, ..found })
            };
            assert_eq!(of(&privileged), of(snapshot));
            let found = readers::program(snapshot, program);
            assert!(found.capabilities.is_none() && found.metadata.is_none(), "they need CAP_SYS_ADMIN");
        }
        for map in herd.maps().iter().map(Map::id) {
            let of = |snapshot| Found { mem: None, ..readers::map(snapshot, map).clone() };
            let (found, wanted) = (of(snapshot), of(&privileged));
            assert_eq!((found.entries, found.frozen), (wanted.entries, wanted.frozen));
            assert_eq!((&found.facts.name, found.memory_cgroup), (&wanted.facts.name, wanted.memory_cgroup));
            assert_eq!(readers::map(snapshot, map).mem, None, "it needs CAP_SYS_ADMIN");
        }
        let of = |snapshot| readers::link(snapshot, link.id()).facts.target.clone();
        assert!(of(snapshot).is_some() && of(snapshot) == of(&privileged), "{:?}", of(snapshot));
        assert!(snapshot.btfs.is_none());
        assert_eq!(snapshot.issues, [], "what the granted rights allow was read");
        let available = |feature| snapshot.feature(feature).expect("it is reported").reason.is_none();
        assert!(available(Feature::Iterators) && !available(Feature::MapMemory));
    }
}
