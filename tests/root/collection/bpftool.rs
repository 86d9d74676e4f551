//! An outside opinion: what bpftool lists has to be what the reader finds, field by field.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bpf_metrics_exporter::model::{ObjectType, ReaderKind, Snapshot};
use serde_json::Value;

use super::read;
use test_support::bpftool::{asked, id};
use test_support::objects::{Herd, Map, Program, every_link_kind, every_map_type, every_program_type, uapi};

/// What `bpftool -j KIND show` lists, by id.
fn listed(kind: &str) -> BTreeMap<u32, Value> {
    let Value::Array(objects) = asked(&[kind, "show"]) else { panic!("bpftool lists an array") };
    objects.into_iter().map(|object| (id(&object), object)).collect()
}

/// Has bpftool and the reader look in turn, twice: what one sees both times the other has to see in between, and each field
/// that both know has to be the same. What comes and goes meanwhile is nobody's mistake.
fn agree<Row>(kind: &str, rows: impl Fn(Snapshot) -> BTreeMap<u32, Row>, compare: impl Fn(&Value, &Row)) {
    let (listed_first, read_first) = (listed(kind), rows(read(ReaderKind::Walk)));
    let (listed_last, read_last) = (listed(kind), rows(read(ReaderKind::Walk)));
    for id in listed_first.keys().filter(|id| listed_last.contains_key(id)) {
        assert!(read_first.contains_key(id), "{kind} {id} is not found");
    }
    let mut compared = 0;
    for (id, row) in read_first.iter().filter(|(id, _)| read_last.contains_key(id)) {
        compare(listed_last.get(id).unwrap_or_else(|| panic!("bpftool does not list {kind} {id}")), row);
        compared += 1;
    }
    assert!(compared > 0, "there was something to compare");
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
    let maps = [(); 4].map(|()| Map::ready(uapi::map_type::ARRAY, "used").expect("it can be made"));
    let using = Program::using("uses", &[&maps[2], &maps[0], &maps[3], &maps[1]]).expect("it can be loaded");
    let _made = (every_program_type(), Herd::new(200, 0).expect("they can be made"), using);
    let rows = |snapshot: Snapshot| {
        let programs = snapshot.programs.expect("programs can be listed");
        programs.into_iter().map(|program| (program.facts.id, program.facts)).collect()
    };
    agree("prog", rows, |object, facts| {
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
        let mut listed: Vec<_> = object["map_ids"].as_array().into_iter().flatten().cloned().collect();
        listed.sort_by_key(Value::as_u64);
        let found = facts.map_ids.as_ref().expect("root may know them");
        assert_eq!(listed, found.iter().map(|&id| id.into()).collect::<Vec<Value>>(), "{object}");
    });
}

pub(crate) fn maps() {
    let frozen = Map::ready(uapi::map_type::ARRAY, "frozen").expect("it can be made");
    frozen.freeze().expect("an array can be frozen");
    let _made = (every_map_type(), Herd::new(0, 200).expect("they can be made"), frozen);
    let rows = |snapshot: Snapshot| by_id(snapshot.maps, |map| map.facts.id);
    agree("map", rows, |object, map| {
        assert_type(object, &map.facts.map_type);
        assert_same(object, "name", &*map.facts.name);
        assert_same(object, "bytes_key", map.facts.key_size);
        assert_same(object, "bytes_value", map.facts.value_size);
        assert_same(object, "max_entries", map.facts.max_entries);
        assert_same(object, "flags", map.facts.flags);
        assert_same(object, "bytes_memlock", map.mem);
        assert_same(object, "frozen", map.frozen.map(u32::from));
        // Since 6.18 the kernel leaves this field as it came where a map has no BTF, and bpftool gives it back what the map
        // before had. Asked for one map alone, it tells the truth.
        let alone = asked(&["map", "show", "id", &map.facts.id.to_string()]);
        assert_same(&alone, "btf_id", map.facts.btf_id);
    });
}

pub(crate) fn links() {
    let _made = every_link_kind();
    let rows = |snapshot: Snapshot| by_id(snapshot.links, |link| link.facts.id);
    agree("link", rows, |object, link| {
        assert_type(object, &link.facts.link_type);
        assert_same(object, "prog_id", link.facts.prog_id);
        assert_same_hook(object, link.facts.attach_type.as_ref());
        assert_same_target(object, link.facts.target.as_deref());
    });
}

/// bpftool prints a word, or the number of a type that is newer than itself.
fn assert_same_hook(object: &Value, found: Option<&ObjectType>) {
    match &object["attach_type"] {
        // It prints the hook 0 for an extension, which has none.
        Value::String(word) if word == "cgroup_inet_ingress" && object["type"] == "tracing" => {
            assert_eq!(found, None, "{object}");
        }
        Value::String(word) => {
            assert_eq!(Some(&**word), found.and_then(|hook| hook.name.as_deref()), "{object}");
        }
        Value::Number(number) => {
            assert_eq!(number.as_u64(), found.map(|hook| hook.number.into()), "{object}");
        }
        other => assert!(other.is_null(), "{object}"),
    }
}

/// What bpftool tells of a target is in ours. Which members it knows depends on its own age.
fn assert_same_target(object: &Value, found: Option<&str>) {
    let number = |member: &str| object[member].as_u64().filter(|&number| number != 0);
    let text = |member: &str| object[member].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let cgroup = number("cgroup_id").map(|id| match found.and_then(cgroup_inode) {
        Some(inode) if inode == id => found.unwrap_or_default().to_owned(),
        _ => format!("cgroup {id}"),
    });
    let several = if object["type"] == "uprobe_multi" { "offsets" } else { "functions" };
    let expected = [
        text("tp_name"),
        cgroup,
        text("target_name"),
        number("netns_ino").map(|inode| format!("netns:[{inode}]")),
        number("map_id").map(|id| format!("map {id}")),
        number("ifindex").map(|index| index.to_string()),
        // What it prints of an interface in another network namespace.
        text("devname").filter(|name| name != "(unknown)"),
        text("func"),
        text("file"),
        number("func_cnt").filter(|&count| count > 1).map(|count| format!("{count} {several}")),
    ];
    for expected in expected.into_iter().flatten() {
        assert!(
            found.is_some_and(|found| found.contains(&expected)),
            "{expected} is not in {found:?}: {object}"
        );
    }
}

/// The id of the cgroup that has this path, or whose cgroups an iterator goes over.
fn cgroup_inode(target: &str) -> Option<u64> {
    let path = target.strip_prefix("cgroup (").map_or(target, |within| within.trim_end_matches(')'));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("Linux has /proc");
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
    let path = Path::new(mount).join(path.trim_start_matches('/'));
    std::fs::metadata(path).ok().map(|metadata| metadata.ino())
}

pub(crate) fn btfs() {
    let _made = Herd::new(300, 0).expect("they can be made");
    let rows = |snapshot: Snapshot| by_id(snapshot.btfs, |btf| btf.id);
    agree("btf", rows, |object, btf| {
        assert_same(object, "size", btf.size);
        assert_same(object, "name", btf.name.as_deref());
    });
}

fn by_id<Row>(rows: Option<Vec<Row>>, id: impl Fn(&Row) -> u32) -> BTreeMap<u32, Row> {
    rows.expect("they can be listed").into_iter().map(|row| (id(&row), row)).collect()
}
