//! The value of one reading of a host's BPF objects: plain data that serialises and reads back.
//! Entry point: [`Snapshot`]. Independent of system calls, metrics and protocols.

mod activity;
mod attachment;
mod collection;
pub mod enums;
mod event;
mod exporter;
pub mod feature;
mod hash;
mod histogram;
mod hook;
mod host;
mod kind;
mod object;
mod orphan;
mod owner;
pub mod program_capability;
mod time;
mod totals;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::activity::{Activity, Lifetimes, ObjectActivity, ProgramActivity};
pub use self::attachment::{Cgroup, Device, FunctionObject, NetNs, Symbol, Target, Within};
pub use self::collection::{Collector, Issue, Part, ReaderKind, RunStats};
pub use self::enums::ObjectType;
pub use self::event::{Actor, ActorSource, Event, EventKind, EventSource, Subject};
pub use self::exporter::{
    Backlog, Build, Delivery, Destination, Exporter, SettingInForce, SettingOrigin, Tally,
};
pub use self::feature::{Capability, Feature, FeatureState, Reason};
pub(crate) use self::hash::hash;
pub use self::histogram::{ExponentialBuckets, Histogram};
pub use self::hook::{AttachPointStatus, AttachmentScan, Content, Hook};
pub use self::host::{HostIdentity, HostSettings, OwnProcess};
pub use self::kind::{Kind, Object};
pub use self::object::{Btf, Link, LinkFacts, Map, MapFacts, Program, ProgramFacts, Tag};
pub use self::orphan::Orphan;
pub use self::owner::{
    Container, HeldBy, Holder, Holders, IdentifiedBy, Identity, Owner, OwnerGroup, OwnerKind, Pin, Pod,
    Process, ProcessFiles,
};
pub use self::program_capability::{
    MetadataVariable, ProgramCapabilities, ProgramCapability, ProgramCapabilityName,
};
pub use self::time::{BootTime, WallClock};
pub use self::totals::{KindTotal, OwnerTotal};

/// One reading: every BPF object of the host at one moment, and what could not be read.
///
/// A table is `None` if the kernel refused it or does not have it, which is not the same as empty.
/// Objects are in ascending order of their ids.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// When the reading began.
    #[serde(rename = "taken_at_boot_ns")]
    pub taken_at: BootTime,
    /// When its reader was started: start of the counters in [`Snapshot::issues`].
    #[serde(rename = "reader_started_at_boot_ns")]
    pub reader_started_at: BootTime,
    /// When its reader took its first reading: objects that it found may be of any age.
    #[serde(rename = "first_read_at_boot_ns")]
    pub first_read_at: BootTime,
    /// The wall clock, by which all times of this reading are reported.
    pub clock: WallClock,
    /// Every loaded program.
    pub programs: Option<Vec<Program>>,
    /// Ids of the programs that the exporter itself has loaded, ascending.
    #[serde(default)]
    pub own_programs: Vec<u32>,
    /// Every map.
    pub maps: Option<Vec<Map>>,
    /// Every link. Since Linux 5.8.
    pub links: Option<Vec<Link>>,
    /// Every BTF object.
    pub btfs: Option<Vec<Arc<Btf>>>,
    /// Holders of these objects. `None` if they could not be read or were not collected.
    pub holders: Option<Holders>,
    /// Pinned objects by path and bpffs. `None` if no bpffs could be read.
    pub pins: Option<Vec<Pin>>,
    /// Attachments, as of the last scan. `None` before the first.
    pub hooks: Option<Arc<AttachmentScan>>,
    /// Objects that nothing holds. `None` unless every possible holder was seen.
    #[serde(default)]
    pub orphans: Option<Vec<Orphan>>,
    /// Totals of each owner, over all its objects even if only some are listed here.
    #[serde(default)]
    pub owners: Vec<OwnerTotal>,
    /// Totals of each kind of object, over all objects even if only some are listed here. A kind that could not be read is
    /// missing.
    #[serde(default)]
    pub totals: Vec<KindTotal>,
    /// Fingerprint of the programs: a UUID of their distinct tags, equal on every host with the same, whatever their ids and
    /// number. `None` unless every program was read.
    #[serde(default)]
    pub fingerprint: Option<Arc<str>>,
    /// How many programs are not in the baseline. `None` without one, and unless every program was read.
    #[serde(default)]
    pub unexpected: Option<u64>,
    /// What happened since the exporter's start. `None` for a single reading.
    #[serde(default)]
    pub activity: Option<Arc<Activity>>,
    /// Settings of the kernel for BPF.
    #[serde(default)]
    pub posture: HostSettings,
    /// Whether run statistics are on, and for how long they have been.
    pub run_stats: RunStats,
    /// How each part of the reading went.
    pub collectors: Vec<Collector>,
    /// Which sources see everything. A source that was not used is missing.
    #[serde(default)]
    pub features: Vec<FeatureState>,
    /// What could not be read, counted since the reader was started.
    pub issues: Vec<Issue>,
}

/// How far the dates of a boot that two readings compute may be apart. A host that boots again is down for longer, nearly always.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(10);

/// Returns the object with this id of a table, which is in order of ids.
fn by_id<T>(rows: &[T], id: u32, of: impl Fn(&T) -> u32) -> Option<&T> {
    rows.binary_search_by_key(&id, of).ok().map(|index| &rows[index])
}

/// When a reading was taken, and by which reader: enough to tell boots of a host apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadingOrigin {
    taken_at: BootTime,
    reader_started_at: BootTime,
    clock: WallClock,
}

impl ReadingOrigin {
    /// Returns whether this reading is of the same boot of the host as an earlier one, so that an id may be the same object.
    ///
    /// Readings of one process are. Of others, the date of the boot is compared, which differs from reading to reading as much as the
    /// wall clock was set in between.
    #[must_use]
    pub fn is_of_boot_of(self, earlier: Self) -> bool {
        let set = self.clock.booted_at.duration_since(earlier.clock.booted_at).unsigned_abs();
        let is_later = self.taken_at >= earlier.taken_at;
        is_later && (self.reader_started_at == earlier.reader_started_at || set <= CLOCK_TOLERANCE)
    }
}

impl Snapshot {
    /// Returns a reading in which nothing has been read yet.
    #[must_use]
    pub fn begun(taken_at: BootTime, reader_started_at: BootTime, clock: WallClock) -> Self {
        Self {
            taken_at,
            reader_started_at,
            first_read_at: taken_at,
            clock,
            programs: None,
            own_programs: Vec::new(),
            maps: None,
            links: None,
            btfs: None,
            holders: None,
            pins: None,
            hooks: None,
            orphans: None,
            owners: Vec::new(),
            totals: Vec::new(),
            fingerprint: None,
            unexpected: None,
            activity: None,
            posture: HostSettings::default(),
            run_stats: RunStats::default(),
            collectors: Vec::new(),
            features: Vec::new(),
            issues: Vec::new(),
        }
    }

    /// Returns whether this reading is of the same boot of the host as an earlier one: see [`ReadingOrigin::is_of_boot_of`].
    #[must_use]
    pub fn is_of_boot_of(&self, earlier: &Self) -> bool {
        self.origin().is_of_boot_of(earlier.origin())
    }

    /// Returns when and by which reader it was taken.
    #[must_use]
    pub const fn origin(&self) -> ReadingOrigin {
        let Self { taken_at, reader_started_at, clock, .. } = *self;
        ReadingOrigin { taken_at, reader_started_at, clock }
    }

    /// Returns whether none of the tables could be read.
    #[must_use]
    pub fn is_all_refused(&self) -> bool {
        self.programs.is_none() && self.maps.is_none() && self.links.is_none() && self.btfs.is_none()
    }

    /// Returns the state of a source; `None` if it was not used.
    #[must_use]
    pub fn feature(&self, feature: Feature) -> Option<&FeatureState> {
        self.features.iter().find(|state| state.feature == feature)
    }

    /// Returns whether a source saw everything: it is available, and its collectors had no issue.
    #[must_use]
    pub fn sees_all(&self, feature: Feature) -> bool {
        let is_available = self.feature(feature).is_some_and(|state| state.reason.is_none());
        is_available && feature.row().parts.iter().all(|&part| self.succeeded(part).is_some())
    }

    /// Returns how a part of the reading went; `None` if it was not read, or had an issue.
    #[must_use]
    pub fn succeeded(&self, part: Part) -> Option<&Collector> {
        self.collectors.iter().find(|each| each.part == part && each.success)
    }

    /// Returns whether the programs are all that are loaded: each of them could be queried.
    #[must_use]
    pub fn has_every_program(&self) -> bool {
        self.programs.is_some() && self.succeeded(Part::Program).is_some()
    }

    /// Returns whether the maps that each program uses are known.
    #[must_use]
    pub fn knows_map_uses(&self) -> bool {
        self.programs
            .as_ref()
            .is_some_and(|programs| programs.iter().all(|program| program.facts.map_ids.is_some()))
    }

    /// Returns whether every program was read, and the maps and links, as far as this kernel has them.
    #[must_use]
    pub fn has_tables(&self) -> bool {
        // A table that this kernel lacks has no collector.
        let is_read = |part| {
            !self.collectors.iter().any(|each| {
                each.part == part
                    && match part {
                        Part::Program => self.programs.is_none() || !each.success,
                        Part::Map => self.maps.is_none(),
                        _ => self.links.is_none(),
                    }
            })
        };
        [Part::Program, Part::Map, Part::Link].into_iter().all(is_read)
    }

    /// Returns the program with this id; `None` if it is not in the reading.
    #[must_use]
    pub fn program(&self, id: u32) -> Option<&Program> {
        by_id(self.programs.as_deref()?, id, |program| program.facts.id)
    }

    /// Returns the map with this id; `None` if it is not in the reading.
    #[must_use]
    pub fn map(&self, id: u32) -> Option<&Map> {
        by_id(self.maps.as_deref()?, id, |map| map.facts.id)
    }

    /// Returns the link with this id; `None` if it is not in the reading.
    #[must_use]
    pub fn link(&self, id: u32) -> Option<&Link> {
        by_id(self.links.as_deref()?, id, |link| link.facts.id)
    }

    /// Returns the BTF object with this id; `None` if it is not in the reading.
    #[must_use]
    pub fn btf(&self, id: u32) -> Option<&Btf> {
        by_id(self.btfs.as_deref()?, id, |btf| btf.id).map(Arc::as_ref)
    }

    /// Returns the owner of an object; `None` if it is not known.
    #[must_use]
    pub fn owner(&self, Object { kind, id }: Object) -> Option<&Arc<Owner>> {
        match kind {
            Kind::Program => self.program(id)?.owner.as_ref(),
            Kind::Map => self.map(id)?.owner.as_ref(),
            Kind::Link => self.link(id)?.owner.as_ref(),
            Kind::Btf => None,
        }
    }

    /// Returns the ids of the objects of a kind, in order; none if the table could not be read.
    #[must_use]
    pub fn ids(&self, kind: Kind) -> Vec<u32> {
        match kind {
            Kind::Program => self.programs.iter().flatten().map(|program| program.facts.id).collect(),
            Kind::Map => self.maps.iter().flatten().map(|map| map.facts.id).collect(),
            Kind::Link => self.links.iter().flatten().map(|link| link.facts.id).collect(),
            Kind::Btf => self.btfs.iter().flatten().map(|btf| btf.id).collect(),
        }
    }

    /// Returns a copy with only the rows whose object `keep` accepts: the object itself, its holders and pins, the hooks where
    /// it is attached, and what a map contains. A table that could not be read stays `None`; totals and counts of many
    /// objects stay as they are.
    #[must_use]
    pub fn filtered(&self, keep: impl Fn(Object) -> bool) -> Self {
        fn rows<T: Clone>(rows: &[T], keep: impl Fn(&T) -> bool) -> Vec<T> {
            rows.iter().filter(|row| keep(row)).cloned().collect()
        }
        let is_kept = |kind, id| keep(Object { kind, id });
        Self {
            programs: self.programs.as_ref().map(|all| rows(all, |p| is_kept(Kind::Program, p.facts.id))),
            own_programs: rows(&self.own_programs, |&id| is_kept(Kind::Program, id)),
            maps: self.maps.as_ref().map(|all| rows(all, |m| is_kept(Kind::Map, m.facts.id))),
            links: self.links.as_ref().map(|all| rows(all, |l| is_kept(Kind::Link, l.facts.id))),
            btfs: self.btfs.as_ref().map(|all| rows(all, |b| is_kept(Kind::Btf, b.id))),
            holders: self.holders.as_ref().map(|holders| Holders {
                programs: rows(&holders.programs, |h| is_kept(Kind::Program, h.id)),
                maps: rows(&holders.maps, |h| is_kept(Kind::Map, h.id)),
                links: rows(&holders.links, |h| is_kept(Kind::Link, h.id)),
                btfs: rows(&holders.btfs, |h| is_kept(Kind::Btf, h.id)),
            }),
            pins: self.pins.as_ref().map(|all| rows(all, |pin| is_kept(pin.kind, pin.id))),
            hooks: self.hooks.as_ref().map(|scan| {
                Arc::new(AttachmentScan {
                    taken_at: scan.taken_at,
                    hooks: rows(&scan.hooks, |hook| keep(hook.object())),
                    contents: rows(&scan.contents, |content| is_kept(Kind::Map, content.map_id)),
                    attach_points: scan.attach_points.clone(),
                    namespaces: scan.namespaces.clone(),
                    unqueryable: scan.unqueryable.clone(),
                    complete: scan.complete,
                })
            }),
            orphans: self.orphans.as_ref().map(|all| rows(all, |orphan| is_kept(orphan.kind, orphan.id))),
            owners: self.owners.clone(),
            totals: self.totals.clone(),
            fingerprint: self.fingerprint.clone(),
            unexpected: self.unexpected,
            activity: self.activity.clone(),
            collectors: self.collectors.clone(),
            features: self.features.clone(),
            issues: self.issues.clone(),
            taken_at: self.taken_at,
            reader_started_at: self.reader_started_at,
            first_read_at: self.first_read_at,
            clock: self.clock,
            run_stats: self.run_stats,
            posture: self.posture,
        }
    }
}
