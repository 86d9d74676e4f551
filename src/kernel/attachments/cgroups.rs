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
use crate::host::text::printable;
use crate::model::enums::{attach_type, program_type};
use crate::sys::bpf::{Attached, Hooked, attached};
use crate::sys::{Error, errno_of};

/// The types of program that attach to cgroups, with the hooks of each. The kernel does not report a program's expected attach
/// type, so its type decides.
const HOOKS: [(u32, &[u32]); 8] = [
    (program_type::CGROUP_SKB, &[attach_type::CGROUP_INET_INGRESS, attach_type::CGROUP_INET_EGRESS]),
    (
        program_type::CGROUP_SOCK,
        &[
            attach_type::CGROUP_INET_SOCK_CREATE,
            attach_type::CGROUP_INET4_POST_BIND,
            attach_type::CGROUP_INET6_POST_BIND,
            attach_type::CGROUP_INET_SOCK_RELEASE,
        ],
    ),
    (program_type::SOCK_OPS, &[attach_type::CGROUP_SOCK_OPS]),
    (program_type::CGROUP_DEVICE, &[attach_type::CGROUP_DEVICE]),
    (
        program_type::CGROUP_SOCK_ADDR,
        &[
            attach_type::CGROUP_INET4_BIND,
            attach_type::CGROUP_INET6_BIND,
            attach_type::CGROUP_INET4_CONNECT,
            attach_type::CGROUP_INET6_CONNECT,
            attach_type::CGROUP_UDP4_SENDMSG,
            attach_type::CGROUP_UDP6_SENDMSG,
            attach_type::CGROUP_UDP4_RECVMSG,
            attach_type::CGROUP_UDP6_RECVMSG,
            attach_type::CGROUP_INET4_GETPEERNAME,
            attach_type::CGROUP_INET6_GETPEERNAME,
            attach_type::CGROUP_INET4_GETSOCKNAME,
            attach_type::CGROUP_INET6_GETSOCKNAME,
            attach_type::CGROUP_UNIX_CONNECT,
            attach_type::CGROUP_UNIX_SENDMSG,
            attach_type::CGROUP_UNIX_RECVMSG,
            attach_type::CGROUP_UNIX_GETPEERNAME,
            attach_type::CGROUP_UNIX_GETSOCKNAME,
        ],
    ),
    (program_type::CGROUP_SYSCTL, &[attach_type::CGROUP_SYSCTL]),
    (program_type::CGROUP_SOCKOPT, &[attach_type::CGROUP_GETSOCKOPT, attach_type::CGROUP_SETSOCKOPT]),
    (program_type::LSM, &[attach_type::LSM_CGROUP]),
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
        Err(error) => return asking.refused(error, &types),
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
                asking.refused(Error::new("open", errno_of(&error)), &types);
                continue;
            }
        };
        let target: Arc<str> = printable(path.as_os_str().as_encoded_bytes()).into();
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
                Err(Error { errno: Errno::ENOENT | Errno::ENODEV, .. }) => {}
                Err(error) => asking.query_failed(attach_type, error, &[kind]),
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
            Err(error) => asking.refused(Error::new("getdents64", errno_of(&error)), &types),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    [Errno::ENOENT, Errno::ENODEV].contains(&errno_of(error))
}
