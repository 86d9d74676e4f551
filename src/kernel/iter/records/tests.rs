use std::collections::BTreeMap;
use std::mem::offset_of;

use super::*;

static OBJECT: &[u8] = include_bytes!("../../../../bpf/collector.bpf.o");

/// Members of a structure by name: offset and size in bytes.
type Members = BTreeMap<String, (usize, usize)>;

fn half(data: &[u8], at: usize) -> usize {
    u16::from_le_bytes(data[at..at + 2].try_into().expect("two bytes")).into()
}

fn word(data: &[u8], at: usize) -> usize {
    u32::from_le_bytes(data[at..at + 4].try_into().expect("four bytes")) as usize
}

fn long(data: &[u8], at: usize) -> usize {
    usize::try_from(u64::from_le_bytes(data[at..at + 8].try_into().expect("eight bytes"))).expect("it fits")
}

fn text(data: &[u8], at: usize) -> String {
    let text = data[at..].split(|&byte| byte == 0).next().expect("there is a first part");
    String::from_utf8(text.to_vec()).expect("names are ASCII")
}

/// Returns a section of a 64-bit ELF file (`Elf64_Ehdr`, `Elf64_Shdr`).
fn section<'a>(object: &'a [u8], name: &str) -> &'a [u8] {
    let (sections, size, count) = (long(object, 40), half(object, 58), half(object, 60));
    let header = |index: usize| &object[sections + index * size..][..size];
    let contents = |header: &[u8]| &object[long(header, 24)..][..long(header, 32)];
    let names = contents(header(half(object, 62)));
    let found = (0..count).map(header).find(|header| text(names, word(header, 0)) == name);
    contents(found.unwrap_or_else(|| panic!("there is no section {name}")))
}

/// The types of the object (`Documentation/bpf/btf.rst`), each starting with its `struct btf_type`.
struct ObjectTypes<'a> {
    types: Vec<&'a [u8]>,
    names: &'a [u8],
}

const INT: usize = 1;
const POINTER: usize = 2;
const ARRAY: usize = 3;
const STRUCT: usize = 4;
const ENUM: usize = 6;

impl<'a> ObjectTypes<'a> {
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
        let named =
            |of: &&&[u8]| !of.is_empty() && Self::kind(of) == kind && text(self.names, word(of, 0)) == name;
        self.types.iter().find(named).unwrap_or_else(|| panic!("the object has no type {name}"))
    }

    fn size(&self, id: usize) -> usize {
        let of = self.types[id];
        match Self::kind(of) {
            INT | STRUCT | 5 | ENUM | 19 => word(of, 8),
            ARRAY => self.size(word(of, 12)) * word(of, 20),
            // Typedefs and qualifiers.
            8..=11 => self.size(word(of, 8)),
            POINTER => 8,
            other => panic!("type {id} of kind {other} has no size here"),
        }
    }

    /// Returns the size of a structure, and its members.
    fn structure(&self, name: &str) -> (usize, Members) {
        let of = self.find(STRUCT, name);
        let member = |index: usize| {
            let member = &of[12 + 12 * index..];
            // Offsets are in bits; none of the structures has bit fields.
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

/// Returns the members of one of our structures, with their names in C if those differ.
macro_rules! members {
    ($structure:ident { $($field:ident $(= $name:literal)?),* $(,)? }) => {{
        // Does not compile if a field is missing.
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
    let types = ObjectTypes::of(OBJECT);
    let mut map = members!(MapRecord { identity, memory_cgroup, entries, backlog, frozen });
    // In C its members are members of the record.
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
            size_of::<IterRequest>(),
            members!(IterRequest {
                program_facts_from,
                flag_tracepoint,
                flag_kprobe,
                flag_uprobe,
                known_below,
                possible_cpus,
                online_cpus,
                pass
            }),
        ),
        (
            "program_counters",
            size_of::<ProgramCounters>(),
            members!(ProgramCounters { id, used_maps, runs, run_time, misses }),
        ),
        (
            "map_counters",
            size_of::<MapCounters>(),
            members!(MapCounters { id, frozen, entries, backlog, memory_cgroup }),
        ),
        ("file_record", size_of::<FileRecord>(), members!(FileRecord { kind, id })),
        (
            "process_record",
            size_of::<ProcessRecord>(),
            members!(ProcessRecord { kind, pid, own, executable_len, start_time, cgroup, name }),
        ),
        ("end_record", size_of::<EndRecord>(), members!(EndRecord { kind, padding })),
        (
            "walk_state",
            size_of::<WalkState>(),
            members!(WalkState { task, start_time, id, word, reached, skip_before, done, padding }),
        ),
        ("file_kinds", size_of::<FileKinds>(), members!(FileKinds { release_ops, sample_fds, init_task })),
        ("bpffs_record", size_of::<BpffsRecord>(), members!(BpffsRecord { device })),
    ];
    for (name, size, members) in ours {
        assert_eq!(types.structure(name), (size, members), "struct {name}");
    }
}

#[test]
fn targets_have_the_numbers_of_the_object() {
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
    assert_eq!(ObjectTypes::of(OBJECT).enumerators("target"), ours);
}

#[test]
fn kinds_of_files_have_the_numbers_of_the_object() {
    let ours = [
        ("FILE_PROGRAM", file_kind::PROGRAM),
        ("FILE_MAP", file_kind::MAP),
        ("FILE_LINK", file_kind::LINK),
        ("FILE_BTF", file_kind::BTF),
        ("FILE_KINDS", file_kind::KINDS),
        ("FILE_PROCESS", file_kind::PROCESS),
        ("FILE_END", file_kind::END),
    ];
    let ours = ours.map(|(name, number)| (name.to_owned(), number as usize));
    assert_eq!(ObjectTypes::of(OBJECT).enumerators("file_kind"), ours.into());
}

#[test]
fn struct_cpu_has_the_layout_that_the_loader_writes() {
    // An offset, the number and padding, which `load` writes as four words.
    let (size, members) = ObjectTypes::of(OBJECT).structure("cpu");
    assert_eq!((size, members["number"]), (16, (8, 4)));
}
