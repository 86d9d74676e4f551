//! Owners, holders and totals of a test's own objects in a snapshot.

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::kernel::{Reader, ReaderOptions};
use bpf_metrics_exporter::model::{HeldBy, Kind, Owner, OwnerTotal, Snapshot};

use std::sync::Arc;
use std::time::Duration;

use super::SOON;
use super::loader::{Made, names};
use test_support::objects::wait_until;

/// Collects as the program does, with a scan of attachments each time.
pub(crate) fn enricher(names: NameCache, every_netns: bool) -> Enricher {
    let hooks = Some(Duration::from_hours(1));
    let options = EnrichOptions { hooks, every_netns, wait_for_hooks: true, ..EnrichOptions::default() };
    Enricher::new(Reader::new(ReaderOptions::default()), options, names)
}

/// Returns a snapshot in which no process of another program holds any of these: a program that lists objects by id holds each for a
/// moment.
pub(crate) fn read(enricher: &mut Enricher, made: Made) -> Snapshot {
    let mut found = None;
    wait_until("no other program holds them", SOON, || {
        let snapshot = found.insert(enricher.read());
        let own = format!("process process {}", names());
        let foreign = |row: &String| row.starts_with("process process ") && !row.starts_with(&own);
        Ok(!made.all().iter().any(|&(kind, id)| held_by(snapshot, kind, id).iter().any(foreign)))
    })
    .expect("other programs release them");
    found.expect("it was read")
}

/// Returns the owner of an object; `None` if there is no such object.
pub(crate) fn owner(snapshot: &Snapshot, kind: Kind, id: u32) -> Option<Arc<Owner>> {
    let owner = match kind {
        Kind::Program => snapshot.programs.iter().flatten().find(|row| row.facts.id == id)?.owner.as_ref(),
        Kind::Map => snapshot.maps.iter().flatten().find(|row| row.facts.id == id)?.owner.as_ref(),
        Kind::Link => snapshot.links.iter().flatten().find(|row| row.facts.id == id)?.owner.as_ref(),
        Kind::Btf => return None,
    };
    Some(Arc::clone(owner.expect("every object has an owner")))
}

/// Formats an owner as `KIND NAME`.
pub(crate) fn word(owner: &Owner) -> String {
    format!("{} {}", owner.kind().as_str(), owner.name())
}

/// Returns the owners of the program, the map and the link that are still reported.
pub(crate) fn owners(snapshot: &Snapshot, made: Made) -> Vec<String> {
    made.all().iter().filter_map(|&(kind, id)| owner(snapshot, kind, id)).map(|owner| word(&owner)).collect()
}

/// Asserts that all three have this owner.
#[track_caller]
pub(crate) fn assert_owned(snapshot: &Snapshot, made: Made, wanted: &str) {
    assert_eq!(owners(snapshot, made), [wanted; 3]);
}

/// Returns the holders of an object as `HOW KIND NAME`, sorted.
pub(crate) fn held_by(snapshot: &Snapshot, kind: Kind, id: u32) -> Vec<String> {
    let holders = snapshot.holders.as_ref().expect("root may know").of(kind);
    let rows = holders.iter().filter(|holder| holder.id == id);
    let mut rows: Vec<_> =
        rows.map(|holder| format!("{} {}", holder.held_by.as_str(), word(&holder.owner))).collect();
    rows.sort_unstable();
    rows
}

/// Returns the pids of the processes that hold an object, sorted.
pub(crate) fn pids(snapshot: &Snapshot, kind: Kind, id: u32) -> Vec<u32> {
    let holders = snapshot.holders.as_ref().expect("root may know").of(kind);
    let rows = holders.iter().filter(|holder| (holder.id, holder.held_by) == (id, HeldBy::Process));
    let mut pids: Vec<_> = rows.map(|holder| holder.owner.process.as_ref().expect("it is one").pid).collect();
    pids.sort_unstable();
    pids
}

/// Returns the totals of an owner.
pub(crate) fn total<'a>(snapshot: &'a Snapshot, owner: &Owner) -> Option<&'a OwnerTotal> {
    let mut totals = snapshot.owners.iter().filter(|total| total.owner.key() == owner.key());
    let total = totals.next();
    assert!(totals.next().is_none(), "each owner is reported once");
    total
}

/// Waits until these objects are not reported any more, nor an owner that had nothing else.
pub(crate) fn wait_until_gone(enricher: &mut Enricher, made: Made, owner: &Owner) {
    made.wait_until_gone();
    wait_until("they are not reported", SOON, || {
        let snapshot = enricher.read();
        let held = made.all().iter().any(|&(kind, id)| !held_by(&snapshot, kind, id).is_empty());
        Ok(owners(&snapshot, made).is_empty() && !held && total(&snapshot, owner).is_none())
    })
    .expect("they are freed");
}
