//! Streaming search of the kernel's BTF by name, without loading its 5 MB.
//!
//! Entry point: [`search`].

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::{KIND_ENUM, KIND_FUNC, MAGIC, TYPE_LEN, tail_len};

/// `struct btf_header`; sections are relative to its end.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct BtfHeader {
    magic: U16,
    version: u8,
    flags: u8,
    len: U32,
    types: U32,
    types_len: U32,
    names: U32,
    names_len: U32,
}

/// `struct btf_type`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct BtfType {
    name: U32,
    info: U32,
    /// A size or the id of another type.
    value: U32,
}
const _: () = assert!(size_of::<BtfType>() == TYPE_LEN);

/// `struct btf_enum`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Enumerator {
    name: U32,
    value: U32,
}

/// Type ids of functions and values of enumerators, in the order of their names.
pub(crate) type SearchResult<const F: usize, const E: usize> = ([Option<u32>; F], [Option<u32>; E]);

/// Returns the type ids of the functions and the values of the enumerators of these names, the latter in any enumeration, even one
/// without a name. `None` for a name that does not occur.
///
/// The file has the names after the types that refer to them; they are read first, in one pass over each.
///
/// # Errors
///
/// Those of the file; `InvalidData` and `UnexpectedEof` for a file that is not well-formed BTF.
pub(crate) fn search<const F: usize, const E: usize>(
    file: impl Read + Seek,
    functions: [&str; F],
    enumerators: [&str; E],
) -> io::Result<SearchResult<F, E>> {
    // A read of a file in sysfs returns one page at most (`kernfs_file_read_iter`, `fs/kernfs/file.c`).
    let mut file = BufReader::with_capacity(4096, file);
    let header: BtfHeader = read(&mut file)?;
    if header.magic.get() != MAGIC {
        return Err(invalid("the magic number of BTF is missing"));
    }
    let section = |offset: U32| SeekFrom::Start(u64::from(header.len.get()) + u64::from(offset.get()));
    file.seek(section(header.names))?;
    let (function_names, enumerator_names) =
        offsets(&mut file, header.names_len.get(), functions, enumerators)?;

    file.seek(section(header.types))?;
    let (mut type_ids, mut values) = ([None; F], [None; E]);
    let mut left = header.types_len.get() as usize;
    let mut id = 0;
    let is_complete =
        |type_ids: &[Option<u32>], values: &[Option<u32>]| type_ids.iter().chain(values).all(Option::is_some);
    // Types after the last one that is needed may be of kinds that this program does not know.
    while left > 0 && !is_complete(&type_ids, &values) {
        // Type id 0 is `void` and not in the table.
        id += 1;
        let of: BtfType = read(&mut file)?;
        let (kind, members) = ((of.info.get() >> 24) & 0x1f, (of.info.get() & 0xffff) as usize);
        let tail = tail_len(kind, members).ok_or_else(|| invalid("a type is of an unknown kind"))?;
        left = left.checked_sub(TYPE_LEN + tail).ok_or_else(|| invalid("the last type is cut"))?;
        if kind == KIND_ENUM {
            for _ in 0..members {
                let Enumerator { name, value } = read(&mut file)?;
                set(&mut values, &enumerator_names, name.get(), value.get());
            }
            continue;
        }
        if kind == KIND_FUNC {
            set(&mut type_ids, &function_names, of.name.get(), id);
        }
        file.seek_relative(i64::try_from(tail).expect("at most 12 times 65535"))?;
    }
    Ok((type_ids, values))
}

/// Sets the values of a name, by its offset; the first of several stays.
fn set<const N: usize>(values: &mut [Option<u32>; N], offsets: &[Option<u32>; N], name: u32, value: u32) {
    for (slot, _) in values.iter_mut().zip(offsets).filter(|(_, offset)| **offset == Some(name)) {
        slot.get_or_insert(value);
    }
}

/// Returns the offsets of names among those of a BTF object, each of which occurs once.
fn offsets<const F: usize, const E: usize>(
    file: &mut impl BufRead,
    len: u32,
    functions: [&str; F],
    enumerators: [&str; E],
) -> io::Result<SearchResult<F, E>> {
    let (mut of_functions, mut of_enumerators) = ([None; F], [None; E]);
    let mut name = Vec::new();
    let mut offset = 0;
    while offset < len {
        name.clear();
        let read = file.read_until(0, &mut name)?;
        if name.pop() != Some(0) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let slots = of_functions.iter_mut().zip(functions).chain(of_enumerators.iter_mut().zip(enumerators));
        for (slot, _) in slots.filter(|(_, wanted)| wanted.as_bytes() == name) {
            slot.get_or_insert(offset);
        }
        offset = offset.saturating_add(u32::try_from(read).unwrap_or(u32::MAX));
    }
    Ok((of_functions, of_enumerators))
}

fn read<T: FromZeros + FromBytes + IntoBytes>(file: &mut impl Read) -> io::Result<T> {
    let mut value = T::new_zeroed();
    file.read_exact(value.as_mut_bytes())?;
    Ok(value)
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::super::tests::object;
    use super::super::{KIND_FUNC_PROTO, KIND_INT};
    use super::*;

    /// An integer, an enumeration without a name, a prototype with a parameter, and two functions, one of them twice.
    fn example() -> Vec<u8> {
        let types: [&[u32]; 6] = [
            &[1, KIND_INT << 24, 4, 32],
            &[0, KIND_ENUM << 24 | 2, 4, 5, 7, 11, 9],
            &[0, KIND_FUNC_PROTO << 24 | 1, 1, 5, 1],
            &[18, KIND_FUNC << 24 | 1, 3],
            &[22, KIND_FUNC << 24 | 1, 3],
            &[18, KIND_FUNC << 24 | 1, 3],
        ];
        object(&types, b"\0int\0FIRST\0SECOND\0one\0two\0")
    }

    #[test]
    fn functions_and_enumerators_are_found_by_their_full_names() {
        let found =
            search(Cursor::new(example()), ["two", "one", "wo", "int"], ["SECOND", "FIRST", "FIR", "int"]);
        let found = found.expect("it is well-formed");
        assert_eq!(found, ([Some(5), Some(4), None, None], [Some(9), Some(7), None, None]));
    }

    #[test]
    fn malformed_files_are_errors() {
        let complete = example();
        for len in 0..complete.len() {
            assert!(search(Cursor::new(&complete[..len]), ["one"], []).is_err(), "{len} bytes");
        }
        let mut unknown_kind = complete.clone();
        unknown_kind[24 + 7] = 31;
        assert!(search(Cursor::new(unknown_kind), ["one"], []).is_err());
        assert!(search(Cursor::new(b"no types at all, but longer than a header"), ["one"], []).is_err());
    }

    #[test]
    fn the_kernel_has_its_iterators_and_flags() {
        let Ok(file) = File::open("/sys/kernel/btf/vmlinux") else { return };
        let (functions, flags) =
            search(file, ["bpf_iter_bpf_map", "bpf_iter_nothing"], ["TRACE_EVENT_FL_TRACEPOINT"])
                .expect("it is BTF");
        assert!(functions[0].is_some_and(|id| id > 1), "since 5.8");
        assert_eq!(functions[1], None);
        assert!(flags[0].is_none_or(u32::is_power_of_two), "{flags:?}");
    }

    proptest! {
        #[test]
        fn damaged_files_do_not_panic(place in 0..example().len(), byte: u8) {
            let mut data = example();
            data[place] = byte;
            let _result = search(Cursor::new(data), ["one"], ["FIRST"]);
        }
    }
}
