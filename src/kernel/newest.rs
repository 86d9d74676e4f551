//! The newest ids of the kernel: it gives them out one after another, so objects with higher ones are created later.
//! Entry point: [`NewestIds::read`].

use std::os::fd::{AsFd as _, OwnedFd};

use crate::sys::Result;
use crate::sys::bpf::{create_small_map, load_small_program, object_id};

/// The name of the objects that are created and destroyed at once.
const NAME: &str = "bpf_metrics_exp";

/// The ids that were given out last, whether or not the objects are still there; 0 where that cannot be known.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NewestIds {
    pub(crate) program: u32,
    pub(crate) map: u32,
}

impl NewestIds {
    /// Creates a program and a map to learn their ids. Where that is not permitted, the newest object that is still there is the
    /// best guess, which others make from a list.
    pub(crate) fn read() -> Self {
        let id = |created: Result<OwnedFd>| created.and_then(|fd| object_id(fd.as_fd())).unwrap_or(0);
        Self { program: id(load_small_program(NAME)), map: id(create_small_map(NAME)) }
    }
}
