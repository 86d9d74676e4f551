/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The iterator over programs, and the pass over those that it has visited. */
#pragma once

#include "known.h"

/* More than BPF_MAX_SUBPROGS, 256, and one that the verifier adds. */
#define MAX_FUNCTIONS 512
/* Map ids that are written at a time. */
#define MAP_IDS 64

struct known_program {
	__u64 aux;
	/* A per-CPU pointer; 0 if the program has no counters. */
	__u64 stats;
	__u32 id;
	/* Whether the counters of CPUs that are not online are not all 0. */
	__u16 all_cpus;
	/* Whether the counters of the program before or after this one are in the same window. */
	__u16 has_neighbor;
};

/*
 * Counters of programs that were loaded one after another mostly lie side by side in the memory of a CPU, 32 bytes each:
 * those in a window are read at once. A window does not cross a page. In the memory of each CPU it begins at the same
 * offset, since these memories have distances of whole pages.
 */
#define WINDOW 256

struct window {
	/* 0 if nothing was read. */
	__u64 start;
	__u64 words[WINDOW / sizeof(__u64)];
};

struct program_chunk {
	struct known_program objects[CHUNK];
};

struct known_programs {
	struct known known;
	/* Always zero: what a new chunk has. */
	struct program_chunk empty;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct known_programs);
} bpfmetrics_kpro SEC(".maps");

/* Chunks by number, allocated as they are needed. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CHUNKS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct program_chunk);
} bpfmetrics_cpro SEC(".maps");

struct program_scratch {
	__u64 address;
	struct program_record record;
	struct program_facts facts;
	char full_name[NAME_LEN];
	char attach_to[NAME_LEN];
	__u32 map_ids[MAP_IDS];
	__u32 complete;
	struct step step;
	struct window window;
	struct program_counters counters[CHUNK];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct program_scratch);
} bpfmetrics_prog SEC(".maps");

struct sum_stats {
	__u64 pointer;
	struct program_record *record;
	struct request *request;
	__u32 all_cpus;
};

/* The counters of struct bpf_prog_stats. */
struct stats {
	__u64 runs, run_time, misses;
};

static long sum_stats(__u32 index, struct sum_stats *sum)
{
	struct cpu *cpu = bpf_map_lookup_elem(&bpfmetrics_cpus, &index);
	struct stats stats;

	if (!cpu)
		return 1;
	if (bpf_probe_read_kernel(&stats, sizeof(stats), (void *)(sum->pointer + cpu->offset)))
		return 0;
	if (index >= sum->request->online_cpus && (stats.runs || stats.misses))
		sum->all_cpus = 1;
	sum->record->runs += stats.runs;
	sum->record->run_time += stats.run_time;
	sum->record->misses += stats.misses;
	return 0;
}

/* Sums the machine code of a program's functions, the first of which is the program itself. */
struct sum_code {
	__u64 functions;
	__u32 count;
	__u32 len;
};

static long sum_code(__u32 index, struct sum_code *sum)
{
	struct bpf_prog *function = 0;
	__u32 len = 0;

	if (index >= sum->count)
		return 1;
	bpf_probe_read_kernel(&function, sizeof(function), (void *)(sum->functions + index * sizeof(function)));
	bpf_probe_read_kernel(&len, sizeof(len), &function->jited_len);
	sum->len += len;
	return 0;
}

/* Reads the name of a program's entry function from its BTF, and returns its length; 0 if it has none. */
static __always_inline __u32 read_entry_function(struct bpf_prog_aux *aux, char *name)
{
	struct btf *btf = aux->btf;
	struct btf_type *type = 0;
	__u32 type_id = 0, name_offset = 0;
	const char *strings;

	if (!btf || !aux->func_info_cnt)
		return 0;
	bpf_probe_read_kernel(&type_id, sizeof(type_id), &aux->func_info->type_id);
	bpf_probe_read_kernel(&type, sizeof(type), btf->types + type_id);
	bpf_probe_read_kernel(&name_offset, sizeof(name_offset), &type->name_off);
	bpf_probe_read_kernel(&strings, sizeof(strings), &btf->strings);
	return read_string(name, strings + name_offset);
}

/* Writes the ids of the maps that a program uses. */
struct write_map_ids {
	struct seq_file *seq;
	struct program_scratch *scratch;
	/* The rest of the array of maps. */
	__u64 maps;
	__u32 left;
	/* Number of ids in the scratch memory. */
	__u32 count;
};

static long read_map_id(__u32 index, struct write_map_ids *ids)
{
	struct bpf_map *map = 0;
	__u32 id = 0;

	if (index >= ids->count)
		return 1;
	bpf_probe_read_kernel(&map, sizeof(map), (void *)(ids->maps + index * sizeof(map)));
	bpf_probe_read_kernel(&id, sizeof(id), &map->id);
	ids->scratch->map_ids[index & (MAP_IDS - 1)] = id;
	return 0;
}

static long write_map_ids(__u32 index __unused, struct write_map_ids *ids)
{
	__u32 count = ids->left;

	if (!count)
		return 1;
	if (count > MAP_IDS)
		count = MAP_IDS;
	ids->count = count;
	bpf_loop(MAP_IDS, read_map_id, ids, 0);
	bpf_seq_write(ids->seq, ids->scratch->map_ids, count * sizeof(ids->scratch->map_ids[0]));
	ids->maps += count * sizeof(struct bpf_map *);
	ids->left -= count;
	return 0;
}

static __always_inline void write_program_facts(struct seq_file *seq, struct bpf_prog *prog,
						struct program_scratch *scratch)
{
	struct bpf_prog_aux *aux = prog->aux;
	struct program_facts *facts = &scratch->facts;
	struct bpf_map **maps = aux->used_maps;
	struct sum_code code = {};
	__u32 count = aux->used_map_cnt;
	struct write_map_ids ids = { .seq = seq, .scratch = scratch };

	facts->type = prog->type;
	facts->size_translated = prog->len * 8;
	facts->size_jitted = prog->jited_len;
	if (aux->func_cnt) {
		code.functions = to_scalar(&scratch->address, aux->func);
		code.count = aux->func_cnt;
		bpf_loop(MAX_FUNCTIONS, sum_code, &code, 0);
		facts->size_jitted = code.len;
	}
	facts->pages = prog->pages;
	facts->gpl_compatible = CORE_BITFIELD(prog, gpl_compatible);
	facts->uid = aux->user->uid.val;
	facts->btf_id = aux->btf ? aux->btf->id : 0;
	facts->verified_instructions = UNKNOWN_U32;
	if (bpf_core_field_exists(aux->verified_insns))
		facts->verified_instructions = aux->verified_insns;
	__builtin_memcpy(facts->name, aux->name, sizeof(facts->name));
	facts->full_name_len = 0;
	if (facts->name[OBJ_NAME_LEN - 2])
		facts->full_name_len = read_entry_function(aux, scratch->full_name);
	facts->attach_to_len = read_string(scratch->attach_to, aux->attach_func_name);

	/* Whoever needs more of them has to query the program. */
	ids.maps = to_scalar(&scratch->address, maps);
	ids.left = count <= MAX_REPORTED_MAPS ? count : 0;
	facts->map_count = ids.left;

	bpf_seq_write(seq, facts, sizeof(*facts));
	write_string(seq, scratch->full_name, facts->full_name_len);
	write_string(seq, scratch->attach_to, facts->attach_to_len);
	bpf_loop(MAX_REPORTED_MAPS / MAP_IDS, write_map_ids, &ids, 0);
	/* Binding another map frees the array; ids read from it after that are garbage. */
	scratch->complete = aux->used_maps == maps && aux->used_map_cnt == facts->map_count;
	bpf_seq_write(seq, &scratch->complete, sizeof(scratch->complete));
}

/* Stores a program that the iterator visits. */
static __always_inline void learn_program(struct known *known, struct program_chunk *empty,
					  struct known_program *program)
{
	__u32 place = place_of(known, program->id);
	struct program_chunk *chunk = chunk_to_fill(known, &bpfmetrics_cpro, place / CHUNK, empty);

	if (!chunk)
		return;
	if (place % CHUNK) {
		struct known_program *before = &chunk->objects[(place - 1) % CHUNK];

		if (program->stats && before->stats / WINDOW == program->stats / WINDOW)
			before->has_neighbor = program->has_neighbor = 1;
	}
	chunk->objects[place % CHUNK] = *program;
	add(known, place, program->id, program->all_cpus);
}

SEC("iter/bpf_prog")
int bpf_metrics_exporter_program(struct bpf_iter__bpf_prog *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct bpf_prog *prog = ctx->prog;
	__u32 zero = 0;
	struct program_scratch *scratch = bpf_map_lookup_elem(&bpfmetrics_prog, &zero);
	struct request *request = bpf_map_lookup_elem(&bpfmetrics_req, &zero);
	struct known_programs *known = bpf_map_lookup_elem(&bpfmetrics_kpro, &zero);
	struct sum_stats sum = { .request = request };
	struct known_program program = {};
	struct program_record *record;
	struct bpf_prog_aux *aux;

	if (!prog || !scratch || !request || !known)
		return 0;
	aux = prog->aux;
	if (aux->id < request->known_below)
		return 0;
	if (ctx->meta->seq_num == 0 && !request->known_below) {
		find_offsets(&bpfmetrics_prog, &scratch->address);
		forget(&known->known);
	}
	record = &scratch->record;
	__builtin_memset(record, 0, sizeof(*record));
	record->id = aux->id;
	record->used_maps = aux->used_map_cnt;
	record->load_time = aux->load_time;
	__builtin_memcpy(record->tag, prog->tag, sizeof(record->tag));
	sum.record = record;
	sum.pointer = to_scalar(&scratch->address, prog->stats);
	if (sum.pointer)
		bpf_loop(MAX_CPUS, sum_stats, &sum, 0);
	program.aux = to_scalar(&scratch->address, aux);
	program.stats = sum.pointer;
	program.id = record->id;
	program.all_cpus = sum.all_cpus;
	learn_program(&known->known, &known->empty, &program);
	record->has_facts = record->id >= request->program_facts_from;
	bpf_seq_write(seq, record, sizeof(*record));
	if (record->has_facts)
		write_program_facts(seq, prog, scratch);
	return 0;
}

static long begin_program(__u32 index, struct pass *pass)
{
	struct known_program *program = &((struct program_chunk *)pass->chunk)->objects[index % CHUNK];
	struct program_counters *counters = &((struct program_counters *)pass->counters)[index % CHUNK];

	counters->runs = 0;
	counters->run_time = 0;
	counters->misses = 0;
	READ(counters->used_maps, (struct bpf_prog_aux *)program->aux, used_map_cnt);
	return 0;
}

/* Adds the counters at an address, in three words. */
static __always_inline void add_words(struct program_counters *counters, const __u64 *words)
{
	counters->runs += words[0];
	counters->run_time += words[1];
	counters->misses += words[2];
}

static long add_stats(__u32 index, struct pass *pass)
{
	struct known_program *program = &((struct program_chunk *)pass->chunk)->objects[index % CHUNK];
	struct program_counters *counters = &((struct program_counters *)pass->counters)[index % CHUNK];
	struct step *step = pass->step;
	struct window *window = &((struct program_scratch *)pass->scratch)->window;
	__u64 address = program->stats + step->offset;
	__u64 at = address % WINDOW;
	struct stats stats;

	if (!program->stats || (step->offline && !program->all_cpus))
		return 0;
	if (program->has_neighbor && at <= WINDOW - sizeof(stats)) {
		if (window->start != address - at) {
			window->start = address - at;
			/* All zero if it cannot be read. */
			bpf_probe_read_kernel(window->words, sizeof(window->words), (void *)window->start);
		}
		add_words(counters, &window->words[at / sizeof(__u64)]);
		return 0;
	}
	if (!bpf_probe_read_kernel(&stats, sizeof(stats), (void *)address))
		add_words(counters, (__u64 *)&stats);
	return 0;
}

static long add_stats_of_cpu(__u32 index, struct pass *pass)
{
	((struct program_scratch *)pass->scratch)->window.start = 0;
	return add_of_cpu(index, pass, add_stats);
}

static long end_program(__u32 index, struct pass *pass)
{
	struct known_program *program = &((struct program_chunk *)pass->chunk)->objects[index % CHUNK];
	struct program_counters *counters = &((struct program_counters *)pass->counters)[index % CHUNK];
	struct bpf_prog *prog = 0;
	__u64 aux = 0;
	__u32 id = 0;

	READ(id, (struct bpf_prog_aux *)program->aux, id);
	/* Ids are small numbers, which other memory may have: the program has to point back to it as well. */
	READ(prog, (struct bpf_prog_aux *)program->aux, prog);
	READ(aux, prog, aux);
	counters->id = id == program->id && aux == program->aux ? id : 0;
	if (counters->id)
		return 0;
	/* It is gone. No memory has the address 0. */
	program->aux = 0;
	program->stats = 0;
	return 0;
}

static long read_program_chunk(__u32 index __unused, struct pass *pass)
{
	return read_chunk(pass, &bpfmetrics_cpro, sizeof(struct program_counters), begin_program, add_stats_of_cpu,
			  end_program);
}

SEC("iter/task")
int bpf_metrics_exporter_program_pass(struct bpf_iter__task *ctx)
{
	__u32 zero = 0;
	struct program_scratch *scratch = bpf_map_lookup_elem(&bpfmetrics_prog, &zero);
	struct request *request = bpf_map_lookup_elem(&bpfmetrics_req, &zero);
	struct known_programs *known = bpf_map_lookup_elem(&bpfmetrics_kpro, &zero);
	struct pass pass = { .seq = ctx->meta->seq, .request = request, .scratch = scratch };

	if (!ctx->task || !scratch || !request || !known)
		return 0;
	pass.known = &known->known;
	pass.step = &scratch->step;
	pass.counters = scratch->counters;
	return make_step(&pass, sizeof(struct program_counters), read_program_chunk);
}
