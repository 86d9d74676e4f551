//! What programs can do: programs made for each class, compared with the instructions that bpftool shows of them; each analysed once;
//! and metadata of programs.

use std::io;

use bpf_metrics_exporter::model::Snapshot;
use test_support::objects::{Instruction, Map, Program, ProgramSpec};
use test_support::readers;

use crate::suite::{Requirement, Test};

mod classes;
mod hidden;
mod metadata;
mod once;

const ITERATORS: &[Requirement] = &[readers::iterators_missing];

const BPFTOOL: &[Requirement] = &[test_support::bpftool::missing];

pub(crate) const TESTS: &[Test] = &[
    Test::new("programs_of_each_class_have_its_words", classes::words).requires(BPFTOOL),
    Test::new("calls_are_those_that_bpftool_shows", classes::every_call).requires(BPFTOOL),
    Test::new("kfuncs_have_names_and_are_bounded", classes::kfuncs).since(6, 2).requires(BPFTOOL),
    Test::for_both_backends("a_program_is_analysed_once", once::some_hundred),
    Test::new("seven_thousand_programs_are_analysed_once_each", once::seven_thousand),
    Test::new("analysed_programs_are_never_opened_again", once::refused).requires(ITERATORS),
    Test::new("hidden_calls_are_absent_with_a_reason", hidden::calls),
    Test::new("without_cap_sys_admin_nothing_is_known", hidden::programs),
    Test::for_both_backends("metadata_is_that_of_rodata", metadata::values).requires(BPFTOOL),
    Test::for_both_backends("metadata_of_a_map_bound_later_is_read", metadata::bound_later),
    Test::new("metadata_is_bounded", metadata::bounds),
];

/// An argument of a call.
#[derive(Clone, Copy)]
enum Argument<'a> {
    Number(i32),
    /// The program's context.
    Context,
    /// 24 bytes of zeros on the stack.
    Stack,
    Map(&'a Map),
}

/// Loads a program of this type that calls one helper.
fn calling(kind: u32, helper: i32, arguments: &[Argument<'_>]) -> io::Result<Program> {
    let mut instructions = set(arguments);
    instructions.push(Instruction::call_helper(helper));
    with(kind, instructions)
}

/// Loads a program of this type with these instructions before its return.
fn with(kind: u32, mut instructions: Vec<Instruction>) -> io::Result<Program> {
    let ready = ProgramSpec::ready(kind)?;
    instructions.extend(&ready.instructions);
    Program::load(&ProgramSpec { name: "capable", instructions, ..ready })
}

/// Returns instructions that set the arguments of a call.
fn set(arguments: &[Argument<'_>]) -> Vec<Instruction> {
    const CONTEXT: u8 = 6;
    let stack = [-24, -16, -8].map(|offset| Instruction::push(offset, 0));
    let mut set = vec![Instruction::copy(CONTEXT, 1)];
    set.extend(stack);
    for (register, argument) in (1..).zip(arguments) {
        match argument {
            Argument::Number(number) => set.push(Instruction::mov(register, *number)),
            Argument::Context => set.push(Instruction::copy(register, CONTEXT)),
            Argument::Stack => {
                set.push(Instruction::copy(register, Instruction::STACK));
                set.push(Instruction::add(register, -24));
            }
            Argument::Map(map) => set.extend(Instruction::load_map(register, map)),
        }
    }
    set
}

/// Returns the words and kfuncs of a program as labels have them, sorted; `None` if they are not known.
fn words(snapshot: &Snapshot, id: u32) -> Option<Vec<String>> {
    let capabilities = readers::program(snapshot, id).capabilities.as_ref()?;
    let kfuncs = capabilities.kfuncs.iter().map(|name| format!("kfunc:{name}"));
    let words = capabilities.words.iter().map(|word| word.as_str().to_owned());
    let mut all: Vec<_> = words.chain(kfuncs).collect();
    all.sort();
    Some(all)
}
