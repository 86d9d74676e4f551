//! What is made from the table of metrics is up to date, and the table itself is sound.

use std::collections::BTreeSet;
use test_support::golden;

use bpf_metrics_exporter::metrics::{Entity, Visitor, generate, prometheus_name, visit};

#[test]
fn the_page_of_metrics_is_up_to_date() {
    golden::assert_golden("docs/metrics.md", &generate::markdown());
}

#[test]
fn names_are_unique_legal_and_say_something() {
    #[derive(Default)]
    struct Check {
        families: BTreeSet<String>,
    }
    impl Visitor for Check {
        fn entity<T>(&mut self, entity: &'static Entity<T>, _values: Option<&[T]>) {
            for metric in entity.metrics {
                let family = prometheus_name::family(metric.name, metric.unit);
                assert!(metric.name.starts_with("bpf_"), "{}", metric.name);
                assert!(metric.help.ends_with('.'), "{} has a sentence for help", metric.name);
                assert!(self.families.insert(family), "{} stands once", metric.name);
            }
            let labels = || entity.key.iter().chain(entity.info);
            let names: BTreeSet<_> = labels().map(|label| prometheus_name::label(label.name)).collect();
            assert_eq!(names.len(), labels().count(), "each label of {} stands once", entity.title);
        }
    }
    let mut check = Check::default();
    visit(None, &mut check);
    assert!(check.families.len() > 10, "the table was seen");
}
