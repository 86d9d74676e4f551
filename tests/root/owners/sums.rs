//! Totals of owners and of the host are the sums over the objects, while loaders make and free them at random.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use bpf_metrics_exporter::enrich::names::NameCache;
use bpf_metrics_exporter::enrich::{EnrichOptions, Enricher};
use bpf_metrics_exporter::kernel::{Reader, ReaderOptions, RunStatsMode};
use bpf_metrics_exporter::model::{Kind, KindTotal, OwnerTotal, Snapshot};

use nix::sched::{CloneFlags, unshare};

use super::SOON;
use super::helper;
use super::loader::{enter_group, in_group};
use super::scene::Group;
use test_support::objects::{Link, Map, Program, if_possible, uapi, wait_until};
use test_support::running::Running;

/// Number of times a loader is replaced.
const LIVES: usize = 9;

/// Number of new programs, and of readings, before the next replacement.
const NEW: usize = 20;
const READINGS: u32 = 10;

/// Values that must not decrease from one reading to the next.
#[derive(Default)]
struct Account {
    host: Duration,
    /// Run time of each owner so far, by its key.
    owners: BTreeMap<u64, Duration>,
    /// All programs of the loaders so far.
    programs: BTreeSet<u32>,
    /// Names of the owners whose programs ran.
    ran: BTreeSet<String>,
}

impl Account {
    fn check(&mut self, snapshot: &Snapshot) {
        assert_sums(snapshot);
        let host = total(snapshot, Kind::Program).run_time.expect("runs are counted");
        assert!(host >= self.host, "the host ran {:?} before, and {host:?} now", self.host);
        self.host = host;
        for OwnerTotal { owner, run_time, .. } in &snapshot.owners {
            let run_time = run_time.expect("runs are counted");
            let before = self.owners.insert(owner.key(), run_time).unwrap_or_default();
            assert!(run_time >= before, "{} ran {before:?}, and now {run_time:?}", owner.name());
            if run_time > Duration::ZERO {
                self.ran.insert(owner.name().to_owned());
            }
        }
        assert_eq!(self.owners.values().sum::<Duration>(), host, "each run belongs to an owner");
        let programs = snapshot.programs.iter().flatten().filter(|row| row.facts.name == "churned");
        self.programs.extend(programs.map(|row| row.facts.id));
    }
}

fn total(snapshot: &Snapshot, kind: Kind) -> KindTotal {
    *snapshot.totals.iter().find(|total| total.kind == kind).expect("they were read")
}

/// Asserts that the host's totals are the sums over its objects, each once, and those of the owners are the host's.
fn assert_sums(snapshot: &Snapshot) {
    let ids = |kind: Kind| -> Vec<u32> {
        match kind {
            Kind::Program => snapshot.programs.iter().flatten().map(|row| row.facts.id).collect(),
            Kind::Map => snapshot.maps.iter().flatten().map(|row| row.facts.id).collect(),
            Kind::Link => snapshot.links.iter().flatten().map(|row| row.facts.id).collect(),
            Kind::Btf => snapshot.btfs.iter().flatten().map(|row| row.id).collect(),
        }
    };
    for kind in [Kind::Program, Kind::Map, Kind::Link, Kind::Btf] {
        let ids = ids(kind);
        let wrong = ids.windows(2).find(|pair| pair[0] >= pair[1]);
        assert_eq!(wrong, None, "each {} is there once, in order", kind.as_str());
        assert_eq!(total(snapshot, kind).objects, ids.len());
    }
    let of_programs = snapshot.programs.iter().flatten().filter_map(|row| row.facts.mem).sum::<u64>();
    let of_maps = snapshot.maps.iter().flatten().filter_map(|row| row.mem).sum::<u64>();
    let host = |kind| total(snapshot, kind).mem.unwrap_or(0);
    assert_eq!((host(Kind::Program), host(Kind::Map)), (of_programs, of_maps));
    let sum = |read: fn(&OwnerTotal) -> Option<u64>| snapshot.owners.iter().filter_map(read).sum::<u64>();
    let objects = |kind| total(snapshot, kind).objects as u64;
    assert_eq!(
        [sum(|it| it.programs), sum(|it| it.maps), sum(|it| it.links), sum(|it| it.mem)],
        [objects(Kind::Program), objects(Kind::Map), objects(Kind::Link), of_programs + of_maps]
    );
    let mut keys: Vec<u64> = snapshot.owners.iter().map(|total| total.owner.key()).collect();
    keys.sort_unstable();
    assert!(keys.is_sorted_by(|one, next| one < next), "each owner is reported once");
}

pub(crate) fn hold() {
    let uid = format!("5fc932ce-fdcc-454b-97bd-{:012x}", std::process::id());
    let groups = [
        Group::new("herd", &format!("bpfm-herd-{}.service", std::process::id())),
        Group::new("flock", &format!("kubepods/pod{uid}/{:064x}", std::process::id())),
        Group::nameless("loose"),
    ];
    let reader = Reader::new(ReaderOptions { run_stats: RunStatsMode::On, ..ReaderOptions::default() });
    let mut enricher = Enricher::new(reader, EnrichOptions::default(), NameCache::default());
    let mut account = Account::default();
    let begin = |group: &Group| in_group("churn", group);
    let mut loaders: Vec<Running> = groups.iter().map(begin).collect();
    for life in 0..LIVES {
        let (seen, mut readings) = (account.programs.len(), 0);
        wait_until("new programs came", SOON, || {
            account.check(&enricher.read());
            readings += 1;
            Ok(account.programs.len() >= seen + NEW && readings >= READINGS)
        })
        .expect("the loaders go on");
        // Each in turn exits with all its objects, and is replaced.
        loaders.remove(0);
        account.check(&enricher.read());
        loaders.push(begin(&groups[life % groups.len()]));
    }
    drop(loaders);
    account.check(&enricher.read());
    let loose = fs::read_to_string("/proc/self/comm").expect("Linux has /proc");
    for name in [&*format!("bpfm-herd-{}.service", std::process::id()), &uid, loose.trim_end()] {
        assert!(account.ran.contains(name), "{name} is not in {:?}", account.ran);
    }
}

/// Pseudo-random numbers, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }
}

/// In a loader: makes programs, maps and links, runs the programs, and frees all, until it is killed.
pub(crate) fn churn() {
    const MOST: usize = 15;
    enter_group();
    // Its links are attached to an interface of its own.
    unshare(CloneFlags::CLONE_NEWNET).expect("root may");
    helper::report_ready();
    let mut dice = Dice(u64::from(std::process::id()));
    let (mut programs, mut maps, mut links) = (Vec::<Program>::new(), Vec::<Map>::new(), Vec::<Link>::new());
    loop {
        match dice.below(8) {
            0 | 1 if programs.len() < MOST => {
                let program = Program::ready(uapi::program_type::SOCKET_FILTER, "churned");
                programs.push(program.expect("it can be loaded"));
            }
            2 if maps.len() < MOST => {
                let map = Map::ready(uapi::map_type::ARRAY, "churned").expect("it can be made");
                if !programs.is_empty() {
                    let user = dice.below(programs.len());
                    programs[user].bind(&map).expect("it can use it");
                }
                maps.push(map);
            }
            3 if links.len() < MOST => {
                let program = Program::ready(uapi::program_type::SCHED_CLS, "churned");
                // Kernels before 6.6 have no such link.
                links.extend(if_possible(program.expect("it can be loaded").link_tcx(false)));
            }
            4 if !programs.is_empty() => drop(programs.swap_remove(dice.below(programs.len()))),
            5 if !maps.is_empty() => drop(maps.swap_remove(dice.below(maps.len()))),
            6 if !links.is_empty() => drop(links.swap_remove(dice.below(links.len()))),
            _ if !programs.is_empty() => {
                let times = u32::try_from(dice.below(500) + 1).expect("it is small");
                programs[dice.below(programs.len())].run(64, times).expect("it can be run");
            }
            _ => {}
        }
    }
}
