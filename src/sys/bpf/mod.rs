//! The system call bpf(2): one typed function for each use of a command.
//!
//! Entry point: [`Command`]. Independent of snapshots, and of what an error means to a reading.
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

pub(crate) use self::attach::{AttachedPrograms, EventProgram, QueryTarget, prog_query, task_fd_query};
pub(crate) use self::create::{
    IteratorProgram, MapDefinition, create_iterator, create_map, create_small_map, enable_stats,
    link_iterator, load_btf, load_iterator, load_small_program, relocates_programs,
};
pub(crate) use self::id::{fd_by_id, next_id, open_pinned};
pub(crate) use self::info::{
    btf_data, btf_info, link_info, link_name, map_info, object_id, program_entry_function, program_info,
    program_instructions, program_map_ids, single_probe_location,
};
pub(crate) use self::map::{BatchPosition, MapEntries, freeze_map, update_map};
use crate::model::Kind;
use crate::sys::{Error, Result};

/// Defines the commands, each with its number and name.
macro_rules! commands {
    ($(#[$doc:meta])* $name:ident { $($command:ident = $number:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name {
            $(#[doc = concat!("`", $word, "`.")] $command = $number,)*
        }

        impl $name {
            /// Every command: name and number.
            #[cfg(test)]
            pub(crate) const ALL: &[(&str, u32)] = &[$(($word, $number),)*];

            /// Returns the kernel's name of the command.
            #[must_use]
            pub(crate) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$command => $word,)*
                }
            }
        }
    };
}

commands! {
    /// The commands of bpf(2) that this program uses. Source: `enum bpf_cmd`, `include/uapi/linux/bpf.h`.
    Command {
        MapCreate = 0 "BPF_MAP_CREATE",
        MapLookupElem = 1 "BPF_MAP_LOOKUP_ELEM",
        MapUpdateElem = 2 "BPF_MAP_UPDATE_ELEM",
        MapGetNextKey = 4 "BPF_MAP_GET_NEXT_KEY",
        ProgLoad = 5 "BPF_PROG_LOAD",
        ObjGet = 7 "BPF_OBJ_GET",
        ProgGetNextId = 11 "BPF_PROG_GET_NEXT_ID",
        MapGetNextId = 12 "BPF_MAP_GET_NEXT_ID",
        ProgGetFdById = 13 "BPF_PROG_GET_FD_BY_ID",
        MapGetFdById = 14 "BPF_MAP_GET_FD_BY_ID",
        ObjGetInfoByFd = 15 "BPF_OBJ_GET_INFO_BY_FD",
        ProgQuery = 16 "BPF_PROG_QUERY",
        BtfLoad = 18 "BPF_BTF_LOAD",
        BtfGetFdById = 19 "BPF_BTF_GET_FD_BY_ID",
        TaskFdQuery = 20 "BPF_TASK_FD_QUERY",
        MapFreeze = 22 "BPF_MAP_FREEZE",
        BtfGetNextId = 23 "BPF_BTF_GET_NEXT_ID",
        MapLookupBatch = 24 "BPF_MAP_LOOKUP_BATCH",
        LinkCreate = 28 "BPF_LINK_CREATE",
        LinkGetFdById = 30 "BPF_LINK_GET_FD_BY_ID",
        LinkGetNextId = 31 "BPF_LINK_GET_NEXT_ID",
        EnableStats = 32 "BPF_ENABLE_STATS",
        IterCreate = 33 "BPF_ITER_CREATE",
    }
}

impl Command {
    /// Returns the command that finds the next id of a kind.
    #[must_use]
    pub(crate) const fn next_id(kind: Kind) -> Self {
        match kind {
            Kind::Program => Self::ProgGetNextId,
            Kind::Map => Self::MapGetNextId,
            Kind::Link => Self::LinkGetNextId,
            Kind::Btf => Self::BtfGetNextId,
        }
    }

    /// Returns the command that opens an object of a kind by id.
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

/// Calls bpf(2) and returns its result.
///
/// # Safety
///
/// `attr` has the layout that `command` expects, and every address in it is valid for what the command does with it.
unsafe fn bpf<T>(command: Command, attr: &mut T) -> Result<i32> {
    let size = size_of::<T>();
    // SAFETY: `attr` is exclusively borrowed and `size` bytes long; the caller guarantees the addresses in it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_int, &raw mut *attr, size) };
    let value = Errno::result(result).map_err(|errno| Error::new(command.as_str(), errno))?;
    Ok(i32::try_from(value).expect("bpf(2) returns an int"))
}

/// Calls bpf(2) with a command that returns a descriptor.
///
/// # Safety
///
/// As for [`bpf`]; on success `command` returns a new descriptor.
unsafe fn open<T>(command: Command, attr: &mut T) -> Result<OwnedFd> {
    // SAFETY: the caller guarantees `attr`.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: the caller guarantees that the descriptor is new, so it has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
