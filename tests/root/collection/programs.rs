//! Programs: every type, every field, and the full name.

use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};

use bpf_metrics_exporter::model::{Program as Found, ReaderKind};
use jiff::Timestamp;

use super::read;
use test_support::objects::{Function, Instruction, Program, ProgramSpec, every_program_type, uapi};
use test_support::readers;

/// Returns the program with this id, from a new snapshot.
fn find(backend: ReaderKind, id: u32) -> Found {
    let programs = read(backend).programs.expect("programs can be listed");
    programs.into_iter().find(|program| program.facts.id == id).expect("the program is reported")
}

/// Returns a value of an object's fdinfo, where this kernel has that line.
pub(crate) fn fdinfo(fd: BorrowedFd<'_>, key: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
        .expect("an open file has an fdinfo");
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

pub(crate) fn every_type_is_reported(backend: ReaderKind) {
    let made = every_program_type();
    let snapshot = read(backend);
    let programs = snapshot.programs.expect("programs can be listed");
    let mut types = 0;
    for (number, program) in &made {
        // A type that this kernel was built without cannot be made.
        let Ok(program) = program else { continue };
        let found = programs.iter().find(|found| found.facts.id == program.id());
        let facts = &found.unwrap_or_else(|| panic!("a program of type {number} is not reported")).facts;
        assert_eq!(facts.program_type.number, *number);
        assert!(facts.program_type.name.is_some(), "type {number} has a name");
        assert_eq!(Some(facts.tag.to_string()), fdinfo(program.fd(), "prog_tag"));
        types += 1;
    }
    assert!(types >= 20, "only {types} types of program could be loaded: {made:#?}");
}

pub(crate) fn every_field(backend: ReaderKind) {
    let before = Timestamp::now();
    let instructions = Instruction::returning(7);
    let words = instructions.len();
    let program = Program::load(&ProgramSpec {
        name: "every_field",
        license: c"Proprietary",
        instructions,
        ..ProgramSpec::new(uapi::program_type::SOCKET_FILTER, 0)
    })
    .expect("a socket filter can be loaded");
    let after = Timestamp::now();

    let snapshot = read(backend);
    let found = readers::program(&snapshot, program.id());
    let facts = &found.facts;
    let loaded_at = snapshot.clock.second(facts.loaded_at);
    assert_eq!(facts.name, "every_field");
    assert_eq!(facts.program_type.name.as_deref(), Some("socket_filter"));
    assert!(!facts.gpl_compatible, "its licence is proprietary");
    assert_eq!(facts.uid, 0);
    assert_eq!(facts.btf_id, None);
    assert_eq!(facts.size_translated as usize, words * 8);
    assert!(facts.size_jitted > 0, "the kernel compiles it");
    assert_eq!(facts.mem.map(|mem| mem.to_string()), fdinfo(program.fd(), "memlock"));
    assert_eq!(
        facts.verified_instructions.map(|count| count.to_string()),
        fdinfo(program.fd(), "verified_insns")
    );
    assert!(loaded_at.as_second() >= before.as_second() && loaded_at <= after, "{loaded_at}");
    assert_eq!(
        found.recursion_misses.map(|count| count.to_string()),
        fdinfo(program.fd(), "recursion_misses")
    );

    let free =
        Program::ready(uapi::program_type::SOCKET_FILTER, "free").expect("a socket filter can be loaded");
    assert!(find(backend, free.id()).facts.gpl_compatible);
}

pub(crate) fn full_names(backend: ReaderKind) {
    let long = "a_name_that_is_longer_than_fifteen_characters";
    let program = Program::with_full_name(long).expect("a program with BTF can be loaded");
    let found = find(backend, program.id());
    assert_eq!(found.facts.name, long);
    assert_eq!(found.facts.btf_id, program.btf().map(test_support::objects::Btf::id));

    // Fifteen characters that were not truncated: BTF adds nothing.
    let short = "fifteen_letters";
    let program = Program::load(&ProgramSpec {
        name: short,
        functions: &[Function { name: short, first_instruction: 0 }],
        ..ProgramSpec::new(uapi::program_type::SOCKET_FILTER, 0)
    });
    assert_eq!(find(backend, program.expect("it can be loaded").id()).facts.name, short);
    let program = Program::ready(uapi::program_type::SOCKET_FILTER, short).expect("it can be loaded");
    assert_eq!(find(backend, program.id()).facts.name, short, "without BTF only the kernel's name is known");
}
