//! What could not be read, counted for one reading and since the start.

use std::borrow::Cow;
use std::io;

use nix::errno::Errno;

use crate::model::{Issue, Part};

/// The issues met so far. One that was met stays, so that its count never goes back.
#[derive(Debug, Default)]
pub(crate) struct Issues {
    met: Vec<Issue>,
}

impl Issues {
    /// Begins a new reading.
    pub(crate) fn begin(&mut self) {
        for issue in &mut self.met {
            issue.count = 0;
        }
    }

    /// Counts one.
    pub(crate) fn met(&mut self, part: impl Into<Part>, call: &'static str, errno: Errno) {
        self.met_times(part, call, errno, 1);
    }

    /// Counts some that were met since the last reading.
    pub(crate) fn met_times(&mut self, part: impl Into<Part>, call: &'static str, errno: Errno, times: u64) {
        let part = part.into();
        let error = format!("{errno:?}");
        let same = |issue: &&mut Issue| issue.part == part && issue.call == call && issue.error == error;
        if let Some(issue) = self.met.iter_mut().find(same) {
            issue.count += times;
            issue.total += times;
        } else {
            self.met.push(Issue {
                part,
                call: Cow::Borrowed(call),
                error: Cow::Owned(error),
                count: times,
                total: times,
            });
        }
    }

    /// Counts those that were met elsewhere, each as often as it was met there in the last reading.
    pub(crate) fn take_over(&mut self, others: &Self) {
        for other in others.met.iter().filter(|other| other.count > 0) {
            let same = |issue: &&mut Issue| {
                issue.part == other.part && issue.call == other.call && issue.error == other.error
            };
            if let Some(issue) = self.met.iter_mut().find(same) {
                issue.count += other.count;
                issue.total += other.count;
            } else {
                self.met.push(Issue { total: other.count, ..other.clone() });
            }
        }
    }

    /// Whether a collector met any in this reading.
    pub(crate) fn any(&self, part: impl Into<Part>) -> bool {
        let part = part.into();
        self.met.iter().any(|issue| issue.part == part && issue.count > 0)
    }

    pub(crate) fn all(&self) -> &[Issue] {
        &self.met
    }
}

/// The kernel's error behind one of the standard library's; `EIO` for one that did not come from the kernel.
pub(crate) fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    #[test]
    fn an_issue_is_counted_for_the_reading_and_since_the_start() {
        let mut issues = Issues::default();
        issues.met(Kind::Map, "BPF_MAP_GET_FD_BY_ID", Errno::EPERM);
        issues.begin();
        issues.met(Kind::Map, "BPF_MAP_GET_FD_BY_ID", Errno::EPERM);
        issues.met(Kind::Map, "BPF_MAP_GET_FD_BY_ID", Errno::EMFILE);
        let counts: Vec<_> =
            issues.all().iter().map(|issue| (&*issue.error, issue.count, issue.total)).collect();
        assert_eq!(counts, [("EPERM", 1, 2), ("EMFILE", 1, 1)]);
        assert!(issues.any(Kind::Map) && !issues.any(Kind::Program));
        issues.begin();
        assert!(!issues.any(Kind::Map), "nothing was met in this reading");
    }

    #[test]
    fn issues_met_elsewhere_are_counted_here() {
        let (mut issues, mut others) = (Issues::default(), Issues::default());
        issues.met(Kind::Map, "open", Errno::EPERM);
        others.met(Kind::Map, "open", Errno::EPERM);
        others.begin();
        issues.take_over(&others);
        others.met_times(Kind::Map, "open", Errno::EPERM, 2);
        others.met(Kind::Link, "open", Errno::EPERM);
        issues.take_over(&others);
        let counts: Vec<_> =
            issues.all().iter().map(|issue| (issue.part, issue.count, issue.total)).collect();
        assert_eq!(counts, [(Kind::Map.into(), 3, 3), (Kind::Link.into(), 1, 1)]);
    }
}
