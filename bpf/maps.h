/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The iterator over maps, and the pass over those that it has visited. */
#pragma once

#include "known.h"

struct known_map {
	__u64 map;
	/* bpf_map.ops. */
	__u64 ops;
	/* bpf_map.elem_count of the types that report it, a per-CPU pointer; 0 if there is none. */
	__u64 counter;
	/* What the memory cgroup is found by. */
	__u64 owner;
	__u32 id;
	__u32 type;
	__u32 frozen;
	/* Whether the counters of CPUs that are not online are not all 0. */
	__u32 all_cpus;
};

struct map_chunk {
	struct known_map objects[CHUNK];
};

struct known_maps {
	struct known known;
	/* Always zero: what a new chunk has. */
	struct map_chunk empty;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct known_maps);
} bpfmetrics_kmap SEC(".maps");

/* Chunks by number, allocated as they are needed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CHUNKS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct map_chunk);
} bpfmetrics_cmap SEC(".maps");

struct map_scratch {
	__u64 address;
	struct map_record record;
	struct step step;
	struct map_counters counters[CHUNK];
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
	/* Number of leading CPUs that are online, and whether another one has counts. */
	__u32 online_cpus;
	__u32 all_cpus;
};

static long sum_count(__u32 index, struct sum_count *sum)
{
	struct cpu *cpu = bpf_map_lookup_elem(&bpfmetrics_cpus, &index);
	__s64 count = 0;

	if (!cpu)
		return 1;
	bpf_probe_read_kernel(&count, sizeof(count), (void *)(sum->pointer + cpu->offset));
	sum->sum += count;
	if (count && index >= sum->online_cpus)
		sum->all_cpus = 1;
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

/* The CPUs' counts are not read at the same moment: their sum can be off by what changes in between. */
static __always_inline __s64 not_negative(__s64 entries)
{
	return entries > 0 ? entries : 0;
}

/*
 * Entries of a hash table without bpf_map.elem_count, of any type. Before 6.6 only tables without preallocation count
 * their entries, to enforce max_entries. Later releases of 6.1 have that field and leave it null.
 */
static __always_inline __s64 hash_entries(struct bpf_map *map)
{
	struct sum_count sum = {};
	__u32 flags = 0;
	bool per_cpu = false;
	__s32 count = 0;

	READ(flags, map, map_flags);
	if (!(flags & BPF_F_NO_PREALLOC))
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
	return not_negative(sum.sum);
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
	__u32 size = 0;

	READ_OF_MAP(ring, struct bpf_ringbuf_map, rb);
	bpf_probe_read_kernel(&consumed, sizeof(consumed), &ring->consumer_pos);
	bpf_probe_read_kernel(&produced, sizeof(produced), &ring->producer_pos);
	READ(size, map, max_entries);
	return produced - consumed <= size ? (__s64)(produced - consumed) : UNKNOWN;
}

/* What the memory cgroup of a map is found by: the same as long as the map exists. */
static __always_inline __u64 owner_of(struct bpf_map *map)
{
	__u64 owner = 0;

	if (bpf_core_field_exists(map->objcg))
		READ(owner, map, objcg);
	else
		READ(owner, (struct bpf_map___memcg *)map, memcg);
	return owner;
}

/* The id of the cgroup that the map's memory is charged to. When a cgroup ends, its parent takes its place. */
static __always_inline __u64 memory_cgroup(__u64 owner)
{
	struct mem_cgroup *memcg = (struct mem_cgroup *)owner;
	struct cgroup *cgroup = 0;

	if (!owner)
		return 0;
	if (bpf_core_field_exists(FIELD_OF(struct bpf_map, objcg)))
		READ(memcg, (struct obj_cgroup *)owner, memcg);
	READ(cgroup, memcg, css.cgroup);
	return cgroup_id(cgroup);
}

/* The per-CPU counter of a map's entries; 0 if this kernel or type has none. */
static __always_inline __u64 counter_of(struct bpf_map *map, __u32 type)
{
	__u64 counter = 0;

	switch (type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_HASH_OF_MAPS:
		READ(counter, map, elem_count);
	}
	return counter;
}

/*
 * Reads the number of entries, or of bytes in a ring buffer, of the types that have one, unless they have a per-CPU
 * counter.
 */
static __always_inline void read_occupancy(struct bpf_map *map, __u32 type, __s64 *entries, __s64 *backlog)
{
	__u32 number = 0;
	__u64 size = 0;

	*entries = UNKNOWN;
	*backlog = UNKNOWN;
	switch (type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_HASH_OF_MAPS:
		*entries = hash_entries(map);
		break;
	case BPF_MAP_TYPE_LPM_TRIE:
		READ_OF_MAP(size, struct lpm_trie, n_entries);
		*entries = size;
		break;
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
		*entries = queue_entries(map);
		break;
	case BPF_MAP_TYPE_DEVMAP:
		/* Counted since maps report their memory usage, 6.4. */
		if (!bpf_core_field_exists(FIELD_OF(struct bpf_map_ops, map_mem_usage)))
			break;
		READ_OF_MAP(number, struct bpf_dtab, items);
		*entries = number;
		break;
	case BPF_MAP_TYPE_DEVMAP_HASH:
		READ_OF_MAP(number, struct bpf_dtab, items);
		*entries = number;
		break;
	case BPF_MAP_TYPE_XSKMAP:
		/* Counted since 6.4, for the memory usage. */
		if (!bpf_core_field_exists(FIELD_OF(struct xsk_map, count)))
			break;
		READ_OF_MAP(number, struct xsk_map, count.counter);
		*entries = number;
		break;
	case BPF_MAP_TYPE_SOCKHASH:
		READ_OF_MAP(number, struct bpf_shtab, count.counter);
		*entries = number;
		break;
	case BPF_MAP_TYPE_RINGBUF:
	case BPF_MAP_TYPE_USER_RINGBUF:
		*backlog = ring_backlog(map);
		break;
	}
}

/* Stores a map that the iterator visits. */
static __always_inline void learn_map(struct known *known, struct map_chunk *empty, struct known_map *map)
{
	__u32 place = place_of(known, map->id);
	struct map_chunk *chunk = chunk_to_fill(known, &bpfmetrics_cmap, place / CHUNK, empty);

	if (!chunk)
		return;
	chunk->objects[place % CHUNK] = *map;
	add(known, place, map->id, map->all_cpus);
}

SEC("iter/bpf_map")
int bpf_metrics_exporter_map(struct bpf_iter__bpf_map *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct bpf_map *map = ctx->map;
	__u32 zero = 0;
	struct map_scratch *scratch = bpf_map_lookup_elem(&bpfmetrics_maps, &zero);
	struct request *request = bpf_map_lookup_elem(&bpfmetrics_req, &zero);
	struct known_maps *known = bpf_map_lookup_elem(&bpfmetrics_kmap, &zero);
	struct sum_count sum = {};
	struct known_map learned = {};
	struct map_record *record;

	if (!map || !scratch || !request || !known)
		return 0;
	if (map->id < request->known_below)
		return 0;
	if (ctx->meta->seq_num == 0 && !request->known_below) {
		find_offsets(&bpfmetrics_maps, &scratch->address);
		forget(&known->known);
	}
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

	learned.map = to_scalar(&scratch->address, map);
	learned.ops = to_scalar(&scratch->address, map->ops);
	learned.counter = counter_of(map, record->type);
	learned.owner = owner_of(map);
	learned.id = record->id;
	learned.type = record->type;
	learned.frozen = record->frozen;
	record->memory_cgroup = memory_cgroup(learned.owner);
	if (learned.counter) {
		sum.pointer = learned.counter;
		sum.online_cpus = request->online_cpus;
		bpf_loop(MAX_CPUS, sum_count, &sum, 0);
		learned.all_cpus = sum.all_cpus;
		record->entries = not_negative(sum.sum);
		record->backlog = UNKNOWN;
	} else {
		read_occupancy(map, record->type, &record->entries, &record->backlog);
	}
	learn_map(&known->known, &known->empty, &learned);
	bpf_seq_write(seq, record, sizeof(*record));
	return 0;
}

/* Whether a known map is at its address. Ids alone are small numbers, which other memory may have. */
static __always_inline bool is_there(struct known_map *map)
{
	__u64 ops = 0;
	__u32 id = 0;

	READ(ops, (struct bpf_map *)map->map, ops);
	READ(id, (struct bpf_map *)map->map, id);
	return id && id == map->id && ops == map->ops;
}

/* No memory has the address 0. */
static __always_inline void forget_map(struct known_map *map)
{
	map->map = 0;
	map->counter = 0;
}

static long begin_map(__u32 index, struct pass *pass)
{
	struct known_map *map = &((struct map_chunk *)pass->chunk)->objects[index % CHUNK];
	struct map_counters *counters = &((struct map_counters *)pass->counters)[index % CHUNK];
	struct step *step = pass->step;

	/* No pointer of what is there instead is followed. */
	if (!is_there(map)) {
		forget_map(map);
		return 0;
	}
	if (map->owner != step->owner) {
		step->owner = map->owner;
		step->cgroup = memory_cgroup(map->owner);
	}
	counters->memory_cgroup = map->owner ? step->cgroup : 0;
	/* No map is ever unfrozen. */
	if (!map->frozen) {
		bool frozen = false;

		READ(frozen, (struct bpf_map *)map->map, frozen);
		map->frozen = frozen;
	}
	counters->frozen = map->frozen;
	if (map->counter) {
		counters->entries = 0;
		counters->backlog = UNKNOWN;
	} else {
		read_occupancy((struct bpf_map *)map->map, map->type, &counters->entries, &counters->backlog);
	}
	return 0;
}

static long add_count(__u32 index, struct pass *pass)
{
	struct known_map *map = &((struct map_chunk *)pass->chunk)->objects[index % CHUNK];
	struct map_counters *counters = &((struct map_counters *)pass->counters)[index % CHUNK];
	struct step *step = pass->step;
	__s64 count = 0;

	if (!map->counter || (step->offline && !map->all_cpus))
		return 0;
	bpf_probe_read_kernel(&count, sizeof(count), (void *)(map->counter + step->offset));
	counters->entries += count;
	return 0;
}

static long add_counts_of_cpu(__u32 index, struct pass *pass)
{
	return add_of_cpu(index, pass, add_count);
}

static long end_map(__u32 index, struct pass *pass)
{
	struct known_map *map = &((struct map_chunk *)pass->chunk)->objects[index % CHUNK];
	struct map_counters *counters = &((struct map_counters *)pass->counters)[index % CHUNK];

	if (is_there(map)) {
		counters->id = map->id;
		if (map->counter)
			counters->entries = not_negative(counters->entries);
		return 0;
	}
	counters->id = 0;
	forget_map(map);
	return 0;
}

static long read_map_chunk(__u32 index __unused, struct pass *pass)
{
	return read_chunk(pass, &bpfmetrics_cmap, sizeof(struct map_counters), begin_map, add_counts_of_cpu, end_map);
}

SEC("iter/task")
int bpf_metrics_exporter_map_pass(struct bpf_iter__task *ctx)
{
	__u32 zero = 0;
	struct map_scratch *scratch = bpf_map_lookup_elem(&bpfmetrics_maps, &zero);
	struct request *request = bpf_map_lookup_elem(&bpfmetrics_req, &zero);
	struct known_maps *known = bpf_map_lookup_elem(&bpfmetrics_kmap, &zero);
	struct pass pass = { .seq = ctx->meta->seq, .request = request, .scratch = scratch };

	if (!ctx->task || !scratch || !request || !known)
		return 0;
	pass.known = &known->known;
	pass.step = &scratch->step;
	pass.counters = scratch->counters;
	return make_step(&pass, sizeof(struct map_counters), read_map_chunk);
}
