//! Whether the memory and the number of entries of a map can change, by its type and flags.

use crate::model::MapFacts;
use crate::model::enums::map_type;
use crate::sys::bpf::uapi::NO_PREALLOC;

/// Returns the number of entries of an array: all of them always exist.
pub(crate) fn array_entries(map: &MapFacts) -> Option<u64> {
    let is_array = [map_type::ARRAY, map_type::PERCPU_ARRAY].contains(&map.map_type.number);
    is_array.then_some(map.max_entries.into())
}

/// Returns whether the memory of a map depends on nothing but its type, its sizes and its flags: everything is allocated when it is created.
///
/// Source: `array_map_mem_usage`, `htab_map_mem_usage`, `queue_stack_map_mem_usage`, `ringbuf_map_mem_usage` and
/// `stack_map_mem_usage` since 6.4; before that, the kernel calculates the memory of every map from the same fields.
pub(crate) fn has_fixed_memory(map: &MapFacts) -> bool {
    match map.map_type.number {
        map_type::HASH | map_type::PERCPU_HASH | map_type::HASH_OF_MAPS => map.flags & NO_PREALLOC == 0,
        map_type::ARRAY
        | map_type::PERCPU_ARRAY
        | map_type::PROG_ARRAY
        | map_type::PERF_EVENT_ARRAY
        | map_type::CGROUP_ARRAY
        | map_type::ARRAY_OF_MAPS
        | map_type::LRU_HASH
        | map_type::LRU_PERCPU_HASH
        | map_type::QUEUE
        | map_type::STACK
        | map_type::STACK_TRACE
        | map_type::RINGBUF => true,
        _ => false,
    }
}

/// Returns whether a map's memory changes with its entries, since each is allocated when it is added.
///
/// Source: the `*_mem_usage` functions since 6.4, of which those of `devmap` and `xskmap` count what their entries point to. Before
/// that, the kernel reports the memory of a full map, which does not change. A type newer than this program may grow.
pub(crate) fn can_grow(map: &MapFacts) -> bool {
    match map.map_type.number {
        map_type::HASH | map_type::PERCPU_HASH | map_type::HASH_OF_MAPS => map.flags & NO_PREALLOC != 0,
        map_type::LPM_TRIE
        | map_type::DEVMAP
        | map_type::XSKMAP
        | map_type::SOCKHASH
        | map_type::DEVMAP_HASH => true,
        _ => map.map_type.name.is_none(),
    }
}
