//! Names for the numbers that links hold: paths of cgroups, names of interfaces, groups of tracepoints, functions, symbols.
//! What is costly is read when first asked for and dropped at the end of the reading. Begin at [`Resolver`].

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

use super::btf::Types;
use super::mounts::{self, Mount};
use super::symbols::Symbols;
use super::uapi::{BtfInfo, reported};
use super::{names, sys};
use crate::model::Kind;

/// Looks up names, and keeps what can be of use again.
#[derive(Debug)]
pub(super) struct Resolver {
    /// What stands for `/`.
    root: PathBuf,
    /// The paths of cgroups by their ids, from one reading to the next: the kernel gives no id twice.
    cgroups: HashMap<u64, Box<str>>,
    reading: Reading,
    incomplete: bool,
}

/// What is known for one reading only.
#[derive(Debug, Default)]
struct Reading {
    /// Whether the cgroups were listed.
    cgroups_listed: bool,
    interfaces: HashMap<u32, Option<String>>,
    mounts: Option<Vec<Mount>>,
    tracepoint_groups: HashMap<String, Option<String>>,
    symbols: Option<Symbols>,
    /// The functions of BTF objects by their ids.
    functions: HashMap<u32, Option<Described>>,
    /// The functions of the kernel itself, on which the BTF of every module rests.
    vmlinux: Option<Arc<Types>>,
}

/// The types of a BTF object.
#[derive(Debug)]
struct Described {
    types: Arc<Types>,
    /// Whether they are the kernel's or a module's.
    of_kernel: bool,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::below(Path::new("/"))
    }
}

impl Resolver {
    /// One that finds `/proc`, `/sys` and what is mounted below another directory than `/`.
    pub(super) fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            cgroups: HashMap::new(),
            reading: Reading::default(),
            incomplete: false,
        }
    }

    /// Ends a reading: drops all that the next one has to look up anew.
    pub(super) fn end_reading(&mut self) {
        self.reading = Reading::default();
    }

    /// Whether a name was missed since the last time this was asked only because the process was short of something, so that
    /// it is worth asking again.
    pub(super) fn take_incomplete(&mut self) -> bool {
        std::mem::take(&mut self.incomplete)
    }

    /// The path of a cgroup of version 2 from the root of the hierarchy.
    ///
    /// Not of version 1: each of its hierarchies numbers its cgroups from 1 again, so a path found there could be another's.
    pub(super) fn cgroup(&mut self, id: u64) -> Option<String> {
        if !self.cgroups.contains_key(&id) && !self.reading.cgroups_listed {
            self.reading.cgroups_listed = true;
            self.cgroups = self.list_cgroups();
        }
        self.cgroups.get(&id).map(|path| path.clone().into())
    }

    fn list_cgroups(&mut self) -> HashMap<u64, Box<str>> {
        let mut found = HashMap::new();
        // The mount that shows the most. Seen from a cgroup namespace, the root of one that shows more than the namespace
        // begins with `/..`.
        let rank = |mount: &&Mount| (!mount.root.starts_with("/.."), mount.root.components().count());
        let mounts = self.mounts().iter().filter(|mount| mount.file_system == "cgroup2");
        let Some(mount) = mounts.min_by_key(rank) else { return found };
        let above = if mount.root.starts_with("/..") { Path::new("/") } else { &mount.root };
        let mut waiting = vec![(mount.point.clone(), above.to_owned())];
        let root = fs::metadata(&mount.point).map(|metadata| metadata.ino());
        if let Some(inode) = self.noting(root) {
            found.insert(inode, words(&waiting[0].1));
        }
        while let Some((directory, path)) = waiting.pop() {
            // One that went meanwhile has nothing to list.
            let Some(entries) = self.noting(fs::read_dir(&directory)) else { continue };
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    let path = path.join(entry.file_name());
                    found.insert(entry.ino(), words(&path));
                    waiting.push((entry.path(), path));
                }
            }
        }
        found
    }

    /// The name of an interface of this process's network namespace.
    pub(super) fn interface(&mut self, index: u32) -> Option<String> {
        let known = self.reading.interfaces.entry(index);
        known.or_insert_with(|| sys::interface_name(index).map(|name| names::text(&name))).clone()
    }

    /// The group of a tracepoint, where tracefs is mounted and has one of this name only.
    pub(super) fn tracepoint_group(&mut self, event: &str) -> Option<String> {
        if let Some(known) = self.reading.tracepoint_groups.get(event) {
            return known.clone();
        }
        let group = self.find_tracepoint_group(event);
        self.reading.tracepoint_groups.insert(event.to_owned(), group.clone());
        group
    }

    fn find_tracepoint_group(&mut self, event: &str) -> Option<String> {
        let mount = self.mounts().iter().find(|mount| mount.file_system == "tracefs")?;
        let events = mount.point.join("events");
        let mut groups = self.noting(fs::read_dir(events))?.flatten();
        let mut having = groups.by_ref().filter(|group| group.path().join(event).is_dir());
        let first = having.next()?;
        having.next().is_none().then(|| names::text(first.file_name().as_encoded_bytes()))
    }

    /// The symbol at or before an address of the kernel's code, and how far before it begins.
    pub(super) fn symbol(&mut self, address: u64) -> Option<(String, u64)> {
        if self.reading.symbols.is_none() {
            let file = fs::File::open(self.root.join("proc/kallsyms"));
            let symbols = self.noting(file).and_then(|file| self.noting(Symbols::read(file)));
            self.reading.symbols = Some(symbols.unwrap_or_default());
        }
        let (name, offset) = self.reading.symbols.as_ref()?.find(address)?;
        Some((names::text(name), offset))
    }

    /// The name of a function in the BTF of the kernel or of a module.
    pub(super) fn kernel_function(&mut self, btf_id: u32, type_id: u32) -> Option<String> {
        self.function(btf_id, type_id, true)
    }

    /// The name of a function in the BTF of a program.
    pub(super) fn program_function(&mut self, program_id: u32, type_id: u32) -> Option<String> {
        let ask = || {
            let fd = sys::fd_by_id(Kind::Program, program_id)?;
            sys::program_info(fd.as_fd())
        };
        let info = self.noting(ask().map_err(io::Error::from))?;
        self.function(info.value.btf_id, type_id, false)
    }

    fn function(&mut self, btf_id: u32, type_id: u32, of_kernel: bool) -> Option<String> {
        if !self.reading.functions.contains_key(&btf_id) {
            let functions = self.read_functions(btf_id);
            self.reading.functions.insert(btf_id, functions);
        }
        let functions = self.reading.functions.get(&btf_id)?.as_ref()?;
        if functions.of_kernel != of_kernel {
            return None;
        }
        functions.types.function(type_id).map(names::text)
    }

    fn read_functions(&mut self, btf_id: u32) -> Option<Described> {
        let ask = || {
            let fd = sys::fd_by_id(Kind::Btf, btf_id)?;
            let (info, name) = sys::btf_info(fd.as_fd())?;
            let data = sys::btf_data(fd.as_fd(), info.value.btf_size)?;
            Ok((reported!(&info, BtfInfo, kernel_btf) == Some(1), names::text(&name), data))
        };
        let (of_kernel, name, data) = self.noting(ask().map_err(|errno: Errno| io::Error::from(errno)))?;
        let types = match (of_kernel, &*name) {
            (false, _) => Arc::new(Types::parse(data, None)),
            (true, "vmlinux") => {
                let vmlinux = Arc::new(Types::parse(data, None));
                self.reading.vmlinux = Some(Arc::clone(&vmlinux));
                vmlinux
            }
            (true, _) => Arc::new(Types::parse(data, Some(self.vmlinux()?))),
        };
        Some(Described { types, of_kernel })
    }

    fn vmlinux(&mut self) -> Option<Arc<Types>> {
        if self.reading.vmlinux.is_none() {
            let data = fs::read(self.root.join("sys/kernel/btf/vmlinux"));
            self.reading.vmlinux = self.noting(data).map(|data| Arc::new(Types::parse(data, None)));
        }
        self.reading.vmlinux.clone()
    }

    fn mounts(&mut self) -> &[Mount] {
        if self.reading.mounts.is_none() {
            let mounts = mounts::read(&self.root);
            self.reading.mounts = self.noting(mounts);
        }
        self.reading.mounts.as_deref().unwrap_or_default()
    }

    /// What was read, if it was. A name that cannot be found has a number in its place, which is no issue; but it has to be
    /// looked for again where the process had no descriptor or no memory left.
    fn noting<T>(&mut self, read: io::Result<T>) -> Option<T> {
        let short = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EINTR];
        self.incomplete |= read
            .as_ref()
            .is_err_and(|error| error.raw_os_error().is_some_and(|errno| short.contains(&errno)));
        read.ok()
    }
}

fn words(path: &Path) -> Box<str> {
    names::text(path.as_os_str().as_encoded_bytes()).into()
}
