//! Which process holds which object, and what is known of the processes.
//! Begin at [`Processes::read`].

use crate::kernel::issues::Issues;
use crate::kernel::{ProcessFiles, Reader};
use crate::model::{Process, ReaderKind};

/// Finds out who holds what, and remembers of each process what does not change.
#[derive(Debug, Default)]
pub(super) struct Processes {}

impl Processes {
    /// Which process has descriptors of which objects, in ascending order of pids. `None`, and an issue, when that cannot be
    /// found out.
    pub(super) fn read(
        &mut self,
        reader: &mut Reader,
        _issues: &mut Issues,
    ) -> (ReaderKind, Option<Vec<ProcessFiles>>) {
        (ReaderKind::Iter, reader.files())
    }

    /// What is known of a process, looked up when it is first asked for.
    pub(super) fn describe(&mut self, files: &ProcessFiles) -> Process {
        Process {
            pid: files.pid,
            started_at_boot_ns: files.started_at_boot_ns,
            name: files.name.clone(),
            executable_name: None,
        }
    }

    /// The path of a process's cgroup, for one of which the iterator did not tell the id.
    pub(super) fn cgroup(&mut self, _pid: u32) -> Option<String> {
        None
    }

    /// Forgets those that were not described since the last time.
    pub(super) fn end_reading(&mut self) {}
}
