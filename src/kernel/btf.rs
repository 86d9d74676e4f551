//! The names of functions in BTF, for programs whose own name was cut at 15 characters and for what is attached to them.
//! Knows the format (`Documentation/bpf/btf.rst`) only as far as to step from one type to the next.

use std::fmt;
use std::sync::Arc;

const MAGIC: u16 = 0xeb9f;
/// `struct btf_type`: name, kind and count, size or type.
const TYPE_LEN: usize = 12;

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_ENUM64: u32 = 19;

/// The names of all functions in a BTF object, by type id.
pub(super) struct Functions {
    data: Vec<u8>,
    /// Where the names begin in `data`.
    strings: usize,
    /// Type id and offset of the name, ascending.
    names: Vec<(u32, u32)>,
    /// The first type id behind those of this object.
    end: u32,
    of: Owner,
}

/// Whom a BTF object describes.
enum Owner {
    Program,
    Kernel,
    /// A module, whose types and names go on where those of the kernel end.
    Module(Arc<Functions>),
}

impl Functions {
    /// Finds the functions of a program's BTF object. What is not well formed has none from there on.
    pub(super) fn parse(data: Vec<u8>) -> Self {
        Self::new(data, Owner::Program)
    }

    /// Finds the functions of the kernel.
    pub(super) fn of_vmlinux(data: Vec<u8>) -> Self {
        Self::new(data, Owner::Kernel)
    }

    /// Finds the functions of a module.
    pub(super) fn of_module(data: Vec<u8>, vmlinux: Arc<Self>) -> Self {
        Self::new(data, Owner::Module(vmlinux))
    }

    fn new(data: Vec<u8>, of: Owner) -> Self {
        // Type id 0 is `void` and not in the table.
        let first = if let Owner::Module(vmlinux) = &of { vmlinux.end } else { 1 };
        let found = find(&data, first).unwrap_or_default();
        Self { data, strings: found.strings, names: found.names, end: found.end, of }
    }

    /// Whether they are the kernel's or a module's.
    pub(super) fn of_kernel(&self) -> bool {
        !matches!(self.of, Owner::Program)
    }

    /// The name of the function that has this type id.
    pub(super) fn name(&self, type_id: u32) -> Option<&[u8]> {
        let index = self.names.binary_search_by_key(&type_id, |&(id, _)| id).ok()?;
        self.string(self.names[index].1 as usize)
    }

    fn string(&self, offset: usize) -> Option<&[u8]> {
        let offset = match &self.of {
            Owner::Module(vmlinux) => {
                let Some(own) = offset.checked_sub(vmlinux.strings_len()) else {
                    return vmlinux.string(offset);
                };
                own
            }
            Owner::Program | Owner::Kernel => offset,
        };
        let name = self.data.get(self.strings.checked_add(offset)?..)?;
        let end = name.iter().position(|&byte| byte == 0)?;
        (end > 0).then(|| &name[..end])
    }

    fn strings_len(&self) -> usize {
        word(&self.data, 20).map_or(0, |len| len as usize)
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Functions({})", self.names.len())
    }
}

/// Where the names begin, the functions among the types, and the type id that follows the last.
#[derive(Default)]
struct Found {
    strings: usize,
    names: Vec<(u32, u32)>,
    end: u32,
}

fn find(data: &[u8], first: u32) -> Option<Found> {
    if data.get(..2)? != MAGIC.to_le_bytes() {
        return None;
    }
    let header_len = word(data, 4)? as usize;
    let types = header_len.checked_add(word(data, 8)? as usize)?;
    let types_end = types.checked_add(word(data, 12)? as usize)?;
    let strings = header_len.checked_add(word(data, 16)? as usize)?;

    let mut names = Vec::new();
    let mut at = types;
    let mut id = first;
    while at + TYPE_LEN <= types_end {
        let (Some(name), Some(info)) = (word(data, at), word(data, at + 4)) else { break };
        let Some(tail) = tail_len((info >> 24) & 0x1f, (info & 0xffff) as usize) else { break };
        if (info >> 24) & 0x1f == KIND_FUNC {
            names.push((id, name));
        }
        at += TYPE_LEN + tail;
        id = id.checked_add(1)?;
    }
    Some(Found { strings, names, end: id })
}

/// How many bytes follow a type of this kind with this many members; `None` for a kind that is not known.
fn tail_len(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * members,
        KIND_ENUM | KIND_FUNC_PROTO => 8 * members,
        // Pointers, forward declarations, names of types, qualifiers, floats and tags, and functions themselves.
        2 | 7..=KIND_FUNC | 16 | 18 => 0,
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

    /// A BTF object with one integer, one prototype with a parameter and one function.
    fn example() -> Vec<u8> {
        let strings = b"\0int\0ctx\0a_function_with_a_long_name\0";
        let mut types = Vec::new();
        let mut push = |words: &[u32]| types.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        push(&[1, KIND_INT << 24, 4, 32]);
        push(&[0, KIND_FUNC_PROTO << 24 | 1, 1, 5, 1]);
        push(&[9, KIND_FUNC << 24 | 1, 2]);
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a small example");
        let (types_len, strings_len) = (len(&types), len(strings));
        let mut data = MAGIC.to_le_bytes().to_vec();
        data.extend([1, 0]);
        data.extend(
            [24, 0, types_len, types_len, strings_len].iter().flat_map(|word: &u32| word.to_le_bytes()),
        );
        data.extend(&types);
        data.extend(strings);
        data
    }

    #[test]
    fn a_function_has_its_full_name() {
        let functions = Functions::parse(example());
        assert_eq!(functions.name(3), Some(&b"a_function_with_a_long_name"[..]));
        assert_eq!(functions.name(1), None, "an integer is not a function");
        assert_eq!(functions.name(4), None, "there is no fourth type");
    }

    /// The BTF object of a module with two functions: one whose name is the kernel's, one with a name of its own.
    fn module() -> Vec<u8> {
        let base_strings = u32::from(example()[20]);
        let strings = b"\0own_name\0";
        let types = [[9, KIND_FUNC << 24, 2], [base_strings + 1, KIND_FUNC << 24, 2]].concat();
        let mut data = MAGIC.to_le_bytes().to_vec();
        data.extend([1, 0]);
        data.extend([24, 0, 24, 24, 10].iter().chain(&types).flat_map(|word: &u32| word.to_le_bytes()));
        data.extend(strings);
        data
    }

    #[test]
    fn the_types_and_names_of_a_module_go_on_where_the_kernels_end() {
        let vmlinux = Arc::new(Functions::of_vmlinux(example()));
        let functions = Functions::of_module(module(), Arc::clone(&vmlinux));
        assert_eq!(functions.name(3), None, "that is the kernel's");
        assert_eq!(functions.name(4), Some(&b"a_function_with_a_long_name"[..]));
        assert_eq!(functions.name(5), Some(&b"own_name"[..]));
        assert!(functions.of_kernel() && vmlinux.of_kernel() && !Functions::parse(example()).of_kernel());
    }

    proptest! {
        #[test]
        fn damaged_data_is_read_without_harm(place in 0..example().len(), byte: u8, cut in 0..example().len()) {
            let mut data = example();
            data[place] = byte;
            data.truncate(cut.max(1));
            let damaged = Arc::new(Functions::of_vmlinux(data));
            let resting = Functions::of_module(module(), Arc::clone(&damaged));
            for id in 0..8 {
                let _names = (damaged.name(id), resting.name(id));
            }
        }
    }
}
