/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The iterator over links. */
#pragma once

#include "common.h"

struct link_scratch {
	struct link_record record;
	char name[PATH_LEN];
	char group[NAME_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct link_scratch);
} bpfmetrics_link SEC(".maps");

/* Reads a field of the structure whose first member is this link. */
#define READ_OF_LINK(destination, structure, field) READ(destination, (structure *)link, field)

/*
 * Each write_... function below sets the fields of the record, the name and the group that describe one kind of
 * target.
 */

static __always_inline void write_tracing(struct bpf_link *link, struct link_scratch *scratch)
{
	struct link_record *record = &scratch->record;
	struct bpf_trampoline *trampoline = 0;
	__u64 key = 0;

	READ_OF_LINK(trampoline, struct bpf_tracing_link, trampoline);
	READ(key, trampoline, key);
	record->target = TARGET_FUNCTION;
	record->first = key >> 32;
	record->second = key & 0xffffffff;
	/* The program names the function that it was loaded for; it may be attached to another. */
	if (link->prog->aux->attach_btf_id == (key & 0x7fffffff))
		record->name_len = read_string(scratch->name, link->prog->aux->attach_func_name);
}

static __always_inline void write_iterator(struct bpf_link *link, struct link_scratch *scratch)
{
	struct link_record *record = &scratch->record;
	struct bpf_iter_link *iterator = (struct bpf_iter_link *)link;
	struct bpf_iter_target_info *info = 0;
	struct bpf_iter_reg *registration = 0;
	const char *name = 0;
	struct bpf_map *map = 0;

	READ(info, iterator, tinfo);
	READ(registration, info, reg_info);
	READ(name, registration, target);
	record->name_len = read_string(scratch->name, name);
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

static __always_inline void write_device(struct net_device *device, struct link_scratch *scratch)
{
	struct link_record *record = &scratch->record;
	struct net *net = 0;
	__u32 index = 0, inode = 0;

	if (!device)
		return;
	READ(index, device, ifindex);
	READ(net, device, nd_net.net);
	READ(inode, net, ns.inum);
	record->target = TARGET_DEVICE;
	record->first = index;
	record->second = inode;
	record->name_len = read_string(scratch->name, device->name);
}

static __always_inline void write_kprobe(struct trace_probe *probe, struct link_scratch *scratch)
{
	struct link_record *record = &scratch->record;
	struct trace_kprobe *kprobe = CONTAINER_OF(probe, struct trace_kprobe, tp);
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
		record->name_len = read_string(scratch->name, symbol);
}

static __always_inline void write_uprobe(struct trace_probe *probe, struct link_scratch *scratch)
{
	struct link_record *record = &scratch->record;
	struct trace_uprobe *uprobe = CONTAINER_OF(probe, struct trace_uprobe, tp);
	const char *file = 0;
	void *handler = 0;
	unsigned long offset = 0;

	READ(file, uprobe, filename);
	READ(offset, uprobe, offset);
	READ(handler, uprobe, consumer.ret_handler);
	record->target = TARGET_UPROBE;
	record->first = offset;
	record->return_probe = handler != 0;
	record->name_len = read_text(scratch->name, PATH_LEN, file);
}

static __always_inline void write_perf_event(struct bpf_link *link, struct link_scratch *scratch,
					     struct request *request)
{
	struct link_record *record = &scratch->record;
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
	if (bpf_core_field_exists(FIELD_OF(struct trace_probe_event, call)) &&
	    flags & (request->flag_kprobe | request->flag_uprobe)) {
		struct trace_probe_event *probes = CONTAINER_OF(call, struct trace_probe_event, call);
		struct list_head *first = 0;

		READ(first, probes, probes.next);
		if (flags & request->flag_kprobe) {
			if (bpf_core_field_exists(FIELD_OF(struct trace_kprobe, tp)))
				write_kprobe(CONTAINER_OF(first, struct trace_probe, list), scratch);
		} else if (bpf_core_field_exists(FIELD_OF(struct trace_uprobe, tp))) {
			write_uprobe(CONTAINER_OF(first, struct trace_probe, list), scratch);
		}
		return;
	}
	if (flags & request->flag_tracepoint) {
		READ(tracepoint, call, tp);
		READ(name, tracepoint, name);
	} else {
		READ(name, call, name);
	}
	READ(class, call, class);
	READ(group, class, system);
	record->target = TARGET_TRACEPOINT;
	record->name_len = read_string(scratch->name, name);
	record->group_len = read_string(scratch->group, group);
}

/*
 * Writes the attach type, which the kernel reports for some link types only. It is in struct bpf_link since 6.18,
 * and in the structure of the type before.
 */
#define WRITE_ATTACH_TYPE(structure, field)                                               \
	do {                                                                             \
		if (bpf_core_field_exists(link->attach_type))                            \
			record->attach_type = link->attach_type;                         \
		else                                                                     \
			READ_OF_LINK(record->attach_type, structure, field);             \
	} while (0)

static __always_inline void write_target(struct bpf_link *link, struct link_scratch *scratch, struct request *request)
{
	struct link_record *record = &scratch->record;
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
		record->name_len = read_string(scratch->name, name);
		break;
	}
	case BPF_LINK_TYPE_TRACING:
		WRITE_ATTACH_TYPE(struct bpf_tracing_link, attach_type);
		write_tracing(link, scratch);
		break;
	case BPF_LINK_TYPE_CGROUP: {
		struct cgroup *cgroup = 0;

		WRITE_ATTACH_TYPE(struct bpf_cgroup_link, type);
		READ_OF_LINK(cgroup, struct bpf_cgroup_link, cgroup);
		if (cgroup) {
			record->target = TARGET_CGROUP;
			record->first = cgroup_id(cgroup);
		}
		break;
	}
	case BPF_LINK_TYPE_ITER:
		write_iterator(link, scratch);
		break;
	case BPF_LINK_TYPE_NETNS: {
		struct net *net = 0;

		WRITE_ATTACH_TYPE(struct bpf_netns_link, type);
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
		write_device(device, scratch);
		break;
	case BPF_LINK_TYPE_PERF_EVENT:
		write_perf_event(link, scratch, request);
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

		if (!bpf_core_field_exists(FIELD_OF(struct bpf_struct_ops_link, map)))
			break;
		READ_OF_LINK(map, struct bpf_struct_ops_link, map);
		if (map) {
			record->target = TARGET_MAP;
			record->first = map_id(map);
		}
		break;
	}
	case BPF_LINK_TYPE_NETFILTER: {
		struct net *net = 0;
		__s32 priority = 0;
		__u32 inode = 0;
		__u8 family = 0;

		if (!bpf_core_field_exists(FIELD_OF(struct bpf_nf_link, hook_ops)))
			break;
		READ_OF_LINK(family, struct bpf_nf_link, hook_ops.pf);
		READ_OF_LINK(number, struct bpf_nf_link, hook_ops.hooknum);
		READ_OF_LINK(priority, struct bpf_nf_link, hook_ops.priority);
		READ_OF_LINK(net, struct bpf_nf_link, net);
		READ(inode, net, ns.inum);
		record->target = TARGET_NETFILTER;
		record->first = (__u64)inode << 32 | family;
		record->second = (__u64)number << 32 | (__u32)priority;
		break;
	}
	case BPF_LINK_TYPE_TCX:
		if (!bpf_core_field_exists(FIELD_OF(struct tcx_link, dev)))
			break;
		WRITE_ATTACH_TYPE(struct tcx_link, location);
		READ_OF_LINK(device, struct tcx_link, dev);
		write_device(device, scratch);
		break;
	case BPF_LINK_TYPE_NETKIT:
		if (!bpf_core_field_exists(FIELD_OF(struct netkit_link, dev)))
			break;
		WRITE_ATTACH_TYPE(struct netkit_link, location);
		READ_OF_LINK(device, struct netkit_link, dev);
		write_device(device, scratch);
		break;
	case BPF_LINK_TYPE_SOCKMAP: {
		struct bpf_map *map = 0;

		if (!bpf_core_field_exists(FIELD_OF(struct sockmap_link, map)))
			break;
		WRITE_ATTACH_TYPE(struct sockmap_link, attach_type);
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
	struct link_scratch *scratch = bpf_map_lookup_elem(&bpfmetrics_link, &zero);
	struct request *request = bpf_map_lookup_elem(&bpfmetrics_req, &zero);
	struct link_record *record;

	if (!link || !scratch || !request)
		return 0;
	record = &scratch->record;
	__builtin_memset(record, 0, sizeof(*record));
	record->id = link->id;
	record->type = link->type;
	record->prog_id = link->prog ? link->prog->aux->id : 0;
	record->attach_type = UNKNOWN_U32;
	record->missed = UNKNOWN;
	write_target(link, scratch, request);
	bpf_seq_write(seq, record, sizeof(*record));
	write_text(seq, scratch->name, PATH_LEN, record->name_len);
	write_string(seq, scratch->group, record->group_len);
	return 0;
}
