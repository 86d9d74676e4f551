//! Which metrics are exported, by patterns of their names.
//! Entry points: [`MetricFilter::new`] and [`MetricFilter::rows`].

use std::collections::BTreeSet;
use std::sync::Arc;

use super::rules::is_like;
use crate::metrics::{Entity, Metric, Rows, Visitor, prometheus_name, visit};
use crate::model::Part;

/// The metrics that are not exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricFilter {
    /// OTLP names.
    excluded: BTreeSet<&'static str>,
}

impl MetricFilter {
    /// Returns a filter that excludes nothing.
    #[must_use]
    pub const fn none() -> &'static Self {
        static NONE: MetricFilter = MetricFilter { excluded: BTreeSet::new() };
        &NONE
    }

    /// Returns a filter that keeps the metrics that match a pattern of `include` (all if there is none), and no pattern of
    /// `exclude`. A pattern is compared with the OTLP name and with the Prometheus name.
    #[must_use]
    pub fn new(include: &[String], exclude: &[String]) -> Self {
        let any = |patterns: &[String], name: &Name| patterns.iter().any(|pattern| matches(pattern, name));
        let excluded = names().into_iter().filter(|name| {
            let included = include.is_empty() || any(include, name);
            !included || any(exclude, name)
        });
        Self { excluded: excluded.map(|Name { otlp, .. }| otlp).collect() }
    }

    /// Returns a filter that excludes the metrics of the parts of a reading for which `keep` is false.
    #[must_use]
    pub fn of_parts(keep: impl Fn(Part) -> bool) -> Self {
        struct Left<F> {
            keep: F,
            excluded: BTreeSet<&'static str>,
        }
        impl<F: Fn(Part) -> bool> Visitor for Left<F> {
            fn entity<T>(&mut self, entity: &'static Entity<T>, _rows: Rows, _values: Option<&[T]>) {
                if entity.part.is_some_and(|part| !(self.keep)(part)) {
                    self.excluded.extend(entity.metrics.iter().map(|metric| metric.name));
                }
            }
        }
        let mut left = Left { keep, excluded: BTreeSet::new() };
        visit(None, &mut left);
        Self { excluded: left.excluded }
    }

    /// Returns a filter that excludes what either of two does.
    #[must_use]
    pub fn and(self: &Arc<Self>, other: &Arc<Self>) -> Arc<Self> {
        if self.excluded.is_empty() {
            return Arc::clone(other);
        }
        Arc::new(Self { excluded: &self.excluded | &other.excluded })
    }

    /// Returns whether every metric is excluded.
    #[must_use]
    pub fn excludes_all(&self) -> bool {
        names().iter().all(|name| self.excluded.contains(name.otlp))
    }

    /// Returns the number of excluded metrics.
    #[must_use]
    pub fn excluded(&self) -> usize {
        self.excluded.len()
    }

    /// Returns which metrics of an entity are exported.
    pub(in crate::metrics) fn rows<T>(&self, entity: &Entity<T>) -> Rows {
        if self.excluded.is_empty() {
            return Rows::ALL;
        }
        Rows::of(entity.metrics.iter().map(|metric| !self.excluded.contains(metric.name)))
    }
}

/// Returns the OTLP names and the Prometheus names of all metrics.
#[must_use]
pub fn metric_names() -> BTreeSet<String> {
    names().into_iter().flat_map(|name| [name.otlp.to_owned(), name.prometheus]).collect()
}

/// Returns whether a pattern matches a metric at all.
#[must_use]
pub fn is_any_like(pattern: &str) -> bool {
    names().iter().any(|name| matches(pattern, name))
}

fn matches(pattern: &str, name: &Name) -> bool {
    is_like(pattern, name.otlp) || is_like(pattern, &name.prometheus)
}

/// The names of a metric.
struct Name {
    otlp: &'static str,
    /// As on the lines of a scrape.
    prometheus: String,
}

/// Returns the names of all metrics.
fn names() -> Vec<Name> {
    struct Names(Vec<Name>);
    impl Visitor for Names {
        fn entity<T>(&mut self, entity: &'static Entity<T>, _rows: Rows, _values: Option<&[T]>) {
            self.0.extend(entity.metrics.iter().map(|metric: &Metric<T>| Name {
                otlp: metric.name,
                prometheus: prometheus_name::sample(metric.name, metric.unit, metric.kind),
            }));
        }
    }
    let mut names = Names(Vec::new());
    visit(None, &mut names);
    names.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> MetricFilter {
        let owned =
            |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>();
        MetricFilter::new(&owned(include), &owned(exclude))
    }

    #[test]
    fn both_names_match_and_exclusion_wins() {
        assert_eq!(filter(&[], &[]), *MetricFilter::none());
        let only_runs = filter(&["bpf_program_run*"], &["bpf_program_runs_total"]);
        let kept: Vec<_> = names()
            .into_iter()
            .map(|name| name.otlp)
            .filter(|name| !only_runs.excluded.contains(name))
            .collect();
        assert_eq!(kept, ["bpf_program_run_time"]);
        assert_eq!(
            filter(&[], &["bpf_map_fill_ratio"]),
            filter(&[], &["bpf_map_fill"]),
            "the Prometheus name and the OTLP name of one metric"
        );
    }

    #[test]
    fn a_second_filter_brings_nothing_back() {
        let (maps, programs) = (filter(&[], &["bpf_map_*"]), filter(&[], &["bpf_program_*"]));
        let both = Arc::new(maps).and(&programs.into());
        assert_eq!(*both, filter(&[], &["bpf_map_*", "bpf_program_*"]));
        assert_eq!(*both.and(&Arc::default()), *both);
        assert!(filter(&[], &["*"]).excludes_all() && !both.excludes_all());
    }

    #[test]
    fn a_part_has_its_metrics_and_those_of_no_part_stay() {
        let maps = MetricFilter::of_parts(|part| part == Part::Map);
        let kept = |name: &str| !maps.excluded.contains(name);
        assert!(kept("bpf_map_info") && kept("bpf_exporter_build_info"));
        assert!(!kept("bpf_program_info") && !kept("bpf_map_holder_info"), "holders are a part of their own");
        assert_eq!(MetricFilter::of_parts(|_| true), *MetricFilter::none());
        for part in Part::ALL {
            assert_ne!(
                MetricFilter::of_parts(|kept| kept != part),
                *MetricFilter::none(),
                "{part:?} has metrics"
            );
        }
    }

    #[test]
    fn patterns_that_match_nothing_are_recognized() {
        assert!(is_any_like("bpf_program_run_time_seconds_total") && is_any_like("bpf_program_run_time"));
        assert!(!is_any_like("bpf_prog_*") && !is_any_like("BPF_*") && !is_any_like(""));
    }
}
