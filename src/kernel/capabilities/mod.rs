//! What loaded programs can do, and their metadata: read once per program and cached for its life, for both backends.
//!
//! Entry points: [`Analyses::add_capabilities`] and [`Analyses::add_metadata`]. A program is opened by id for it, so that it costs three
//! system calls; a reading analyses so many at most, the newest first, and later ones the rest. Once all are known, a reading makes no
//! system call for it.

mod functions;
mod metadata;

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use self::functions::{Functions, of_type};
pub(super) use self::metadata::variables as metadata_of;
use super::instructions::Calls;
use super::reading::ReadContext;
use crate::ascending::Ascending;
use crate::model::{
    BootTime, Capability, Feature, Kind, Map, MapFacts, MetadataVariable, Program, ProgramCapabilities,
    ProgramFacts, Reason,
};
use crate::sys::bpf as sys;
use crate::sys::bpf::uapi::ProgramInfo;
use crate::sys::{Error, Result, failed};

/// The most programs that a reading analyses: 7,000 are new at once only in the first reading of a large host.
const MAX_PROGRAMS: usize = 10_000;

/// The most bytes of instructions that a reading analyses, at least those of one program.
const MAX_BYTES: usize = 32 << 20;

/// The most bytes of instructions of a program: several times what the verifier accepts, a million instructions.
const MAX_PROGRAM_BYTES: u32 = 64 << 20;

/// The most maps that a reading reads for metadata.
const MAX_MAPS: usize = 500;

/// The name in issues of a program or a map that is too large to be read.
const CALL: &str = "analyse_program";

/// How long what failed is not tried again.
const RETRY_AFTER: Duration = Duration::from_mins(1);

/// What is known of one fact about a program.
#[derive(Clone, Debug)]
enum Knowledge<T> {
    /// Nothing: it is to be read.
    Unread,
    /// The kernel hides which functions it calls.
    Hidden,
    /// It could not be read.
    Failed,
    /// It was read.
    Known(T),
}

impl<T: Clone> Knowledge<T> {
    fn known(&self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value.clone()),
            _ => None,
        }
    }
}

/// What is cached of a program.
#[derive(Clone, Debug)]
struct Analysis {
    facts: Arc<ProgramFacts>,
    capabilities: Knowledge<Arc<ProgramCapabilities>>,
    metadata: Knowledge<Arc<[MetadataVariable]>>,
}

/// What is known of all programs.
#[derive(Debug, Default)]
pub(super) struct Analyses {
    /// In the order of the programs of the last reading.
    cache: Vec<Analysis>,
    functions: Option<Functions>,
    /// One copy of equal capabilities.
    shared: HashSet<Arc<ProgramCapabilities>>,
    /// When what failed is tried again.
    retry_at: BootTime,
}

/// Result of scanning the instructions of a program for calls.
#[derive(Debug)]
enum CallScan {
    /// The program is gone.
    Gone,
    /// The kernel hides its calls.
    Hidden,
    /// Its calls.
    Calls(Calls),
}

impl Analyses {
    /// Adds what they can do to programs in ascending order of ids, as far as it is known by now.
    ///
    /// An issue on failure. Where the kernel refuses to open programs or hides what they call, the feature is limited.
    pub(super) fn add_capabilities(&mut self, programs: &mut [Program], cx: &mut ReadContext<'_>) {
        self.update(programs);
        let rights = cx.issues.rights();
        if let Some(reason) = rights.missing(Capability::SysAdmin) {
            // Values in the cache hide that the next would be refused.
            cx.issues.limit(Feature::ProgramCapabilities, reason);
        } else {
            self.analyse(cx);
        }
        if self.cache.iter().any(|analysis| matches!(analysis.capabilities, Knowledge::Hidden)) {
            let reason = rights.missing(Capability::Syslog).unwrap_or(Reason::KptrRestrict);
            cx.issues.limit(Feature::ProgramCapabilities, reason);
        }
        for (program, analysis) in programs.iter_mut().zip(&self.cache) {
            program.capabilities = analysis.capabilities.known();
        }
    }

    /// Adds their metadata to the programs of [`Self::add_capabilities`]. `maps` are those of the reading, in ascending order of ids.
    pub(super) fn add_metadata(&mut self, programs: &mut [Program], maps: &[Map], cx: &mut ReadContext<'_>) {
        if cx.issues.rights().missing(Capability::SysAdmin).is_none() {
            self.read_metadata(maps, cx);
        }
        for (program, analysis) in programs.iter_mut().zip(&self.cache) {
            program.metadata = analysis.metadata.known();
        }
    }

    /// Brings the cache in the order of programs, and drops those that are gone.
    fn update(&mut self, programs: &[Program]) {
        let unchanged = self.cache.len() == programs.len()
            && self.cache.iter().zip(programs).all(|(known, found)| Arc::ptr_eq(&known.facts, &found.facts));
        if unchanged {
            return;
        }
        let earlier = Ascending::new(std::mem::take(&mut self.cache), |analysis| analysis.facts.id);
        let analysis = |program: &Program| {
            let facts = Arc::clone(&program.facts);
            let new = Analysis { facts, capabilities: Knowledge::Unread, metadata: Knowledge::Unread };
            match earlier.seek(program.facts.id).filter(|known| is_same(&known.facts, &new.facts)) {
                Some(known) if known.facts.map_ids == new.facts.map_ids => {
                    Analysis { facts: new.facts, ..known.clone() }
                }
                // A map was bound to it: libbpf binds `.rodata` once a program is loaded.
                Some(known) => Analysis { capabilities: known.capabilities.clone(), ..new },
                None => new,
            }
        };
        self.cache = programs.iter().map(analysis).collect();
    }

    /// Analyses the programs that were not, the newest first.
    fn analyse(&mut self, cx: &mut ReadContext<'_>) {
        let probe = if cx.taken_at < self.retry_at { None } else { self.retry(cx.taken_at) };
        let mut pending = self.unread(|analysis| matches!(analysis.capabilities, Knowledge::Unread));
        if pending.is_empty() {
            return;
        }
        let started = Instant::now();
        pending.truncate(MAX_PROGRAMS);
        let (mut found, mut bytes, mut buffer) = (Vec::with_capacity(pending.len()), 0, Vec::new());
        for index in pending {
            let facts = &self.cache[index].facts;
            bytes += facts.size_translated as usize;
            if bytes > MAX_BYTES && !found.is_empty() {
                break;
            }
            found.push((index, calls(facts, &mut buffer)));
        }
        self.shared.retain(|capabilities| Arc::strong_count(capabilities) > 1);
        let (mut is_shown, analysed) = (false, found.len());
        for (index, found) in found {
            let known = match found {
                Ok(CallScan::Gone) => continue,
                Ok(CallScan::Hidden) => Ok(Knowledge::Hidden),
                Ok(CallScan::Calls(calls)) => self.knowledge(index, &calls, cx),
                Err(error) => Err(error),
            };
            is_shown |= probe == Some(index) && matches!(known, Ok(Knowledge::Known(_)));
            self.cache[index].capabilities = known.unwrap_or_else(|error| {
                cx.issues.record(Kind::Program, error);
                Knowledge::Failed
            });
        }
        tracing::debug!("analysed {analysed} programs, {bytes} bytes, in {:?}", started.elapsed());
        if is_shown {
            // What hid one hid all: the next reading reads the others.
            for analysis in &mut self.cache {
                if matches!(analysis.capabilities, Knowledge::Hidden) {
                    analysis.capabilities = Knowledge::Unread;
                }
            }
        }
    }

    /// Lets what failed be read again, and the newest program whose calls are hidden. Returns the index of that one.
    fn retry(&mut self, now: BootTime) -> Option<usize> {
        self.retry_at = BootTime(now.0.saturating_add(RETRY_AFTER.as_nanos().try_into().unwrap_or(u64::MAX)));
        for analysis in &mut self.cache {
            if matches!(analysis.capabilities, Knowledge::Failed) {
                analysis.capabilities = Knowledge::Unread;
            }
            if matches!(analysis.metadata, Knowledge::Failed) {
                analysis.metadata = Knowledge::Unread;
            }
        }
        let hidden = self.unread(|analysis| matches!(analysis.capabilities, Knowledge::Hidden));
        let newest = *hidden.first()?;
        self.cache[newest].capabilities = Knowledge::Unread;
        Some(newest)
    }

    /// Returns the indices of programs of which this is true, the newest first.
    fn unread(&self, is_wanted: impl Fn(&Analysis) -> bool) -> Vec<usize> {
        let mut wanted: Vec<_> =
            (0..self.cache.len()).filter(|&index| is_wanted(&self.cache[index])).collect();
        wanted.sort_by_key(|&index| Reverse(self.cache[index].facts.loaded_at));
        wanted
    }

    /// Returns what a program with these calls can do.
    fn knowledge(
        &mut self,
        index: usize,
        calls: &Calls,
        cx: &mut ReadContext<'_>,
    ) -> Result<Knowledge<Arc<ProgramCapabilities>>> {
        let program_type = self.cache[index].facts.program_type.number;
        let capabilities = if calls.helpers.is_empty() && calls.kfuncs.is_empty() {
            of_type(program_type, calls)
        } else {
            if self.functions.is_none() {
                let symbols = cx.names.symbols().map_err(failed("/proc/kallsyms"))?;
                self.functions = Functions::find(symbols);
            }
            let Some(functions) = &mut self.functions else { return Ok(Knowledge::Hidden) };
            functions.capabilities(program_type, calls, cx.names)?
        };
        let shared = self.shared.get(&capabilities).cloned().unwrap_or_else(|| {
            let new = Arc::new(capabilities);
            self.shared.insert(Arc::clone(&new));
            new
        });
        Ok(Knowledge::Known(shared))
    }

    /// Reads the metadata of programs for which it was not read with their present maps, the newest first.
    fn read_metadata(&mut self, maps: &[Map], cx: &mut ReadContext<'_>) {
        // Programs of one object share a map.
        let mut read: HashMap<u32, std::result::Result<Option<metadata::Variables>, ()>> = HashMap::new();
        for index in self.unread(|analysis| matches!(analysis.metadata, Knowledge::Unread)) {
            let Some(ids) = &self.cache[index].facts.map_ids else { continue };
            let Some(candidates) = metadata::candidates(ids, maps) else { continue };
            let new = candidates.iter().filter(|map| !read.contains_key(&map.id)).count();
            if read.len() + new > MAX_MAPS {
                break;
            }
            let mut variables_of = |map: &MapFacts| {
                let read_map = || metadata::read(map, cx).map_err(|error| cx.issues.record(Kind::Map, error));
                read.entry(map.id).or_insert_with(read_map).clone()
            };
            let variables = candidates.into_iter().map(&mut variables_of);
            self.cache[index].metadata = match variables.collect::<std::result::Result<Option<Vec<_>>, ()>>()
            {
                Ok(Some(variables)) => Knowledge::Known(metadata::merged(variables.concat()).into()),
                // The map is gone, and the program with it.
                Ok(None) => continue,
                Err(()) => Knowledge::Failed,
            };
        }
    }
}

/// Returns whether facts with the same id are of the same program.
fn is_same(one: &ProgramFacts, other: &ProgramFacts) -> bool {
    (one.loaded_at, one.tag) == (other.loaded_at, other.tag)
}

/// Opens a program and decodes its instructions. `buffer` receives them.
fn calls(facts: &ProgramFacts, buffer: &mut Vec<u8>) -> Result<CallScan> {
    if facts.size_translated > MAX_PROGRAM_BYTES {
        return Err(Error::new(CALL, Errno::E2BIG));
    }
    let fd = match sys::fd_by_id(Kind::Program, facts.id) {
        Ok(fd) => fd,
        Err(Error { errno: Errno::ENOENT, .. }) => return Ok(CallScan::Gone),
        Err(error) => return Err(error),
    };
    buffer.resize(facts.size_translated as usize, 0);
    let info = sys::program_instructions(fd.as_fd(), buffer)?.value;
    if BootTime(info.load_time) != facts.loaded_at || info.tag != facts.tag.0 {
        return Ok(CallScan::Gone);
    }
    Ok(found(&info, buffer))
}

/// Returns what the instructions of a program say, which begin this buffer.
fn found(info: &ProgramInfo, buffer: &[u8]) -> CallScan {
    // No program is empty: the kernel refuses the instructions, or does not show those with blinded constants.
    if info.xlated_prog_len == 0 || info.xlated_prog_insns == 0 {
        return CallScan::Hidden;
    }
    let len = (info.xlated_prog_len as usize).min(buffer.len());
    let calls = Calls::decode(&buffer[..len]);
    if calls.is_hidden { CallScan::Hidden } else { CallScan::Calls(calls) }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    /// A call of the helper at this distance, and the end.
    fn instructions(distance: u8) -> [u8; 16] {
        [0x85, 0, 0, 0, distance, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]
    }

    /// What a program is that the kernel reports with this length of the instructions, and with their address or none.
    fn of(len: u32, address: u64, buffer: &[u8]) -> CallScan {
        let mut info = ProgramInfo::new_zeroed();
        (info.xlated_prog_len, info.xlated_prog_insns) = (len, address);
        found(&info, buffer)
    }

    #[test]
    fn instructions_that_the_kernel_does_not_show_are_hidden() {
        let hidden = [
            // Without CAP_BPF.
            of(0, 4096, &instructions(7)),
            // Blinded (`net.core.bpf_jit_harden`), without CAP_SYSLOG.
            of(16, 0, &instructions(7)),
            // Shown, but for the functions.
            of(16, 4096, &instructions(0)),
        ];
        assert!(hidden.iter().all(|found| matches!(found, CallScan::Hidden)), "{hidden:?}");
        let CallScan::Calls(calls) = of(16, 4096, &instructions(7)) else { panic!("they are shown") };
        assert_eq!(calls.helpers, [7]);
        let CallScan::Calls(calls) = of(8, 4096, &instructions(7)[8..]) else { panic!("they are shown") };
        assert_eq!(calls, Calls::default());
        // It is longer than the buffer.
        assert!(matches!(of(4096, 4096, &instructions(7)), CallScan::Calls(_)));
    }
}
