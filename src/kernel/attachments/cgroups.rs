//! What hangs at cgroups: every cgroup of the hierarchy of version 2 is asked for each hook that a loaded program fits.
//! Knows links only by what they are merged into. Begin at [`look`].

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use nix::errno::Errno;

use super::Asking;
use super::merge::Place;
use super::network::hook;
use crate::host::cgroups::unified;
use crate::host::issues::errno_of;
use crate::host::text::text;
use crate::sys::bpf::uapi::program_type;
use crate::sys::bpf::{Attached, Hooked, attached};

/// The types of program that hang at cgroups, and where: `enum bpf_attach_type`. What a program expects is not in what the kernel
/// says of it, so its type decides.
const HOOKS: [(u32, &[u32]); 8] = [
    (program_type::CGROUP_SKB, &[0, 1]),
    (program_type::CGROUP_SOCK, &[2, 12, 13, 34]),
    (program_type::SOCK_OPS, &[3]),
    (program_type::CGROUP_DEVICE, &[6]),
    (program_type::CGROUP_SOCK_ADDR, &[8, 9, 10, 11, 14, 15, 19, 20, 29, 30, 31, 32, 49, 50, 51, 52, 53]),
    (program_type::CGROUP_SYSCTL, &[18]),
    (program_type::CGROUP_SOCKOPT, &[21, 22]),
    (program_type::LSM, &[43]),
];

/// A directory of cgroupfs without others in it (`kernfs_refresh_inode`, `fs/kernfs/inode.c`).
const LINKS_OF_LEAF: u64 = 2;

/// Asks every cgroup that can be seen, if there is a program that fits.
pub(crate) fn look(asking: &mut Asking<'_>) {
    let hooks = HOOKS.iter().filter(|(kind, _)| asking.subject.has(&[*kind]));
    let each = |&(kind, types): &(u32, &'static [u32])| {
        types.iter().map(move |&attach_type| (kind, attach_type, hook(attach_type)))
    };
    let hooks: Vec<_> = hooks.flat_map(each).collect();
    if hooks.is_empty() {
        return;
    }
    let types: Vec<u32> = hooks.iter().map(|&(kind, ..)| kind).collect();
    let hierarchy = match unified(&asking.root) {
        Ok(hierarchy) => hierarchy,
        Err((call, errno)) => return asking.refused(call, errno, &types),
    };
    // The cgroups of who is in a cgroup namespace, or sees only a part of the hierarchy, are not all there are.
    if !hierarchy.is_root {
        asking.blind.extend(&types);
    }
    let mut there = Attached::default();
    let mut waiting = vec![(hierarchy.point, hierarchy.path)];
    while let Some((directory, path)) = waiting.pop() {
        let opened = File::open(&directory).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = match opened {
            Ok(opened) => opened,
            Err(error) if is_gone(&error) => continue,
            Err(error) => {
                asking.refused("open", errno_of(&error), &types);
                continue;
            }
        };
        let target: Arc<str> = text(path.as_os_str().as_encoded_bytes()).into();
        for &(kind, attach_type, ref hook) in &hooks {
            if asking.unknown.contains(&attach_type) {
                continue;
            }
            match attached(Hooked::At(file.as_fd()), attach_type, &mut there) {
                Ok(()) => {
                    asking.hanging.was_asked(hook, &target);
                    if !there.programs.is_empty() {
                        let (hook, target) = (hook.clone(), Some(Arc::clone(&target)));
                        asking.hanging.add(&Place { hook, target, netns: None }, &there);
                    }
                }
                Err(Errno::ENOENT | Errno::ENODEV) => {}
                Err(errno) => asking.query_failed(attach_type, errno, &[kind]),
            }
        }
        if metadata.nlink() == LINKS_OF_LEAF {
            continue;
        }
        match fs::read_dir(&directory) {
            Ok(entries) => {
                let below =
                    entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
                waiting.extend(below.map(|entry| (entry.path(), path.join(entry.file_name()))));
            }
            Err(error) if is_gone(&error) => {}
            Err(error) => asking.refused("getdents64", errno_of(&error), &types),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    [Errno::ENOENT, Errno::ENODEV].contains(&errno_of(error))
}
