//! Limits of a scan. In a bpffs of mode 1777 anybody can create any number of directories, at any depth.
//! Entry point: [`Budget`].

use std::time::Duration;

use nix::errno::Errno;

use crate::host::clock::cpu_time;
use crate::sys::Error;

/// Directories of one bpffs that a scan reads, and pins: twice what the largest known host has of maps and programs.
const MAX_ENTRIES: usize = 1 << 16;

/// Memory for these directories with their names, and for these pins with their paths.
const MAX_BYTES: usize = 8 << 20;

/// CPU time of a scan, shared by all bpffs. Not the time that passes: a busy host takes longer for the same work.
const MAX_CPU_TIME: Duration = Duration::from_secs(1);

/// Number of entries between two looks at the clock.
const ENTRIES_PER_LOOK: usize = 256;

/// The call of issues about what was left out.
const CALL: &str = "bpffs_scan";

/// The CPU time of a scan.
#[derive(Debug)]
pub(crate) struct CpuTime {
    end: Duration,
}

impl CpuTime {
    /// Starts to count, in the thread of the scan.
    pub(crate) fn start() -> Self {
        Self { end: cpu_time() + MAX_CPU_TIME }
    }

    /// Returns the budget of the next bpffs, of `remaining` ones: an equal share of the time that is left.
    pub(crate) fn budget(&self, remaining: usize) -> Budget {
        let now = cpu_time();
        let share = self.end.saturating_sub(now) / u32::try_from(remaining.max(1)).unwrap_or(u32::MAX);
        Budget {
            start: now,
            end: now + share,
            looks: 0,
            directories: Room::default(),
            pins: Room::default(),
            too_many: 0,
            too_late: 0,
        }
    }
}

/// What remains for one bpffs.
#[derive(Debug)]
pub(crate) struct Budget {
    start: Duration,
    end: Duration,
    /// Number of calls of [`Self::is_over_soon`].
    looks: usize,
    directories: Room,
    pins: Room,
    too_many: u64,
    too_late: u64,
}

/// What is taken by entries of a type. Each type has as much room, so that directories do not displace pins.
#[derive(Debug, Default)]
struct Room {
    entries: usize,
    bytes: usize,
}

/// Type of an entry.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EntryType {
    Directory,
    Pin,
}

impl Budget {
    /// Takes room for an entry of this size. Returns false, and counts it as left out, if there is none.
    ///
    /// What led to pins in the last scan, and they, have as much room again: new entries do not displace them.
    pub(crate) fn take(&mut self, entry: EntryType, bytes: usize, known: bool) -> bool {
        let room = match entry {
            EntryType::Directory => &mut self.directories,
            EntryType::Pin => &mut self.pins,
        };
        let times = if known { 2 } else { 1 };
        let fits = room.entries < MAX_ENTRIES * times && room.bytes + bytes <= MAX_BYTES * times;
        if fits {
            room.entries += 1;
            room.bytes += bytes;
        } else {
            self.too_many += 1;
        }
        fits
    }

    /// Returns whether the time is over.
    pub(crate) fn is_over(&self) -> bool {
        cpu_time() >= self.end
    }

    /// As [`Self::is_over`], for cheap entries: looks at the clock now and then.
    pub(crate) fn is_over_soon(&mut self) -> bool {
        self.looks += 1;
        self.looks.is_multiple_of(ENTRIES_PER_LOOK) && self.is_over()
    }

    /// Returns the time that was taken.
    pub(crate) fn taken(&self) -> Duration {
        cpu_time().saturating_sub(self.start)
    }

    /// Counts entries that were left out for want of time.
    pub(crate) fn too_late(&mut self, entries: usize) {
        self.too_late += entries as u64;
    }

    /// Returns what was left out: errors, and the number of entries for each. Entries below them are unknown.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = (Error, u64)> {
        let counts = [(Errno::E2BIG, self.too_many), (Errno::ETIME, self.too_late)];
        counts
            .into_iter()
            .filter(|&(_, count)| count > 0)
            .map(|(errno, count)| (Error::new(CALL, errno), count))
    }
}

#[cfg(test)]
mod tests {
    use super::EntryType::{Directory, Pin};
    use super::*;

    #[test]
    fn entries_bytes_and_time_are_bounded() {
        let mut budget = CpuTime::start().budget(1);
        let taken = (0..MAX_ENTRIES + 5).filter(|_| budget.take(Directory, 1, false)).count();
        assert_eq!(taken, MAX_ENTRIES);
        assert!(budget.take(Pin, 1, false), "pins have room of their own");
        assert!(budget.take(Directory, 1, true), "what is known has room of its own");
        let known = 1 + (0..2 * MAX_ENTRIES).filter(|_| budget.take(Directory, 1, true)).count();
        assert_eq!(known, MAX_ENTRIES, "which is bounded as well");
        let left_out: Vec<_> = budget.left_out().collect();
        let expected = 5 + (1 + 2 * MAX_ENTRIES - known) as u64;
        assert_eq!(left_out, [(Error::new(CALL, Errno::E2BIG), expected)]);

        let mut budget = CpuTime::start().budget(1);
        assert!(
            budget.take(Directory, MAX_BYTES, false)
                && !budget.take(Directory, 1, false)
                && !budget.is_over()
        );
        let mut none = CpuTime { end: Duration::ZERO }.budget(1);
        assert!(none.is_over() && (0..ENTRIES_PER_LOOK).any(|_| none.is_over_soon()));
        none.too_late(3);
        assert_eq!(none.left_out().collect::<Vec<_>>(), [(Error::new(CALL, Errno::ETIME), 3)]);
    }

    #[test]
    fn each_file_system_has_a_share_of_the_time_that_remains() {
        let time = CpuTime::start();
        let (third, all) = (time.budget(3), time.budget(1));
        let now = cpu_time();
        assert!(third.end < now + MAX_CPU_TIME / 3 && all.end > now + MAX_CPU_TIME / 2);
    }
}
