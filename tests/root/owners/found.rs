//! What readings say of a test's own objects: whose they are, who holds them, and what is counted for whom.

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{Enricher, Options};
use bpf_metrics_exporter::kernel::{Options as ReaderOptions, Reader};
use bpf_metrics_exporter::model::{HeldBy, Kind, Owner, OwnerTotal, Snapshot};

use std::sync::Arc;
use std::time::Duration;

use super::SOON;
use super::loader::Made;
use test_support::objects::wait_until;

/// Reads as the program does, and looks at the hooks each time.
pub(crate) fn enricher(names: NameCache, every_netns: bool) -> Enricher {
    let hooks = Some(Duration::from_hours(1));
    let options = Options { hooks, every_netns, wait_for_hooks: true, ..Options::default() };
    Enricher::new(Reader::new(ReaderOptions::default()), options, names)
}

/// A reading in which no process of another program has any of these: whoever lists objects by their ids has each for a moment.
pub(crate) fn read(enricher: &mut Enricher, made: Made) -> Snapshot {
    let mut found = None;
    wait_until("nobody else has them", SOON, || {
        let snapshot = found.insert(enricher.read());
        let foreign = |row: &String| row.starts_with("process process ") && !row.ends_with(&this_process());
        Ok(!made.all().iter().any(|&(kind, id)| held_by(snapshot, kind, id).iter().any(foreign)))
    })
    .expect("others let them go");
    found.expect("it was read")
}

/// Whose an object is; `None` when there is no such object.
pub(crate) fn owner(snapshot: &Snapshot, kind: Kind, id: u32) -> Option<Arc<Owner>> {
    let owner = match kind {
        Kind::Program => snapshot.programs.iter().flatten().find(|row| row.facts.id == id)?.owner.as_ref(),
        Kind::Map => snapshot.maps.iter().flatten().find(|row| row.facts.id == id)?.owner.as_ref(),
        Kind::Link => snapshot.links.iter().flatten().find(|row| row.facts.id == id)?.owner.as_ref(),
        Kind::Btf => return None,
    };
    Some(Arc::clone(owner.expect("everything belongs to somebody")))
}

/// An owner as `KIND NAME`.
pub(crate) fn word(owner: &Owner) -> String {
    format!("{} {}", owner.kind().as_str(), owner.name())
}

/// Whose the program, the map and the link are; nothing for one that is gone.
pub(crate) fn owners(snapshot: &Snapshot, made: Made) -> Vec<String> {
    made.all().iter().filter_map(|&(kind, id)| owner(snapshot, kind, id)).map(|owner| word(&owner)).collect()
}

/// Asserts that all three are this owner's.
#[track_caller]
pub(crate) fn assert_owned(snapshot: &Snapshot, made: Made, wanted: &str) {
    assert_eq!(owners(snapshot, made), [wanted; 3]);
}

/// Who holds an object, as `HOW KIND NAME`, in order.
pub(crate) fn held_by(snapshot: &Snapshot, kind: Kind, id: u32) -> Vec<String> {
    let holders = snapshot.holders.as_ref().expect("root may know").of(kind);
    let rows = holders.iter().filter(|holder| holder.id == id);
    let mut rows: Vec<_> =
        rows.map(|holder| format!("{} {}", holder.held_by.as_str(), word(&holder.owner))).collect();
    rows.sort_unstable();
    rows
}

/// The pids of the processes that hold an object, in order.
pub(crate) fn pids(snapshot: &Snapshot, kind: Kind, id: u32) -> Vec<u32> {
    let holders = snapshot.holders.as_ref().expect("root may know").of(kind);
    let rows = holders.iter().filter(|holder| (holder.id, holder.held_by) == (id, HeldBy::Process));
    let mut pids: Vec<_> = rows.map(|holder| holder.owner.process.as_ref().expect("it is one").pid).collect();
    pids.sort_unstable();
    pids
}

/// What an owner's objects are together.
pub(crate) fn total<'a>(snapshot: &'a Snapshot, owner: &Owner) -> Option<&'a OwnerTotal> {
    let mut totals = snapshot.owners.iter().filter(|total| total.owner.key() == owner.key());
    let total = totals.next();
    assert!(totals.next().is_none(), "each owner is told once");
    total
}

/// Waits until what was made is in no reading any more, nor counted for an owner that had nothing else.
pub(crate) fn wait_until_gone(enricher: &mut Enricher, made: Made, owner: &Owner) {
    made.wait_until_gone();
    wait_until("it is gone", SOON, || {
        let snapshot = enricher.read();
        let held = made.all().iter().any(|&(kind, id)| !held_by(&snapshot, kind, id).is_empty());
        Ok(owners(&snapshot, made).is_empty() && !held && total(&snapshot, owner).is_none())
    })
    .expect("nothing is left of it");
}

/// What a process of this program is called.
pub(crate) fn this_process() -> String {
    let path = std::env::current_exe().expect("Linux has /proc");
    let name = path.file_name().and_then(|name| name.to_str()).expect("it is text");
    format!("process {name}")
}
