/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The iterator over maps. */
#pragma once

#include "common.h"

struct map_scratch {
	__u64 address;
	struct map_record record;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct map_scratch);
} bpfmetrics_maps SEC(".maps");

struct sum_count {
	__u64 pointer;
	__s64 sum;
};

static long sum_count(__u32 index, struct sum_count *sum)
{
	struct cpu *cpu = bpf_map_lookup_elem(&bpfmetrics_cpus, &index);
	__s64 count = 0;

	if (!cpu)
		return 1;
	bpf_probe_read_kernel(&count, sizeof(count), (void *)(sum->pointer + cpu->offset));
	sum->sum += count;
	return 0;
}

/* The same for counters of 32 bits. */
static long sum_small_count(__u32 index, struct sum_count *sum)
{
	struct cpu *cpu = bpf_map_lookup_elem(&bpfmetrics_cpus, &index);
	__s32 count = 0;

	if (!cpu)
		return 1;
	bpf_probe_read_kernel(&count, sizeof(count), (void *)(sum->pointer + cpu->offset));
	sum->sum += count;
	return 0;
}

/* Reads a field of the structure whose first member is this map. */
#define READ_OF_MAP(destination, structure, field) READ(destination, (structure *)map, field)

/* Entries of a hash table of any type. */
static __always_inline __s64 hash_entries(struct bpf_map *map, struct map_scratch *scratch)
{
	struct sum_count sum = {};

	if (bpf_core_field_exists(map->elem_count))
		sum.pointer = to_scalar(&scratch->address, map->elem_count);
	if (sum.pointer) {
		bpf_loop(MAX_CPUS, sum_count, &sum, 0);
	} else {
		/*
		 * Before 6.6 only tables without preallocation count their entries, to enforce max_entries. Later
		 * releases of 6.1 have the field above and leave it null.
		 */
		bool per_cpu = false;
		__s32 count = 0;

		if (!(map->map_flags & BPF_F_NO_PREALLOC))
			return UNKNOWN;
		if (bpf_core_field_exists(FIELD_OF(struct bpf_htab, use_percpu_counter))) {
			READ_OF_MAP(per_cpu, struct bpf_htab, use_percpu_counter);
			if (per_cpu) {
				READ_OF_MAP(sum.sum, struct bpf_htab, pcount.count);
				READ_OF_MAP(sum.pointer, struct bpf_htab, pcount.counters);
				bpf_loop(MAX_CPUS, sum_small_count, &sum, 0);
			}
		}
		if (!per_cpu) {
			READ_OF_MAP(count, struct bpf_htab, count.counter);
			sum.sum = count;
		}
	}
	/* The CPUs' counts are not read at the same moment: the sum can be off by what changes in between. */
	return sum.sum > 0 ? sum.sum : 0;
}

static __always_inline __s64 queue_entries(struct bpf_map *map)
{
	__u32 head = 0, tail = 0, size = 0;

	READ_OF_MAP(head, struct bpf_queue_stack, head);
	READ_OF_MAP(tail, struct bpf_queue_stack, tail);
	READ_OF_MAP(size, struct bpf_queue_stack, size);
	return head >= tail ? head - tail : head + size - tail;
}

/* Bytes produced and not yet consumed. User space can write one of the positions, hence any value into it. */
static __always_inline __s64 ring_backlog(struct bpf_map *map)
{
	struct bpf_ringbuf *ring = 0;
	unsigned long consumed = 0, produced = 0;

	READ_OF_MAP(ring, struct bpf_ringbuf_map, rb);
	bpf_probe_read_kernel(&consumed, sizeof(consumed), &ring->consumer_pos);
	bpf_probe_read_kernel(&produced, sizeof(produced), &ring->producer_pos);
	return produced - consumed <= map->max_entries ? (__s64)(produced - consumed) : UNKNOWN;
}

/* The id of the cgroup that the map's memory is charged to. */
static __always_inline __u64 memory_cgroup(struct bpf_map *map)
{
	struct mem_cgroup *memcg = 0;

	if (bpf_core_field_exists(map->objcg)) {
		if (map->objcg)
			memcg = map->objcg->memcg;
	} else if (bpf_core_field_exists(((struct bpf_map___memcg *)map)->memcg)) {
		memcg = ((struct bpf_map___memcg *)map)->memcg;
	}
	return memcg ? memcg->css.cgroup->kn->id : 0;
}

/* Writes the number of entries, or of bytes in a ring buffer, of the types that have one. */
static __always_inline void write_occupancy(struct bpf_map *map, struct map_scratch *scratch)
{
	struct map_record *record = &scratch->record;
	__u32 number = 0;
	__u64 size = 0;

	record->entries = UNKNOWN;
	record->backlog = UNKNOWN;
	switch (record->type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_HASH_OF_MAPS:
		record->entries = hash_entries(map, scratch);
		break;
	case BPF_MAP_TYPE_LPM_TRIE:
		READ_OF_MAP(size, struct lpm_trie, n_entries);
		record->entries = size;
		break;
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
		record->entries = queue_entries(map);
		break;
	case BPF_MAP_TYPE_DEVMAP:
		/* Counted since maps report their memory usage, 6.4. */
		if (!bpf_core_field_exists(FIELD_OF(struct bpf_map_ops, map_mem_usage)))
			break;
		READ_OF_MAP(number, struct bpf_dtab, items);
		record->entries = number;
		break;
	case BPF_MAP_TYPE_DEVMAP_HASH:
		READ_OF_MAP(number, struct bpf_dtab, items);
		record->entries = number;
		break;
	case BPF_MAP_TYPE_XSKMAP:
		/* Counted since 6.4, for the memory usage. */
		if (!bpf_core_field_exists(FIELD_OF(struct xsk_map, count)))
			break;
		READ_OF_MAP(number, struct xsk_map, count.counter);
		record->entries = number;
		break;
	case BPF_MAP_TYPE_SOCKHASH:
		READ_OF_MAP(number, struct bpf_shtab, count.counter);
		record->entries = number;
		break;
	case BPF_MAP_TYPE_RINGBUF:
	case BPF_MAP_TYPE_USER_RINGBUF:
		record->backlog = ring_backlog(map);
		break;
	}
}

SEC("iter/bpf_map")
int bpf_metrics_exporter_map(struct bpf_iter__bpf_map *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct bpf_map *map = ctx->map;
	__u32 zero = 0;
	struct map_scratch *scratch = bpf_map_lookup_elem(&bpfmetrics_maps, &zero);
	struct map_record *record;

	if (!map || !scratch)
		return 0;
	if ((bpf_core_field_exists(map->elem_count) || bpf_core_field_exists(FIELD_OF(struct bpf_htab, pcount))) &&
	    ctx->meta->seq_num == 0)
		find_offsets(&bpfmetrics_maps, &scratch->address);
	record = &scratch->record;
	__builtin_memset(record, 0, sizeof(*record));
	record->id = map->id;
	record->type = map->map_type;
	record->key_size = map->key_size;
	record->value_size = map->value_size;
	record->max_entries = map->max_entries;
	record->flags = map->map_flags;
	record->btf_id = map->btf ? map->btf->id : 0;
	record->frozen = map->frozen;
	__builtin_memcpy(record->name, map->name, sizeof(record->name));
	if (bpf_core_field_exists(map->cookie))
		record->cookie = map->cookie;
	record->memory_cgroup = memory_cgroup(map);
	write_occupancy(map, scratch);
	bpf_seq_write(seq, record, sizeof(*record));
	return 0;
}
