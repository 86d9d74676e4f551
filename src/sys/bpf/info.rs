//! `BPF_OBJ_GET_INFO_BY_FD`: information about an object, and the lists and names that it refers to.
//!
//! Entry point: [`info`].
//!
//! The calls need no capability besides the descriptor. They fail with `EBADF` for a closed descriptor and `EINVAL` for one that
//! is not of a BPF object; no other error is expected unless a function names it.
#![expect(unsafe_code, reason = "bpf(2) has no wrapper in the C library")]

use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{Command, bpf};
use crate::model::enums::link_type;
use crate::sys::bpf::uapi::{
    BTF_INFO_LEN_5_4, BTF_NAME_LEN, BtfInfo, BtfName, FunctionInfo, KprobeMultiLink, LINK_NAME_LEN, LinkInfo,
    MapInfo, ProgramInfo, Reported, UprobeMultiLink,
};
use crate::sys::{Error, Result};

/// `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C, align(8))]
struct InfoAttr {
    fd: i32,
    info_len: u32,
    info: u64,
}

/// Queries the id of a program, map or link.
///
/// # Errors
///
/// `EINVAL` if the descriptor is not of such an object.
pub(crate) fn object_id(fd: BorrowedFd<'_>) -> Result<u32> {
    /// The common start of `struct bpf_prog_info`, `bpf_map_info` and `bpf_link_info`.
    #[derive(FromBytes, IntoBytes)]
    #[repr(C)]
    struct InfoHeader {
        of_type: u32,
        id: u32,
    }
    // SAFETY: the header holds no address.
    unsafe { info(fd, InfoHeader::new_zeroed(), size_of::<InfoHeader>()) }.map(|info| info.value.id)
}

/// Queries a program.
///
/// # Errors
///
/// `EINVAL` if the descriptor is not of such an object.
pub(crate) fn program_info(fd: BorrowedFd<'_>) -> Result<Reported<ProgramInfo>> {
    // SAFETY: every address in a zeroed structure is null.
    unsafe { info(fd, ProgramInfo::new_zeroed(), size_of::<ProgramInfo>()) }
}

/// Queries the first entry of a program's function table, that of its entry function; `None` without such a table.
///
/// # Errors
///
/// `EINVAL` if the descriptor is not of such an object.
pub(crate) fn program_entry_function(fd: BorrowedFd<'_>) -> Result<Option<FunctionInfo>> {
    let mut function = FunctionInfo::new_zeroed();
    let mut request = ProgramInfo::new_zeroed();
    request.func_info = (&raw mut function) as u64;
    request.nr_func_info = 1;
    request.func_info_rec_size = size_of_u32::<FunctionInfo>();
    // SAFETY: the one address that is not null is that of `function`, which outlives the call and has room for one record of the
    // requested size.
    let reported = unsafe { info(fd, request, size_of::<ProgramInfo>()) }?;
    Ok((reported.value.nr_func_info > 0).then_some(function))
}

/// Queries a program, and copies the start of its translated instructions to `instructions`, as many bytes as fit.
///
/// The kernel reports the length of all of them in `xlated_prog_len`: 0 without `CAP_BPF` or `CAP_SYS_ADMIN`. It sets
/// `xlated_prog_insns` to 0 and copies nothing if their constants are blinded and it hides addresses from the opener of `fd`.
///
/// # Errors
///
/// `EINVAL` if the descriptor is not of such an object; `ENOMEM` if the kernel cannot allocate as much memory in one piece.
pub(crate) fn program_instructions(
    fd: BorrowedFd<'_>,
    instructions: &mut [u8],
) -> Result<Reported<ProgramInfo>> {
    let mut request = ProgramInfo::new_zeroed();
    request.xlated_prog_insns = instructions.as_mut_ptr() as u64;
    request.xlated_prog_len = u32::try_from(instructions.len()).unwrap_or(u32::MAX);
    // SAFETY: the one address that is not null is that of `instructions`, which outlives the call, with its own length or less.
    unsafe { info(fd, request, size_of::<ProgramInfo>()) }
}

/// Queries the ids of the maps that a program uses, in the kernel's order. `expected` is their last known number.
///
/// # Errors
///
/// `EINVAL` if the descriptor is not of such an object.
pub(crate) fn program_map_ids(fd: BorrowedFd<'_>, expected: u32) -> Result<Vec<u32>> {
    let mut capacity = expected;
    loop {
        let mut ids = vec![0_u32; capacity as usize];
        let mut request = ProgramInfo::new_zeroed();
        request.map_ids = ids.as_mut_ptr() as u64;
        request.nr_map_ids = capacity;
        // SAFETY: the one address that is not null is that of `ids`, which outlives the call and has room for the requested number
        // of ids.
        let count = unsafe { info(fd, request, size_of::<ProgramInfo>()) }?.value.nr_map_ids;
        if count <= capacity {
            ids.truncate(count as usize);
            return Ok(ids);
        }
        // More were bound in the meantime (`BPF_PROG_BIND_MAP`, 5.10).
        capacity = count;
    }
}

/// Queries a map.
///
/// # Errors
///
/// `EINVAL` if the descriptor is not of such an object.
pub(crate) fn map_info(fd: BorrowedFd<'_>) -> Result<Reported<MapInfo>> {
    // SAFETY: every address in a zeroed structure is null.
    unsafe { info(fd, MapInfo::new_zeroed(), size_of::<MapInfo>()) }
}

/// Queries a link of any type.
///
/// # Errors
///
/// `EINVAL` if the descriptor is not of such an object.
pub(crate) fn link_info(fd: BorrowedFd<'_>) -> Result<Reported<LinkInfo>> {
    // SAFETY: every address in a zeroed structure is null.
    unsafe { info(fd, LinkInfo::new_zeroed(), size_of::<LinkInfo>()) }
}

/// Queries the name in the information about a link, up to its first zero byte: that of a tracepoint, an iterator's target, a
/// symbol or a file. `None` for a link type without one, and if the kernel does not report it.
///
/// # Errors
///
/// `EINVAL` if the descriptor is not of such an object.
pub(crate) fn link_name(fd: BorrowedFd<'_>) -> Result<Option<Vec<u8>>> {
    let reported = link_info(fd)?;
    // The words of the union that hold the buffer's address and its length.
    let (address, len) = match reported.value.link_type {
        link_type::RAW_TRACEPOINT | link_type::ITER => (0, 1),
        link_type::PERF_EVENT => (1, 2),
        link_type::UPROBE_MULTI => (0, 4),
        _ => return Ok(None),
    };
    // A kernel whose structure ends before the length does not support it, and refuses a value other than zero.
    if reported.len < offset_of!(LinkInfo, of_type) + (len + 1) * size_of::<u64>() {
        return Ok(None);
    }
    let mut name = vec![0_u8; LINK_NAME_LEN as usize];
    let mut request = LinkInfo::new_zeroed();
    request.of_type[address] = name.as_mut_ptr() as u64;
    request.of_type[len] = LINK_NAME_LEN.into();
    // SAFETY: the one address that is not null is that of `name`, which outlives the call, with its own length. They are in the
    // words that the link's type uses for them, and a link does not change its type.
    match unsafe { info(fd, request, size_of::<LinkInfo>()) } {
        // ENOSPC: a longer name was truncated.
        Ok(_) | Err(Error { errno: Errno::ENOSPC, .. }) => {}
        Err(error) => return Err(error),
    }
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    name.truncate(len);
    Ok((len > 0).then_some(name))
}

/// Queries the location of a `kprobe_multi` or `uprobe_multi` link with a single probe: a kernel address, which is 0 without
/// `CAP_SYSLOG` (`kptr_restrict`), or an offset in a file. `None` for other links.
///
/// # Errors
///
/// `EINVAL` if the descriptor is not of such an object.
pub(crate) fn single_probe_location(fd: BorrowedFd<'_>) -> Result<Option<u64>> {
    let reported = link_info(fd)?;
    let mut location = 0_u64;
    let mut request = LinkInfo::new_zeroed();
    match reported.value.link_type {
        link_type::KPROBE_MULTI if reported.of_type::<KprobeMultiLink>().value.count == 1 => {
            request.of_type[0] = (&raw mut location) as u64;
            request.of_type[1] = 1;
        }
        link_type::UPROBE_MULTI if reported.of_type::<UprobeMultiLink>().value.count == 1 => {
            request.of_type[1] = (&raw mut location) as u64;
            request.of_type[4] = 1 << 32;
        }
        _ => return Ok(None),
    }
    // SAFETY: the one address that is not null is that of `location`, which outlives the call and has room for the one number that
    // the count requests. They are in the words that the link's type uses for them, and a link does not change its type.
    unsafe { info(fd, request, size_of::<LinkInfo>()) }?;
    Ok(Some(location))
}

/// Queries a BTF object, and its name, which ends at the first zero byte.
///
/// # Errors
///
/// `EINVAL` if the descriptor is not of such an object.
pub(crate) fn btf_info(fd: BorrowedFd<'_>) -> Result<(Reported<BtfInfo>, BtfName)> {
    let mut name = [0_u8; BTF_NAME_LEN];
    let mut request = BtfInfo::new_zeroed();
    request.name = name.as_mut_ptr() as u64;
    request.name_len = size_of_u32::<BtfName>();
    // SAFETY: the one address that is not null is that of `name`, which outlives the call, with its own length.
    let reported = match unsafe { info(fd, request, size_of::<BtfInfo>()) } {
        // Before 5.11 the structure ends before the name, and the kernel refuses a nonzero tail.
        Err(Error { errno: Errno::E2BIG, .. }) => {
            // SAFETY: every address in a zeroed structure is null.
            unsafe { info(fd, BtfInfo::new_zeroed(), BTF_INFO_LEN_5_4) }?
        }
        other => other?,
    };
    Ok((reported, name))
}

/// Reads the type information of a BTF object of `size` bytes.
///
/// # Errors
///
/// `EINVAL` if the descriptor is not of such an object.
pub(crate) fn btf_data(fd: BorrowedFd<'_>, size: u32) -> Result<Vec<u8>> {
    let mut data = vec![0_u8; size as usize];
    let mut request = BtfInfo::new_zeroed();
    request.btf = data.as_mut_ptr() as u64;
    request.btf_size = size;
    // SAFETY: the one address that is not null is that of `data`, which outlives the call, with its own length.
    unsafe { info(fd, request, BTF_INFO_LEN_5_4) }?;
    Ok(data)
}

/// Lets the kernel fill the first `len` bytes of `request`.
///
/// The kernel leaves fields that it does not report as they are (for programs always, for maps since 6.18), so each request must
/// start zeroed, or an object would inherit values of the previous one.
///
/// # Safety
///
/// Every address in `request` is null or that of a buffer that outlives the call and is as long as `request` says.
unsafe fn info<T: FromBytes + IntoBytes>(fd: BorrowedFd<'_>, request: T, len: usize) -> Result<Reported<T>> {
    let mut value = request;
    let mut attr = InfoAttr {
        fd: fd.as_raw_fd(),
        info_len: u32::try_from(len.min(size_of::<T>())).expect("information structures are small"),
        info: (&raw mut value) as u64,
    };
    // SAFETY: `attr.info` is `value`, at least `info_len` bytes long and valid for any content (`FromBytes`); the caller
    // guarantees the addresses in it.
    unsafe { bpf(Command::ObjGetInfoByFd, &mut attr) }?;
    Ok(Reported { value, len: attr.info_len as usize })
}

pub(super) fn size_of_u32<T>() -> u32 {
    u32::try_from(size_of::<T>()).expect("kernel structures are small")
}
