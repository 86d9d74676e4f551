//! bpftool lists the same objects as the reader, field by field.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use bpf_metrics_exporter::model::{ObjectType, ProgramFacts, ReaderKind, Snapshot};
use serde_json::Value;

use super::read;
use test_support::bpftool::{id, query};
use test_support::objects::{Herd, Map, Program, every_link_kind, every_map_type, every_program_type, uapi};

/// Returns the objects of `bpftool -j KIND show` by id.
fn listed(kind: &str) -> BTreeMap<u32, Value> {
    let Value::Array(objects) = query(&[kind, "show"]) else { panic!("bpftool lists an array") };
    objects.into_iter().map(|object| (id(&object), object)).collect()
}

/// Runs bpftool and the reader in turn, twice: an object that one of them lists both times has to be listed by the other in between.
/// Fields are compared for these objects, which are the test's own: others may change between the readings.
fn agree<Row>(
    kind: &str,
    own: &[u32],
    rows: impl Fn(Snapshot) -> BTreeMap<u32, Row>,
    compare: impl Fn(&Value, &Row),
) {
    let (listed_first, read_first) = (listed(kind), rows(read(ReaderKind::Walk)));
    let (listed_last, read_last) = (listed(kind), rows(read(ReaderKind::Walk)));
    for id in listed_first.keys().filter(|id| listed_last.contains_key(id)) {
        assert!(read_first.contains_key(id), "{kind} {id} is not reported");
    }
    for id in read_first.keys().filter(|id| read_last.contains_key(id)) {
        assert!(listed_last.contains_key(id), "bpftool does not list {kind} {id}");
    }
    for id in own {
        compare(&listed_last[id], &read_first[id]);
    }
    assert!(!own.is_empty(), "there is something to compare");
}

/// Asserts that a member of bpftool's JSON has our value. It leaves out zero and absent values.
fn assert_same(object: &Value, member: &str, found: impl Into<Value>) {
    let (listed, found) = (&object[member], found.into());
    let nothing = |value: &Value| value.is_null() || value.as_u64() == Some(0) || value.as_str() == Some("");
    assert!(
        *listed == found || (nothing(listed) && nothing(&found)),
        "{member} is {found} and not as in {object}"
    );
}

/// Asserts the type: bpftool prints the number of a type that is newer than itself.
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
    let (types, herd) = (every_program_type(), Herd::new(200, 0).expect("they can be made"));
    let types = types.iter().filter_map(|(_, program)| program.as_ref().ok());
    let own: Vec<u32> = types.chain(herd.programs()).chain([&using]).map(Program::id).collect();
    let rows = |snapshot: Snapshot| {
        let (clock, programs) = (snapshot.clock, snapshot.programs.expect("programs can be listed"));
        let row = |facts: Arc<ProgramFacts>| (clock.second(facts.loaded_at).as_second(), facts);
        programs.into_iter().map(|program| (program.facts.id, row(program.facts))).collect()
    };
    agree("prog", &own, rows, |object, (loaded_at, facts)| {
        assert_type(object, &facts.program_type);
        assert_same(object, "name", &*facts.name);
        assert_same(object, "tag", facts.tag.to_string());
        assert_same(object, "gpl_compatible", facts.gpl_compatible);
        assert_same(object, "loaded_at", *loaded_at);
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
    let (types, herd) = (every_map_type(), Herd::new(0, 200).expect("they can be made"));
    let types = types.iter().filter_map(|(_, map)| map.as_ref().ok());
    let own: Vec<u32> = types.chain(herd.maps()).chain([&frozen]).map(Map::id).collect();
    let rows = |snapshot: Snapshot| by_id(snapshot.maps, |map| map.facts.id);
    agree("map", &own, rows, |object, map| {
        assert_type(object, &map.facts.map_type);
        assert_same(object, "name", &*map.facts.name);
        assert_same(object, "bytes_key", map.facts.key_size);
        assert_same(object, "bytes_value", map.facts.value_size);
        assert_same(object, "max_entries", map.facts.max_entries);
        assert_same(object, "flags", map.facts.flags);
        assert_same(object, "bytes_memlock", map.mem);
        assert_same(object, "frozen", map.frozen.map(u32::from));
        // Since 6.18 the kernel does not write this field where a map has no BTF, and bpftool prints the value of the map
        // before. For a single map it is right.
        let alone = query(&["map", "show", "id", &map.facts.id.to_string()]);
        assert_same(&alone, "btf_id", map.facts.btf_id);
    });
}

pub(crate) fn links() {
    let made = every_link_kind();
    let own: Vec<u32> = made.iter().filter_map(|(_, link)| Some(link.as_ref().ok()?.id())).collect();
    let rows = |snapshot: Snapshot| by_id(snapshot.links, |link| link.facts.id);
    agree("link", &own, rows, |object, link| {
        assert_type(object, &link.facts.link_type);
        assert_same(object, "prog_id", link.facts.prog_id);
        assert_same_hook(object, link.facts.attach_type.as_ref());
        let target = link.facts.target.as_ref().map(ToString::to_string);
        assert_same_target(object, target.as_deref());
    });
}

/// Asserts the attach type: bpftool prints a name, or the number of a type that is newer than itself.
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

/// Asserts that our target contains what bpftool reports of it. Which members it knows depends on its version.
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
        number("netns_ino").map(|inode| format!("netns {inode}")),
        number("map_id").map(|id| format!("map {id}")),
        number("ifindex").map(|index| index.to_string()),
        // Printed for an interface in another network namespace.
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

/// Returns the id of the cgroup with this path, or of the one that an iterator walks.
fn cgroup_inode(target: &str) -> Option<u64> {
    let path = target.strip_prefix("cgroup of ").unwrap_or(target);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("Linux has /proc");
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
    let path = Path::new(mount).join(path.trim_start_matches('/'));
    std::fs::metadata(path).ok().map(|metadata| metadata.ino())
}

pub(crate) fn btfs() {
    let herd = Herd::new(300, 0).expect("they can be made");
    let own: Vec<u32> = herd.programs().iter().filter_map(|program| Some(program.btf()?.id())).collect();
    let rows = |snapshot: Snapshot| by_id(snapshot.btfs, |btf| btf.id);
    agree("btf", &own, rows, |object, btf| {
        assert_same(object, "size", btf.size);
        assert_same(object, "name", btf.name.as_deref());
    });
}

fn by_id<Row>(rows: Option<Vec<Row>>, id: impl Fn(&Row) -> u32) -> BTreeMap<u32, Row> {
    rows.expect("they can be listed").into_iter().map(|row| (id(&row), row)).collect()
}
