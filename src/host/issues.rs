//! What could not be read: failures, per reading and since the start, and what the granted rights and the view do not allow.
//!
//! Entry point: [`Issues::record`].

use std::borrow::Cow;
use std::collections::BTreeMap;

use nix::errno::Errno;

use super::namespaces::Rights;
use crate::model::{Capability, Feature, FeatureState, Issue, Part, Reason};
use crate::sys::Error;

/// Issues by part and error, and limits of features. An issue is kept once it occurred, so that its total never decreases.
#[derive(Debug, Default)]
pub(crate) struct Issues {
    recorded: Vec<Issue>,
    rights: Rights,
    /// Features that are not available in the current reading, with the first of the reasons in the order of [`Reason`]: it does not
    /// depend on the order in which they were met.
    limits: BTreeMap<Feature, Reason>,
}

impl Issues {
    /// Returns no issues. A call that is refused for want of a right which these lack is no issue but limits a feature.
    pub(crate) fn with_rights(rights: Rights) -> Self {
        Self { rights, ..Self::default() }
    }

    /// Resets the counts of the current reading, and its limits. Totals stay.
    pub(crate) fn start_reading(&mut self) {
        self.limits.clear();
        for issue in &mut self.recorded {
            issue.count = 0;
        }
    }

    /// Sets the rights of the current reading.
    pub(crate) fn set_rights(&mut self, rights: Rights) {
        self.rights = rights;
    }

    /// Returns the rights of the current reading.
    pub(crate) fn rights(&self) -> Rights {
        self.rights
    }

    /// Says that a feature is not available in this reading.
    pub(crate) fn limit(&mut self, feature: Feature, reason: Reason) {
        let first = self.limits.entry(feature).or_insert(reason);
        *first = reason.min(*first);
    }

    /// Returns the state of a feature in this reading.
    pub(crate) fn state(&self, feature: Feature) -> FeatureState {
        FeatureState { feature, reason: self.limits.get(&feature).copied() }
    }

    /// Counts an error, or limits a feature if it is the refusal of a call for which a right is missing.
    pub(crate) fn record(&mut self, part: impl Into<Part>, error: Error) {
        self.record_times(part, error, 1);
    }

    /// As [`Self::record`], for an error that occurred several times since the last reading.
    pub(crate) fn record_times(&mut self, part: impl Into<Part>, error: Error, times: u64) {
        let part = part.into();
        if self.is_expected(part, error) {
            return;
        }
        self.add(Issue {
            part,
            call: Cow::Borrowed(error.call),
            error: Cow::Owned(format!("{:?}", error.errno)),
            count: times,
            total: times,
        });
    }

    /// Limits the features that an error makes unavailable for want of a right. Returns whether there is one.
    fn is_expected(&mut self, part: Part, error: Error) -> bool {
        if ![Errno::EPERM, Errno::EACCES].contains(&error.errno) {
            return false;
        }
        let uses = |feature: &Feature| feature.row().parts.contains(&part);
        let mut limited = false;
        for feature in Feature::ALL.into_iter().filter(uses) {
            let refusals = feature.row().refusals.iter();
            let mut needed = refusals.filter(|(call, _)| *call == error.call);
            let may_help = |capability| {
                // The mode of a file is EACCES; EPERM is a filter that refuses the call.
                capability != Capability::DacOverride || error.errno == Errno::EACCES
            };
            let missing = |&(_, capability): &(_, Capability)| {
                self.rights.missing(capability).filter(|_| may_help(capability))
            };
            if let Some(reason) = needed.find_map(missing) {
                self.limit(feature, reason);
                limited = true;
            }
        }
        limited
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

    /// Returns whether a collector met anything in the current reading: an issue, or a limit of one of its features.
    pub(crate) fn concerns(&self, part: impl Into<Part>) -> bool {
        let part = part.into();
        self.any(part) || self.limits.keys().any(|feature| feature.row().parts.contains(&part))
    }

    /// Returns every issue since the start.
    pub(crate) fn all(&self) -> &[Issue] {
        &self.recorded
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_refusal_is_an_issue_only_if_the_right_is_there() {
        const PTRACE: Reason = Reason::Missing(Capability::SysPtrace);
        let refused = Error::new("/proc/PID/fd", Errno::EACCES);
        let mut issues = Issues::with_rights(Rights::only(&[Capability::SysAdmin]));
        issues.record(Part::Holder, refused);
        issues.record(Part::Hook, refused);
        assert_eq!(issues.all(), []);
        let state = |issues: &Issues, feature| issues.state(feature).reason;
        assert_eq!(state(&issues, Feature::Processes), Some(PTRACE));
        assert_eq!(state(&issues, Feature::PerfEventHooks), Some(PTRACE));
        assert_eq!(state(&issues, Feature::Pins), None);
        assert!(issues.concerns(Part::Holder) && !issues.concerns(Part::Pin));
        issues.start_reading();
        assert!(!issues.concerns(Part::Holder), "this reading has no limit");

        for other in [Error::new("/proc/PID/fd", Errno::EMFILE), NOT_PERMITTED] {
            issues.record(Part::Holder, other);
            assert!(issues.any(Part::Holder), "{other} has another cause");
            issues.start_reading();
        }
        issues.record(Kind::Map, NOT_PERMITTED);
        assert!(issues.any(Part::Map), "the right is there");
        issues.set_rights(Rights::only(&[Capability::SysPtrace]));
        issues.record(Part::Holder, refused);
        assert!(issues.any(Part::Holder), "the right is there");
    }

    #[test]
    fn the_reason_of_a_feature_does_not_depend_on_the_order() {
        let missing = Reason::Missing(Capability::DacOverride);
        for reasons in [[Reason::Refused, missing], [missing, Reason::Refused]] {
            let mut issues = Issues::default();
            for reason in reasons {
                issues.limit(Feature::Pins, reason);
            }
            assert_eq!(issues.state(Feature::Pins).reason, Some(missing));
        }
    }
}
