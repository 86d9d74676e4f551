/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Maps and macros shared by the iterators, and access to per-CPU variables of the kernel. Each iterator has its
 * scratch memory in a per-CPU map, since the stack has 512 bytes; the reader runs each of them once at a time.
 * The names of maps have 15 characters, the most the kernel stores.
 */
#pragma once

#include "kernel.h"
#include "records.h"

/* More than KSYM_NAME_LEN, 512 since 6.1, which limits the names in BTF. */
#define NAME_LEN 1024
/* PATH_MAX */
#define PATH_LEN 4096
/* The highest NR_CPUS of any architecture. */
#define MAX_CPUS 8192

/* A possible CPU: its number, written by the reader, and the distance from per-CPU pointers to its variables. */
struct cpu {
	__u64 offset;
	__u32 number;
	__u32 padding;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1); /* set by the reader to the number of possible CPUs */
	__type(key, __u32);
	__type(value, struct cpu);
} bpfmetrics_cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct request);
} bpfmetrics_req SEC(".maps");

/*
 * Converts an address to a scalar: the verifier refuses arithmetic on pointers that it tracks. A value loaded from
 * the memory of a map is a scalar to it.
 */
static __always_inline __u64 to_scalar(__u64 *memory, const volatile void *pointer)
{
	*(const volatile void *volatile *)memory = pointer;
	return *(volatile __u64 *)memory;
}

struct find_offset {
	void *map;
	__u64 *memory;
	__u64 base;
};

static long find_offset(__u32 index, struct find_offset *find)
{
	struct cpu *cpu = bpf_map_lookup_elem(&bpfmetrics_cpus, &index);
	__u32 zero = 0;
	void *element;

	if (!cpu)
		return 1;
	element = bpf_map_lookup_percpu_elem(find->map, &zero, cpu->number);
	if (!element)
		return 1;
	cpu->offset = to_scalar(find->memory, element) - find->base;
	return 0;
}

/*
 * Finds each CPU's offset by a per-CPU array: the address of its element on that CPU, minus the per-CPU pointer in
 * the array itself. bpf_per_cpu_ptr() needs type tags that kernels built with gcc lack, and the symbol
 * __per_cpu_offset cannot be resolved without CONFIG_KALLSYMS_ALL.
 */
static __always_inline void find_offsets(void *map, __u64 *memory)
{
	struct find_offset find = { .map = map, .memory = memory };
	__u64 array = to_scalar(memory, map);

	bpf_probe_read_kernel(&find.base, sizeof(find.base),
			      (void *)(array + bpf_core_field_offset(FIELD_OF(struct bpf_array, pptrs))));
	bpf_loop(MAX_CPUS, find_offset, &find, 0);
}

/*
 * Reads a field through a pointer that the verifier does not track; a field that this kernel lacks is left as it
 * is.
 */
#define READ(destination, pointer, field)                                                                \
	do {                                                                                             \
		if (bpf_core_field_exists((pointer)->field))                                             \
			bpf_probe_read_kernel(&(destination), sizeof(destination), &(pointer)->field);   \
	} while (0)

/* The structure that contains the field at this address. */
#define CONTAINER_OF(pointer, structure, field) \
	((structure *)((void *)(pointer) - bpf_core_field_offset(FIELD_OF(structure, field))))

/* The address of a field, for a pointer that the verifier does not track. */
#define ADDRESS_OF(pointer, field) ((__u64)(pointer) + bpf_core_field_offset((pointer)->field))

/* Reads text and returns its length without the terminating zero; 0 if it cannot be read. */
static __always_inline __u32 read_text(char *destination, __u32 size, const char *source)
{
	long len = bpf_probe_read_kernel_str(destination, size, source);

	return len > 1 ? len - 1 : 0;
}

/* Writes text of this length. The mask is for the verifier: none is longer. The size is a power of two. */
static __always_inline void write_text(struct seq_file *seq, const char *text, __u32 size, __u32 len)
{
	if (len)
		bpf_seq_write(seq, text, len & (size - 1));
}

/* The same for names. */
static __always_inline __u32 read_string(char *destination, const char *source)
{
	return read_text(destination, NAME_LEN, source);
}

static __always_inline void write_string(struct seq_file *seq, const char *string, __u32 len)
{
	write_text(seq, string, NAME_LEN, len);
}

static __always_inline __u32 map_id(struct bpf_map *map)
{
	__u32 id = 0;

	READ(id, map, id);
	return id;
}

static __always_inline __u64 cgroup_id(struct cgroup *cgroup)
{
	struct kernfs_node *node = 0;
	__u64 id = 0;

	READ(node, cgroup, kn);
	READ(id, node, id);
	return id;
}
