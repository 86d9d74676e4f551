//! The network namespaces that attachments are in, with both backends and both settings of `--netns`.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use bpf_metrics_exporter::export::prometheus::{self, Format};
use bpf_metrics_exporter::metrics::Sample;
use bpf_metrics_exporter::model::{ReaderKind, Snapshot};

use super::readers;
use super::scans::{enricher_by, inode, looked, of};
use test_support::objects::{Link, Network, Program, uapi};
use test_support::running::Running;

/// A network namespace that is visible in `/proc`, with a pair of interfaces.
pub(crate) struct Visible {
    pub(crate) network: Network,
    /// The index of the first interface.
    index: u32,
    _process: Running,
}

/// Returns an index for interfaces that no other test uses, and other namespaces of the host hardly have.
pub(crate) fn own_index() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(4710);
    NEXT.fetch_add(2, Ordering::Relaxed)
}

impl Visible {
    /// Makes one in which an interface has this name and index.
    pub(crate) fn with_pair(name: &str, index: u32) -> Self {
        let made = Network::new_with(|_| Ok(Running(Command::new("sleep").arg("600").spawn()?)));
        let (process, network) = made.expect("a process can be started in it");
        network.add_pair(name, index).expect("interfaces can be made");
        Self { network, index, _process: process }
    }

    /// Has a link attach a program to the first interface.
    pub(crate) fn link_xdp(&self, program: &Program) -> Link {
        let link = self.network.inside(|| program.link_xdp_at(self.index)).expect("root may enter it");
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
    let index = own_index();
    let [one, other] = ["places0", "places1"].map(|name| Visible::with_pair(name, index));
    let programs = ["one", "other"].map(xdp);
    let (linked, also) = (one.link_xdp(&programs[0]), other.link_xdp(&programs[1]));
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
        let points = look.attach_points.iter().filter(|point| {
            point.target.as_ref().and_then(|target| Some(target.device()?.ifindex)) == Some(index)
        });
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
    let index = own_index();
    let [one, other] = ["places0", "places1"].map(|name| Visible::with_pair(name, index));
    // The reader is in a namespace with an interface of the same index.
    let link = one.link_xdp(&xdp("named"));
    let inode = one.network.inode();
    for every_netns in [false, true] {
        let mut enricher = enricher_by(readers::by(backend), every_netns);
        let snapshot = other.network.inside(|| enricher.read()).expect("root may enter it");
        let is_known = backend == ReaderKind::Iter || every_netns;
        let expected = if is_known { ("places0".to_owned(), Some(inode)) } else { (index.to_string(), None) };
        assert_eq!(reported(&snapshot, &link), expected);
        let text = prometheus::render(Sample::new(&snapshot), Format::Text, 0);
        let id = format!("link_id=\"{}\"", link.id());
        let lines = text.lines().filter(|line| line.starts_with("bpf_") && line.contains(&id));
        for line in lines {
            assert!(!line.contains("=\"\""), "no label is empty: {line}");
            let parts = [format!("ifindex=\"{index}\""), format!("target=\"{}\"", expected.0)];
            let is_described =
                !line.starts_with("bpf_link_info") || parts.iter().all(|part| line.contains(part));
            assert!(is_described && line.contains("netns=") == is_known, "{line}");
            assert!(!line.contains("places1"), "that is the other namespace: {line}");
        }
        // From inside its own namespace it is known with every setting.
        let mut enricher = enricher_by(readers::by(backend), every_netns);
        let snapshot = one.network.inside(|| enricher.read()).expect("root may enter it");
        assert_eq!(reported(&snapshot, &link), ("places0".to_owned(), Some(inode)));
        // The facts stay the same, and stay shared.
        let again = one.network.inside(|| enricher.read()).expect("root may enter it");
        assert_eq!(reported(&again, &link), ("places0".to_owned(), Some(inode)));
    }
}

pub(crate) fn one_program() {
    let index = own_index();
    let [one, other] = ["places0", "places1"].map(|name| Visible::with_pair(name, index));
    let program = xdp("shared");
    let id = program.id();
    let links = [&one, &other].map(|visible| visible.link_xdp(&program));
    let snapshot = enricher_by(readers::by_ids(), true).read();
    let look = looked(&snapshot);
    let hooks = of(&look, &[id]);
    let found: BTreeSet<_> = hooks.iter().map(|hook| (inode(hook), hook.link_id)).collect();
    // Both are found, and it is not known which link is where.
    assert_eq!(found, [&one, &other].map(|visible| (Some(visible.network.inode()), None)).into());
    for link in &links {
        assert_eq!(reported(&snapshot, link), (index.to_string(), None));
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
