//! Paths of cgroups by their ids, in one hierarchy: that which accounts memory, or that of version 2.
//! Knows no process and no container. Begin at [`Cgroups::path`].

mod view;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::view::View;
pub(crate) use self::view::unified;
use super::issues::Issues;
use crate::model::Part;
use crate::sys::Error;

/// How many readings after it was last asked for an id is forgotten.
const KEPT_FOR: u64 = 240;

/// After how many readings at most an id that was not found is looked for again.
const LONGEST_PAUSE: u64 = 64;

/// Looks up paths, and keeps them: the kernel gives no id twice, and a cgroup that is gone may have objects still.
///
/// A path is that of the first time: a cgroup of version 1 can be renamed, which nobody does.
#[derive(Debug, Default)]
pub struct Cgroups {
    /// What stands for `/`; empty for `/` itself.
    root: PathBuf,
    hierarchy: Hierarchy,
    known: HashMap<u64, Known>,
    reading: u64,
    /// Whether the hierarchy was looked for in this reading: only when an id is not known.
    looked: bool,
    /// The hierarchy as it is seen in this reading.
    view: Option<View>,
    errors: Vec<Error>,
}

/// Of which hierarchy the ids are. Each of version 1 numbers its cgroups from 1 again, so a path found in another is another's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// That which accounts memory: one of version 1, or version 2.
    #[default]
    Memory,
    /// Version 2.
    Unified,
}

#[derive(Debug)]
struct Known {
    /// `None` where it was not found.
    path: Option<Arc<str>>,
    /// The last reading that asked.
    asked: u64,
    /// The reading that looks for it again.
    again: u64,
    /// How many readings lie between two looks.
    pause: u64,
}

impl Cgroups {
    /// Those that are found with `root` in the place of `/`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), ..Self::default() }
    }

    /// Those of version 2.
    pub fn unified_below(root: &Path) -> Self {
        Self { hierarchy: Hierarchy::Unified, ..Self::below(root) }
    }

    /// The path of a cgroup from the root of its hierarchy, or from the highest that can be seen; `None` when it was gone when first
    /// asked for, or cannot be seen.
    pub fn path(&mut self, id: u64) -> Option<Arc<str>> {
        if let Some(known) = self.known.get_mut(&id) {
            known.asked = self.reading;
            let looked_for_others = || self.view.as_ref().is_some_and(View::is_listed);
            if known.path.is_some() || (known.again > self.reading && !looked_for_others()) {
                return known.path.clone();
            }
        }
        let path = self.look(id);
        let pause = match self.known.get(&id) {
            // Refused, or asked for the first time.
            Some(known) if self.errors.is_empty() => (known.pause * 2).min(LONGEST_PAUSE),
            _ => 1,
        };
        let (asked, again) = (self.reading, self.reading + pause);
        self.known.insert(id, Known { path: path.clone(), asked, again, pause });
        path
    }

    fn look(&mut self, id: u64) -> Option<Arc<str>> {
        if !std::mem::replace(&mut self.looked, true) {
            let root = if self.root.as_os_str().is_empty() { Path::new("/") } else { &self.root };
            self.view = View::best(root, self.hierarchy, &mut self.errors);
        }
        self.view.as_mut()?.path(id, &mut self.errors)
    }

    /// What could not be read in this reading, so that a path may be missed that is there.
    pub(crate) fn errors(&self) -> &[Error] {
        &self.errors
    }

    /// Tells what could not be read in this reading.
    pub(crate) fn record_errors(&self, issues: &mut Issues) {
        for &error in &self.errors {
            issues.record(Part::Cgroup, error);
        }
    }

    /// Ends a reading.
    pub fn end_reading(&mut self) {
        (self.looked, self.view) = (false, None);
        self.errors.clear();
        let reading = self.reading;
        self.known.retain(|_, known| known.asked + KEPT_FOR > reading);
        self.reading += 1;
    }
}

#[cfg(test)]
mod tests;
