//! The kinds of object that have ids, and the ids themselves: asked of the kernel here, without the product.
//! Ids are numbered for each kind apart, and a number is used again only after all others.

use super::sys;
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
    /// Any refusal but ENOENT, which is the answer no.
    pub fn exists(self, id: u32) -> io::Result<bool> {
        // An fd by id would tell, too, and can make the answer yes for ever: closing the last fd of a program array
        // starts `prog_array_map_clear` (kernel/bpf/arraymap.c), which loses a reference if it is still under way
        // from the time before (seen on 6.18). Asking for the id that follows the one before takes no reference.
        match sys::next_id(self, id.saturating_sub(1)) {
            Ok(next) => Ok(next == id),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}
