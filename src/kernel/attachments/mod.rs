//! What hangs where: links, and the older attachments that have none, in the order in which the kernel runs them; and which maps
//! hold other objects. Knows no look but this one, and no owner. Begin at [`look`].

mod cgroups;
mod maps;
mod merge;
mod network;
mod perf;
mod tc;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::errno::Errno;

use self::maps::Structures;
use self::merge::Hanging;
use crate::host::issues::Issues;
use crate::host::netns::{self, Namespace, NetnsNames};
use crate::model::enums::{map_type, program_type};
use crate::model::{Content, Hook, Kind, LinkFacts, MapFacts, Part, ProcessFiles, Snapshot};
use crate::sys::{Error, errno_of};

/// What a look is about: the objects of a reading, as values that can go to another thread.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// The types of programs by their ids; `None` when they could not be read.
    programs: Option<HashMap<u32, u32>>,
    links: Option<Vec<Arc<LinkFacts>>>,
    maps: Option<Vec<Arc<MapFacts>>>,
    /// The programs that are known to be held by a process, a pin or a link.
    held: HashSet<u32>,
    /// The maps that are known to be held by a process or a pin.
    held_maps: HashSet<u32>,
    /// The maps that programs use, and the programs.
    used: Vec<(u32, u32)>,
    /// Whether everybody was asked who could have a descriptor or a pin.
    asked: bool,
    /// The processes that hold BPF files.
    pids: Vec<u32>,
    every_netns: bool,
}

impl Subject {
    /// What is in a reading. `files` are those of the processes that hold BPF files; `every_netns` says whether to look at every network
    /// namespace, or at that of the calling thread only.
    pub(crate) fn of(snapshot: &Snapshot, files: &[ProcessFiles], every_netns: bool) -> Self {
        let programs = snapshot.programs.as_ref();
        let links = snapshot.links.as_ref();
        let by_links = links.into_iter().flatten().filter_map(|link| link.facts.prog_id);
        let kept = |kind| {
            let holders = snapshot.holders.iter().flat_map(move |holders| holders.of(kind));
            let pinned = snapshot.pins.iter().flatten().filter(move |pin| pin.kind == kind).map(|pin| pin.id);
            holders.filter(|holder| holder.held_by.keeps()).map(|holder| holder.id).chain(pinned)
        };
        let used = programs
            .into_iter()
            .flatten()
            .flat_map(|program| program.facts.map_ids.iter().flatten().map(|&map| (map, program.facts.id)));
        let told = |part| {
            let mut collectors = snapshot.collectors.iter();
            collectors.any(|collector| collector.part == part && collector.success)
        };
        Self {
            programs: programs.map(|programs| {
                programs.iter().map(|program| (program.facts.id, program.facts.program_type.number)).collect()
            }),
            links: links.map(|links| links.iter().map(|link| Arc::clone(&link.facts)).collect()),
            maps: snapshot.maps.as_ref().map(|maps| maps.iter().map(|map| Arc::clone(&map.facts)).collect()),
            held: by_links.chain(kept(Kind::Program)).collect(),
            held_maps: kept(Kind::Map).collect(),
            used: used.collect(),
            asked: told(Part::Holder) && told(Part::Pin),
            pids: files.iter().map(|process| process.pid).collect(),
            every_netns,
        }
    }

    /// Whether a program is loaded, as far as that is known.
    pub(crate) fn is_loaded(&self, program: u32) -> bool {
        self.programs.as_ref().is_none_or(|programs| programs.contains_key(&program))
    }

    /// Whether there is a program of one of these types, as far as that is known.
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

/// What is kept from one look to the next.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    structures: Structures,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Look {
    /// When it began.
    pub(crate) taken_at: Timestamp,
    /// How long it took.
    pub(crate) duration: Duration,
    /// What hangs where, by hook, namespace, target and position.
    pub(crate) hooks: Vec<Hook>,
    /// Which maps hold others, where it is in doubt who does.
    pub(crate) contents: Vec<Content>,
    /// The types of program that can hang where nobody was asked.
    pub(crate) untold: Vec<u32>,
    /// Whether links were seen, and all maps were looked into that can hold an object of which nobody else is known to.
    pub(crate) complete: bool,
    /// What could not be asked.
    pub(crate) issues: Issues,
}

/// A look that is being taken.
#[derive(Debug)]
struct Asking<'a> {
    subject: &'a Subject,
    /// What stands for `/`.
    root: PathBuf,
    hanging: Hanging,
    contents: Vec<Content>,
    issues: Issues,
    /// Whether nothing was left out that could hold any object.
    complete: bool,
    /// The types of program that can hang where nobody was asked.
    blind: BTreeSet<u32>,
    /// The types of attachment that this kernel does not know or does not tell us.
    unknown: HashSet<u32>,
}

/// Where programs of these types hang, no one can be asked: sockets, routes, receivers of infrared light, and perf events that are
/// neither tracepoints nor probes (`bpf_get_perf_event_info`, `kernel/trace/bpf_trace.c`).
const UNTOLD: [u32; 8] = [
    program_type::SOCKET_FILTER,
    program_type::SK_REUSEPORT,
    program_type::LWT_IN,
    program_type::LWT_OUT,
    program_type::LWT_XMIT,
    program_type::LWT_SEG6LOCAL,
    program_type::LIRC_MODE2,
    program_type::PERF_EVENT,
];

/// Takes a look.
///
/// It can take a second where there are thousands of cgroups, network namespaces or processes: it is for a thread of its own.
pub(crate) fn look(subject: &Subject, memory: &mut Memory) -> Look {
    let (taken_at, started) = (Timestamp::now(), Instant::now());
    let type_of = |id| subject.programs.as_ref()?.get(&id).copied();
    let mut asking = Asking {
        subject,
        root: PathBuf::from("/"),
        hanging: Hanging::from_links(subject.links.iter().flatten(), type_of),
        contents: Vec::new(),
        issues: Issues::default(),
        complete: subject.links.is_some(),
        blind: UNTOLD.into(),
        unknown: HashSet::new(),
    };
    cgroups::look(&mut asking);
    if subject.has(&network::TYPES) {
        networks(&mut asking);
    }
    perf::look(&mut asking);
    maps::look(&mut asking, &mut memory.structures);
    Look {
        taken_at,
        duration: started.elapsed(),
        hooks: asking.hanging.into_hooks(),
        contents: asking.contents,
        untold: asking.blind.into_iter().collect(),
        complete: asking.complete,
        issues: asking.issues,
    }
}

/// What hangs in this thread's network namespace, or in every one.
fn networks(asking: &mut Asking<'_>) {
    let types = network::TYPES;
    let unnamed = Namespace::of_this_thread(&NetnsNames::default());
    let device = unnamed.and_then(|namespace| Ok(namespace.file.metadata()?.dev()));
    let device = match device {
        Ok(device) => device,
        Err(error) => {
            return asking.refused(Error::new("/proc/thread-self/ns/net", errno_of(&error)), &types);
        }
    };
    let (names, errors) = NetnsNames::read(&asking.root, device);
    for error in errors {
        asking.refused(Error::new("/run/netns", errno_of(&error)), &types);
    }
    if asking.subject.every_netns {
        let (files, errors) = netns::namespace_files(&asking.root, &names);
        for error in errors {
            asking.refused(Error::new("/proc/PID/ns/net", errno_of(&error)), &types);
        }
        // The thread goes from one to the next, and ends in the last.
        let visit = || {
            for file in files {
                match Namespace::open(&file, &names) {
                    Ok(namespace) => match namespace.enter() {
                        Ok(()) => network::look(asking, &namespace),
                        Err(errno) => asking.refused(Error::new("setns", errno), &types),
                    },
                    Err(error) if netns::is_gone(&error) => {}
                    Err(error) => asking.refused(Error::new("/proc/PID/ns/net", errno_of(&error)), &types),
                }
            }
        };
        thread::scope(|scope| {
            let visiting = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, visit);
            visiting.map(drop).map_err(|error| errno_of(&error))
        })
        .unwrap_or_else(|errno| asking.refused(Error::new("clone", errno), &types));
    } else {
        // Programs in others are out of sight.
        asking.blind.extend(types);
        match Namespace::of_this_thread(&names) {
            Ok(namespace) => network::look(asking, &namespace),
            Err(error) => asking.refused(Error::new("/proc/thread-self/ns/net", errno_of(&error)), &types),
        }
    }
}

impl Asking<'_> {
    /// That something could not be asked.
    fn issue(&mut self, error: Error) {
        self.issues.record(Part::Hook, error);
    }

    /// That something could not be asked which programs of these types can hang at.
    fn refused(&mut self, error: Error, types: &[u32]) {
        self.issue(error);
        self.blind.extend(types);
    }

    /// That programs of these types could not be asked for by this type of attachment. A kernel that does not know it has none;
    /// one that refuses it once refuses it everywhere.
    fn query_failed(&mut self, attach_type: u32, error: Error, types: &[u32]) {
        if ![Errno::EINVAL, Errno::E2BIG].contains(&error.errno) {
            self.refused(error, types);
        }
        if [Errno::EINVAL, Errno::E2BIG, Errno::EPERM].contains(&error.errno) {
            self.unknown.insert(attach_type);
        }
    }

    /// The maps that hold nothing for anybody, whatever is in them: no process, pin or program has them, and no map of maps can, since
    /// those take none of these types (`bpf_map_meta_alloc`, `kernel/bpf/map_in_map.c`).
    fn lost(&self) -> HashSet<u32> {
        let used: HashSet<u32> = self.subject.used.iter().map(|&(map, _)| map).collect();
        let types = [map_type::PROG_ARRAY, map_type::ARRAY_OF_MAPS, map_type::HASH_OF_MAPS];
        let maps = self.subject.maps.iter().flatten().filter(|map| types.contains(&map.map_type.number));
        let ids = maps.map(|map| map.id).filter(|_| self.subject.asked);
        ids.filter(|id| !self.subject.held_maps.contains(id) && !used.contains(id)).collect()
    }

    /// Whether there is a program that nobody is known to hold, and a map: only then it matters which maps hold others.
    fn doubts(&self) -> (bool, bool) {
        let Some(programs) = &self.subject.programs else { return (true, true) };
        let is_held = |id: &u32| self.subject.held.contains(id) || self.hanging.has(*id);
        let used: HashSet<u32> =
            self.subject.used.iter().filter(|(_, program)| is_held(program)).map(|&(map, _)| map).collect();
        let mut maps = self.subject.maps.iter().flatten().map(|map| map.id);
        (
            !programs.keys().all(is_held),
            maps.any(|map| !self.subject.held_maps.contains(&map) && !used.contains(&map)),
        )
    }
}
