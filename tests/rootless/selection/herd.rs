//! A host with twenty thousand objects of many owners, one of which has most of them.

use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::export::otlp::encode::Encoder;
use bpf_metrics_exporter::export::prometheus::{self, Format};
use bpf_metrics_exporter::metrics::Sample;
use bpf_metrics_exporter::metrics::select::{Selected, Selection};
use bpf_metrics_exporter::model::{
    AttachPointStatus, AttachmentScan, BootTime, Btf, Device, HeldBy, Holder, Holders, Hook, Identity, Issue,
    Kind, KindTotal, Link, LinkFacts, Map, MapFacts, MetadataVariable, ObjectType, Owner, OwnerTotal, Part,
    Pin, Process, Program, ProgramCapabilities, ProgramCapability, ProgramFacts, Snapshot, Tag, Target,
    WallClock,
};

use super::{at_most, by_object, expected, exporter, points};

const PROGRAMS: u32 = 7_000;
const MAPS: u32 = 9_000;
const LINKS: u32 = 3_000;
const BTFS: u32 = 1_000;
const OWNERS: u32 = 60;
const MAX: u64 = 5_000;

const THEN: BootTime = BootTime(0);

fn owner(number: u32) -> Arc<Owner> {
    let process = Process {
        pid: number + 1,
        started_at_boot_ns: 0,
        name: format!("agent {}", number % 7),
        executable_name: None,
    };
    Arc::new(Owner::from(Identity { process: Some(process), ..Identity::default() }))
}

/// Owner of an object: every other one belongs to the first owner.
fn owner_of(id: u32) -> Arc<Owner> {
    owner(if id.is_multiple_of(2) { 0 } else { id % OWNERS })
}

fn word(number: u32, name: &'static str) -> ObjectType {
    ObjectType { number, name: Some(name.into()) }
}

fn program(id: u32, cycle: u32) -> Program {
    Program {
        facts: Arc::new(ProgramFacts {
            id,
            name: format!("program_{id}"),
            program_type: word(6, "xdp"),
            tag: Tag([1; 8]),
            gpl_compatible: true,
            loaded_at: THEN,
            uid: 0,
            btf_id: None,
            size_jitted: 100,
            size_translated: 100,
            mem: Some(4096),
            verified_instructions: (!id.is_multiple_of(3)).then_some(10),
            attach_to: None,
            map_ids: Some((1..=id % 4).map(|place| (id + place) % MAPS + 1).collect()),
        }),
        run_time: Some(Duration::from_nanos(cycle.into())),
        runs: Some(cycle.into()),
        recursion_misses: Some(0),
        capabilities: Some(Arc::new(ProgramCapabilities {
            words: vec![ProgramCapability::DropPacket, ProgramCapability::TailCall],
            kfuncs: (0..id % 3).map(|number| format!("bpf_kfunc_{number}")).collect(),
        })),
        metadata: Some([MetadataVariable { key: "version".to_owned(), value: id.to_string() }].into()),
        owner: Some(owner_of(id)),
    }
}

fn map(id: u32, cycle: u32) -> Map {
    Map {
        facts: Arc::new(MapFacts {
            id,
            name: format!("map_{id}"),
            map_type: word(1, "hash"),
            key_size: 4,
            value_size: 8,
            max_entries: 100,
            flags: 0,
            btf_id: None,
            first_seen: THEN,
        }),
        frozen: Some(false),
        mem: Some(4096),
        entries: Some((cycle % 100).into()),
        backlog: None,
        memory_cgroup: None,
        owner: Some(owner_of(id)),
    }
}

fn link(id: u32) -> Link {
    let facts = LinkFacts {
        id,
        link_type: word(6, "xdp"),
        prog_id: Some(id),
        attach_type: None,
        target: Some(device(id)),
        netns: None,
        first_seen: THEN,
    };
    Link { facts: Arc::new(facts), missed: None, owner: Some(owner_of(id)) }
}

fn device(id: u32) -> Target {
    Target::Device(Device { ifindex: id, name: Some(format!("eth{id}").into()) })
}

fn hooks() -> AttachmentScan {
    let hook = |id| Hook {
        hook: "xdp".into(),
        target: Some(device(id)),
        netns: None,
        position: Some(0),
        priority: None,
        prog_id: Some(id),
        link_id: Some(id),
        map_id: None,
    };
    let place = |id| AttachPointStatus {
        hook: "xdp".into(),
        target: Some(device(id)),
        netns: None,
        programs: 1,
        detached: Some(0),
        since: THEN,
    };
    AttachmentScan {
        taken_at: THEN,
        hooks: (1..=LINKS).map(hook).collect(),
        contents: Vec::new(),
        attach_points: (1..=50).map(place).collect(),
        namespaces: Vec::new(),
        unqueryable: Vec::new(),
        complete: true,
    }
}

fn owner_total(number: u32, cycle: u32) -> OwnerTotal {
    OwnerTotal {
        owner: owner(number),
        since: THEN,
        programs: Some(1),
        maps: Some(2),
        links: Some(3),
        mem: Some(4096),
        run_time: Some(Duration::from_nanos(cycle.into())),
        fingerprint: Some("9d0c3b0d-6f1a-5c52-8e6c-1f0b5f0e4d86".into()),
        capable: Some([(ProgramCapability::DropPacket, 1)].into()),
    }
}

/// Its snapshot; counters and entries change in each cycle.
fn reading(cycle: u32) -> Snapshot {
    let btf = |id| Arc::new(Btf { id, name: None, kernel: Some(false), size: 10, first_seen: THEN });
    let holders = |count: u32| -> Vec<Holder> {
        let holder = |id| Holder { id, held_by: HeldBy::Process, owner: owner_of(id) };
        (1..=count).map(holder).collect()
    };
    let pin = |id| {
        let path = format!("/sys/fs/bpf/{id}");
        Pin { kind: Kind::Map, id, path: path.into(), directory: "/sys/fs/bpf".into(), bpffs: None }
    };
    let total = |(kind, objects): (Kind, u32)| KindTotal {
        since: THEN,
        kind,
        objects: objects as usize,
        orphaned: Some(1),
        mem: Some(4096),
        run_time: None,
    };
    let totals = [(Kind::Program, PROGRAMS), (Kind::Map, MAPS), (Kind::Link, LINKS), (Kind::Btf, BTFS)];
    let issue = Issue {
        part: Part::Map,
        call: "BPF_MAP_GET_NEXT_KEY".into(),
        error: "EPERM".into(),
        count: 1,
        total: cycle.into(),
    };
    Snapshot {
        programs: Some((1..=PROGRAMS).map(|id| program(id, cycle)).collect()),
        maps: Some((1..=MAPS).map(|id| map(id, cycle)).collect()),
        links: Some((1..=LINKS).map(link).collect()),
        btfs: Some((1..=BTFS).map(btf).collect()),
        holders: Some(Holders {
            programs: holders(PROGRAMS),
            maps: holders(MAPS),
            links: holders(LINKS),
            btfs: holders(BTFS),
        }),
        pins: Some((1..=MAPS / 4).map(pin).collect()),
        hooks: Some(Arc::new(hooks())),
        owners: (0..OWNERS).map(|number| owner_total(number, cycle)).collect(),
        totals: totals.into_iter().map(total).collect(),
        issues: vec![issue],
        ..Snapshot::begun(BootTime::from_secs(cycle.into()), THEN, WallClock::default())
    }
}

/// Points with a value, and markers.
fn decode(encoder: &mut Encoder, sample: Sample<'_>) -> (u64, usize) {
    let (mut live, mut markers) = (0, 0);
    for point in points::decode_all(&encoder.encode(sample)) {
        if point.value.is_some() { live += 1 } else { markers += 1 }
    }
    (live, markers)
}

#[test]
fn a_limit_of_five_thousand_is_not_exceeded() {
    let own = exporter();
    let own = Some(&own);
    let mut encoder = Encoder::new(&[], 3_670_016);
    let mut first = None;
    for cycle in 1..=3 {
        let all = Selected::all(Arc::new(reading(cycle)));
        let limited = at_most(MAX).apply(all.clone(), own);
        let sample = limited.sample(own);
        let all_points = expected(&all, own);
        let kept_points = expected(&limited, own);
        let (all_count, kept_count) = (all_points.len() as u64 + 1, kept_points.len() as u64);
        assert_eq!(limited.dropped, Some(all_count - kept_count));

        let (all_by_object, all_rest) = by_object(all_points);
        let (kept_by_object, kept_rest) = by_object(kept_points);
        assert_eq!(kept_rest, all_rest, "aggregates are of everything");
        let largest = all_by_object.values().map(Vec::len).max().expect("there are objects") as u64;
        assert!(kept_count <= MAX && kept_count + largest > MAX, "{kept_count} series");

        for format in [Format::Text, Format::OpenMetrics] {
            let text = prometheus::render(sample, format, 0);
            let samples = text.lines().filter(|line| !line.starts_with('#')).count();
            assert_eq!(samples as u64, kept_count, "{format:?}");
        }
        assert_eq!(decode(&mut encoder, sample), (kept_count, 0), "no series ends");

        let chosen: Vec<_> = kept_by_object.into_keys().collect();
        assert_eq!(*first.get_or_insert_with(|| chosen.clone()), chosen, "the same in each cycle");
        let mut of_owners: Vec<usize> = vec![0; OWNERS as usize];
        for program in limited.snapshot.programs.iter().flatten() {
            let pid = program.owner.as_ref().and_then(|owner| Some(owner.process.as_ref()?.pid));
            of_owners[pid.expect("each has an owner") as usize - 1] += 1;
        }
        let odd = of_owners.iter().enumerate().filter(|(place, _)| place % 2 == 1).map(|(_, &kept)| kept);
        let least = odd.min().expect("there are owners");
        assert!(of_owners[0] <= least + 1, "the one with most displaces no other: {of_owners:?}");
        assert!(least > 0);
    }
}

#[test]
fn equal_objects_displace_at_most_one() {
    let all = reading(1);
    let maps = |ids: &[u32]| {
        let maps = all.maps.iter().flatten().filter(|map| ids.contains(&map.facts.id)).cloned().collect();
        Snapshot {
            maps: Some(maps),
            owners: all.owners.clone(),
            ..Snapshot::begun(THEN, THEN, WallClock::default())
        }
    };
    let kept = |ids: &[u32]| -> Vec<u32> {
        let limited = at_most(700).apply(Selected::all(Arc::new(maps(ids))), None);
        limited.snapshot.maps.iter().flatten().map(|map| map.facts.id).collect()
    };
    let even: Vec<u32> = (1..=200).map(|id| id * 3).collect();
    let before = kept(&even);
    assert!(before.len() > 10 && before.len() < even.len(), "{} kept", before.len());
    for more in (0..=200).step_by(5).map(|place| place * 3 + 1) {
        let after = kept(&[&even[..], &[more]].concat());
        let dropped = before.iter().filter(|id| !after.contains(id)).count();
        let added: Vec<_> = after.iter().filter(|id| !before.contains(id)).collect();
        assert!(
            dropped <= 1 && added.iter().all(|&&id| id == more),
            "with {more}: {dropped} dropped, {added:?} added"
        );
        assert_eq!(dropped, added.len());
    }
}

#[test]
fn young_objects_count_only_in_totals() {
    let (begun, now) = (BootTime::from_secs(1_000), BootTime::from_secs(2_000));
    let at = |mut program: Program, loaded_at| {
        Arc::make_mut(&mut program.facts).loaded_at = BootTime::from_secs(loaded_at);
        program
    };
    let seen = |mut map: Map, first_seen| {
        Arc::make_mut(&mut map.facts).first_seen = BootTime::from_secs(first_seen);
        map
    };
    let all = reading(1);
    let holders = |kind| all.holders.as_ref().expect("there are some").of(kind)[..4].to_vec();
    let snapshot = Snapshot {
        first_read_at: begun,
        programs: Some(
            [1, 1_940, 1_941, 2_001].iter().zip(1..).map(|(&time, id)| at(program(id, 1), time)).collect(),
        ),
        maps: Some([999, 1_000, 1_941].iter().zip(1..).map(|(&time, id)| seen(map(id, 1), time)).collect()),
        links: Some(Vec::new()),
        btfs: Some(Vec::new()),
        // The fourth map was created after the table of maps was read.
        holders: Some(Holders {
            programs: holders(Kind::Program),
            maps: holders(Kind::Map),
            ..Holders::default()
        }),
        ..Snapshot { taken_at: now, ..all.clone() }
    };
    let old = |min_age| {
        let selection = Selection { min_age: Duration::from_secs(min_age), ..Selection::default() };
        selection.apply(Selected::all(Arc::new(snapshot.clone())), None)
    };
    let minute = old(60).snapshot;
    assert_eq!((minute.ids(Kind::Program), minute.ids(Kind::Map)), (vec![1, 2], vec![1, 2]));
    let held = |kind| -> Vec<u32> {
        minute.holders.iter().flat_map(|holders| holders.of(kind)).map(|holder| holder.id).collect()
    };
    assert_eq!((held(Kind::Program), held(Kind::Map)), (vec![1, 2], vec![1, 2]));
    assert_eq!((minute.totals.len(), minute.owners.len()), (4, OWNERS as usize), "totals stay");
    let hour = old(3_600).snapshot;
    assert_eq!(
        (hour.ids(Kind::Program), hour.ids(Kind::Map)),
        (vec![], vec![1, 2]),
        "the age of the maps is unknown"
    );
    assert_eq!(old(0).snapshot.ids(Kind::Program), [1, 2, 3, 4]);
}
