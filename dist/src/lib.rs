//! What is shipped beside the program and derives from its table of metrics: dashboards, rules, their
//! copies in the chart, and the stack to try them out.
//! Entry point: [`files`]. `just dashboards` writes the files, and a test compares them.

pub mod chart;
pub mod dashboards;
pub mod grafana;
pub mod names;
pub mod promql;
pub mod queries;
pub mod rules;
pub mod stack;

/// A file to ship.
#[derive(Clone, Debug)]
pub struct File {
    /// Its path from the root of the repository.
    pub path: String,
    /// Its content.
    pub text: String,
}

impl File {
    /// Returns its name without the folders.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// Returns every file that is made here.
#[must_use]
pub fn files() -> Vec<File> {
    let mut files = [dashboards::files(), rules::files()].concat();
    files.extend([chart::files(&files), stack::files(&files)].concat());
    files
}
