/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The walk through the descriptors of all processes, which finds the holders of objects.
 *
 * The kernel's own iterator over tasks visits those of the reader's pid namespace. This program follows the kernel's
 * list of all processes instead, by reading memory, in the RCU read-side critical section that every iterator runs in:
 * a task that leaves the list keeps its pointer to the next one, and is not freed before the section ends. The list is
 * in order of creation.
 *
 * The program is attached to an iterator over one thread of the reader, which runs it once, whatever the thread. Each
 * run is a step of the walk, so that no section lasts long and no step writes more than the buffer has room for. Before
 * 6.1 the iterator visits all threads of the pid namespace: several steps then, and none after the end of the walk.
 */
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

/* Descriptors in a word of fdtable.open_fds. Masks of indexes in this file are for the verifier. */
#define WORD_BITS 64

/* The kind of the files with these operations. */
struct cached_kind {
	__u64 operations;
	__u64 kind;
};
#define CACHED_KINDS 64

/*
 * What the walk is at; addresses are numbers here. It is not on the stack: the verifier would follow the counters from
 * one call of a loop's function to the next.
 */
struct position {
	__u64 task;
	/* The first thread of the process, and the end of the list of its threads; 0 to skip these. */
	__u64 leader;
	__u64 threads_end;
	/* The descriptor table of the thread, the one of the process, and the last one that was read. */
	__u64 table;
	__u64 leader_table;
	__u64 last_table;
	/* From struct fdtable: the bit set of open descriptors, and their files. */
	__u64 open_fds;
	__u64 files;
	/* The next word, and the number of words. */
	__u32 word;
	__u32 words;
	/* The process whose record was written. */
	__u64 written;
	/* In units of about a quarter of a microsecond. */
	__u32 cost;
	__u32 done;
};

struct file_scratch {
	struct position position;
	struct process_record process_record;
	struct end_record end_record;
	/* Number of records of the current word. */
	__u32 count;
	/* The bits of the current word, and its first descriptor. */
	__u64 bits;
	__u32 first_fd;
	struct file_record records[WORD_BITS];
	struct file *files[WORD_BITS];
	struct cached_kind cached_kinds[CACHED_KINDS];
	char executable[NAME_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct file_scratch);
} bpfmetrics_file SEC(".maps");

/*
 * Returns the kind of the BPF object behind a file, or FILE_KINDS. It compares one of the file's operations instead
 * of their address: since 6.11 links that can be polled (struct_ops) have operations of their own, with the same
 * release function.
 */
static __always_inline __u32 kind_of_file(struct file_kinds *kinds, __u64 release)
{
	__u32 kind;

	/* Null for most kinds of files, and in file_kinds for a kind that was not detected. */
	if (!release)
		return FILE_KINDS;
#pragma unroll
	for (kind = 0; kind < FILE_KINDS; kind++) {
		if (release == kinds->release_ops[kind])
			break;
	}
	return kind;
}

/*
 * Detects a kind from a descriptor of the reader: symbols of file operations cannot be resolved without
 * CONFIG_KALLSYMS_ALL. Descriptors are numbers in the table of the reading thread.
 */
static __always_inline __u32 detect_kind(struct file_kinds *kinds, __u32 fd, __u64 release)
{
	__u32 kind;

#pragma unroll
	for (kind = 0; kind < FILE_KINDS; kind++) {
		if ((__u32)kinds->sample_fds[kind] == fd)
			break;
	}
	if (kind == FILE_KINDS)
		return kind;
	kinds->release_ops[kind & 3] = release;
	kinds->sample_fds[kind & 3] = -1;
	return kind;
}

/* Whether all kinds with a descriptor to detect them from have been detected. */
static __always_inline __u32 all_detected(struct file_kinds *kinds)
{
	__u32 kind;

#pragma unroll
	for (kind = 0; kind < FILE_KINDS; kind++) {
		if (kinds->sample_fds[kind] >= 0)
			return 0;
	}
	return 1;
}

/* Returns the id of the object behind a file of this kind. */
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
 * Returns the id of a process's cgroup in the hierarchy that accounts memory. In the unified one that is its own
 * cgroup, not the nearest ancestor with the memory controller.
 */
static __always_inline __u64 cgroup_of(struct task_struct *task)
{
	struct cgroup *cgroup = 0, *memory = 0;
	struct cgroup_subsys_state *css = 0;
	struct css_set *set = 0;
	__u64 unified = 0, root = 0;

	READ(set, task, cgroups);
	READ(cgroup, set, dfl_cgrp);
	if (bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id) &&
	    bpf_core_field_exists(FIELD_OF(struct css_set, subsys))) {
		__u64 offset = bpf_core_field_offset(FIELD_OF(struct css_set, subsys)) +
			       bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id) * sizeof(css);

		bpf_probe_read_kernel(&css, sizeof(css), (void *)set + offset);
		READ(memory, css, cgroup);
		READ(root, memory, root);
		READ(unified, cgroup, root);
		if (memory && root != unified)
			cgroup = memory;
	}
	return cgroup_id(cgroup);
}

/*
 * Reads the file name of a process's executable, as /proc/PID/exe has it, and returns its length; 0 if it has none, or
 * if anything changed meanwhile: no reference is held to anything on the way to the name.
 */
static __always_inline __u32 read_executable(char *name, struct task_struct *task)
{
	struct mm_struct *mm = 0, *mm_after = 0;
	struct file *file = 0, *file_after = 0;
	struct vfsmount *mount = 0;
	struct dentry *dentry = 0, *root = 0;
	const unsigned char *from = 0;
	__u32 sequence = 0, sequence_after = 0, len;

	READ(mm, task, mm);
	if (!mm)
		return 0;
	READ(file, mm, exe_file);
	READ(mount, file, f_path.mnt);
	READ(dentry, file, f_path.dentry);
	READ(root, mount, mnt_root);
	/* A mounted file has the name of the file that it is mounted on. */
	if (dentry == root)
		READ(dentry, CONTAINER_OF(mount, struct mount, mnt), mnt_mountpoint);
	READ(sequence, dentry, d_seq.seqcount.sequence);
	READ(from, dentry, d_name.name);
	len = read_string(name, (const char *)from);
	READ(sequence_after, dentry, d_seq.seqcount.sequence);
	READ(mm_after, task, mm);
	READ(file_after, mm, exe_file);
	if (sequence & 1 || sequence_after != sequence || mm_after != mm || file_after != file)
		return 0;
	return len;
}

/* A step of the walk. */
struct walk {
	struct seq_file *seq;
	struct file_scratch *scratch;
	struct file_kinds *kinds;
	struct walk_state *state;
	/* The reader's own descriptors, to detect kinds from; and whether there is no kind left to detect. */
	__u64 own_table;
	__u32 all_detected;
};

/* Writes the process that holds the descriptors in the records that follow. */
static __always_inline void write_process(struct walk *walk)
{
	struct process_record *record = &walk->scratch->process_record;
	struct task_struct *leader = (struct task_struct *)walk->scratch->position.leader;
	__u32 len = read_executable(walk->scratch->executable, (struct task_struct *)walk->scratch->position.task);

	__builtin_memset(record, 0, sizeof(*record));
	record->kind = FILE_PROCESS;
	READ(record->pid, leader, tgid);
	record->own = record->pid == bpf_get_current_pid_tgid() >> 32;
	record->executable_len = len & (NAME_LEN - 1);
	READ(record->start_time, leader, start_boottime);
	READ(record->name, leader, comm);
	record->cgroup = cgroup_of(leader);
	bpf_seq_write(walk->seq, record, sizeof(*record));
	write_string(walk->seq, walk->scratch->executable, len);
}

/*
 * The bound of a step, in which nothing waits for the section to end but what is to be freed: about a millisecond. A
 * word of descriptors costs that many units, if there is an open one.
 */
#define MAX_COST 4096
#define WORD_COST WORD_BITS

/* Bytes of the kernel's buffer to keep free: the most that a word of descriptors and the end add. */
#define RESERVED                                                                                      \
	(sizeof(struct process_record) + NAME_LEN + WORD_BITS * sizeof(struct file_record) + \
	 sizeof(struct end_record))

static __always_inline __u32 has_room(struct seq_file *seq)
{
	return seq->count + RESERVED <= seq->size;
}

/* Returns the kind of a file by its operations, from the cache or from the operations themselves. */
static __always_inline __u32 look_up_kind(struct walk *walk, __u32 fd, __u64 operations)
{
	struct cached_kind *cached = &walk->scratch->cached_kinds[(operations >> 6) % CACHED_KINDS];
	__u64 release = 0;
	__u32 kind;

	if (cached->operations == operations)
		return cached->kind;
	READ(release, (struct file_operations *)operations, release);
	kind = kind_of_file(walk->kinds, release);
	if (kind == FILE_KINDS && walk->scratch->position.table == walk->own_table)
		kind = detect_kind(walk->kinds, fd, release);
	/* Another descriptor with these operations may be one to detect a kind from. */
	if (kind != FILE_KINDS || walk->all_detected) {
		cached->operations = operations;
		cached->kind = kind;
	}
	return kind;
}

/*
 * Adds a record if a descriptor is of an object, and has the same file after that was read. No reference is held to
 * either: while the descriptor is open, both stay what they are. Reading freed memory does no harm.
 *
 * All in one loop. With a loop for each step, in which the processor can read ahead, 50,000 descriptors take 8 to
 * 18 % longer if 5 % are of objects; 9,000 of as many maps take 8 % less, and 24 % with cold caches (0.1 us each).
 */
static long read_file(__u32 bit, struct walk *walk)
{
	struct file_scratch *scratch = walk->scratch;
	__u32 index = bit & (WORD_BITS - 1);
	__u64 bits = scratch->bits >> index, operations = 0;
	struct file *file = scratch->files[index], *file_after = 0;
	struct file_record record;
	__u32 fd = scratch->first_fd + index;
	void *object = 0;

	if (!bits)
		return 1;
	if (!(bits & 1) || !file)
		return 0;
	READ(operations, file, f_op);
	if (!operations)
		return 0;
	record.kind = look_up_kind(walk, fd, operations);
	if (record.kind == FILE_KINDS)
		return 0;
	READ(object, file, private_data);
	record.id = object_id(record.kind, object);
	bpf_probe_read_kernel(&file_after, sizeof(file_after),
			      (void *)(scratch->position.files + fd * sizeof(file_after)));
	if (file_after != file)
		return 0;
	scratch->records[scratch->count & (WORD_BITS - 1)] = record;
	scratch->count++;
	return 0;
}

/* Writes the records of a word of descriptors. */
static __always_inline void read_word(struct walk *walk)
{
	struct file_scratch *scratch = walk->scratch;
	struct position *position = &scratch->position;
	struct files_struct *table = 0;
	__u32 word = position->word++, count;

	scratch->bits = 0;
	bpf_probe_read_kernel(&scratch->bits, sizeof(scratch->bits),
			      (void *)(position->open_fds + word * sizeof(scratch->bits)));
	if (!scratch->bits)
		return;
	position->cost += WORD_COST;
	if (bpf_probe_read_kernel(scratch->files, sizeof(scratch->files),
				  (void *)(position->files + word * sizeof(scratch->files))))
		return;
	scratch->count = 0;
	scratch->first_fd = word * WORD_BITS;
	bpf_loop(WORD_BITS, read_file, walk, 0);
	count = scratch->count;
	if (!count || count > WORD_BITS)
		return;
	/* The table of a thread that ends or leaves it is freed at once, and may have become another's. */
	READ(table, (struct task_struct *)position->task, files);
	if ((__u64)table != position->table)
		return;
	if (position->written != position->leader) {
		position->written = position->leader;
		write_process(walk);
	}
	bpf_seq_write(walk->seq, scratch->records, count * sizeof(*scratch->records));
}

/* Begins with the descriptors of the thread, unless they were read with another thread of its process. */
static __always_inline void open_table(struct position *position)
{
	struct task_struct *task = (struct task_struct *)position->task;
	struct files_struct *files = 0;
	struct fdtable *table = 0;
	__u32 max_fds = 0;

	position->word = 0;
	position->words = 0;
	READ(files, task, files);
	position->table = (__u64)files;
	if (position->task == position->leader)
		position->leader_table = position->table;
	else if (position->table == position->leader_table || position->table == position->last_table)
		return;
	if (!files)
		return;
	position->last_table = position->table;
	READ(table, files, fdt);
	READ(max_fds, table, max_fds);
	READ(position->open_fds, table, open_fds);
	READ(position->files, table, fd);
	position->words = max_fds / WORD_BITS;
}

/* Begins with a process, which is the first of its threads. */
static __always_inline void open_process(struct position *position, struct task_struct *leader)
{
	struct signal_struct *signal = 0;

	READ(signal, leader, signal);
	position->task = (__u64)leader;
	position->leader = (__u64)leader;
	position->threads_end = signal ? ADDRESS_OF(signal, thread_head) : 0;
	position->last_table = 0;
}

/* Goes on to the next thread of the process, or to the next process. */
static __always_inline void next_task(struct walk *walk)
{
	struct position *position = &walk->scratch->position;
	struct walk_state *state = walk->state;
	struct task_struct *leader = (struct task_struct *)position->leader;
	struct list_head *next = 0;
	__u64 start_time = 0;

	if (position->threads_end) {
		READ(next, (struct task_struct *)position->task, thread_node.next);
		if (next && (__u64)next != position->threads_end) {
			position->task = (__u64)CONTAINER_OF(next, struct task_struct, thread_node);
			open_table(position);
			return;
		}
	}
	READ(next, leader, tasks.next);
	leader = CONTAINER_OF(next, struct task_struct, tasks);
	if (!next || (__u64)leader == walk->kinds->init_task) {
		position->done = 1;
		return;
	}
	open_process(position, leader);
	READ(start_time, leader, start_boottime);
	if (start_time < state->skip_before) {
		position->threads_end = 0;
		position->table = 0;
		position->words = 0;
		return;
	}
	if (start_time > state->reached)
		state->reached = start_time;
	open_table(position);
}

static long advance(__u32 index __unused, struct walk *walk)
{
	struct position *position = &walk->scratch->position;

	if (position->cost >= MAX_COST || !has_room(walk->seq))
		return 1;
	position->cost++;
	if (position->word < position->words)
		read_word(walk);
	else
		next_task(walk);
	return position->done != 0;
}

/* Whether the thread at which the last step ended is still in the list of its process, and that in the list of all. */
static __always_inline __u32 is_listed(struct walk_state *state)
{
	struct task_struct *task = (struct task_struct *)state->task, *leader = 0;
	struct list_head *before = 0, *thread = 0, *process = 0;
	__u64 start_time = 0;
	__u32 id = 0;

	READ(id, task, pid);
	READ(start_time, task, start_boottime);
	READ(before, task, thread_node.prev);
	READ(thread, before, next);
	READ(leader, task, group_leader);
	READ(before, leader, tasks.prev);
	READ(process, before, next);
	return task && leader && id == state->id && start_time == state->start_time &&
	       (__u64)thread == ADDRESS_OF(task, thread_node) && (__u64)process == ADDRESS_OF(leader, tasks);
}

/* The longest that a new process may take from its start time to its place in the list, in nanoseconds. */
#define MAX_DELAY 1000000000

/* Goes to the position of the last step. */
static __always_inline void resume(struct walk *walk)
{
	struct position *position = &walk->scratch->position;
	struct walk_state *state = walk->state;
	struct task_struct *leader = 0;

	__builtin_memset(position, 0, sizeof(*position));
	if (!is_listed(state)) {
		state->skip_before = state->reached > MAX_DELAY ? state->reached - MAX_DELAY : 0;
		/* It has no descriptors of objects. */
		open_process(position, (struct task_struct *)walk->kinds->init_task);
		return;
	}
	READ(leader, (struct task_struct *)state->task, group_leader);
	open_process(position, leader);
	open_table(position);
	if (state->task != position->task) {
		position->task = state->task;
		open_table(position);
	}
	position->word = state->word;
}

/* Keeps the position for the next step. */
static __always_inline void suspend(struct walk *walk)
{
	struct position *position = &walk->scratch->position;
	struct walk_state *state = walk->state;
	struct task_struct *task = (struct task_struct *)position->task;

	state->task = position->task;
	/* The table may grow until then. */
	state->word = position->word < position->words ? position->word : UNKNOWN_U32;
	READ(state->id, task, pid);
	READ(state->start_time, task, start_boottime);
	state->done = position->done;
}

/* The depth of a tree of processes. */
#define MAX_PARENTS 65536

static long find_init_task(__u32 index __unused, struct task_struct **task)
{
	struct task_struct *parent = 0;

	READ(parent, *task, real_parent);
	if (!parent || parent == *task)
		return 1;
	*task = parent;
	return 0;
}

SEC("iter/task")
int bpf_metrics_exporter_files(struct bpf_iter__task *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	__u32 zero = 0;
	struct file_scratch *scratch = bpf_map_lookup_elem(&bpfmetrics_file, &zero);
	struct file_kinds *kinds = bpf_map_lookup_elem(&bpfmetrics_kind, &zero);
	struct walk_state *state = bpf_map_lookup_elem(&bpfmetrics_walk, &zero);
	struct task_struct *current = (struct task_struct *)bpf_get_current_task();
	struct walk walk = { .seq = seq, .scratch = scratch, .kinds = kinds, .state = state };

	if (!ctx->task || !scratch || !kinds || !state || state->done)
		return 0;
	/* Have the kernel pass on what is in the buffer, and repeat this step. */
	if (!has_room(seq))
		return 1;
	if (!kinds->init_task) {
		struct task_struct *task = current;
		__s32 id = -1;

		/* It is its own parent. */
		bpf_loop(MAX_PARENTS, find_init_task, &task, 0);
		READ(id, task, pid);
		if (id)
			return 0;
		kinds->init_task = (__u64)task;
	}
	READ(walk.own_table, current, files);
	walk.all_detected = all_detected(kinds);
	resume(&walk);
	bpf_loop(MAX_COST, advance, &walk, 0);
	suspend(&walk);
	if (scratch->position.done) {
		scratch->end_record.kind = FILE_END;
		scratch->end_record.padding = 0;
		bpf_seq_write(seq, &scratch->end_record, sizeof(scratch->end_record));
	}
	return 0;
}
