//! Resources that this process uses. Entry point: [`OwnProcessReader::read`].

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};

use super::clock::ProcTime;
use super::kept_file::KeptFile;
use super::procfs::{page_size, stat_field};
use crate::model::OwnProcess;

/// The descriptors of this process, one entry each.
const DESCRIPTORS: &str = "/proc/self/fd";

/// Reads the resources that this process uses.
#[derive(Debug)]
pub struct OwnProcessReader {
    stat: KeptFile,
}

impl Default for OwnProcessReader {
    fn default() -> Self {
        Self { stat: KeptFile::new("/proc/self/stat") }
    }
}

impl OwnProcessReader {
    /// Returns the resources that this process uses now. `None` without `/proc`.
    #[must_use]
    pub fn read(&mut self) -> Option<OwnProcess> {
        let stat = self.stat.read().ok()?;
        let StatFields { cpu_ticks, threads, start_ticks, virtual_memory, resident_pages } =
            stat_fields(&stat)?;
        let proc_time = ProcTime::of_this_process();
        let (max_fds, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
        Some(OwnProcess {
            cpu: Duration::from_nanos(cpu_ticks.saturating_mul(proc_time.tick)),
            resident_memory: resident_pages.saturating_mul(page_size()),
            virtual_memory,
            threads,
            open_fds: open_descriptors()?,
            max_fds,
            started_at: proc_time.moment(start_ticks),
        })
    }
}

/// Returns the number of descriptors of this process. `None` without `/proc`.
///
/// Source: the size of the directory, since 6.2 (`proc_fd_getattr`, `fs/proc/fd.c`), and 0 before.
fn open_descriptors() -> Option<u64> {
    let size = fs::metadata(DESCRIPTORS).ok()?.size();
    if size > 0 { Some(size) } else { listed_descriptors() }
}

/// Counts them in the list.
fn listed_descriptors() -> Option<u64> {
    // The descriptor of the directory itself is one of them.
    Some((fs::read_dir(DESCRIPTORS).ok()?.count() as u64).saturating_sub(1))
}

/// Fields of `/proc/PID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct StatFields {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_memory: u64,
    resident_pages: u64,
}

fn stat_fields(stat: &str) -> Option<StatFields> {
    let field = |number| stat_field(stat.as_bytes(), number);
    Some(StatFields {
        cpu_ticks: field(14)?.checked_add(field(15)?)?,
        threads: field(20)?,
        start_ticks: field(22)?,
        virtual_memory: field(23)?,
        resident_pages: field(24)?,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::hint::black_box;

    use proptest::prelude::*;

    use super::super::clock;
    use super::*;

    #[test]
    fn fields_follow_a_name_of_any_characters() {
        let stat =
            "7 (a) b (c) S 1 7 7 0 -1 4194304 1 0 0 0 21 4 0 0 20 0 3 0 2510 5000 60 18446744073709551615\n";
        let expected = StatFields {
            cpu_ticks: 25,
            threads: 3,
            start_ticks: 2510,
            virtual_memory: 5000,
            resident_pages: 60,
        };
        assert_eq!(stat_fields(stat), Some(expected));
        assert_eq!(stat_fields("7 (a) S 1 7"), None);
    }

    #[test]
    fn resources_grow_as_they_are_used() {
        let mut reader = OwnProcessReader::default();
        let before = reader.read().expect("there is a /proc");
        let files: Vec<_> = (0..50).map(|_| File::open("/dev/null").expect("it can be opened")).collect();
        let memory = black_box(vec![1_u8; 64 << 20]);
        let after = reader.read().expect("there is a /proc");
        // Other tests of this process open and close descriptors, and free memory, too.
        assert!(after.open_fds > 50 && after.open_fds <= after.max_fds, "{after:?}");
        assert!(
            after.resident_memory > 64 << 20 && after.virtual_memory > after.resident_memory,
            "{after:?}"
        );
        assert!(after.threads >= 1 && after.cpu >= before.cpu);
        assert!(after.started_at == before.started_at && after.started_at < clock::now());
        assert!(listed_descriptors() > Some(50), "what kernels before 6.2 need");
        drop((files, memory));
    }

    proptest! {
        #[test]
        fn arbitrary_text_does_not_panic(text in "\\PC{0,80}") {
            stat_fields(&text);
        }
    }
}
