//! Names for the numbers in targets: paths of cgroups, names of network namespaces, groups of tracepoints, functions, symbols.
//! Entry point: [`Resolver`]. What is costly is read on first use and dropped at the end of the reading.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Seek as _};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

use crate::host::cgroups::Cgroups;
use crate::host::kallsyms::KernelSymbols;
use crate::host::mounts::{self, Mount};
use crate::host::netns::NetnsNames;
use crate::kernel::btf::cache::BtfCache;
use crate::model::{Kind, NetNs};
use crate::sys::bpf as sys;
use crate::sys::{Error, errno_of};
use crate::text::{bounded, printable};

/// Looks up names, and caches them.
#[derive(Debug)]
pub(crate) struct Resolver {
    /// The directory that stands for `/`.
    root: PathBuf,
    /// `/proc/kallsyms`, if it was opened before: the kernel shows addresses to who could see them then.
    kallsyms: Option<fs::File>,
    cgroups: Cgroups,
    btf: BtfCache,
    names: ReadingNames,
    incomplete: bool,
}

/// Names that can change, cached for one reading.
#[derive(Debug, Default)]
struct ReadingNames {
    /// Names of network namespaces.
    namespaces: Option<NetnsNames>,
    /// Whether cgroups have ids in version 2 only.
    only_unified: Option<bool>,
    mounts: Option<Vec<Mount>>,
    tracepoint_groups: HashMap<String, Option<String>>,
    /// The units that count perf events, with their numbers.
    perf_units: Option<Vec<(u32, String)>>,
    symbols: Option<KernelSymbols>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::below(Path::new("/"))
    }
}

impl Resolver {
    /// Returns a resolver that finds `/proc`, `/sys` and mounts below a directory that stands for `/`.
    pub(crate) fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            kallsyms: None,
            cgroups: Cgroups::unified_below(root),
            btf: BtfCache::below(root),
            names: ReadingNames::default(),
            incomplete: false,
        }
    }

    /// Ends a reading: drops what the next one has to look up again.
    pub(crate) fn end_reading(&mut self) {
        self.names = ReadingNames::default();
        self.btf.end_reading();
        self.cgroups.end_reading();
    }

    /// Returns the BTF types by object.
    pub(crate) fn btf(&mut self) -> &mut BtfCache {
        &mut self.btf
    }

    /// Returns whether a lookup failed since the last call only because the process was short of resources, so that it is worth
    /// trying again.
    pub(crate) fn take_incomplete(&mut self) -> bool {
        std::mem::take(&mut self.incomplete)
    }

    /// Returns the path of a cgroup of version 2 from the root of the hierarchy.
    ///
    /// Not of version 1: each of its hierarchies numbers its cgroups from 1 again, so a path found there could be another's.
    pub(crate) fn cgroup(&mut self, id: u64) -> Option<Arc<str>> {
        let path = self.cgroups.path(id);
        if path.is_none() {
            self.incomplete |= self.cgroups.errors().iter().any(|error| is_short(error.errno));
        }
        path.map(|path| match bounded(&path) {
            Cow::Borrowed(_) => path,
            Cow::Owned(cut) => cut.into(),
        })
    }

    /// Returns the path of a cgroup whose hierarchy is not known: only where there is none but that of version 2.
    pub(crate) fn cgroup_of_any_hierarchy(&mut self, id: u64) -> Option<Arc<str>> {
        let only_unified = if let Some(only_unified) = self.names.only_unified {
            only_unified
        } else {
            let hierarchies = fs::read_to_string(self.root.join("proc/self/cgroup"));
            let read = self.note(hierarchies);
            let only = read.is_some_and(|lines| lines.lines().all(|line| line.starts_with("0::")));
            *self.names.only_unified.insert(only)
        };
        if only_unified { self.cgroup(id) } else { None }
    }

    /// Returns a network namespace with its name, if it has one.
    pub(crate) fn netns(&mut self, inode: u64) -> NetNs {
        if self.names.namespaces.is_none() {
            let (names, _errors) = NetnsNames::read(&self.root);
            self.names.namespaces = Some(names);
        }
        let name = self.names.namespaces.as_ref().and_then(|names| names.get(inode));
        NetNs { inode, name }
    }

    /// Returns the group of a tracepoint, where tracefs is mounted and has only one of this name.
    pub(crate) fn tracepoint_group(&mut self, event: &str) -> Option<String> {
        if let Some(cached) = self.names.tracepoint_groups.get(event) {
            return cached.clone();
        }
        let group = self.find_tracepoint_group(event);
        self.names.tracepoint_groups.insert(event.to_owned(), group.clone());
        group
    }

    fn find_tracepoint_group(&mut self, event: &str) -> Option<String> {
        let mount = self.mounts().iter().find(|mount| mount.file_system == "tracefs")?;
        let events = mount.point.join("events");
        let mut groups = self.note(fs::read_dir(events))?.flatten();
        let mut with_event = groups.by_ref().filter(|group| group.path().join(event).is_dir());
        let first = with_event.next()?;
        with_event.next().is_none().then(|| printable(first.file_name().as_encoded_bytes()))
    }

    /// Returns the name of a unit that counts perf events.
    pub(crate) fn perf_unit(&mut self, number: u32) -> Option<String> {
        if self.names.perf_units.is_none() {
            self.names.perf_units = Some(self.list_perf_units());
        }
        let units = self.names.perf_units.as_ref()?;
        units.iter().find(|(unit, _)| *unit == number).map(|(_, name)| name.clone())
    }

    fn list_perf_units(&mut self) -> Vec<(u32, String)> {
        let directory = fs::read_dir(self.root.join("sys/bus/event_source/devices"));
        let Some(units) = self.note(directory) else { return Vec::new() };
        let unit = |unit: fs::DirEntry| {
            let number = fs::read_to_string(unit.path().join("type")).ok()?.trim().parse().ok()?;
            Some((number, printable(unit.file_name().as_encoded_bytes())))
        };
        units.flatten().filter_map(unit).collect()
    }

    /// Opens the addresses of the kernel's symbols now, so that they stay readable without the rights of the calling thread.
    ///
    /// Source: `kallsyms_open`, `kernel/kallsyms.c`: what is shown depends on the rights of the opener. An error is that of the reading
    /// that needs them.
    pub(crate) fn keep_symbols(&mut self) {
        self.kallsyms = self.open_symbols().ok();
    }

    /// Returns whether the kernel shows addresses of its symbols.
    pub(crate) fn shows_symbols(&self) -> bool {
        self.open_symbols().and_then(KernelSymbols::are_hidden).is_ok_and(|hidden| !hidden)
    }

    fn open_symbols(&self) -> io::Result<fs::File> {
        match &self.kallsyms {
            Some(kept) => {
                let mut file = kept.try_clone()?;
                file.rewind()?;
                Ok(file)
            }
            None => fs::File::open(self.root.join("proc/kallsyms")),
        }
    }

    /// Returns the symbol at or before an address of the kernel's code, and the distance from it.
    pub(crate) fn symbol(&mut self, address: u64) -> Option<(String, u64)> {
        if let Err(error) = self.symbols() {
            self.note::<()>(Err(error));
            // No other address is looked up in this reading.
            self.names.symbols = Some(KernelSymbols::default());
        }
        let (name, offset) = self.names.symbols.as_ref()?.find(address)?;
        Some((printable(name), offset))
    }

    /// Returns the symbols of the kernel's code, read once per reading; none if the kernel hides their addresses.
    ///
    /// # Errors
    ///
    /// That of reading the file.
    pub(crate) fn symbols(&mut self) -> io::Result<&KernelSymbols> {
        if self.names.symbols.is_none() {
            self.names.symbols = Some(KernelSymbols::read(self.open_symbols()?)?);
        }
        Ok(self.names.symbols.get_or_insert_default())
    }

    /// Returns the name of a function in the BTF of the kernel or of a module.
    pub(crate) fn kernel_function(&mut self, btf_id: u32, type_id: u32) -> Option<String> {
        self.function(btf_id, type_id, true)
    }

    /// Returns the name of a function in the BTF of a program.
    pub(crate) fn program_function(&mut self, program_id: u32, type_id: u32) -> Option<String> {
        let query = || {
            let fd = sys::fd_by_id(Kind::Program, program_id)?;
            sys::program_info(fd.as_fd())
        };
        let info = self.note(query().map_err(|error: Error| io::Error::from(error.errno)))?;
        self.function(info.value.btf_id, type_id, false)
    }

    fn function(&mut self, btf_id: u32, type_id: u32, of_kernel: bool) -> Option<String> {
        let read = self.btf.described(btf_id).map_err(|error| io::Error::from(error.errno));
        let described = self.note(read)??;
        let types = (described.of_kernel == of_kernel).then_some(described.types)?;
        types.function(type_id).map(printable)
    }

    fn mounts(&mut self) -> &[Mount] {
        if self.names.mounts.is_none() {
            let mounts = mounts::read(&self.root);
            self.names.mounts = self.note(mounts);
        }
        self.names.mounts.as_deref().unwrap_or_default()
    }

    /// Returns what was read, if anything. A target without a name shows its number, which is no issue; but the name has to be looked
    /// up again where the process had no descriptor or no memory left.
    fn note<T>(&mut self, read: io::Result<T>) -> Option<T> {
        self.incomplete |= read.as_ref().is_err_and(|error| is_short(errno_of(error)));
        read.ok()
    }
}

/// Returns whether the process was short of resources.
fn is_short(errno: Errno) -> bool {
    matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EINTR)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use nix::sys::stat::{major, minor};
    use tempfile::TempDir;

    use super::super::resolve;
    use super::*;
    use crate::model::Target;

    /// A temporary directory in place of `/`.
    struct FileTree(TempDir);

    impl FileTree {
        fn new() -> Self {
            let root = TempDir::new().expect("a temporary directory can be created");
            fs::create_dir_all(root.path().join("proc/self")).expect("the directory is writable");
            Self(root)
        }

        /// Writes a file, with the number of the directory's device for `DEVICE`.
        fn write(&self, file: &str, text: &str) {
            let device = fs::metadata(self.0.path()).expect("the directory exists").dev();
            let device = format!("{}:{}", major(device), minor(device));
            fs::write(self.0.path().join(file), text.replace("DEVICE", &device))
                .expect("the directory is writable");
        }

        /// Creates a directory and returns its inode number.
        fn make(&self, directory: &str) -> u64 {
            let path = self.0.path().join(directory);
            fs::create_dir_all(&path).expect("the directory is writable");
            fs::metadata(path).expect("the directory exists").ino()
        }
    }

    #[test]
    fn cgroups_have_paths_and_are_listed_once_per_reading() {
        let root = FileTree::new();
        let (top, inner) = (root.make("cg"), root.make("cg/system.slice/a.service"));
        root.write(
            "proc/self/mountinfo",
            "1 1 DEVICE / /v1 rw - cgroup none rw\n2 1 DEVICE / /cg rw - cgroup2 none rw\n",
        );
        let mut resolver = Resolver::below(root.0.path());
        assert_eq!(resolver.cgroup(top).as_deref(), Some("/"));
        assert_eq!(resolver.cgroup(inner).as_deref(), Some("/system.slice/a.service"));

        let late = root.make("cg/late");
        assert_eq!(resolver.cgroup(late), None, "they are listed once per reading");
        resolver.end_reading();
        assert_eq!(resolver.cgroup(late).as_deref(), Some("/late"));
        assert!(!resolver.take_incomplete(), "a missing cgroup is not worth another try");
    }

    #[test]
    fn the_mount_that_shows_the_most_is_listed() {
        let root = FileTree::new();
        let inner = root.make("all/pods/x");
        root.make("part");
        let below = "1 1 DEVICE /pods /part rw - cgroup2 none rw\n";
        let complete = "2 1 DEVICE / /all rw - cgroup2 none rw\n";
        let outside = "2 1 DEVICE /../.. /all rw - cgroup2 none rw\n";
        for mounts in [[below, complete], [below, outside]] {
            root.write("proc/self/mountinfo", &mounts.concat());
            assert_eq!(Resolver::below(root.0.path()).cgroup(inner).as_deref(), Some("/pods/x"));
        }
        let inner = root.make("part/y");
        root.write("proc/self/mountinfo", below);
        assert_eq!(Resolver::below(root.0.path()).cgroup(inner).as_deref(), Some("/pods/y"));
    }

    #[test]
    fn a_tracepoint_has_a_group_if_there_is_only_one() {
        let root = FileTree::new();
        root.write("proc/self/mountinfo", "1 1 DEVICE / /tracing rw - tracefs none rw\n");
        root.make("tracing/events/sched/sched_switch");
        root.make("tracing/events/sched/same");
        root.make("tracing/events/other/same");
        let mut resolver = Resolver::below(root.0.path());
        assert_eq!(resolver.tracepoint_group("sched_switch").as_deref(), Some("sched"));
        assert_eq!(resolver.tracepoint_group("same"), None);
        assert_eq!(resolver.tracepoint_group("missing"), None);
    }

    #[test]
    fn perf_units_have_names() {
        let root = FileTree::new();
        for (unit, number) in [("uncore", "17\n"), ("damaged", "x\n")] {
            root.make(&format!("sys/bus/event_source/devices/{unit}"));
            root.write(&format!("sys/bus/event_source/devices/{unit}/type"), number);
        }
        let mut resolver = Resolver::below(root.0.path());
        assert_eq!(resolver.perf_unit(17).as_deref(), Some("uncore"));
        assert_eq!(resolver.perf_unit(18), None);
        let event = Target::PerfEvent { event_type: 17, config: 5, unit: None };
        let (target, _) = resolve(event.into(), &mut resolver).expect("an event is always reported");
        assert_eq!(target.to_string(), "uncore config 5");
    }

    #[test]
    fn symbols_are_read_again_in_each_reading() {
        let root = FileTree::new();
        root.write("proc/kallsyms", "ffffffff81000000 T first\n");
        let mut resolver = Resolver::below(root.0.path());
        assert_eq!(resolver.symbol(0xffff_ffff_8100_0010), Some(("first".to_owned(), 0x10)));
        root.write("proc/kallsyms", "ffffffff81000010 T second\n");
        assert_eq!(resolver.symbol(0xffff_ffff_8100_0010), Some(("first".to_owned(), 0x10)));
        resolver.end_reading();
        assert_eq!(resolver.symbol(0xffff_ffff_8100_0010), Some(("second".to_owned(), 0)));
    }

    #[test]
    fn an_id_of_any_hierarchy_has_a_path_if_there_is_only_one_hierarchy() {
        let root = FileTree::new();
        let id = root.make("cg/inner");
        root.write("proc/self/mountinfo", "2 1 DEVICE / /cg rw - cgroup2 none rw\n");
        for (hierarchies, path) in
            [("0::/\n", Some("/inner")), ("4:memory:/\n0::/\n", None), ("1:name=systemd:/\n0::/\n", None)]
        {
            root.write("proc/self/cgroup", hierarchies);
            let mut resolver = Resolver::below(root.0.path());
            assert_eq!(resolver.cgroup_of_any_hierarchy(id).as_deref(), path, "{hierarchies}");
            assert_eq!(resolver.cgroup(id).as_deref(), Some("/inner"));
        }
    }
}
