//! The parts of a reading that a scrape chooses: `collect[]` and `exclude[]`, as `node_exporter` has them.
//! Entry point: [`Collectors::parse`]. The reading itself is the same: it is shared.

use std::sync::Arc;

use super::query;
use crate::metrics::select::MetricFilter;
use crate::model::Part;

/// A set of parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Collectors(u16);

impl Collectors {
    const ALL: Self = Self((1 << Part::ALL.len()) - 1);

    /// Parses the query of a scrape.
    ///
    /// # Errors
    ///
    /// What is wrong: an unknown name, or both parameters.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let (mut collect, mut exclude) = (0, 0);
        for (name, value) in query::pairs(query) {
            let set = match &*name {
                "collect[]" => &mut collect,
                "exclude[]" => &mut exclude,
                // Others are for others, such as a proxy.
                _ => continue,
            };
            let Some(at) = Part::ALL.iter().position(|part| part.as_str() == value) else {
                let names: Vec<_> = Part::ALL.iter().map(|part| part.as_str()).collect();
                return Err(format!(
                    "{:?} is no collector: use {}",
                    query::shortened(&value),
                    names.join(", ")
                ));
            };
            *set |= 1 << at;
        }
        match (collect, exclude) {
            (0, exclude) => Ok(Self(Self::ALL.0 & !exclude)),
            (collect, 0) => Ok(Self(collect)),
            _ => Err("collect[] and exclude[] exclude each other: use one of them".to_owned()),
        }
    }

    /// Returns a filter with the metrics of these parts only.
    pub(super) fn restrict(self, metrics: &Arc<MetricFilter>) -> Arc<MetricFilter> {
        if self == Self::ALL {
            return Arc::clone(metrics);
        }
        let has =
            |part| Part::ALL.iter().position(|&one| one == part).is_some_and(|at| self.0 >> at & 1 == 1);
        metrics.and(&Arc::new(MetricFilter::of_parts(has)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(query: &str) -> Result<Vec<&'static str>, String> {
        let set = Collectors::parse(query)?;
        let has = |at: usize| set.0 >> at & 1 == 1;
        Ok(Part::ALL.iter().enumerate().filter(|&(at, _)| has(at)).map(|(_, part)| part.as_str()).collect())
    }

    #[test]
    fn names_are_those_of_the_collectors() {
        assert_eq!(Collectors::parse(""), Ok(Collectors::ALL));
        assert_eq!(Collectors::parse("name=x&target"), Ok(Collectors::ALL));
        assert_eq!(names("collect[]=map&collect%5B%5D=program"), Ok(vec!["program", "map"]));
        assert_eq!(names("exclude[]=holder").expect("a name").len(), Part::ALL.len() - 1);
        assert!(Collectors::parse("collect[]=cpu").expect_err("no collector").contains("program, map, link"));
        assert!(Collectors::parse("collect[]=").is_err());
        assert!(Collectors::parse("collect[]=map&exclude[]=map").expect_err("both").contains("one of them"));
    }
}
