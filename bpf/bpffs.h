/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The file systems of pins, whatever mount namespace they are mounted in. The kernel's list of all superblocks is read
 * from memory, in the RCU read-side critical section that every iterator runs in: superblocks are not freed in it. One
 * that leaves the list is linked to itself, which ends the walk without a last record.
 */
#pragma once

#include "common.h"

/* BPF_FS_MAGIC */
#define BPFFS_MAGIC 0xcafe4a11
/* Both of super_block.s_flags: SB_BORN, and SB_ACTIVE, which ends before pins are removed. */
#define IN_USE (1 << 29 | 1 << 30)

#define MAX_SUPERBLOCKS 65536

struct find_bpffs {
	struct seq_file *seq;
	/* The superblock to start from and to end at. */
	struct super_block *first;
	struct super_block *current;
	struct bpffs_record record;
	__u32 done;
};

static long find_bpffs(__u32 index __unused, struct find_bpffs *find)
{
	struct super_block *current = find->current;
	struct file_system_type *type = 0;
	struct dentry *root = 0;
	struct list_head *next = 0;
	unsigned long flags = 0, magic = 0;
	const char *name = 0;
	char fs_name[4] = {};

	/* The head of the list is no superblock: what is read instead is not all of this. */
	READ(magic, current, s_magic);
	READ(flags, current, s_flags);
	READ(root, current, s_root);
	if (magic == BPFFS_MAGIC && (flags & IN_USE) == IN_USE && root) {
		READ(type, current, s_type);
		READ(name, type, name);
		bpf_probe_read_kernel(fs_name, sizeof(fs_name), name);
		if (fs_name[0] == 'b' && fs_name[1] == 'p' && fs_name[2] == 'f' && !fs_name[3]) {
			READ(find->record.device, current, s_dev);
			if (bpf_seq_write(find->seq, &find->record, sizeof(find->record)))
				return 1;
		}
	}
	READ(next, current, s_list.next);
	if (!next || (__u64)next == ADDRESS_OF(current, s_list))
		return 1;
	find->current = CONTAINER_OF(next, struct super_block, s_list);
	find->done = find->current == find->first;
	return find->done;
}

/* Attached to an iterator over one thread of the reader. Before 6.1 it visits others, too. */
SEC("iter/task")
int bpf_metrics_exporter_bpffs(struct bpf_iter__task *ctx)
{
	struct find_bpffs find = { .seq = ctx->meta->seq };
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct fs_struct *fs = 0;
	struct vfsmount *mount = 0;

	if (!ctx->task || ctx->meta->seq_num != 0)
		return 0;
	READ(fs, task, fs);
	READ(mount, fs, root.mnt);
	READ(find.first, mount, mnt_sb);
	if (!find.first)
		return 0;
	find.current = find.first;
	bpf_loop(MAX_SUPERBLOCKS, find_bpffs, &find, 0);
	find.record.device = 0;
	if (find.done)
		bpf_seq_write(find.seq, &find.record, sizeof(find.record));
	return 0;
}
