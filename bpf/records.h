/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the iterators write and what they are asked: the layout stands here, and a test holds `src/kernel/iter/records.rs`
 * against it by the type information in the object.
 */
#pragma once

/* BPF_OBJ_NAME_LEN */
#define OBJ_NAME_LEN 16
#define TASK_COMM_LEN 16
/* No name in BTF is longer than KSYM_NAME_LEN, which is 512 since 6.1. */
#define NAME_LEN 512
/* MAX_USED_MAPS */
#define MAX_USED_MAPS 64
/* BPF_MAX_SUBPROGS */
#define MAX_FUNCTIONS 256
/* No architecture has more processors. */
#define MAX_CPUS 8192

/* Where a value is not known. */
#define UNKNOWN (-1LL)
#define UNKNOWN_U32 (~0U)

/* Each program: what moves, and what tells it from another with the same id. */
struct program_record {
	__u32 id;
	__u32 used_maps;
	__u64 load_time;
	__u8 tag[8];
	__u64 runs;
	__u64 run_time;
	__u64 misses;
	__u32 has_facts;
	__u32 padding;
};

/* Behind a program's record where it has facts; behind it the full name, what it attaches to, and the ids of its maps. */
struct program_facts {
	__u32 type;
	__u32 size_translated;
	__u32 size_jitted;
	__u32 pages;
	__u32 gpl_compatible;
	__u32 uid;
	__u32 btf_id;
	__u32 verified_instructions;
	char name[OBJ_NAME_LEN];
	__u32 full_name_len;
	__u32 attach_to_len;
	__u32 map_count;
	__u32 padding;
};

/* Each map: what never changes, all of which tells it from another with the same id, and what moves. */
struct map_record {
	__u32 id;
	__u32 type;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
	__u32 flags;
	__u32 btf_id;
	__u32 padding;
	char name[OBJ_NAME_LEN];
	__u64 cookie;
	__u64 memory_cgroup;
	__s64 entries;
	__s64 backlog;
	__u64 frozen;
};

/* What a link's target is, and which numbers and texts tell of it. */
enum target {
	TARGET_NONE = 0,
	TARGET_RAW_TRACEPOINT, /* name */
	TARGET_FUNCTION,       /* first: id of the BTF object or the program; second: type in it, with bit 31 for BTF; name */
	TARGET_CGROUP,         /* first: id */
	TARGET_ITERATOR,       /* name */
	TARGET_ITERATOR_MAP,   /* first: id; name */
	TARGET_ITERATOR_CGROUP, /* first: id; name */
	TARGET_ITERATOR_THREAD, /* first: pid; name */
	TARGET_ITERATOR_PROCESS, /* first: pid; name */
	TARGET_NETNS,          /* first: inode */
	TARGET_DEVICE,         /* first: index; name */
	TARGET_KPROBE,         /* first: offset; second: address; return_probe; name: symbol */
	TARGET_UPROBE,         /* first: offset; return_probe; name: file */
	TARGET_TRACEPOINT,     /* name; group */
	TARGET_PERF_EVENT,     /* first: type; second: config */
	TARGET_KPROBE_MULTI,   /* first: how many; second: address of the first; return_probe */
	TARGET_MAP,            /* first: id */
	TARGET_NETFILTER,      /* first: family; second: hook in the upper half, priority in the lower */
};

/* Each link; behind it its name and group, neither with a zero at its end. All but the first field says what it is. */
struct link_record {
	__s64 missed;
	__u32 id;
	__u32 type;
	__u32 prog_id;
	__u32 attach_type;
	enum target target;
	__u32 return_probe;
	__u64 first;
	__u64 second;
	__u32 name_len;
	__u32 group_len;
};

/* What a file is the descriptor of. */
enum file_kind {
	FILE_PROGRAM,
	FILE_MAP,
	FILE_LINK,
	FILE_BTF,
	FILE_KINDS,
	FILE_PROCESS,
	FILE_REST,
};

/* What the records that follow belong to, up to the next one of these. */
struct process_record {
	/* FILE_PROCESS */
	__u32 kind;
	__u32 pid;
	/* Whether it is the process that reads, which may know itself by another pid. */
	__u32 own;
	__u32 padding;
	__u64 start_time;
	/* 0 where it is not known: the kernel gives no such id. */
	__u64 cgroup;
	char name[TASK_COMM_LEN];
};

/* Each descriptor of a BPF object in a process. */
struct file_record {
	enum file_kind kind;
	__u32 id;
};

/* The last record where there was no room for all: from which descriptor of which thread on there are more. */
struct rest_record {
	/* FILE_REST */
	__u32 kind;
	__u32 task;
	__u32 fd;
	__u32 padding;
};

/* Of the room that the kernel has for the records of a thread, what is kept free: no records before it are longer. */
#define MOST_AT_ONCE (sizeof(struct process_record) + 64 * sizeof(struct file_record) + sizeof(struct rest_record))

/* How the files of each kind are known. */
struct file_kinds {
	/* The function that is called at their end; 0 for a kind that was not learnt. */
	__u64 releases[FILE_KINDS];
	/* The reader's own descriptors to learn it from; less than 0 for none, as soon as it is learnt. */
	__s32 learn_from[FILE_KINDS];
};

/* Where a walk through the descriptors of all threads begins, and ended. */
struct walk_state {
	/* The thread to begin with, 0 for the first, and its descriptor; as in struct rest_record. */
	__u32 from_task;
	__u32 from_fd;
	/* The reading that was interrupted and tells nothing more. */
	__u64 interrupted;
};

/* What the reader asks for. */
struct request {
	/* Programs whose id is not less have their facts written. */
	__u32 program_facts_from;
	/* Bits of trace_event_call.flags, whose enumeration has no name and moves from kernel to kernel. */
	__u32 flag_tracepoint;
	__u32 flag_kprobe;
	__u32 flag_uprobe;
};

/* Sorts of files, by their operations, and what they are the descriptors of. */
#define SORTS 64
struct sort_of_file {
	__u64 operations;
	__u64 kind;
};

/* The fields of a file from its operations to its object. */
struct file_head {
	__u64 fields[8];
};

/* Room for one object. */
struct scratch {
	__u64 address;
	struct program_record program_record;
	struct program_facts program_facts;
	struct map_record map_record;
	struct link_record link_record;
	/* Of which reading and thread the process is. */
	__u64 session;
	__u64 task;
	struct process_record process_record;
	struct rest_record rest_record;
	struct sort_of_file sorts[SORTS];
	/* 64 descriptors, before and after they were looked at. */
	struct file *files[64];
	struct file *files_after[64];
	struct file_head heads[64];
	/* What was found among them: in which places, the addresses of objects, the records; and how many of these are kept. */
	__u8 slots[64];
	__u64 objects[64];
	struct file_record file_records[64];
	__u32 found;
	__u32 kept;
	/* How many bytes of records were written of the thread. */
	__u32 written;
	__u32 map_ids[MAX_USED_MAPS];
	char name[NAME_LEN];
	char other_name[NAME_LEN];
};
