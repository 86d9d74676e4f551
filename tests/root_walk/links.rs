//! Links: every kind that can be attached on this machine.

use std::sync::Arc;

use bpf_metrics_exporter::kernel::Reader;
use bpf_metrics_exporter::model::{Link as Found, LinkFacts};

use super::objects::{Link, Program, every_link_kind, uapi};
use super::read;

fn find(links: Option<Vec<Found>>, id: u32) -> Arc<LinkFacts> {
    let links = links.expect("links can be listed");
    links.into_iter().find(|link| link.facts.id == id).expect("the link is found").facts
}

/// What can be attached on every kernel that has links for it, 5.9 and later, whatever the architecture.
const EVERYWHERE: [&str; 5] = ["raw_tracepoint", "cgroup", "iter", "netns_sk_lookup", "xdp"];

pub(crate) fn every_kind_is_found() {
    let made = every_link_kind();
    let links = read().links;
    let mut seen = Vec::new();
    for (name, link) in &made {
        // A kind that this kernel cannot attach is not there to be found.
        let Ok(link) = link else { continue };
        let found = find(links.clone(), link.id());
        assert_eq!(found.link_type.number, link.kind(), "{name}");
        assert!(found.link_type.name.is_some(), "{name} has a word");
        assert_eq!(found.prog_id, link.program().map(Program::id), "{name}");
        seen.push(*name);
    }
    assert!(EVERYWHERE.iter().all(|kind| seen.contains(kind)), "only {seen:?} could be made: {made:#?}");
}

pub(crate) fn replaced_program() {
    let link = Link::cgroup().expect("a link to a cgroup can be made");
    let mut reader = Reader::default();
    let before = find(reader.read().links, link.id());
    let other = Program::ready(uapi::program_type::CGROUP_SKB, "other").expect("it can be loaded");
    link.replace_program(&other).expect("a cgroup's link takes another program");
    let after = find(reader.read().links, link.id());
    assert_eq!((before.prog_id, after.prog_id), (link.program().map(Program::id), Some(other.id())));
    assert!(after.first_seen > before.first_seen, "it is another series");
}
