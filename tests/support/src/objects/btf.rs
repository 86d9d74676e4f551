//! BTF that a test writes itself: a few types by hand ([`Types`]), loaded into the kernel ([`Btf`]).
//! The format is Documentation/bpf/btf.rst. [`super::kernel_types`] reads the kernel's own BTF.

use super::error::failed_to;
use super::kind::Kind;
use super::sys;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(super) const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
const HEADER_SIZE: u32 = 24;

const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
pub(super) const KIND_STRUCT: u32 = 4;
pub(super) const KIND_TYPEDEF: u32 = 8;
pub(super) const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;

/// BTF types being written. Ids count from 1, in the order of the calls.
#[derive(Debug)]
pub struct Types {
    written: Vec<u8>,
    names: Vec<u8>,
    count: u32,
}

impl Default for Types {
    fn default() -> Self {
        // The name at offset 0 is the empty one.
        Self { written: Vec::new(), names: vec![0], count: 0 }
    }
}

impl Types {
    /// A signed integer of `size` bytes (at most 16).
    pub fn integer(&mut self, name: &str, size: u32) -> u32 {
        const SIGNED: u32 = 1 << 24;
        self.encoded(name, size, SIGNED)
    }

    /// An integer of `size` bytes that is not negative.
    pub fn unsigned(&mut self, name: &str, size: u32) -> u32 {
        self.encoded(name, size, 0)
    }

    /// A truth value of one byte.
    pub fn boolean(&mut self, name: &str) -> u32 {
        const BOOL: u32 = 1 << 26;
        self.encoded(name, 1, BOOL)
    }

    fn encoded(&mut self, name: &str, size: u32, encoding: u32) -> u32 {
        self.add(name, KIND_INT, 0, size, &[encoding | (size * 8)])
    }

    /// An array of `count` elements, with indices of type `index`.
    pub fn array(&mut self, element: u32, index: u32, count: u32) -> u32 {
        self.add("", KIND_ARRAY, 0, 0, &[element, index, count])
    }

    /// A global variable.
    pub fn variable(&mut self, name: &str, variable_type: u32) -> u32 {
        const GLOBAL: u32 = 1;
        self.add(name, KIND_VAR, 0, variable_type, &[GLOBAL])
    }

    /// A section of `size` bytes with variables: type id, offset and size of each.
    pub fn section(&mut self, name: &str, size: u32, variables: &[[u32; 3]]) -> u32 {
        let count = u32::try_from(variables.len()).expect("a few");
        self.add(name, KIND_DATASEC, count, size, variables.as_flattened())
    }

    /// A struct of `size` bytes whose only member, at its start, has type `member`.
    pub fn structure(&mut self, name: &str, size: u32, member: u32) -> u32 {
        let member_name = self.name("first");
        self.add(name, KIND_STRUCT, 1, size, &[member_name, member, 0])
    }

    /// The type of a function without parameters.
    pub fn function_type(&mut self, returns: u32) -> u32 {
        self.add("", KIND_FUNC_PROTO, 0, returns, &[])
    }

    /// A global function: the kernel takes a program's full name from it, and only a global one can be replaced.
    pub fn function(&mut self, name: &str, function_type: u32) -> u32 {
        const GLOBAL: u32 = 1;
        self.add(name, KIND_FUNC, GLOBAL, function_type, &[])
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let offset = size(&self.names);
        self.names.extend_from_slice(name.as_bytes());
        self.names.push(0);
        offset
    }

    fn add(&mut self, name: &str, kind: u32, count: u32, size_or_type: u32, rest: &[u32]) -> u32 {
        let head = [self.name(name), kind << 24 | count, size_or_type];
        for word in head.iter().chain(rest) {
            self.written.extend_from_slice(&word.to_ne_bytes());
        }
        self.count += 1;
        self.count
    }

    /// The blob as `BPF_BTF_LOAD` takes it.
    #[must_use]
    pub fn blob(&self) -> Vec<u8> {
        let types = size(&self.written);
        let names = size(&self.names);
        let mut blob = Vec::new();
        blob.extend_from_slice(&MAGIC.to_ne_bytes());
        blob.extend_from_slice(&[VERSION, 0]);
        for word in [HEADER_SIZE, 0, types, types, names] {
            blob.extend_from_slice(&word.to_ne_bytes());
        }
        blob.extend_from_slice(&self.written);
        blob.extend_from_slice(&self.names);
        blob
    }
}

fn size(of: &[u8]) -> u32 {
    u32::try_from(of.len()).expect("BTF written by hand is far from 4 GiB")
}

/// A BTF object in the kernel.
#[derive(Debug)]
pub struct Btf {
    fd: OwnedFd,
    id: u32,
}

impl Btf {
    /// Loads `types`.
    ///
    /// # Errors
    /// The kernel's refusal, with what its checker wrote.
    pub fn load(types: &Types) -> io::Result<Self> {
        let mut log = vec![0; 16 * 1024];
        let fd = sys::btf_load(&types.blob(), &mut log)
            .map_err(|error| failed_to(format!("load BTF ({})", log_text(&log)), error))?;
        let id = Kind::Btf.id(fd.as_fd())?;
        Ok(Self { fd, id })
    }

    /// The kernel's id of this object.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The fd that keeps it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The BTF of a program's functions.
#[derive(Debug)]
pub(super) struct FunctionTypes {
    pub(super) btf: Btf,
    /// The type ids of the functions, in their order.
    pub(super) ids: Vec<u32>,
}

impl FunctionTypes {
    /// Loads one function `int name(void)` for each name.
    pub(super) fn load<'a>(names: impl Iterator<Item = &'a str>) -> io::Result<Self> {
        let mut types = Types::default();
        let int = types.integer("int", 4);
        let function_type = types.function_type(int);
        let ids = names.map(|name| types.function(name, function_type)).collect();
        let btf = Btf::load(&types)?;
        Ok(Self { btf, ids })
    }
}

/// The log of the kernel's checker: the reason is in its last lines.
pub(super) fn log_text(log: &[u8]) -> String {
    const LAST_LINES: usize = 12;
    let text = CStr::from_bytes_until_nul(log).unwrap_or_default().to_string_lossy();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
