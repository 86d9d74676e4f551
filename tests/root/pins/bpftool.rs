//! bpftool lists the same pins.

use std::collections::BTreeSet;

use bpf_metrics_exporter::model::Kind;
use serde_json::Value;

use super::scene::{Scene, enricher, pins as found};
use test_support::bpftool::{id, query};
use test_support::objects::{Herd, Link};

/// Returns the pins that bpftool lists for a kind.
fn listed(kind: Kind, word: &str) -> Vec<(String, Kind, u32)> {
    let Value::Array(objects) = query(&["--bpffs", word, "show"]) else { panic!("bpftool lists an array") };
    let pins = |object: &Value| -> Vec<_> {
        let paths = object["pinned"].as_array().cloned().unwrap_or_default();
        paths
            .iter()
            .map(|path| (path.as_str().expect("a path is text").to_owned(), kind, id(object)))
            .collect()
    };
    objects.iter().flat_map(pins).collect()
}

pub(crate) fn pins() {
    let scene = Scene::new("opinion");
    let herd = Herd::new(200, 200).expect("they can be made");
    let links = [Link::iter(), Link::cgroup()].map(|link| link.expect("it can be attached"));
    let mut made = Vec::new();
    for (number, program) in herd.programs().iter().enumerate() {
        made.push(program.pin(&scene.make(&format!("a/{}", number % 7)).join(number.to_string())));
    }
    for (number, map) in herd.maps().iter().enumerate() {
        made.push(map.pin(&scene.make(&format!("b{}", number % 7)).join(number.to_string())));
        made.push(map.pin(&scene.at(&format!("twice{number}"))));
    }
    for (number, link) in links.iter().enumerate() {
        made.push(link.pin(&scene.at(&format!("link{number}"))));
    }
    assert!(made.iter().all(Result::is_ok), "they can be pinned");
    let root = scene.path.display().to_string();
    let ours = |pins: &mut dyn Iterator<Item = (String, Kind, u32)>| -> BTreeSet<_> {
        pins.filter(|(path, ..)| path.starts_with(&root)).collect()
    };
    let kinds = [(Kind::Program, "prog"), (Kind::Map, "map"), (Kind::Link, "link")];
    let listed = ours(&mut kinds.into_iter().flat_map(|(kind, word)| listed(kind, word)));
    let snapshot = enricher().read();
    let found = ours(&mut found(&snapshot).iter().map(|pin| (pin.path.to_string(), pin.kind, pin.id)));
    assert_eq!(found, listed);
    assert!(found.len() >= made.len());
}
