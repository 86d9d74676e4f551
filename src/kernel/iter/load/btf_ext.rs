//! The section `.BTF.ext` of an object: function info, line info and CO-RE relocations, by the types in `.BTF`.
//!
//! Entry point: [`BtfExt::parse`].

use std::collections::HashMap;
use std::ops::Range;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::kernel::btf::Types;
use crate::sys::bpf::uapi::{CoreRelocation, FunctionInfo, LineInfo};

const MAGIC: u16 = 0xeb9f;

/// `struct btf_ext_header`; sections are relative to its end.
#[derive(FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct BtfExtHeader {
    magic: u16,
    version: u8,
    flags: u8,
    len: u32,
    functions: SubsectionRange,
    lines: SubsectionRange,
    core_relocations: SubsectionRange,
}

#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct SubsectionRange {
    offset: u32,
    len: u32,
}

/// The parsed section.
#[derive(Debug)]
pub(super) struct BtfExt {
    pub(super) functions: Records<FunctionInfo>,
    pub(super) lines: Records<LineInfo>,
    pub(super) core_relocations: Records<CoreRelocation>,
}

/// Records of one kind, by the names of sections; their offsets are in bytes.
#[derive(Debug)]
pub(super) struct Records<T>(HashMap<String, Vec<T>>);

impl BtfExt {
    /// Parses a section, whose names are in `types`. `None` where it is malformed.
    pub(super) fn parse(data: &[u8], types: &Types) -> Option<Self> {
        let (header, _) = BtfExtHeader::read_from_prefix(data).ok()?;
        if header.magic != MAGIC {
            return None;
        }
        let subsection = |range: SubsectionRange| {
            let start = (header.len as usize).checked_add(range.offset as usize)?;
            data.get(start..start.checked_add(range.len as usize)?)
        };
        Some(Self {
            functions: Records::parse(subsection(header.functions)?, types)?,
            lines: Records::parse(subsection(header.lines)?, types)?,
            core_relocations: Records::parse(subsection(header.core_relocations)?, types)?,
        })
    }
}

impl<T: FromBytes + Copy> Records<T> {
    /// Parses a subsection: the length of a record, and for each section of code its name (`struct btf_ext_info_sec`) and records.
    fn parse(data: &[u8], types: &Types) -> Option<Self> {
        let mut sections = HashMap::new();
        if data.is_empty() {
            return Some(Self(sections));
        }
        let (record_len, mut left) = u32::read_from_prefix(data).ok()?;
        let record_len = Some(record_len as usize).filter(|&len| len >= size_of::<T>())?;
        while !left.is_empty() {
            let ([name, count], rest) = <[u32; 2]>::read_from_prefix(left).ok()?;
            let (records, rest) = rest.split_at_checked(record_len.checked_mul(count as usize)?)?;
            let records =
                records.chunks_exact(record_len).map(|record| Some(T::read_from_prefix(record).ok()?.0));
            let name = std::str::from_utf8(types.name(name as usize)?).ok()?;
            sections.insert(name.to_owned(), records.collect::<Option<_>>()?);
            left = rest;
        }
        Some(Self(sections))
    }

    /// Returns the records within a byte range of a section, with offsets converted by `to`; `offset` is their field.
    pub(super) fn moved(
        &self,
        section: &str,
        bytes: &Range<u32>,
        offset: fn(&mut T) -> &mut u32,
        to: impl Fn(u32) -> u32,
    ) -> impl Iterator<Item = T> {
        self.0.get(section).into_iter().flatten().copied().filter_map(move |mut record| {
            let offset = offset(&mut record);
            bytes.contains(offset).then(|| *offset = to(*offset))?;
            Some(record)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// A BTF object without types, and with a name at 1.
    fn names() -> Types {
        let mut data = bytes(&[0x0001_eb9f, 24, 0, 0, 0, 7]);
        data.extend(b"\0.text\0");
        Types::parse(data, None)
    }

    /// Two functions, in records longer than this kernel's; no lines, no relocations.
    fn example() -> Vec<u8> {
        let header = [0x0001_eb9f, 32, 0, 36, 36, 0, 36, 0];
        bytes(&[&header[..], &[12, 1, 2, 0, 5, 99, 16, 6, 99]].concat())
    }

    fn text(parsed: &BtfExt, from: Range<u32>) -> Vec<(u32, u32)> {
        let functions =
            parsed.functions.moved(".text", &from, |function| &mut function.insn_off, |at| at + 8);
        functions.map(|function| (function.insn_off, function.type_id)).collect()
    }

    #[test]
    fn records_are_those_of_a_range_moved() {
        let parsed = BtfExt::parse(&example(), &names()).expect("it is well-formed");
        assert_eq!(text(&parsed, 0..24), [(8, 5), (24, 6)]);
        assert_eq!(text(&parsed, 8..24), [(24, 6)]);
        assert_eq!(text(&parsed, 0..16), [(8, 5)]);
        let mut other =
            parsed.functions.moved("iter/task", &(0..24), |function| &mut function.insn_off, |at| at);
        assert_eq!(other.next(), None, "there is no such section");
    }

    #[test]
    fn malformed_sections_are_refused() {
        let complete = example();
        for len in 0..complete.len() {
            assert!(BtfExt::parse(&complete[..len], &names()).is_none(), "{len} bytes");
        }
        // The magic number, the length of a record, the name and the number of records.
        for (place, byte) in [(0, 0), (32, 4), (36, 99), (40, 3)] {
            let mut damaged = complete.clone();
            damaged[place] = byte;
            assert!(BtfExt::parse(&damaged, &names()).is_none(), "{place}");
        }
    }
}
