/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The programs and maps that the iterators have visited, by their addresses in the kernel, so that one run of a program
 * reads what changes of all of them. The iterators store them. The reader freezes these maps, so that system calls
 * cannot change an address.
 *
 * No reference is held to a known object. The kernel sets the id of a program or map to 0 before it frees anything of
 * it (bpf_prog_free_id(), bpf_map_free_id()), so if its id and a pointer are still the same after its counters were
 * read, they were its counters. Freed memory is read at most once more: reading it is safe, and what was read is
 * dropped.
 */
#pragma once

#include "common.h"

/* Objects that are stored and read together. A power of two. */
#define CHUNK 64
/* Those of 131,072 objects. With more of them, all are read by the iterator. */
#define MAX_CHUNKS 2048

/* What is known of a table. */
struct known {
	/* Number of objects, in ascending order of ids, and the last one's id. */
	__u32 count;
	__u32 last_id;
	/* Whether the iterator visited an object that could not be stored. */
	__u32 incomplete;
	/* Whether an object has counts of a CPU that is not online. */
	__u32 all_cpus;
	/* The number of the pass, the object that it goes on with, and whether it has ended. */
	__u32 pass;
	__u32 next;
	__u32 done;
	__u32 padding;
};

/* Forgets all objects before the iterator visits all of them. */
static __always_inline void forget(struct known *known)
{
	known->count = 0;
	known->last_id = 0;
	known->incomplete = 0;
	known->all_cpus = 0;
}

/* Returns the place of an object: the next one, unless the kernel repeats a visit whose record had no room. */
static __always_inline __u32 place_of(struct known *known, __u32 id)
{
	return known->count && known->last_id == id ? known->count - 1 : known->count;
}

/* Adds the object in a place. */
static __always_inline void add(struct known *known, __u32 place, __u32 id, __u32 all_cpus)
{
	known->count = place + 1;
	known->last_id = id;
	known->all_cpus |= all_cpus;
}

/*
 * The bound of a step of a pass, in which nothing waits for the RCU read-side critical section to end but what is to be
 * freed: about a millisecond. Each object costs as many units as its counters have CPUs, and a few.
 */
#define MAX_STEP_COST 32768
#define OBJECT_COST 4

/* What a step of a pass is at. It is not on the stack, since the verifier would follow the numbers through all loops. */
struct step {
	/* Number of objects in the chunk. */
	__u32 count;
	__u32 cpus;
	__u32 possible_cpus;
	__u32 cost;
	/* Whether the current CPU is not online. */
	__u32 offline;
	/* That of the current CPU. */
	__u64 offset;
	/* Serves as a memory barrier only. */
	__u64 barrier;
	/* The memory cgroup of the last map, and what points to it. */
	__u64 owner;
	__u64 cgroup;
};

/* Starts a pass if a new one is requested, and the step. */
static __always_inline void begin_step(struct step *step, struct known *known, struct request *request)
{
	if (known->pass != request->pass) {
		known->pass = request->pass;
		known->next = 0;
		known->done = 0;
	}
	step->cpus = known->all_cpus ? request->possible_cpus : request->online_cpus;
	step->possible_cpus = request->possible_cpus;
	step->cost = 0;
	step->owner = 0;
}

/* Whether the step has time for another chunk, and the buffer room for its records and the last one. */
static __always_inline __u32 goes_on(struct step *step, struct seq_file *seq, __u32 record_len)
{
	return step->cost < MAX_STEP_COST && seq->count + (CHUNK + 1) * record_len <= seq->size;
}

/* Goes on to the next chunk, which has at least one object. */
static __always_inline void begin_chunk(struct step *step, struct known *known)
{
	__u32 left = known->count - known->next, cpus = step->cpus;

	step->count = left < CHUNK ? left : CHUNK;

	/* Before 6.6, entries of some maps are counted on every CPU. */
	if (!bpf_core_field_exists(FIELD_OF(struct bpf_map, elem_count)))
		cpus = step->possible_cpus;
	step->cost += CHUNK * (OBJECT_COST + cpus);
}

/* The number of objects in the chunk, in a way that the verifier sees the bound of. */
static __always_inline __u32 chunk_len(struct step *step)
{
	__u32 count = *(volatile __u32 *)&step->count;

	return count < CHUNK ? count : CHUNK;
}

/* Ids are read after this, and counters before. An atomic operation that returns a value orders both. */
static __always_inline void order_reads(struct step *step)
{
	__u64 before = __sync_fetch_and_add(&step->barrier, 1);

	*(volatile __u64 *)&step->offset = before;
}

/* A pass over the known objects of a table. */
struct pass {
	struct seq_file *seq;
	struct known *known;
	struct request *request;
	struct step *step;
	/* The scratch memory of the table, and its records of a chunk. */
	void *scratch;
	void *counters;
	/* The current chunk. */
	void *chunk;
};

/* Called for each object of a chunk, and for each CPU. */
typedef long (*pass_callback)(__u32 index, struct pass *pass);

/* Returns a chunk, which is allocated if there is none; 0, and the table is incomplete, if there is no memory. */
static __always_inline void *chunk_to_fill(struct known *known, void *chunks, __u32 number, const void *empty)
{
	void *chunk = bpf_map_lookup_elem(chunks, &number);

	if (!chunk) {
		bpf_map_update_elem(chunks, &number, empty, BPF_NOEXIST);
		chunk = bpf_map_lookup_elem(chunks, &number);
	}
	if (!chunk)
		known->incomplete = 1;
	return chunk;
}

/* Adds the counters of one CPU to those of each object of the chunk. */
static __always_inline long add_of_cpu(__u32 index, struct pass *pass, pass_callback add)
{
	struct cpu *cpu = bpf_map_lookup_elem(&bpfmetrics_cpus, &index);

	if (!cpu)
		return 1;
	pass->step->offset = cpu->offset;
	pass->step->offline = index >= pass->request->online_cpus;
	bpf_loop(pass->step->count, add, pass, 0);
	return 0;
}

/*
 * Reads the next chunk, unless the pass or the step has ended. `begin` is called for each object before its counters are
 * read, `add` for each CPU, and `end` for each object after that.
 */
static __always_inline long read_chunk(struct pass *pass, void *chunks, __u32 record_len, pass_callback begin,
				       pass_callback add, pass_callback end)
{
	struct known *known = pass->known;
	struct step *step = pass->step;
	__u32 number = known->next / CHUNK;

	if (known->incomplete || known->next >= known->count) {
		known->done = 1;
		return 1;
	}
	if (!goes_on(step, pass->seq, record_len))
		return 1;
	pass->chunk = bpf_map_lookup_elem(chunks, &number);
	if (!pass->chunk)
		return 1;
	begin_chunk(step, known);
	bpf_loop(step->count, begin, pass, 0);
	bpf_loop(step->cpus, add, pass, 0);
	order_reads(step);
	bpf_loop(step->count, end, pass, 0);
	bpf_seq_write(pass->seq, pass->counters, chunk_len(step) * record_len);
	known->next += step->count;
	return 0;
}

/* Makes a step of a pass. Each run of a program that is attached to an iterator over one thread is one, as in files.h. */
static __always_inline int make_step(struct pass *pass, __u32 record_len, pass_callback read)
{
	__u32 *last = pass->counters;

	begin_step(pass->step, pass->known, pass->request);
	if (pass->known->done)
		return 0;
	/* Have the kernel pass on what is in the buffer, and repeat this step. */
	if (!goes_on(pass->step, pass->seq, record_len))
		return 1;
	bpf_loop(MAX_CHUNKS + 1, read, pass, 0);
	if (pass->known->done) {
		last[0] = UNKNOWN_U32;
		last[1] = !pass->known->incomplete;
		bpf_seq_write(pass->seq, last, record_len);
	}
	return 0;
}
