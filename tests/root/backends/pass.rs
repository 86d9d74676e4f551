//! A pass over known objects reports what the iterator reports, and never the counters of another object in the place of one that is
//! gone.

use std::fs;

use bpf_metrics_exporter::kernel::{Reader, ReaderChoice, ReaderOptions};
use bpf_metrics_exporter::model::{Map as Found, Part, ReaderKind};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use test_support::objects::uapi::{map_flag, map_type};
use test_support::objects::{Filled, Herd, Map, Program, Ring, cpus, if_possible};

use super::agreement::Both;
use super::readers;

/// What changes of a map.
fn changing(map: &Found) -> (Option<u64>, Option<u64>, Option<bool>, Option<u64>) {
    (map.entries, map.backlog, map.frozen, map.memory_cgroup)
}

pub(crate) fn counts_are_exact() {
    // Three chunks of what is read together, and several counters in what is read at once.
    let herd = Herd::new(150, 0).expect("they can be made");
    let mut reader = readers::counting_by(ReaderKind::Iter);
    readers::assert_iterates(&reader);
    reader.read();
    let mut runs = vec![0; herd.programs().len()];
    for round in 1..=4 {
        for (number, program) in herd.programs().iter().enumerate().skip(round).step_by(round) {
            for cpu in cpus().expect("there are CPUs") {
                let times = u32::try_from(number % 7 + 1).expect("a few");
                program.run_on(cpu, times).expect("it can be run there");
                runs[number] += u64::from(times);
            }
        }
        let snapshot = reader.read();
        for (program, runs) in herd.programs().iter().zip(&runs) {
            let found = readers::program(&snapshot, program.id());
            assert_eq!(found.runs, Some(*runs), "program {} in round {round}", program.id());
        }
    }
}

pub(crate) fn few_runs() {
    let herd = Herd::new(300, 0).expect("they can be made");
    let mut reader = readers::counting_by(ReaderKind::Iter);
    reader.read();
    let mut runs = |name: &str| {
        let snapshot = reader.read();
        let own = snapshot.own_programs.iter().map(|&id| readers::program(&snapshot, id));
        let runs = own.filter(|program| &*program.facts.name == name).map(|program| program.runs);
        runs.map(|runs| runs.expect("they are counted")).sum::<u64>()
    };
    // Objects of others that come meanwhile are visited, and not all are when they are learned again.
    let least = |mut runs: Box<dyn FnMut() -> u64 + '_>| {
        let counts: Vec<u64> = (0..6).map(|_| runs()).collect();
        counts.windows(2).map(|two| two[1] - two[0]).min().expect("there are some")
    };
    let visits = least(Box::new(|| runs("bpf_metrics_exporter_program")));
    assert!(visits < 300, "{visits} visits of {} programs", herd.programs().len());
    let steps = least(Box::new(|| runs("bpf_metrics_exporter_program_pass")));
    assert!((1..100).contains(&steps), "{steps} steps of a pass");
}

pub(crate) fn frozen_addresses() {
    const NAMES: [&str; 4] = ["bpfmetrics_kpro", "bpfmetrics_cpro", "bpfmetrics_kmap", "bpfmetrics_cmap"];
    let snapshot = readers::by_iterators().read();
    let own = snapshot.own_programs.iter().map(|&id| readers::program(&snapshot, id));
    let maps = own.flat_map(|program| program.facts.map_ids.clone().expect("root may know them"));
    let found: Vec<_> = maps
        .map(|id| readers::map(&snapshot, id))
        .filter(|map| NAMES.contains(&&*map.facts.name))
        .map(|map| map.frozen)
        .collect();
    assert!(found.len() >= NAMES.len() && found.iter().all(|&frozen| frozen == Some(true)), "{found:?}");
}

pub(crate) fn entries_of_every_type() {
    const KINDS: [(u32, u32); 14] = [
        (map_type::HASH, 0),
        (map_type::HASH, map_flag::NO_PREALLOC),
        (map_type::PERCPU_HASH, 0),
        (map_type::PERCPU_HASH, map_flag::NO_PREALLOC),
        (map_type::LRU_HASH, 0),
        (map_type::LRU_PERCPU_HASH, 0),
        (map_type::LPM_TRIE, 0),
        (map_type::QUEUE, 0),
        (map_type::STACK, 0),
        (map_type::DEVMAP, 0),
        (map_type::DEVMAP_HASH, 0),
        (map_type::XSKMAP, 0),
        (map_type::SOCKHASH, 0),
        (map_type::HASH_OF_MAPS, 0),
    ];
    let make = |(kind, flags)| if_possible(Map::ready_with(kind, "known", flags).and_then(Filled::empty));
    let mut maps: Vec<Filled> = KINDS.into_iter().filter_map(make).collect();
    let arrays = Herd::new(0, 140).expect("they can be made");
    let ring = Ring::new(4096).expect("kernels with iterators have them");
    let mut reader = readers::by_iterators();
    reader.read();
    for round in 0..6 {
        for map in &mut maps {
            let entries = u32::try_from(map.entries()).expect("a few");
            // One that is full is emptied.
            if map.add(entries..entries + 1).is_err() {
                map.remove(0..entries).expect("they are in");
            }
        }
        ring.produce(1).expect("there is room");
        arrays.maps()[round * 20].freeze().expect("it can be frozen");
        // The other reader has not seen any of them: its iterator visits all.
        let (first, known) = (readers::by_iterators().read(), reader.read());
        let own = maps.iter().map(Filled::map).chain(arrays.maps()).chain([ring.map()]);
        for map in own {
            let of = |snapshot| changing(readers::map(snapshot, map.id()));
            assert_eq!(of(&known), of(&first), "{:?} in round {round}", map.shape());
        }
        for map in maps.iter().filter(|map| readers::map(&known, map.map().id()).entries.is_some()) {
            let found = readers::map(&known, map.map().id());
            assert_eq!(found.entries, Some(map.entries()), "{:?} in round {round}", map.map().shape());
        }
        assert_eq!(readers::map(&known, ring.map().id()).backlog, Some(ring.backlog()));
        assert_eq!(readers::map(&known, arrays.maps()[round * 20].id()).frozen, Some(true));
    }
}

pub(crate) fn freed_objects() {
    let mut both = Both::of(readers::counting_by(ReaderKind::Iter), readers::counting_by(ReaderKind::Walk));
    let kept = Herd::new(40, 40).expect("they can be made");
    let rounds = 8;
    for _ in 0..rounds {
        let going = Herd::new(70, 70).expect("they can be made");
        for program in going.programs() {
            program.run(64, 9).expect("it can be run");
        }
        both.compare();
        // New ones take the places of those that go, in the memory of the kernel.
        drop(going);
        let coming = Herd::new(70, 70).expect("they can be made");
        both.compare();
        drop(coming);
        both.compare();
    }
    both.assert_compared([rounds * 3 * 40, rounds * 3 * 40, 0]);
    drop(kept);
}

pub(crate) fn growing_number() {
    let mut both = Both::new();
    let mut herds = Vec::new();
    let mut objects = 0;
    // From less than a chunk to many.
    for count in [5, 60, 120, 400] {
        herds.push(Herd::new(count, count).expect("they can be made"));
        objects +=
            2 * u64::try_from(herds.iter().map(|herd| herd.maps().len()).sum::<usize>()).expect("a few");
        both.compare();
        both.compare();
    }
    both.assert_compared([objects, objects, 0]);
    // Those in the middle of a chunk go.
    herds.swap_remove(1);
    both.compare();
}

/// Lowers the limit on descriptors until dropped.
struct Limited((u64, u64));

impl Limited {
    fn to(limit: u64) -> Self {
        let before = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
        setrlimit(Resource::RLIMIT_NOFILE, limit, before.1).expect("a limit can be lowered");
        Self(before)
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        setrlimit(Resource::RLIMIT_NOFILE, self.0.0, self.0.1).expect("a limit can be restored");
    }
}

pub(crate) fn refused() {
    let herd = Herd::new(10, 10).expect("they can be made");
    let open = fs::read_dir("/proc/self/fd").expect("Linux has /proc").count();
    // With the right number of descriptors there are enough for the iterator over programs, and not for a pass.
    let first = u64::try_from(open).expect("a few");
    let limited = (first..first + 60).find_map(|limit| {
        let reader = {
            let _limited = Limited::to(limit);
            Reader::new(ReaderOptions { reader: ReaderChoice::Auto, ..ReaderOptions::default() })
        };
        let choice = reader.choices().iter().find(|choice| choice.part == Part::Program)?;
        let reason = choice.reason.clone().filter(|_| choice.reader == Some(ReaderKind::Iter))?;
        Some((reader, reason))
    });
    let (mut reader, reason) =
        limited.expect("some number of descriptors is enough for one and not the other");
    assert!(reason.contains("iter/task") && reason.contains("EMFILE"), "{reason}");
    for _ in 0..3 {
        let snapshot = reader.read();
        for program in herd.programs().iter().map(Program::id) {
            assert!(readers::program(&snapshot, program).facts.name.starts_with("herd"));
        }
        assert!(snapshot.issues.iter().all(|issue| issue.part != Part::Program), "{:?}", snapshot.issues);
    }
}
