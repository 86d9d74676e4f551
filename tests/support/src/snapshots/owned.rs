//! Arbitrary owners, holders, pins and attachments.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bpf_metrics_exporter::model::{
    AttachPointStatus, AttachmentScan, Cgroup, Container, Content, Device, HeldBy, Holder, Holders, Hook,
    IdentifiedBy, Identity, Kind, KindTotal, NetNs, Owner, OwnerGroup, OwnerKind, OwnerTotal, Pin, Pod,
    Process, ProgramCapability, Symbol, Target,
};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use super::{kind, moment};

/// A name, mostly a short one: there are many of them, and other texts try what breaks out of a format.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z]{0,4}", 1 => Just("quote \" backslash \\ line\nfeed {},= ü".to_owned())]
}

fn identity() -> impl Strategy<Value = Identity> {
    let process = (any::<u32>(), any::<u64>(), text(), option::of(text())).prop_map(
        |(pid, started_at_boot_ns, name, executable_name)| Process {
            pid,
            started_at_boot_ns,
            name,
            executable_name,
        },
    );
    let container = (text(), option::of(text()), option::of(text()))
        .prop_map(|(id, runtime, name)| Container { id, runtime: runtime.map(Cow::Owned), name });
    let pod = (text(), option::of(text()), option::of(text()), option::of(text()))
        .prop_map(|(key, uid, namespace, name)| Pod { key, uid, namespace, name });
    let identified_by =
        prop_oneof![Just(IdentifiedBy::Path), Just(IdentifiedBy::Confirmed), Just(IdentifiedBy::Delegated)];
    let group = text().prop_map(|name| OwnerGroup { kind: OwnerKind::Process, name });
    (
        (option::of(process), option::of(container), option::of(pod), option::of(identified_by)),
        (option::of(text()), option::of(text()), bpffs(), option::of(group)),
    )
        .prop_map(|((process, container, pod, identified_by), (unit, pin, bpffs, group))| Identity {
            process,
            container,
            pod,
            identified_by,
            unit,
            pin,
            bpffs,
            group,
        })
}

/// None, or one of a few file systems.
fn bpffs() -> impl Strategy<Value = Option<Arc<str>>> {
    option::of((40_u32..43).prop_map(|minor| format!("0:{minor}").into()))
}

/// Anybody.
pub(super) fn owner() -> impl Strategy<Value = Arc<Owner>> {
    identity().prop_map(|identity| Arc::new(Owner::from(identity)))
}

fn held_by() -> impl Strategy<Value = HeldBy> {
    prop_oneof![Just(HeldBy::Process), Just(HeldBy::Pin), Just(HeldBy::Creator)]
}

/// Any holders, none of them twice of an object, with labels that differ.
pub(super) fn holders() -> impl Strategy<Value = Option<Holders>> {
    let of_kind = || {
        vec((any::<u32>(), held_by(), owner()), 0..8).prop_map(|holders| {
            let mut seen = BTreeSet::new();
            let mut holders: Vec<Holder> = holders
                .into_iter()
                .map(|(id, held_by, owner)| Holder { id, held_by, owner })
                // Each id once: owners whose names are the same would be the same series.
                .filter(|holder| seen.insert(holder.id))
                .collect();
            holders.sort_by_key(|holder| holder.id);
            holders
        })
    };
    let holders = (of_kind(), of_kind(), of_kind(), of_kind())
        .prop_map(|(programs, maps, links, btfs)| Holders { programs, maps, links, btfs });
    option::of(holders)
}

/// Any pins, each path of a file system once.
pub(super) fn pins() -> impl Strategy<Value = Option<Vec<Pin>>> {
    let pins = vec((kind(), any::<u32>(), text(), text(), bpffs()), 0..8).prop_map(|pins| {
        let by_path: BTreeMap<(String, Option<Arc<str>>), Pin> = pins
            .into_iter()
            .map(|(kind, id, path, directory, bpffs)| {
                let pin = Pin {
                    kind,
                    id,
                    path: (&*path).into(),
                    directory: directory.into(),
                    bpffs: bpffs.clone(),
                };
                ((path, bpffs), pin)
            })
            .collect();
        by_path.into_values().collect()
    });
    option::of(pins)
}

/// Any target: of each kind of label that it can have, and of text that tries to break out of a format.
pub(super) fn target() -> impl Strategy<Value = Target> {
    let device = (any::<u32>(), option::of(text()))
        .prop_map(|(ifindex, name)| Target::Device(Device { ifindex, name: name.map(Into::into) }));
    let cgroup = (any::<u64>(), option::of(text()))
        .prop_map(|(id, path)| Target::Cgroup(Cgroup { id, path: path.map(Into::into) }));
    let kprobe = (option::of((text(), any::<u64>())), any::<bool>()).prop_map(|(symbol, at_return)| {
        let symbol = symbol.map(|(name, offset)| Symbol { name: name.into(), offset });
        Target::Kprobe { symbol, at_return }
    });
    let netfilter = (any::<u32>(), any::<u32>(), option::of(any::<i32>()))
        .prop_map(|(family, hook, priority)| Target::Netfilter { family, hook, priority });
    prop_oneof![
        text().prop_map(|name| Target::RawTracepoint { name: name.into() }),
        any::<u64>().prop_map(|inode| Target::NetNs { inode }),
        device,
        cgroup,
        kprobe,
        netfilter,
    ]
}

/// Any network namespace.
pub(super) fn netns() -> impl Strategy<Value = NetNs> {
    (any::<u64>(), option::of(text())).prop_map(|(inode, name)| NetNs { inode, name: name.map(Into::into) })
}

/// Any look at the hooks, with each hook once.
pub(super) fn hooks() -> impl Strategy<Value = Option<Arc<AttachmentScan>>> {
    let place = || ("[a-z_]{1,8}", option::of(target()), option::of(netns()));
    let hooks =
        vec((place(), (option::of(any::<u32>()), option::of(any::<u32>()), option::of(any::<u32>()))), 0..6)
            .prop_map(|hooks| {
                let mut seen = BTreeSet::new();
                (0..)
                    .zip(hooks)
                    .map(|(position, ((hook, target, netns), (prog_id, link_id, map_id)))| Hook {
                        hook: Cow::Owned(hook),
                        target,
                        netns,
                        // Structures of operations run in no order.
                        position: map_id.is_none().then_some(position),
                        priority: None,
                        prog_id,
                        link_id,
                        map_id,
                    })
                    .filter(|hook| {
                        let text = hook.target.as_ref().map(ToString::to_string);
                        let inode = hook.netns.as_ref().map(|netns| netns.inode);
                        seen.insert((hook.hook.clone(), text, inode, hook.prog_id, hook.link_id))
                    })
                    .collect()
            });
    let attach_points = (vec((place(), any::<u64>(), option::of(any::<u64>())), 0..6), moment()).prop_map(
        |(points, since)| {
            let mut seen = BTreeSet::new();
            points
                .into_iter()
                .map(|((hook, target, netns), programs, detached)| AttachPointStatus {
                    hook: Cow::Owned(hook),
                    target,
                    netns,
                    programs,
                    detached,
                    since,
                })
                .filter(|point| seen.insert(point.hook.clone()))
                .collect()
        },
    );
    let contents = vec((any::<u32>(), kind(), any::<u32>()), 0..4).prop_map(|contents| {
        contents.into_iter().map(|(map_id, kind, id)| Content { map_id, kind, id }).collect()
    });
    let look = (moment(), hooks, contents, attach_points, any::<bool>()).prop_map(
        |(taken_at, hooks, contents, attach_points, complete)| {
            Arc::new(AttachmentScan {
                taken_at,
                hooks,
                contents,
                attach_points,
                namespaces: Vec::new(),
                unqueryable: Vec::new(),
                complete,
            })
        },
    );
    option::of(look)
}

/// Any totals of owners, each kind and name once.
pub(super) fn owners() -> impl Strategy<Value = Vec<OwnerTotal>> {
    let count = || option::of(any::<u64>());
    vec((identity(), moment(), (count(), count(), count(), count()), option::of(any::<u32>())), 0..6)
        .prop_map(|owners| {
            let by_name: BTreeMap<(OwnerKind, String), OwnerTotal> = owners
                .into_iter()
                .map(|(identity, since, (programs, maps, links, mem), milliseconds)| {
                    let run_time =
                        milliseconds.map(|milliseconds| Duration::from_millis(milliseconds.into()));
                    let owner = Arc::new(Owner::from(identity.top_level()));
                    let key = (owner.kind(), owner.name().to_owned());
                    let fingerprint = programs.map(|programs| format!("{programs:032x}").into());
                    let capable = |programs: u64| {
                        let words = ProgramCapability::ALL.into_iter().zip(1..);
                        words.filter(|(_, number)| programs >> number & 1 == 1).collect()
                    };
                    let total = OwnerTotal {
                        owner,
                        since,
                        programs,
                        maps,
                        links,
                        mem,
                        run_time,
                        fingerprint,
                        capable: programs.map(capable),
                    };
                    (key, total)
                })
                .collect();
            by_name.into_values().collect()
        })
}

/// Any totals of kinds.
pub(super) fn totals() -> impl Strategy<Value = Vec<KindTotal>> {
    let total = (any::<u32>(), option::of(any::<u32>()), option::of(any::<u64>()), option::of(any::<u32>()));
    (btree_set(kind(), 0..4), vec(total, 4), moment()).prop_map(|(kinds, totals, since)| {
        let total =
            |(kind, (objects, orphaned, mem, milliseconds)): (Kind, (u32, Option<u32>, _, Option<u32>))| {
                KindTotal {
                    kind,
                    objects: objects as usize,
                    orphaned: orphaned.map(|orphaned| orphaned as usize),
                    mem,
                    since,
                    run_time: milliseconds.map(|milliseconds| Duration::from_millis(milliseconds.into())),
                }
            };
        kinds.into_iter().zip(totals).map(total).collect()
    })
}
