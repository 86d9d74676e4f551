//! Attachments to cgroups: every cgroup of the hierarchy of version 2 is queried for each hook that a loaded program fits.
//! Entry point: [`scan`].

use std::borrow::Cow;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::merge::AttachPoint;
use super::{ScanContext, hook};
use crate::host::cgroups::unified;
use crate::model::enums::{attach_type, program_type};
use crate::model::{Cgroup, Feature, Reason, Target};
use crate::sys::bpf::{AttachedPrograms, QueryTarget, prog_query};
use crate::sys::{Error, errno_of, failed};
use crate::text::printable;

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

/// The link count of a directory of cgroupfs without subdirectories (`kernfs_refresh_inode`, `fs/kernfs/inode.c`).
const LINKS_OF_LEAF: u64 = 2;

/// A hook of cgroups that a loaded program fits.
struct CgroupHook {
    program_type: u32,
    attach_type: u32,
    word: Cow<'static, str>,
}

/// Queries every cgroup that can be seen.
pub(crate) fn scan(cx: &mut ScanContext<'_>) {
    let hooks = HOOKS.iter().filter(|(program_type, _)| cx.subject.has(&[*program_type]));
    let hooks = hooks.flat_map(|&(program_type, attach_types)| {
        let each = move |&attach_type| CgroupHook { program_type, attach_type, word: hook(attach_type) };
        attach_types.iter().map(each)
    });
    let hooks: Vec<CgroupHook> = hooks.collect();
    if hooks.is_empty() {
        return survey_watched(cx);
    }
    let types: Vec<u32> = hooks.iter().map(|hook| hook.program_type).collect();
    let hierarchy = match unified(&cx.root) {
        Ok(hierarchy) => hierarchy,
        Err(error) => return cx.refused(error, &types),
    };
    // In a cgroup namespace, or below a mount of a part of the hierarchy, some cgroups cannot be seen.
    if !hierarchy.is_root {
        cx.issues.limit(Feature::CgroupHooks, Reason::CgroupNamespace);
        cx.unqueryable.extend(&types);
    }
    let mut waiting = vec![(hierarchy.point, hierarchy.path)];
    while let Some((directory, path)) = waiting.pop() {
        match query_cgroup(cx, &hooks, &directory, &path) {
            Ok(false) => {}
            Ok(true) => match subdirectories(&directory, &path) {
                Ok(below) => waiting.extend(below),
                Err(error) if is_gone(&error) => {}
                Err(error) => cx.refused(failed("getdents64")(error), &types),
            },
            Err(error) if is_gone(&error) => {}
            Err(error) => cx.refused(failed("open")(error), &types),
        }
    }
}

/// Looks for the cgroups that had programs at an earlier scan, where no loaded program can be attached to any.
fn survey_watched(cx: &mut ScanContext<'_>) {
    let is_cgroup = |target: &Option<Target>| Some(target.as_ref()?.cgroup_path()?.to_owned());
    let watched: Vec<String> = cx.watched.iter().filter_map(|(_, target)| is_cgroup(target)).collect();
    if watched.is_empty() {
        return;
    }
    let hierarchy = match unified(&cx.root) {
        Ok(hierarchy) => hierarchy,
        Err(error) => return cx.issue(error),
    };
    for path in watched {
        let below = Path::new(&path).strip_prefix(&hierarchy.path);
        let metadata = below.ok().and_then(|below| fs::metadata(hierarchy.point.join(below)).ok());
        cx.survey.cgroups.extend(metadata.map(|metadata| metadata.ino()));
    }
}

/// Queries the hooks of a cgroup. Returns whether there are cgroups below it.
fn query_cgroup(
    cx: &mut ScanContext<'_>,
    hooks: &[CgroupHook],
    directory: &Path,
    path: &Path,
) -> io::Result<bool> {
    let file = File::open(directory)?;
    let metadata = file.metadata()?;
    cx.survey.cgroups.insert(metadata.ino());
    let path = printable(path.as_os_str().as_encoded_bytes()).into();
    let target = Target::Cgroup(Cgroup { id: metadata.ino(), path: Some(path) });
    let mut found = AttachedPrograms::default();
    for CgroupHook { program_type, attach_type, word } in hooks {
        if cx.unsupported.contains(attach_type) {
            continue;
        }
        match prog_query(QueryTarget::Fd(file.as_fd()), *attach_type, &mut found) {
            Ok(()) => {
                cx.attachments.was_queried(word, &target);
                if !found.programs.is_empty() {
                    let point = AttachPoint { hook: word.clone(), target: Some(target.clone()), netns: None };
                    cx.attachments.add(&point, &found);
                }
            }
            Err(Error { errno: Errno::ENOENT | Errno::ENODEV, .. }) => {}
            Err(error) => cx.query_failed(*attach_type, error, &[*program_type]),
        }
    }
    Ok(metadata.nlink() != LINKS_OF_LEAF)
}

/// The directories below a cgroup's, each with the path of its cgroup.
fn subdirectories(directory: &Path, path: &Path) -> io::Result<impl Iterator<Item = (PathBuf, PathBuf)>> {
    let entries = fs::read_dir(directory)?.flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(directories.map(|entry| (entry.path(), path.join(entry.file_name()))))
}

fn is_gone(error: &io::Error) -> bool {
    [Errno::ENOENT, Errno::ENODEV].contains(&errno_of(error))
}
