//! Selections: complete objects in a fair and stable order, never more series than the limit, and all aggregates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use test_support::{points, snapshots};

use bpf_metrics_exporter::export::json;
use bpf_metrics_exporter::export::otlp::encode::Encoder;
use bpf_metrics_exporter::export::prometheus::{self, Format};
use bpf_metrics_exporter::metrics::select::{Key, MetricFilter, Rule, Selected, Selection};
use bpf_metrics_exporter::model::{
    Backlog, BootTime, Build, Delivery, Destination, Exporter, Kind, OwnProcess, Owner, OwnerKind, Snapshot,
    Tally,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

mod herd;

use test_support::points::Point;

/// An object, by the words of labels.
type Object = (String, String);

/// Returns the object of a point, as a user identifies it: by name and labels.
fn object(point: &Point) -> Option<Object> {
    let label = |name: &str| point.labels.get(name).cloned();
    let named = |kind: &str, id: Option<String>| Some((kind.to_owned(), id?));
    let metric = &*point.metric;
    match metric {
        "bpf_program_map_info" => named("program", label("prog_id")),
        "bpf_pin_info" => Some((label("kind")?, label("id")?)),
        "bpf_hook_info" | "bpf_hook_position" => named("program", label("prog_id"))
            .or_else(|| named("map", label("map_id")))
            .or_else(|| named("link", label("link_id")))
            .or_else(|| named("program", Some("0".to_owned()))),
        _ => ["program", "map", "link", "btf"]
            .into_iter()
            .find(|kind| metric.starts_with(&format!("bpf_{kind}_")))
            .and_then(|kind| named(kind, label("id"))),
    }
}

/// Points of each object, and those of none, without the one that says how many are missing.
fn by_object(points: Vec<Point>) -> (BTreeMap<Object, Vec<Point>>, Vec<Point>) {
    let (mut of, mut rest): (BTreeMap<_, Vec<_>>, _) = (BTreeMap::new(), Vec::new());
    for point in points {
        match object(&point) {
            Some(object) => of.entry(object).or_default().push(point),
            None if point.metric == "bpf_exporter_dropped_series" => {}
            None => rest.push(point),
        }
    }
    (of, rest)
}

fn expected(selected: &Selected, exporter: Option<&Exporter>) -> Vec<Point> {
    points::expected(selected.sample(exporter))
}

/// Returns the number of series of these points: a histogram has eighteen buckets with a bound and one without, a sum and a count.
fn series(points: &[Point]) -> u64 {
    points.iter().map(|point| if point.distribution.is_some() { 21 } else { 1 }).sum()
}

fn at_most(max: u64) -> Selection {
    Selection { max_series: Some(max), ..Selection::default() }
}

fn rule(terms: &[(Key, &str)]) -> Rule {
    Rule { terms: terms.iter().map(|&(key, pattern)| (key, pattern.to_owned())).collect() }
}

fn written(selected: &Selected) -> String {
    json::render(selected).expect("a snapshot is JSON")
}

/// An exporter that pushes.
fn exporter() -> Exporter {
    let since = BootTime::default();
    let tally = |label| Tally { destination: None, label, count: 0, since };
    Exporter {
        build: Build { started_at: since, version: "1", revision: None, rustc: None },
        process: Some(OwnProcess {
            cpu: Duration::from_millis(7),
            resident_memory: 1 << 20,
            virtual_memory: 1 << 24,
            threads: 3,
            open_fds: 9,
            max_fds: 1024,
            started_at: since,
        }),
        resource: Arc::default(),
        lost_log_lines: 0,
        destinations: vec![Destination {
            destination: None,
            endpoint: "http://localhost:4317".into(),
            configured: false,
        }],
        delivery: Some(Delivery {
            points: vec![tally("accepted"), tally("rejected")],
            dropped: vec![tally("refused")],
            log_records: vec![tally("accepted")],
            dropped_log_records: vec![tally("missed")],
            requests: vec![tally("success")],
            backlog: vec![Backlog { destination: None, bytes: 0, since }],
        }),
    }
}

fn exporters() -> impl Strategy<Value = Option<Exporter>> {
    any::<bool>().prop_map(|pushes| pushes.then(exporter))
}

/// The result of an earlier selection, which may have had a limit and left out optional series.
fn selected() -> impl Strategy<Value = Selected> {
    (tied(), option::of(any::<u64>()), any::<bool>(), any::<bool>()).prop_map(
        |(snapshot, dropped, program_maps, holders)| Selected {
            snapshot: Arc::new(snapshot),
            dropped,
            program_maps,
            holders,
            metrics: Arc::default(),
        },
    )
}

fn metrics(include: &[&str], exclude: &[&str]) -> Arc<MetricFilter> {
    let owned = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>();
    Arc::new(MetricFilter::new(&owned(include), &owned(exclude)))
}

/// Any snapshot in which objects share a few owners, and most holders, pins and attachments are of its own objects.
fn tied() -> impl Strategy<Value = Snapshot> {
    (snapshots::snapshot(), vec(0..6_usize, 64), vec(0..30_usize, 64)).prop_map(
        |(mut snapshot, owners, ids)| {
            let all: Vec<_> = snapshot.owners.iter().map(|total| total.owner.clone()).collect();
            let mut owners = owners.into_iter().cycle();
            let mut owner = || all.get(owners.next().expect("it goes on")).cloned();
            snapshot.programs.iter_mut().flatten().for_each(|program| program.owner = owner());
            snapshot.maps.iter_mut().flatten().for_each(|map| map.owner = owner());
            snapshot.links.iter_mut().flatten().for_each(|link| link.owner = owner());

            let had = |kind| ids_of(&snapshot, kind);
            let (programs, maps, links) = (had(Kind::Program), had(Kind::Map), had(Kind::Link));
            let mut places = ids.into_iter().cycle();
            // Beyond the end of a table it stays what it is: the id of an object that the reading does not have.
            let mut tie = |id: &mut u32, known: &[u32]| {
                *id = known.get(places.next().expect("it goes on")).copied().unwrap_or(*id);
            };
            for (kind, known) in [(Kind::Program, &programs), (Kind::Map, &maps), (Kind::Link, &links)] {
                for holder in snapshot.holders.iter_mut().flat_map(|holders| holders.of_mut(kind)) {
                    tie(&mut holder.id, known);
                }
            }
            for pin in snapshot.pins.iter_mut().flatten() {
                tie(&mut pin.id, if pin.kind == Kind::Map { &maps } else { &programs });
            }
            if let Some(look) = &mut snapshot.hooks {
                for hook in &mut std::sync::Arc::make_mut(look).hooks {
                    hook.prog_id.iter_mut().for_each(|id| tie(id, &programs));
                    hook.map_id.iter_mut().for_each(|id| tie(id, &maps));
                }
            }
            snapshot
        },
    )
}

fn ids_of(snapshot: &Snapshot, kind: Kind) -> Vec<u32> {
    match kind {
        Kind::Program => snapshot.programs.iter().flatten().map(|program| program.facts.id).collect(),
        Kind::Map => snapshot.maps.iter().flatten().map(|map| map.facts.id).collect(),
        Kind::Link => snapshot.links.iter().flatten().map(|link| link.facts.id).collect(),
        Kind::Btf => snapshot.btfs.iter().flatten().map(|btf| btf.id).collect(),
    }
}

/// Returns the objects of each owner by kind and id; those without an owner are last.
fn belongings(snapshot: &Snapshot) -> BTreeMap<Option<u64>, Vec<Object>> {
    let mut belongings: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut add = |owner: Option<&Owner>, kind: &str, id: u32| {
        belongings.entry(owner.map(Owner::key)).or_default().push((kind.to_owned(), id.to_string()));
    };
    for program in snapshot.programs.iter().flatten() {
        add(program.owner.as_deref(), "program", program.facts.id);
    }
    for map in snapshot.maps.iter().flatten() {
        add(map.owner.as_deref(), "map", map.facts.id);
    }
    for link in snapshot.links.iter().flatten() {
        add(link.owner.as_deref(), "link", link.facts.id);
    }
    for btf in snapshot.btfs.iter().flatten() {
        add(None, "btf", btf.id);
    }
    belongings
}

/// Removes an object and everything about it from a snapshot.
fn without(snapshot: &Snapshot, kind: Kind, id: u32) -> Snapshot {
    let mut snapshot = snapshot.clone();
    let other = |of: Kind, its: u32| of != kind || its != id;
    snapshot.programs.iter_mut().for_each(|all| all.retain(|p| other(Kind::Program, p.facts.id)));
    snapshot.maps.iter_mut().for_each(|all| all.retain(|m| other(Kind::Map, m.facts.id)));
    snapshot.links.iter_mut().for_each(|all| all.retain(|l| other(Kind::Link, l.facts.id)));
    snapshot.btfs.iter_mut().for_each(|all| all.retain(|b| other(Kind::Btf, b.id)));
    snapshot.pins.iter_mut().for_each(|all| all.retain(|pin| other(pin.kind, pin.id)));
    if let Some(holders) = &mut snapshot.holders {
        for of in [Kind::Program, Kind::Map, Kind::Link, Kind::Btf] {
            holders.of_mut(of).retain(|holder| other(of, holder.id));
        }
    }
    if let Some(look) = &mut snapshot.hooks {
        std::sync::Arc::make_mut(look).hooks.retain(|hook| match (hook.prog_id, hook.map_id) {
            (Some(id), _) => other(Kind::Program, id),
            (None, Some(id)) => other(Kind::Map, id),
            (None, None) => hook.link_id.is_none_or(|id| other(Kind::Link, id)),
        });
    }
    snapshot
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn series_never_exceed_the_limit(before in selected(), exporter in exporters(), max in 1..600_u64) {
        let exporter = exporter.as_ref();
        let limited = at_most(max).apply(before.clone(), exporter);
        let (all, kept) = (expected(&before, exporter), expected(&limited, exporter));
        let own = u64::from(before.dropped.is_none());
        let (all_count, kept_count) = (series(&all) + own, series(&kept));
        let (all, rest) = by_object(all);
        let (kept, still) = by_object(kept);

        prop_assert_eq!(&still, &rest, "series about many objects stay as they are");
        prop_assert!(kept_count <= max.max(series(&rest) + 1), "{} of at most {}", kept_count, max);
        let dropped = before.dropped.unwrap_or(0).saturating_add(all_count - kept_count);
        prop_assert_eq!(limited.dropped, Some(dropped));
        for (object, points) in &kept {
            prop_assert_eq!(points, &all[object], "an object keeps all its series");
        }
        // A dropped object would not have fitted.
        let largest = all.iter().filter(|(object, _)| !kept.contains_key(*object)).map(|(_, points)| points.len()).max();
        prop_assert!(largest.is_none_or(|largest| kept_count + largest as u64 > max));

        prop_assert_eq!(written(&at_most(max).apply(before.clone(), exporter)), written(&limited), "the same again");
        prop_assert_eq!(written(&at_most(max).apply(limited.clone(), exporter)), written(&limited), "and of the rest");
        // At the limit itself nothing is missing, and below it something is.
        prop_assert_eq!(written(&at_most(kept_count).apply(before.clone(), exporter)), written(&limited), "as many as fit");
        let all_but_one = series(&expected(&at_most(all_count - 1).apply(before.clone(), exporter), exporter));
        prop_assert!(all_but_one < all_count || kept.is_empty());
        prop_assert_eq!(limited.snapshot.programs.is_none(), before.snapshot.programs.is_none(), "unread is not dropped");
    }

    #[test]
    fn owners_take_turns(snapshot in tied(), max in 1..600_u64) {
        let limited = at_most(max).apply(Selected::all(Arc::new(snapshot.clone())), None);
        let kept: BTreeSet<Object> = belongings(&limited.snapshot).into_values().flatten().collect();
        let counts: Vec<(usize, usize)> = belongings(&snapshot)
            .iter()
            .filter(|(owner, _)| owner.is_some())
            .map(|(_, objects)| {
                let count = objects.iter().take_while(|object| kept.contains(*object)).count();
                assert!(!objects[count..].iter().any(|object| kept.contains(object)), "in the order of kinds and ids");
                (count, objects.len())
            })
            .collect();
        let most = counts.iter().map(|&(kept, _)| kept).max().unwrap_or(0);
        for (kept, has) in counts {
            prop_assert!(kept == has || kept + 1 >= most, "{} of {}, and another has {}", kept, has, most);
        }
    }

    #[test]
    fn adding_an_object_changes_little(snapshot in tied(), place in any::<proptest::sample::Index>(), max in 1..600_u64) {
        let objects: Vec<(Kind, u32)> = [Kind::Program, Kind::Map, Kind::Link, Kind::Btf]
            .into_iter()
            .flat_map(|kind| ids_of(&snapshot, kind).into_iter().map(move |id| (kind, id)))
            .collect();
        prop_assume!(!objects.is_empty());
        let (kind, id) = *place.get(&objects);
        let all = by_object(expected(&Selected::all(Arc::new(snapshot.clone())), None)).0;
        let largest = all.values().map(Vec::len).max().unwrap_or(0);
        let kept = |snapshot: Snapshot| by_object(expected(&at_most(max).apply(Selected::all(Arc::new(snapshot)), None), None)).0;
        let (with, without) = (kept(snapshot.clone()), kept(without(&snapshot, kind, id)));
        let only_in = |one: &BTreeMap<Object, Vec<Point>>, other: &BTreeMap<Object, Vec<Point>>| {
            one.iter().filter(|(object, _)| !other.contains_key(*object)).map(|(_, points)| points.len()).sum::<usize>()
        };
        let moved = only_in(&with, &without) + only_in(&without, &with);
        // Itself, one of its owner's that it puts off, and what then fits or does not at the end: none is larger than the largest.
        prop_assert!(moved <= 4 * largest, "{} series moved, with {} in the largest object", moved, largest);
    }

    #[test]
    fn excluded_metrics_are_in_no_output_and_do_not_count(before in selected(), exporter in exporters()) {
        let exporter = exporter.as_ref();
        let metrics = metrics(&["bpf_*"], &["bpf_program_*", "bpf_exporter_otlp_requests_total"]);
        let selected = Selection { metrics: Arc::clone(&metrics), ..Selection::default() }.apply(before.clone(), exporter);
        let is_excluded = |metric: &str| {
            metric.starts_with("bpf_program_") || metric == "bpf_exporter_otlp_requests" || !metric.starts_with("bpf_")
        };
        let names = |points: Vec<Point>| {
            let mut names: Vec<String> = points.into_iter().map(|point| point.metric).collect();
            names.sort_unstable();
            names
        };
        let mut kept = names(expected(&before, exporter));
        kept.retain(|metric| !is_excluded(metric));

        let sample = selected.sample(exporter);
        let requests = Encoder::new(&[], 1 << 20).encode(sample);
        prop_assert_eq!(names(points::decode_all(&requests)), kept.clone(), "over OTLP");
        let text = prometheus::render(sample, Format::Text, 0);
        prop_assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), kept.len(), "in a scrape");
        prop_assert!(!text.contains("bpf_program_") && !text.contains("bpf_exporter_otlp_requests"));

        let own = u64::from(before.dropped.is_none());
        let as_many_as_there_are = Selection { metrics, ..at_most(kept.len() as u64 + own) };
        prop_assert_eq!(as_many_as_there_are.apply(before.clone(), exporter).dropped, Some(before.dropped.unwrap_or(0)));
    }

    #[test]
    fn rules_select_complete_objects(before in selected(), exporter in exporters(), number in 0..64_u32) {
        let exporter = exporter.as_ref();
        let (all, rest) = by_object(expected(&before, exporter));
        let one_type = rule(&[(Key::Kind, "map"), (Key::Type, &number.to_string())]);
        let no_owner = rule(&[(Key::OwnerKind, "nobody")]);
        let kept = |selection: Selection| by_object(expected(&selection.apply(before.clone(), exporter), exporter));
        let only = kept(Selection { only: vec![one_type.clone(), no_owner], ..Selection::default() });
        let except = kept(Selection { except: vec![one_type], ..Selection::default() });

        let matching: BTreeSet<String> = before
            .snapshot
            .maps
            .iter()
            .flatten()
            .filter(|map| map.facts.map_type.number == number || map.facts.map_type.name.as_deref() == Some(&number.to_string()))
            .map(|map| map.facts.id.to_string())
            .collect();
        let (of_them, of_others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.into_iter().partition(|((kind, id), _)| kind == "map" && matching.contains(id));
        prop_assert_eq!(only, (of_them, rest.clone()));
        prop_assert_eq!(except, (of_others, rest));
    }

    #[test]
    fn without_single_objects_all_other_series_stay(before in selected(), exporter in exporters()) {
        let exporter = exporter.as_ref();
        let selection = Selection { per_object: false, ..Selection::default() };
        let (_, rest) = by_object(expected(&before, exporter));
        let after = selection.apply(before.clone(), exporter);
        prop_assert_eq!(after.snapshot.is_all_refused(), before.snapshot.is_all_refused(), "unselected is not refused");
        prop_assert_eq!(by_object(expected(&after, exporter)), (BTreeMap::new(), rest));
        prop_assert_eq!(after.dropped, before.dropped, "only a limit drops series");
    }

    #[test]
    fn optional_series_are_left_out_and_nothing_else(before in selected(), program_maps in any::<bool>(), holders in any::<bool>()) {
        let after = Selection { program_maps, holders, ..Selection::default() }.apply(before.clone(), None);
        let is_exported = |point: &Point| {
            (program_maps || point.metric != "bpf_program_map_info") && (holders || !point.metric.ends_with("_holder_info"))
        };
        let wanted: Vec<Point> = expected(&before, None).into_iter().filter(is_exported).collect();
        prop_assert_eq!(expected(&after, None), wanted);
        prop_assert!(Arc::ptr_eq(&after.snapshot, &before.snapshot), "nothing is copied");
        let parsed = json::parse(&written(&after)).expect("it was just written").snapshot;
        prop_assert_eq!(&parsed.holders, &before.snapshot.holders.clone().filter(|_| after.holders));
    }

    #[test]
    fn the_default_selection_shares_the_reading(before in selected()) {
        let after = Selection::default().apply(before.clone(), None);
        prop_assert!(Arc::ptr_eq(&after.snapshot, &before.snapshot));
        prop_assert_eq!(after.dropped, before.dropped);
    }

    #[test]
    fn a_limit_that_is_not_reached_shares_the_reading(before in selected()) {
        let after = at_most(u64::MAX).apply(before.clone(), None);
        prop_assert!(Arc::ptr_eq(&after.snapshot, &before.snapshot));
        prop_assert_eq!(after.dropped, Some(before.dropped.unwrap_or(0)));
    }

    #[test]
    fn a_selection_read_back_from_json_is_the_same(before in selected()) {
        let text = written(&before);
        let parsed = json::parse(&text).expect("it was just written");
        prop_assert_eq!(parsed.dropped, before.dropped);
        prop_assert_eq!(written(&parsed), text);
    }
}

#[test]
fn flags_accept_the_names_of_the_model() {
    let accepts = |term: String| {
        let arguments = ["", "--only", &term, "--otlp-grpc", "none"].map(Into::into);
        let asked = bpf_metrics_exporter::cli::parse(arguments.into(), []);
        asked.is_ok()
    };
    for kind in [Kind::Program, Kind::Map, Kind::Link, Kind::Btf] {
        assert!(accepts(format!("{}={}", Key::Kind.as_str(), kind.as_str())), "{kind:?}");
    }
    for kind in [
        OwnerKind::Pod,
        OwnerKind::Container,
        OwnerKind::Unit,
        OwnerKind::Process,
        OwnerKind::Pin,
        OwnerKind::Kernel,
    ] {
        assert!(accepts(format!("{}={}", Key::OwnerKind.as_str(), kind.as_str())), "{kind:?}");
    }
    for key in [Key::Kind, Key::Type, Key::Name, Key::Owner, Key::OwnerKind] {
        assert!(accepts(format!("{}=*", key.as_str())), "{key:?}");
    }
    assert!(!accepts("kind=owner".to_owned()) && !accepts("owner_kind=map".to_owned()));
}

#[test]
fn selections_are_formatted_for_the_log() {
    let map = rule(&[(Key::Kind, "map"), (Key::Name, "cilium_*")]);
    let pod = rule(&[(Key::OwnerKind, "pod")]);
    for (selection, words) in [
        (Selection::default(), "all objects"),
        (at_most(5000), "all objects; at most 5000 series"),
        (
            Selection { only: vec![map.clone(), pod.clone()], except: vec![pod, map], ..at_most(9) },
            "all objects with kind=map,name=cilium_* or owner_kind=pod, except owner_kind=pod or kind=map,name=cilium_*; at most 9 \
             series",
        ),
        (Selection { per_object: false, ..Selection::default() }, "no single objects"),
        (Selection { holders: false, ..Selection::default() }, "all objects; without holders"),
        (
            Selection { metrics: metrics(&[], &["bpf_program_run*"]), ..at_most(9) },
            "all objects; without 2 metrics; at most 9 series",
        ),
        (
            Selection { program_maps: false, holders: false, ..at_most(9) },
            "all objects; without holders; without maps of programs; at most 9 series",
        ),
    ] {
        assert_eq!(selection.to_string(), words);
    }
}
