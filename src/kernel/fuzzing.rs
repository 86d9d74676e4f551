//! Entry points of a fuzzer for what the kernel reports: each parses any bytes, and may not panic.

use std::sync::Arc;

pub(crate) use super::attachments::fuzz as netlink;
use super::btf::{Types, search};
use super::capabilities::metadata_of;
pub(crate) use super::events::fuzz as perf_records;
use super::fdinfo::FdInfo;
use super::instructions::Calls;

pub(crate) fn instructions(bytes: &[u8]) {
    let calls = Calls::decode(bytes);
    assert!(!calls.helpers.contains(&0) && calls.kfuncs.iter().all(|call| call.immediate != 0));
}

pub(crate) fn fdinfo(bytes: &[u8]) {
    let _info = FdInfo::parse(bytes);
}

pub(crate) fn btf(bytes: &[u8]) {
    let kernel = Arc::new(Types::parse(bytes.to_vec(), None));
    let module = Types::parse(bytes.to_vec(), Some(Arc::clone(&kernel)));
    for types in [&kernel, &module] {
        // Ids of types that exist, are of the other, or of none.
        for id in (0..64).chain([u32::MAX]) {
            let _variables = metadata_of(types, id, bytes);
            let _names = (types.function(id), types.attach_target(id), types.operations(id));
        }
    }
    let _found = search(std::io::Cursor::new(bytes), ["bpf_iter_bpf_prog"], ["BPF_F_LINK"]);
}
