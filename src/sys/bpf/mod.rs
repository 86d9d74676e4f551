//! The system call bpf(2), and what else has no safe wrapper: numbers in, owned file descriptors and plain structures out.
//! Knows no snapshot and gives no error a meaning. But for `memory.rs`, the only `unsafe` of the program is in this directory.
//! Begin at [`Call`].
#![expect(unsafe_code, reason = "bpf(2) has no wrapper in the C library")]

mod attach;
mod create;
mod id;
mod info;
mod map;
pub(crate) mod uapi;

use std::mem::size_of;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::errno::Errno;

pub(crate) use self::attach::{Attached, EventProgram, Hooked, attached, event_program};
pub(crate) use self::create::{
    IteratorProgram, MapDefinition, create_iterator, create_map, enable_stats, link_iterator, load_btf,
    load_iterator, relocates_programs,
};
pub(crate) use self::id::{fd_by_id, next_id, open_pinned};
pub(crate) use self::info::{
    btf_data, btf_info, link_info, link_name, link_place, map_info, object_id, program_entry_function,
    program_info, program_map_ids,
};
pub(crate) use self::map::{Entries, Position, update_map};
use crate::model::Kind;
use crate::sys::{Error, Result};

/// A command of bpf(2) that this program uses. Source: `enum bpf_cmd`, `include/uapi/linux/bpf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    MapCreate = 0,
    MapLookupElem = 1,
    MapUpdateElem = 2,
    MapGetNextKey = 4,
    ProgLoad = 5,
    ObjGet = 7,
    ProgGetNextId = 11,
    MapGetNextId = 12,
    ProgGetFdById = 13,
    MapGetFdById = 14,
    ObjGetInfoByFd = 15,
    ProgQuery = 16,
    BtfLoad = 18,
    BtfGetFdById = 19,
    TaskFdQuery = 20,
    BtfGetNextId = 23,
    LinkCreate = 28,
    MapLookupBatch = 24,
    LinkGetFdById = 30,
    LinkGetNextId = 31,
    EnableStats = 32,
    IterCreate = 33,
}

impl Call {
    /// The kernel's name of the command.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::MapCreate => "BPF_MAP_CREATE",
            Self::MapLookupElem => "BPF_MAP_LOOKUP_ELEM",
            Self::MapUpdateElem => "BPF_MAP_UPDATE_ELEM",
            Self::ProgLoad => "BPF_PROG_LOAD",
            Self::ProgQuery => "BPF_PROG_QUERY",
            Self::TaskFdQuery => "BPF_TASK_FD_QUERY",
            Self::LinkCreate => "BPF_LINK_CREATE",
            Self::IterCreate => "BPF_ITER_CREATE",
            Self::ObjGet => "BPF_OBJ_GET",
            Self::MapGetNextKey => "BPF_MAP_GET_NEXT_KEY",
            Self::MapLookupBatch => "BPF_MAP_LOOKUP_BATCH",
            Self::ProgGetNextId => "BPF_PROG_GET_NEXT_ID",
            Self::MapGetNextId => "BPF_MAP_GET_NEXT_ID",
            Self::ProgGetFdById => "BPF_PROG_GET_FD_BY_ID",
            Self::MapGetFdById => "BPF_MAP_GET_FD_BY_ID",
            Self::ObjGetInfoByFd => "BPF_OBJ_GET_INFO_BY_FD",
            Self::BtfLoad => "BPF_BTF_LOAD",
            Self::BtfGetFdById => "BPF_BTF_GET_FD_BY_ID",
            Self::BtfGetNextId => "BPF_BTF_GET_NEXT_ID",
            Self::LinkGetFdById => "BPF_LINK_GET_FD_BY_ID",
            Self::LinkGetNextId => "BPF_LINK_GET_NEXT_ID",
            Self::EnableStats => "BPF_ENABLE_STATS",
        }
    }

    /// The command that finds the next id of a kind.
    #[must_use]
    pub(crate) const fn next_id(kind: Kind) -> Self {
        match kind {
            Kind::Program => Self::ProgGetNextId,
            Kind::Map => Self::MapGetNextId,
            Kind::Link => Self::LinkGetNextId,
            Kind::Btf => Self::BtfGetNextId,
        }
    }

    /// The command that opens an object of a kind by its id.
    #[must_use]
    pub(crate) const fn fd_by_id(kind: Kind) -> Self {
        match kind {
            Kind::Program => Self::ProgGetFdById,
            Kind::Map => Self::MapGetFdById,
            Kind::Link => Self::LinkGetFdById,
            Kind::Btf => Self::BtfGetFdById,
        }
    }
}

/// Calls bpf(2) and gives back what it returned.
///
/// # Safety
///
/// `attr` is laid out as `command` expects it, and every address in it is valid for what the command does with it.
unsafe fn bpf<T>(command: Call, attr: &mut T) -> Result<i32> {
    let size = size_of::<T>();
    // SAFETY: `attr` is exclusively borrowed and `size` bytes long; the caller answers for the addresses in it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_int, &raw mut *attr, size) };
    let value = Errno::result(result).map_err(|errno| Error::new(command.as_str(), errno))?;
    Ok(i32::try_from(value).expect("bpf(2) returns an int"))
}

/// Calls bpf(2) with a command that opens something.
///
/// # Safety
///
/// As for [`bpf`]; and on success `command` returns a new descriptor.
unsafe fn open<T>(command: Call, attr: &mut T) -> Result<OwnedFd> {
    // SAFETY: the caller answers for `attr`.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: the caller says that the descriptor is new, so that nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
