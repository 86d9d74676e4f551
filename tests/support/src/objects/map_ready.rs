//! One ready-made map of each type, with the flags, inner map or BTF that the type requires.
//! Sizes differ from type to type, so that a test that compares fields cannot mistake one for another. Entry point: [`Map::ready`].

use super::btf::{Btf, Types};
use super::error::invalid;
use super::kernel_types::KernelTypes;
use super::map::{Map, MapSpec, MapTypes, Shape};
use super::uapi::{map_flag as flag, map_type as kind};
use std::io;

/// What a type of map wants beside sizes and flags.
#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    /// `map_extra`.
    Extra(u64),
    /// An inner map.
    Inner,
    /// BTF of key and value.
    Types,
    /// A struct of the kernel, by name, whose size is the value's.
    KernelStruct(&'static str),
}

/// Type, key size, value size, entries, flags, needs: entries are 100 + the type's number where the kernel leaves the choice.
type Row = (u32, u32, u32, u32, u32, Needs);

#[rustfmt::skip]
const READY: &[Row] = &[
    (kind::HASH,                   5,  11, 101, 0,                 Needs::Nothing),
    (kind::ARRAY,                  4,  12, 102, flag::RDONLY_PROG, Needs::Nothing),
    (kind::PROG_ARRAY,             4,   4, 103, 0,                 Needs::Nothing),
    (kind::PERF_EVENT_ARRAY,       4,   4, 104, 0,                 Needs::Nothing),
    (kind::PERCPU_HASH,            6,  15, 105, flag::NO_PREALLOC, Needs::Nothing),
    (kind::PERCPU_ARRAY,           4,  16, 106, 0,                 Needs::Nothing),
    // A value is a stack: an array of addresses of 8 bytes.
    (kind::STACK_TRACE,            4, 136, 107, 0,                 Needs::Nothing),
    (kind::CGROUP_ARRAY,           4,   4, 108, 0,                 Needs::Nothing),
    (kind::LRU_HASH,               7,  19, 109, 0,                 Needs::Nothing),
    (kind::LRU_PERCPU_HASH,        9,  20, 110, 0,                 Needs::Nothing),
    // A key begins with the 4 bytes of a prefix length.
    (kind::LPM_TRIE,               8,  21, 111, flag::NO_PREALLOC, Needs::Nothing),
    (kind::ARRAY_OF_MAPS,          4,   4, 112, 0,                 Needs::Inner),
    (kind::HASH_OF_MAPS,          13,   4, 113, 0,                 Needs::Inner),
    (kind::DEVMAP,                 4,   8, 114, 0,                 Needs::Nothing),
    (kind::SOCKMAP,                4,   8, 115, 0,                 Needs::Nothing),
    // At most as many entries as the kernel was built for CPUs.
    (kind::CPUMAP,                 4,   8,   2, 0,                 Needs::Nothing),
    (kind::XSKMAP,                 4,   4, 117, 0,                 Needs::Nothing),
    (kind::SOCKHASH,              18,   8, 118, 0,                 Needs::Nothing),
    // A key is the kernel's `struct bpf_cgroup_storage_key`, or a cgroup's id alone.
    (kind::CGROUP_STORAGE,        16,  29,   0, 0,                 Needs::Nothing),
    (kind::REUSEPORT_SOCKARRAY,    4,   8, 120, 0,                 Needs::Nothing),
    (kind::PERCPU_CGROUP_STORAGE,  8,  31,   0, 0,                 Needs::Nothing),
    (kind::QUEUE,                  0,  32, 122, 0,                 Needs::Nothing),
    (kind::STACK,                  0,  33, 123, 0,                 Needs::Nothing),
    (kind::SK_STORAGE,             4,  34,   0, flag::NO_PREALLOC, Needs::Types),
    (kind::DEVMAP_HASH,            4,   4, 125, 0,                 Needs::Nothing),
    (kind::STRUCT_OPS,             4,   0,   1, 0,                 Needs::KernelStruct(OPERATIONS)),
    // Bytes: a power of two, and whole pages of whatever size.
    (kind::RINGBUF,                0,   0, 64 * 1024, 0,           Needs::Nothing),
    (kind::INODE_STORAGE,          4,  38,   0, flag::NO_PREALLOC, Needs::Types),
    (kind::TASK_STORAGE,           4,  39,   0, flag::NO_PREALLOC, Needs::Types),
    // The extra is the number of hash functions.
    (kind::BLOOM_FILTER,           0,  40, 130, 0,                 Needs::Extra(3)),
    (kind::USER_RINGBUF,           0,   0, 128 * 1024, 0,          Needs::Nothing),
    (kind::CGRP_STORAGE,           4,  42,   0, flag::NO_PREALLOC, Needs::Types),
    // Pages.
    (kind::ARENA,                  0,   0, 133, flag::MMAPABLE,    Needs::Nothing),
    // A value is the kernel's `struct bpf_insn_array_value` (6.19).
    (kind::INSN_ARRAY,             4,  16, 134, 0,                 Needs::Nothing),
];

/// What the map of a congestion control of TCP holds.
const OPERATIONS: &str = "bpf_struct_ops_tcp_congestion_ops";

impl Map {
    /// Creates a ready-made map of this type (see [`super::uapi::map_type`]).
    ///
    /// # Errors
    /// A type that is not in the table; the kernel's refusal.
    pub fn ready(kind: u32, name: &str) -> io::Result<Self> {
        Self::ready_with(kind, name, 0)
    }

    /// The same with more flags than it has to have.
    ///
    /// # Errors
    /// As [`Self::ready`].
    pub fn ready_with(kind: u32, name: &str, more_flags: u32) -> io::Result<Self> {
        let &(kind, key_size, value_size, max_entries, flags, needs) = READY
            .iter()
            .find(|row| row.0 == kind)
            .ok_or_else(|| invalid(format!("no ready map of type {kind}")))?;
        let mut shape =
            Shape { kind, key_size, value_size, max_entries, flags: flags | more_flags, extra: 0 };
        let mut types = Types::default();
        let int = types.integer("int", 4);
        let (mut inner, mut btf) = (None, None);
        let (mut key, mut value, mut kernel_value) = (0, 0, 0);
        match needs {
            Needs::Nothing => {}
            Needs::Extra(extra) => shape.extra = extra,
            Needs::Inner => inner = Some(Self::ready(kind::ARRAY, "inner")?),
            Needs::Types => {
                (key, value) = (int, types.structure("stored", value_size, int));
                btf = Some(Btf::load(&types)?);
            }
            Needs::KernelStruct(structure) => {
                let structure = KernelTypes::read()?.structure(structure)?;
                shape.value_size = structure.size;
                kernel_value = structure.id;
                // The kernel uses its own BTF, and still wants an fd of some other.
                btf = Some(Btf::load(&types)?);
            }
        }
        Self::create(&MapSpec {
            name,
            shape,
            inner: inner.as_ref(),
            types: btf.as_ref().map(|btf| MapTypes { btf, key, value, kernel_value }),
        })
    }
}

/// Tries to create one map of every type: the type's number, and the map or the refusal.
#[must_use]
pub fn every_map_type() -> Vec<(u32, io::Result<Map>)> {
    let make = |row: &Row| (row.0, Map::ready(row.0, &format!("map_type_{}", row.0)));
    READY.iter().map(make).collect()
}
