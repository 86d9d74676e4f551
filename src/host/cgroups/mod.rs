//! Paths of cgroups by id, in one hierarchy: the one that accounts memory, or that of version 2.
//!
//! Entry point: [`Cgroups::path`].

mod view;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use self::view::unified;
use self::view::{CgroupErrors, CgroupView};
use super::issues::Issues;
use crate::model::Part;

/// The number of readings after its last use in which a path stays cached.
const KEPT_FOR: u64 = 240;

/// The highest number of readings between two lookups of an id that was not found.
const LONGEST_PAUSE: u64 = 64;

/// Looks up paths and caches them: the kernel does not reuse ids, and objects may outlive their cgroup.
///
/// A path is looked up once: a cgroup of version 1 can be renamed, but is not in practice.
#[derive(Debug, Default)]
pub struct Cgroups {
    /// The directory in place of `/`; empty for `/` itself.
    root: PathBuf,
    hierarchy: Hierarchy,
    cache: HashMap<u64, CachedPath>,
    /// The number of the reading.
    reading: u64,
    /// Whether this reading opened the view, which it does for the first id that is not cached.
    view_opened: bool,
    /// The hierarchy as this reading sees it.
    view: Option<CgroupView>,
    errors: CgroupErrors,
    /// Whether the last view showed the root of the hierarchy; `None` before the first.
    sees_all: Option<bool>,
    /// How long lookups took; see [`Self::take_duration`].
    duration: Duration,
}

/// The hierarchy that ids belong to. Each hierarchy of version 1 numbers its cgroups from 1, so the same id in another one is
/// another cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// The one that accounts memory: one of version 1, or version 2.
    #[default]
    Memory,
    /// Version 2.
    Unified,
}

#[derive(Debug)]
struct CachedPath {
    /// `None` if it was not found.
    path: Option<Arc<str>>,
    /// The last reading that used it.
    last_used: u64,
    /// The reading that looks up a missing path again.
    retry_at: u64,
    /// The number of readings between two lookups.
    pause: u64,
}

impl Cgroups {
    /// Returns an empty cache, with `root` in place of `/`.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), ..Self::default() }
    }

    /// As [`Self::below`], for the hierarchy of version 2.
    #[must_use]
    pub fn unified_below(root: &Path) -> Self {
        Self { hierarchy: Hierarchy::Unified, ..Self::below(root) }
    }

    /// Returns the path of a cgroup from the root of its hierarchy, or from the highest visible cgroup. `None` if it was removed
    /// before the first lookup, or is not visible. It may have any length: parts of it identify the owner.
    pub fn path(&mut self, id: u64) -> Option<Arc<str>> {
        if let Some(cached) = self.cache.get_mut(&id) {
            cached.last_used = self.reading;
            // Once all cgroups are listed, looking up one more costs nothing.
            let all_listed = || self.view.as_ref().is_some_and(CgroupView::is_listed);
            if cached.path.is_some() || (cached.retry_at > self.reading && !all_listed()) {
                return cached.path.clone();
            }
        }
        let began = Instant::now();
        let path = self.look_up(id);
        self.duration += began.elapsed();
        let pause = match self.cache.get(&id) {
            Some(cached) if self.errors.is_empty() => (cached.pause * 2).min(LONGEST_PAUSE),
            // The first lookup, or one that failed.
            _ => 1,
        };
        let (last_used, retry_at) = (self.reading, self.reading + pause);
        self.cache.insert(id, CachedPath { path: path.clone(), last_used, retry_at, pause });
        path
    }

    fn look_up(&mut self, id: u64) -> Option<Arc<str>> {
        if !std::mem::replace(&mut self.view_opened, true) {
            let root = if self.root.as_os_str().is_empty() { Path::new("/") } else { &self.root };
            self.view = CgroupView::open(root, self.hierarchy, &mut self.errors);
            self.sees_all = Some(self.view.as_ref().is_some_and(CgroupView::is_from_root));
        }
        self.view.as_mut()?.path(id, &mut self.errors)
    }

    /// Returns the errors of this reading, due to which existing paths may be missing.
    pub(crate) fn errors(&self) -> &CgroupErrors {
        &self.errors
    }

    /// Records the errors of this reading as issues.
    pub(crate) fn record_errors(&self, issues: &mut Issues) {
        for &error in &self.errors {
            issues.record(Part::Cgroup, error);
        }
    }

    /// Returns how long lookups have taken since the last call. Paths from the cache take next to no time.
    pub(crate) fn take_duration(&mut self) -> Duration {
        std::mem::take(&mut self.duration)
    }

    /// Returns whether all cgroups are visible; `None` if none was looked up yet.
    pub(crate) fn sees_all(&self) -> Option<bool> {
        self.sees_all
    }

    /// Ends a reading.
    pub fn end_reading(&mut self) {
        (self.view_opened, self.view) = (false, None);
        self.errors.clear();
        let reading = self.reading;
        self.cache.retain(|_, cached| cached.last_used + KEPT_FOR > reading);
        self.reading += 1;
    }
}

#[cfg(test)]
mod tests;
