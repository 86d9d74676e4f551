//! The table of BTF objects, as `bpf_btf_info` describes them.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::ObjectTable;
use crate::kernel::reading::ReadContext;
use crate::model::{Btf, Kind};
use crate::sys::Result;
use crate::sys::bpf as sys;
use crate::sys::bpf::uapi::{BtfInfo, BtfName, Reported, reported};
use crate::text::printable;

/// The table of BTF objects. Every module of the kernel has one, and none ever changes.
#[derive(Debug)]
pub(crate) struct BtfTable;

impl ObjectTable for BtfTable {
    const KIND: Kind = Kind::Btf;
    const CHANGES: bool = false;
    type Info = (Reported<BtfInfo>, BtfName);
    type Facts = Btf;
    type Extra = ();
    type Row = Arc<Btf>;

    fn info(fd: BorrowedFd<'_>) -> Result<Self::Info> {
        sys::btf_info(fd)
    }

    fn id(btf: &Btf) -> u32 {
        btf.id
    }

    fn is_same(btf: &Btf, (info, name): &Self::Info) -> bool {
        btf.size == info.value.btf_size && btf.name == object_name(name)
    }

    fn facts(
        cx: &mut ReadContext<'_>,
        _fd: BorrowedFd<'_>,
        (info, name): &Self::Info,
        _extra: &mut (),
    ) -> Btf {
        Btf {
            id: info.value.id,
            name: object_name(name),
            kernel: reported!(info, BtfInfo, kernel_btf).map(|kernel| kernel != 0),
            size: info.value.btf_size,
            first_seen: cx.taken_at,
        }
    }

    fn row(btf: Arc<Btf>, _info: Option<&Self::Info>) -> Arc<Btf> {
        btf
    }
}

/// Returns the name of a kernel BTF object. A loader's object has none, nor has any before 5.11: the kernel leaves the buffer
/// zeroed.
fn object_name(name: &BtfName) -> Option<String> {
    (name[0] != 0).then(|| printable(name))
}
