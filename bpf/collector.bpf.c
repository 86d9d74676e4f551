// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Iterators over the kernel's tables of BPF objects, which write a record for each object: all that moves, and what never
 * changes of those that the reader has not met. `src/kernel/iter/` loads the object and reads the records.
 *
 * The kernel's structures are declared as far as they are read, and relocated when the object is loaded. A field that some
 * kernel lacks stands behind bpf_core_field_exists().
 */
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

/* The machine code of a program's functions, of which the first is the program itself. */
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

/* The name in BTF of a program's entry function; nothing when it has none. */
static __always_inline __u32 entry_function(struct bpf_prog_aux *aux, char *name)
{
	struct btf *btf = aux->btf;
	struct btf_type *type = 0;
	__u32 type_id = 0, name_offset = 0;
	const char *strings;
	long len;

	if (!btf || !aux->func_info_cnt)
		return 0;
	bpf_probe_read_kernel(&type_id, sizeof(type_id), &aux->func_info->type_id);
	bpf_probe_read_kernel(&type, sizeof(type), btf->types + type_id);
	bpf_probe_read_kernel(&name_offset, sizeof(name_offset), &type->name_off);
	bpf_probe_read_kernel(&strings, sizeof(strings), &btf->strings);
	len = bpf_probe_read_kernel_str(name, NAME_LEN, strings + name_offset);
	return len > 1 ? len - 1 : 0;
}

static __always_inline void write_program_facts(struct seq_file *seq, struct bpf_prog *prog, struct scratch *room)
{
	struct bpf_prog_aux *aux = prog->aux;
	struct program_facts *facts = &room->program_facts;
	struct bpf_map **maps = aux->used_maps;
	struct sum_code code = {};
	__u32 count = aux->used_map_cnt, i;
	long len;

	facts->type = prog->type;
	facts->size_translated = prog->len * 8;
	facts->size_jitted = prog->jited_len;
	if (aux->func_cnt) {
		code.functions = as_number(room, aux->func);
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
		facts->full_name_len = entry_function(aux, room->name);
	len = bpf_probe_read_kernel_str(room->other_name, NAME_LEN, aux->attach_func_name);
	facts->attach_to_len = len > 1 ? len - 1 : 0;

	if (count > MAX_USED_MAPS)
		count = MAX_USED_MAPS;
	for (i = 0; i < MAX_USED_MAPS; i++) {
		struct bpf_map *map = 0;

		if (i >= count)
			break;
		bpf_probe_read_kernel(&map, sizeof(map), maps + i);
		bpf_probe_read_kernel(&room->map_ids[i], sizeof(room->map_ids[i]), &map->id);
	}
	/* Binding one more map frees the array; what was read of it then may be anything. */
	facts->map_count = aux->used_maps == maps ? count : UNKNOWN_U32;

	bpf_seq_write(seq, facts, sizeof(*facts));
	if (facts->full_name_len)
		bpf_seq_write(seq, room->name, facts->full_name_len & (NAME_LEN - 1));
	if (facts->attach_to_len)
		bpf_seq_write(seq, room->other_name, facts->attach_to_len & (NAME_LEN - 1));
	if (facts->map_count == count && count)
		bpf_seq_write(seq, room->map_ids, count * sizeof(room->map_ids[0]));
}

SEC("iter/bpf_prog")
int bpf_metrics_exporter_program(struct bpf_iter__bpf_prog *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct bpf_prog *prog = ctx->prog;
	__u32 zero = 0;
	struct scratch *room = bpf_map_lookup_elem(&bpfmetrics_room, &zero);
	struct request *ask = bpf_map_lookup_elem(&bpfmetrics_ask, &zero);
	struct program_record record = {};
	struct sum_stats sum = { .record = &record };
	struct bpf_prog_aux *aux;

	if (!prog || !room || !ask)
		return 0;
	if (ctx->meta->seq_num == 0)
		find_offsets(room);
	aux = prog->aux;
	record.id = aux->id;
	record.used_maps = aux->used_map_cnt;
	record.load_time = aux->load_time;
	__builtin_memcpy(record.tag, prog->tag, sizeof(record.tag));
	sum.pointer = as_number(room, prog->stats);
	if (sum.pointer)
		bpf_loop(MAX_CPUS, sum_stats, &sum, 0);
	record.has_facts = record.id >= ask->program_facts_from;
	bpf_seq_write(seq, &record, sizeof(record));
	if (record.has_facts)
		write_program_facts(seq, prog, room);
	return 0;
}

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

/* Reads a field of the structure that a map is the first part of. */
#define READ_OF_MAP(destination, structure, field) \
	bpf_probe_read_kernel(&(destination), sizeof(destination), &((structure *)map)->field)

/* Entries of a hash table of any kind. */
static __always_inline __s64 hash_entries(struct bpf_map *map, struct scratch *room)
{
	struct sum_count sum = {};

	if (bpf_core_field_exists(map->elem_count)) {
		sum.pointer = as_number(room, map->elem_count);
		if (!sum.pointer)
			return UNKNOWN;
		bpf_loop(MAX_CPUS, sum_count, &sum, 0);
	} else {
		/* Before 6.6 only a table that grows counts, for its own limit. */
		bool spread = false;
		__s32 count = 0;

		if (!(map->map_flags & BPF_F_NO_PREALLOC))
			return UNKNOWN;
		if (bpf_core_field_exists(FIELD_OF(struct bpf_htab, use_percpu_counter))) {
			READ_OF_MAP(spread, struct bpf_htab, use_percpu_counter);
			if (spread) {
				READ_OF_MAP(sum.sum, struct bpf_htab, pcount.count);
				READ_OF_MAP(sum.pointer, struct bpf_htab, pcount.counters);
				bpf_loop(MAX_CPUS, sum_small_count, &sum, 0);
			}
		}
		if (!spread) {
			READ_OF_MAP(count, struct bpf_htab, count.counter);
			sum.sum = count;
		}
	}
	/* The processors' counts are not read at one moment: the sum can be off by what changes meanwhile. */
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

/* What a producer wrote and no consumer took. User space may write its own position, hence anything into it. */
static __always_inline __s64 ring_backlog(struct bpf_map *map)
{
	struct bpf_ringbuf *ring = 0;
	unsigned long consumed = 0, produced = 0;

	READ_OF_MAP(ring, struct bpf_ringbuf_map, rb);
	bpf_probe_read_kernel(&consumed, sizeof(consumed), &ring->consumer_pos);
	bpf_probe_read_kernel(&produced, sizeof(produced), &ring->producer_pos);
	return produced - consumed <= map->max_entries ? (__s64)(produced - consumed) : UNKNOWN;
}

static __always_inline __u64 paying_cgroup(struct bpf_map *map)
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

SEC("iter/bpf_map")
int bpf_metrics_exporter_map(struct bpf_iter__bpf_map *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct bpf_map *map = ctx->map;
	__u32 zero = 0;
	struct scratch *room = bpf_map_lookup_elem(&bpfmetrics_room, &zero);
	struct map_record record = {};
	__u32 number = 0;
	__u64 size = 0;

	if (!map || !room)
		return 0;
	if (bpf_core_field_exists(map->elem_count) && ctx->meta->seq_num == 0)
		find_offsets(room);
	record.id = map->id;
	record.type = map->map_type;
	record.key_size = map->key_size;
	record.value_size = map->value_size;
	record.max_entries = map->max_entries;
	record.flags = map->map_flags;
	record.btf_id = map->btf ? map->btf->id : 0;
	record.frozen = map->frozen;
	__builtin_memcpy(record.name, map->name, sizeof(record.name));
	if (bpf_core_field_exists(map->cookie))
		record.cookie = map->cookie;
	record.memory_cgroup = paying_cgroup(map);
	record.entries = UNKNOWN;
	record.backlog = UNKNOWN;
	switch (record.type) {
	case BPF_MAP_TYPE_HASH:
	case BPF_MAP_TYPE_PERCPU_HASH:
	case BPF_MAP_TYPE_LRU_HASH:
	case BPF_MAP_TYPE_LRU_PERCPU_HASH:
	case BPF_MAP_TYPE_HASH_OF_MAPS:
		record.entries = hash_entries(map, room);
		break;
	case BPF_MAP_TYPE_LPM_TRIE:
		READ_OF_MAP(size, struct lpm_trie, n_entries);
		record.entries = size;
		break;
	case BPF_MAP_TYPE_QUEUE:
	case BPF_MAP_TYPE_STACK:
		record.entries = queue_entries(map);
		break;
	case BPF_MAP_TYPE_DEVMAP:
		/* Counted since 6.4; the field of 6.6 is the nearest that can be asked for. */
		if (!bpf_core_field_exists(map->elem_count))
			break;
		READ_OF_MAP(number, struct bpf_dtab, items);
		record.entries = number;
		break;
	case BPF_MAP_TYPE_DEVMAP_HASH:
		READ_OF_MAP(number, struct bpf_dtab, items);
		record.entries = number;
		break;
	case BPF_MAP_TYPE_SOCKHASH:
		READ_OF_MAP(number, struct bpf_shtab, count.counter);
		record.entries = number;
		break;
	case BPF_MAP_TYPE_RINGBUF:
	case BPF_MAP_TYPE_USER_RINGBUF:
		record.backlog = ring_backlog(map);
		break;
	}
	bpf_seq_write(seq, &record, sizeof(record));
	return 0;
}

/* Reads a field through a pointer of which the verifier knows nothing. */
#define READ(destination, pointer, field) bpf_probe_read_kernel(&(destination), sizeof(destination), &(pointer)->field)

/* Reads a field of the structure that a link is the first part of. */
#define READ_OF_LINK(destination, structure, field) READ(destination, (structure *)link, field)

/* The structure that a field at this address is in. */
#define AROUND(pointer, structure, field) \
	((structure *)((void *)(pointer) - bpf_core_field_offset(FIELD_OF(structure, field))))

static __always_inline __u32 read_text(char *destination, const char *from)
{
	long len = bpf_probe_read_kernel_str(destination, NAME_LEN, from);

	return len > 1 ? len - 1 : 0;
}

static __always_inline __u64 cgroup_id(struct cgroup *cgroup)
{
	struct kernfs_node *node = 0;
	__u64 id = 0;

	READ(node, cgroup, kn);
	READ(id, node, id);
	return id;
}

static __always_inline __u32 map_id(struct bpf_map *map)
{
	__u32 id = 0;

	READ(id, map, id);
	return id;
}

static __always_inline void tell_tracing(struct bpf_link *link, struct link_record *record, struct scratch *room)
{
	struct bpf_trampoline *trampoline = 0;
	__u64 key = 0;

	READ_OF_LINK(trampoline, struct bpf_tracing_link, trampoline);
	READ(key, trampoline, key);
	record->target = TARGET_FUNCTION;
	record->first = key >> 32;
	record->second = key & 0xffffffff;
	/* The program remembers the function that it was loaded for; it may be attached to another. */
	if (link->prog->aux->attach_btf_id == (key & 0x7fffffff))
		record->name_len = read_text(room->name, link->prog->aux->attach_func_name);
}

static __always_inline void tell_iterator(struct bpf_link *link, struct link_record *record, struct scratch *room)
{
	struct bpf_iter_link *iterator = (struct bpf_iter_link *)link;
	struct bpf_iter_target_info *info = 0;
	struct bpf_iter_reg *registration = 0;
	const char *name = 0;
	struct bpf_map *map = 0;

	READ(info, iterator, tinfo);
	READ(registration, info, reg_info);
	READ(name, registration, target);
	record->name_len = read_text(room->name, name);
	record->target = TARGET_ITERATOR;
	READ(map, iterator, aux.map);
	if (map) {
		record->target = TARGET_ITERATOR_MAP;
		record->first = map_id(map);
		return;
	}
	if (bpf_core_field_exists(iterator->aux.cgroup)) {
		struct cgroup *start = 0;

		READ(start, iterator, aux.cgroup.start);
		if (start) {
			record->target = TARGET_ITERATOR_CGROUP;
			record->first = cgroup_id(start);
			return;
		}
	}
	if (bpf_core_field_exists(iterator->aux.task)) {
		__u32 pid = 0, type = 0;

		READ(type, iterator, aux.task.type);
		READ(pid, iterator, aux.task.pid);
		if (type) {
			record->target = type == 1 ? TARGET_ITERATOR_THREAD : TARGET_ITERATOR_PROCESS;
			record->first = pid;
		}
	}
}

static __always_inline void tell_device(struct net_device *device, struct link_record *record, struct scratch *room)
{
	__u32 index = 0;

	if (!device)
		return;
	READ(index, device, ifindex);
	record->target = TARGET_DEVICE;
	record->first = index;
	record->name_len = read_text(room->name, device->name);
}

static __always_inline void tell_kprobe(struct trace_probe *probe, struct link_record *record, struct scratch *room)
{
	struct trace_kprobe *kprobe = AROUND(probe, struct trace_kprobe, tp);
	const char *symbol = 0;
	void *handler = 0, *address = 0;
	unsigned long missed = 0;
	__s32 missed_returns = 0;
	__u32 offset = 0;

	READ(symbol, kprobe, symbol);
	READ(offset, kprobe, rp.kp.offset);
	READ(address, kprobe, rp.kp.addr);
	READ(handler, kprobe, rp.handler);
	READ(missed, kprobe, rp.kp.nmissed);
	READ(missed_returns, kprobe, rp.nmissed);
	record->target = TARGET_KPROBE;
	record->first = offset;
	record->second = (__u64)address;
	record->return_probe = handler != 0;
	record->missed = missed + (handler ? missed_returns : 0);
	if (symbol)
		record->name_len = read_text(room->name, symbol);
}

static __always_inline void tell_uprobe(struct trace_probe *probe, struct link_record *record, struct scratch *room)
{
	struct trace_uprobe *uprobe = AROUND(probe, struct trace_uprobe, tp);
	const char *file = 0;
	void *handler = 0;
	unsigned long offset = 0;

	READ(file, uprobe, filename);
	READ(offset, uprobe, offset);
	READ(handler, uprobe, consumer.ret_handler);
	record->target = TARGET_UPROBE;
	record->first = offset;
	record->return_probe = handler != 0;
	record->name_len = read_text(room->name, file);
}

static __always_inline void tell_perf_event(struct bpf_link *link, struct link_record *record, struct scratch *room,
					    struct request *ask)
{
	struct file *file = 0;
	struct perf_event *event = 0;
	struct trace_event_call *call = 0;
	struct trace_event_class *class = 0;
	struct tracepoint *tracepoint = 0;
	const char *name = 0, *group = 0;
	__s32 flags = 0;
	__u32 type = 0;

	READ_OF_LINK(file, struct bpf_perf_link, perf_file);
	READ(event, file, private_data);
	READ(call, event, tp_event);
	if (!call) {
		READ(type, event, attr.type);
		record->target = TARGET_PERF_EVENT;
		record->first = type;
		READ(record->second, event, attr.config);
		return;
	}
	READ(flags, call, flags);
	if (flags & (ask->flag_kprobe | ask->flag_uprobe)) {
		struct trace_probe_event *probes = AROUND(call, struct trace_probe_event, call);
		struct list_head *first = 0;

		READ(first, probes, probes.next);
		if (flags & ask->flag_kprobe) {
			if (bpf_core_field_exists(FIELD_OF(struct trace_kprobe, tp)))
				tell_kprobe(AROUND(first, struct trace_probe, list), record, room);
		} else if (bpf_core_field_exists(FIELD_OF(struct trace_uprobe, tp))) {
			tell_uprobe(AROUND(first, struct trace_probe, list), record, room);
		}
		return;
	}
	if (flags & ask->flag_tracepoint) {
		READ(tracepoint, call, tp);
		READ(name, tracepoint, name);
	} else {
		READ(name, call, name);
	}
	READ(class, call, class);
	READ(group, class, system);
	record->target = TARGET_TRACEPOINT;
	record->name_len = read_text(room->name, name);
	record->group_len = read_text(room->other_name, group);
}

/* Where a link keeps its attach type, for the types that the kernel tells it of: in itself, before 6.18 in its own structure. */
#define TELL_ATTACH_TYPE(structure, field)                                               \
	do {                                                                             \
		if (bpf_core_field_exists(link->attach_type))                            \
			record->attach_type = link->attach_type;                         \
		else                                                                     \
			READ_OF_LINK(record->attach_type, structure, field);             \
	} while (0)

static __always_inline void tell_target(struct bpf_link *link, struct link_record *record, struct scratch *room,
					struct request *ask)
{
	struct net_device *device = 0;
	__u32 number = 0;

	switch (record->type) {
	case BPF_LINK_TYPE_RAW_TRACEPOINT: {
		struct bpf_raw_event_map *event = 0;
		struct tracepoint *tracepoint = 0;
		const char *name = 0;

		READ_OF_LINK(event, struct bpf_raw_tp_link, btp);
		READ(tracepoint, event, tp);
		READ(name, tracepoint, name);
		record->target = TARGET_RAW_TRACEPOINT;
		record->name_len = read_text(room->name, name);
		break;
	}
	case BPF_LINK_TYPE_TRACING:
		TELL_ATTACH_TYPE(struct bpf_tracing_link, attach_type);
		tell_tracing(link, record, room);
		break;
	case BPF_LINK_TYPE_CGROUP: {
		struct cgroup *cgroup = 0;

		TELL_ATTACH_TYPE(struct bpf_cgroup_link, type);
		READ_OF_LINK(cgroup, struct bpf_cgroup_link, cgroup);
		if (cgroup) {
			record->target = TARGET_CGROUP;
			record->first = cgroup_id(cgroup);
		}
		break;
	}
	case BPF_LINK_TYPE_ITER:
		tell_iterator(link, record, room);
		break;
	case BPF_LINK_TYPE_NETNS: {
		struct net *net = 0;

		TELL_ATTACH_TYPE(struct bpf_netns_link, type);
		READ_OF_LINK(net, struct bpf_netns_link, net);
		if (net) {
			READ(number, net, ns.inum);
			record->target = TARGET_NETNS;
			record->first = number;
		}
		break;
	}
	case BPF_LINK_TYPE_XDP:
		READ_OF_LINK(device, struct bpf_xdp_link, dev);
		tell_device(device, record, room);
		break;
	case BPF_LINK_TYPE_PERF_EVENT:
		tell_perf_event(link, record, room, ask);
		break;
	case BPF_LINK_TYPE_KPROBE_MULTI: {
		unsigned long *addresses = 0;
		unsigned long missed = 0;

		if (!bpf_core_field_exists(FIELD_OF(struct bpf_kprobe_multi_link, cnt)))
			break;
		READ_OF_LINK(number, struct bpf_kprobe_multi_link, cnt);
		record->target = TARGET_KPROBE_MULTI;
		record->first = number;
		READ_OF_LINK(addresses, struct bpf_kprobe_multi_link, addrs);
		bpf_probe_read_kernel(&record->second, sizeof(record->second), addresses);
		READ_OF_LINK(missed, struct bpf_kprobe_multi_link, fp.nmissed);
		record->missed = missed;
		if (bpf_core_field_exists(FIELD_OF(struct bpf_kprobe_multi_link, flags)))
			READ_OF_LINK(record->return_probe, struct bpf_kprobe_multi_link, flags);
		break;
	}
	case BPF_LINK_TYPE_STRUCT_OPS: {
		struct bpf_map *map = 0;

		READ_OF_LINK(map, struct bpf_struct_ops_link, map);
		if (map) {
			record->target = TARGET_MAP;
			record->first = map_id(map);
		}
		break;
	}
	case BPF_LINK_TYPE_NETFILTER: {
		__s32 priority = 0;
		__u8 family = 0;

		if (!bpf_core_field_exists(FIELD_OF(struct bpf_nf_link, hook_ops)))
			break;
		READ_OF_LINK(family, struct bpf_nf_link, hook_ops.pf);
		READ_OF_LINK(number, struct bpf_nf_link, hook_ops.hooknum);
		READ_OF_LINK(priority, struct bpf_nf_link, hook_ops.priority);
		record->target = TARGET_NETFILTER;
		record->first = family;
		record->second = (__u64)number << 32 | (__u32)priority;
		break;
	}
	case BPF_LINK_TYPE_TCX:
		if (!bpf_core_field_exists(FIELD_OF(struct tcx_link, dev)))
			break;
		TELL_ATTACH_TYPE(struct tcx_link, location);
		READ_OF_LINK(device, struct tcx_link, dev);
		tell_device(device, record, room);
		break;
	case BPF_LINK_TYPE_NETKIT:
		if (!bpf_core_field_exists(FIELD_OF(struct netkit_link, dev)))
			break;
		TELL_ATTACH_TYPE(struct netkit_link, location);
		READ_OF_LINK(device, struct netkit_link, dev);
		tell_device(device, record, room);
		break;
	case BPF_LINK_TYPE_SOCKMAP: {
		struct bpf_map *map = 0;

		if (!bpf_core_field_exists(FIELD_OF(struct sockmap_link, map)))
			break;
		TELL_ATTACH_TYPE(struct sockmap_link, attach_type);
		READ_OF_LINK(map, struct sockmap_link, map);
		if (map) {
			record->target = TARGET_MAP;
			record->first = map_id(map);
		}
		break;
	}
	}
}

SEC("iter/bpf_link")
int bpf_metrics_exporter_link(struct bpf_iter__bpf_link *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct bpf_link *link = ctx->link;
	__u32 zero = 0;
	struct scratch *room = bpf_map_lookup_elem(&bpfmetrics_room, &zero);
	struct request *ask = bpf_map_lookup_elem(&bpfmetrics_ask, &zero);
	struct link_record record = {};

	if (!link || !room || !ask)
		return 0;
	record.id = link->id;
	record.type = link->type;
	record.prog_id = link->prog ? link->prog->aux->id : 0;
	record.attach_type = UNKNOWN_U32;
	record.missed = UNKNOWN;
	tell_target(link, &record, room, ask);
	bpf_seq_write(seq, &record, sizeof(record));
	if (record.name_len)
		bpf_seq_write(seq, room->name, record.name_len & (NAME_LEN - 1));
	if (record.group_len)
		bpf_seq_write(seq, room->other_name, record.group_len & (NAME_LEN - 1));
	return 0;
}

char licence[] SEC("license") = "Dual BSD/GPL";
