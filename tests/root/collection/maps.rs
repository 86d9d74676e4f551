//! Maps: every type and every field.

use bpf_metrics_exporter::model::ReaderKind;

use super::read;
use test_support::objects::{Map, MapSpec, MapTypes, Shape, Types, every_map_type, uapi};

pub(crate) fn every_type_is_reported(backend: ReaderKind) {
    let made = every_map_type();
    let maps = read(backend).maps.expect("maps can be listed");
    let mut types = 0;
    for (number, map) in &made {
        // A type that this kernel was built without cannot be made.
        let Ok(map) = map else { continue };
        let found = maps.iter().find(|found| found.facts.id == map.id());
        let found = &found.unwrap_or_else(|| panic!("a map of type {number} is not reported")).facts;
        let shape = map.shape();
        // The kernel marks this type as read-only for programs by itself; the first kernels that have it (6.19) do not.
        let added = if *number == uapi::map_type::INSN_ARRAY { uapi::map_flag::RDONLY_PROG } else { 0 };
        assert_eq!(found.map_type.number, *number);
        assert!(found.map_type.name.is_some(), "type {number} has a name");
        assert_eq!(
            (found.key_size, found.value_size, found.max_entries, found.flags & !added),
            (shape.key_size, shape.value_size, shape.max_entries, shape.flags),
            "type {number}"
        );
        types += 1;
    }
    assert!(types >= 25, "only {types} types of map could be made: {made:#?}");
}

pub(crate) fn btf(backend: ReaderKind) {
    let mut types = Types::default();
    let key = types.integer("int", 4);
    let value = types.integer("long", 8);
    let btf = test_support::objects::Btf::load(&types).expect("BTF can be loaded");
    let shape =
        Shape { kind: uapi::map_type::HASH, key_size: 4, value_size: 8, max_entries: 3, ..Shape::default() };
    let types = Some(MapTypes { btf: &btf, key, value, kernel_value: 0 });
    let map =
        Map::create(&MapSpec { name: "typed.map_1", shape, inner: None, types }).expect("it can be made");
    let maps = read(backend).maps.expect("maps can be listed");
    let found = &maps.iter().find(|found| found.facts.id == map.id()).expect("the map is reported").facts;
    assert_eq!((&*found.name, found.btf_id), ("typed.map_1", Some(btf.id())));
}
