//! BTF types: full names of programs, which the kernel truncates at 15 characters, names of attach targets, and `struct_ops`.
//!
//! Entry point: [`Types::parse`]. The format is `Documentation/bpf/btf.rst`; parsing steps from one type to the next.

pub(crate) mod cache;
mod object;
mod search;
mod variables;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub(crate) use self::search::search;
pub(crate) use self::variables::{Scalar, Variable};
use crate::text::printable;

const MAGIC: u16 = 0xeb9f;
/// `struct btf_type`: name, kind and count, size or type.
const TYPE_LEN: usize = 12;

const KIND_INT: u32 = 1;
const KIND_POINTER: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// The number of types between two indexed ones: a lookup takes at most as many steps.
const STRIDE: usize = 256;

/// The prefix of a tracepoint's name in the name of its type.
const TRACEPOINT_PREFIX: &[u8] = b"btf_trace_";

/// The types of a BTF object, by id.
pub(crate) struct Types {
    data: Vec<u8>,
    /// The object that this one extends: its ids and name offsets continue those of the base.
    base: Option<Arc<Types>>,
    /// The number of types, without those of the base.
    count: usize,
    /// The offset of every [`STRIDE`]th type.
    index: Vec<usize>,
    /// The range of the names.
    names: Range<usize>,
}

impl fmt::Debug for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Types({})", self.count)
    }
}

/// A structure of functions that programs can implement (`struct_ops`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operations {
    /// Its name: `tcp_congestion_ops`.
    pub(crate) name: String,
    /// The offsets of the functions in a map's value, in bytes.
    pub(crate) functions: Vec<usize>,
}

/// The start of a type.
#[derive(Clone, Copy)]
struct Head {
    name: usize,
    kind: u32,
    /// The offset of the next type.
    next: usize,
}

impl Types {
    /// Indexes the types of a BTF object, up to the first malformed one. The `base` of a module's object is the kernel's.
    pub(crate) fn parse(data: Vec<u8>, base: Option<Arc<Self>>) -> Self {
        let mut types = Self { data, base, count: 0, index: Vec::new(), names: 0..0 };
        if let Some((range, names)) = sections(&types.data) {
            types.names = names;
            let mut at = range.start;
            while let Some(head) = head(&types.data[..range.end], at) {
                if types.count.is_multiple_of(STRIDE) {
                    types.index.push(at);
                }
                types.count += 1;
                at = head.next;
            }
        }
        types
    }

    /// Returns the name of the function with a type id.
    pub(crate) fn function(&self, type_id: u32) -> Option<&[u8]> {
        self.named(type_id).filter(|&(kind, _)| kind == KIND_FUNC).map(|(_, name)| name)
    }

    /// Returns the name of the attach target with a type id: a function, or a tracepoint without the prefix of its type.
    pub(crate) fn attach_target(&self, type_id: u32) -> Option<&[u8]> {
        match self.named(type_id)? {
            (KIND_FUNC, name) => Some(name),
            (KIND_TYPEDEF, name) => name.strip_prefix(TRACEPOINT_PREFIX),
            _ => None,
        }
    }

    /// Returns the structure that a `struct_ops` map implements, by the type id of the map's values, which wrap the structure
    /// (`bpf_struct_ops_map_alloc`, `kernel/bpf/bpf_struct_ops.c`).
    pub(crate) fn operations(&self, value_type_id: u32) -> Option<Operations> {
        let (_, wrapped, start) =
            self.members(value_type_id)?.into_iter().find(|(name, ..)| name == b"data")?;
        let (_, name) = self.named(wrapped)?;
        let functions =
            self.members(wrapped)?.into_iter().filter(|&(_, type_id, _)| self.points_to_function(type_id));
        let functions = functions.map(|(.., offset)| start + offset).collect();
        Some(Operations { name: printable(name), functions })
    }

    /// Returns the members of a structure: name, type id, and offset in bytes.
    fn members(&self, type_id: u32) -> Option<Vec<(Vec<u8>, u32, usize)>> {
        let (object, at) = self.locate(type_id)?;
        let structure = head(&object.data, at).filter(|head| head.kind == KIND_STRUCT)?;
        let members = (at + TYPE_LEN..structure.next).step_by(12).map(|member| {
            let name = object.name(word(&object.data, member)? as usize)?.to_vec();
            // In a structure with bit fields, the upper 8 bits are a width.
            let bits = word(&object.data, member + 8)? & 0x00ff_ffff;
            Some((name, word(&object.data, member + 4)?, bits as usize / 8))
        });
        members.collect()
    }

    fn points_to_function(&self, type_id: u32) -> bool {
        let pointed = self.bare(type_id).filter(|&(kind, _)| kind == KIND_POINTER);
        pointed.and_then(|(_, to)| self.bare(to)).is_some_and(|(kind, _)| kind == KIND_FUNC_PROTO)
    }

    /// Returns the kind of a type without typedefs and qualifiers, and the type that it refers to.
    fn bare(&self, type_id: u32) -> Option<(u32, u32)> {
        let (object, at, kind) = self.unqualified(type_id)?;
        Some((kind, word(&object.data, at + 8)?))
    }

    /// Resolves typedefs and qualifiers of a type: returns the object that contains the type, its offset and kind.
    fn unqualified(&self, type_id: u32) -> Option<(&Self, usize, u32)> {
        /// More than occur in practice; a type that refers to itself would never end.
        const MAX_DEPTH: usize = 32;
        let mut type_id = type_id;
        for _ in 0..MAX_DEPTH {
            let (object, at) = self.locate(type_id)?;
            let kind = head(&object.data, at)?.kind;
            if ![KIND_TYPEDEF, KIND_VOLATILE, KIND_CONST, KIND_RESTRICT, KIND_TYPE_TAG].contains(&kind) {
                return Some((object, at, kind));
            }
            type_id = word(&object.data, at + 8)?;
        }
        None
    }

    /// Returns the kind and name of a named type.
    fn named(&self, type_id: u32) -> Option<(u32, &[u8])> {
        let (object, at) = self.locate(type_id)?;
        let head = head(&object.data, at)?;
        let name = object.name(head.name)?;
        (!name.is_empty()).then_some((head.kind, name))
    }

    /// Returns the object that contains a type, this one or its base, and the offset of the type.
    fn locate(&self, type_id: u32) -> Option<(&Self, usize)> {
        // Type id 0 is `void`, which has no record.
        let first = self.base.as_ref().map_or(0, |base| base.end()) + 1;
        let Some(index) = (type_id as usize).checked_sub(first) else {
            return self.base.as_ref()?.locate(type_id);
        };
        if index >= self.count {
            return None;
        }
        let mut at = *self.index.get(index / STRIDE)?;
        for _ in 0..index % STRIDE {
            at = head(&self.data, at)?.next;
        }
        Some((self, at))
    }

    /// Returns the last type id.
    fn end(&self) -> usize {
        self.base.as_ref().map_or(0, |base| base.end()) + self.count
    }

    /// Returns the name at an offset.
    pub(crate) fn name(&self, offset: usize) -> Option<&[u8]> {
        let before = self.base.as_ref().map_or(0, |base| base.names.len());
        let Some(offset) = offset.checked_sub(before) else { return self.base.as_ref()?.name(offset) };
        let name = self.data.get(self.names.clone())?.get(offset..)?;
        let end = name.iter().position(|&byte| byte == 0)?;
        Some(&name[..end])
    }
}

/// Returns the ranges of types and names.
fn sections(data: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
    if data.get(..2)? != MAGIC.to_le_bytes() {
        return None;
    }
    let header_len = word(data, 4)? as usize;
    let section = |offset: usize, len: usize| {
        let start = header_len.checked_add(word(data, offset)? as usize)?.min(data.len());
        Some(start..start.checked_add(word(data, len)? as usize)?.min(data.len()))
    };
    Some((section(8, 12)?, section(16, 20)?))
}

/// Parses the start of the type at an offset; `None` if the type does not end within the data.
fn head(data: &[u8], at: usize) -> Option<Head> {
    let info = word(data, at + 4)?;
    let kind = (info >> 24) & 0x1f;
    let next = at + TYPE_LEN + tail_len(kind, (info & 0xffff) as usize)?;
    (next <= data.len()).then_some(Head { name: word(data, at)? as usize, kind, next })
}

/// Returns every enumerator with its value and the name of its enumeration, which is empty for an anonymous one.
#[cfg(test)]
pub(crate) fn all_enumerators(data: &[u8]) -> Vec<(String, String, u32)> {
    let (types, strings) = sections(data).expect("it is BTF");
    let name = |offset: u32| {
        let bytes = data[strings.clone()][offset as usize..].split(|&byte| byte == 0).next();
        String::from_utf8_lossy(bytes.expect("a split has a first part")).into_owned()
    };
    let (mut enumerators, mut at) = (Vec::new(), types.start);
    while let Some(head) = head(&data[..types.end], at) {
        for member in (at + TYPE_LEN..head.next).step_by(8).take_while(|_| head.kind == KIND_ENUM) {
            let word = |at| word(data, at).expect("the type ends within the data");
            let enumeration = name(u32::try_from(head.name).expect("it was 32 bits"));
            enumerators.push((enumeration, name(word(member)), word(member + 4)));
        }
        at = head.next;
    }
    enumerators
}

/// Returns the number of bytes after the start of a type; `None` for an unsupported kind.
fn tail_len(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * members,
        KIND_ENUM | KIND_FUNC_PROTO => 8 * members,
        // Pointers, forward declarations, typedefs, qualifiers, functions, floats and type tags.
        KIND_POINTER | 7..=KIND_FUNC | 16 | KIND_TYPE_TAG => 0,
        _ => return None,
    })
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Builds a BTF object.
    pub(super) fn object(types: &[&[u32]], strings: &[u8]) -> Vec<u8> {
        let types: Vec<u8> = types.iter().copied().flatten().flat_map(|word| word.to_le_bytes()).collect();
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a small example");
        let (types_len, strings_len) = (len(&types), len(strings));
        let header = [24, 0, types_len, types_len, strings_len];
        let mut data = MAGIC.to_le_bytes().to_vec();
        data.extend([1, 0]);
        data.extend(header.iter().flat_map(|word: &u32| word.to_le_bytes()));
        data.extend(&types);
        data.extend(strings);
        data
    }

    /// Builds an object with an integer, a prototype with a parameter, a function and a tracepoint.
    fn example() -> Vec<u8> {
        let types: [&[u32]; 4] = [
            &[1, KIND_INT << 24, 4, 32],
            &[0, KIND_FUNC_PROTO << 24 | 1, 1, 5, 1],
            &[9, KIND_FUNC << 24 | 1, 2],
            &[37, KIND_TYPEDEF << 24, 2],
        ];
        object(&types, b"\0int\0ctx\0a_function_with_a_long_name\0btf_trace_sys_enter\0")
    }

    #[test]
    fn a_function_has_its_full_name() {
        let types = Types::parse(example(), None);
        assert_eq!(types.function(3), Some(&b"a_function_with_a_long_name"[..]));
        assert_eq!(types.function(0), None, "void is not a function");
        assert_eq!(types.function(1), None, "an integer is not a function");
        assert_eq!(types.function(5), None, "there is no fifth type");
    }

    #[test]
    fn a_tracepoint_has_its_name_without_the_prefix_of_its_type() {
        let types = Types::parse(example(), None);
        assert_eq!(types.attach_target(3), types.function(3));
        assert_eq!(types.attach_target(4), Some(&b"sys_enter"[..]));
        assert_eq!(types.function(4), None);
        assert_eq!(types.attach_target(1), None, "an integer is not an attach target");
    }

    #[test]
    fn types_and_names_of_a_module_continue_those_of_the_kernel() {
        let base = Arc::new(Types::parse(example(), None));
        let names = u32::try_from(base.names.len()).expect("a small example");
        let types: [&[u32]; 2] = [&[names, KIND_FUNC << 24, 2], &[9, KIND_FUNC << 24, 2]];
        let module = Types::parse(object(&types, b"of_the_module\0"), Some(Arc::clone(&base)));
        assert_eq!(module.function(3), base.function(3));
        assert_eq!(module.function(5), Some(&b"of_the_module"[..]));
        assert_eq!(module.function(6), base.function(3), "a shared name is stored in the kernel's object");
        assert_eq!(module.function(7), None);
    }

    #[test]
    fn types_between_indexed_ones_are_found() {
        let count = 3 * STRIDE + 1;
        let mut strings = vec![0];
        let types: Vec<[u32; 3]> = (1..=count)
            .map(|id| {
                let name = u32::try_from(strings.len()).expect("a small example");
                strings.extend(format!("f{id}\0").into_bytes());
                [name, KIND_FUNC << 24, 0]
            })
            .collect();
        let types: Vec<&[u32]> = types.iter().map(|words| &words[..]).collect();
        let types = Types::parse(object(&types, &strings), None);
        for id in 1..=count {
            let type_id = u32::try_from(id).expect("there are few");
            assert_eq!(types.function(type_id), Some(format!("f{id}").as_bytes()));
        }
    }

    proptest! {
        #[test]
        fn malformed_data_does_not_panic(offset in 0..example().len(), byte: u8, cut in 0..example().len()) {
            let mut data = example();
            data[offset] = byte;
            data.truncate(cut.max(1));
            let base = Arc::new(Types::parse(data, None));
            let module = Types::parse(example(), Some(Arc::clone(&base)));
            for id in 0..12 {
                let _names = (base.attach_target(id), module.attach_target(id));
                let _structures = (base.operations(id), module.operations(id));
            }
        }
    }
}
