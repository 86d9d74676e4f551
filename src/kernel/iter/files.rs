//! The BPF descriptors of all processes of the host, read by a program that follows the kernel's list of processes.
//! Entry point: [`Files::detect`]. Independent of `/proc` and of our own pid namespace: the records also describe the processes.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use zerocopy::FromBytes;

use super::Table;
use super::records::{EndRecord, FileKinds, FileRecord, ProcessRecord, WalkState, file_kind};
use crate::host::clock::{ProcTime, cpu_time};
use crate::host::issues::Issues;
use crate::host::procfs::merge_by_pid;
use crate::kernel::backend::Refusal;
use crate::model::{BootTime, Kind, ProcessFiles};
use crate::sys::bpf as sys;
use crate::sys::{Error, Result};
use crate::text::printable;

/// CPU time after which a walk ends early, between two iterations. Ten million descriptors take that long; processes that share a
/// descriptor table can make it seem to have more.
const MAX_CPU_TIME: Duration = Duration::from_secs(2);

/// The descriptors of all processes.
#[derive(Debug)]
pub(crate) struct Files {
    table: Table,
    /// The map with the position of the walk.
    state: OwnedFd,
    /// The resolution of start times, as in `/proc`.
    proc_time: ProcTime,
}

/// Maps that parametrise the iterator over descriptors.
pub(crate) struct FileMaps {
    /// How files of each kind are recognised.
    pub(crate) kinds: OwnedFd,
    /// The position of the walk.
    pub(crate) state: OwnedFd,
}

impl Files {
    /// Has the program detect how files of each kind of object are recognised, by sample descriptors of this process: the program,
    /// its map, its link and a BTF object.
    ///
    /// Must be called on a thread that shares these descriptors.
    pub(crate) fn detect(
        table: Table,
        maps: FileMaps,
        program: BorrowedFd<'_>,
        btf: BorrowedFd<'_>,
    ) -> Result<Self, Refusal> {
        let sample_fds =
            [program.as_raw_fd(), maps.kinds.as_raw_fd(), table.link.as_raw_fd(), btf.as_raw_fd()];
        let request = FileKinds { release_ops: [0; file_kind::KINDS as usize], sample_fds, init_task: 0 };
        sys::update_map(maps.kinds.as_fd(), 0, &request)
            .map_err(|error| Refusal::new(error, format!("a map cannot be filled: {}", error.errno)))?;
        let mut files = Self { table, state: maps.state, proc_time: ProcTime::of_this_process() };
        let mut detected = [false; file_kind::KINDS as usize];
        let run = files.walk(|(process, _), file| {
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

    /// Reads the processes that have descriptors of objects, in ascending order of pids; of this process, only those of
    /// `own_objects`. An issue if not every process was read; `None`, and an issue, on failure.
    pub(crate) fn read(
        &mut self,
        own_objects: &[(Kind, u32)],
        issues: &mut Issues,
    ) -> Option<Vec<ProcessFiles>> {
        let mut parser =
            FileParser { processes: Vec::new(), last: None, own_objects, proc_time: self.proc_time };
        let run = self.walk(|process, file| parser.add(process, file));
        let ended = run.map_err(|error| issues.record(self.table.part, error)).ok()?;
        if !ended {
            // There are too many descriptors, processes are created faster than they are read, or the list cannot be followed.
            issues.record(self.table.part, Error::new("task_struct.tasks", Errno::ETIME));
        }
        Some(merge_by_pid(parser.processes))
    }

    /// Calls `file` with each descriptor of an object, its process and the name of that one's executable. Returns whether every
    /// process was visited.
    fn walk(&mut self, mut file: impl FnMut((&ProcessRecord, &[u8]), FileRecord)) -> Result<bool> {
        sys::update_map(self.state.as_fd(), 0, &WalkState::default())?;
        let mut stream = FileStream::default();
        let end = cpu_time() + MAX_CPU_TIME;
        while !stream.ended && cpu_time() < end {
            self.table.run(|bytes| stream.take(bytes, &mut file))?;
        }
        Ok(stream.ended)
    }
}

/// The stream of records that the programs write.
#[derive(Default)]
pub(super) struct FileStream {
    /// The process of the next files, and the name of its executable.
    process: Option<(ProcessRecord, Vec<u8>)>,
    /// Whether the walk has ended.
    ended: bool,
}

impl FileStream {
    /// Takes the complete records at the start of `bytes`, and returns their length.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        mut file: impl FnMut((&ProcessRecord, &[u8]), FileRecord),
    ) -> usize {
        let mut left = bytes;
        while let Ok((kind, _)) = u32::read_from_prefix(left) {
            left = match kind {
                file_kind::PROCESS => {
                    let Ok((process, left)) = ProcessRecord::read_from_prefix(left) else { break };
                    let Some((executable, left)) = left.split_at_checked(process.executable_len as usize)
                    else {
                        break;
                    };
                    self.process = Some((process, executable.to_vec()));
                    left
                }
                file_kind::END => {
                    let Ok((_, left)) = EndRecord::read_from_prefix(left) else { break };
                    self.ended = true;
                    left
                }
                _ => {
                    let Ok((record, left)) = FileRecord::read_from_prefix(left) else { break };
                    if let Some((process, executable)) = &self.process {
                        file((process, executable), record);
                    }
                    left
                }
            };
        }
        bytes.len() - left.len()
    }
}

/// Collects the records of one walk by process.
struct FileParser<'a> {
    processes: Vec<ProcessFiles>,
    /// The pid and the start time of the last of them.
    last: Option<(u32, u64)>,
    own_objects: &'a [(Kind, u32)],
    proc_time: ProcTime,
}

impl FileParser<'_> {
    fn add(&mut self, (process, executable): (&ProcessRecord, &[u8]), file: FileRecord) {
        // An object that is being created or freed has no id.
        let Some(object) = kind(file.kind).map(|kind| (kind, file.id)).filter(|&(_, id)| id != 0) else {
            return;
        };
        if process.own == 0 || self.own_objects.contains(&object) {
            self.process(process, executable).objects.push(object);
        }
    }

    /// Returns the process of a record. A process with many files, or with a thread that has its own, has several records.
    fn process(&mut self, record: &ProcessRecord, executable: &[u8]) -> &mut ProcessFiles {
        let process = (record.pid, record.start_time);
        if self.last != Some(process) {
            self.last = Some(process);
            self.processes.push(ProcessFiles {
                pid: record.pid,
                started_at_boot_ns: self.proc_time.rounded(BootTime(record.start_time)).0,
                name: printable(&record.name),
                executable: (!executable.is_empty()).then(|| printable(executable)),
                cgroup: Some(record.cgroup).filter(|&id| id != 0),
                objects: Vec::new(),
            });
        }
        self.processes.last_mut().expect("it is the last or was just added")
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
    struct Descriptor {
        process: ProcessRecord,
        executable: &'static str,
        record: FileRecord,
    }

    fn file(pid: u32, kind: u32, id: u32) -> Descriptor {
        let start_time = 12_345_678_901 + u64::from(pid);
        let mut name = [0; 16];
        name[..4].copy_from_slice(b"some");
        let executable = "an executable";
        let executable_len = executable.len().try_into().expect("it is short");
        let process = ProcessRecord {
            kind: file_kind::PROCESS,
            pid,
            own: 0,
            executable_len,
            start_time,
            cgroup: 7,
            name,
        };
        Descriptor { process, executable, record: FileRecord { kind, id } }
    }

    /// Returns the stream of these descriptors, with the record of a process before each run of its descriptors.
    fn written(files: &[Descriptor]) -> Vec<u8> {
        let same =
            |first: &Descriptor, second: &Descriptor| first.process.as_bytes() == second.process.as_bytes();
        let of_process = |files: &[Descriptor]| {
            let records = files.iter().flat_map(|file| file.record.as_bytes().to_vec());
            let process = [files[0].process.as_bytes(), files[0].executable.as_bytes()].concat();
            process.into_iter().chain(records).collect::<Vec<u8>>()
        };
        files.chunk_by(same).flat_map(of_process).collect()
    }

    /// Parses a stream in two pieces. Returns also whether all bytes were taken.
    fn parse_pieces(pieces: [&[u8]; 2], own_objects: &[(Kind, u32)]) -> (Vec<ProcessFiles>, bool) {
        let mut parser = FileParser {
            processes: Vec::new(),
            last: None,
            own_objects,
            proc_time: ProcTime { tick: TICK, ahead: 0 },
        };
        let (mut stream, mut left) = (FileStream::default(), Vec::new());
        for piece in pieces {
            left.extend_from_slice(piece);
            let taken = stream.take(&left, |process, file| parser.add(process, file));
            left.drain(..taken);
        }
        (merge_by_pid(parser.processes), left.is_empty())
    }

    fn parse(files: &[Descriptor], own_objects: &[(Kind, u32)]) -> Vec<ProcessFiles> {
        let (processes, all_taken) = parse_pieces([&written(files), &[]], own_objects);
        assert!(all_taken);
        processes
    }

    fn objects(processes: &[ProcessFiles]) -> Vec<(u32, Vec<(Kind, u32)>)> {
        processes.iter().map(|process| (process.pid, process.objects.clone())).collect()
    }

    #[test]
    fn a_record_becomes_a_process() {
        let process = ProcessFiles {
            pid: 9,
            started_at_boot_ns: 12_340_000_000,
            name: "some".to_owned(),
            executable: Some("an executable".to_owned()),
            cgroup: Some(7),
            objects: vec![(Kind::Map, 3)],
        };
        assert_eq!(parse(&[file(9, file_kind::MAP, 3)], &[]), std::slice::from_ref(&process));
        let mut unknown = file(9, file_kind::MAP, 3);
        unknown.process.cgroup = 0;
        (unknown.process.executable_len, unknown.executable) = (0, "");
        assert_eq!(parse(&[unknown], &[]), [ProcessFiles { cgroup: None, executable: None, ..process }]);
    }

    #[test]
    fn records_of_a_process_are_merged_and_objects_are_unique() {
        let files = [
            file(9, file_kind::MAP, 3),
            file(9, file_kind::BTF, 1),
            file(9, file_kind::MAP, 3),
            file(4, file_kind::LINK, 5),
            // A thread with a file table of its own.
            file(9, file_kind::PROGRAM, 2),
            file(9, file_kind::MAP, 3),
        ];
        let expected =
            [(4, vec![(Kind::Link, 5)]), (9, vec![(Kind::Program, 2), (Kind::Map, 3), (Kind::Btf, 1)])];
        assert_eq!(objects(&parse(&files, &[])), expected);
    }

    #[test]
    fn of_our_own_process_only_own_objects_are_reported() {
        let own = |kind, id| {
            let mut file = file(9, kind, id);
            file.process.own = 1;
            file
        };
        let files = [own(file_kind::MAP, 3), own(file_kind::LINK, 4), file(8, file_kind::MAP, 3)];
        let other = (8, vec![(Kind::Map, 3)]);
        assert_eq!(objects(&parse(&files, &[])), std::slice::from_ref(&other));
        assert_eq!(objects(&parse(&files, &[(Kind::Link, 4)])), [other, (9, vec![(Kind::Link, 4)])]);
    }

    #[test]
    fn descriptors_without_an_id_or_of_an_unknown_kind_are_skipped() {
        assert_eq!(parse(&[file(9, file_kind::MAP, 0), file(9, file_kind::KINDS, 3)], &[]), []);
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let mut later = file(9, file_kind::MAP, 3);
        later.process.start_time = 99 * TICK;
        assert_eq!(parse(&[file(9, file_kind::MAP, 3), later], &[]).len(), 2);
    }

    #[test]
    fn a_walk_has_ended_with_its_last_record() {
        let mut stream = FileStream::default();
        let files = written(&[file(9, file_kind::MAP, 3)]);
        stream.take(&files, |_, _| {});
        assert!(!stream.ended);
        let end = EndRecord { kind: file_kind::END, padding: 0 };
        assert_eq!(stream.take(end.as_bytes(), |_, _| panic!("it is no file")), size_of_val(&end));
        assert!(stream.ended);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(stream: Vec<u8>) {
            let taken = FileStream::default().take(&stream, |_, _| {});
            prop_assert!(taken <= stream.len());
        }

        #[test]
        fn records_are_parsed_across_any_cut(
            files in prop::collection::vec((1_u32..4, 0_u32..4, 1_u32..4), 0..20),
            cut: prop::sample::Index,
        ) {
            let files: Vec<_> = files.into_iter().map(|(pid, kind, id)| file(pid, kind, id)).collect();
            let bytes = written(&files);
            let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
            let (processes, all_taken) = parse_pieces([first, second], &[]);
            prop_assert!(all_taken);
            prop_assert_eq!(&processes, &parse(&files, &[]));
            for pair in processes.windows(2) {
                prop_assert!(pair[0].pid < pair[1].pid);
            }
            for process in &processes {
                prop_assert!(process.objects.windows(2).all(|pair| pair[0] < pair[1]));
            }
        }
    }
}
