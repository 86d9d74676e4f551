//! Since when objects have been without a holder: what is concluded from that has to wait for scans that began later.
//! Entry point: [`UnheldSince::update`].

use std::collections::{HashMap, HashSet};

use crate::model::{BootTime, Object};

/// Remembers since when which object has been without a holder.
///
/// A loader that pins or attaches an object and exits is in no search that begins after that, and its pin or hook in no scan that
/// began before. So both together show that there is no holder only if the scan began after the end of the search.
#[derive(Debug, Default)]
pub(super) struct UnheldSince {
    /// The end of the first search in which it was. An id that is reused before the next scan is taken for the same object, which
    /// is just as much without a holder.
    since: HashMap<Object, BootTime>,
}

impl UnheldSince {
    /// Takes the objects that a search, which ended at `searched_until`, found without a holder. All others have one.
    pub(super) fn update(&mut self, now: &HashSet<Object>, searched_until: BootTime) {
        self.since.retain(|object, _| now.contains(object));
        for object in now {
            self.since.entry(*object).or_insert(searched_until);
        }
    }

    /// Returns whether an object has been without a holder since before this moment.
    pub(super) fn is_before(&self, object: Object, moment: BootTime) -> bool {
        self.since.get(&object).is_some_and(|&since| since <= moment)
    }

    /// Returns the objects that have been without a holder since before this moment, and since when.
    pub(super) fn before(&self, moment: BootTime) -> impl Iterator<Item = (Object, BootTime)> {
        self.since.iter().map(|(&object, &since)| (object, since)).filter(move |&(_, since)| since <= moment)
    }
}
