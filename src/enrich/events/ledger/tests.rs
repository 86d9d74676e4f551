//! The sums are those of what happened, whatever was seen of it.

use proptest::prelude::*;

use super::*;
use crate::enrich::example;
use crate::model::Identity;

fn record(id: u32, is_load: bool) -> ProgramRecord {
    let at = BootTime::from_secs(id.into());
    ProgramRecord { at, is_load, id, tag: Tag([0; 8]), pid: None, thread: None, name: None }
}

fn facts(id: u32) -> KnownProgram {
    let at = BootTime::from_secs(id.into());
    let seen = SeenAtLoad { name: None, program_type: None, tag: Tag([0; 8]), at: Some(at) };
    KnownProgram { seen: Some(Box::new(seen)), ..KnownProgram::default() }
}

#[test]
fn a_program_that_was_unloaded_is_counted_once_its_owner_is_named() {
    let mut ledger = Ledger::default();
    ledger.reconcile(BootTime::from_secs(0), &[], true);
    let unit = |name: &str| Identity { unit: Some(name.to_owned()), ..Identity::default() };
    let owned = |id, owner| KnownProgram { owner: Some(Arc::new(owner)), ..facts(id) };
    let counted = |ledger: &Ledger| -> Vec<_> {
        let name = |key: &Key| key.owner.as_ref().map(|(_, name)| name.to_string());
        ledger.counts.iter().map(|(key, counts)| (name(key), counts.loads, counts.unloads)).collect()
    };
    for id in [1, 2] {
        ledger.loaded(&record(id, true), owned(id, Owner::awaiting_name(unit("early"))));
    }
    ledger.unloaded(&record(1, false));
    ledger.reconcile(BootTime::from_secs(9), &[], false);
    assert!(counted(&ledger).is_empty(), "the name is looked up");
    ledger.name_owners(Owner::clone);
    ledger.reconcile(BootTime::from_secs(10), &[], false);
    assert!(counted(&ledger).is_empty(), "it still is");
    ledger.name_owners(|_| Owner::from(unit("late")));
    ledger.reconcile(BootTime::from_secs(11), &[], false);
    assert_eq!(counted(&ledger), [(Some("late".to_owned()), 2, 1)]);
    ledger.unloaded(&record(2, false));
    assert_eq!(counted(&ledger), [(Some("late".to_owned()), 2, 2)]);
    // More than can wait are counted without an owner.
    for id in 3..4 + u32::try_from(MAX_UNNAMED).expect("it is small") {
        ledger.loaded(&record(id, true), owned(id, Owner::awaiting_name(unit("early"))));
        ledger.unloaded(&record(id, false));
    }
    assert_eq!(counted(&ledger)[0], (None, 1, 1));
}

/// Returns all loads and unloads that were counted.
fn sums(ledger: &Ledger) -> (u64, u64) {
    let counts = ledger.counts.values();
    counts.fold((0, 0), |(loads, unloads), counts| (loads + counts.loads, unloads + counts.unloads))
}

fn read(ledger: &mut Ledger, ids: &[u32]) -> Vec<(u32, bool)> {
    let programs: Vec<Program> = ids.iter().map(|&id| example::program(id, &[])).collect();
    let found = ledger.reconcile(BootTime::from_secs(1_000_000), &programs, true);
    found.into_iter().map(|found| (found.id, found.is_load)).collect()
}

#[test]
fn programs_of_the_first_reading_were_not_loaded_since() {
    let mut ledger = Ledger::default();
    assert!(!ledger.loaded(&record(5, true), facts(5)), "nothing counts before");
    assert_eq!(read(&mut ledger, &[3, 5]), []);
    assert_eq!(sums(&ledger), (0, 0));
    assert!(ledger.unloaded(&record(3, false)).is_some());
    assert!(ledger.unloaded(&record(4, false)).is_some(), "it was on its way out");
    assert!(ledger.loaded(&record(6, true), facts(6)));
    assert!(ledger.unloaded(&record(6, false)).is_some());
    assert_eq!(sums(&ledger), (1, 2));
}

#[test]
fn a_counter_starts_at_the_last_reading_without_it() {
    let mut ledger = Ledger::default();
    read(&mut ledger, &[1, 2]);
    let fill = |ledger: &mut Ledger, second| {
        let mut activity = Activity::default();
        ledger.fill(BootTime::from_secs(second), &mut activity);
        activity
    };
    assert_eq!(
        fill(&mut ledger, 1_000_000),
        Activity { since: BootTime::from_secs(1_000_000), ..Activity::default() }
    );
    assert!(ledger.unloaded(&record(1, false)).is_some());
    for second in [1_000_010, 1_000_020] {
        let activity = fill(&mut ledger, second);
        let [unloads] = &activity.programs[..] else { panic!("{activity:?}") };
        let [lifetimes] = &activity.lifetimes[..] else { panic!("{activity:?}") };
        assert_eq!((unloads.unloads, lifetimes.seconds.count()), (1, 1));
        assert_eq!([unloads.since, lifetimes.since], [BootTime::from_secs(1_000_000); 2]);
    }
    let mut xdp = facts(7);
    xdp.seen.as_mut().expect("it was seen").program_type = Some("xdp".to_owned());
    assert!(ledger.loaded(&record(7, true), xdp));
    assert!(ledger.unloaded(&record(7, false)).is_some());
    let activity = fill(&mut ledger, 1_000_030);
    let starts: Vec<_> = activity
        .lifetimes
        .iter()
        .map(|lifetimes| (lifetimes.program_type.as_deref(), lifetimes.since))
        .collect();
    let expected = [(None, 1_000_000), (Some("xdp"), 1_000_020)];
    assert_eq!(starts, expected.map(|(word, second)| (word, BootTime::from_secs(second))));
}

#[test]
fn what_comes_late_is_not_counted_twice() {
    let mut ledger = Ledger::default();
    read(&mut ledger, &[1]);
    assert_eq!(read(&mut ledger, &[1, 2]), [], "its record may come");
    assert_eq!(sums(&ledger), (1, 0));
    assert!(ledger.loaded(&record(2, true), facts(2)), "it is published with its actor");
    assert_eq!(read(&mut ledger, &[1, 2]), []);
    assert_eq!(read(&mut ledger, &[1]), [], "its record may come");
    assert!(ledger.unloaded(&record(2, false)).is_some());
    assert_eq!(read(&mut ledger, &[1]), []);
    assert_eq!(sums(&ledger), (1, 1));
    // The record of 4 comes long after that of 5.
    assert!(ledger.loaded(&record(5, true), facts(5)));
    for _ in 0..3 {
        read(&mut ledger, &[1, 5]);
    }
    assert_eq!(sums(&ledger), (4, 3), "3 and 4 are taken for lost");
    assert!(ledger.loaded(&record(4, true), facts(4)));
    assert!(ledger.unloaded(&record(4, false)).is_some());
    assert_eq!(sums(&ledger), (4, 3));
}

#[test]
fn a_program_that_is_unloaded_while_a_reading_runs_is_counted_once() {
    let mut ledger = Ledger::default();
    read(&mut ledger, &[1]);
    assert!(ledger.loaded(&record(2, true), facts(2)));
    // The reading has listed both.
    assert!(ledger.unloaded(&record(1, false)).is_some());
    assert!(ledger.unloaded(&record(2, false)).is_some());
    for ids in [&[1, 2][..], &[], &[], &[]] {
        assert_eq!(read(&mut ledger, ids), [], "both are known to be gone");
    }
    assert_eq!(sums(&ledger), (1, 2));
    // The record comes after the comparison.
    assert!(ledger.loaded(&record(3, true), facts(3)));
    read(&mut ledger, &[3]);
    read(&mut ledger, &[]);
    assert_eq!(read(&mut ledger, &[]), [(3, false)]);
    assert_eq!(ledger.unloaded(&record(3, false)), None);
    assert_eq!(sums(&ledger), (2, 3));
}

#[test]
fn ids_that_were_counted_at_once_are_not_counted_again() {
    let mut ledger = Ledger::default();
    read(&mut ledger, &[1]);
    let last = u32::try_from(2 * MAX_SKIPPED).expect("it is small");
    assert!(ledger.loaded(&record(last, true), facts(last)));
    let before = sums(&ledger);
    assert_eq!(before.0, MAX_SKIPPED as u64 - 2);
    assert!(ledger.loaded(&record(5, true), facts(5)));
    for _ in 0..3 {
        read(&mut ledger, &[1, 5, 6, last]);
    }
    assert!(ledger.unloaded(&record(5, false)).is_some() && ledger.unloaded(&record(7, false)).is_some());
    let (loads, unloads) = sums(&ledger);
    assert_eq!((loads, unloads), (u64::from(last) - 1, u64::from(last) - 2));
}

#[test]
fn without_records_readings_find_everything() {
    let mut ledger = Ledger::default();
    read(&mut ledger, &[1]);
    assert_eq!(read(&mut ledger, &[1, 2, 4]), []);
    assert_eq!(read(&mut ledger, &[1, 2, 4]), [(2, true), (4, true)]);
    assert_eq!(read(&mut ledger, &[1, 4]), []);
    assert_eq!(read(&mut ledger, &[1, 4]), [(2, false)]);
    assert_eq!(sums(&ledger), (3, 2), "3 came and went");
}

#[test]
fn owners_without_bound_are_one() {
    let mut ledger = Ledger::default();
    for number in 0..MAX_KEYS * 2 {
        let owner = Some((OwnerKind::Process, format!("{number}").into()));
        ledger.count(&Key { program_type: None, owner }, 1, 0);
    }
    assert_eq!(ledger.counts.len(), MAX_KEYS + 1);
    assert_eq!(sums(&ledger).0, 2 * MAX_KEYS as u64);
}

#[derive(Clone, Debug)]
enum Step {
    Load {
        lost: bool,
    },
    Unload {
        which: usize,
        lost: bool,
    },
    /// The programs are listed, and compared at the next `Read`.
    List,
    Read,
}

proptest! {
    #[test]
    fn sums_are_the_truth_whatever_is_lost(
        steps in prop::collection::vec(
            prop_oneof![
                any::<bool>().prop_map(|lost| Step::Load { lost }),
                (any::<usize>(), any::<bool>()).prop_map(|(which, lost)| Step::Unload { which, lost }),
                Just(Step::List),
                Just(Step::Read),
            ],
            0..200,
        )
    ) {
        let mut ledger = Ledger::default();
        let mut loaded: Vec<u32> = vec![7, 9];
        let (mut last, mut loads, mut unloads) = (9, 0, 0);
        let mut listed = None;
        read(&mut ledger, &loaded);
        for step in steps {
            match step {
                Step::Load { lost } => {
                    last += 1;
                    loads += 1;
                    loaded.push(last);
                    if !lost {
                        ledger.loaded(&record(last, true), facts(last));
                    }
                }
                Step::Unload { which, lost } if !loaded.is_empty() => {
                    let id = loaded.remove(which % loaded.len());
                    unloads += 1;
                    if !lost {
                        ledger.unloaded(&record(id, false));
                    }
                }
                Step::Unload { .. } => {}
                Step::List => listed = Some(loaded.clone()),
                Step::Read => drop(read(&mut ledger, &listed.take().unwrap_or_else(|| loaded.clone()))),
            }
        }
        // The next program shows that others came and went unseen.
        loaded.push(last + 1);
        ledger.loaded(&record(last + 1, true), facts(last + 1));
        for _ in 0..3 {
            read(&mut ledger, &loaded);
        }
        prop_assert_eq!(sums(&ledger), (loads + 1, unloads));
    }
}
