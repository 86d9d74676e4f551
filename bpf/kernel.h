/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Declarations of the kernel: helpers by number, and the fields of structures that the iterators read. */
#pragma once

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef int __s32;
typedef long long __s64;
typedef _Bool bool;
#define false 0

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
#define __unused __attribute__((unused))
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name

/* enum bpf_func_id */
static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value, __u64 flags) = (void *)2;
static __u64 (*bpf_get_current_pid_tgid)(void) = (void *)14;
static __u64 (*bpf_get_current_task)(void) = (void *)35;
static long (*bpf_probe_read_kernel)(void *destination, __u32 size, const void *from) = (void *)113;
static long (*bpf_probe_read_kernel_str)(void *destination, __u32 size, const void *from) = (void *)115;
static long (*bpf_seq_write)(void *seq, const void *bytes, __u32 len) = (void *)127;
static long (*bpf_loop)(__u32 times, void *callback, void *context, __u64 flags) = (void *)181;
static void *(*bpf_map_lookup_percpu_elem)(void *map, const void *key, __u32 cpu) = (void *)195;

enum bpf_prog_type {
	BPF_PROG_TYPE_UNSPEC = 0,
};

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_LRU_PERCPU_HASH = 10,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_MAP_TYPE_HASH_OF_MAPS = 13,
	BPF_MAP_TYPE_DEVMAP = 14,
	BPF_MAP_TYPE_XSKMAP = 17,
	BPF_MAP_TYPE_SOCKHASH = 18,
	BPF_MAP_TYPE_QUEUE = 22,
	BPF_MAP_TYPE_STACK = 23,
	BPF_MAP_TYPE_DEVMAP_HASH = 25,
	BPF_MAP_TYPE_RINGBUF = 27,
	BPF_MAP_TYPE_USER_RINGBUF = 31,
};

/* bpf_map.map_flags */
enum {
	BPF_F_NO_PREALLOC = 1,
};

/* Flags of bpf_map_update_elem() */
enum {
	BPF_NOEXIST = 1,
};

/* enum bpf_field_info_kind */
enum {
	BPF_FIELD_BYTE_OFFSET = 0,
	BPF_FIELD_BYTE_SIZE = 1,
	BPF_FIELD_EXISTS = 2,
	BPF_FIELD_LSHIFT_U64 = 4,
	BPF_FIELD_RSHIFT_U64 = 5,
};

/* enum bpf_enum_value_kind */
enum {
	BPF_ENUMVAL_EXISTS = 0,
	BPF_ENUMVAL_VALUE = 1,
};

#define bpf_core_enum_value_exists(type, name) __builtin_preserve_enum_value(*(type *)name, BPF_ENUMVAL_EXISTS)
#define bpf_core_enum_value(type, name) __builtin_preserve_enum_value(*(type *)name, BPF_ENUMVAL_VALUE)
#define bpf_core_field_exists(field) __builtin_preserve_field_info(field, BPF_FIELD_EXISTS)
#define bpf_core_field_offset(field) __builtin_preserve_field_info(field, BPF_FIELD_BYTE_OFFSET)

/* A field of a structure, for the macros above, without a pointer to one. */
#define FIELD_OF(structure, field) (((structure *)0)->field)

/*
 * Reads a bit field. Its storage unit and its position differ between kernels; a unit may overlap the field before
 * it.
 */
#define CORE_BITFIELD(pointer, field)                                                                     \
	({                                                                                                \
		__u64 value = 0;                                                                          \
		bpf_probe_read_kernel(&value,                                                             \
				      __builtin_preserve_field_info((pointer)->field, BPF_FIELD_BYTE_SIZE), \
				      (const void *)(pointer) + bpf_core_field_offset((pointer)->field)); \
		value <<= __builtin_preserve_field_info((pointer)->field, BPF_FIELD_LSHIFT_U64);          \
		value >> __builtin_preserve_field_info((pointer)->field, BPF_FIELD_RSHIFT_U64);           \
	})

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct seq_file {
	unsigned long size;
	unsigned long count;
};

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct btf_type {
	__u32 name_off;
};

struct btf {
	struct btf_type **types;
	const char *strings;
	__u32 id;
};

typedef struct {
	__u32 val;
} kuid_t;

struct user_struct {
	kuid_t uid;
};

struct bpf_func_info {
	__u32 insn_off;
	__u32 type_id;
};

struct bpf_map;
struct bpf_prog;
struct bpf_prog_stats;

struct bpf_prog_aux {
	struct bpf_prog *prog;
	__u32 attach_btf_id;
	__u32 used_map_cnt;
	__u32 id;
	__u32 func_cnt;
	const char *attach_func_name;
	struct bpf_prog **func;
	struct bpf_map **used_maps;
	struct user_struct *user;
	__u64 load_time;
	__u32 verified_insns; /* 5.16 */
	char name[16];
	struct btf *btf;
	struct bpf_func_info *func_info;
	__u32 func_info_cnt;
};

struct bpf_prog {
	__u16 pages;
	__u16 gpl_compatible : 1;
	enum bpf_prog_type type;
	__u32 len;
	__u32 jited_len;
	__u8 tag[8];
	struct bpf_prog_stats *stats; /* 5.12; before, in bpf_prog_aux */
	struct bpf_prog_aux *aux;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup_root;

struct cgroup {
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

/* The enumerators depend on the controllers that the kernel is built with. */
enum cgroup_subsys_id {
	memory_cgrp_id = 4,
};

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
};

struct obj_cgroup {
	struct mem_cgroup *memcg;
};

struct bpf_map {
	const struct bpf_map_ops *ops;
	enum bpf_map_type map_type;
	__u32 key_size;
	__u32 value_size;
	__u32 max_entries;
	__u32 map_flags;
	__u32 id;
	struct btf *btf;
	struct obj_cgroup *objcg; /* 6.1 */
	char name[16];
	bool frozen;
	__s64 *elem_count; /* 6.6, per CPU */
	__u64 cookie;      /* 6.14 */
};

/* 5.11 to 6.0 */
struct bpf_map___memcg {
	struct mem_cgroup *memcg;
};

struct bpf_array {
	struct bpf_map map;
	void *pptrs[0];
};

typedef struct {
	__s32 counter;
} atomic_t;

struct percpu_counter {
	__s64 count;
	__s32 *counters; /* per CPU */
};

struct bpf_htab {
	struct percpu_counter pcount; /* 6.0 */
	atomic_t count;
	bool use_percpu_counter; /* 6.0 */
};

struct lpm_trie {
	unsigned long n_entries;
};

struct bpf_queue_stack {
	__u32 head;
	__u32 tail;
	__u32 size;
};

struct bpf_dtab {
	__u32 items;
};

struct bpf_map_ops {
	void *map_mem_usage;
};

struct bpf_shtab {
	atomic_t count;
};

struct xsk_map {
	atomic_t count;
};

struct bpf_ringbuf {
	unsigned long consumer_pos;
	unsigned long producer_pos;
};

struct bpf_ringbuf_map {
	struct bpf_ringbuf *rb;
};

struct bpf_iter__bpf_prog {
	struct bpf_iter_meta *meta;
	struct bpf_prog *prog;
};

struct bpf_iter__bpf_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
};

enum bpf_attach_type {
	BPF_CGROUP_INET_INGRESS = 0,
};

enum bpf_link_type {
	BPF_LINK_TYPE_RAW_TRACEPOINT = 1,
	BPF_LINK_TYPE_TRACING = 2,
	BPF_LINK_TYPE_CGROUP = 3,
	BPF_LINK_TYPE_ITER = 4,
	BPF_LINK_TYPE_NETNS = 5,
	BPF_LINK_TYPE_XDP = 6,
	BPF_LINK_TYPE_PERF_EVENT = 7,
	BPF_LINK_TYPE_KPROBE_MULTI = 8,
	BPF_LINK_TYPE_STRUCT_OPS = 9,
	BPF_LINK_TYPE_NETFILTER = 10,
	BPF_LINK_TYPE_TCX = 11,
	BPF_LINK_TYPE_NETKIT = 13,
	BPF_LINK_TYPE_SOCKMAP = 14,
};

struct bpf_link {
	__u32 id;
	enum bpf_link_type type;
	struct bpf_prog *prog;
	enum bpf_attach_type attach_type; /* 6.18; before, in the structures of most types */
};

struct tracepoint {
	const char *name;
};

struct bpf_raw_event_map {
	struct tracepoint *tp;
};

struct bpf_raw_tp_link {
	struct bpf_raw_event_map *btp;
};

struct bpf_trampoline {
	__u64 key;
};

struct bpf_tracing_link {
	enum bpf_attach_type attach_type;
	struct bpf_trampoline *trampoline;
};

struct bpf_cgroup_link {
	struct cgroup *cgroup;
	enum bpf_attach_type type;
};

enum bpf_iter_task_type {
	BPF_TASK_ITER_ALL = 0,
};

struct bpf_iter_aux_info {
	struct bpf_map *map;
	struct {
		struct cgroup *start;
	} cgroup; /* 6.1 */
	struct {
		enum bpf_iter_task_type type;
		__u32 pid;
	} task; /* 6.1 */
};

struct bpf_iter_reg {
	const char *target;
};

struct bpf_iter_target_info {
	const struct bpf_iter_reg *reg_info;
};

struct bpf_iter_link {
	struct bpf_iter_aux_info aux;
	struct bpf_iter_target_info *tinfo;
};

struct ns_common {
	__u32 inum;
};

struct net {
	struct ns_common ns;
};

struct bpf_netns_link {
	struct net *net;
	enum bpf_attach_type type;
};

struct net_device {
	__s32 ifindex;
	char name[16];
	struct {
		struct net *net;
	} nd_net;
};

struct bpf_xdp_link {
	struct net_device *dev;
};

struct tcx_link {
	struct net_device *dev;
	__u32 location;
};

struct netkit_link {
	struct net_device *dev;
	__u32 location;
};

struct file_operations {
	void *release;
};

struct vfsmount;
struct dentry;

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct file {
	const struct file_operations *f_op;
	void *private_data;
	struct path f_path;
};

struct fdtable {
	__u32 max_fds;
	struct file **fd;
	unsigned long *open_fds;
};

struct files_struct {
	struct fdtable *fdt;
};

struct list_head {
	struct list_head *next;
	struct list_head *prev;
};

typedef struct {
	__u32 sequence;
} seqcount_t;

struct seqcount_spinlock {
	seqcount_t seqcount;
};

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct seqcount_spinlock d_seq;
	struct qstr d_name;
};

struct file_system_type {
	const char *name;
};

struct super_block {
	struct list_head s_list;
	__u32 s_dev;
	struct file_system_type *s_type;
	unsigned long s_flags;
	unsigned long s_magic;
	struct dentry *s_root;
};

struct vfsmount {
	struct dentry *mnt_root;
	struct super_block *mnt_sb;
};

struct mount {
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct mm_struct {
	struct file *exe_file;
};

struct fs_struct {
	struct path root;
};

struct signal_struct {
	struct list_head thread_head;
};

struct task_struct {
	__s32 pid;
	__s32 tgid;
	struct list_head tasks;
	struct list_head thread_node;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	__u64 start_boottime;
	char comm[16];
	struct mm_struct *mm;
	struct fs_struct *fs;
	struct files_struct *files;
	struct css_set *cgroups;
};

struct bpf_perf_link {
	struct file *perf_file;
};

struct trace_event_class {
	const char *system;
};

struct trace_event_call {
	struct trace_event_class *class;
	const char *name;
	struct tracepoint *tp;
	__s32 flags;
};

struct perf_event_attr {
	__u32 type;
	__u64 config;
};

struct perf_event {
	struct perf_event_attr attr;
	struct trace_event_call *tp_event;
};

struct trace_probe_event {
	struct trace_event_call call;
	struct list_head probes;
};

struct trace_probe {
	struct list_head list;
};

struct kprobe {
	unsigned long nmissed;
	void *addr;
	__u32 offset;
};

struct kretprobe {
	struct kprobe kp;
	void *handler;
	__s32 nmissed;
};

struct trace_kprobe {
	struct kretprobe rp;
	const char *symbol;
	struct trace_probe tp;
};

struct uprobe_consumer {
	void *ret_handler;
};

struct trace_uprobe {
	struct uprobe_consumer consumer;
	char *filename;
	unsigned long offset;
	struct trace_probe tp;
};

struct fprobe {
	unsigned long nmissed;
};

struct bpf_kprobe_multi_link {
	struct fprobe fp;
	unsigned long *addrs;
	__u32 cnt;
	__u32 flags;
};

struct bpf_struct_ops_link {
	struct bpf_map *map;
};

struct nf_hook_ops {
	__u8 pf;
	__u32 hooknum;
	__s32 priority;
};

struct bpf_nf_link {
	struct nf_hook_ops hook_ops;
	struct net *net;
};

struct sockmap_link {
	struct bpf_map *map;
	enum bpf_attach_type attach_type;
};

struct bpf_iter__bpf_link {
	struct bpf_iter_meta *meta;
	struct bpf_link *link;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop
