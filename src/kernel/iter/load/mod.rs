//! Loads the iterators of `bpf/collector.bpf.o` into the kernel and links each to its table, or returns why it cannot.
//!
//! Entry point: [`Iterators::load`]. The kernel itself relocates the programs by its types (CO-RE, 5.17).

mod btf_ext;
mod object;
mod program;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::unistd::Pid;

use self::object::{CompiledObject, ObjectError};
use self::program::LinkedProgram;
use super::cpus::SharedCpus;
use super::files::FileMaps;
use super::known::KnownTable;
use super::records::IterRequest;
use super::{BpffsList, Files, Links, Maps, Programs, Table};
use crate::host::cpus;
use crate::kernel::backend::Refusal;
use crate::kernel::btf;
use crate::model::{Kind, Part};
use crate::sys::bpf::{self as sys, Command, IteratorProgram, MapDefinition};
use crate::sys::{Error, failed};
use crate::text::bounded;

static OBJECT: &[u8] = include_bytes!("../../../../bpf/collector.bpf.o");

/// The types of the kernel.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

const CPUS: &str = "bpfmetrics_cpus";
const REQUEST: &str = "bpfmetrics_req";
/// The maps with the addresses of known objects.
const KNOWN: [&str; 4] = ["bpfmetrics_kpro", "bpfmetrics_cpro", "bpfmetrics_kmap", "bpfmetrics_cmap"];
const KINDS: &str = "bpfmetrics_kind";
const WALK: &str = "bpfmetrics_walk";

/// The functions in the kernel that iterators are attached to, one for each table.
const TARGETS: [&str; 4] = ["bpf_iter_bpf_prog", "bpf_iter_bpf_map", "bpf_iter_bpf_link", "bpf_iter_task"];

/// Bits of `trace_event_call.flags`.
const FLAGS: [&str; 3] = ["TRACE_EVENT_FL_TRACEPOINT", "TRACE_EVENT_FL_KPROBE", "TRACE_EVENT_FL_UPROBE"];

/// The iterators, or why each is unavailable.
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
    /// Over the file systems of pins.
    pub(crate) bpffs: Result<BpffsList, Refusal>,
    /// Maps and links that this process holds for these.
    pub(crate) own_objects: Vec<(Kind, u32)>,
}

impl Iterators {
    /// Loads the iterators into the kernel, which frees them when the last descriptors of their links are closed.
    pub(crate) fn load() -> Self {
        match Loader::new() {
            Ok(mut loader) => Self {
                programs: loader.programs(),
                maps: loader.maps(),
                links: loader.links(),
                files: loader.files(),
                bpffs: loader.bpffs(),
                own_objects: loader.own_objects,
            },
            Err(refusal) => Self {
                programs: Err(refusal.clone()),
                maps: Err(refusal.clone()),
                links: Err(refusal.clone()),
                files: Err(refusal.clone()),
                bpffs: Err(refusal),
                own_objects: Vec::new(),
            },
        }
    }
}

/// The object, its maps created and its programs not yet loaded.
struct Loader {
    object: CompiledObject<'static>,
    btf: OwnedFd,
    maps: Vec<(String, OwnedFd)>,
    /// The type ids of [`TARGETS`].
    targets: [Option<u32>; TARGETS.len()],
    request: IterRequest,
    request_map: Arc<OwnedFd>,
    cpus: SharedCpus,
    own_objects: Vec<(Kind, u32)>,
}

impl Loader {
    fn new() -> Result<Self, Refusal> {
        if !sys::relocates_programs() {
            let why = "this kernel is older than 5.17 and does not relocate programs itself (CO-RE)";
            return Err(Refusal::new(Error::new(Command::ProgLoad.as_str(), Errno::E2BIG), why));
        }
        let found = File::open(VMLINUX).and_then(|file| btf::search(file, TARGETS, FLAGS));
        let (targets, [tracepoint, kprobe, uprobe]) = found.map_err(|error| {
            let why = format!("the types of this kernel cannot be read (CONFIG_DEBUG_INFO_BTF): {error}");
            Refusal::new(failed(VMLINUX)(error), why)
        })?;
        // An enumerator that this kernel lacks becomes 0, which matches no event.
        let request = IterRequest {
            flag_tracepoint: tracepoint.unwrap_or(0),
            flag_kprobe: kprobe.unwrap_or(0),
            flag_uprobe: uprobe.unwrap_or(0),
            ..IterRequest::default()
        };
        let cpus = possible_cpus().map_err(|error| {
            let why = format!("the possible CPUs cannot be listed: {error}");
            Refusal::new(failed(POSSIBLE_CPUS)(error), why)
        })?;
        let object = CompiledObject::parse(OBJECT).map_err(|error| unusable(&error))?;
        let btf = sys::load_btf(object.types.bytes())
            .map_err(|error| refused(error, "the types of the iterators cannot be loaded"))?;
        let maps = object.maps.iter().map(|definition| {
            let mut definition = definition.clone();
            if definition.name == CPUS {
                definition.max_entries = u32::try_from(cpus.len()).expect("far less than 2^32 CPUs");
            }
            create_map(&definition, btf.as_fd()).map(|map| (definition.name, map))
        });
        let maps = maps.collect::<Result<Vec<_>, _>>()?;
        let find = |name| find_map(&maps, name).map_err(|error| unusable(&error));
        let array = find(CPUS)?;
        for known in KNOWN {
            let frozen = sys::freeze_map(find(known)?);
            frozen.map_err(|error| refused(error, "a map with addresses cannot be frozen"))?;
        }
        let own_objects = [array, find(REQUEST)?].map(|map| sys::map_info(map).map(|info| info.value.id));
        let own_objects = own_objects.into_iter().map(|id| id.map(|id| (Kind::Map, id)));
        let own_objects = own_objects.collect::<Result<_, _>>().map_err(not_identified)?;
        let cpus = SharedCpus::fill(duplicate(array)?, cpus).map_err(not_filled)?;
        let request_map = Arc::new(duplicate(find(REQUEST)?)?);
        sys::update_map(request_map.as_fd(), 0, &request).map_err(not_filled)?;
        Ok(Self { object, btf, maps, targets, request, request_map, cpus, own_objects })
    }

    fn programs(&mut self) -> Result<Programs, Refusal> {
        let iterator = ("bpf_metrics_exporter_program", "bpf_prog");
        let table = self.known_table(Kind::Program, iterator, "bpf_metrics_exporter_program_pass")?;
        Ok(Programs::new(table))
    }

    fn maps(&mut self) -> Result<Maps, Refusal> {
        let iterator = ("bpf_metrics_exporter_map", "bpf_map");
        Ok(Maps::new(self.known_table(Kind::Map, iterator, "bpf_metrics_exporter_map_pass")?))
    }

    /// Loads the iterator over a table, and the program for passes over the objects that it has visited.
    fn known_table(
        &mut self,
        kind: Kind,
        (function, table): (&str, &str),
        pass: &str,
    ) -> Result<KnownTable, Refusal> {
        let program = self.program(function, table)?;
        let iterator = self.table(kind, table, &program, None)?;
        let pass = self
            .program(pass, "task")
            .and_then(|program| self.table(kind, "task", &program, Some(Pid::this())));
        Ok(KnownTable::new(
            kind,
            iterator,
            pass,
            Arc::clone(&self.request_map),
            self.request,
            self.cpus.clone(),
        ))
    }

    fn links(&mut self) -> Result<Links, Refusal> {
        let program = self.program("bpf_metrics_exporter_link", "bpf_link")?;
        Ok(Links::new(self.table(Kind::Link, "bpf_link", &program, None)?))
    }

    fn files(&mut self) -> Result<Files, Refusal> {
        let own_objects = self.own_objects.len();
        let files = self.detect_files();
        if files.is_err() {
            self.own_objects.truncate(own_objects);
        }
        files
    }

    fn detect_files(&mut self) -> Result<Files, Refusal> {
        let (kinds, state) = (duplicate(self.map(KINDS)?)?, duplicate(self.map(WALK)?)?);
        let program = self.program("bpf_metrics_exporter_files", "task")?;
        let table = self.table(Part::Holder, "task", &program, Some(Pid::this()))?;
        self.own_objects.push((Kind::Map, sys::map_info(state.as_fd()).map_err(not_identified)?.value.id));
        Files::detect(table, FileMaps { kinds, state }, program.as_fd(), self.btf.as_fd())
    }

    fn bpffs(&mut self) -> Result<BpffsList, Refusal> {
        let program = self.program("bpf_metrics_exporter_bpffs", "task")?;
        Ok(BpffsList::new(self.table(Part::Pin, "task", &program, Some(Pid::this()))?))
    }

    /// Loads the program of a table.
    fn program(&self, function: &str, table: &str) -> Result<OwnedFd, Refusal> {
        let mut targets = TARGETS.into_iter().zip(self.targets);
        let target = targets.find(|(target, _)| target.strip_prefix("bpf_iter_") == Some(table));
        let Some(attach_btf_id) = target.and_then(|(_, type_id)| type_id) else {
            let error = Error::new(Command::ProgLoad.as_str(), Errno::ENOENT);
            return Err(Refusal::new(error, format!("this kernel has no iter/{table}")));
        };
        let linked = LinkedProgram::link(&self.object, function).and_then(|mut program| {
            program.resolve_maps(|name| find_map(&self.maps, name).map(|map| map.as_raw_fd()))?;
            Ok(program)
        });
        let linked = linked.map_err(|error| unusable(&error))?;
        let program = IteratorProgram {
            name: function,
            license: self.object.license,
            instructions: &linked.instructions,
            btf: self.btf.as_fd(),
            functions: &linked.functions,
            lines: &linked.lines,
            core_relocations: &linked.core_relocations,
            attach_btf_id,
        };
        sys::load_iterator(&program, &mut []).map_err(|error| {
            let what = format!("the program for iter/{table} cannot be loaded");
            let log = if error.errno == Errno::EPERM { String::new() } else { verifier_log(&program) };
            if log.is_empty() {
                return refused(error, &what);
            }
            log.lines().for_each(|line| tracing::debug!("iter/{table}: {line}"));
            let reason = bounded(reason(&log).unwrap_or("the verifier gives no reason"));
            refused(error, &format!("{what}: {reason}"))
        })
    }

    /// Links a program to its table, or to one thread of it.
    fn table(
        &mut self,
        part: impl Into<Part>,
        table: &str,
        program: &OwnedFd,
        thread: Option<Pid>,
    ) -> Result<Table, Refusal> {
        let link = sys::link_iterator(program.as_fd(), thread)
            .map_err(|error| refused(error, &format!("the iterator iter/{table} cannot be linked")))?;
        self.own_objects.push((Kind::Link, sys::link_info(link.as_fd()).map_err(not_identified)?.value.id));
        Ok(Table::new(part, link))
    }

    fn map(&self, name: &str) -> Result<BorrowedFd<'_>, Refusal> {
        find_map(&self.maps, name).map_err(|error| unusable(&error))
    }
}

fn find_map<'a>(maps: &'a [(String, OwnedFd)], name: &str) -> Result<BorrowedFd<'a>, ObjectError> {
    let map = maps.iter().find(|(of, _)| of == name);
    map.map(|(_, map)| map.as_fd()).ok_or_else(|| ObjectError::NoMap(name.to_owned()))
}

fn create_map(definition: &MapDefinition, btf: BorrowedFd<'_>) -> Result<OwnedFd, Refusal> {
    sys::create_map(definition, btf)
        .map_err(|error| refused(error, &format!("the map {} cannot be created", definition.name)))
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Refusal> {
    fd.try_clone_to_owned().map_err(|error| {
        let why = format!("no descriptor is left: {error}");
        Refusal::new(failed("fcntl")(error), why)
    })
}

/// Loads a refused program again to get the verifier's log; empty if the verifier did not run.
fn verifier_log(program: &IteratorProgram<'_>) -> String {
    const LEN: usize = 64 << 10;
    let mut log = vec![0; LEN];
    // The first refusal is reported.
    let _refused = sys::load_iterator(program, &mut log);
    let len = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    String::from_utf8_lossy(&log[..len]).trim_end().to_owned()
}

/// Returns the last line of a verifier's log before the statistics at its end.
fn reason(log: &str) -> Option<&str> {
    let figures = ["verification time", "stack depth", "processed", "insns_total"];
    log.lines().rev().find(|line| !figures.iter().any(|figure| line.starts_with(figure)))
}

fn unusable(error: &ObjectError) -> Refusal {
    let why = format!("the object with the iterators cannot be used: {error}");
    Refusal::new(Error::new("bpf/collector.bpf.o", Errno::ENOEXEC), why)
}

fn refused(error: Error, what: &str) -> Refusal {
    let needed = if error.errno == Errno::EPERM { " (needs CAP_BPF and CAP_PERFMON)" } else { "" };
    Refusal::new(error, format!("{what}: {}{needed}", error.errno))
}

fn not_identified(error: Error) -> Refusal {
    refused(error, "an object that was just created cannot be identified")
}

fn not_filled(error: Error) -> Refusal {
    refused(error, "a map cannot be filled")
}

/// Returns the numbers of the possible CPUs.
fn possible_cpus() -> io::Result<Vec<u32>> {
    let text = fs::read_to_string(POSSIBLE_CPUS)?;
    cpus::parse(&text).ok_or_else(|| io::Error::other(format!("{text:?} is not a list of CPUs")))
}

/// Entry point of a fuzzer: parses any bytes as the object, and links its functions.
pub(crate) fn fuzz(bytes: &[u8]) {
    if let Ok(object) = CompiledObject::parse(bytes) {
        for name in object.function_names() {
            let _result = LinkedProgram::link(&object, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_last_line_before_the_figures() {
        let log =
            "func#0 @0\nunknown func bpf_loop#181\nprocessed 4 insns (limit 1000000) max_states_per_insn 0";
        assert_eq!(reason(log), Some("unknown func bpf_loop#181"));
        assert_eq!(reason("verification time 3 usec\nstack depth 0\nprocessed 4 insns"), None);
    }
}
