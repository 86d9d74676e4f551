//! The files of processes, as the iterators tell those that are descriptors of BPF objects.
//! Knows nothing of `/proc`, and of processes only what the kernel tells beside their files. Begin at [`Files::detect`].

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use zerocopy::FromBytes;

use super::Table;
use super::records::{FileKinds, FileRecord, ProcessRecord, RestRecord, WalkState, file_kind};
use crate::host::clock;
use crate::host::issues::Issues;
use crate::host::procfs::merge_by_pid;
use crate::host::text::printable;
use crate::kernel::backend::Refusal;
use crate::model::{Kind, ProcessFiles};
use crate::sys::bpf as sys;
use crate::sys::{Error, Result};

/// The descriptors of all processes in our pid namespace.
#[derive(Debug)]
pub(crate) struct Files {
    table: Table,
    /// Where the next walk starts, and the map that holds it for the program.
    from: WalkState,
    state: OwnedFd,
    /// The resolution of start times, as in `/proc`.
    tick: u64,
}

/// Maps that parametrise the iterator over descriptors.
pub(crate) struct FileMaps {
    /// How files of each kind are recognised.
    pub(crate) kinds: OwnedFd,
    /// Where a walk starts.
    pub(crate) state: OwnedFd,
}

impl Files {
    /// Has the program detect which files are descriptors of each kind of object, by descriptors of this process: of the program, of
    /// its map, of its link and of a BTF object.
    ///
    /// It has to be the thread that the descriptors belong to.
    pub(crate) fn detect(
        table: Table,
        maps: FileMaps,
        program: BorrowedFd<'_>,
        btf: BorrowedFd<'_>,
    ) -> Result<Self, Refusal> {
        let sample_fds =
            [program.as_raw_fd(), maps.kinds.as_raw_fd(), table.link.as_raw_fd(), btf.as_raw_fd()];
        let request = FileKinds { release_ops: [0; file_kind::KINDS as usize], sample_fds };
        sys::update_map(maps.kinds.as_fd(), 0, &request)
            .map_err(|error| Refusal::new(error, format!("a map cannot be filled: {}", error.errno)))?;
        let mut files = Self { table, from: WalkState::default(), state: maps.state, tick: clock::tick() };
        let mut detected = [false; file_kind::KINDS as usize];
        let run = files.walk(|process, file| {
            if let Some(detected) = detected.get_mut(file.kind as usize) {
                *detected |= process.own != 0;
            }
        });
        run.map_err(|error| {
            let why = format!("the iterator over the files of processes cannot be read: {}", error.errno);
            Refusal::new(error, why)
        })?;
        detected.iter().all(|&detected| detected).then_some(files).ok_or_else(|| {
            let why = "the iterator over the files of processes does not report those of this process";
            Refusal::new(Error::new("read", Errno::ENOENT), why)
        })
    }

    /// The processes that have descriptors of objects, in ascending order of pids; of our own, only those of objects that are
    /// `kept`. `None`, and an issue, when that fails.
    pub(crate) fn read(&mut self, kept: &[(Kind, u32)], issues: &mut Issues) -> Option<Vec<ProcessFiles>> {
        let mut found = Found { processes: Vec::new(), last: None, kept, tick: self.tick };
        let run = self.walk(|process, file| found.file(process, file));
        run.map_err(|error| issues.record(self.table.part, error)).ok()?;
        Some(merge_by_pid(found.processes))
    }

    /// Has all files of objects told, with the process of each; or the call that failed, and why.
    fn walk(&mut self, mut file: impl FnMut(&ProcessRecord, FileRecord)) -> Result<()> {
        let mut stream = Stream::default();
        // Only of a process with thousands of descriptors there is more than can be told at once.
        let mut next = Some(WalkState::default());
        while let Some(from) = next {
            self.begin_at(from)?;
            self.table.run(|bytes| stream.take(bytes, &mut file))?;
            next = stream.rest.take();
        }
        Ok(())
    }

    /// Says where the next walk begins.
    fn begin_at(&mut self, from: WalkState) -> Result<()> {
        if self.from != from {
            sys::update_map(self.state.as_fd(), 0, &from)?;
            self.from = from;
        }
        Ok(())
    }
}

/// What the programs write, record by record.
#[derive(Default)]
struct Stream {
    /// What the next files belong to.
    process: Option<ProcessRecord>,
    /// Where there was no room for more.
    rest: Option<WalkState>,
}

impl Stream {
    /// Takes the whole records at the beginning of these bytes, and says how many bytes those were.
    fn take(&mut self, bytes: &[u8], mut file: impl FnMut(&ProcessRecord, FileRecord)) -> usize {
        let mut left = bytes;
        while let Ok((kind, _)) = u32::read_from_prefix(left) {
            left = match kind {
                file_kind::PROCESS => {
                    let Ok((process, left)) = ProcessRecord::read_from_prefix(left) else { break };
                    self.process = Some(process);
                    left
                }
                file_kind::REST => {
                    let Ok((rest, left)) = RestRecord::read_from_prefix(left) else { break };
                    self.rest = Some(WalkState { from_task: rest.task, from_fd: rest.fd, interrupted: 0 });
                    left
                }
                _ => {
                    let Ok((record, left)) = FileRecord::read_from_prefix(left) else { break };
                    if let Some(process) = &self.process {
                        file(process, record);
                    }
                    left
                }
            };
        }
        bytes.len() - left.len()
    }
}

/// What a run over the table found so far.
struct Found<'a> {
    processes: Vec<ProcessFiles>,
    /// The pid and the start time of the last of them.
    last: Option<(u32, u64)>,
    kept: &'a [(Kind, u32)],
    tick: u64,
}

impl Found<'_> {
    fn file(&mut self, process: &ProcessRecord, file: FileRecord) {
        // An object that is being made or ended has no id.
        let Some(object) = kind(file.kind).map(|kind| (kind, file.id)).filter(|&(_, id)| id != 0) else {
            return;
        };
        if process.own == 0 || self.kept.contains(&object) {
            self.process(process).objects.push(object);
        }
    }

    /// The process of a record. One with a thread that has files of its own comes twice, and one with many files.
    fn process(&mut self, record: &ProcessRecord) -> &mut ProcessFiles {
        let process = (record.pid, record.start_time);
        if self.last != Some(process) {
            self.last = Some(process);
            self.processes.push(ProcessFiles {
                pid: record.pid,
                started_at_boot_ns: record.start_time - record.start_time % self.tick,
                name: printable(&record.name),
                cgroup: Some(record.cgroup).filter(|&id| id != 0),
                objects: Vec::new(),
            });
        }
        self.processes.last_mut().expect("there is one by now")
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes as _;

    use super::*;

    const TICK: u64 = 10_000_000;

    /// A descriptor of a process.
    #[derive(Clone, Copy)]
    struct File {
        process: ProcessRecord,
        record: FileRecord,
    }

    fn file(pid: u32, kind: u32, id: u32) -> File {
        let start_time = 12_345_678_901 + u64::from(pid);
        let mut name = [0; 16];
        name[..4].copy_from_slice(b"some");
        let process =
            ProcessRecord { kind: file_kind::PROCESS, pid, own: 0, padding: 0, start_time, cgroup: 7, name };
        File { process, record: FileRecord { kind, id } }
    }

    /// What the programs write of these: of processes one after the other, as often as another begins.
    fn written(files: &[File]) -> Vec<u8> {
        let same = |first: &File, second: &File| first.process.as_bytes() == second.process.as_bytes();
        let of_process = |files: &[File]| {
            let records = files.iter().flat_map(|file| file.record.as_bytes().to_vec());
            files[0].process.as_bytes().iter().copied().chain(records).collect::<Vec<u8>>()
        };
        files.chunk_by(same).flat_map(of_process).collect()
    }

    /// What is found in bytes that come in these pieces, and whether all of them were taken.
    fn found_in(pieces: [&[u8]; 2], kept: &[(Kind, u32)]) -> (Vec<ProcessFiles>, bool) {
        let mut found = Found { processes: Vec::new(), last: None, kept, tick: TICK };
        let (mut stream, mut left) = (Stream::default(), Vec::new());
        for piece in pieces {
            left.extend_from_slice(piece);
            let taken = stream.take(&left, |process, file| found.file(process, file));
            left.drain(..taken);
        }
        (merge_by_pid(found.processes), left.is_empty())
    }

    fn found(files: &[File], kept: &[(Kind, u32)]) -> Vec<ProcessFiles> {
        let (found, whole) = found_in([&written(files), &[]], kept);
        assert!(whole);
        found
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
        let mut unknown = file(9, file_kind::MAP, 3);
        unknown.process.cgroup = 0;
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
        let own = |kind, id| {
            let mut file = file(9, kind, id);
            file.process.own = 1;
            file
        };
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
        let mut later = file(9, file_kind::MAP, 3);
        later.process.start_time = 99 * TICK;
        assert_eq!(found(&[file(9, file_kind::MAP, 3), later], &[]).len(), 2);
    }

    #[test]
    fn where_there_was_no_room_the_next_walk_begins() {
        let rest = RestRecord { kind: file_kind::REST, task: 9, fd: 128, padding: 0 };
        let mut stream = Stream::default();
        assert_eq!(stream.take(rest.as_bytes(), |_, _| panic!("it is no file")), size_of_val(&rest));
        assert_eq!(stream.rest, Some(WalkState { from_task: 9, from_fd: 128, interrupted: 0 }));
    }

    proptest! {
        #[test]
        fn anything_is_read_without_harm(stream: Vec<u8>) {
            let taken = Stream::default().take(&stream, |_, _| {});
            prop_assert!(stream.len() - taken < size_of::<ProcessRecord>());
        }

        #[test]
        fn records_that_are_cut_anywhere_are_those_that_are_whole(
            files in prop::collection::vec((1_u32..4, 0_u32..4, 1_u32..4), 0..20),
            cut: prop::sample::Index,
        ) {
            let files: Vec<_> = files.into_iter().map(|(pid, kind, id)| file(pid, kind, id)).collect();
            let bytes = written(&files);
            let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
            let (processes, whole) = found_in([first, second], &[]);
            prop_assert!(whole);
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
