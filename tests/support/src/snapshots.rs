//! Arbitrary snapshots: any that the model can hold, with names that need escaping in every format.

mod activity;
mod owned;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::model::{
    BootTime, Btf, Collector, Feature, FeatureState, HostSettings, Issue, Kind, Link, LinkFacts, Map,
    MapFacts, MetadataVariable, ObjectType, Program, ProgramCapabilities, ProgramCapability, ProgramFacts,
    ReaderKind, Reason, RunStats, Snapshot, Tag, WallClock,
};
use jiff::Timestamp;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// A text that formats have to escape, or any other.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z_.]{0,15}",
        "\\PC{0,20}",
        Just("quote \" backslash \\ line\nfeed {}=,# \\n \\xff".to_owned()),
        Just("# EOF".to_owned()),
    ]
}

/// Any moment within a century after the boot.
pub fn moment() -> impl Strategy<Value = BootTime> {
    (0..4_000_000_000_000_000_000_u64).prop_map(BootTime)
}

/// A clock of a host that booted in this century.
pub fn clock() -> impl Strategy<Value = WallClock> {
    (0..4_000_000_000_000_000_000_i128).prop_map(|ns| WallClock {
        booted_at: Timestamp::from_nanosecond(ns).expect("a date of this century"),
    })
}

/// A type of map, mostly one that exists.
fn map_type() -> impl Strategy<Value = ObjectType> {
    prop_oneof![(0..35_u32).prop_map(|number| ObjectType { number, name: None }), object_type()]
}

fn object_type() -> impl Strategy<Value = ObjectType> {
    (any::<u32>(), option::of(text()))
        .prop_map(|(number, name)| ObjectType { number, name: name.map(Cow::Owned) })
}

/// A table of at most twenty rows in ascending order of ids.
fn table<T: std::fmt::Debug>(
    row: impl Strategy<Value = T>,
    with_id: impl Fn(T, u32) -> T,
) -> impl Strategy<Value = Option<Vec<T>>> {
    let with_ids = move |(ids, rows): (BTreeSet<u32>, Vec<T>)| {
        ids.into_iter().zip(rows).map(|(id, row)| with_id(row, id)).collect()
    };
    option::weighted(0.9, (btree_set(any::<u32>(), 0..20), vec(row, 20)).prop_map(with_ids))
}

/// Any words and kfuncs, each once.
fn capabilities() -> impl Strategy<Value = ProgramCapabilities> {
    let words = btree_set(select(&ProgramCapability::ALL[..]), 0..4);
    (words, btree_set(text(), 0..3)).prop_map(|(words, kfuncs)| ProgramCapabilities {
        words: words.into_iter().collect(),
        kfuncs: kfuncs.into_iter().collect(),
    })
}

/// Any variables, each name once.
fn metadata() -> impl Strategy<Value = Arc<[MetadataVariable]>> {
    btree_map(text(), text(), 0..3).prop_map(|variables| {
        variables.into_iter().map(|(key, value)| MetadataVariable { key, value }).collect()
    })
}

fn program() -> impl Strategy<Value = Program> {
    let facts = (
        (text(), object_type(), any::<[u8; 8]>(), any::<bool>(), moment()),
        (any::<u32>(), option::of(any::<u32>()), any::<u32>(), any::<u32>()),
        (option::of(any::<u64>()), option::of(any::<u32>())),
        (option::of(text()), option::of(vec(any::<u32>(), 0..4))),
    );
    let moving = (option::of(any::<u64>()), option::of(any::<u64>()), option::of(any::<u64>()));
    let analysed = (option::of(capabilities()), option::of(metadata()));
    (facts, moving, analysed, option::of(owned::owner())).prop_map(
        |(
            (named, sized, counted, used),
            (run_time, runs, recursion_misses),
            (capabilities, metadata),
            owner,
        )| {
            let (name, program_type, tag, gpl_compatible, loaded_at) = named;
            let (uid, btf_id, size_jitted, size_translated) = sized;
            let (mem, verified_instructions) = counted;
            let (attach_to, map_ids) = used;
            let facts = ProgramFacts {
                id: 0,
                name,
                program_type,
                tag: Tag(tag),
                gpl_compatible,
                loaded_at,
                uid,
                btf_id,
                size_jitted,
                size_translated,
                mem,
                verified_instructions,
                attach_to,
                map_ids: map_ids.map(|ids| BTreeSet::from_iter(ids).into_iter().collect()),
            };
            Program {
                facts: Arc::new(facts),
                run_time: run_time.map(Duration::from_nanos),
                runs,
                recursion_misses,
                capabilities: capabilities.map(Arc::new),
                metadata,
                owner,
            }
        },
    )
}

fn map() -> impl Strategy<Value = Map> {
    let sizes = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u32>());
    let facts = (text(), map_type(), sizes, option::of(any::<u32>()), moment()).prop_map(
        |(name, map_type, (key_size, value_size, max_entries, flags), btf_id, first_seen)| MapFacts {
            id: 0,
            name,
            map_type,
            key_size,
            value_size,
            max_entries,
            flags,
            btf_id,
            first_seen,
        },
    );
    let number = || option::of(any::<u64>());
    (facts, option::of(any::<bool>()), number(), number(), number(), number(), option::of(owned::owner()))
        .prop_map(|(facts, frozen, mem, entries, backlog, memory_cgroup, owner)| Map {
            facts: Arc::new(facts),
            frozen,
            mem,
            entries,
            backlog,
            memory_cgroup,
            owner,
        })
}

fn link() -> impl Strategy<Value = Link> {
    let facts = (
        object_type(),
        option::of(any::<u32>()),
        option::of(object_type()),
        option::of(owned::target()),
        option::of(owned::netns()),
        moment(),
    );
    (facts, option::of(any::<u64>()), option::of(owned::owner())).prop_map(
        |((link_type, prog_id, attach_type, target, netns, first_seen), missed, owner)| {
            let facts = LinkFacts { id: 0, link_type, prog_id, attach_type, target, netns, first_seen };
            Link { facts: Arc::new(facts), missed, owner }
        },
    )
}

fn btf() -> impl Strategy<Value = Btf> {
    (option::of(text()), option::of(any::<bool>()), any::<u32>(), moment())
        .prop_map(|(name, kernel, size, first_seen)| Btf { id: 0, name, kernel, size, first_seen })
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Program), Just(Kind::Map), Just(Kind::Link), Just(Kind::Btf)]
}

fn issues() -> impl Strategy<Value = Vec<Issue>> {
    let names = btree_set((kind(), text(), text()), 0..4);
    (names, any::<u32>()).prop_map(|(names, total)| {
        let issue = |(kind, call, error)| Issue {
            part: Kind::into(kind),
            // A call has a name.
            call: Cow::Owned(format!("CALL_{call}")),
            error: Cow::Owned(error),
            count: 1,
            total: total.into(),
        };
        names.into_iter().map(issue).collect()
    })
}

fn collectors() -> impl Strategy<Value = Vec<Collector>> {
    (btree_set(kind(), 0..4), any::<u32>(), any::<bool>()).prop_map(|(kinds, nanoseconds, success)| {
        let duration = Duration::from_nanos(nanoseconds.into());
        let reader = Some(if success { ReaderKind::Iter } else { ReaderKind::Walk });
        let collector =
            |kind: Kind| Collector { part: kind.into(), reader, duration, age: duration, success };
        kinds.into_iter().map(collector).collect()
    })
}

fn features() -> impl Strategy<Value = Vec<FeatureState>> {
    let reasons = btree_map(select(&Feature::ALL[..]), option::of(select(&Reason::ALL[..])), 0..6);
    reasons.prop_map(|reasons| {
        reasons.into_iter().map(|(feature, reason)| FeatureState { feature, reason }).collect()
    })
}

fn posture() -> impl Strategy<Value = HostSettings> {
    let numbers = (option::of(0..3_u32), option::of(0..3_u32), option::of(0..3_u32), option::of(0..3_u32));
    let sizes = (option::of(any::<u64>()), option::of(any::<u64>()), option::of(any::<u64>()));
    (numbers, sizes, option::of(any::<bool>())).prop_map(|(numbers, sizes, lsm_enabled)| {
        let (jit_enabled, jit_harden, unprivileged_disabled, lockdown) = numbers;
        let (jit_limit, jit_used, delegations) = sizes;
        HostSettings {
            jit_enabled,
            jit_harden,
            unprivileged_disabled,
            jit_limit,
            jit_used,
            lockdown,
            lsm_enabled,
            delegations,
        }
    })
}

/// Any snapshot.
pub fn snapshot() -> impl Strategy<Value = Snapshot> {
    let tables = (
        table(program(), |program, id| Program {
            facts: Arc::new(ProgramFacts { id, ..(*program.facts).clone() }),
            ..program
        }),
        table(map(), |map, id| Map { facts: Arc::new(MapFacts { id, ..(*map.facts).clone() }), ..map }),
        table(link(), |link, id| Link { facts: Arc::new(LinkFacts { id, ..(*link.facts).clone() }), ..link }),
        table(btf(), |btf, id| Btf { id, ..btf }),
    );
    let run_stats = (any::<bool>(), option::of(any::<bool>()), any::<u32>()).prop_map(
        |(by_exporter, by_sysctl, covered)| RunStats {
            by_exporter,
            by_sysctl,
            covered: Duration::from_millis(covered.into()),
        },
    );
    let activity = option::of(activity::activity());
    let owned = (owned::holders(), owned::pins(), owned::hooks(), owned::owners(), owned::totals());
    let went = (collectors(), features(), issues(), posture());
    (tables, owned, run_stats, went, activity, moment(), moment(), clock()).prop_map(
        |(
            tables,
            owned,
            run_stats,
            (collectors, features, issues, posture),
            activity,
            taken_at,
            reader_started_at,
            clock,
        )| {
            let (programs, maps, links, btfs) = tables;
            let (holders, pins, hooks, owners, totals) = owned;
            let fingerprint = posture.jit_limit.map(|number| format!("{number:032x}").into());
            Snapshot {
                taken_at,
                reader_started_at,
                first_read_at: reader_started_at,
                clock,
                programs,
                own_programs: Vec::new(),
                maps,
                links,
                btfs: btfs.map(|btfs| btfs.into_iter().map(Arc::new).collect()),
                holders,
                pins,
                hooks,
                orphans: None,
                owners,
                totals,
                fingerprint,
                unexpected: posture.jit_used,
                activity: activity.map(Arc::new),
                posture,
                run_stats,
                collectors,
                features,
                issues,
            }
        },
    )
}
