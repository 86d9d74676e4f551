//! The kernel's own BTF, /sys/kernel/btf/vmlinux, read as far as programs need it: a type's id by name, a struct's members.
//! Nothing is cached: parse, look up, drop. Entry point: [`KernelTypes::read`].

use super::btf::{KIND_FUNC, KIND_STRUCT, KIND_TYPEDEF, MAGIC};
use super::error::{failed_to, invalid};
use std::fs;
use std::io;

const PATH: &str = "/sys/kernel/btf/vmlinux";

/// Every type the running kernel describes.
pub struct KernelTypes {
    blob: Vec<u8>,
    types: Vec<Type>,
    names: usize,
}

/// One type: its head, and where in the blob its tail (the members, say) begins.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    info: u32,
    size: u32,
    tail: usize,
}

impl Type {
    fn kind(self) -> u32 {
        self.info >> 24 & 0x1f
    }

    fn count(self) -> usize {
        (self.info & 0xffff) as usize
    }

    /// How many bytes follow the head; `None` for a kind that is not known.
    fn tail_size(self) -> Option<usize> {
        match self.kind() {
            // Pointers, forward declarations, typedefs, qualifiers, functions, floats, type tags.
            2 | 7..=12 | 16 | 18 => Some(0),
            // Integers, variables, declaration tags.
            1 | 14 | 17 => Some(4),
            // Arrays.
            3 => Some(12),
            // Structs, unions, data sections, 64-bit enums.
            4 | 5 | 15 | 19 => Some(12 * self.count()),
            // Enums, function types.
            6 | 13 => Some(8 * self.count()),
            _ => None,
        }
    }
}

/// A struct of the kernel.
pub struct KernelStruct {
    /// Its type id.
    pub id: u32,
    /// Its size in bytes.
    pub size: u32,
    /// Names of its members with their offsets in bytes, in order.
    pub members: Vec<(String, usize)>,
}

impl KernelStruct {
    /// The place of a member among the members, and its offset in bytes.
    ///
    /// # Errors
    /// Names the member that this kernel's struct does not have.
    pub fn member(&self, name: &str) -> io::Result<(u32, usize)> {
        (0..)
            .zip(&self.members)
            .find(|(_, (member, _))| member == name)
            .map(|(index, &(_, offset))| (index, offset))
            .ok_or_else(|| not_found(&format!("a member {name}")))
    }
}

fn not_found(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("the kernel's BTF has no {what}"))
}

impl KernelTypes {
    /// Reads and indexes the kernel's BTF: some milliseconds.
    ///
    /// # Errors
    /// A kernel without BTF, or with BTF this code does not know.
    pub fn read() -> io::Result<Self> {
        let blob = fs::read(PATH).map_err(|error| failed_to(format!("read {PATH}"), error))?;
        Self::parse(blob).ok_or_else(|| invalid(format!("{PATH} has an unknown form")))
    }

    fn parse(blob: Vec<u8>) -> Option<Self> {
        if blob.get(..2)? != MAGIC.to_ne_bytes() {
            return None;
        }
        let word = |at| word(&blob, at);
        let header_size = word(4)? as usize;
        let start = header_size + word(8)? as usize;
        let end = start + word(12)? as usize;
        let names = header_size + word(16)? as usize;
        let mut types = Vec::new();
        let mut at = start;
        while at < end {
            let found = Type { name: word(at)?, info: word(at + 4)?, size: word(at + 8)?, tail: at + 12 };
            at = found.tail + found.tail_size()?;
            types.push(found);
        }
        Some(Self { blob, types, names })
    }

    /// The id of a function.
    ///
    /// # Errors
    /// Names the function that this kernel does not have.
    pub fn function(&self, name: &str) -> io::Result<u32> {
        self.find(KIND_FUNC, name).map(|(id, _)| id).ok_or_else(|| not_found(&format!("function {name}")))
    }

    /// The type id of a raw tracepoint: a pointer to its function.
    ///
    /// # Errors
    /// Names the tracepoint that this kernel does not have.
    pub fn raw_tracepoint(&self, name: &str) -> io::Result<u32> {
        self.find(KIND_TYPEDEF, &format!("btf_trace_{name}"))
            .map(|(id, _)| id)
            .ok_or_else(|| not_found(&format!("tracepoint {name}")))
    }

    /// A struct.
    ///
    /// # Errors
    /// Names the struct that this kernel does not have.
    pub fn structure(&self, name: &str) -> io::Result<KernelStruct> {
        let missing = || not_found(&format!("struct {name}"));
        let (id, found) = self.find(KIND_STRUCT, name).ok_or_else(missing)?;
        let members = (0..found.count()).map(|index| self.member(found.tail + 12 * index));
        let members = members.collect::<Option<_>>().ok_or_else(missing)?;
        Ok(KernelStruct { id, size: found.size, members })
    }

    fn member(&self, at: usize) -> Option<(String, usize)> {
        let name = String::from_utf8_lossy(self.name(word(&self.blob, at)?)?).into_owned();
        // Where a struct has bit fields, the upper 8 bits are a width.
        let bits = word(&self.blob, at + 8)? & 0x00ff_ffff;
        Some((name, bits as usize / 8))
    }

    fn find(&self, kind: u32, name: &str) -> Option<(u32, Type)> {
        // Id 0 is void and is not in the blob.
        (1..).zip(self.types.iter().copied()).find(|(_, candidate)| {
            candidate.kind() == kind && self.name(candidate.name) == Some(name.as_bytes())
        })
    }

    fn name(&self, offset: u32) -> Option<&[u8]> {
        let from = self.blob.get(self.names + offset as usize..)?;
        from.split(|&byte| byte == 0).next()
    }
}

fn word(blob: &[u8], at: usize) -> Option<u32> {
    let bytes = blob.get(at..at + 4)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}
