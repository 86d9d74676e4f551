//! What the kernel says of the object behind a descriptor: its information, and the lists and names to which that points.
//! Does not know where a descriptor comes from. Begin at [`info`].
#![expect(unsafe_code, reason = "bpf(2) has no wrapper in the C library")]

use std::mem::{offset_of, size_of};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{Call, bpf};
use crate::model::enums::link_type;
use crate::sys::bpf::uapi::{
    BTF_INFO_LEN_5_4, BTF_NAME_LEN, BtfInfo, BtfName, FunctionInfo, KprobeMultiLink, LINK_NAME_LEN, LinkInfo,
    MapInfo, ProgramInfo, Reported, UprobeMultiLink,
};
use crate::sys::{Error, Result};

/// `union bpf_attr` as `BPF_OBJ_GET_INFO_BY_FD` uses it.
#[repr(C, align(8))]
struct InfoAttr {
    fd: i32,
    info_len: u32,
    info: u64,
}

/// The id of a program, a map or a link.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(crate) fn object_id(fd: BorrowedFd<'_>) -> Result<u32> {
    /// With which `struct bpf_prog_info`, `bpf_map_info` and `bpf_link_info` begin.
    #[derive(FromBytes, IntoBytes)]
    #[repr(C)]
    struct Beginning {
        of_type: u32,
        id: u32,
    }
    // SAFETY: there is no address in so short a beginning.
    unsafe { info(fd, Beginning::new_zeroed(), size_of::<Beginning>()) }.map(|told| told.value.id)
}

/// What the kernel says of a program.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(crate) fn program_info(fd: BorrowedFd<'_>) -> Result<Reported<ProgramInfo>> {
    // SAFETY: every address in a zeroed structure is null.
    unsafe { info(fd, ProgramInfo::new_zeroed(), size_of::<ProgramInfo>()) }
}

/// The first entry of a program's function table, which describes its entry function; `None` when it has no table.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(crate) fn program_entry_function(fd: BorrowedFd<'_>) -> Result<Option<FunctionInfo>> {
    let mut function = FunctionInfo::new_zeroed();
    let mut request = ProgramInfo::new_zeroed();
    request.func_info = (&raw mut function) as u64;
    request.nr_func_info = 1;
    request.func_info_rec_size = size_of_u32::<FunctionInfo>();
    // SAFETY: the one address that is not null is `function`, which outlives the call and has room for the one record
    // of the size that the request names.
    let reported = unsafe { info(fd, request, size_of::<ProgramInfo>()) }?;
    Ok((reported.value.nr_func_info > 0).then_some(function))
}

/// The ids of the maps that a program uses, in the kernel's order. `expected` is how many there were a moment ago.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(crate) fn program_map_ids(fd: BorrowedFd<'_>, expected: u32) -> Result<Vec<u32>> {
    let mut room = expected;
    loop {
        let mut ids = vec![0_u32; room as usize];
        let mut request = ProgramInfo::new_zeroed();
        request.map_ids = ids.as_mut_ptr() as u64;
        request.nr_map_ids = room;
        // SAFETY: the one address that is not null is `ids`, which outlives the call and has room for as many ids as the
        // request names.
        let there_are = unsafe { info(fd, request, size_of::<ProgramInfo>()) }?.value.nr_map_ids;
        if there_are <= room {
            ids.truncate(there_are as usize);
            return Ok(ids);
        }
        // More were bound meanwhile (`BPF_PROG_BIND_MAP`, 5.10).
        room = there_are;
    }
}

/// What the kernel says of a map.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(crate) fn map_info(fd: BorrowedFd<'_>) -> Result<Reported<MapInfo>> {
    // SAFETY: every address in a zeroed structure is null.
    unsafe { info(fd, MapInfo::new_zeroed(), size_of::<MapInfo>()) }
}

/// What the kernel says of a link of any type.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(crate) fn link_info(fd: BorrowedFd<'_>) -> Result<Reported<LinkInfo>> {
    // SAFETY: every address in a zeroed structure is null.
    unsafe { info(fd, LinkInfo::new_zeroed(), size_of::<LinkInfo>()) }
}

/// The name in what the kernel says of a link, up to its first zero byte: that of a tracepoint, an iterator's target, a symbol,
/// a file. `None` for a type of link that has none, and where the kernel does not tell it.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(crate) fn link_name(fd: BorrowedFd<'_>) -> Result<Option<Vec<u8>>> {
    let told = link_info(fd)?;
    // Which words of the union hold the buffer's address and its length.
    let (address, len) = match told.value.link_type {
        link_type::RAW_TRACEPOINT | link_type::ITER => (0, 1),
        link_type::PERF_EVENT => (1, 2),
        link_type::UPROBE_MULTI => (0, 4),
        _ => return Ok(None),
    };
    // A kernel whose structure ends before the length does not know it, and refuses what is not zero there.
    if told.len < offset_of!(LinkInfo, of_type) + (len + 1) * size_of::<u64>() {
        return Ok(None);
    }
    let mut name = vec![0_u8; LINK_NAME_LEN as usize];
    let mut request = LinkInfo::new_zeroed();
    request.of_type[address] = name.as_mut_ptr() as u64;
    request.of_type[len] = LINK_NAME_LEN.into();
    // SAFETY: the one address that is not null is `name`, which outlives the call, with its own length. These are the words that
    // the link's type uses for them, and a link does not change its type.
    match unsafe { info(fd, request, size_of::<LinkInfo>()) } {
        // A longer name was cut.
        Ok(_) | Err(Error { errno: Errno::ENOSPC, .. }) => {}
        Err(error) => return Err(error),
    }
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    name.truncate(len);
    Ok((len > 0).then_some(name))
}

/// The place of a `kprobe_multi` or `uprobe_multi` link that has only one: an address of the kernel, 0 for who may not know it,
/// or an offset in a file. `None` for any other link.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(crate) fn link_place(fd: BorrowedFd<'_>) -> Result<Option<u64>> {
    let told = link_info(fd)?;
    let mut place = 0_u64;
    let mut request = LinkInfo::new_zeroed();
    match told.value.link_type {
        link_type::KPROBE_MULTI if told.of_type::<KprobeMultiLink>().value.count == 1 => {
            request.of_type[0] = (&raw mut place) as u64;
            request.of_type[1] = 1;
        }
        link_type::UPROBE_MULTI if told.of_type::<UprobeMultiLink>().value.count == 1 => {
            request.of_type[1] = (&raw mut place) as u64;
            request.of_type[4] = 1 << 32;
        }
        _ => return Ok(None),
    }
    // SAFETY: the one address that is not null is `place`, which outlives the call and has room for the one number that the
    // count beside it allows. These are the words that the link's type uses for them, and a link does not change its type.
    unsafe { info(fd, request, size_of::<LinkInfo>()) }?;
    Ok(Some(place))
}

/// What the kernel says of a BTF object, and its name, which ends at the first zero byte.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(crate) fn btf_info(fd: BorrowedFd<'_>) -> Result<(Reported<BtfInfo>, BtfName)> {
    let mut name = [0_u8; BTF_NAME_LEN];
    let mut request = BtfInfo::new_zeroed();
    request.name = name.as_mut_ptr() as u64;
    request.name_len = size_of_u32::<BtfName>();
    // SAFETY: the one address that is not null is `name`, which outlives the call, with its own length.
    let reported = match unsafe { info(fd, request, size_of::<BtfInfo>()) } {
        // Before 5.11 the structure ends before the name, and a tail that is not zero is refused.
        Err(Error { errno: Errno::E2BIG, .. }) => {
            // SAFETY: every address in a zeroed structure is null.
            unsafe { info(fd, BtfInfo::new_zeroed(), BTF_INFO_LEN_5_4) }?
        }
        other => other?,
    };
    Ok((reported, name))
}

/// The type information of a BTF object of `size` bytes.
///
/// # Errors
///
/// Those of `BPF_OBJ_GET_INFO_BY_FD`.
pub(crate) fn btf_data(fd: BorrowedFd<'_>, size: u32) -> Result<Vec<u8>> {
    let mut data = vec![0_u8; size as usize];
    let mut request = BtfInfo::new_zeroed();
    request.btf = data.as_mut_ptr() as u64;
    request.btf_size = size;
    // SAFETY: the one address that is not null is `data`, which outlives the call, with its own length.
    unsafe { info(fd, request, BTF_INFO_LEN_5_4) }?;
    Ok(data)
}

/// Has the kernel fill the first `len` bytes of `request`.
///
/// What the kernel has nothing to say about stays as it came (of programs always, of maps since 6.18): a request has to be
/// fresh and zero, or an object would inherit what the one before it had.
///
/// # Safety
///
/// Every address in `request` is null or that of a buffer that lives through the call and is as long as `request` says.
unsafe fn info<T: FromBytes + IntoBytes>(fd: BorrowedFd<'_>, request: T, len: usize) -> Result<Reported<T>> {
    let mut value = request;
    let mut attr = InfoAttr {
        fd: fd.as_raw_fd(),
        info_len: u32::try_from(len.min(size_of::<T>())).expect("information structures are small"),
        info: (&raw mut value) as u64,
    };
    // SAFETY: `attr.info` is `value`, at least `info_len` bytes long and valid for any content (`FromBytes`); the caller
    // answers for the addresses in it.
    unsafe { bpf(Call::ObjGetInfoByFd, &mut attr) }?;
    Ok(Reported { value, len: attr.info_len as usize })
}

pub(super) fn size_of_u32<T>() -> u32 {
    u32::try_from(size_of::<T>()).expect("kernel structures are small")
}
