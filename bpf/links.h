/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The iterator over links. */
#pragma once

#include "common.h"

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
	if (bpf_core_field_exists(FIELD_OF(struct trace_probe_event, call)) &&
	    flags & (ask->flag_kprobe | ask->flag_uprobe)) {
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
