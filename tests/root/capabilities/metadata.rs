//! Metadata: constants `bpf_metadata_*` in sections as libbpf makes them.

use std::collections::BTreeSet;

use bpf_metrics_exporter::model::{ReaderKind, Snapshot};
use test_support::objects::{
    Btf, Instruction, Map, MapSpec, MapTypes, Program, ProgramSpec, Shape, Types, uapi,
};
use test_support::{bpftool, readers};

/// The type of a variable.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Signed,
    Unsigned,
    Bool,
    /// A structure, which has no text.
    Structure,
}

/// A map as libbpf makes it of a section with these variables, not yet frozen.
fn section(variables: &[(&str, Kind, &[u8])]) -> Map {
    let mut types = Types::default();
    let [character, index] = [types.integer("char", 1), types.unsigned("unsigned int", 4)];
    let (mut content, mut infos) = (Vec::new(), Vec::new());
    for &(name, kind, value) in variables {
        // As compilers do: at a multiple of its size.
        content.resize(content.len().next_multiple_of(8), 0);
        let size = u32::try_from(value.len()).expect("some bytes");
        let value_type = match kind {
            Kind::Text => types.array(character, index, size),
            Kind::Signed => types.integer(&format!("s{size}"), size),
            Kind::Unsigned => types.unsigned(&format!("u{size}"), size),
            Kind::Bool => types.boolean("_Bool"),
            Kind::Structure => types.structure("pair", size, index),
        };
        let variable = types.variable(name, value_type);
        infos.push([variable, u32::try_from(content.len()).expect("a few"), size]);
        content.extend_from_slice(value);
    }
    let value_size = u32::try_from(content.len()).expect("some bytes");
    let value = types.section(".rodata", value_size, &infos);
    let btf = Btf::load(&types).expect("it is valid");
    let shape = Shape {
        kind: uapi::map_type::ARRAY,
        key_size: 4,
        value_size,
        max_entries: 1,
        flags: uapi::map_flag::RDONLY_PROG,
        extra: 0,
    };
    let types = MapTypes { btf: &btf, key: 0, value, kernel_value: 0 };
    let map = Map::create(&MapSpec { name: "object.rodata", shape, inner: None, types: Some(types) });
    let map = map.expect("it can be made");
    map.insert(&0_u32.to_ne_bytes(), &content).expect("there is room");
    map
}

fn frozen(variables: &[(&str, Kind, &[u8])]) -> Map {
    let map = section(variables);
    map.freeze().expect("it can be frozen");
    map
}

fn using(maps: &[&Map]) -> Program {
    let instructions = Instruction::using(maps, 0);
    let kind = uapi::program_type::SOCKET_FILTER;
    Program::load(&ProgramSpec { name: "described", instructions, ..ProgramSpec::new(kind, 0) })
        .expect("it can be made")
}

/// Returns the metadata of a program.
fn of(snapshot: &Snapshot, program: &Program) -> Vec<(String, String)> {
    let variables = readers::program(snapshot, program.id()).metadata.as_deref().expect("root may know it");
    variables.iter().map(|variable| (variable.key.clone(), variable.value.clone())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(crate) fn values(backend: ReaderKind) {
    let map = frozen(&[
        ("bpf_metadata_version", Kind::Text, b"1.19\0\0\0\0"),
        ("not_metadata", Kind::Text, b"other\0"),
        ("bpf_metadata_build", Kind::Unsigned, &4_000_000_000_u32.to_ne_bytes()),
        ("bpf_metadata_level", Kind::Signed, &(-3_i64).to_ne_bytes()),
        ("bpf_metadata_debug", Kind::Bool, &[1]),
        ("bpf_metadata_pair", Kind::Structure, &[0; 8]),
        ("bpf_metadata_forged", Kind::Text, b"\x1b[31m\"\n\0"),
    ]);
    let changeable = section(&[("bpf_metadata_later", Kind::Text, b"no\0")]);
    let program = using(&[&map, &changeable]);
    let other = using(&[]);
    let mut reader = readers::by(backend);
    let snapshot = reader.read();
    let expected = pairs(&[
        ("build", "4000000000"),
        ("debug", "true"),
        ("forged", "\\x1b[31m\"\\x0a"),
        ("level", "-3"),
        ("version", "1.19"),
    ]);
    assert_eq!(of(&snapshot, &program), expected);
    assert_eq!(of(&snapshot, &other), []);
    assert_eq!(of(&reader.read(), &program), expected, "they are kept");
    // bpftool knows the convention since 5.10.
    let shown = bpftool::query(&["prog", "show", "id", &program.id().to_string()]);
    if let Some(shown) = shown["metadata"].as_object() {
        assert_eq!(shown["version"], "1.19");
        assert_eq!(shown["build"], 4_000_000_000_u32);
        assert_eq!(shown["level"], -3);
        assert_eq!(shown["debug"], true);
        let keys: BTreeSet<_> = shown.keys().map(String::as_str).filter(|key| *key != "pair").collect();
        assert_eq!(keys, expected.iter().map(|(key, _)| &**key).collect());
    }
}

pub(crate) fn bound_later(backend: ReaderKind) {
    let program = using(&[]);
    let mut reader = readers::by(backend);
    assert_eq!(of(&reader.read(), &program), []);
    let map = frozen(&[("bpf_metadata_version", Kind::Text, b"2\0")]);
    program.bind(&map).expect("maps can be bound since 5.10");
    assert_eq!(of(&reader.read(), &program), pairs(&[("version", "2")]));
}

pub(crate) fn bounds() {
    let names: Vec<_> = (0..40).map(|number| format!("bpf_metadata_v{number:02}")).collect();
    let long = [b'x'; 4000];
    let variables: Vec<_> = names.iter().map(|name| (&**name, Kind::Text, &long[..])).collect();
    let many = using(&[&frozen(&variables)]);
    let long_name = format!("bpf_metadata_{}", "n".repeat(110));
    let long_key = using(&[&frozen(&[(&long_name, Kind::Bool, &[0])])]);
    let snapshot = readers::best().read();
    let found = of(&snapshot, &many);
    assert_eq!(found.len(), 16);
    assert!(found.iter().all(|(_, value)| *value == "x".repeat(128)), "{found:?}");
    assert_eq!(of(&snapshot, &long_key), [("n".repeat(110), "false".to_owned())]);
}
