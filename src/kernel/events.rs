//! Programs that are loaded and unloaded, as the kernel reports them when it happens.
//!
//! Entry point: [`ProgramStream`]. One ring for each CPU; a record wakes who waits, and nothing runs while none comes.

use std::borrow::Cow;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use crate::host::clock;
use crate::host::cpus::{self, OnlineCpus};
use crate::model::enums::program_type;
use crate::model::{BootTime, Kind, Tag};
use crate::sys::perf::PerfRing;
use crate::sys::{Error, Result, bpf, failed};
use crate::text::printable;

/// Size of a ring, in bytes: more than 500 programs that are loaded and unloaded between two looks.
pub const RING_BYTES: NonZeroUsize = NonZeroUsize::new(128 << 10).expect("it is not zero");

/// How long a symbol waits for its program, which comes at once, unless its record is lost.
const SYMBOL_AGE: Duration = Duration::from_secs(10);

/// How many CPUs are checked in each call, in turn, for an event that has ended: a check interrupts the CPU, and a host can have hundreds.
const CHECKED_IN_TURN: usize = 8;

/// A host that was suspended for longer, in nanoseconds, had its other CPUs offline.
const SUSPENSION: u128 = 1_000_000;

/// A program that was loaded or unloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProgramRecord {
    /// When. Source: `CLOCK_BOOTTIME` of the host.
    pub(crate) at: BootTime,
    /// True for a load, false for an unload.
    pub(crate) is_load: bool,
    /// Source: `bpf_event.id`.
    pub(crate) id: u32,
    /// Source: `bpf_event.tag`.
    pub(crate) tag: Tag,
    /// The process that did it, in the pid namespace of this one. `None` if it is not visible there, or was about to end.
    pub(crate) pid: Option<u32>,
    /// Its thread.
    pub(crate) thread: Option<u32>,
    /// Name of the program, from its symbol. `None` without one: the program is interpreted.
    pub(crate) name: Option<String>,
}

/// The records of all CPUs.
#[derive(Debug)]
pub struct ProgramStream {
    epoll: Epoll,
    bytes: NonZeroUsize,
    online: OnlineCpus,
    /// [`clock::suspended`] at the last call of [`Self::follow_cpus`].
    suspended: i128,
    /// Those of the CPUs whose turn comes first are in front.
    rings: Vec<CpuRing>,
    /// Records that came while the last ones were read: what came before them on another CPU may not have been read yet.
    held: Vec<RingRecord>,
    symbols: Symbols,
    /// Records that the kernel had no room for, of CPUs that went offline as well.
    lost: u64,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct CpuRing {
    cpu: u32,
    ring: PerfRing,
}

/// What a record of a ring says.
#[derive(Debug)]
enum RingRecord {
    Symbol(Symbol),
    Program(Loader, ProgramRecord),
    /// Others are missing here: symbols before it belong to no program after it.
    Gap(BootTime),
}

/// Who loads or unloads a program. A thread that is not visible is known by its CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loader {
    Thread(u32),
    OnCpu(u32),
}

/// The symbol of a program or of one of its functions.
#[derive(Debug)]
struct Symbol {
    at: BootTime,
    loader: Loader,
    tag: Tag,
    name: String,
}

/// The symbols whose programs come next, in the order of the kernel.
#[derive(Debug, Default)]
struct Symbols(Vec<Symbol>);

impl RingRecord {
    fn at(&self) -> BootTime {
        match self {
            Self::Symbol(symbol) => symbol.at,
            Self::Program(_, program) => program.at,
            Self::Gap(at) => *at,
        }
    }
}

impl Symbols {
    /// Returns the programs among records of all CPUs, in the order in which they happened, with the names in their symbols: a thread
    /// may be on another CPU when it comes from these to the program.
    fn name(&mut self, records: Vec<RingRecord>) -> Vec<ProgramRecord> {
        let mut programs = Vec::new();
        for record in records {
            let now = record.at();
            match record {
                RingRecord::Symbol(symbol) => {
                    let age = |symbol: &Symbol| Duration::from_nanos(now.0.saturating_sub(symbol.at.0));
                    self.0.retain(|symbol| age(symbol) <= SYMBOL_AGE);
                    self.0.push(symbol);
                }
                RingRecord::Program(loader, mut program) => {
                    program.name = self.take(loader, program.tag).filter(|name| !name.is_empty());
                    programs.push(program);
                }
                RingRecord::Gap(_) => self.0.clear(),
            }
        }
        programs
    }

    /// Returns the name of the program whose record comes now.
    fn take(&mut self, loader: Loader, tag: Tag) -> Option<String> {
        let symbols: Vec<_> = self.0.extract_if(.., |symbol| symbol.loader == loader).collect();
        let same = symbols.iter().rposition(|symbol| symbol.tag == tag);
        // A program of several functions has the symbols of these, each with a tag of its own. The first is that of the program.
        symbols.into_iter().nth(same.unwrap_or(0)).map(|symbol| symbol.name)
    }
}

impl ProgramStream {
    /// Opens the records of every CPU that is online.
    ///
    /// # Errors
    ///
    /// `EACCES` or `EPERM` without `CAP_PERFMON` and where the call is refused; `EINVAL` before 5.1.
    pub(crate) fn open(bytes: NonZeroUsize) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("epoll_create1"))?;
        let mut stream = Self {
            epoll,
            bytes,
            online: OnlineCpus::default(),
            suspended: clock::suspended(),
            rings: Vec::new(),
            held: Vec::new(),
            symbols: Symbols::default(),
            lost: 0,
            scratch: Vec::new(),
        };
        stream.follow_cpus()?;
        Ok(stream)
    }

    /// Returns a descriptor that is readable while there may be records.
    ///
    /// # Errors
    ///
    /// `EMFILE` if there is no descriptor left.
    pub(crate) fn wakes(&self) -> Result<OwnedFd> {
        self.epoll.0.as_fd().try_clone_to_owned().map_err(failed("dup"))
    }

    /// Opens the records of CPUs that came online, and drops those of CPUs that are offline. After a suspend of the host, all are opened
    /// again. Another CPU that was offline for a while is found when its turn comes. What happened there meanwhile has no record.
    ///
    /// # Errors
    ///
    /// As [`Self::open`]; the other CPUs are followed all the same, and this one is tried again by the next call.
    pub(crate) fn follow_cpus(&mut self) -> Result<()> {
        let online = self.online.read()?;
        let suspended = clock::suspended();
        let before = std::mem::replace(&mut self.suspended, suspended);
        self.follow(&online, suspended.abs_diff(before) > SUSPENSION, PerfRing::open)
    }

    /// Checks the events of [`CHECKED_IN_TURN`] CPUs, unless all have ended.
    fn follow(
        &mut self,
        online: &[u32],
        have_ended: bool,
        open: impl Fn(u32, NonZeroUsize) -> Result<PerfRing>,
    ) -> Result<()> {
        let Self { rings, held, lost, scratch, .. } = self;
        // From now on the last ones, in whose place others are in front.
        let checked = CHECKED_IN_TURN.min(rings.len());
        rings.rotate_left(checked);
        let mut left = rings.len();
        let is_over = |ring: &mut CpuRing| {
            left -= 1;
            have_ended || online.binary_search(&ring.cpu).is_err() || left < checked && ring.ring.has_ended()
        };
        for mut ring in rings.extract_if(.., is_over) {
            *lost += ring.read(scratch, held);
        }
        let mut result = Ok(());
        for &cpu in online {
            if self.rings.iter().any(|ring| ring.cpu == cpu) {
                continue;
            }
            match open(cpu, self.bytes).and_then(|ring| self.add(cpu, ring)) {
                // It went offline in the meantime.
                Ok(()) | Err(Error { errno: Errno::ENODEV, .. }) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }

    fn add(&mut self, cpu: u32, ring: PerfRing) -> Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, cpu.into());
        self.epoll.add(&ring, event).map_err(failed("epoll_ctl"))?;
        self.rings.push(CpuRing { cpu, ring });
        Ok(())
    }

    /// Polls the ready rings, which clears their wake-up; otherwise the next wait returns at once.
    pub(crate) fn acknowledge(&mut self) {
        let mut events = [EpollEvent::empty(); 64];
        let count = self.epoll.wait(&mut events, 0_u8).unwrap_or(0);
        for event in &events[..count] {
            if event.events().intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
                // Nothing comes from it any more, and it would wake the thread again and again until the next reading drops it.
                let cpu = event.data();
                if let Some(ring) = self.rings.iter().find(|ring| u64::from(ring.cpu) == cpu) {
                    let _already_removed = self.epoll.delete(&ring.ring);
                }
            }
        }
    }

    /// Returns the records since the last call in the order in which they happened, and how many records were lost since then.
    ///
    /// The order is that of each program whatever CPUs it was loaded and unloaded on: all rings are read twice, and what is newer than
    /// everything of the first round is kept for the next call. A record of the first round was complete when the second began, and so
    /// was every record before it.
    pub(crate) fn read(&mut self) -> (Vec<ProgramRecord>, u64) {
        let mut records = std::mem::take(&mut self.held);
        self.read_rings(&mut records);
        let newest = records.iter().map(RingRecord::at).max();
        self.read_rings(&mut records);
        records.sort_by_key(RingRecord::at);
        let settled = records.partition_point(|record| Some(record.at()) <= newest);
        self.held = records.split_off(settled);
        (self.symbols.name(records), std::mem::take(&mut self.lost))
    }

    /// Returns whether records are kept for the next call of [`Self::read`].
    pub(crate) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    fn read_rings(&mut self, records: &mut Vec<RingRecord>) {
        let Self { rings, scratch, lost, .. } = self;
        for ring in rings {
            *lost += ring.read(scratch, records);
        }
    }
}

impl CpuRing {
    /// Decodes what was not read yet, and returns how many more records there were.
    fn read(&mut self, scratch: &mut Vec<u8>, records: &mut Vec<RingRecord>) -> u64 {
        scratch.clear();
        self.ring.read(scratch);
        decode(self.cpu, scratch, records)
    }
}

/// Decodes the records of one CPU and returns how many more there were.
///
/// Source: `enum perf_event_type`, `include/uapi/linux/perf_event.h`. Before a program's record come those of its symbols
/// (`perf_event_bpf_event`, `kernel/events/core.c`), from the same thread: of the program itself, then of its other functions.
fn decode(cpu: u32, mut bytes: &[u8], records: &mut Vec<RingRecord>) -> u64 {
    const LOST: u32 = 2;
    const KSYMBOL: u32 = 17;
    const BPF_EVENT: u32 = 18;
    let (mut at, mut lost) = (BootTime::default(), 0_u64);
    while !bytes.is_empty() {
        let Some(record) = first_record(bytes) else {
            // The kernel writes no such record. Where the next one begins is not known, so the rest counts as one that was lost.
            records.push(RingRecord::Gap(at));
            return lost.saturating_add(1);
        };
        bytes = &bytes[record.len()..];
        at = BootTime(long(record, record.len().saturating_sub(8)));
        let thread = visible(number(record, record.len().saturating_sub(12)));
        let loader = thread.map_or(Loader::OnCpu(cpu), Loader::Thread);
        match number(record, 0) {
            LOST => {
                records.push(RingRecord::Gap(at));
                lost = lost.saturating_add(long(record, 16));
            }
            KSYMBOL => {
                let name = record.get(24..).unwrap_or_default();
                let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
                if let Some((tag, name)) = program_name(&name[..end]) {
                    let name = printable(name);
                    records.push(RingRecord::Symbol(Symbol { at, loader, tag, name }));
                }
            }
            BPF_EVENT => records.push(match program(record) {
                Some(program) => RingRecord::Program(loader, program),
                None => RingRecord::Gap(at),
            }),
            _ => {}
        }
    }
    lost
}

/// Returns the record at the beginning; `None` if it is shorter than its header or longer than what there is.
fn first_record(bytes: &[u8]) -> Option<&[u8]> {
    const HEADER: usize = 8;
    let header = bytes.get(..HEADER)?;
    let len = usize::from(u16::from_ne_bytes([header[6], header[7]]));
    bytes.get(..len).filter(|record| record.len() >= HEADER)
}

/// Returns a pid, or a thread. `None` of a task that is about to end, or that the pid namespace does not have.
fn visible(pid: u32) -> Option<u32> {
    (pid != 0 && pid != u32::MAX).then_some(pid)
}

/// Decodes the record of a program, without its name; `None` if it is another change than a load or an unload.
fn program(record: &[u8]) -> Option<ProgramRecord> {
    const LOAD: u16 = 1;
    const UNLOAD: u16 = 2;
    /// Header, type and flags, id and tag; thread and time.
    const LEN: usize = 8 + 4 + 4 + 8 + 8 + 8;
    let record: &[u8; LEN] = record.get(..LEN)?.try_into().ok()?;
    let change = u16::from_ne_bytes([record[8], record[9]]);
    Some(ProgramRecord {
        at: BootTime(long(record, 32)),
        is_load: match change {
            LOAD => true,
            UNLOAD => false,
            _ => return None,
        },
        id: number(record, 12),
        tag: Tag(record[16..24].try_into().expect("8 bytes")),
        pid: visible(number(record, 24)),
        thread: visible(number(record, 28)),
        name: None,
    })
}

/// Returns tag and name in the symbol of a program, `bpf_prog_TAG_NAME`; `None` for other symbols, such as trampolines.
///
/// Source: `bpf_prog_ksym_set_name`, `kernel/bpf/core.c`.
fn program_name(symbol: &[u8]) -> Option<(Tag, &[u8])> {
    const TAG_DIGITS: usize = 16;
    let (tag, name) = symbol.strip_prefix(b"bpf_prog_")?.split_at_checked(TAG_DIGITS)?;
    // A sign is no digit.
    let tag = std::str::from_utf8(tag).ok().filter(|tag| tag.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let tag = Tag(u64::from_str_radix(tag, 16).ok()?.to_be_bytes());
    match name.split_first() {
        None => Some((tag, b"")),
        Some((b'_', name)) => Some((tag, name)),
        Some(_) => None,
    }
}

/// Returns four bytes as a number; 0 beyond the end of the record.
fn number(record: &[u8], at: usize) -> u32 {
    let bytes = record.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_ne_bytes)
}

/// Returns eight bytes as a number; 0 beyond the end of the record.
fn long(record: &[u8], at: usize) -> u64 {
    let bytes = record.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_ne_bytes)
}

/// What a prompt look at a program finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProgramLook {
    /// The full name if it is in the record, too, else at most 15 characters. `None` if it has none.
    pub(crate) name: Option<String>,
    /// See [`ProgramFacts::program_type`](crate::model::ProgramFacts::program_type). `None` if it is newer than this program.
    pub(crate) program_type: Option<String>,
}

/// Looks at a program that was just loaded. `None` if it is gone, or may not be opened: the next reading shows it.
pub(crate) fn look(id: u32, tag: Tag) -> Option<ProgramLook> {
    let fd = bpf::fd_by_id(Kind::Program, id).ok()?;
    let info = bpf::program_info(fd.as_fd()).ok()?.value;
    // Another one can have its id by now, after two billion others.
    (info.tag == tag.0).then(|| ProgramLook {
        name: Some(printable(&info.name)).filter(|name| !name.is_empty()),
        program_type: program_type::from_number(info.prog_type).name.map(Cow::into_owned),
    })
}

/// Waits until there may be records, or for so long, or until `stop` is closed: then returns false.
///
/// # Errors
///
/// None on any kernel, unless a seccomp filter refuses the call.
pub(crate) fn wait(wakes: BorrowedFd<'_>, stop: BorrowedFd<'_>, limit: Option<Duration>) -> io::Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(wakes, PollFlags::POLLIN), PollFd::new(stop, PollFlags::POLLIN)];
    let limit = limit.map_or(PollTimeout::NONE, |limit| limit.try_into().unwrap_or(PollTimeout::MAX));
    match poll(&mut fds, limit) {
        Ok(_) => Ok(!fds[1].any().unwrap_or(true)),
        Err(Errno::EINTR) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// Entry point of a fuzzer: decodes any bytes as records, and any text as a list of CPUs.
pub(crate) fn fuzz(bytes: &[u8]) {
    let mut records = Vec::new();
    decode(0, bytes, &mut records);
    records.sort_by_key(RingRecord::at);
    assert!(Symbols::default().name(records).len() <= bytes.len() / 40);
    let _any = std::str::from_utf8(bytes).ok().and_then(cpus::parse);
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::io::{PipeWriter, Write as _, pipe};

    use super::*;

    /// A record of a thread.
    fn record(kind: u32, body: &[u8], thread: u32, at: u64) -> Vec<u8> {
        let len = u16::try_from(8 + body.len() + 16).expect("it is short");
        let header = [&kind.to_ne_bytes()[..], &[0; 2], &len.to_ne_bytes()].concat();
        let sample = [&7_u32.to_ne_bytes()[..], &thread.to_ne_bytes(), &at.to_ne_bytes()].concat();
        [&header, body, &sample].concat()
    }

    /// The change of a program whose tag has these bytes.
    fn change(change: u16, id: u32, tag: u8, thread: u32, at: u64) -> Vec<u8> {
        let body = [&change.to_ne_bytes()[..], &[0; 2], &id.to_ne_bytes(), &[tag; 8]].concat();
        record(18, &body, thread, at)
    }

    fn load(id: u32, tag: u8, thread: u32, at: u64) -> Vec<u8> {
        change(1, id, tag, thread, at)
    }

    fn symbol(name: &str, thread: u32, at: u64) -> Vec<u8> {
        let mut name = name.as_bytes().to_vec();
        name.resize(name.len() / 8 * 8 + 8, 0);
        record(17, &[&[0; 16][..], &name].concat(), thread, at)
    }

    /// The symbol of a program whose tag has these bytes.
    fn named(tag: u8, name: &str, thread: u32, at: u64) -> Vec<u8> {
        symbol(&format!("bpf_prog_{}{name}", Tag([tag; 8])), thread, at)
    }

    fn lost(count: u64, at: u64) -> Vec<u8> {
        record(2, &[3_u64.to_ne_bytes(), count.to_ne_bytes()].concat(), 0, at)
    }

    /// Returns id and name of each program of some CPUs, and the number of lost records.
    fn decoded(parts: &[(u32, Vec<u8>)]) -> (Vec<(u32, Option<String>)>, u64) {
        let mut records = Vec::new();
        let lost = parts.iter().map(|(cpu, part)| decode(*cpu, part, &mut records)).sum();
        records.sort_by_key(RingRecord::at);
        // A ring can be read between any two records.
        let mut symbols = Symbols::default();
        let programs = records.into_iter().flat_map(|record| symbols.name(vec![record]));
        (programs.map(|program| (program.id, program.name)).collect(), lost)
    }

    /// As [`decoded`], of one CPU.
    fn of_one_cpu(parts: Vec<Vec<u8>>) -> (Vec<(u32, Option<String>)>, u64) {
        decoded(&parts.into_iter().map(|part| (0, part)).collect::<Vec<_>>())
    }

    #[test]
    fn a_record_has_program_actor_and_time() {
        let bytes =
            [change(1, 17, 0xab, 8, 5), change(2, 17, 0xab, 0, 5), change(3, 17, 0xab, 8, 5)].concat();
        let mut records = Vec::new();
        assert_eq!(decode(0, &bytes, &mut records), 0);
        let load = ProgramRecord {
            at: BootTime(5),
            is_load: true,
            id: 17,
            tag: Tag([0xab; 8]),
            pid: Some(7),
            thread: Some(8),
            name: None,
        };
        let unload = ProgramRecord { is_load: false, thread: None, ..load.clone() };
        assert_eq!(Symbols::default().name(records), [load, unload], "another change is neither");
    }

    #[test]
    fn a_program_of_functions_has_the_name_of_its_first_symbol() {
        let parts = vec![
            named(1, "_trace_open", 8, 1),
            named(2, "_helper", 8, 2),
            symbol("bpf_trampoline_6442500000", 8, 3),
            load(17, 0xab, 8, 4),
            load(18, 0xab, 8, 5),
            named(1, "", 8, 6),
            load(19, 0xab, 8, 7),
            named(1, "_of_another", 9, 8),
            load(20, 0xab, 8, 9),
        ];
        let names = [Some("trace_open".into()), None, None, None];
        assert_eq!(of_one_cpu(parts), ((17..).zip(names).collect(), 0));
    }

    #[test]
    fn a_thread_that_changes_the_cpu_gives_no_program_the_name_of_another() {
        // Of functions, so that no tag is that of the program.
        let parts = [
            (0, [named(1, "_first", 8, 1), named(3, "_second", 8, 3), load(18, 0xb, 8, 4)].concat()),
            (1, load(17, 0xa, 8, 2)),
        ];
        assert_eq!(decoded(&parts), (vec![(17, Some("first".into())), (18, Some("second".into()))], 0));
    }

    #[test]
    fn a_symbol_with_the_tag_of_the_program_is_preferred() {
        // The first program has no record: its ring was not followed.
        let parts = vec![named(1, "_first", 8, 1), named(2, "_second", 8, 2), load(18, 2, 8, 3)];
        assert_eq!(of_one_cpu(parts), (vec![(18, Some("second".into()))], 0));
    }

    #[test]
    fn threads_that_are_not_visible_are_those_of_their_cpus() {
        let parts = [
            (0, [named(1, "_first", 0, 1), load(17, 0xa, 0, 3)].concat()),
            (1, [named(2, "_second", 0, 2), load(18, 0xb, u32::MAX, 4)].concat()),
        ];
        assert_eq!(decoded(&parts), (vec![(17, Some("first".into())), (18, Some("second".into()))], 0));
    }

    #[test]
    fn a_symbol_waits_for_a_time_only() {
        let age = u64::try_from(SYMBOL_AGE.as_nanos()).expect("it is short");
        let mut records = Vec::new();
        decode(0, &named(1, "_gone", 8, 1), &mut records);
        decode(0, &named(1, "_late", 9, age + 2), &mut records);
        let mut symbols = Symbols::default();
        assert_eq!(symbols.name(records), []);
        assert_eq!(symbols.0.iter().map(|symbol| &symbol.name[..]).collect::<Vec<_>>(), ["late"]);
    }

    #[test]
    fn what_was_lost_is_counted_and_gives_no_name() {
        let parts = vec![named(1, "_gone", 8, 1), lost(3, 2), load(17, 0xab, 8, 3), lost(4, 4)];
        assert_eq!(of_one_cpu(parts), (vec![(17, None)], 7));
    }

    #[test]
    fn what_is_behind_a_malformed_record_is_counted_and_gives_no_name() {
        for length in [0_u16, 7, 400] {
            let mut malformed = load(17, 0xab, 8, 3);
            malformed[6..8].copy_from_slice(&length.to_ne_bytes());
            let rest = [malformed, load(18, 0xab, 8, 4)].concat();
            let parts = vec![[named(1, "_gone", 8, 1), rest].concat(), load(19, 0xab, 8, 5)];
            assert_eq!(of_one_cpu(parts), (vec![(19, None)], 1), "{length}");
        }
        assert_eq!(of_one_cpu(vec![vec![0; 7]]), (vec![], 1), "it has no header");
    }

    /// CPUs that the test follows. What it writes to a pipe of one is read as the count and the time of its event.
    struct Cpus {
        stream: ProgramStream,
        times: RefCell<Vec<(u32, PipeWriter)>>,
        refused: Cell<Option<u32>>,
    }

    impl Cpus {
        fn new() -> Self {
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("every process may");
            let stream = ProgramStream {
                epoll,
                bytes: RING_BYTES,
                online: OnlineCpus::default(),
                suspended: 0,
                rings: Vec::new(),
                held: Vec::new(),
                symbols: Symbols::default(),
                lost: 0,
                scratch: Vec::new(),
            };
            Self { stream, times: RefCell::default(), refused: Cell::default() }
        }

        /// Follows these CPUs, after so many nanoseconds. Returns which were opened.
        fn follow(&mut self, online: &[u32], time: impl Fn(u32) -> u64) -> (Vec<u32>, Result<()>) {
            self.follow_after(false, online, time)
        }

        /// As [`Self::follow`], perhaps after a suspend.
        fn follow_after(
            &mut self,
            have_ended: bool,
            online: &[u32],
            time: impl Fn(u32) -> u64,
        ) -> (Vec<u32>, Result<()>) {
            for (cpu, pipe) in self.times.get_mut() {
                let counts = [0_u64.to_ne_bytes(), time(*cpu).to_ne_bytes()].concat();
                pipe.write_all(&counts).expect("its reader is open");
            }
            let opened = RefCell::default();
            let result = self.stream.follow(online, have_ended, |cpu, _| {
                if self.refused.get() == Some(cpu) {
                    return Err(Error::new("perf_event_open", Errno::EMFILE));
                }
                let (reader, writer) = pipe().expect("a pipe");
                let mut times = self.times.borrow_mut();
                times.retain(|(known, _)| *known != cpu);
                times.push((cpu, writer));
                Vec::push(&mut opened.borrow_mut(), cpu);
                Ok(PerfRing::detached(reader.into()))
            });
            self.times.get_mut().retain(|(cpu, _)| self.stream.rings.iter().any(|ring| ring.cpu == *cpu));
            (opened.into_inner(), result)
        }
    }

    #[test]
    fn a_cpu_that_was_offline_is_followed_again() {
        let mut cpus = Cpus::new();
        assert_eq!(cpus.follow(&[0, 1], |_| 0), (vec![0, 1], Ok(())));
        assert_eq!(cpus.follow(&[0, 1], |_| 5), (vec![], Ok(())));
        cpus.stream.rings[1].ring.write(&load(17, 0xab, 8, 5));
        let frozen = |cpu| if cpu == 1 { 5 } else { 6 };
        assert_eq!(cpus.follow(&[0, 1], frozen), (vec![1], Ok(())), "its event has ended");
        assert_eq!(cpus.stream.read().0.len(), 1, "what it recorded before is kept");
        assert_eq!(cpus.follow(&[0], |_| 7), (vec![], Ok(())));
        assert_eq!(cpus.follow(&[0, 1], |_| 8), (vec![1], Ok(())), "it came online");
    }

    #[test]
    fn each_cpu_is_checked_in_its_turn() {
        let mut cpus = Cpus::new();
        let all: Vec<u32> = (0..20).collect();
        assert_eq!(cpus.follow(&all, |_| 0), (all.clone(), Ok(())));
        // Their events have ended: each is opened again once it is checked.
        let mut opened = Vec::new();
        for calls in 1..=3 {
            let (mut again, result) = cpus.follow(&all, |_| 0);
            assert_eq!(result, Ok(()));
            assert!(again.len() <= CHECKED_IN_TURN, "call {calls}: {again:?}");
            opened.append(&mut again);
        }
        opened.sort_unstable();
        opened.dedup();
        assert_eq!(opened, all);
    }

    #[test]
    fn all_are_followed_again_after_a_suspend() {
        let mut cpus = Cpus::new();
        let all: Vec<u32> = (0..20).collect();
        assert_eq!(cpus.follow(&all, |_| 0), (all.clone(), Ok(())));
        cpus.stream.rings[1].ring.write(&load(17, 0xab, 8, 5));
        assert_eq!(cpus.follow_after(true, &all, |_| 9), (all, Ok(())));
        assert_eq!(cpus.stream.read().0.len(), 1, "what was recorded before is kept");
    }

    #[test]
    fn a_cpu_that_could_not_be_followed_is_tried_again() {
        let mut cpus = Cpus::new();
        assert_eq!(cpus.follow(&[0, 1, 2], |_| 0), (vec![0, 1, 2], Ok(())));
        cpus.refused.set(Some(1));
        let slept = |cpu| u64::from(cpu == 0);
        let refused = || Err(Error::new("perf_event_open", Errno::EMFILE));
        assert_eq!(cpus.follow(&[0, 1, 2], slept), (vec![2], refused()), "all others are followed");
        assert_eq!(cpus.follow(&[0, 1, 2], |_| 2), (vec![], refused()), "the issue stays");
        cpus.refused.set(None);
        assert_eq!(cpus.follow(&[0, 1, 2], |_| 3), (vec![1], Ok(())));
    }
}
