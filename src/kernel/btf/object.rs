//! The BTF of a compiled object: definitions of its maps, and the layout of its sections, which compilers leave to the loader.
//!
//! Entry points: [`Types::map_definitions`] and [`Types::lay_out_sections`].

use std::iter;

use super::{
    Head, KIND_ARRAY, KIND_DATASEC, KIND_ENUM, KIND_ENUM64, KIND_INT, KIND_POINTER, KIND_STRUCT, KIND_UNION,
    KIND_VAR, TYPE_LEN, Types, head, sections, word,
};
use crate::sys::bpf::MapDefinition;

/// `struct btf_var_secinfo`: the type, offset and size of a variable.
const VARIABLE_LEN: usize = 12;

impl Types {
    /// The object as `BPF_BTF_LOAD` takes it.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Returns the maps that are declared in the section `.maps`. `None` where a declaration is malformed, or has an attribute that is
    /// not supported.
    ///
    /// A declaration is a structure with a member for each attribute: numbers are the lengths of arrays, types those of pointers
    /// (`__uint` and `__type` of libbpf's `bpf_helpers.h`).
    pub(crate) fn map_definitions(&self) -> Option<Vec<MapDefinition>> {
        let is_maps = |head: &Head| head.kind == KIND_DATASEC && self.name(head.name) == Some(b".maps");
        let Some((at, section)) = self.heads().find(|(_, head)| is_maps(head)) else {
            return Some(Vec::new());
        };
        let variables = (at + TYPE_LEN..section.next).step_by(VARIABLE_LEN);
        variables.map(|variable| self.map_definition(word(&self.data, variable)?)).collect()
    }

    fn map_definition(&self, variable: u32) -> Option<MapDefinition> {
        let (_, at) = self.locate(variable)?;
        let head = head(&self.data, at).filter(|head| head.kind == KIND_VAR)?;
        let name = String::from_utf8(self.name(head.name)?.to_vec()).ok()?;
        let mut map = MapDefinition { name, ..MapDefinition::default() };
        for (attribute, type_id, _) in self.members(word(&self.data, at + 8)?)? {
            let (_, to) = self.bare(type_id).filter(|&(kind, _)| kind == KIND_POINTER)?;
            match &attribute[..] {
                b"type" => map.map_type = self.array_len(to)?,
                b"max_entries" => map.max_entries = self.array_len(to)?,
                b"map_flags" => map.flags = self.array_len(to)?,
                b"key" => (map.key_type_id, map.key_size) = (to, self.size(to)?),
                b"value" => (map.value_type_id, map.value_size) = (to, self.size(to)?),
                _ => return None,
            }
        }
        Some(map)
    }

    /// Sets the size of each section, and the offsets and order of its variables, which only the ELF file has. The kernel refuses
    /// sections without a size (`btf_datasec_check_meta`, `kernel/bpf/btf.c`).
    ///
    /// `None` for a section or variable that is malformed or has no size or offset.
    pub(crate) fn lay_out_sections(
        &mut self,
        section_size: impl Fn(&[u8]) -> Option<u32>,
        variable_offset: impl Fn(&[u8]) -> Option<u32>,
    ) -> Option<()> {
        let sections: Vec<_> = self.heads().filter(|(_, head)| head.kind == KIND_DATASEC).collect();
        for (at, section) in sections {
            let size = section_size(self.name(section.name)?)?;
            let variables = (at + TYPE_LEN..section.next).step_by(VARIABLE_LEN);
            let variables = variables.map(|variable| {
                let type_id = word(&self.data, variable)?;
                let (_, name) = self.named(type_id)?;
                Some([variable_offset(name)?, type_id, word(&self.data, variable + 8)?])
            });
            let mut variables: Vec<_> = variables.collect::<Option<_>>()?;
            variables.sort_unstable();
            let words = variables.into_iter().flat_map(|[offset, type_id, size]| [type_id, offset, size]);
            let words = iter::once(size).chain(words);
            for (place, word) in self.data[at + 8..section.next].chunks_exact_mut(4).zip(words) {
                place.copy_from_slice(&word.to_le_bytes());
            }
        }
        Some(())
    }

    /// All types of the object: offset and head of each.
    fn heads(&self) -> impl Iterator<Item = (usize, Head)> {
        let range = sections(&self.data).map_or(0..0, |(types, _)| types);
        let types = &self.data[..range.end];
        let first = head(types, range.start).map(|first| (range.start, first));
        iter::successors(first, |(_, last)| Some((last.next, head(types, last.next)?)))
    }

    fn array_len(&self, type_id: u32) -> Option<u32> {
        let (object, at) = self.locate(type_id)?;
        head(&object.data, at).filter(|head| head.kind == KIND_ARRAY)?;
        word(&object.data, at + TYPE_LEN + 8)
    }

    /// The size of a value of this type in bytes.
    fn size(&self, type_id: u32) -> Option<u32> {
        /// An array that is its own element has no end.
        const MAX_DIMENSIONS: usize = 8;
        let (mut type_id, mut count) = (type_id, 1_u32);
        for _ in 0..MAX_DIMENSIONS {
            let (object, at, kind) = self.unqualified(type_id)?;
            match kind {
                KIND_INT | KIND_STRUCT | KIND_UNION | KIND_ENUM | KIND_ENUM64 => {
                    return word(&object.data, at + 8)?.checked_mul(count);
                }
                KIND_POINTER => return count.checked_mul(8),
                KIND_ARRAY => {
                    count = count.checked_mul(word(&object.data, at + TYPE_LEN + 8)?)?;
                    type_id = word(&object.data, at + TYPE_LEN)?;
                }
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::object;
    use super::super::{KIND_FUNC, KIND_TYPEDEF};
    use super::*;

    /// Two maps in `.maps`, in another order than in the section: a hash of 7 entries and an array of structures.
    fn example() -> Vec<u8> {
        let types: [&[u32]; 14] = [
            // 1: an integer, 2: another name of it
            &[1, KIND_INT << 24, 4, 32],
            &[5, KIND_TYPEDEF << 24, 1],
            // 3: a structure of 24 bytes, 4: two of them
            &[9, KIND_STRUCT << 24, 24],
            &[0, KIND_ARRAY << 24, 0, 3, 1, 2],
            // 5, 6: the number 1; 7, 8: the number 7
            &[0, KIND_ARRAY << 24, 0, 1, 1, 1],
            &[0, KIND_POINTER << 24, 5],
            &[0, KIND_ARRAY << 24, 0, 1, 1, 7],
            &[0, KIND_POINTER << 24, 7],
            // 9, 10: pointers to a key and a value
            &[0, KIND_POINTER << 24, 2],
            &[0, KIND_POINTER << 24, 4],
            // 11, 12: a declaration and its variable
            &[0, KIND_STRUCT << 24 | 4, 32, 15, 6, 0, 20, 8, 64, 32, 9, 128, 36, 10, 192],
            &[42, KIND_VAR << 24, 11, 1],
            &[48, KIND_VAR << 24, 11, 1],
            &[55, KIND_DATASEC << 24 | 2, 0, 13, 0, 32, 12, 0, 32],
        ];
        object(&types, b"\0int\0u32\0value\0type\0max_entries\0key\0value\0first\0second\0.maps\0")
    }

    fn map(name: &str) -> MapDefinition {
        MapDefinition {
            name: name.to_owned(),
            map_type: 1,
            key_size: 4,
            value_size: 48,
            max_entries: 7,
            flags: 0,
            key_type_id: 2,
            value_type_id: 4,
        }
    }

    fn section_size(name: &[u8]) -> Option<u32> {
        (name == b".maps").then_some(64)
    }

    fn variable_offset(name: &[u8]) -> Option<u32> {
        [&b"first"[..], b"second"].iter().position(|of| *of == name)?.checked_mul(32)?.try_into().ok()
    }

    #[test]
    fn maps_are_defined_by_the_types_of_their_variables() {
        let types = Types::parse(example(), None);
        assert_eq!(types.map_definitions(), Some(vec![map("second"), map("first")]));
        let without = object(&[&[1, KIND_FUNC << 24, 0]], b"\0name\0");
        assert_eq!(Types::parse(without, None).map_definitions(), Some(Vec::new()));
    }

    #[test]
    fn an_attribute_that_is_not_supported_is_refused() {
        let mut data = example();
        let place = data.windows(11).position(|name| name == b"max_entries").expect("it is there");
        data[place] = b'M';
        assert_eq!(Types::parse(data, None).map_definitions(), None);
    }

    #[test]
    fn sections_are_laid_out_as_in_the_file() {
        let mut types = Types::parse(example(), None);
        types.lay_out_sections(section_size, variable_offset).expect("all are in the file");
        assert_eq!(types.map_definitions(), Some(vec![map("first"), map("second")]));
        let (at, section) = types.heads().last().expect("there are types");
        let words: Vec<_> =
            (at + 8..section.next).step_by(4).filter_map(|at| word(&types.data, at)).collect();
        assert_eq!(words, [64, 12, 0, 32, 13, 32, 32]);

        let mut types = Types::parse(example(), None);
        assert_eq!(types.lay_out_sections(|_| None, variable_offset), None);
        assert_eq!(types.lay_out_sections(section_size, |_| None), None);
    }

    proptest! {
        #[test]
        fn damaged_objects_do_not_panic(place in 0..example().len(), byte: u8, cut in 0..example().len()) {
            let mut data = example();
            data[place] = byte;
            data.truncate(example().len() - cut);
            let mut types = Types::parse(data, None);
            let _laid_out = types.lay_out_sections(section_size, variable_offset);
            let _maps = types.map_definitions();
        }
    }
}
