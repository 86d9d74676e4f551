//! A node of the fleet: readings that go on from recorded ones, with objects, owners, churn and a clock of its own.
//! Entry points: [`Recordings::load`], [`Node::read`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bpf_metrics_exporter::enrich::Summary;
use bpf_metrics_exporter::export::recording;
use bpf_metrics_exporter::model::{
    Activity, AttachmentScan, BootTime, Holder, Holders, HostIdentity, Identity, Kind, Link, Map,
    ObjectActivity, Owner, Pin, Pod, Program, ProgramActivity, RunStats, Snapshot, WallClock,
};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use uuid::Uuid;

/// What every node has: the agents of a cluster.
const COMMON: &[u8] = include_bytes!("../../../tests/golden/node/snapshot.json");

/// What nodes have in addition, each one of these.
const OTHERS: [&[u8]; 2] =
    [include_bytes!("../recordings/agent.json"), include_bytes!("../recordings/collector.json")];

/// One of so many nodes lacks a program that the others have.
const LACKING: u32 = 50;

/// How long a short-lived object lives.
const SHORT_LIFE: Duration = Duration::from_secs(20);

/// Shares of the objects whose values change: of programs that run, of maps whose number of entries moves.
const RUNNING: f64 = 0.4;
const MOVING: f64 = 0.1;

/// Recorded readings that nodes are made of.
#[derive(Clone, Debug)]
pub struct Recordings {
    common: Arc<Snapshot>,
    others: Vec<Arc<Snapshot>>,
}

impl Recordings {
    /// Parses the recordings.
    ///
    /// # Errors
    ///
    /// If one of them is no snapshot of this version.
    pub fn load() -> serde_json::Result<Self> {
        let others = OTHERS.iter().map(|document| recording::parse(document)).collect::<Result<_, _>>()?;
        Ok(Self { common: recording::parse(COMMON)?, others })
    }
}

/// What nodes are like.
#[derive(Clone, Copy, Debug)]
pub struct Likeness {
    /// Objects of a node on average; each has four to six fifths of that.
    pub objects: usize,
    /// Objects that come and go on a node, per minute. Half of them live shortly.
    pub churn: f64,
    /// Seed of all that differs between nodes.
    pub seed: u64,
}

/// A node.
pub struct Node {
    number: u32,
    random: StdRng,
    likeness: Likeness,
    recorded: Arc<Snapshot>,
    programs: Vec<Live<Program>>,
    maps: Vec<Live<Map>>,
    links: Vec<Live<Link>>,
    pins: Vec<Pin>,
    hooks: AttachmentScan,
    summary: Summary,
    next_id: u32,
    /// Since the boot, when the node was made.
    uptime: Duration,
    made_at: Instant,
    clock: WallClock,
    exporter_started_at: BootTime,
    read_at: BootTime,
    churn_due: f64,
    loads: u64,
    unloads: u64,
}

/// An object, who holds it, and how it changes.
struct Live<T> {
    object: T,
    holders: Vec<Holder>,
    /// Runs per second of a program, or steps of the entries of a map; 0 for none.
    rate: f64,
    /// Whether it can be replaced by another one.
    churns: bool,
    ends_at: Option<BootTime>,
}

impl Node {
    /// Returns a node whose wall clock is wrong by `clock_error`.
    #[must_use]
    pub fn new(
        number: u32,
        recordings: &Recordings,
        likeness: Likeness,
        clock_error: SignedDuration,
    ) -> Self {
        let mut random = StdRng::seed_from_u64(likeness.seed ^ (u64::from(number) << 32));
        let uptime = Duration::from_secs(random.random_range(86_400..40 * 86_400));
        let booted_at = Timestamp::now() - SignedDuration::try_from(uptime).unwrap_or_default() + clock_error;
        let started_at = BootTime(0) + uptime;
        let other = &recordings.others[number as usize % recordings.others.len()];
        let mut node = Self {
            number,
            likeness,
            recorded: Arc::clone(other),
            programs: Vec::new(),
            maps: Vec::new(),
            links: Vec::new(),
            pins: Vec::new(),
            hooks: AttachmentScan { hooks: Vec::new(), ..scan_of(other) },
            summary: Summary::default(),
            next_id: random.random_range(1..200),
            uptime,
            made_at: Instant::now(),
            clock: WallClock { booted_at },
            exporter_started_at: started_at,
            read_at: started_at,
            churn_due: 0.0,
            loads: 0,
            unloads: 0,
            random,
        };
        node.fill(recordings, other);
        node
    }

    /// Returns its number in the fleet.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Returns what identifies its host.
    #[must_use]
    pub fn identity(&self) -> HostIdentity {
        let id = Uuid::from_u64_pair(self.likeness.seed, self.number.into());
        HostIdentity {
            name: Some(self.name()),
            machine_id: Some(id.simple().to_string()),
            fallback_id: None,
            os_description: Some("Debian GNU/Linux 12 (bookworm)".to_owned()),
            os_version: Some("12".to_owned()),
            kernel_release: Some("6.1.0-28-amd64".to_owned()),
        }
    }

    /// Returns the name of its host.
    #[must_use]
    pub fn name(&self) -> String {
        format!("node-{:05}", self.number)
    }

    /// Returns the time since it booted.
    #[must_use]
    pub fn now(&self) -> BootTime {
        BootTime(0) + self.uptime + self.made_at.elapsed()
    }

    /// Begins again with the readings of an exporter that starts now.
    pub fn restart(&mut self) {
        self.exporter_started_at = self.now();
        self.summary = Summary::default();
        (self.loads, self.unloads) = (0, 0);
    }

    /// Returns when its exporter was started.
    #[must_use]
    pub fn exporter_started_at(&self) -> BootTime {
        self.exporter_started_at
    }

    /// Returns the number of its programs, maps and links.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.programs.len() + self.maps.len() + self.links.len()
    }

    /// Takes a reading.
    pub fn read(&mut self) -> Snapshot {
        let now = self.now();
        let passed = now.since(std::mem::replace(&mut self.read_at, now));
        self.change(now, passed);
        let started_at = self.exporter_started_at;
        let mut snapshot = Snapshot {
            taken_at: now,
            reader_started_at: started_at,
            first_read_at: started_at,
            clock: self.clock,
            programs: Some(self.programs.iter().map(|live| live.object.clone()).collect()),
            own_programs: Vec::new(),
            maps: Some(self.maps.iter().map(|live| live.object.clone()).collect()),
            links: Some(self.links.iter().map(|live| live.object.clone()).collect()),
            holders: Some(Holders {
                programs: holders(&self.programs),
                maps: holders(&self.maps),
                links: holders(&self.links),
                btfs: Vec::new(),
            }),
            pins: Some(self.pins.clone()),
            hooks: Some(Arc::new(AttachmentScan { taken_at: now, ..self.hooks.clone() })),
            orphans: Some(Vec::new()),
            activity: Some(Arc::new(self.activity())),
            run_stats: RunStats { by_exporter: true, by_sysctl: Some(false), covered: now.since(started_at) },
            ..Snapshot::clone(&self.recorded)
        };
        self.summary.fill(&mut snapshot);
        for total in &mut snapshot.totals {
            total.orphaned = Some(0);
        }
        snapshot
    }

    /// Makes the objects: those of the agents, and copies of another recording until there are enough.
    fn fill(&mut self, recordings: &Recordings, other: &Snapshot) {
        let share = self.random.random_range(0.8..1.2);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a number of objects is small"
        )]
        let wanted = (self.likeness.objects as f64 * share) as usize;
        let common = Arc::clone(&recordings.common);
        self.add_copy(&common, 0, wanted);
        if (self.number + 1).is_multiple_of(LACKING) {
            self.unload(0);
        }
        for copy in 1.. {
            if self.objects() >= wanted {
                break;
            }
            self.add_copy(other, copy, wanted);
        }
    }

    /// Adds the objects of a recording with ids, names and owners of their own, up to so many objects in all.
    fn add_copy(&mut self, recording: &Snapshot, copy: u32, wanted: usize) {
        let mut owners = CopyOwners::new(self.number, copy);
        let mut ids = HashMap::new();
        let empty = Holders::default();
        let recorded_holders = recording.holders.as_ref().unwrap_or(&empty);
        for map in recording.maps.iter().flatten().take(wanted.saturating_sub(self.objects())) {
            let id = self.new_id();
            ids.insert((Kind::Map, map.facts.id), id);
            let mut object = map.clone();
            let facts = Arc::make_mut(&mut object.facts);
            facts.id = id;
            facts.name = copied_name(&facts.name, copy);
            facts.first_seen = self.exporter_started_at;
            let growth = 1 << self.random.random_range(0..3);
            facts.max_entries = facts.max_entries.saturating_mul(growth);
            object.mem = object.mem.map(|mem| mem.saturating_mul(growth.into()));
            object.owner = object.owner.as_ref().map(|owner| owners.of(owner, &mut self.random));
            let holders = owners.holders(&recorded_holders.maps, map.facts.id, id, &mut self.random);
            let moves = object.entries.is_some() && self.random.random_bool(MOVING);
            let rate = if moves { self.random.random_range(1.0..100.0) } else { 0.0 };
            self.maps.push(Live { object, holders, rate, churns: copy > 0, ends_at: None });
        }
        for program in recording.programs.iter().flatten().take(wanted.saturating_sub(self.objects())) {
            let id = self.new_id();
            ids.insert((Kind::Program, program.facts.id), id);
            let mut object = program.clone();
            let facts = Arc::make_mut(&mut object.facts);
            facts.id = id;
            facts.name = copied_name(&facts.name, copy);
            // A program of another name has other instructions.
            let [first, ..] = &mut facts.tag.0;
            *first ^= copy.to_le_bytes()[0];
            facts.loaded_at = BootTime(0) + self.uptime.mul_f64(self.random.random_range(0.0..0.9));
            facts.map_ids = facts.map_ids.as_ref().map(|maps| {
                let of_copy = maps.iter().filter_map(|&map| ids.get(&(Kind::Map, map)).copied());
                of_copy.collect()
            });
            object.owner = object.owner.as_ref().map(|owner| owners.of(owner, &mut self.random));
            (object.runs, object.run_time) = (Some(0), Some(Duration::ZERO));
            let holders = owners.holders(&recorded_holders.programs, program.facts.id, id, &mut self.random);
            let runs = self.random.random_bool(RUNNING);
            let rate = if runs { self.random.random_range(0.5..5000.0) } else { 0.0 };
            self.programs.push(Live { object, holders, rate, churns: copy > 0, ends_at: None });
        }
        for link in recording.links.iter().flatten() {
            let program = link.facts.prog_id.and_then(|id| ids.get(&(Kind::Program, id)).copied());
            if program.is_none() || self.objects() >= wanted {
                continue;
            }
            let id = self.new_id();
            ids.insert((Kind::Link, link.facts.id), id);
            let mut object = link.clone();
            let facts = Arc::make_mut(&mut object.facts);
            (facts.id, facts.prog_id, facts.first_seen) = (id, program, self.exporter_started_at);
            object.owner = object.owner.as_ref().map(|owner| owners.of(owner, &mut self.random));
            let holders = owners.holders(&recorded_holders.links, link.facts.id, id, &mut self.random);
            self.links.push(Live { object, holders, rate: 0.0, churns: false, ends_at: None });
        }
        let pins = recording.pins.iter().flatten();
        self.pins
            .extend(pins.filter_map(|pin| Some(Pin { id: *ids.get(&(pin.kind, pin.id))?, ..pin.clone() })));
        if copy == 0 {
            self.hooks = scan_of(recording);
            self.hooks.contents.clear();
            self.hooks.hooks.retain_mut(|hook| {
                let places = [
                    (Kind::Program, &mut hook.prog_id),
                    (Kind::Link, &mut hook.link_id),
                    (Kind::Map, &mut hook.map_id),
                ];
                places.into_iter().all(|(kind, place)| {
                    let known = place.map(|id| ids.get(&(kind, id)).copied());
                    *place = known.flatten();
                    known.is_none_or(|id| id.is_some())
                })
            });
        }
    }

    fn new_id(&mut self) -> u32 {
        self.next_id += self.random.random_range(1..4);
        self.next_id
    }

    /// Has programs run, maps fill and drain, and objects come and go, as in this time.
    fn change(&mut self, now: BootTime, passed: Duration) {
        for live in self.programs.iter_mut().filter(|live| live.rate > 0.0) {
            let runs = whole(live.rate * passed.as_secs_f64());
            live.object.runs = live.object.runs.map(|before| before + runs);
            let each = Duration::from_nanos(200 + u64::from(live.object.facts.size_translated));
            let ran = each.saturating_mul(u32::try_from(runs).unwrap_or(u32::MAX));
            live.object.run_time = live.object.run_time.map(|before| before + ran);
        }
        for live in self.maps.iter_mut().filter(|live| live.rate > 0.0) {
            let most = u64::from(live.object.facts.max_entries);
            let step = whole(live.rate * self.random.random_range(0.0..2.0));
            let grows = self.random.random_bool(0.5);
            live.object.entries = live.object.entries.map(|before| {
                if grows { before.saturating_add(step).min(most) } else { before.saturating_sub(step) }
            });
        }
        let is_alive = |ends_at: Option<BootTime>| ends_at.is_none_or(|end| end > now);
        let before = self.programs.len();
        self.programs.retain(|live| is_alive(live.ends_at));
        self.unloads += (before - self.programs.len()) as u64;
        self.churn_due += self.likeness.churn * passed.as_secs_f64() / 60.0;
        while self.churn_due >= 1.0 {
            self.churn_due -= 1.0;
            self.replace_one(now);
        }
    }

    /// Loads a program like one that is there: in its place, or beside it for a short time.
    fn replace_one(&mut self, now: BootTime) {
        let churning: Vec<usize> =
            (0..self.programs.len()).filter(|&index| self.programs[index].churns).collect();
        if churning.is_empty() {
            return;
        }
        let index = churning[self.random.random_range(0..churning.len())];
        let like = &self.programs[index];
        let (mut object, rate) = (like.object.clone(), like.rate);
        let mut holders = like.holders.clone();
        let id = self.new_id();
        let facts = Arc::make_mut(&mut object.facts);
        (facts.id, facts.loaded_at) = (id, now);
        (object.runs, object.run_time) = (Some(0), Some(Duration::ZERO));
        for holder in &mut holders {
            holder.id = id;
        }
        let lives_shortly = self.random.random_bool(0.5);
        let ends_at = lives_shortly.then(|| now + SHORT_LIFE);
        if !lives_shortly {
            self.unload(index);
            self.unloads += 1;
        }
        self.loads += 1;
        // Ids ascend: it is the last.
        self.programs.push(Live { object, holders, rate, churns: !lives_shortly, ends_at });
    }

    /// Removes a program, and what attaches it.
    fn unload(&mut self, index: usize) {
        let gone = self.programs.remove(index).object.facts.id;
        self.pins.retain(|pin| pin.kind != Kind::Program || pin.id != gone);
        self.links.retain(|live| live.object.facts.prog_id != Some(gone));
        self.hooks.hooks.retain(|hook| hook.prog_id != Some(gone));
    }

    fn activity(&self) -> Activity {
        let since = self.exporter_started_at;
        let of_type = ProgramActivity {
            program_type: Some("socket_filter".into()),
            owner: None,
            loads: self.loads,
            unloads: self.unloads,
            since,
        };
        let objects = [Kind::Program, Kind::Map, Kind::Link, Kind::Btf].map(|kind| {
            let [created, destroyed] =
                if kind == Kind::Program { [self.loads, self.unloads] } else { [0, 0] };
            ObjectActivity { kind, created, destroyed }
        });
        Activity {
            since,
            programs: vec![of_type],
            lifetimes: Vec::new(),
            objects: objects.into(),
            lost: Some(0),
            dropped: 0,
        }
    }
}

/// The owners of a copy of a recording on a node, each made once.
struct CopyOwners {
    node: u32,
    copy: u32,
    made: HashMap<u64, Arc<Owner>>,
}

impl CopyOwners {
    fn new(node: u32, copy: u32) -> Self {
        Self { node, copy, made: HashMap::new() }
    }

    /// Returns the owner on this node that is like a recorded one. Agents are the same on each node but for what Kubernetes makes up;
    /// a third of the copies belongs to pods of their own.
    fn of(&mut self, recorded: &Arc<Owner>, random: &mut StdRng) -> Arc<Owner> {
        let Self { node, copy, ref mut made } = *self;
        let make = || {
            let mut identity = Identity::from(Owner::clone(recorded));
            if let Some(process) = &mut identity.process {
                process.pid = process.pid.wrapping_add(node % 1_000 * 7).max(1);
            }
            let is_app = copy > 0 && copy % 3 == 0 && identity.process.is_none();
            let uid = Uuid::from_u128(random.random()).to_string();
            if let Some(pod) = &mut identity.pod {
                let stem = pod.name.as_deref().and_then(|name| name.rsplit_once('-')).map(|(stem, _)| stem);
                pod.name = stem.map(|stem| format!("{stem}-{}", suffix(random)));
                (pod.key, pod.uid) = (uid.clone(), Some(uid));
            } else if is_app {
                let name = format!("app-{copy}-{}", suffix(random));
                let namespace = Some(format!("team-{}", copy % 4));
                let pod = Pod { key: uid.clone(), uid: Some(uid), namespace, name: Some(name) };
                identity = Identity { pod: Some(pod), ..Identity::default() };
            }
            Arc::new(Owner::from(identity))
        };
        Arc::clone(made.entry(recorded.revision()).or_insert_with(make))
    }

    /// Returns the holders of an object, by its recorded id, with its id here.
    fn holders(
        &mut self,
        recorded: &[Holder],
        recorded_id: u32,
        id: u32,
        random: &mut StdRng,
    ) -> Vec<Holder> {
        let of_object = recorded.iter().filter(|holder| holder.id == recorded_id);
        of_object
            .map(|holder| Holder { id, held_by: holder.held_by, owner: self.of(&holder.owner, random) })
            .collect()
    }
}

/// Returns the random end of a pod's name.
fn suffix(random: &mut StdRng) -> String {
    // The letters that Kubernetes uses.
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

fn copied_name(name: &str, copy: u32) -> String {
    if copy < 2 { name.to_owned() } else { format!("{name}_{copy}") }
}

fn holders<T>(live: &[Live<T>]) -> Vec<Holder> {
    live.iter().flat_map(|live| live.holders.iter().cloned()).collect()
}

/// Returns the scan of a recording; an empty one if it has none.
fn scan_of(recording: &Snapshot) -> AttachmentScan {
    recording.hooks.as_deref().cloned().unwrap_or_else(|| AttachmentScan {
        taken_at: recording.taken_at,
        hooks: Vec::new(),
        contents: Vec::new(),
        attach_points: Vec::new(),
        namespaces: Vec::new(),
        unqueryable: Vec::new(),
        complete: true,
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is positive and small")]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bpf_metrics_exporter::export::prometheus::{Format, render};
    use bpf_metrics_exporter::metrics::Sample;

    use super::*;

    const LIKENESS: Likeness = Likeness { objects: 300, churn: 60.0, seed: 7 };

    fn node(number: u32) -> Node {
        let recordings = Recordings::load().expect("they are snapshots");
        Node::new(number, &recordings, LIKENESS, SignedDuration::ZERO)
    }

    fn names(snapshot: &Snapshot) -> BTreeSet<String> {
        snapshot.programs.iter().flatten().map(|program| program.facts.name.clone()).collect()
    }

    #[test]
    fn nodes_have_about_as_many_objects_as_wanted_and_differ() {
        let nodes: Vec<Snapshot> = (0..60).map(|number| node(number).read()).collect();
        for snapshot in &nodes {
            let ids = [Kind::Program, Kind::Map, Kind::Link].map(|kind| snapshot.ids(kind));
            let objects: usize = ids.iter().map(Vec::len).sum();
            assert!((230..=370).contains(&objects), "{objects} objects");
            for ids in ids {
                assert!(ids.is_sorted_by(|one, other| one < other), "ids ascend");
            }
            let uses =
                snapshot.programs.iter().flatten().flat_map(|program| program.facts.map_ids.iter().flatten());
            assert!(uses.copied().all(|id| snapshot.map(id).is_some()), "programs use maps of the node");
            assert!(
                snapshot
                    .links
                    .iter()
                    .flatten()
                    .all(|link| { link.facts.prog_id.is_some_and(|id| snapshot.program(id).is_some()) })
            );
            assert!(snapshot.fingerprint.is_some() && !snapshot.owners.is_empty());
        }
        let common = names(&nodes[0]).intersection(&names(&nodes[1])).count();
        assert!(common >= 4 && names(&nodes[0]) != names(&nodes[1]), "{common} in common");
        let lacking = nodes.iter().filter(|snapshot| !names(snapshot).contains("sd_fw_egress")).count();
        assert_eq!(lacking, 1, "one of fifty lacks a program");
    }

    #[test]
    fn the_same_seed_makes_the_same_node_and_churn_changes_it() {
        let mut one = node(3);
        let text = |snapshot: &Snapshot| {
            let text = render(Sample::new(snapshot), Format::Text, 0);
            let of_objects =
                |line: &&str| line.starts_with("bpf_program_info") || line.starts_with("bpf_map_info");
            text.lines().filter(of_objects).map(str::to_owned).collect::<Vec<_>>()
        };
        let first = one.read();
        // Load times are in whole seconds since 1970, which the clock of the test may move by one.
        let stripped = |snapshot: &Snapshot| {
            text(snapshot)
                .iter()
                .map(|line| line.split("load_time").next().map(str::to_owned))
                .collect::<Vec<_>>()
        };
        assert_eq!(stripped(&first), stripped(&node(3).read()));
        let now = one.now();
        one.change(now + Duration::from_mins(1), Duration::from_mins(1));
        let ids = |snapshot: &Snapshot| BTreeSet::from_iter(snapshot.ids(Kind::Program));
        let changed = one.read();
        let new = ids(&changed).difference(&ids(&first)).count();
        assert!((10..=61).contains(&new), "{new} of 60 objects came and are still there");
        assert!(one.loads >= 60 && one.unloads > 10, "{} loads, {} unloads", one.loads, one.unloads);
    }

    #[test]
    fn a_wrong_clock_moves_dates_and_a_restart_begins_counters_again() {
        let recordings = Recordings::load().expect("they are snapshots");
        let wrong = Node::new(5, &recordings, LIKENESS, SignedDuration::from_hours(2)).read();
        let right = node(5).read();
        let [wrong, right] = [wrong, right].map(|snapshot| snapshot.clock.at(snapshot.taken_at));
        let error = wrong.duration_since(right);
        assert!((error - SignedDuration::from_hours(2)).abs() < SignedDuration::from_secs(5), "{error}");
        let mut node = node(5);
        let before = node.read();
        node.restart();
        let after = node.read();
        assert!(after.reader_started_at > before.reader_started_at);
        assert_eq!(after.programs.map(|all| all.len()), before.programs.map(|all| all.len()));
    }
}
