/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The iterator over the files of processes: who holds which object. */
#pragma once

#include "common.h"

/* Which kind of BPF object a file is the descriptor of: the operations of its kind are learnt from files of our own. */
static __always_inline __u32 kind_of_file(__u64 operations, struct request *ask)
{
	if (operations == ask->operations[FILE_PROGRAM])
		return FILE_PROGRAM;
	if (operations == ask->operations[FILE_MAP])
		return FILE_MAP;
	if (operations == ask->operations[FILE_LINK])
		return FILE_LINK;
	if (operations == ask->operations[FILE_BTF])
		return FILE_BTF;
	return FILE_OWN;
}

SEC("iter/task_file")
int bpf_metrics_exporter_file(struct bpf_iter__task_file *ctx)
{
	struct seq_file *seq = ctx->meta->seq;
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	__u32 zero = 0;
	struct scratch *room = bpf_map_lookup_elem(&bpfmetrics_room, &zero);
	struct request *ask = bpf_map_lookup_elem(&bpfmetrics_ask, &zero);
	struct file_record record = {};
	struct bpf_prog_aux *aux = 0;
	void *object;

	/* The kernel leaves out threads that share the files of their process. */
	if (!task || !file || !room || !ask)
		return 0;
	record.operations = as_number(room, file->f_op);
	record.kind = kind_of_file(record.operations, ask);
	if (record.kind == FILE_OWN && ask->own_pid != (__u32)task->tgid)
		return 0;
	record.pid = task->tgid;
	record.fd = ctx->fd;
	record.start_time = task->start_boottime;
	object = file->private_data;
	switch (record.kind) {
	case FILE_PROGRAM:
		READ(aux, (struct bpf_prog *)object, aux);
		READ(record.id, aux, id);
		break;
	case FILE_MAP:
		record.id = map_id(object);
		break;
	case FILE_LINK:
		READ(record.id, (struct bpf_link *)object, id);
		break;
	case FILE_BTF:
		READ(record.id, (struct btf *)object, id);
		break;
	}
	bpf_seq_write(seq, &record, sizeof(record));
	return 0;
}
