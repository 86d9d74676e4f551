/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The iterator over the files of processes: who holds which object. */
#pragma once

#include "common.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct file_kinds);
} bpfmetrics_kind SEC(".maps");

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
static __always_inline __u32 learn_kind(struct file_kinds *kinds, struct task_struct *task, __u32 fd, __u64 release)
{
	struct task_struct *current = (struct task_struct *)bpf_get_current_task();
	__u64 files = 0, own_files = 0;
	__u32 kind;

#pragma unroll
	for (kind = 0; kind < FILE_KINDS; kind++) {
		if ((__u32)kinds->learn_from[kind] == fd)
			break;
	}
	if (kind == FILE_KINDS)
		return kind;
	READ(files, task, files);
	READ(own_files, current, files);
	if (files != own_files)
		return FILE_KINDS;
	kinds->releases[kind & 3] = release;
	kinds->learn_from[kind & 3] = -1;
	return kind;
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

/* What a record says of the process: it stays from one file to the next, as long as this reading is at the same process. */
static __always_inline void describe_process(struct scratch *room, struct file_record *record,
					     struct task_struct *task, __u64 session)
{
	struct task_struct *leader = 0;

	if (room->session == session && room->task == (__u64)task && record->pid == (__u32)task->tgid)
		return;
	room->session = session;
	room->task = (__u64)task;
	READ(leader, task, group_leader);
	__builtin_memset(record, 0, sizeof(*record));
	record->pid = task->tgid;
	record->own = record->pid == bpf_get_current_pid_tgid() >> 32;
	READ(record->start_time, leader, start_boottime);
	READ(record->name, leader, comm);
	record->cgroup = cgroup_of(leader);
}

SEC("iter/task_file")
int bpf_metrics_exporter_file(struct bpf_iter__task_file *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	__u32 zero = 0, kind;
	struct file_kinds *kinds = bpf_map_lookup_elem(&bpfmetrics_kind, &zero);
	struct bpf_prog_aux *aux = 0;
	struct file_record *record;
	struct scratch *room;
	__u64 release;
	void *object;

	/* Since 5.10 the kernel leaves out threads that share the files of their process. */
	if (!task || !file || !kinds)
		return 0;
	release = (__u64)file->f_op->release;
	kind = kind_of_file(kinds, release);
	if (kind == FILE_KINDS)
		kind = learn_kind(kinds, task, ctx->fd, release);
	if (kind == FILE_KINDS)
		return 0;
	room = bpf_map_lookup_elem(&bpfmetrics_room, &zero);
	if (!room)
		return 0;
	record = &room->file_record;
	describe_process(room, record, task, ctx->meta->session_id);
	record->kind = kind;
	record->id = 0;
	object = file->private_data;
	switch (kind) {
	case FILE_PROGRAM:
		READ(aux, (struct bpf_prog *)object, aux);
		READ(record->id, aux, id);
		break;
	case FILE_MAP:
		record->id = map_id(object);
		break;
	case FILE_LINK:
		READ(record->id, (struct bpf_link *)object, id);
		break;
	case FILE_BTF:
		READ(record->id, (struct btf *)object, id);
		break;
	}
	bpf_seq_write(seq, record, sizeof(*record));
	return 0;
}
