//! The table of metrics, one row each. Metrics are added here and nowhere else, in the file of their subject.
//! A row does no I/O and keeps no state; OTLP, Prometheus, the terminal's tables and `docs/metrics.md` derive from it.

mod activity;
mod baseline;
mod capabilities;
mod exporter;
mod hooks;
mod leaks;
mod objects;
mod owners;
mod posture;

use std::slice;
use std::sync::Arc;

pub use self::activity::{EVENT, LIFETIME, OBJECT_ACTIVITY, PROGRAM_ACTIVITY};
pub use self::baseline::UNEXPECTED;
pub use self::capabilities::{
    CapableProgram, OWNER_CAPABILITY, OwnerCapability, PROGRAM_CAPABILITY, PROGRAM_METADATA, ProgramMetadata,
};
pub use self::exporter::{
    BUILD, COLLECTOR, FEATURE, ISSUE, LOG, OTLP_BACKLOG, OTLP_DESTINATION, OTLP_DROPPED,
    OTLP_DROPPED_LOG_RECORDS, OTLP_LOG_RECORDS, OTLP_POINTS, OTLP_REQUESTS, PROCESS,
};
pub use self::exporter::{RUN_STATS, RUN_STATS_BY};
pub use self::hooks::{ATTACH_POINT, HOOK};
pub use self::leaks::ORPHAN;
pub use self::objects::{BTF, LINK, MAP, PROGRAM, PROGRAM_MAP, ProgramMap};
pub use self::owners::{
    DROPPED, HOST, HOST_FINGERPRINT, LINK_HOLDER, MAP_HOLDER, OWNER, OWNER_FINGERPRINT, OwnerFingerprint,
    PIN, PROGRAM_HOLDER,
};
pub use self::posture::POSTURE;
use super::LabelValue::{Integer, Number, Text};
use super::select::MetricFilter;
use super::{Entity, LabelValue, Sample, Visitor};
use crate::model::{AttachmentScan, Issue, NetNs, ObjectType, Part, Snapshot, Target};

/// Visits every entity in the order of the table.
pub(super) fn visit(sample: Option<Sample<'_>>, visitor: &mut impl Visitor) {
    let metrics = sample.map_or(MetricFilter::none(), |sample| sample.metrics);
    let mut visitor = Filtered { metrics, visitor };
    let snapshot = sample.map(|sample| sample.snapshot);
    visitor.entity(&PROGRAM, snapshot.and_then(|snapshot| snapshot.programs.as_deref()));
    let uses = sample.filter(|sample| sample.program_maps).and_then(|sample| program_maps(sample.snapshot));
    visitor.entity(&PROGRAM_MAP, uses.as_deref());
    let capable = snapshot.and_then(capabilities::of_programs);
    visitor.entity(&PROGRAM_CAPABILITY, capable.as_deref());
    visitor.entity(&PROGRAM_METADATA, snapshot.and_then(capabilities::metadata).as_deref());
    visitor.entity(&MAP, snapshot.and_then(|snapshot| snapshot.maps.as_deref()));
    visitor.entity(&LINK, snapshot.and_then(|snapshot| snapshot.links.as_deref()));
    visitor.entity(&BTF, snapshot.and_then(|snapshot| snapshot.btfs.as_deref()));
    let holders = sample.filter(|sample| sample.holders).and_then(|sample| sample.snapshot.holders.as_ref());
    visitor.entity(&PROGRAM_HOLDER, holders.map(|holders| &*holders.programs));
    visitor.entity(&MAP_HOLDER, holders.map(|holders| &*holders.maps));
    visitor.entity(&LINK_HOLDER, holders.map(|holders| &*holders.links));
    visitor.entity(&PIN, snapshot.and_then(|snapshot| snapshot.pins.as_deref()));
    visitor.entity(&ORPHAN, snapshot.and_then(|snapshot| snapshot.orphans.as_deref()));
    let scan = snapshot.and_then(|snapshot| snapshot.hooks.as_deref());
    visitor.entity(&HOOK, scan.map(|AttachmentScan { hooks, .. }| &**hooks));
    visitor.entity(&ATTACH_POINT, scan.map(|AttachmentScan { attach_points, .. }| &**attach_points));
    visitor.entity(&OWNER, snapshot.map(|snapshot| &*snapshot.owners));
    visitor.entity(&OWNER_FINGERPRINT, snapshot.and_then(owner_fingerprints).as_deref());
    visitor.entity(&OWNER_CAPABILITY, snapshot.map(capabilities::of_owners).as_deref());
    visitor.entity(&HOST, snapshot.map(|snapshot| &*snapshot.totals));
    let fingerprint = snapshot.and_then(|snapshot| snapshot.fingerprint.as_ref());
    visitor.entity(&HOST_FINGERPRINT, fingerprint.map(slice::from_ref));
    let unexpected = snapshot.and_then(|snapshot| snapshot.unexpected.as_ref());
    visitor.entity(&UNEXPECTED, unexpected.map(slice::from_ref));
    visitor.entity(&POSTURE, snapshot.map(|snapshot| slice::from_ref(&snapshot.posture)));
    let activity = snapshot.and_then(|snapshot| snapshot.activity.as_deref());
    visitor.entity(&PROGRAM_ACTIVITY, activity.map(|activity| &*activity.programs));
    let objects = activity.map(|activity| {
        activity.objects.iter().map(|objects| (activity.since, *objects)).collect::<Vec<_>>()
    });
    visitor.entity(&OBJECT_ACTIVITY, objects.as_deref());
    visitor.entity(&EVENT, activity.map(slice::from_ref));
    let dropped = sample.and_then(|sample| sample.dropped);
    visitor.entity(&DROPPED, dropped.as_ref().map(slice::from_ref));
    let by = |snapshot: &Snapshot| -> Vec<_> {
        let stats = snapshot.run_stats;
        let by_exporter = ("exporter", stats.by_exporter);
        std::iter::once(by_exporter).chain(stats.by_sysctl.map(|on| ("sysctl", on))).collect()
    };
    visitor.entity(&RUN_STATS_BY, snapshot.map(by).as_deref());
    let covered = snapshot.map(|snapshot| (snapshot.reader_started_at, snapshot.run_stats));
    visitor.entity(&RUN_STATS, covered.as_ref().map(slice::from_ref));
    visitor.entity(&COLLECTOR, snapshot.map(|snapshot| &*snapshot.collectors));
    visitor.entity(&FEATURE, snapshot.map(|snapshot| &*snapshot.features));
    // The sum over a collector's issues exists from the start.
    let none = |part| Issue { part, call: "".into(), error: "".into(), count: 0, total: 0 };
    let issues = |snapshot: &Snapshot| -> Vec<_> {
        let issues = Part::ALL.into_iter().map(none).chain(snapshot.issues.iter().cloned());
        issues.map(|issue| (snapshot.reader_started_at, issue)).collect()
    };
    visitor.entity(&ISSUE, snapshot.map(issues).as_deref());

    let exporter = sample.and_then(|sample| sample.exporter);
    visitor.entity(&BUILD, exporter.map(|exporter| slice::from_ref(&exporter.build)));
    let process = exporter.and_then(|exporter| exporter.process.as_ref());
    visitor.entity(&PROCESS, process.map(slice::from_ref));
    let log = exporter.map(|exporter| (exporter.build.started_at, exporter.lost_log_lines));
    visitor.entity(&LOG, log.as_ref().map(slice::from_ref));
    visitor.entity(&OTLP_DESTINATION, exporter.map(|exporter| &*exporter.destinations));
    let delivery = exporter.and_then(|exporter| exporter.delivery.as_ref());
    visitor.entity(&OTLP_POINTS, delivery.map(|delivery| &*delivery.points));
    visitor.entity(&OTLP_DROPPED, delivery.map(|delivery| &*delivery.dropped));
    visitor.entity(&OTLP_LOG_RECORDS, delivery.map(|delivery| &*delivery.log_records));
    visitor.entity(&OTLP_DROPPED_LOG_RECORDS, delivery.map(|delivery| &*delivery.dropped_log_records));
    visitor.entity(&OTLP_REQUESTS, delivery.map(|delivery| &*delivery.requests));
    visitor.entity(&OTLP_BACKLOG, delivery.map(|delivery| &*delivery.backlog));
    // Last, since histograms have a request of their own over OTLP, and what follows would have another one.
    visitor.entity(&LIFETIME, activity.map(|activity| &*activity.lifetimes));
}

/// Adds to each entity which of its metrics are exported.
struct Filtered<'a, V> {
    metrics: &'a MetricFilter,
    visitor: &'a mut V,
}

impl<V: Visitor> Filtered<'_, V> {
    fn entity<T>(&mut self, entity: &'static Entity<T>, values: Option<&[T]>) {
        self.visitor.entity(entity, self.metrics.rows(entity), values);
    }
}

/// Returns every use of a map by a program.
fn program_maps(snapshot: &Snapshot) -> Option<Vec<ProgramMap>> {
    let programs = snapshot.programs.as_ref()?;
    let uses = programs.iter().flat_map(|program| {
        let map_ids = program.facts.map_ids.as_deref().unwrap_or_default();
        map_ids.iter().map(|&map_id| ProgramMap { prog_id: program.facts.id, map_id })
    });
    Some(uses.collect())
}

/// Returns the owners with programs and their fingerprints; `None` unless every program was read.
fn owner_fingerprints(snapshot: &Snapshot) -> Option<Vec<OwnerFingerprint>> {
    snapshot.fingerprint.as_ref()?;
    let with_programs = snapshot.owners.iter().filter_map(|total| {
        Some(OwnerFingerprint { owner: Arc::clone(&total.owner), programs: total.fingerprint.clone()? })
    });
    Some(with_programs.collect())
}

fn word(object_type: &ObjectType) -> Option<LabelValue<'_>> {
    object_type.name.as_deref().map(Text)
}

fn word_or_number(object_type: &ObjectType) -> LabelValue<'_> {
    word(object_type).unwrap_or(Number(object_type.number))
}

fn device_name(target: &Target) -> Option<LabelValue<'_>> {
    target.device()?.name.as_deref().map(Text)
}

fn inode(netns: Option<&NetNs>) -> Option<LabelValue<'_>> {
    netns.map(|netns| Integer(netns.inode.try_into().unwrap_or(i64::MAX)))
}

fn ifindex(target: &Target) -> Option<LabelValue<'_>> {
    target.device().map(|device| Number(device.ifindex))
}
