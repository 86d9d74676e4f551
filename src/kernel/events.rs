//! Programs that are loaded and unloaded, as the kernel reports them when it happens.
//!
//! Entry point: [`ProgramStream`]. One ring for each CPU; a record wakes who waits, and nothing runs while none comes.

use std::borrow::Cow;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::time::ClockId;

use crate::host::cpus;
use crate::model::enums::program_type;
use crate::model::{BootTime, Kind, Tag};
use crate::sys::perf::PerfRing;
use crate::sys::{Error, Result, bpf, failed};
use crate::text::printable;

/// Size of a ring, in bytes: more than 500 programs that are loaded and unloaded between two looks.
pub const RING_BYTES: NonZeroUsize = NonZeroUsize::new(128 << 10).expect("it is not zero");

/// A difference between two clocks that is not one of two readings.
const ASLEEP: Duration = Duration::from_millis(100);

/// The CPUs that are online: `0-3,8`.
const ONLINE: &str = "/sys/devices/system/cpu/online";

/// A program that was loaded or unloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProgramRecord {
    /// When. Source: `CLOCK_BOOTTIME` of the host.
    pub(crate) at: BootTime,
    /// Whether it was loaded, and else unloaded.
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
    rings: Vec<CpuRing>,
    /// What `/sys/devices/system/cpu/online` said when the rings were opened.
    online: Vec<u32>,
    /// How long the host had slept then.
    slept: Duration,
    /// Records that came while the last ones were read: what came before them on another CPU may not have been read yet.
    held: Vec<ProgramRecord>,
    /// Records that the kernel had no room for, of CPUs that went offline as well.
    lost: u64,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct CpuRing {
    cpu: u32,
    ring: PerfRing,
    /// The symbol whose program comes next: it may come after the ring was read.
    symbol: Option<Symbol>,
}

/// The symbol of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Symbol {
    /// The thread that loads or unloads the program.
    thread: u32,
    name: String,
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
            rings: Vec::new(),
            online: Vec::new(),
            slept: time_asleep(),
            held: Vec::new(),
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

    /// Opens the records of CPUs that came online, and drops those of CPUs that are offline. What happened there meanwhile has no
    /// record, nor has what happens on a CPU that went offline and came back since the last call, unless the host slept.
    ///
    /// # Errors
    ///
    /// As [`Self::open`]; the other CPUs are followed all the same.
    pub(crate) fn follow_cpus(&mut self) -> Result<()> {
        let online = online(Path::new("/"))?;
        let slept = time_asleep();
        // A CPU that was offline has no record of its own any more, and all but one were while the host slept.
        let has_slept = slept.abs_diff(self.slept) > ASLEEP;
        if online == self.online && !has_slept {
            return Ok(());
        }
        self.slept = slept;
        let mut scratch = std::mem::take(&mut self.scratch);
        let is_over = |ring: &mut CpuRing| has_slept || online.binary_search(&ring.cpu).is_err();
        for ring in self.rings.extract_if(.., is_over) {
            scratch.clear();
            let CpuRing { mut ring, mut symbol, .. } = ring;
            ring.read(&mut scratch);
            self.lost += decode(&scratch, &mut symbol, &mut self.held);
        }
        self.scratch = scratch;
        let mut result = Ok(());
        for &cpu in &online {
            if self.rings.iter().any(|ring| ring.cpu == cpu) {
                continue;
            }
            match self.add(cpu) {
                // It went offline in the meantime.
                Ok(()) | Err(Error { errno: Errno::ENODEV, .. }) => {}
                Err(error) => result = Err(error),
            }
        }
        if result.is_ok() {
            self.online = online;
        }
        result
    }

    fn add(&mut self, cpu: u32) -> Result<()> {
        let ring = PerfRing::open(cpu, self.bytes)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, cpu.into());
        self.epoll.add(&ring, event).map_err(failed("epoll_ctl"))?;
        self.rings.push(CpuRing { cpu, ring, symbol: None });
        Ok(())
    }

    /// Takes note of what woke the waiting thread: without that it would be woken again at once.
    pub(crate) fn acknowledge(&mut self) {
        let mut events = [EpollEvent::empty(); 64];
        let count = self.epoll.wait(&mut events, 0_u8).unwrap_or(0);
        for event in &events[..count] {
            if event.events().intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
                // Nothing comes from it any more: its CPU is offline.
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
        let newest = records.iter().map(|record| record.at).max();
        self.read_rings(&mut records);
        records.sort_by_key(|record| record.at);
        let settled = records.partition_point(|record| Some(record.at) <= newest);
        self.held = records.split_off(settled);
        (records, std::mem::take(&mut self.lost))
    }

    /// Returns whether records are kept for the next call of [`Self::read`].
    pub(crate) fn has_held(&self) -> bool {
        !self.held.is_empty()
    }

    fn read_rings(&mut self, records: &mut Vec<ProgramRecord>) {
        let Self { rings, scratch, lost, .. } = self;
        for CpuRing { ring, symbol, .. } in rings {
            scratch.clear();
            ring.read(scratch);
            *lost += decode(scratch, symbol, records);
        }
    }
}

/// Returns how long the host has slept since its boot: `CLOCK_MONOTONIC` stands still meanwhile.
fn time_asleep() -> Duration {
    let read = |clock: ClockId| clock.now().map_or(Duration::ZERO, Duration::from);
    let awake = read(ClockId::CLOCK_MONOTONIC);
    read(ClockId::CLOCK_BOOTTIME).saturating_sub(awake)
}

/// Returns the CPUs that are online, in ascending order.
fn online(root: &Path) -> Result<Vec<u32>> {
    let text = std::fs::read_to_string(root.join(ONLINE.trim_start_matches('/'))).map_err(failed(ONLINE))?;
    cpus::parse(&text).ok_or(Error::new(ONLINE, Errno::EBADMSG))
}

/// Decodes the records of one CPU and returns how many more there were.
///
/// Source: `enum perf_event_type`, `include/uapi/linux/perf_event.h`. Before a program's record come those of its symbols
/// (`perf_event_bpf_event`, `kernel/events/core.c`), from the same thread: of the program itself, then of its other functions.
fn decode(mut bytes: &[u8], symbol: &mut Option<Symbol>, records: &mut Vec<ProgramRecord>) -> u64 {
    const HEADER: usize = 8;
    const LOST: u32 = 2;
    const KSYMBOL: u32 = 17;
    const BPF_EVENT: u32 = 18;
    let mut lost = 0_u64;
    while let Some(header) = bytes.get(..HEADER) {
        let (kind, len) = (number(header, 0), usize::from(u16::from_ne_bytes([header[6], header[7]])));
        // A record is at least as long as its header: another length would be no record of the kernel's.
        let Some(record) = bytes.get(..len).filter(|record| record.len() >= HEADER) else { break };
        bytes = &bytes[len..];
        match kind {
            LOST => {
                // What the symbol belongs to may be among them.
                *symbol = None;
                lost = lost.saturating_add(long(record, 16));
            }
            KSYMBOL => {
                let thread = number(record, len.saturating_sub(12));
                let name = record.get(24..).unwrap_or_default();
                let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
                let is_first = symbol.as_ref().is_none_or(|before| before.thread != thread);
                if let Some(name) = program_name(&name[..end]).filter(|_| is_first) {
                    *symbol = Some(Symbol { thread, name: printable(name) });
                }
            }
            BPF_EVENT => {
                let thread = number(record, len.saturating_sub(12));
                let symbol = symbol.take().filter(|symbol| symbol.thread == thread);
                records.extend(program(record, symbol.map(|symbol| symbol.name)));
            }
            _ => {}
        }
    }
    lost
}

/// Decodes the record of a program; `None` if it is another change than a load or an unload.
fn program(record: &[u8], name: Option<String>) -> Option<ProgramRecord> {
    const LOAD: u16 = 1;
    const UNLOAD: u16 = 2;
    /// Header, type and flags, id and tag; thread and time.
    const LEN: usize = 8 + 4 + 4 + 8 + 8 + 8;
    let record: &[u8; LEN] = record.get(..LEN)?.try_into().ok()?;
    let change = u16::from_ne_bytes([record[8], record[9]]);
    // Of a task that is about to end, or that the pid namespace does not have.
    let visible = |pid: u32| (pid != 0 && pid != u32::MAX).then_some(pid);
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
        name: name.filter(|name| !name.is_empty()),
    })
}

/// Returns the name in the symbol of a program, `bpf_prog_TAG_NAME`; `None` for other symbols, such as trampolines.
///
/// Source: `bpf_prog_ksym_set_name`, `kernel/bpf/core.c`.
fn program_name(symbol: &[u8]) -> Option<&[u8]> {
    const TAG_DIGITS: usize = 16;
    let (tag, name) = symbol.strip_prefix(b"bpf_prog_")?.split_at_checked(TAG_DIGITS)?;
    let is_tag = tag.iter().all(u8::is_ascii_hexdigit);
    match name.split_first() {
        None if is_tag => Some(b""),
        Some((b'_', name)) if is_tag => Some(name),
        _ => None,
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
    decode(bytes, &mut None, &mut records);
    assert!(records.len() <= bytes.len() / 40);
    let _any = std::str::from_utf8(bytes).ok().and_then(cpus::parse);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of a thread, at 5 ns.
    fn record(kind: u32, body: &[u8], thread: u32) -> Vec<u8> {
        let len = u16::try_from(8 + body.len() + 16).expect("it is short");
        let header = [&kind.to_ne_bytes()[..], &[0; 2], &len.to_ne_bytes()].concat();
        let sample = [&7_u32.to_ne_bytes()[..], &thread.to_ne_bytes(), &5_u64.to_ne_bytes()].concat();
        [&header, body, &sample].concat()
    }

    fn change(change: u16, id: u32, thread: u32) -> Vec<u8> {
        let body = [&change.to_ne_bytes()[..], &[0; 2], &id.to_ne_bytes(), &[0xab; 8]].concat();
        record(18, &body, thread)
    }

    fn symbol(name: &str, thread: u32) -> Vec<u8> {
        let mut name = name.as_bytes().to_vec();
        name.resize(name.len() / 8 * 8 + 8, 0);
        record(17, &[&[0; 16][..], &name].concat(), thread)
    }

    fn lost(count: u64) -> Vec<u8> {
        record(2, &[3_u64.to_ne_bytes(), count.to_ne_bytes()].concat(), 0)
    }

    /// Returns id and name of each program, and the number of lost records.
    fn decoded(parts: &[Vec<u8>]) -> (Vec<(u32, Option<String>)>, u64) {
        let (mut records, mut symbol, mut lost) = (Vec::new(), None, 0);
        // A ring can be read between any two records.
        for part in parts {
            lost += decode(part, &mut symbol, &mut records);
        }
        (records.into_iter().map(|record| (record.id, record.name)).collect(), lost)
    }

    #[test]
    fn a_record_has_program_actor_and_time() {
        let mut records = Vec::new();
        let bytes = [change(1, 17, 8), change(2, 17, 0), change(3, 17, 8)].concat();
        assert_eq!(decode(&bytes, &mut None, &mut records), 0);
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
        assert_eq!(records, [load, unload], "another change is neither");
    }

    #[test]
    fn a_program_has_the_name_of_its_first_symbol() {
        let prog = |name| format!("bpf_prog_0123456789abcdef{name}");
        let parts = [
            symbol(&prog("_trace_open"), 8),
            symbol(&prog("_helper"), 8),
            symbol("bpf_trampoline_6442500000", 8),
            change(1, 17, 8),
            change(1, 18, 8),
            symbol(&prog(""), 8),
            change(1, 19, 8),
            symbol(&prog("_of_another"), 9),
            change(1, 20, 8),
        ];
        let names = [Some("trace_open".to_owned()), None, None, None];
        assert_eq!(decoded(&parts), ((17..).zip(names).collect(), 0));
    }

    #[test]
    fn what_was_lost_is_counted_and_gives_no_name() {
        let parts = [symbol("bpf_prog_0123456789abcdef_gone", 8), lost(3), change(1, 17, 8), lost(4)];
        assert_eq!(decoded(&parts), (vec![(17, None)], 7));
    }
}
