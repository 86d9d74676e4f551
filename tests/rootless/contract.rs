//! The eleven metrics of the contract, decoded by a gRPC receiver with the official message definitions. The table repeats the
//! contract and is deliberately not derived from the exporter's.

use std::collections::{BTreeMap, BTreeSet};
use test_support::{points, receiver, transport};

use bpf_metrics_exporter::export::otlp::encode::Encoder;
use bpf_metrics_exporter::export::otlp::resource;
use bpf_metrics_exporter::export::otlp::settings::Protocol;
use bpf_metrics_exporter::host::identity;
use bpf_metrics_exporter::metrics::Sample;
use bpf_metrics_exporter::model::Snapshot;

use test_support::golden::snapshot;
use test_support::points::Point;

const GAUGE: bool = false;
const COUNTER: bool = true;

/// Name, kind, unit, labels.
pub(super) const CONTRACT: [(&str, bool, &str, &[&str]); 11] = [
    ("bpf_program_info", GAUGE, "", &["id", "name", "type", "tag", "gpl_compatible", "load_time"]),
    ("bpf_map_info", GAUGE, "", &["id", "name", "type", "key_size", "value_size", "max_entries", "flags"]),
    ("bpf_link_info", GAUGE, "", &["id", "prog_id", "type"]),
    ("bpf_program_load_time", GAUGE, "s", &["id", "name", "type"]),
    ("bpf_program_size_jitted_bytes", COUNTER, "By", &["id", "name", "type"]),
    ("bpf_program_size_translated_bytes", COUNTER, "By", &["id", "name", "type"]),
    ("bpf_program_mem_bytes", COUNTER, "By", &["id", "name", "type"]),
    ("bpf_program_verified_instructions", COUNTER, "{instruction}", &["id", "name", "type"]),
    ("bpf_map_key_size", COUNTER, "By", &["id", "name", "type"]),
    ("bpf_map_value_size", COUNTER, "By", &["id", "name", "type"]),
    ("bpf_map_max_entries", COUNTER, "{entry}", &["id", "name", "type"]),
];

/// Sends the snapshot to a receiver; returns the received points by metric, and the attributes of the resource.
async fn received(snapshot: &Snapshot) -> (BTreeMap<String, Vec<Point>>, points::Labels) {
    let mut receiver = receiver::start(([127, 0, 0, 1], 0).into(), receiver::ok).await;
    let mut client = transport::connect(&transport::destination(Protocol::Grpc, receiver.address));
    let attributes =
        resource::attributes(&identity::host_identity(None), &resource::UserAttributes::default(), &[]);
    let mut encoder = Encoder::new(&attributes, 1 << 20);
    let mut metrics = BTreeMap::<_, Vec<_>>::new();
    let mut resource = points::Labels::new();
    for request in encoder.encode(Sample::new(snapshot)) {
        client.export(&request).await.expect("the receiver accepts every request");
        let message = receiver.requests.recv().await.expect("the request arrived").message;
        resource =
            points::labels(&message.resource_metrics[0].resource.as_ref().expect("a resource").attributes);
        for point in points::decode(&message).0 {
            metrics.entry(point.metric.clone()).or_default().push(point);
        }
    }
    (metrics, resource)
}

#[tokio::test]
async fn names_kinds_units_and_labels_match_the_contract() {
    let (metrics, _) = received(&snapshot()).await;
    for (name, counter, unit, labels) in CONTRACT {
        let points = metrics.get(name).unwrap_or_else(|| panic!("{name} is missing"));
        for point in points {
            assert_eq!((point.counter, &*point.unit), (counter, unit), "{name}");
            let mut labels: BTreeSet<_> = labels.iter().copied().collect();
            // A link without a program has no program id.
            if name == "bpf_link_info" && point.labels["id"] == "9" {
                labels.remove("prog_id");
            }
            let found: BTreeSet<_> = point.labels.keys().map(String::as_str).collect();
            assert!(found.is_superset(&labels), "{name} has {found:?}");
            if !name.ends_with("_info") {
                assert_eq!(found, labels, "{name} has no other labels");
            }
        }
    }
}

#[tokio::test]
async fn values_match_the_snapshot() {
    let (metrics, _) = received(&snapshot()).await;
    let value = |name: &str, id: &str| {
        let point =
            metrics[name].iter().find(|point| point.labels["id"] == id).expect("the object has a point");
        (point.labels.clone(), point.value.expect("the point has a value"))
    };
    let (labels, one) = value("bpf_program_info", "17");
    assert!((one - 1.0).abs() < f64::EPSILON);
    for (label, text) in [
        ("name", "cil_from_container_to_the_world"),
        ("type", "sched_cls"),
        ("tag", "ca1b2c3d4e5f6071"),
        ("gpl_compatible", "true"),
        ("load_time", "2026-02-27T08:16:02Z"),
        ("uid", "0"),
        ("btf_id", "31"),
    ] {
        assert_eq!(labels[label], text, "{label}");
    }
    assert_eq!(value("bpf_program_info", "401").0["type"], "99", "an unknown type is its number");
    let (labels, _) = value("bpf_map_info", "5");
    for (label, text) in [
        ("type", "9"),
        ("type_name", "lru_hash"),
        ("key_size", "14"),
        ("value_size", "56"),
        ("max_entries", "524288"),
    ] {
        assert_eq!(labels[label], text, "{label}");
    }
    for (name, id, number) in [
        ("bpf_program_load_time", "17", 1_772_180_162.0),
        ("bpf_program_size_jitted_bytes", "17", 5120.0),
        ("bpf_program_size_translated_bytes", "17", 9000.0),
        ("bpf_program_mem_bytes", "17", 12288.0),
        ("bpf_program_verified_instructions", "17", 54321.0),
        ("bpf_map_key_size", "5", 14.0),
        ("bpf_map_value_size", "5", 56.0),
        ("bpf_map_max_entries", "4294967295", 4_294_967_295.0),
    ] {
        assert!((value(name, id).1 - number).abs() < 0.5, "{name}");
    }
    let absent = |name: &str, id: &str| metrics[name].iter().all(|point| point.labels["id"] != id);
    assert!(absent("bpf_program_verified_instructions", "18"), "unknown is not zero");
    assert!(absent("bpf_program_mem_bytes", "401"), "unknown is not zero");
}

#[tokio::test]
async fn counters_start_with_their_object() {
    let snapshot = snapshot();
    let (metrics, _) = received(&snapshot).await;
    let birth_of_map = |id: &str| {
        let map = snapshot
            .maps
            .iter()
            .flatten()
            .find(|map| map.facts.id.to_string() == id)
            .expect("the snapshot has the map");
        snapshot.clock.at(map.facts.first_seen).as_nanosecond()
    };
    for (name, ..) in CONTRACT.iter().filter(|(_, counter, ..)| *counter) {
        for point in &metrics[*name] {
            let id = &point.labels["id"];
            let birth = if name.starts_with("bpf_map_") {
                birth_of_map(id)
            } else {
                let load_time =
                    metrics["bpf_program_load_time"].iter().find(|point| &point.labels["id"] == id);
                // Whole seconds, exact as a float.
                format!("{}000000000", load_time.and_then(|point| point.value).expect("a load time"))
                    .parse()
                    .expect("a number")
            };
            assert_eq!(i128::from(point.start), birth, "{name} of {id}");
            assert_eq!(i128::from(point.time), snapshot.clock.at(snapshot.taken_at).as_nanosecond());
            assert!(point.start <= point.time);
        }
    }
}

#[tokio::test]
async fn the_resource_identifies_the_exporter() {
    let (_, resource) = received(&snapshot()).await;
    assert_eq!(resource["service.name"], "bpf-metrics-exporter");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["os.type"], "linux");
    assert!(resource.contains_key("host.name") && resource.contains_key("service.instance.id"));
    assert!(!resource.keys().any(|key| key.starts_with("telemetry.sdk")));
}
