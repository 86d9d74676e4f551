//! Loads the iterators of `bpf/collector.bpf.o` and links each to its table. What cannot be loaded says why.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use aya::maps::Map;
use aya::programs::{Iter, ProgramError};
use aya::{Btf, BtfError, Ebpf, EbpfLoader, Endianness};
use nix::errno::Errno;

use super::files::FileMaps;
use super::records::Request;
use super::{Files, Links, Maps, Programs, Table};
use crate::kernel::backend::Refusal;
use crate::kernel::btf;
use crate::model::{Kind, Part};
use crate::sys::bpf as sys;
use crate::sys::{Error, errno_of};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../bpf/collector.bpf.o");

/// The types of the kernel.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const CPUS: &str = "bpfmetrics_cpus";
const ASK: &str = "bpfmetrics_ask";
const KINDS: &str = "bpfmetrics_kind";
const WALK: &str = "bpfmetrics_walk";

/// What could be loaded.
#[derive(Debug)]
pub(crate) struct Iterators {
    /// Over programs.
    pub(crate) programs: Result<Programs, Refusal>,
    /// Over maps.
    pub(crate) maps: Result<Maps, Refusal>,
    /// Over links.
    pub(crate) links: Result<Links, Refusal>,
    /// Over the files of processes.
    pub(crate) files: Result<Files, Refusal>,
    /// The objects of which this process has descriptors as long as it has these.
    pub(crate) kept: Vec<(Kind, u32)>,
}

impl Iterators {
    /// Loads them into the kernel. They are gone when the last descriptor of their links is closed.
    pub(crate) fn load() -> Self {
        match Loading::begin() {
            Ok(mut loading) => Self {
                programs: loading.programs(),
                maps: loading.maps(),
                links: loading.links(),
                files: loading.files(),
                kept: loading.kept,
            },
            Err(refusal) => Self {
                programs: Err(refusal.clone()),
                maps: Err(refusal.clone()),
                links: Err(refusal.clone()),
                files: Err(refusal),
                kept: Vec::new(),
            },
        }
    }
}

/// The object, its maps made and its programs not yet loaded.
struct Loading {
    ebpf: Ebpf,
    btf: Btf,
    request: Request,
    kept: Vec<(Kind, u32)>,
}

impl Loading {
    fn begin() -> Result<Self, Refusal> {
        let types = fs::read(VMLINUX).map_err(|error| {
            Refusal::new(
                Error::new(VMLINUX, errno_of(&error)),
                format!("this kernel does not describe its types (CONFIG_DEBUG_INFO_BTF): {error}"),
            )
        })?;
        let btf = Btf::parse(&types, Endianness::default()).map_err(|error| refusal(VMLINUX, &error))?;
        let [tracepoint, kprobe, uprobe] = btf::enumerators(
            &types,
            ["TRACE_EVENT_FL_TRACEPOINT", "TRACE_EVENT_FL_KPROBE", "TRACE_EVENT_FL_UPROBE"],
        );
        drop(types);
        // A kernel without one of them has no event of that kind, and no event has a bit of zero.
        let request = Request {
            flag_tracepoint: tracepoint.unwrap_or(0),
            flag_kprobe: kprobe.unwrap_or(0),
            flag_uprobe: uprobe.unwrap_or(0),
            ..Request::default()
        };
        let cpus = possible_cpus().map_err(|error| {
            Refusal::new(
                Error::new("/sys/devices/system/cpu/possible", errno_of(&error)),
                format!("the processors cannot be listed: {error}"),
            )
        })?;
        let count = u32::try_from(cpus.len()).expect("far less than 2^32 processors");
        let mut loader = EbpfLoader::new();
        let ebpf = loader.btf(Some(&btf)).map_max_entries(CPUS, count).load(OBJECT);
        let ebpf = ebpf.map_err(|error| refusal("BPF_MAP_CREATE", &error))?;
        let loading = Self { ebpf, btf, request, kept: Vec::new() };
        let map = loading.map(CPUS)?;
        for (index, number) in cpus.into_iter().enumerate() {
            let index = u32::try_from(index).expect("far less than 2^32 processors");
            // An offset, which the programs find, and the processor's number.
            let value = [0, 0, number, 0];
            sys::update_map(map.as_fd(), index, &value).map_err(not_filled)?;
        }
        sys::update_map(loading.map(ASK)?.as_fd(), 0, &request).map_err(not_filled)?;
        Ok(loading)
    }

    fn programs(&mut self) -> Result<Programs, Refusal> {
        let ask = self.map(ASK)?;
        let id = sys::map_info(ask.as_fd()).map_err(not_identified)?.value.id;
        let table = self.table(Kind::Program, "bpf_metrics_exporter_program", "bpf_prog")?;
        self.kept.push((Kind::Map, id));
        Ok(Programs::new(table, ask, self.request))
    }

    fn maps(&mut self) -> Result<Maps, Refusal> {
        Ok(Maps::new(self.table(Kind::Map, "bpf_metrics_exporter_map", "bpf_map")?))
    }

    fn links(&mut self) -> Result<Links, Refusal> {
        Ok(Links::new(self.table(Kind::Link, "bpf_metrics_exporter_link", "bpf_link")?))
    }

    /// Over all files of a thread at once, and where the kernel cannot do that (before 5.17), over each file.
    fn files(&mut self) -> Result<Files, Refusal> {
        self.files_by("bpf_metrics_exporter_task", "task", Some(WALK)).or_else(|refusal| {
            tracing::debug!("{}", refusal.text);
            self.files_by("bpf_metrics_exporter_file", "task_file", None)
        })
    }

    /// By the program that runs over this table, and is told by this map where to begin.
    fn files_by(&mut self, program: &str, table: &str, state: Option<&str>) -> Result<Files, Refusal> {
        let kept = self.kept.len();
        let learnt = self.learn_files(program, table, state);
        if learnt.is_err() {
            self.kept.truncate(kept);
        }
        learnt
    }

    /// The program learns from a descriptor of each kind, of objects that are at hand, what such a file is.
    fn learn_files(&mut self, program: &str, table: &str, state: Option<&str>) -> Result<Files, Refusal> {
        let kinds = self.map(KINDS)?;
        let state = state.map(|name| self.map(name)).transpose()?;
        let table = self.table(Part::Holder, program, table)?;
        if let Some(state) = &state {
            self.kept.push((Kind::Map, sys::map_info(state.as_fd()).map_err(not_identified)?.value.id));
        }
        let program = iterator(&mut self.ebpf, program).fd().expect("the program is loaded");
        Files::learn(table, FileMaps { kinds, state }, program.as_fd())
    }

    /// Loads a program and links it to the table of this name.
    fn table(&mut self, part: impl Into<Part>, program: &str, table: &str) -> Result<Table, Refusal> {
        let Self { ebpf, btf, .. } = self;
        let iterator = iterator(ebpf, program);
        iterator.load(table, btf).map_err(|error| refusal_of_program(table, &error))?;
        let fd = iterator.fd().expect("the program is loaded");
        let link = sys::link_iterator(fd.as_fd()).map_err(|error| {
            Refusal::new(error, format!("the iterator iter/{table} cannot be linked: {}", error.errno))
        })?;
        self.kept.push((Kind::Link, sys::link_info(link.as_fd()).map_err(not_identified)?.value.id));
        Ok(Table::new(part, link))
    }

    /// A descriptor of a map of the object.
    fn map(&self, name: &str) -> Result<OwnedFd, Refusal> {
        let map = match self.ebpf.map(name) {
            Some(Map::Array(map)) => map,
            other => unreachable!("the object has an array named {name}, not {other:?}"),
        };
        map.fd().as_fd().try_clone_to_owned().map_err(|error| {
            Refusal::new(Error::new("dup", errno_of(&error)), format!("no descriptor can be had: {error}"))
        })
    }
}

/// An iterator of the object.
fn iterator<'a>(ebpf: &'a mut Ebpf, program: &str) -> &'a mut Iter {
    let program = ebpf.program_mut(program).and_then(|program| program.try_into().ok());
    program.expect("the object has an iterator of this name")
}

fn not_identified(error: Error) -> Refusal {
    Refusal::new(error, format!("what was just made cannot be identified: {}", error.errno))
}

fn not_filled(error: Error) -> Refusal {
    Refusal::new(error, format!("a map cannot be filled: {}", error.errno))
}

/// The numbers of the processors that this machine may have.
fn possible_cpus() -> io::Result<Vec<u32>> {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    parse_cpus(&text).ok_or_else(|| io::Error::other(format!("{text:?} is not a list of processors")))
}

/// Parses `0-3,8`.
fn parse_cpus(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last > 0xffff {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Why a program cannot be loaded; the verifier's log, of many lines, is for debugging.
fn refusal_of_program(table: &str, error: &ProgramError) -> Refusal {
    if matches!(error, ProgramError::Btf(BtfError::UnknownBtfTypeName { .. })) {
        let text = format!("this kernel has no iter/{table}");
        return Refusal::new(Error::new("BPF_PROG_LOAD", Errno::ENOENT), text);
    }
    tracing::debug!("iter/{table}: {error}");
    let mut refusal = refusal("BPF_PROG_LOAD", error);
    refusal.text = format!("the kernel does not take the program for iter/{table}: {}", refusal.error.errno);
    refusal
}

fn refusal(call: &'static str, error: &(dyn std::error::Error + 'static)) -> Refusal {
    let causes = || std::iter::successors(Some(error), |error| error.source());
    let errno = causes().find_map(|cause| Some(errno_of(cause.downcast_ref()?)));
    let errno = errno.unwrap_or(Errno::EINVAL);
    // The verifier's log is of many lines.
    let says: Vec<String> =
        causes().filter_map(|cause| Some(cause.to_string().lines().next()?.to_owned())).collect();
    Refusal::new(Error::new(call, errno), says.join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_understood() {
        assert_eq!(parse_cpus("0\n"), Some(vec![0]));
        assert_eq!(parse_cpus("0-3\n"), Some(vec![0, 1, 2, 3]));
        assert_eq!(parse_cpus("0-1,4,6-7\n"), Some(vec![0, 1, 4, 6, 7]));
        for wrong in ["", "a", "3-1", "0-", "0-4000000000"] {
            assert_eq!(parse_cpus(wrong), None, "{wrong}");
        }
    }
}
