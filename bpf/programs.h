/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The iterator over programs. */
#pragma once

#include "common.h"

/* More than BPF_MAX_SUBPROGS, 256, and one that the verifier adds. */
#define MAX_FUNCTIONS 512
/* Map ids that are written at a time. */
#define MAP_IDS 64

struct program_scratch {
	__u64 address;
	struct program_record record;
	struct program_facts facts;
	char full_name[NAME_LEN];
	char attach_to[NAME_LEN];
	__u32 map_ids[MAP_IDS];
	__u32 complete;
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
};

static long sum_stats(__u32 index, struct sum_stats *sum)
{
	struct cpu *cpu = bpf_map_lookup_elem(&bpfmetrics_cpus, &index);
	struct {
		__u64 runs, run_time, misses;
	} stats;

	if (!cpu)
		return 1;
	if (bpf_probe_read_kernel(&stats, sizeof(stats), (void *)(sum->pointer + cpu->offset)))
		return 0;
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

SEC("iter/bpf_prog")
int bpf_metrics_exporter_program(struct bpf_iter__bpf_prog *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct bpf_prog *prog = ctx->prog;
	__u32 zero = 0;
	struct program_scratch *scratch = bpf_map_lookup_elem(&bpfmetrics_prog, &zero);
	struct request *request = bpf_map_lookup_elem(&bpfmetrics_req, &zero);
	struct sum_stats sum = {};
	struct program_record *record;
	struct bpf_prog_aux *aux;

	if (!prog || !scratch || !request)
		return 0;
	if (ctx->meta->seq_num == 0)
		find_offsets(&bpfmetrics_prog, &scratch->address);
	aux = prog->aux;
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
	record->has_facts = record->id >= request->program_facts_from;
	bpf_seq_write(seq, record, sizeof(*record));
	if (record->has_facts)
		write_program_facts(seq, prog, scratch);
	return 0;
}
