//! Has a look taken at what hangs where, in a thread of its own and less often than a reading.
//! Begin at [`HookWatch::latest`].

use std::sync::Arc;
use std::time::Duration;

use crate::kernel::issues::Issues;
use crate::model::{HookLook, Snapshot};

/// Takes looks, and compares each with the one before.
#[derive(Debug)]
pub(super) struct HookWatch {
    #[expect(dead_code, reason = "not read yet")]
    interval: Duration,
}

impl HookWatch {
    pub(super) fn new(interval: Duration, _every_netns: bool) -> Self {
        Self { interval }
    }

    /// The last look that was finished. Begins another one when that is too old, and waits for none.
    pub(super) fn latest(
        &mut self,
        _snapshot: &Snapshot,
        _pids: &[u32],
        _issues: &mut Issues,
    ) -> Option<Arc<HookLook>> {
        None
    }

    /// Takes a look now, and waits for it.
    pub(super) fn now(
        &mut self,
        snapshot: &Snapshot,
        pids: &[u32],
        issues: &mut Issues,
    ) -> Option<Arc<HookLook>> {
        self.latest(snapshot, pids, issues)
    }
}
