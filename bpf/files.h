/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The iterators over the descriptors of processes: who holds which object. */
#pragma once

#include "common.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct file_kinds);
} bpfmetrics_kind SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct walk_state);
} bpfmetrics_walk SEC(".maps");

/*
 * Which kind of BPF object a file is the descriptor of: FILE_KINDS for any other file. Not the operations are compared but one
 * of them: since 6.11 links that can be polled (struct_ops) have operations of their own, with the same function in this place.
 */
static __always_inline __u32 kind_of_file(struct file_kinds *kinds, __u64 release)
{
	__u32 kind;

	/* Most kinds of files have none, and neither has a kind that was not learnt. */
	if (!release)
		return FILE_KINDS;
#pragma unroll
	for (kind = 0; kind < FILE_KINDS; kind++) {
		if (release == kinds->releases[kind])
			break;
	}
	return kind;
}

/*
 * Learns a kind from a descriptor of the reader: symbols of operations cannot be found without CONFIG_KALLSYMS_ALL. Numbers of
 * descriptors are those of one table, that of the thread which reads.
 */
static __always_inline __u32 learn_kind(struct file_kinds *kinds, __u32 fd, __u64 release)
{
	__u32 kind;

#pragma unroll
	for (kind = 0; kind < FILE_KINDS; kind++) {
		if ((__u32)kinds->learn_from[kind] == fd)
			break;
	}
	if (kind == FILE_KINDS)
		return kind;
	kinds->releases[kind & 3] = release;
	kinds->learn_from[kind & 3] = -1;
	return kind;
}

/* Whether these descriptors are those of the thread that reads. */
static __always_inline __u32 of_reader(struct files_struct *files)
{
	struct task_struct *current = (struct task_struct *)bpf_get_current_task();
	struct files_struct *own_files = 0;

	READ(own_files, current, files);
	return files == own_files;
}

/* The id of the object that a file of this kind is the descriptor of. */
static __always_inline __u32 object_id(__u32 kind, void *object)
{
	struct bpf_prog_aux *aux = 0;
	__u32 id = 0;

	switch (kind) {
	case FILE_PROGRAM:
		READ(aux, (struct bpf_prog *)object, aux);
		READ(id, aux, id);
		break;
	case FILE_MAP:
		id = map_id(object);
		break;
	case FILE_LINK:
		READ(id, (struct bpf_link *)object, id);
		break;
	case FILE_BTF:
		READ(id, (struct btf *)object, id);
		break;
	}
	return id;
}

/*
 * The cgroup of a process in the hierarchy that accounts memory. In the unified one it is the process's own, and not the nearest
 * above it that has the controller.
 */
static __always_inline __u64 cgroup_of(struct task_struct *task)
{
	struct cgroup *cgroup = 0, *accounts = 0;
	struct cgroup_subsys_state *css = 0;
	struct kernfs_node *node = 0;
	struct css_set *set = 0;
	__u64 unified = 0, root = 0, id = 0;

	READ(set, task, cgroups);
	READ(cgroup, set, dfl_cgrp);
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id) &&
	    bpf_core_field_exists(FIELD_OF(struct css_set, subsys))) {
		__u64 at = bpf_core_field_offset(FIELD_OF(struct css_set, subsys)) +
			   bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id) * sizeof(css);

		bpf_probe_read_kernel(&css, sizeof(css), (void *)set + at);
		READ(accounts, css, cgroup);
		READ(root, accounts, root);
		READ(unified, cgroup, root);
		if (accounts && root != unified)
			cgroup = accounts;
	}
	READ(node, cgroup, kn);
	READ(id, node, id);
	return id;
}

/* By which number the reader's pid namespace knows a thread: the iterator goes by it. */
static __always_inline __u32 number_of(struct task_struct *task)
{
	struct task_struct *current = (struct task_struct *)bpf_get_current_task();
	struct pid *pid = 0, *own = 0;
	__u32 level = 0, number = 0;

	READ(own, current, thread_pid);
	READ(level, own, level);
	READ(pid, task, thread_pid);
	bpf_probe_read_kernel(&number, sizeof(number),
			      (void *)pid + bpf_core_field_offset(FIELD_OF(struct pid, numbers)) +
				      level * bpf_core_type_size(struct upid) +
				      bpf_core_field_offset(FIELD_OF(struct upid, nr)));
	return number;
}

/* Writes what the descriptors that follow belong to. */
static __always_inline void write_process(struct seq_file *seq, struct process_record *record, struct task_struct *task)
{
	struct task_struct *leader = 0;

	READ(leader, task, group_leader);
	__builtin_memset(record, 0, sizeof(*record));
	record->kind = FILE_PROCESS;
	record->pid = task->tgid;
	record->own = record->pid == bpf_get_current_pid_tgid() >> 32;
	READ(record->start_time, leader, start_boottime);
	READ(record->name, leader, comm);
	record->cgroup = cgroup_of(leader);
	bpf_seq_write(seq, record, sizeof(*record));
}

/* How many words of 64 descriptors are looked at without a pause for others, which wait for RCU: a millisecond's worth. */
#define WORDS_AT_ONCE 64

/* A walk through the descriptors of a thread. */
struct walk {
	struct seq_file *seq;
	struct scratch *room;
	struct file_kinds *kinds;
	struct walk_state *state;
	struct task_struct *task;
	__u64 session;
	/* Of struct fdtable: which descriptors are open, a bit for each, and their files. */
	__u64 open;
	__u64 files;
	/* Whether these are the reader's own, from which kinds can be learnt; and whether all kinds are. */
	__u32 own;
	__u32 learnt;
	/* The first word of bits to look at. */
	__u32 first;
	/* What may be written before the walk has to be interrupted; UNKNOWN_U32 where the kernel begins it again by itself. */
	__u32 limit;
	/* The word being looked at, and its number. */
	__u32 word;
	__u64 bits;
};

/*
 * A loop for each step of what is read, in which no address depends on what was read just before: so the processor can read ahead.
 */

/* Whether one call can read from the operations of a file to its object. */
#define AT_OPERATIONS bpf_core_field_offset(FIELD_OF(struct file, f_op))
#define AT_OBJECT bpf_core_field_offset(FIELD_OF(struct file, private_data))
#define ARE_NEAR (AT_OBJECT > AT_OPERATIONS && AT_OBJECT - AT_OPERATIONS < sizeof(struct file_head))

/* The operations of one of 64 files, and its object. */
static long read_file(__u32 slot, struct walk *walk)
{
	struct file_head *head = &walk->room->heads[slot & 63];
	void *file = walk->room->files[slot & 63];
	__u64 bits = walk->bits >> (slot & 63);

	if (!bits)
		return 1;
	head->fields[0] = 0;
	if (!(bits & 1) || !file)
		return 0;
	if (ARE_NEAR) {
		bpf_probe_read_kernel(head, AT_OBJECT - AT_OPERATIONS + sizeof(void *), file + AT_OPERATIONS);
	} else {
		READ(head->fields[0], (struct file *)file, f_op);
		READ(head->fields[1], (struct file *)file, private_data);
	}
	return 0;
}

/* Which of them are of objects. */
static long sort_file(__u32 slot, struct walk *walk)
{
	struct scratch *room = walk->room;
	struct file_head *head = &room->heads[slot & 63];
	__u64 operations = head->fields[0], release = 0;
	__u32 kind, found = room->found;
	struct sort_of_file *sort;

	if (!(walk->bits >> (slot & 63)))
		return 1;
	if (!operations)
		return 0;
	sort = &room->sorts[(operations >> 6) % SORTS];
	if (sort->operations == operations) {
		kind = sort->kind;
	} else {
		READ(release, (struct file_operations *)operations, release);
		kind = kind_of_file(walk->kinds, release);
		if (kind == FILE_KINDS && walk->own)
			kind = learn_kind(walk->kinds, walk->word * 64 + slot, release);
		/* A kind that is not learnt yet may be what this is. */
		if (kind != FILE_KINDS || walk->learnt) {
			sort->operations = operations;
			sort->kind = kind;
		}
	}
	if (kind == FILE_KINDS)
		return 0;
	room->slots[found & 63] = slot;
	room->objects[found & 63] = ARE_NEAR ? *(__u64 *)((void *)head + AT_OBJECT - AT_OPERATIONS) : head->fields[1];
	room->file_records[found & 63].kind = kind;
	room->file_records[found & 63].id = 0;
	room->found = found + 1;
	return 0;
}

/* The id of an object; that of a program stands elsewhere. */
static long read_object(__u32 index, struct walk *walk)
{
	struct scratch *room = walk->room;
	struct file_record *record = &room->file_records[index & 63];
	void *object = (void *)room->objects[index & 63];

	if (index >= room->found)
		return 1;
	if (record->kind == FILE_PROGRAM) {
		room->objects[index & 63] = 0;
		READ(room->objects[index & 63], (struct bpf_prog *)object, aux);
	} else {
		record->id = object_id(record->kind, object);
	}
	return 0;
}

static long read_program(__u32 index, struct walk *walk)
{
	struct scratch *room = walk->room;
	struct file_record *record = &room->file_records[index & 63];

	if (index >= room->found)
		return 1;
	if (record->kind == FILE_PROGRAM)
		READ(record->id, (struct bpf_prog_aux *)room->objects[index & 63], id);
	return 0;
}

/*
 * Keeps one of the descriptors that were found if its file is where it was. No reference was held, as little to the file as to the
 * object: while the descriptor is open, both are what they were. Memory that was given back meanwhile can be read without harm.
 */
static long keep_file(__u32 index, struct walk *walk)
{
	struct scratch *room = walk->room;
	__u32 slot = room->slots[index & 63] & 63, kept = room->kept;

	if (index >= room->found)
		return 1;
	if (room->files[slot] != room->files_after[slot])
		return 0;
	room->file_records[kept & 63] = room->file_records[index & 63];
	room->kept = kept + 1;
	return 0;
}

/* 64 descriptors, and writing which of them are of objects. */
static long walk_word(__u32 index, struct walk *walk)
{
	struct scratch *room = walk->room;
	void *files;
	__u32 kept;

	walk->word = walk->first + index;
	walk->bits = 0;
	bpf_probe_read_kernel(&walk->bits, sizeof(walk->bits), (void *)(walk->open + walk->word * sizeof(walk->bits)));
	if (!walk->bits)
		return 0;
	if (index >= WORDS_AT_ONCE || room->written > walk->limit) {
		struct rest_record *rest = &room->rest_record;

		rest->kind = FILE_REST;
		rest->task = number_of(walk->task);
		rest->fd = walk->word * 64;
		rest->padding = 0;
		bpf_seq_write(walk->seq, rest, sizeof(*rest));
		walk->state->interrupted = walk->session;
		return 1;
	}
	files = (void *)(walk->files + walk->word * sizeof(room->files));
	if (bpf_probe_read_kernel(room->files, sizeof(room->files), files))
		return 0;
	room->found = 0;
	bpf_loop(64, read_file, walk, 0);
	bpf_loop(64, sort_file, walk, 0);
	if (!room->found)
		return 0;
	bpf_loop(64, read_object, walk, 0);
	bpf_loop(64, read_program, walk, 0);
	if (bpf_probe_read_kernel(room->files_after, sizeof(room->files_after), files))
		return 0;
	room->kept = 0;
	bpf_loop(64, keep_file, walk, 0);
	kept = room->kept;
	if (!kept || kept > 64)
		return 0;
	if (!room->written)
		write_process(walk->seq, &room->process_record, walk->task);
	room->written += kept * sizeof(*room->file_records);
	return bpf_seq_write(walk->seq, room->file_records, kept * sizeof(*room->file_records)) != 0;
}

/* Whether there is no kind any more to be learnt. */
static __always_inline __u32 all_learnt(struct file_kinds *kinds)
{
	__u32 kind;

#pragma unroll
	for (kind = 0; kind < FILE_KINDS; kind++) {
		if (kinds->learn_from[kind] >= 0)
			return 0;
	}
	return 1;
}

/* All descriptors of a thread at once: without a reference to each file, ordinary ones cost less than half of what iter/task_file takes. */
SEC("iter/task")
int bpf_metrics_exporter_task(struct bpf_iter__task *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *task = ctx->task;
	__u32 zero = 0, words;
	struct file_kinds *kinds = bpf_map_lookup_elem(&bpfmetrics_kind, &zero);
	struct scratch *room = bpf_map_lookup_elem(&bpfmetrics_room, &zero);
	struct walk_state *state = bpf_map_lookup_elem(&bpfmetrics_walk, &zero);
	struct walk walk = {
		.seq = seq,
		.room = room,
		.kinds = kinds,
		.state = state,
		.task = task,
		.session = ctx->meta->session_id,
	};
	struct files_struct *files;
	struct fdtable *table;

	if (!task || !kinds || !room || !state || state->interrupted == walk.session)
		return 0;
	files = task->files;
	if (!files || (task != task->group_leader && files == task->group_leader->files))
		return 0;
	if (state->from_task) {
		__u32 number = number_of(task);

		if (number < state->from_task)
			return 0;
		if (number == state->from_task)
			walk.first = state->from_fd / 64;
	}
	table = files->fdt;
	words = table->max_fds / 64;
	if (words <= walk.first)
		return 0;
	walk.open = (__u64)table->open_fds;
	walk.files = (__u64)table->fd;
	walk.own = of_reader(files);
	walk.learnt = all_learnt(kinds);
	/* Only one that has all the room can be interrupted: the kernel takes no more than this from a program at once. */
	if (seq->count && words > WORDS_AT_ONCE)
		return 1;
	/* What does not fit behind other threads' descriptors is walked again with all the room. */
	walk.limit = seq->count ? UNKNOWN_U32 : seq->size - MOST_AT_ONCE;
	room->written = 0;
	bpf_loop(words - walk.first, walk_word, &walk, 0);
	return 0;
}

/* The same for kernels before 5.17, which have no bpf_loop(). */
SEC("iter/task_file")
int bpf_metrics_exporter_file(struct bpf_iter__task_file *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	__u32 zero = 0, kind;
	struct file_kinds *kinds = bpf_map_lookup_elem(&bpfmetrics_kind, &zero);
	struct scratch *room = bpf_map_lookup_elem(&bpfmetrics_room, &zero);
	struct file_record *record;
	__u64 release;

	/* Since 5.10 the kernel leaves out threads that share the files of their process. */
	if (!task || !file || !kinds || !room)
		return 0;
	release = (__u64)file->f_op->release;
	kind = kind_of_file(kinds, release);
	if (kind == FILE_KINDS && of_reader(task->files))
		kind = learn_kind(kinds, ctx->fd, release);
	if (kind == FILE_KINDS)
		return 0;
	/* What did not fit is told again at the beginning of what comes next. */
	if (!seq->count || room->session != ctx->meta->session_id || room->task != (__u64)task) {
		room->session = ctx->meta->session_id;
		room->task = (__u64)task;
		write_process(seq, &room->process_record, task);
	}
	record = room->file_records;
	record->kind = kind;
	record->id = object_id(kind, file->private_data);
	bpf_seq_write(seq, record, sizeof(*record));
	return 0;
}
