/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The interface between the iterators and their reader: records, requests and shared state. A test checks the
 * layout in `src/kernel/iter/records.rs` against the type information in the object.
 */
#pragma once

/* BPF_OBJ_NAME_LEN */
#define OBJ_NAME_LEN 16
#define TASK_COMM_LEN 16
/* The most maps of a program whose ids are reported: half of the buffer. Any number can be bound to a program. */
#define MAX_REPORTED_MAPS 4096

/* Values of fields that are unknown. */
#define UNKNOWN (-1LL)
#define UNKNOWN_U32 (~0U)

/* One per program: identity and counters. */
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

/*
 * Follows a program_record with has_facts; followed by the full name, the attach target's name, the map ids, and a
 * __u32 that is not 0 if these are the ids.
 */
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

/* One per map: the immutable fields, which are its identity, up to the cookie, then the changing ones. */
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

/*
 * What changes of a program and of a map, in a pass over those that are known: one record each, with the id 0 for an
 * object that is gone. The last record of a pass has the id UNKNOWN_U32, and in the second field whether every object
 * that the iterator visited is known.
 */
struct program_counters {
	__u32 id;
	__u32 used_maps;
	__u64 runs;
	__u64 run_time;
	__u64 misses;
};

struct map_counters {
	__u32 id;
	__u32 frozen;
	__s64 entries;
	__s64 backlog;
	__u64 memory_cgroup;
};

/* Kind of a link's target, with the fields of link_record that describe it. */
enum target {
	TARGET_NONE = 0,
	TARGET_RAW_TRACEPOINT, /* name */
	TARGET_FUNCTION,       /* first: id of the BTF object or program; second: its type id, bit 31 if BTF; name */
	TARGET_CGROUP,         /* first: id */
	TARGET_ITERATOR,       /* name */
	TARGET_ITERATOR_MAP,   /* first: id; name */
	TARGET_ITERATOR_CGROUP, /* first: id; name */
	TARGET_ITERATOR_THREAD, /* first: pid; name */
	TARGET_ITERATOR_PROCESS, /* first: pid; name */
	TARGET_NETNS,          /* first: inode */
	TARGET_DEVICE,         /* first: index; second: inode of the network namespace; name */
	TARGET_KPROBE,         /* first: offset; second: address; return_probe; name: symbol */
	TARGET_UPROBE,         /* first: offset; return_probe; name: file */
	TARGET_TRACEPOINT,     /* name; group */
	TARGET_PERF_EVENT,     /* first: type; second: config */
	TARGET_KPROBE_MULTI,   /* first: number of functions; second: address of the first one; return_probe */
	TARGET_MAP,            /* first: id */
	TARGET_NETFILTER,      /* first: inode of the network namespace in the upper half, family in the lower; second: hook, priority */
};

/* One per link, followed by its name and group without terminating zeros. Only the first field changes. */
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

/*
 * Kind of a record of the iterator over descriptors: that of the BPF object behind a descriptor, or one of the last
 * two.
 */
enum file_kind {
	FILE_PROGRAM,
	FILE_MAP,
	FILE_LINK,
	FILE_BTF,
	/* Number of kinds of BPF objects; also the kind of any other file, which has no record. */
	FILE_KINDS,
	FILE_PROCESS,
	FILE_END,
};

/*
 * The process that holds the descriptors in the records up to the next process_record; followed by the file name of
 * its executable without terminating zero.
 */
struct process_record {
	/* FILE_PROCESS */
	__u32 kind;
	__u32 pid;
	/* 1 for the reading process, which may have another pid in its own namespace. */
	__u32 own;
	/* 0 if unknown. */
	__u32 executable_len;
	__u64 start_time;
	/* 0 if unknown: the kernel assigns no such id. */
	__u64 cgroup;
	char name[TASK_COMM_LEN];
};

/* One per descriptor of a BPF object. */
struct file_record {
	enum file_kind kind;
	__u32 id;
};

/* The last record of a walk through all processes. */
struct end_record {
	/* FILE_END */
	__u32 kind;
	__u32 padding;
};

/* How files of BPF objects are recognized. */
struct file_kinds {
	/* file_operations.release of each kind; 0 until detected. */
	__u64 release_ops[FILE_KINDS];
	/*
	 * A descriptor of the reader to detect each kind from; negative if there is none, or the kind has been
	 * detected.
	 */
	__s32 sample_fds[FILE_KINDS];
	/* The address of init_task, the head of the list of processes; 0 until found. */
	__u64 init_task;
};

/* The position of a walk through all processes between its steps; all 0 at its beginning. */
struct walk_state {
	/* The thread to go on with: its address, and how it is recognized, since no reference is held to it. */
	__u64 task;
	__u64 start_time;
	__u32 id;
	/* The next word of its descriptors. */
	__u32 word;
	/* The latest start of a process up to here. */
	__u64 reached;
	/* Processes that started earlier are skipped: they were read before the thread ended. */
	__u64 skip_before;
	/* 1 after the last process. */
	__u32 done;
	__u32 padding;
};

/* A file system of pins; the last record has the device 0. */
struct bpffs_record {
	/* super_block.s_dev */
	__u32 device;
};

/* Parameters of an iteration, written by the reader. */
struct request {
	/* Facts are written for programs with this id or a higher one. */
	__u32 program_facts_from;
	/* Bits of trace_event_call.flags: their enumeration is anonymous, and the values differ between kernels. */
	__u32 flag_tracepoint;
	__u32 flag_kprobe;
	__u32 flag_uprobe;
	/* Programs or maps with a lower id are known: the iterator skips them. 0 has it learn all of them again. */
	__u32 known_below;
	/* Number of CPUs in the array, and of those at its start that are online, or were when objects were learned. */
	__u32 possible_cpus;
	__u32 online_cpus;
	/* The number of a pass over known objects: another one begins it. */
	__u32 pass;
};
