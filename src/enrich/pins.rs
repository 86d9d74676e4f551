//! What is pinned where, in every bpffs that is mounted in our view, and in those that the user names.
//! Begin at [`Pins::read`].

use std::path::PathBuf;

use crate::kernel::issues::Issues;
use crate::model::Pin;

/// Reads the mounted bpffs, and remembers which object each pin is of.
#[derive(Debug, Default)]
pub(super) struct Pins {
    #[expect(dead_code, reason = "not read yet")]
    given: Vec<PathBuf>,
}

impl Pins {
    /// Reads what is mounted, and these directories beside.
    pub(super) fn new(given: Vec<PathBuf>) -> Self {
        Self { given }
    }

    /// Every pin, by path. `None`, and an issue where that is one, when no bpffs can be read.
    pub(super) fn read(&mut self, _issues: &mut Issues) -> Option<Vec<Pin>> {
        None
    }
}
