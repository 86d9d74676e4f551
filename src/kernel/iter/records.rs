//! What the iterators write, as `bpf/records.h` lays it out. Begin at [`ProgramRecord`].

use std::mem::size_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::sys::bpf::uapi::OBJ_NAME_LEN;

/// Where a smaller number is not known.
pub(crate) const UNKNOWN_U32: u32 = u32::MAX;

/// The name of a thread and its terminating zero.
pub(crate) const TASK_COMM_LEN: usize = 16;

/// The most maps of a program that it tells: as many as the verifier lets it name. More can be bound.
pub(crate) const MAX_USED_MAPS: u32 = 64;

/// Each program: what moves, and what tells it from another with the same id.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ProgramRecord {
    pub(crate) id: u32,
    pub(crate) used_maps: u32,
    pub(crate) load_time: u64,
    pub(crate) tag: [u8; 8],
    pub(crate) runs: u64,
    pub(crate) run_time: u64,
    pub(crate) misses: u64,
    pub(crate) has_facts: u32,
    pub(crate) padding: u32,
}

/// Behind a program's record where it has facts; behind it the full name, what it attaches to, and the ids of its maps.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ProgramFactsRecord {
    pub(crate) program_type: u32,
    pub(crate) size_translated: u32,
    pub(crate) size_jitted: u32,
    pub(crate) pages: u32,
    pub(crate) gpl_compatible: u32,
    pub(crate) uid: u32,
    pub(crate) btf_id: u32,
    pub(crate) verified_instructions: u32,
    pub(crate) name: [u8; OBJ_NAME_LEN],
    pub(crate) full_name_len: u32,
    pub(crate) attach_to_len: u32,
    pub(crate) map_count: u32,
    pub(crate) padding: u32,
}

/// Each map: what never changes, all of which tells it from another with the same id, and what moves.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct MapRecord {
    pub(crate) identity: MapIdentity,
    pub(crate) memory_cgroup: u64,
    pub(crate) entries: i64,
    pub(crate) backlog: i64,
    pub(crate) frozen: u64,
}

/// What of a map never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct MapIdentity {
    pub(crate) id: u32,
    pub(crate) map_type: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    pub(crate) btf_id: u32,
    pub(crate) padding: u32,
    pub(crate) name: [u8; OBJ_NAME_LEN],
    pub(crate) cookie: u64,
}

/// Each link; behind it its name and group. All but the first field says what it is.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct LinkRecord {
    pub(crate) missed: i64,
    pub(crate) id: u32,
    pub(crate) link_type: u32,
    pub(crate) prog_id: u32,
    pub(crate) attach_type: u32,
    pub(crate) target: u32,
    pub(crate) return_probe: u32,
    pub(crate) first: u64,
    pub(crate) second: u64,
    pub(crate) name_len: u32,
    pub(crate) group_len: u32,
}

/// What a link's target is: `enum target`.
pub(crate) mod target {
    pub(crate) const RAW_TRACEPOINT: u32 = 1;
    pub(crate) const FUNCTION: u32 = 2;
    pub(crate) const CGROUP: u32 = 3;
    pub(crate) const ITERATOR: u32 = 4;
    pub(crate) const ITERATOR_MAP: u32 = 5;
    pub(crate) const ITERATOR_CGROUP: u32 = 6;
    pub(crate) const ITERATOR_THREAD: u32 = 7;
    pub(crate) const ITERATOR_PROCESS: u32 = 8;
    pub(crate) const NETNS: u32 = 9;
    pub(crate) const DEVICE: u32 = 10;
    pub(crate) const KPROBE: u32 = 11;
    pub(crate) const UPROBE: u32 = 12;
    pub(crate) const TRACEPOINT: u32 = 13;
    pub(crate) const PERF_EVENT: u32 = 14;
    pub(crate) const KPROBE_MULTI: u32 = 15;
    pub(crate) const MAP: u32 = 16;
    pub(crate) const NETFILTER: u32 = 17;
}

/// What a file is the descriptor of: `enum file_kind`.
pub(crate) mod file_kind {
    pub(crate) const PROGRAM: u32 = 0;
    pub(crate) const MAP: u32 = 1;
    pub(crate) const LINK: u32 = 2;
    pub(crate) const BTF: u32 = 3;
    pub(crate) const KINDS: u32 = 4;
    /// No file: what the next ones belong to.
    pub(crate) const PROCESS: u32 = 5;
    /// No file: there was no room for more.
    pub(crate) const REST: u32 = 6;
}

/// What the records that follow belong to.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ProcessRecord {
    pub(crate) kind: u32,
    pub(crate) pid: u32,
    pub(crate) own: u32,
    pub(crate) padding: u32,
    pub(crate) start_time: u64,
    pub(crate) cgroup: u64,
    pub(crate) name: [u8; TASK_COMM_LEN],
}

/// Each descriptor of a BPF object in a process.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct FileRecord {
    pub(crate) kind: u32,
    pub(crate) id: u32,
}

/// From which descriptor of which thread on there are more.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct RestRecord {
    pub(crate) kind: u32,
    pub(crate) task: u32,
    pub(crate) fd: u32,
    pub(crate) padding: u32,
}

/// Where a walk through the descriptors of all threads begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct WalkState {
    pub(crate) from_task: u32,
    pub(crate) from_fd: u32,
    pub(crate) interrupted: u64,
}

/// How the files of each kind are known.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct FileKinds {
    pub(crate) release_ops: [u64; file_kind::KINDS as usize],
    pub(crate) sample_fds: [i32; file_kind::KINDS as usize],
}

/// What the programs are asked.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Request {
    /// Programs whose id is not less have their facts written.
    pub(crate) program_facts_from: u32,
    /// Bits of `trace_event_call.flags`.
    pub(crate) flag_tracepoint: u32,
    pub(crate) flag_kprobe: u32,
    pub(crate) flag_uprobe: u32,
}

const _: () = assert!(size_of::<LinkRecord>() == 56);
const _: () = assert!(size_of::<ProgramRecord>() == 56);
const _: () = assert!(size_of::<ProgramFactsRecord>() == 64);
const _: () = assert!(size_of::<MapRecord>() == 88);
const _: () = assert!(size_of::<ProcessRecord>() == 48);
const _: () = assert!(size_of::<FileRecord>() == 8);
const _: () = assert!(size_of::<RestRecord>() == 16);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::mem::offset_of;

    use super::*;

    static OBJECT: &[u8] = include_bytes!("../../../bpf/collector.bpf.o");

    /// Members by name: offset and size in bytes.
    type Members = BTreeMap<String, (usize, usize)>;

    fn half(data: &[u8], at: usize) -> usize {
        u16::from_le_bytes(data[at..at + 2].try_into().expect("two bytes")).into()
    }

    fn word(data: &[u8], at: usize) -> usize {
        u32::from_le_bytes(data[at..at + 4].try_into().expect("four bytes")) as usize
    }

    fn long(data: &[u8], at: usize) -> usize {
        usize::try_from(u64::from_le_bytes(data[at..at + 8].try_into().expect("eight bytes")))
            .expect("it fits")
    }

    fn text(data: &[u8], at: usize) -> String {
        let text = data[at..].split(|&byte| byte == 0).next().expect("there is a first part");
        String::from_utf8(text.to_vec()).expect("names are ASCII")
    }

    /// A section of an ELF file of 64 bits (`Elf64_Ehdr`, `Elf64_Shdr`).
    fn section<'a>(object: &'a [u8], wanted: &str) -> &'a [u8] {
        let (sections, size, count) = (long(object, 40), half(object, 58), half(object, 60));
        let header = |index: usize| &object[sections + index * size..][..size];
        let contents = |header: &[u8]| &object[long(header, 24)..][..long(header, 32)];
        let names = contents(header(half(object, 62)));
        let found = (0..count).map(header).find(|header| text(names, word(header, 0)) == wanted);
        contents(found.unwrap_or_else(|| panic!("there is no section {wanted}")))
    }

    /// The types in the object (`Documentation/bpf/btf.rst`), each from its `struct btf_type` on.
    struct Types<'a> {
        types: Vec<&'a [u8]>,
        names: &'a [u8],
    }

    const INT: usize = 1;
    const POINTER: usize = 2;
    const ARRAY: usize = 3;
    const STRUCT: usize = 4;
    const ENUM: usize = 6;

    impl<'a> Types<'a> {
        fn of(object: &'a [u8]) -> Self {
            let btf = section(object, ".BTF");
            let header = word(btf, 4);
            let names = &btf[header + word(btf, 16)..];
            let mut rest = &btf[header + word(btf, 8)..][..word(btf, 12)];
            // Type 0 is void.
            let mut types = vec![&btf[..0]];
            while !rest.is_empty() {
                types.push(rest);
                let count = Self::count(rest);
                let tail = match Self::kind(rest) {
                    INT | 14 | 17 => 4,
                    ARRAY => 12,
                    STRUCT | 5 | 15 | 19 => 12 * count,
                    ENUM | 13 => 8 * count,
                    _ => 0,
                };
                rest = &rest[12 + tail..];
            }
            Self { types, names }
        }

        fn kind(of: &[u8]) -> usize {
            word(of, 4) >> 24 & 0x1f
        }

        fn count(of: &[u8]) -> usize {
            word(of, 4) & 0xffff
        }

        fn find(&self, kind: usize, name: &str) -> &'a [u8] {
            let named = |of: &&&[u8]| {
                !of.is_empty() && Self::kind(of) == kind && text(self.names, word(of, 0)) == name
            };
            self.types.iter().find(named).unwrap_or_else(|| panic!("the object has no type {name}"))
        }

        fn size(&self, id: usize) -> usize {
            let of = self.types[id];
            match Self::kind(of) {
                INT | STRUCT | 5 | ENUM | 19 => word(of, 8),
                ARRAY => self.size(word(of, 12)) * word(of, 20),
                // Other names of a type, and qualifiers.
                8..=11 => self.size(word(of, 8)),
                POINTER => 8,
                other => panic!("type {id} of kind {other} has no size here"),
            }
        }

        /// The size of a struct, and its members.
        fn structure(&self, name: &str) -> (usize, Members) {
            let of = self.find(STRUCT, name);
            let member = |index: usize| {
                let member = &of[12 + 12 * index..];
                // In bits, with those of bit fields above, of which there are none.
                (text(self.names, word(member, 0)), (word(member, 8) / 8, self.size(word(member, 4))))
            };
            (word(of, 8), (0..Self::count(of)).map(member).collect())
        }

        fn enumerators(&self, name: &str) -> BTreeMap<String, usize> {
            let of = self.find(ENUM, name);
            let value = |index: usize| {
                let value = &of[12 + 8 * index..];
                (text(self.names, word(value, 0)), word(value, 4))
            };
            (0..Self::count(of)).map(value).collect()
        }
    }

    fn size_of_member<Of, Member>(_of: impl FnOnce(&Of) -> &Member) -> usize {
        size_of::<Member>()
    }

    /// The members of a structure of ours, by their names in C where those differ.
    macro_rules! members {
        ($structure:ident { $($field:ident $(= $name:literal)?),* $(,)? }) => {{
            // Complains of fields that are left out.
            let _all = |$structure { $($field: _),* }: $structure| ();
            let name = |field: &str, names: &[&str]| names.first().copied().unwrap_or(field).to_owned();
            Members::from([$((
                name(stringify!($field), &[$($name)?]),
                (offset_of!($structure, $field), size_of_member(|of: &$structure| &of.$field)),
            )),*])
        }};
    }

    #[test]
    fn structures_are_laid_out_as_in_the_object() {
        let types = Types::of(OBJECT);
        let mut map = members!(MapRecord { identity, memory_cgroup, entries, backlog, frozen });
        // In C its members are those of the record.
        assert_eq!(map.remove("identity"), Some((0, size_of::<MapIdentity>())));
        map.append(&mut members!(MapIdentity {
            id, map_type = "type", key_size, value_size, max_entries, flags, btf_id, padding, name, cookie,
        }));
        let ours = [
            (
                "program_record",
                size_of::<ProgramRecord>(),
                members!(ProgramRecord {
                    id,
                    used_maps,
                    load_time,
                    tag,
                    runs,
                    run_time,
                    misses,
                    has_facts,
                    padding
                }),
            ),
            (
                "program_facts",
                size_of::<ProgramFactsRecord>(),
                members!(ProgramFactsRecord {
                    program_type = "type", size_translated, size_jitted, pages, gpl_compatible, uid, btf_id,
                    verified_instructions, name, full_name_len, attach_to_len, map_count, padding,
                }),
            ),
            ("map_record", size_of::<MapRecord>(), map),
            (
                "link_record",
                size_of::<LinkRecord>(),
                members!(LinkRecord {
                    missed, id, link_type = "type", prog_id, attach_type, target, return_probe, first, second,
                    name_len, group_len,
                }),
            ),
            (
                "request",
                size_of::<Request>(),
                members!(Request { program_facts_from, flag_tracepoint, flag_kprobe, flag_uprobe }),
            ),
            ("file_record", size_of::<FileRecord>(), members!(FileRecord { kind, id })),
            (
                "process_record",
                size_of::<ProcessRecord>(),
                members!(ProcessRecord { kind, pid, own, padding, start_time, cgroup, name }),
            ),
            ("rest_record", size_of::<RestRecord>(), members!(RestRecord { kind, task, fd, padding })),
            ("walk_state", size_of::<WalkState>(), members!(WalkState { from_task, from_fd, interrupted })),
            ("file_kinds", size_of::<FileKinds>(), members!(FileKinds { release_ops, sample_fds })),
        ];
        for (name, size, members) in ours {
            assert_eq!(types.structure(name), (size, members), "struct {name}");
        }
    }

    #[test]
    fn targets_have_the_numbers_that_they_have_in_the_object() {
        macro_rules! targets {
            ($($name:ident),* $(,)?) => {
                BTreeMap::from([
                    ("TARGET_NONE".to_owned(), 0),
                    $((format!("TARGET_{}", stringify!($name)), target::$name as usize)),*
                ])
            };
        }
        let ours = targets!(
            RAW_TRACEPOINT,
            FUNCTION,
            CGROUP,
            ITERATOR,
            ITERATOR_MAP,
            ITERATOR_CGROUP,
            ITERATOR_THREAD,
            ITERATOR_PROCESS,
            NETNS,
            DEVICE,
            KPROBE,
            UPROBE,
            TRACEPOINT,
            PERF_EVENT,
            KPROBE_MULTI,
            MAP,
            NETFILTER,
        );
        assert_eq!(Types::of(OBJECT).enumerators("target"), ours);
    }

    #[test]
    fn kinds_of_files_have_the_numbers_that_they_have_in_the_object() {
        let ours = [
            ("FILE_PROGRAM", file_kind::PROGRAM),
            ("FILE_MAP", file_kind::MAP),
            ("FILE_LINK", file_kind::LINK),
            ("FILE_BTF", file_kind::BTF),
            ("FILE_KINDS", file_kind::KINDS),
            ("FILE_PROCESS", file_kind::PROCESS),
            ("FILE_REST", file_kind::REST),
        ];
        let ours = ours.map(|(name, number)| (name.to_owned(), number as usize));
        assert_eq!(Types::of(OBJECT).enumerators("file_kind"), ours.into());
    }

    #[test]
    fn there_is_room_for_as_many_maps_as_are_told() {
        let (_, members) = Types::of(OBJECT).structure("program_scratch");
        assert_eq!(members["map_ids"].1, 4 * MAX_USED_MAPS as usize);
    }

    #[test]
    fn a_processor_is_laid_out_as_it_is_written() {
        // An offset, its number and padding: as four words in `load`.
        let (size, members) = Types::of(OBJECT).structure("cpu");
        assert_eq!((size, members["number"]), (16, (8, 4)));
    }
}
