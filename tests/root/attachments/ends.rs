//! Targets that go, and other tools that run: neither is the loss of a program. Each test looks at the inputs of the alert of
//! lost programs: an attach point that has no program, or that one was detached from.

use std::time::Duration;

use bpf_metrics_exporter::enrich::Enricher;
use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::model::{AttachPointStatus, ReaderKind, Target};

use super::places::{LOOPBACK, Visible, own_name, xdp};
use super::readers;
use super::scans::{enricher_by, looked};
use test_support::bpftool::query;
use test_support::objects::{self, Cgroup, Link, Map, Program, uapi, wait_until, wait_until_gone};

/// Deadline for the kernel to free something.
const SOON: Duration = Duration::from_secs(20);

/// Readings of both backends with scans of every network namespace.
fn enricher(backend: ReaderKind) -> Enricher {
    enricher_by(readers::by(backend), true)
}

/// Takes a reading, and returns hook, programs and detached programs of the attach points that `is_own` accepts.
fn points(
    enricher: &mut Enricher,
    is_own: impl Fn(&AttachPointStatus) -> bool,
) -> Vec<(String, u64, Option<u64>)> {
    let look = looked(&enricher.read());
    let own = look.attach_points.iter().filter(|point| is_own(point));
    own.map(|point| (point.hook.to_string(), point.programs, point.detached)).collect()
}

fn at(hook: &str, programs: u64, detached: u64) -> (String, u64, Option<u64>) {
    (hook.to_owned(), programs, Some(detached))
}

/// Returns whether a point is an interface of the pair with this index.
fn is_pair(point: &AttachPointStatus, index: u32) -> bool {
    let device = point.target.as_ref().and_then(Target::device);
    device.is_some_and(|device| device.ifindex / 2 == index / 2)
}

/// Polls until there is no point left, and asserts that meanwhile none has lost a program.
fn wait_for_the_end(mut seen: impl FnMut() -> Vec<(String, u64, Option<u64>)>) {
    wait_until("it is not reported", SOON, || {
        let points = seen();
        let is_quiet = |(_, programs, detached): &(String, u64, Option<u64>)| {
            *programs > 0 && detached.is_none_or(|detached| detached == 0)
        };
        assert!(points.iter().all(is_quiet), "{points:?}");
        Ok(points.is_empty())
    })
    .expect("it is gone");
}

pub(crate) fn interfaces(backend: ReaderKind) {
    // Other namespaces of the host hardly have it, and that of the other backend's test has another.
    let index = if backend == ReaderKind::Iter { 4710 } else { 4720 };
    let visible = Visible::with_loopback(&own_name());
    let network = &visible.network;
    network.add_pair("ends0", index).expect("interfaces can be made");
    let attach =
        |program: &Program| network.inside(|| program.attach_xdp_at(index + 1)).and_then(|done| done);
    let goes = visible.link_xdp(&xdp("goes"), index);
    attach(&xdp("goes")).expect("it can be attached");
    let mut enricher = enricher(backend);
    let mut seen = || points(&mut enricher, |point| is_pair(point, index));
    assert_eq!(seen(), [at("xdp", 1, 0), at("xdp", 1, 0)]);
    network.remove_interface(index).expect("it can be removed");
    assert_eq!(seen(), [], "the interfaces are gone, and lost nothing");

    // Another pair of the same names and indices.
    network.add_pair("ends0", index).expect("interfaces can be made");
    let next = visible.link_xdp(&xdp("next"), index);
    attach(&xdp("stays")).expect("it can be attached");
    assert_eq!(seen(), [at("xdp", 1, 0), at("xdp", 1, 0)]);
    // One stays, and loses its program; it is remembered until it goes.
    drop(next);
    assert_eq!(seen(), [at("xdp", 0, 1), at("xdp", 1, 0)]);
    network.remove_interface(index).expect("it can be removed");
    assert_eq!(seen(), []);
    drop(goes);
}

pub(crate) fn namespaces(backend: ReaderKind) {
    let (mut enricher, name) = (enricher(backend), own_name());
    for round in 0..4 {
        // A namespace may have the inode number of the last one, and it has an interface of the same name and index.
        let visible = Visible::with_loopback(&name);
        let program = xdp("pod");
        let link = if round % 2 == 0 {
            Some(visible.link_xdp(&program, LOOPBACK))
        } else {
            visible
                .network
                .inside(|| program.attach_xdp())
                .and_then(|done| done)
                .expect("it can be attached");
            None
        };
        let mut seen = || {
            points(&mut enricher, |point| {
                let device = point.target.as_ref().and_then(Target::device);
                device.and_then(|device| device.name.as_deref()) == Some(&*name)
            })
        };
        assert_eq!(seen(), [at("xdp", 1, 0)], "round {round}");
        drop(visible);
        wait_for_the_end(seen);
        drop((link, program));
    }
}

pub(crate) fn cgroups(backend: ReaderKind) {
    let load = |name| Program::ready(uapi::program_type::CGROUP_SKB, name).expect("it can be loaded");
    let mut enricher = enricher(backend);
    let mut seen = |name: &str| {
        let text = format!("/{name}");
        points(&mut enricher, |point| point.target.as_ref().is_some_and(|target| target.to_string() == text))
    };
    let hook = "cgroup_inet_ingress";
    let [goes, stays] = [(); 2].map(|()| Cgroup::new().expect("it can be made"));
    let (name, other) = (goes.name().to_owned(), stays.name().to_owned());
    let linked = load("pod").link_cgroup(&goes).expect("it can be attached");
    load("pod").attach_to_cgroup(&goes).expect("it can be attached");
    let detached = load("pod").link_cgroup(&stays).expect("it can be attached");
    assert_eq!((seen(&name), seen(&other)), (vec![at(hook, 2, 0)], vec![at(hook, 1, 0)]));
    drop(goes);
    wait_for_the_end(|| seen(&name));
    drop((linked, detached));
    // No program is left that could be attached to a cgroup.
    assert_eq!(seen(&other), [at(hook, 0, 1)], "this one is there");
    drop(stays);
    assert_eq!(seen(&other), []);
}

pub(crate) fn objects(backend: ReaderKind) {
    let map = Map::ready(uapi::map_type::SOCKMAP, "ends_sockets").expect("it can be made");
    let program = Program::ready(uapi::program_type::SK_MSG, "ends_message").expect("it can be loaded");
    program.attach_to_sockets(&map).expect("it can be attached");
    let id = map.id();
    let mut enricher = enricher(backend);
    let mut seen = || points(&mut enricher, |point| point.target == Some(Target::Map { id }));
    assert_eq!(seen(), [at("sk_msg_verdict", 1, 0)]);
    drop(map);
    wait_until_gone(objects::Kind::Map, &[id], SOON).expect("nothing holds it");
    assert_eq!(seen(), []);
}

pub(crate) fn user_probes(backend: ReaderKind) {
    // Before 6.6 only iterators report the file.
    let Some(link) = objects::if_possible(Link::uprobe()) else { return };
    let link_id = link.id();
    let mut enricher = enricher(backend);
    let look = looked(&enricher.read());
    let hook = look.hooks.iter().find(|hook| hook.link_id == Some(link_id)).expect("it is attached").clone();
    let mut seen = || points(&mut enricher, |point| point.target == hook.target && point.hook == hook.hook);
    let before = seen();
    assert!(matches!(before[..], [(_, 1.., None)]), "{before:?}");
    drop(link);
    // Other tests probe the same file.
    wait_until("it is not counted", SOON, || Ok(seen().iter().all(|point| point.1 < before[0].1)))
        .expect("it is gone");
    assert!(seen().iter().all(|point| point.2.is_none()), "nobody can tell whether the file is there");
}

pub(crate) fn iterators() {
    let iterator = Link::iter().expect("it can be made");
    let mut enricher = enricher_by(readers::best(), false);
    for _ in 0..2 {
        let snapshot = enricher.read();
        let look = looked(&snapshot);
        let links = snapshot.links.as_deref().expect("links can be read");
        let is_iterator = |id| {
            links
                .iter()
                .any(|link| link.facts.id == id && link.facts.link_type.number == uapi::link_type::ITER)
        };
        assert!(is_iterator(iterator.id()));
        let found: Vec<_> = look.hooks.iter().filter(|hook| hook.link_id.is_some_and(is_iterator)).collect();
        assert!(found.is_empty(), "{found:?}");
        assert!(!look.attach_points.iter().any(|point| point.hook == "iter"));
        // Both make iterators for as long as they run.
        assert!(query(&["prog", "show"]).is_array());
        Reader::default().read();
    }
}
