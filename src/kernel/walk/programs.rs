//! The table of programs, as `bpf_prog_info` describes them.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use super::ObjectTable;
use crate::kernel::reading::{ReadContext, nonzero};
use crate::model::enums::program_type;
use crate::model::{BootTime, Kind, Program, ProgramFacts, Tag};
use crate::sys::Result;
use crate::sys::bpf as sys;
use crate::sys::bpf::uapi::{OBJ_NAME_LEN, ProgramInfo, Reported, reported};
use crate::text::printable;

/// The table of programs.
#[derive(Debug)]
pub(crate) struct ProgramTable;

impl ObjectTable for ProgramTable {
    const KIND: Kind = Kind::Program;
    type Info = Reported<ProgramInfo>;
    type Facts = ProgramFacts;
    type Extra = ();
    type Row = Program;

    fn info(fd: BorrowedFd<'_>) -> Result<Self::Info> {
        sys::program_info(fd)
    }

    fn id(facts: &ProgramFacts) -> u32 {
        facts.id
    }

    fn is_same(facts: &ProgramFacts, info: &Self::Info) -> bool {
        facts.loaded_at == BootTime(info.value.load_time) && facts.tag.0 == info.value.tag
    }

    fn facts(
        cx: &mut ReadContext<'_>,
        fd: BorrowedFd<'_>,
        info: &Self::Info,
        _extra: &mut (),
    ) -> ProgramFacts {
        let value = &info.value;
        let btf_id = nonzero(value.btf_id);
        let short_name = printable(&value.name);
        let full_name = match btf_id {
            Some(btf_id) if short_name.len() == OBJ_NAME_LEN - 1 => cx.entry_function(fd, btf_id),
            _ => None,
        };
        ProgramFacts {
            id: value.id,
            name: full_name.unwrap_or(short_name),
            program_type: program_type::from_number(value.prog_type),
            tag: Tag(value.tag),
            gpl_compatible: value.gpl_compatible & 1 == 1,
            loaded_at: BootTime(value.load_time),
            uid: value.created_by_uid,
            btf_id,
            size_jitted: value.jited_prog_len,
            size_translated: value.xlated_prog_len,
            mem: cx.fdinfo(Self::KIND, fd).and_then(|info| info.memlock),
            verified_instructions: reported!(info, ProgramInfo, verified_insns),
            attach_to: attach_target(cx, info),
            map_ids: map_ids(cx, fd, value.nr_map_ids),
        }
    }

    fn changed(
        cx: &mut ReadContext<'_>,
        fd: BorrowedFd<'_>,
        facts: &ProgramFacts,
        info: &Self::Info,
        _extra: &mut (),
    ) -> Option<ProgramFacts> {
        let count = facts.map_ids.as_ref().map(Vec::len);
        if count == usize::try_from(info.value.nr_map_ids).ok() {
            return None;
        }
        let map_ids = map_ids(cx, fd, info.value.nr_map_ids);
        (map_ids != facts.map_ids).then(|| ProgramFacts { map_ids, ..facts.clone() })
    }

    fn row(facts: Arc<ProgramFacts>, info: Option<&Self::Info>) -> Program {
        Program {
            facts,
            run_time: info.map(|info| Duration::from_nanos(info.value.run_time_ns)),
            runs: info.map(|info| info.value.run_cnt),
            recursion_misses: info.and_then(|info| reported!(info, ProgramInfo, recursion_misses)),
            capabilities: None,
            metadata: None,
            owner: None,
        }
    }
}

/// Returns the ids of the maps that a program uses, ascending. `None`, and an issue, on failure.
fn map_ids(cx: &mut ReadContext<'_>, fd: BorrowedFd<'_>, count: u32) -> Option<Vec<u32>> {
    if count == 0 {
        return Some(Vec::new());
    }
    match sys::program_map_ids(fd, count) {
        Ok(mut ids) => {
            ids.sort_unstable();
            ids.dedup();
            Some(ids)
        }
        Err(error) => {
            cx.issues.record(Kind::Program, error);
            None
        }
    }
}

/// Looks up the function that a program was compiled against, as `bpf_prog_aux.attach_func_name` has it.
///
/// For `struct_ops` the kernel reports only the structure, and that name is of a member. For a program that was compiled against
/// another program, the kernel forgets the other one as soon as it is attached (`bpf_tracing_prog_attach`, `kernel/bpf/syscall.c`).
fn attach_target(cx: &mut ReadContext<'_>, info: &Reported<ProgramInfo>) -> Option<String> {
    // The later of the two fields shows whether this kernel has both.
    let type_id = reported!(info, ProgramInfo, attach_btf_id).and_then(nonzero)?;
    let btf_id = nonzero(info.value.attach_btf_obj_id)?;
    let has_function = [program_type::TRACING, program_type::EXT, program_type::LSM];
    let types = has_function.contains(&info.value.prog_type).then(|| cx.types(btf_id))??;
    types.attach_target(type_id).map(printable)
}
