//! The kinds of objects with ids, and the ids themselves, queried without the product.
//! Each kind has its own numbers, and a number is reused only after all others.

use super::sys;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::BorrowedFd;

/// What an id is the id of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A program.
    Program,
    /// A map.
    Map,
    /// A link.
    Link,
    /// A BTF object.
    Btf,
}

impl Kind {
    /// The id of the object of this kind that `fd` is.
    ///
    /// # Errors
    /// EINVAL for an fd of something else.
    pub fn id(self, fd: BorrowedFd<'_>) -> io::Result<u32> {
        let info = sys::object_info(fd)?;
        // `struct bpf_btf_info` begins with an address and a size, the other three with the type.
        Ok(if self == Self::Btf { info[3] } else { info[1] })
    }

    /// Whether an object of this kind has this id now. Needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// Any refusal but ENOENT, which means that it does not exist.
    pub fn exists(self, id: u32) -> io::Result<bool> {
        // An fd by id could be used, too, but can keep the object alive: closing the last fd of a program array
        // starts `prog_array_map_clear` (kernel/bpf/arraymap.c), which loses a reference if it is still under way
        // from the time before (seen on 6.18). Querying the id after the one before takes no reference.
        match sys::next_id(self, id.saturating_sub(1)) {
            Ok(next) => Ok(next == id),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lists the ids of all objects of this kind. Needs `CAP_SYS_ADMIN`.
    ///
    /// # Errors
    /// A refusal by the kernel.
    pub fn ids(self) -> io::Result<BTreeSet<u32>> {
        let mut ids = BTreeSet::new();
        loop {
            match sys::next_id(self, ids.last().copied().unwrap_or(0)) {
                Ok(next) => ids.insert(next),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ids),
                Err(error) => return Err(error),
            };
        }
    }
}
