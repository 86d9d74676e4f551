//! The exporter in a container: it reports what the host sees, or says that it does not see it.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use bpf_metrics_exporter::model::{
    Feature, HeldBy, Kind, Owner, OwnerKind, Part, Process, ReaderKind, Reason, Snapshot,
};
use test_support::objects::{Map, Mount, uapi::map_type, wait_until};
use test_support::running::Running;

use super::holder::Role;
use super::host::{Cgroups, Directory, SOON, output};
use super::podman::{IMAGE, Podman};

/// Path of the exporter in the container.
const EXPORTER: &str = "/exporter";

/// What a container is given of the host.
#[derive(Clone, Copy, Debug)]
struct Given {
    pid_namespace: bool,
    bpffs: bool,
    reader: &'static str,
}

/// Objects that the host has: two that a process holds, and a map in a bpffs.
struct Objects {
    map: u32,
    program: u32,
    pinned: u32,
}

/// Returns the holders of an object that are processes.
fn holders(snapshot: &Snapshot, kind: Kind, id: u32) -> Vec<Process> {
    let holders = snapshot.holders.iter().flat_map(|holders| holders.of(kind));
    let holders = holders.filter(|holder| (holder.id, holder.held_by) == (id, HeldBy::Process));
    holders.filter_map(|holder| holder.owner.process.clone()).collect()
}

fn owner(snapshot: &Snapshot, map: u32) -> Option<&Owner> {
    snapshot.maps.iter().flatten().find(|found| found.facts.id == map)?.owner.as_deref()
}

fn kind_and_name(owner: &Owner) -> (OwnerKind, &str) {
    (owner.kind(), owner.name())
}

fn has_pin(snapshot: &Snapshot, id: u32) -> bool {
    snapshot.pins.iter().flatten().any(|pin| pin.id == id)
}

fn reason(snapshot: &Snapshot, feature: Feature) -> Option<Reason> {
    snapshot.feature(feature).unwrap_or_else(|| panic!("{feature:?} is reported")).reason
}

fn read(command: &mut Command) -> Snapshot {
    serde_json::from_str(&output(command)).expect("it is a snapshot")
}

/// Reads in a container.
fn read_in_container(podman: &Podman<'_>, bpffs: &Path, exporter: &Path, given: Given) -> Snapshot {
    let mut run = podman.command();
    run.args(["run", "--rm", "--network", "host", "--privileged"]);
    if given.pid_namespace {
        run.args(["--pid", "host"]);
    }
    if given.bpffs {
        run.args(["--volume", &format!("{}:/sys/fs/bpf", bpffs.display())]);
    }
    // The image has a busybox only.
    for libraries in ["/lib", "/lib64", "/usr/lib"].into_iter().filter(|path| Path::new(path).is_dir()) {
        run.args(["--volume", &format!("{libraries}:{libraries}:ro")]);
    }
    run.args(["--volume", &format!("{}:{EXPORTER}:ro", exporter.display()), IMAGE]);
    run.args([EXPORTER, "snapshot", "--format", "json", "--kernel-reader", given.reader]);
    read(&mut run)
}

/// Asserts that a reading from inside reports what the host does, or says why not.
fn compare(given: Given, host: &Snapshot, inside: &Snapshot, objects: &Objects) {
    let unseen = |feature| reason(inside, feature);
    let is_kernel = |owner: Option<&Owner>| owner.is_some_and(|owner| owner.kind() == OwnerKind::Kernel);
    let backend = inside.collectors.iter().find(|each| each.part == Part::Holder);
    let by_iterator = backend.and_then(|backend| backend.reader) == Some(ReaderKind::Iter);

    // Holders: by iterator always, in /proc with the host's pid namespace.
    for (kind, id) in [(Kind::Map, objects.map), (Kind::Program, objects.program)] {
        let (wanted, found) = (holders(host, kind, id), holders(inside, kind, id));
        assert_eq!(wanted.len(), 1, "{wanted:?}");
        if by_iterator || given.pid_namespace {
            assert_eq!(found, wanted, "{given:?}");
        } else {
            assert!(found.is_empty(), "{given:?}: {found:?}");
            assert_eq!(unseen(Feature::Processes), Some(Reason::PidNamespace), "{given:?}");
        }
    }
    // Pins: of the bpffs that it was given, or through the processes of the host.
    if given.bpffs || given.pid_namespace {
        assert!(has_pin(inside, objects.pinned), "{given:?}");
    } else {
        assert!(!has_pin(inside, objects.pinned), "{given:?}");
        let expected = if by_iterator { Reason::MountNamespace } else { Reason::PidNamespace };
        assert_eq!(unseen(Feature::Pins), Some(expected), "{given:?}");
    }
    // Conclusions: the same, or none.
    let sees_all = inside.sees_all(Feature::Processes) && inside.sees_all(Feature::Pins);
    if !sees_all {
        assert!(inside.totals.iter().all(|total| total.orphaned.is_none()), "{given:?}: {:?}", inside.totals);
        assert!(!inside.owners.iter().any(|total| total.owner.kind() == OwnerKind::Kernel), "{given:?}");
    } else if host.sees_all(Feature::Processes) && host.sees_all(Feature::Pins) {
        let counted = |snapshot: &Snapshot| -> Vec<_> {
            snapshot.totals.iter().map(|total| (total.kind, total.orphaned.is_some())).collect()
        };
        assert_eq!(counted(inside), counted(host), "{given:?}");
    }
    for id in [objects.map, objects.pinned] {
        let (wanted, found) = (owner(host, id), owner(inside, id));
        assert!(!is_kernel(found), "{given:?}: {found:?}");
        if sees_all && inside.sees_all(Feature::CgroupPaths) {
            assert_eq!(found.map(kind_and_name), wanted.map(kind_and_name), "{given:?}");
        }
    }
}

pub(crate) fn agrees_with_the_host() {
    let directory = Directory::new("view-");
    let _cgroups = Cgroups::new("libpod_parent");
    let bpffs = directory.path().join("bpffs");
    fs::create_dir(&bpffs).expect("the test directory is writable");
    let _mount = Mount::visible(c"bpf", &bpffs).expect("it can be mounted");
    let pinned = Map::ready(map_type::ARRAY, "view_pinned").expect("it can be made");
    let pin = pinned.pin(&bpffs.join("map")).expect("it can be pinned");
    let pinned_id = pinned.id();
    drop(pinned);
    // The build directory may be private.
    let exporter = directory.path().join("exporter");
    fs::copy(env!("CARGO_BIN_EXE_bpf-metrics-exporter"), &exporter).expect("there is room");
    fs::set_permissions(&exporter, fs::Permissions::from_mode(0o755)).expect("it is ours");

    let name = format!("view{}", std::process::id());
    let this = env::current_exe().expect("Linux has /proc");
    let mut hold = Command::new(this);
    let _holder = Running(hold.env(Role::Hold.variable(), &name).spawn().expect("it starts"));
    let host = || read(Command::new(&exporter).args(["snapshot", "--format", "json"]));
    let mut objects = None;
    wait_until("the objects are there", SOON, || {
        let snapshot = host();
        let map = snapshot.maps.iter().flatten().find(|map| *map.facts.name == *name);
        let program = snapshot.programs.iter().flatten().find(|program| *program.facts.name == *name);
        objects = map.zip(program).map(|(map, program)| Objects {
            map: map.facts.id,
            program: program.facts.id,
            pinned: pinned_id,
        });
        Ok(objects.is_some())
    })
    .expect("the process makes them");
    let objects = objects.expect("it was waited for");

    let podman = Podman::new(directory.path());
    let host = host();
    assert!(has_pin(&host, pinned_id));
    for reader in ["auto", "walk"] {
        for pid_namespace in [false, true] {
            for bpffs_given in [false, true] {
                let given = Given { pid_namespace, bpffs: bpffs_given, reader };
                let inside = read_in_container(&podman, &bpffs, &exporter, given);
                compare(given, &host, &inside, &objects);
            }
        }
    }
    drop(pin);
}
