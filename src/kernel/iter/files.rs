//! The files of processes, as the iterator tells those that are descriptors of BPF objects.
//! Knows nothing of `/proc`, and of processes only what the kernel tells beside their files. Begin at [`Files::learn`].

use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use zerocopy::FromBytes;

use super::Table;
use super::load::not_filled;
use super::records::{FileKinds, FileRecord, file_kind};
use crate::kernel::issues::Issues;
use crate::kernel::road::Refusal;
use crate::kernel::{ProcessFiles, clock, names, sys};
use crate::model::Kind;

/// A BTF object of one type, `int`: header, type and names (`Documentation/bpf/btf.rst`).
const INT: &[u32] = &[
    // Magic number, version and flags; the lengths of the header, the types and the names, each with its place.
    0x0001_eb9f,
    24,
    0,
    16,
    16,
    8,
    // Its name's place; an integer; of 4 bytes; signed, of 32 bits.
    1,
    1 << 24,
    4,
    1 << 24 | 32,
    // "\0int\0" in the order of bytes that the magic number has.
    u32::from_ne_bytes(*b"\0int"),
    0,
];

/// The files of all processes in our pid namespace.
#[derive(Debug)]
pub(in crate::kernel) struct Files {
    table: Table,
    /// To which times are rounded, as `/proc` does.
    tick: u64,
}

impl Files {
    /// Has the program learn from descriptors of this process what the files of each kind of object are. `kinds` is the map
    /// that it keeps this in. Where no BTF object can be made for that, theirs stay unknown.
    ///
    /// It has to be the thread that the descriptors belong to.
    pub(super) fn learn(table: Table, kinds: &OwnedFd, program: BorrowedFd<'_>) -> Result<Self, Refusal> {
        let btf = sys::load_btf(zerocopy::IntoBytes::as_bytes(INT));
        if let Err(errno) = &btf {
            tracing::debug!("who holds BTF objects cannot be told: {errno}");
        }
        let learn_from = [
            program.as_raw_fd(),
            kinds.as_raw_fd(),
            table.link.as_raw_fd(),
            btf.as_ref().map_or(-1, AsRawFd::as_raw_fd),
        ];
        let request = FileKinds { releases: [0; file_kind::KINDS as usize], learn_from };
        sys::update_map(kinds.as_fd(), 0, &request).map_err(not_filled)?;
        let mut files = Self { table, tick: clock::tick() };
        let mut told = [false; file_kind::KINDS as usize];
        let run = files.table.run(|bytes| {
            let (taken, records) = records(bytes);
            for record in records.filter(|record| record.own != 0) {
                if let Some(told) = told.get_mut(record.kind as usize) {
                    *told = true;
                }
            }
            taken
        });
        run.map_err(|(call, errno)| Refusal {
            call,
            errno,
            text: format!("the iterator iter/task_file cannot be read: {errno}"),
        })?;
        let learnt = told.iter().zip(learn_from).all(|(&told, fd)| told || fd < 0);
        learnt.then_some(files).ok_or_else(|| Refusal {
            call: "read",
            errno: Errno::ENOENT,
            text: "the iterator iter/task_file does not tell the files of this process".to_owned(),
        })
    }

    /// The processes that have descriptors of objects, in ascending order of pids; of our own, only those of objects that are
    /// `kept`. `None`, and an issue, when that fails.
    pub(in crate::kernel) fn read(
        &mut self,
        kept: &[(Kind, u32)],
        issues: &mut Issues,
    ) -> Option<Vec<ProcessFiles>> {
        let mut found = Found { processes: Vec::new(), kept, tick: self.tick };
        self.table.read(issues, |bytes| found.take(bytes))?;
        Some(in_order(found.processes))
    }
}

/// What a run over the table found so far.
struct Found<'a> {
    processes: Vec<ProcessFiles>,
    kept: &'a [(Kind, u32)],
    tick: u64,
}

impl Found<'_> {
    /// Takes the descriptors at the beginning of these bytes, and says how many bytes those were.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let (taken, records) = records(bytes);
        for record in records {
            // An object that is being made or ended has no id.
            let Some(object) = kind(record.kind).map(|kind| (kind, record.id)).filter(|&(_, id)| id != 0)
            else {
                continue;
            };
            if record.own == 0 || self.kept.contains(&object) {
                self.process(&record).objects.push(object);
            }
        }
        taken
    }

    /// The process of a record. One whose thread has files of its own comes twice.
    fn process(&mut self, record: &FileRecord) -> &mut ProcessFiles {
        let started_at_boot_ns = record.start_time - record.start_time % self.tick;
        let same =
            |last: &ProcessFiles| (last.pid, last.started_at_boot_ns) == (record.pid, started_at_boot_ns);
        if !self.processes.last().is_some_and(same) {
            self.processes.push(ProcessFiles {
                pid: record.pid,
                started_at_boot_ns,
                name: names::text(&record.name),
                cgroup: Some(record.cgroup).filter(|&id| id != 0),
                objects: Vec::new(),
            });
        }
        self.processes.last_mut().expect("there is one by now")
    }
}

/// The whole records in these bytes, and how many bytes those are.
fn records(bytes: &[u8]) -> (usize, impl Iterator<Item = FileRecord>) {
    let whole = bytes.chunks_exact(size_of::<FileRecord>());
    let taken = bytes.len() - whole.remainder().len();
    (taken, whole.filter_map(|record| FileRecord::read_from_bytes(record).ok()))
}

fn kind(number: u32) -> Option<Kind> {
    Some(match number {
        file_kind::PROGRAM => Kind::Program,
        file_kind::MAP => Kind::Map,
        file_kind::LINK => Kind::Link,
        file_kind::BTF => Kind::Btf,
        _ => return None,
    })
}

/// Each process once, in ascending order of pids, with each of its objects once. What is known of it is what was told first.
pub(crate) fn in_order(mut processes: Vec<ProcessFiles>) -> Vec<ProcessFiles> {
    processes.sort_by_key(|process| (process.pid, process.started_at_boot_ns));
    processes.dedup_by(|later, first| {
        let same = (later.pid, later.started_at_boot_ns) == (first.pid, first.started_at_boot_ns);
        if same {
            first.objects.append(&mut later.objects);
        }
        same
    });
    for process in &mut processes {
        process.objects.sort_unstable();
        process.objects.dedup();
    }
    processes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes as _;

    use super::*;

    const TICK: u64 = 10_000_000;

    fn file(pid: u32, kind: u32, id: u32) -> FileRecord {
        let start_time = 12_345_678_901 + u64::from(pid);
        let mut name = [0; 16];
        name[..4].copy_from_slice(b"some");
        FileRecord { pid, kind, id, own: 0, start_time, cgroup: 7, name }
    }

    fn found(records: &[FileRecord], kept: &[(Kind, u32)]) -> Vec<ProcessFiles> {
        let mut found = Found { processes: Vec::new(), kept, tick: TICK };
        assert_eq!(found.take(records.as_bytes()), size_of_val(records));
        in_order(found.processes)
    }

    fn objects(processes: &[ProcessFiles]) -> Vec<(u32, Vec<(Kind, u32)>)> {
        processes.iter().map(|process| (process.pid, process.objects.clone())).collect()
    }

    #[test]
    fn a_process_is_what_was_told_of_it() {
        let process = ProcessFiles {
            pid: 9,
            started_at_boot_ns: 12_340_000_000,
            name: "some".to_owned(),
            cgroup: Some(7),
            objects: vec![(Kind::Map, 3)],
        };
        assert_eq!(found(&[file(9, file_kind::MAP, 3)], &[]), std::slice::from_ref(&process));
        let unknown = FileRecord { cgroup: 0, ..file(9, file_kind::MAP, 3) };
        assert_eq!(found(&[unknown], &[]), [ProcessFiles { cgroup: None, ..process }]);
    }

    #[test]
    fn a_process_is_one_and_holds_an_object_once() {
        let files = [
            file(9, file_kind::MAP, 3),
            file(9, file_kind::BTF, 1),
            file(9, file_kind::MAP, 3),
            file(4, file_kind::LINK, 5),
            // A thread with files of its own.
            file(9, file_kind::PROGRAM, 2),
            file(9, file_kind::MAP, 3),
        ];
        let wanted =
            [(4, vec![(Kind::Link, 5)]), (9, vec![(Kind::Program, 2), (Kind::Map, 3), (Kind::Btf, 1)])];
        assert_eq!(objects(&found(&files, &[])), wanted);
    }

    #[test]
    fn of_our_own_only_what_is_kept_is_held() {
        let own = |kind, id| FileRecord { own: 1, ..file(9, kind, id) };
        let files = [own(file_kind::MAP, 3), own(file_kind::LINK, 4), file(8, file_kind::MAP, 3)];
        let other = (8, vec![(Kind::Map, 3)]);
        assert_eq!(objects(&found(&files, &[])), std::slice::from_ref(&other));
        assert_eq!(objects(&found(&files, &[(Kind::Link, 4)])), [other, (9, vec![(Kind::Link, 4)])]);
    }

    #[test]
    fn what_has_no_id_or_an_unknown_kind_is_left_out() {
        assert_eq!(found(&[file(9, file_kind::MAP, 0), file(9, file_kind::KINDS, 3)], &[]), []);
    }

    #[test]
    fn a_pid_that_is_used_again_is_another_process() {
        let later = FileRecord { start_time: 99 * TICK, ..file(9, file_kind::MAP, 3) };
        assert_eq!(found(&[file(9, file_kind::MAP, 3), later], &[]).len(), 2);
    }

    proptest! {
        #[test]
        fn anything_is_read_without_harm(stream: Vec<u8>) {
            let mut found = Found { processes: Vec::new(), kept: &[], tick: TICK };
            prop_assert!(stream.len() - found.take(&stream) < size_of::<FileRecord>());
        }

        #[test]
        fn records_that_are_cut_anywhere_are_those_that_are_whole(
            files in prop::collection::vec((1_u32..4, 0_u32..4, 1_u32..4), 0..20),
            cut: prop::sample::Index,
        ) {
            let files: Vec<_> = files.into_iter().map(|(pid, kind, id)| file(pid, kind, id)).collect();
            let bytes = files.as_bytes();
            let cut = cut.index(bytes.len() + 1);
            let mut half = Found { processes: Vec::new(), kept: &[], tick: TICK };
            let taken = half.take(&bytes[..cut]);
            prop_assert_eq!(taken, cut - cut % size_of::<FileRecord>());
            half.take(&bytes[taken..]);
            let processes = in_order(half.processes);
            prop_assert_eq!(&processes, &found(&files, &[]));
            for pair in processes.windows(2) {
                prop_assert!(pair[0].pid < pair[1].pid);
            }
            for process in &processes {
                prop_assert!(process.objects.windows(2).all(|pair| pair[0] < pair[1]));
            }
        }
    }
}
