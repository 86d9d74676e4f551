//! The trials of this binary: the requirements of each, and the backends it runs with. Entry point: [`Test`].

use bpf_metrics_exporter::model::ReaderKind;
use libtest_mimic::Trial;
use test_support::{readers, root, trials};

/// Returns why a test cannot run here; `None` where it can.
pub(crate) type Requirement = fn() -> Option<String>;

enum Run {
    Once(fn()),
    WithEachBackend(fn(ReaderKind)),
}

/// A test against the running kernel.
pub(crate) struct Test {
    name: &'static str,
    run: Run,
    since: Option<(u32, u32)>,
    requirements: &'static [Requirement],
}

impl Test {
    /// A test that chooses its readers itself.
    pub(crate) const fn new(name: &'static str, run: fn()) -> Self {
        Self { name, run: Run::Once(run), since: None, requirements: &[] }
    }

    /// A test that runs twice: with the id walk, and with iterators where the kernel has them.
    pub(crate) const fn for_both_backends(name: &'static str, run: fn(ReaderKind)) -> Self {
        Self { name, run: Run::WithEachBackend(run), since: None, requirements: &[] }
    }

    /// Needs at least this kernel version.
    pub(crate) const fn since(self, major: u32, minor: u32) -> Self {
        Self { since: Some((major, minor)), ..self }
    }

    /// Needs all of these.
    pub(crate) const fn requires(self, requirements: &'static [Requirement]) -> Self {
        Self { requirements, ..self }
    }

    /// Returns the trials of this test, with names that begin with its module.
    pub(crate) fn trials(&self, module: &str) -> Vec<Trial> {
        let name = format!("{module}::{}", self.name);
        let missing = self.missing();
        match self.run {
            Run::Once(test) => vec![trials::trial(name, missing, test)],
            Run::WithEachBackend(test) => {
                let no_iterators = missing.clone().or_else(readers::iterators_missing);
                vec![
                    trials::trial(format!("{name}::by_id_walk"), missing, move || test(ReaderKind::Walk)),
                    trials::trial(format!("{name}::by_iterators"), no_iterators, move || {
                        test(ReaderKind::Iter);
                    }),
                ]
            }
        }
    }

    fn missing(&self) -> Option<String> {
        let too_old = || {
            let (major, minor) = self.since.filter(|&since| readers::version() < since)?;
            Some(format!("needs Linux {major}.{minor}"))
        };
        root::missing().or_else(too_old).or_else(|| self.requirements.iter().find_map(|missing| missing()))
    }
}
