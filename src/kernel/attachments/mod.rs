//! Program attachments, with and without links, in execution order; and which maps hold other objects.
//!
//! Entry point: [`scan`]. A scan takes up to a second on a big host, so it runs on a thread of its own while readings go on. It
//! has a [`Resolver`] of its own, with its BTF cache: a reading would have to wait for a shared one.

mod cgroups;
mod maps;
mod merge;
mod network;
mod perf;
mod places;
mod tc;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use self::maps::Structures;
use self::merge::Attachments;
pub(crate) use self::merge::Located;
pub(crate) use self::places::{Place, Survey};
use crate::host::clock;
use crate::host::issues::Issues;
use crate::host::namespaces::Rights;
use crate::host::netlink;
use crate::host::netns::{self, Namespace, NetnsNames};
use crate::host::procfs;
use crate::kernel::targets::resolver::Resolver;
use crate::model::enums::{attach_type, map_type, program_type};
use crate::model::{
    AttachmentScan, Capability, Content, Feature, FeatureState, Kind, LinkFacts, MapFacts, NetNs, Part,
    ProcessFiles, Snapshot, Target,
};
use crate::sys::{Error, failed};

/// The objects of a reading that a scan refers to, as values that can go to another thread.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// The types of programs by their ids; `None` when they could not be read.
    programs: Option<HashMap<u32, u32>>,
    links: Option<Vec<Arc<LinkFacts>>>,
    maps: Option<Vec<Arc<MapFacts>>>,
    /// The programs that a process, a pin or a link holds.
    held_programs: HashSet<u32>,
    /// The maps that a process or a pin holds.
    held_maps: HashSet<u32>,
    /// Map and program of each use of a map by a program.
    uses: Vec<(u32, u32)>,
    /// Whether these are known of all programs.
    uses_complete: bool,
    /// Whether the reading found every descriptor and every pin.
    holders_complete: bool,
    /// The processes that hold BPF files.
    pids: Vec<u32>,
    every_netns: bool,
}

impl Subject {
    /// Takes the objects of a reading. `files` are those of the processes that hold BPF files; with `every_netns` every network
    /// namespace is scanned, otherwise only that of the calling thread.
    pub(crate) fn of(snapshot: &Snapshot, files: &[ProcessFiles], every_netns: bool) -> Self {
        let programs = snapshot.programs.as_ref();
        let links = snapshot.links.as_ref();
        let by_links = links.into_iter().flatten().filter_map(|link| link.facts.prog_id);
        let held = |kind| {
            let holders = snapshot.holders.iter().flat_map(move |holders| holders.of(kind));
            let pinned = snapshot.pins.iter().flatten().filter(move |pin| pin.kind == kind).map(|pin| pin.id);
            holders.filter(|holder| holder.held_by.keeps()).map(|holder| holder.id).chain(pinned)
        };
        let uses = programs
            .into_iter()
            .flatten()
            .flat_map(|program| program.facts.map_ids.iter().flatten().map(|&map| (map, program.facts.id)));
        Self {
            programs: programs.map(|programs| {
                programs.iter().map(|program| (program.facts.id, program.facts.program_type.number)).collect()
            }),
            links: links.map(|links| links.iter().map(|link| Arc::clone(&link.facts)).collect()),
            maps: snapshot.maps.as_ref().map(|maps| maps.iter().map(|map| Arc::clone(&map.facts)).collect()),
            held_programs: by_links.chain(held(Kind::Program)).collect(),
            held_maps: held(Kind::Map).collect(),
            uses: uses.collect(),
            uses_complete: snapshot.knows_map_uses(),
            holders_complete: snapshot.sees_all(Feature::Processes) && snapshot.sees_all(Feature::Pins),
            pids: files.iter().map(|process| process.pid).collect(),
            every_netns,
        }
    }

    /// Returns whether a program is loaded; `true` when programs could not be read.
    pub(crate) fn is_loaded(&self, program: u32) -> bool {
        self.programs.as_ref().is_none_or(|programs| programs.contains_key(&program))
    }

    /// Returns the facts of a link.
    pub(crate) fn link(&self, id: u32) -> Option<&Arc<LinkFacts>> {
        self.links.iter().flatten().find(|link| link.id == id)
    }

    /// Returns whether there is a program of one of these types; `true` when programs could not be read.
    fn has(&self, types: &[u32]) -> bool {
        self.programs.as_ref().is_none_or(|programs| programs.values().any(|kind| types.contains(kind)))
    }

    /// The programs of these types that no link attaches.
    fn unlinked(&self, types: &[u32]) -> impl Iterator<Item = u32> {
        let linked: HashSet<u32> = self.links.iter().flatten().filter_map(|link| link.prog_id).collect();
        let programs = self.programs.iter().flatten().filter(|(_, kind)| types.contains(kind));
        programs.map(|(&id, _)| id).filter(move |id| !linked.contains(id))
    }
}

/// What is kept from one scan to the next.
#[derive(Debug, Default)]
pub(crate) struct ScanCache {
    structures: Structures,
}

/// A finished scan.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// What was found, still without the history of attach points.
    pub(crate) scan: AttachmentScan,
    /// The targets that are there.
    pub(crate) survey: Survey,
    /// The interfaces of links whose network namespace the kernel does not report, by the links' ids.
    pub(crate) located: Vec<Located>,
    /// How long it took.
    pub(crate) duration: Duration,
    /// What could not be queried.
    pub(crate) issues: Issues,
}

/// The state of a running scan.
#[derive(Debug)]
struct ScanContext<'a> {
    subject: &'a Subject,
    /// The directory that stands for `/`.
    root: PathBuf,
    names: Resolver,
    /// The places that had a program at an earlier scan, with their targets.
    watched: &'a [(Place, Option<Target>)],
    survey: Survey,
    /// The network namespaces that were scanned.
    namespaces: Vec<NetNs>,
    attachments: Attachments,
    contents: Vec<Content>,
    issues: Issues,
    /// Whether the tables of objects and every map that could hold an object were read.
    complete: bool,
    /// The types of program that can be attached where nothing could be queried.
    unqueryable: BTreeSet<u32>,
    /// The attach types that this kernel does not know, or refuses to report.
    unsupported: HashSet<u32>,
}

/// The types of program that can be attached where the kernel reports nothing: sockets, routes, infrared receivers, and perf events
/// that are neither tracepoints nor probes (`bpf_get_perf_event_info`, `kernel/trace/bpf_trace.c`).
const UNQUERYABLE_TYPES: [u32; 8] = [
    program_type::SOCKET_FILTER,
    program_type::SK_REUSEPORT,
    program_type::LWT_IN,
    program_type::LWT_OUT,
    program_type::LWT_XMIT,
    program_type::LWT_SEG6LOCAL,
    program_type::LIRC_MODE2,
    program_type::PERF_EVENT,
];

/// Queries every attach point of the host that a loaded program fits.
///
/// It also finds out which of the `watched` places, with their targets, are still there. Takes up to a second where there are
/// thousands of cgroups, network namespaces or processes.
pub(crate) fn scan(subject: &Subject, watched: &[(Place, Option<Target>)], cache: &mut ScanCache) -> Scanned {
    let (taken_at, started) = (clock::now(), Instant::now());
    let type_of = |id| subject.programs.as_ref()?.get(&id).copied();
    let root = PathBuf::from("/");
    let mut cx = ScanContext {
        subject,
        names: Resolver::below(&root),
        root,
        watched,
        survey: Survey::of(subject.programs.as_ref().map(HashMap::keys), subject.maps.as_deref()),
        namespaces: Vec::new(),
        attachments: Attachments::from_links(subject.links.iter().flatten(), type_of),
        contents: Vec::new(),
        issues: Issues::with_rights(Rights::of_this_thread()),
        complete: subject.links.is_some() && subject.programs.is_some() && subject.maps.is_some(),
        unqueryable: UNQUERYABLE_TYPES.into(),
        unsupported: HashSet::new(),
    };
    cx.limit_by_rights();
    cgroups::scan(&mut cx);
    if subject.has(&network::TYPES) || watched.iter().any(|(place, _)| place.is_in_namespace()) {
        namespaces(&mut cx);
    }
    perf::scan(&mut cx);
    maps::scan(&mut cx, &mut cache.structures);
    let (hooks, located) = cx.attachments.into_hooks();
    let scan = AttachmentScan {
        taken_at,
        hooks,
        contents: cx.contents,
        attach_points: Vec::new(),
        namespaces: cx.namespaces,
        unqueryable: cx.unqueryable.into_iter().collect(),
        complete: cx.complete,
    };
    Scanned { scan, survey: cx.survey, located, duration: started.elapsed(), issues: cx.issues }
}

/// Scans this thread's network namespace, or every one.
fn namespaces(cx: &mut ScanContext<'_>) {
    const OURS: &str = "/proc/thread-self/ns/net";
    let types = network::TYPES;
    let (names, errors) = NetnsNames::read(&cx.root);
    for error in errors {
        cx.refused(failed("/run/netns")(error), &types);
    }
    if cx.subject.every_netns {
        every_namespace(cx, &names);
    } else {
        // Programs in other namespaces stay unseen.
        cx.unqueryable.extend(types);
        match Namespace::of_this_thread(&names) {
            Ok(namespace) => network::scan(cx, &namespace),
            Err(error) => cx.refused(failed(OURS)(error), &types),
        }
    }
}

/// Scans every network namespace, on a thread that enters one after the other and ends in the last.
fn every_namespace(cx: &mut ScanContext<'_>, names: &NetnsNames) {
    const OF_PROCESS: &str = "/proc/PID/ns/net";
    let types = network::TYPES;
    let (files, errors) = netns::namespace_files(&cx.root, names);
    for error in errors {
        cx.refused(failed(OF_PROCESS)(error), &types);
    }
    let visit = || {
        for file in files {
            match Namespace::open(&file, names) {
                Ok(namespace) => match namespace.enter() {
                    Ok(()) => network::scan(cx, &namespace),
                    Err(errno) => cx.refused(Error::new("setns", errno), &types),
                },
                Err(error) if netns::is_gone(&error) => {}
                Err(error) => cx.refused(failed(OF_PROCESS)(error), &types),
            }
        }
    };
    thread::scope(|scope| {
        let visiting = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, visit);
        visiting.map(drop).map_err(failed("clone"))
    })
    .unwrap_or_else(|error| cx.refused(error, &types));
}

/// The sources of a scan.
const FEATURES: [Feature; 4] =
    [Feature::CgroupHooks, Feature::NetworkHooks, Feature::PerfEventHooks, Feature::MapContents];

impl Scanned {
    /// Returns the state of its sources.
    pub(crate) fn features(&self) -> Vec<FeatureState> {
        FEATURES.map(|feature| self.issues.state(feature)).into()
    }
}

impl ScanContext<'_> {
    /// Limits the features for which a right is missing, whether or not there is something to query now.
    fn limit_by_rights(&mut self) {
        let every_netns = self.subject.every_netns.then_some((Feature::NetworkHooks, Capability::SysAdmin));
        let needed = [
            (Feature::CgroupHooks, Capability::NetAdmin),
            (Feature::NetworkHooks, Capability::NetAdmin),
            (Feature::PerfEventHooks, Capability::SysAdmin),
            (Feature::PerfEventHooks, Capability::SysPtrace),
            (Feature::MapContents, Capability::SysAdmin),
        ];
        for (feature, capability) in needed.into_iter().chain(every_netns) {
            if let Some(reason) = self.issues.rights().missing(capability) {
                self.issues.limit(feature, reason);
            }
        }
        // Perf events, and network namespaces without a name, are found through processes.
        if let Some(reason) = procfs::hidden(&self.root.join("proc"), self.issues.rights()) {
            self.issues.limit(Feature::PerfEventHooks, reason);
            if self.subject.every_netns {
                self.issues.limit(Feature::NetworkHooks, reason);
                self.unqueryable.extend(network::TYPES);
            }
        }
    }

    /// Records an error of the scan.
    fn issue(&mut self, error: Error) {
        self.issues.record(Part::Hook, error);
    }

    /// Records an error that hides attachments of programs of these types.
    fn refused(&mut self, error: Error, types: &[u32]) {
        self.issue(error);
        self.unqueryable.extend(types);
    }

    /// Handles a failed query of an attach type, which programs of these types have. A kernel that does not know the attach type has
    /// no such attachments; one that refuses it once refuses it everywhere.
    fn query_failed(&mut self, attach_type: u32, error: Error, types: &[u32]) {
        if ![Errno::EINVAL, Errno::E2BIG].contains(&error.errno) {
            self.refused(error, types);
        }
        if [Errno::EINVAL, Errno::E2BIG, Errno::EPERM].contains(&error.errno) {
            self.unsupported.insert(attach_type);
        }
    }

    /// The maps whose contents hold nothing: no process, pin or program holds the map, and no map of maps can, since those take none of
    /// these types (`bpf_map_meta_alloc`, `kernel/bpf/map_in_map.c`).
    fn unreferenced_maps(&self) -> HashSet<u32> {
        if !self.subject.holders_complete || !self.subject.uses_complete {
            return HashSet::new();
        }
        let used: HashSet<u32> = self.subject.uses.iter().map(|&(map, _)| map).collect();
        let types = [map_type::PROG_ARRAY, map_type::ARRAY_OF_MAPS, map_type::HASH_OF_MAPS];
        let maps = self.subject.maps.iter().flatten().filter(|map| types.contains(&map.map_type.number));
        let ids = maps.map(|map| map.id);
        ids.filter(|id| !self.subject.held_maps.contains(id) && !used.contains(id)).collect()
    }

    /// Returns whether the contents of maps matter: whether there is a program, or a map, without a known holder.
    fn needs_content_scan(&self, kind: Kind) -> bool {
        let Some(programs) = &self.subject.programs else { return true };
        let is_held = |id: &u32| self.subject.held_programs.contains(id) || self.attachments.has_program(*id);
        if kind == Kind::Program {
            return !programs.keys().all(is_held);
        }
        let used: HashSet<u32> =
            self.subject.uses.iter().filter(|(_, program)| is_held(program)).map(|&(map, _)| map).collect();
        let mut maps = self.subject.maps.iter().flatten().map(|map| map.id);
        maps.any(|map| !self.subject.held_maps.contains(&map) && !used.contains(&map))
    }
}

/// The word for an attach type; its number where there is none.
fn hook(attach_type: u32) -> Cow<'static, str> {
    attach_type::from_number(attach_type).word_or_number()
}

/// Entry point of a fuzzer: parses any bytes as part of a netlink dump, and each message as each type.
pub(crate) fn fuzz(bytes: &[u8]) {
    let each = |body: &[u8]| {
        let _any = (tc::Interface::parse(body), tc::Qdisc::parse(body), tc::Filter::parse(body));
        let _any = (tc::class(body), tc::actions(body));
    };
    each(bytes);
    netlink::parse_any_part(bytes, each);
}
