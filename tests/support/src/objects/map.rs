//! Maps: any type, created from a [`MapSpec`]. [`super::entries`] fills them.
//! [`super::map_ready`] knows the requirements of each type. Entry point: [`Map::create`].

use super::attr;
use super::btf::Btf;
use super::error::failed_to;
use super::kind::Kind;
use super::pin::Pin;
use super::program::kernel_name;
use super::sys;
use super::uapi::{map_flag, map_type as kind};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The type, sizes and flags of a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// One of [`super::uapi::map_type`].
    pub kind: u32,
    /// In bytes.
    pub key_size: u32,
    /// In bytes; of one CPU's value in a per-CPU map.
    pub value_size: u32,
    /// Entries; for a ring buffer its bytes, for an arena its pages.
    pub max_entries: u32,
    /// Flags of `BPF_MAP_CREATE`.
    pub flags: u32,
    /// `map_extra` (5.16), for instance the number of hash functions of a bloom filter.
    pub extra: u64,
}

/// The BTF types of a map's keys and values.
#[derive(Clone, Copy, Debug)]
pub struct MapTypes<'a> {
    /// Where `key` and `value` are.
    pub btf: &'a Btf,
    /// Type of a key, or 0.
    pub key: u32,
    /// Type of a value, or 0.
    pub value: u32,
    /// A struct of the kernel that is the value, for struct operations; else 0.
    pub kernel_value: u32,
}

/// What to create.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec<'a> {
    /// At most 15 characters.
    pub name: &'a str,
    /// Type, sizes and flags.
    pub shape: Shape,
    /// A map like those that a map of maps is to hold.
    pub inner: Option<&'a Map>,
    /// BTF of its entries.
    pub types: Option<MapTypes<'a>>,
}

/// A map. Dropping it closes its fd.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    id: u32,
    shape: Shape,
}

impl Map {
    /// Creates `spec`.
    ///
    /// # Errors
    /// A name that is too long; the kernel's refusal.
    pub fn create(spec: &MapSpec<'_>) -> io::Result<Self> {
        let mut shape = spec.shape;
        let mut attr = attr::MapCreate {
            map_type: shape.kind,
            key_size: shape.key_size,
            value_size: shape.value_size,
            max_entries: shape.max_entries,
            flags: shape.flags,
            inner_map_fd: spec.inner.map_or(0, |inner| sys::number(inner.fd())),
            name: kernel_name(spec.name)?,
            extra: shape.extra,
            ..Default::default()
        };
        if let Some(types) = spec.types {
            attr.btf_fd = sys::number(types.btf.fd());
            attr.btf_key_type = types.key;
            attr.btf_value_type = types.value;
            attr.kernel_value_type = types.kernel_value;
        }
        let fd = sys::map_create(attr).map_err(|error| {
            failed_to(format!("create map '{}' of type {}", spec.name, shape.kind), error)
        })?;
        if matches!(shape.kind, kind::DEVMAP | kind::DEVMAP_HASH) {
            // The kernel adds this flag by itself, and refuses it from a caller (kernel/bpf/devmap.c, 5.2).
            shape.flags |= map_flag::RDONLY_PROG;
        }
        let id = Kind::Map.id(fd.as_fd())?;
        Ok(Self { fd, id, shape })
    }

    /// Freezes it: from now on only programs change its entries (`BPF_MAP_FREEZE`, 5.2).
    ///
    /// # Errors
    /// The kernel's refusal: a type that cannot be frozen, a map that is mapped to be written.
    pub fn freeze(&self) -> io::Result<()> {
        sys::map_freeze(self.fd()).map_err(|error| failed_to(format!("freeze map {}", self.id), error))
    }

    /// Pins it at `path`, in a BPF file system.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn pin(&self, path: &Path) -> io::Result<Pin> {
        Pin::make(self.fd(), path)
    }

    /// The kernel's id of this map.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The fd that keeps it.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What it was created as, and what the kernel has to report of it.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }
}
