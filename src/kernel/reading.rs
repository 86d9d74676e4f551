//! The context of one reading, shared by all tables and both backends.
//!
//! Entry point: [`ReadContext`].

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::backend::Refusal;
use super::btf::Types;
use super::count;
use super::fdinfo::FdInfo;
use super::targets::resolver::Resolver;
use crate::host::issues::Issues;
use crate::model::{BootTime, Kind, MapFacts};
use crate::sys::Error;
use crate::sys::bpf as sys;
use crate::text::printable;

/// The state of one reading.
pub(crate) struct ReadContext<'a> {
    pub(crate) taken_at: BootTime,
    pub(crate) issues: &'a mut Issues,
    /// Names and BTF types, cached across readings.
    pub(crate) names: &'a mut Resolver,
    /// The largest capacity of a map whose keys are counted one by one; `None` counts none.
    count_up_to: Option<u32>,
    /// Holds entries while they are counted.
    scratch: Vec<u8>,
}

impl<'a> ReadContext<'a> {
    /// Starts a reading.
    pub(crate) fn new(
        taken_at: BootTime,
        count_up_to: Option<u32>,
        issues: &'a mut Issues,
        names: &'a mut Resolver,
    ) -> Self {
        Self { taken_at, issues, names, count_up_to, scratch: Vec::new() }
    }

    /// Records an issue for a table whose backend is unavailable.
    pub(crate) fn unavailable<Row>(&mut self, kind: Kind, refusal: &Refusal) -> Option<Vec<Row>> {
        self.issues.record(kind, refusal.error);
        None
    }

    /// Reads the fdinfo of an object's descriptor. `None`, and an issue, on failure.
    pub(crate) fn fdinfo(&mut self, kind: Kind, fd: BorrowedFd<'_>) -> Option<FdInfo> {
        FdInfo::of(fd).map_err(|error| self.issues.record(kind, error)).ok()
    }

    /// Returns whether map entries are counted key by key.
    pub(crate) fn counts_keys(&self) -> bool {
        self.count_up_to.is_some()
    }

    /// Counts a map's entries key by key if enabled and possible. `None`, and an issue, on failure.
    pub(crate) fn count_entries(&mut self, fd: BorrowedFd<'_>, map: &MapFacts) -> Option<u64> {
        match count::entries(fd, map, self.count_up_to?, &mut self.scratch) {
            Ok(count) => count,
            Err(error) => {
                self.issues.record(Kind::Map, error);
                None
            }
        }
    }

    /// As [`Self::count_entries`], without a descriptor; `None` for a map that is gone.
    pub(crate) fn count_entries_by_id(&mut self, map: &MapFacts) -> Option<u64> {
        match sys::fd_by_id(Kind::Map, map.id) {
            Ok(fd) => self.count_entries(fd.as_fd(), map),
            Err(Error { errno: Errno::ENOENT, .. }) => None,
            Err(error) => {
                self.issues.record(Kind::Map, error);
                None
            }
        }
    }

    /// Looks up the BTF name of a program's entry function.
    pub(crate) fn entry_function(&mut self, fd: BorrowedFd<'_>, btf_id: u32) -> Option<String> {
        let function = match sys::program_entry_function(fd) {
            Ok(function) => function?,
            Err(error) => {
                self.issues.record(Kind::Program, error);
                return None;
            }
        };
        self.types(btf_id)?.function(function.type_id).map(printable)
    }

    /// Returns the types of a BTF object. `None` if it is gone; `None`, and an issue, on failure.
    pub(crate) fn types(&mut self, btf_id: u32) -> Option<Arc<Types>> {
        match self.names.btf().described(btf_id) {
            Ok(found) => found.map(|found| found.types),
            Err(error) => {
                self.issues.record(Kind::Btf, error);
                None
            }
        }
    }
}

/// Returns an id, or `None` for 0: the kernel's ids start at 1, and it writes 0 where there is no object.
pub(crate) fn nonzero(id: u32) -> Option<u32> {
    (id != 0).then_some(id)
}
