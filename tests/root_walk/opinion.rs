//! An outside opinion: what bpftool lists has to be what the reader finds, field by field.

use std::process::Command;

use bpf_metrics_exporter::model::ObjectType;
use serde_json::Value;

use super::objects::{Herd, every_link_kind, every_map_type, every_program_type};
use super::read;

/// Why bpftool cannot be asked.
pub(crate) fn missing() -> Option<String> {
    let runs = Command::new("bpftool").arg("version").output().is_ok_and(|output| output.status.success());
    (!runs).then(|| "bpftool is not installed".to_owned())
}

/// What bpftool answers.
fn asked(arguments: &[&str]) -> Value {
    let output = Command::new("bpftool").arg("-j").args(arguments).output().expect("bpftool runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("bpftool writes JSON")
}

/// What `bpftool -j KIND show` lists, by id.
fn listed(kind: &str) -> Vec<(u32, Value)> {
    let Value::Array(objects) = asked(&[kind, "show"]) else { panic!("bpftool lists an array") };
    let id = |object: &Value| {
        object["id"].as_u64().and_then(|id| id.try_into().ok()).expect("an object has an id")
    };
    objects.into_iter().map(|object| (id(&object), object)).collect()
}

/// Whether a member of bpftool's JSON is what we found. It leaves out what is zero or not there.
fn assert_same(object: &Value, member: &str, found: impl Into<Value>) {
    let (listed, found) = (&object[member], found.into());
    let nothing = |value: &Value| value.is_null() || value.as_u64() == Some(0) || value.as_str() == Some("");
    assert!(
        *listed == found || (nothing(listed) && nothing(&found)),
        "{member} is {found} and not as in {object}"
    );
}

/// bpftool prints the number of a type that is newer than itself.
fn assert_type(object: &Value, found: &ObjectType) {
    match &object["type"] {
        Value::String(word) => assert_eq!(Some(&**word), found.name.as_deref(), "{object}"),
        Value::Number(number) => assert_eq!(number.as_u64(), Some(found.number.into()), "{object}"),
        other => assert!(other.is_null(), "{object}"),
    }
}

pub(crate) fn programs() {
    let _made = (every_program_type(), Herd::new(200, 0).expect("they can be made"));
    let (listed, snapshot) = (listed("prog"), read());
    let found = snapshot.programs.expect("programs can be listed");
    assert_eq!(listed.len(), found.len());
    for ((id, object), found) in listed.iter().zip(&found) {
        let facts = &found.facts;
        assert_eq!(*id, facts.id);
        assert_type(object, &facts.program_type);
        assert_same(object, "name", &*facts.name);
        assert_same(object, "tag", facts.tag.to_string());
        assert_same(object, "gpl_compatible", facts.gpl_compatible);
        assert_same(object, "loaded_at", facts.loaded_at.as_second());
        assert_same(object, "uid", facts.uid);
        assert_same(object, "bytes_xlated", facts.size_translated);
        assert_same(object, "bytes_jited", facts.size_jitted);
        assert_same(object, "bytes_memlock", facts.mem);
        assert_same(object, "btf_id", facts.btf_id);
    }
}

pub(crate) fn maps() {
    let _made = (every_map_type(), Herd::new(0, 200).expect("they can be made"));
    let (listed, snapshot) = (listed("map"), read());
    let found = snapshot.maps.expect("maps can be listed");
    assert_eq!(listed.len(), found.len());
    for ((id, object), found) in listed.iter().zip(&found) {
        assert_eq!(*id, found.id);
        assert_type(object, &found.map_type);
        assert_same(object, "name", &*found.name);
        assert_same(object, "bytes_key", found.key_size);
        assert_same(object, "bytes_value", found.value_size);
        assert_same(object, "max_entries", found.max_entries);
        assert_same(object, "flags", found.flags);
        // Since 6.18 the kernel leaves this field as it came where a map has no BTF, and bpftool gives it back what the map
        // before had. Asked for one map alone, it tells the truth.
        let alone = asked(&["map", "show", "id", &id.to_string()]);
        assert_same(&alone, "btf_id", found.btf_id);
    }
}

pub(crate) fn links() {
    let _made = every_link_kind();
    let (listed, snapshot) = (listed("link"), read());
    let found = snapshot.links.expect("links can be listed");
    assert_eq!(listed.len(), found.len());
    for ((id, object), found) in listed.iter().zip(&found) {
        assert_eq!(*id, found.id);
        assert_type(object, &found.link_type);
        assert_same(object, "prog_id", found.prog_id);
    }
}

pub(crate) fn btfs() {
    let _made = Herd::new(300, 0).expect("they can be made");
    let (listed, snapshot) = (listed("btf"), read());
    let found = snapshot.btfs.expect("BTF objects can be listed");
    assert_eq!(listed.len(), found.len());
    for ((id, object), found) in listed.iter().zip(&found) {
        assert_eq!(*id, found.id);
        assert_same(object, "size", found.size);
        assert_same(object, "name", found.name.as_deref());
    }
}
