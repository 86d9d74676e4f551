/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the iterators share: their maps, and how they read what the verifier knows nothing of. */
#pragma once

#include "kernel.h"
#include "records.h"

/* A processor: its number, which the reader writes, and how far its variables are from where per-CPU pointers point. */
struct cpu {
	__u64 offset;
	__u32 number;
	__u32 padding;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* the reader sets it to the number of possible processors */
	__type(key, __u32);
	__type(value, struct cpu);
} bpfmetrics_cpus SEC(".maps");

/* What the reader asks for. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct request);
} bpfmetrics_ask SEC(".maps");

/* Room for records and names that are too long for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} bpfmetrics_room SEC(".maps");

/*
 * An address as a number: the verifier allows no arithmetic on the pointers it knows. A value that went through memory is a
 * number to it.
 */
static __always_inline __u64 as_number(struct scratch *room, const volatile void *pointer)
{
	*(const volatile void *volatile *)&room->address = pointer;
	return *(volatile __u64 *)&room->address;
}

struct find_offset {
	struct scratch *room;
	__u64 base;
};

static long find_offset(__u32 index, struct find_offset *find)
{
	struct cpu *cpu = bpf_map_lookup_elem(&bpfmetrics_cpus, &index);
	__u32 zero = 0;
	void *own;

	if (!cpu)
		return 1;
	own = bpf_map_lookup_percpu_elem(&bpfmetrics_room, &zero, cpu->number);
	if (!own)
		return 1;
	cpu->offset = as_number(find->room, own) - find->base;
	return 0;
}

/*
 * Learns each processor's offset from a per-CPU map of our own: the address of an element on that processor, less the per-CPU
 * pointer in the map itself. bpf_per_cpu_ptr() wants type tags that kernels built with gcc do not have, and the symbol
 * __per_cpu_offset cannot be found without CONFIG_KALLSYMS_ALL.
 */
static __always_inline void find_offsets(struct scratch *room)
{
	struct find_offset find = { .room = room };
	__u64 array = as_number(room, &bpfmetrics_room);

	bpf_probe_read_kernel(&find.base, sizeof(find.base),
			      (void *)(array + bpf_core_field_offset(FIELD_OF(struct bpf_array, pptrs))));
	bpf_loop(MAX_CPUS, find_offset, &find, 0);
}

/* Reads a field through a pointer of which the verifier knows nothing. Of a field that the kernel lacks nothing is read. */
#define READ(destination, pointer, field)                                                                \
	do {                                                                                             \
		if (bpf_core_field_exists((pointer)->field))                                             \
			bpf_probe_read_kernel(&(destination), sizeof(destination), &(pointer)->field);   \
	} while (0)

static __always_inline __u32 map_id(struct bpf_map *map)
{
	__u32 id = 0;

	READ(id, map, id);
	return id;
}
