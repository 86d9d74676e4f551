//! Counts what could not be read, per reading and since the start.
//!
//! Entry point: [`Issues::record`].

use std::borrow::Cow;

use crate::model::{Issue, Part};
use crate::sys::Error;

/// Issues by part and error. An issue is kept once it occurred, so that its total never decreases.
#[derive(Debug, Default)]
pub(crate) struct Issues {
    recorded: Vec<Issue>,
}

impl Issues {
    /// Resets the counts of the current reading. Totals stay.
    pub(crate) fn start_reading(&mut self) {
        for issue in &mut self.recorded {
            issue.count = 0;
        }
    }

    /// Counts an error.
    pub(crate) fn record(&mut self, part: impl Into<Part>, error: Error) {
        self.record_times(part, error, 1);
    }

    /// Counts an error that occurred several times since the last reading.
    pub(crate) fn record_times(&mut self, part: impl Into<Part>, error: Error, times: u64) {
        self.add(Issue {
            part: part.into(),
            call: Cow::Borrowed(error.call),
            error: Cow::Owned(format!("{:?}", error.errno)),
            count: times,
            total: times,
        });
    }

    /// Adds the issues of another collector's last reading.
    pub(crate) fn merge(&mut self, others: &Self) {
        for other in others.recorded.iter().filter(|other| other.count > 0) {
            self.add(Issue { total: other.count, ..other.clone() });
        }
    }

    fn add(&mut self, new: Issue) {
        let same =
            |issue: &&mut Issue| issue.part == new.part && issue.call == new.call && issue.error == new.error;
        match self.recorded.iter_mut().find(same) {
            Some(issue) => {
                issue.count += new.count;
                issue.total += new.count;
            }
            None => self.recorded.push(new),
        }
    }

    /// Returns whether a collector has issues in the current reading.
    pub(crate) fn any(&self, part: impl Into<Part>) -> bool {
        let part = part.into();
        self.recorded.iter().any(|issue| issue.part == part && issue.count > 0)
    }

    /// Returns every issue since the start.
    pub(crate) fn all(&self) -> &[Issue] {
        &self.recorded
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::model::Kind;

    const NOT_PERMITTED: Error = Error::new("BPF_MAP_GET_FD_BY_ID", Errno::EPERM);
    const NO_DESCRIPTOR: Error = Error::new("BPF_MAP_GET_FD_BY_ID", Errno::EMFILE);

    #[test]
    fn issues_are_counted_per_reading_and_in_total() {
        let mut issues = Issues::default();
        issues.record(Kind::Map, NOT_PERMITTED);
        issues.start_reading();
        issues.record(Kind::Map, NOT_PERMITTED);
        issues.record(Kind::Map, NO_DESCRIPTOR);
        let counts: Vec<_> =
            issues.all().iter().map(|issue| (&*issue.error, issue.count, issue.total)).collect();
        assert_eq!(counts, [("EPERM", 1, 2), ("EMFILE", 1, 1)]);
        assert!(issues.any(Kind::Map) && !issues.any(Kind::Program));
        issues.start_reading();
        assert!(!issues.any(Kind::Map), "this reading has no issue");
    }

    #[test]
    fn merged_issues_are_counted_once() {
        let (mut issues, mut others) = (Issues::default(), Issues::default());
        issues.record(Kind::Map, NOT_PERMITTED);
        others.record(Kind::Map, NOT_PERMITTED);
        others.start_reading();
        issues.merge(&others);
        others.record_times(Kind::Map, NOT_PERMITTED, 2);
        others.record(Kind::Link, NOT_PERMITTED);
        issues.merge(&others);
        let counts: Vec<_> =
            issues.all().iter().map(|issue| (issue.part, issue.count, issue.total)).collect();
        assert_eq!(counts, [(Kind::Map.into(), 3, 3), (Kind::Link.into(), 1, 1)]);
    }
}
