//! The network namespaces that attachments are in, with both backends and both settings of `--netns`.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use bpf_metrics_exporter::export::prometheus::{self, Format};
use bpf_metrics_exporter::metrics::Sample;
use bpf_metrics_exporter::model::{AttachPointStatus, ReaderKind, Snapshot, Target};

use super::readers;
use super::scans::{enricher_by, inode, looked, of};
use test_support::objects::{Link, Network, Program, uapi};
use test_support::running::Running;

/// A network namespace that is visible in `/proc`.
pub(crate) struct Visible {
    pub(crate) network: Network,
    _process: Running,
}

/// The index of the loopback interface, which is the same in every network namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// Returns a name for an interface that no other one has.
pub(crate) fn own_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("places{}_{}", std::process::id() % 10_000, NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Visible {
    /// Makes one in which the loopback interface has this name.
    pub(crate) fn with_loopback(name: &str) -> Self {
        let made = Network::new_with(|_| Ok(Running(Command::new("sleep").arg("600").spawn()?)));
        let (process, network) = made.expect("a process can be started in it");
        network.rename_loopback(name).expect("an interface that is down takes another name");
        Self { network, _process: process }
    }

    /// Has a link attach a program to the interface with this index.
    pub(crate) fn link_xdp(&self, program: &Program, index: u32) -> Link {
        let link = self.network.inside(|| program.link_xdp_at(index)).expect("root may enter it");
        link.expect("it can be attached")
    }
}

pub(crate) fn xdp(name: &str) -> Program {
    Program::ready(uapi::program_type::XDP, name).expect("it can be loaded")
}

/// Target and network namespace of a link, as `bpf_link_info` reports them.
fn reported(snapshot: &Snapshot, link: &Link) -> (String, Option<u64>) {
    let facts = &readers::link(snapshot, link.id()).facts;
    let target = facts.target.as_ref().expect("it is attached").to_string();
    (target, facts.netns.as_ref().map(|netns| netns.inode))
}

pub(crate) fn same_index(backend: ReaderKind) {
    // The name is the same, too.
    let name = own_name();
    let [one, other] = [(); 2].map(|()| Visible::with_loopback(&name));
    let programs = ["one", "other"].map(xdp);
    let (linked, also) = (one.link_xdp(&programs[0], LOOPBACK), other.link_xdp(&programs[1], LOOPBACK));
    let programs = programs.each_ref().map(Program::id);
    let inodes: BTreeSet<_> = [&one, &other].map(|visible| Some(visible.network.inode())).into();
    for every_netns in [false, true] {
        let snapshot = enricher_by(readers::by(backend), every_netns).read();
        let look = looked(&snapshot);
        let hooks = of(&look, &programs);
        assert_eq!(hooks.len(), 2, "{hooks:?}");
        let (links, namespaces): (BTreeSet<_>, BTreeSet<_>) =
            hooks.iter().map(|hook| (hook.link_id, inode(hook))).unzip();
        assert_eq!(links, [Some(linked.id()), Some(also.id())].into());
        let is_own = |point: &&AttachPointStatus| {
            let device = point.target.as_ref().and_then(Target::device);
            let is_unknown = device.is_some() && point.netns.is_none();
            is_unknown || device.and_then(|device| device.name.as_deref()) == Some(&*name)
        };
        let points = look.attach_points.iter().filter(is_own);
        let points: BTreeSet<_> =
            points.map(|point| (point.netns.as_ref().map(|netns| netns.inode), point.programs)).collect();
        if backend == ReaderKind::Iter || every_netns {
            assert_eq!(namespaces, inodes);
            assert_eq!(points, inodes.iter().map(|&inode| (inode, 1)).collect());
            assert!(hooks.iter().all(|hook| hook.position == Some(0)), "{hooks:?}");
        } else {
            // It is not known whether they are one place or two.
            assert_eq!((namespaces, points), ([None].into(), [].into()));
            assert!(hooks.iter().all(|hook| hook.position.is_none()), "{hooks:?}");
        }
    }
}

pub(crate) fn named(backend: ReaderKind) {
    let names = [(); 2].map(|()| own_name());
    let [one, other] = names.each_ref().map(|name| Visible::with_loopback(name));
    // The reader is in a namespace with an interface of the same index.
    let link = one.link_xdp(&xdp("named"), LOOPBACK);
    let inode = one.network.inode();
    for every_netns in [false, true] {
        let mut enricher = enricher_by(readers::by(backend), every_netns);
        let snapshot = other.network.inside(|| enricher.read()).expect("root may enter it");
        let is_known = backend == ReaderKind::Iter || every_netns;
        let expected = if is_known { (names[0].clone(), Some(inode)) } else { (LOOPBACK.to_string(), None) };
        assert_eq!(reported(&snapshot, &link), expected);
        let text = prometheus::render(Sample::new(&snapshot), Format::Text, 0);
        let id = format!("link_id=\"{}\"", link.id());
        let lines = text.lines().filter(|line| line.starts_with("bpf_") && line.contains(&id));
        for line in lines {
            assert!(!line.contains("=\"\""), "no label is empty: {line}");
            let parts = [format!("ifindex=\"{LOOPBACK}\""), format!("target=\"{}\"", expected.0)];
            let is_described =
                !line.starts_with("bpf_link_info") || parts.iter().all(|part| line.contains(part));
            assert!(is_described && line.contains("netns=") == is_known, "{line}");
            assert!(!line.contains(&names[1]), "that is the other namespace: {line}");
        }
        // From inside its own namespace it is known with every setting.
        let mut enricher = enricher_by(readers::by(backend), every_netns);
        let snapshot = one.network.inside(|| enricher.read()).expect("root may enter it");
        assert_eq!(reported(&snapshot, &link), (names[0].clone(), Some(inode)));
        // The facts stay the same, and stay shared.
        let again = one.network.inside(|| enricher.read()).expect("root may enter it");
        assert_eq!(reported(&again, &link), (names[0].clone(), Some(inode)));
    }
}

pub(crate) fn one_program() {
    let [one, other] = [(); 2].map(|()| Visible::with_loopback(&own_name()));
    let program = xdp("shared");
    let id = program.id();
    let links = [&one, &other].map(|visible| visible.link_xdp(&program, LOOPBACK));
    let snapshot = enricher_by(readers::by_ids(), true).read();
    let look = looked(&snapshot);
    let hooks = of(&look, &[id]);
    let found: BTreeSet<_> = hooks.iter().map(|hook| (inode(hook), hook.link_id)).collect();
    // Both are found, and it is not known which link is where.
    assert_eq!(found, [&one, &other].map(|visible| (Some(visible.network.inode()), None)).into());
    for link in &links {
        assert_eq!(reported(&snapshot, link), (LOOPBACK.to_string(), None));
    }
    if readers::iterators_missing().is_none() {
        let snapshot = enricher_by(readers::by_iterators(), true).read();
        let look = looked(&snapshot);
        let found: BTreeSet<_> = of(&look, &[id]).iter().map(|hook| (inode(hook), hook.link_id)).collect();
        let expected = [(&one, &links[0]), (&other, &links[1])];
        let expected = expected.map(|(visible, link)| (Some(visible.network.inode()), Some(link.id())));
        assert_eq!(found, expected.into());
    }
}
