//! Compiles a list of permitted system calls to a seccomp filter: a search tree over their numbers, so that a call costs a handful of
//! instructions wherever it is in the list.
//!
//! Entry point: [`compile`]. Since 5.11 the kernel does not even run the filter for a call that is always permitted
//! (`seccomp_cache_check_allow`, `kernel/seccomp.c`): only calls with a condition cost something.

use std::collections::BTreeSet;

use seccompiler::{BpfProgram, sock_filter};

/// When a system call is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Always.
    Always,
    /// Never, with `ENOSYS`, so that the C library uses the older call that it replaces. Other refusals are `EPERM`.
    Absent,
    /// If an argument is one of these numbers.
    OneOf(u8, &'static [u32]),
    /// If an argument has all of these bits.
    AllOf(u8, u32),
    /// If an argument has none of these bits.
    NoneOf(u8, u32),
}

/// A system call by its number, and when it is permitted.
pub(super) type Rule = (u32, Condition);

/// The `AUDIT_ARCH_*` of this program (`include/uapi/linux/audit.h`), which says how calls are numbered; `None` where filters are not
/// supported.
const ARCHITECTURE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xC000_003E)
} else if cfg!(target_arch = "aarch64") {
    Some(0xC000_00B7)
} else {
    None
};

/// The highest number of a call that was known when the lists were written. A later one is refused as on an older kernel, and so are
/// those of x32, which have a high bit set.
const LAST_CALL: u32 = 470;

/// The first number of calls since 5.1, which all processors have in common. The C library has another way for each of these, and takes it
/// if the kernel says `ENOSYS`: one that is in no list is refused like that, and an older one with `EPERM`.
const FIRST_RECENT_CALL: u32 = 424;

// Offsets in `struct seccomp_data`, `include/uapi/linux/seccomp.h`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

// Instructions of classic BPF, `include/uapi/linux/bpf_common.h`.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_GREATER_OR_EQUAL: u16 = 0x35;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;

// Results of a filter, `include/uapi/linux/seccomp.h`.
const PERMIT: u32 = 0x7FFF_0000;
const REFUSE: u32 = 0x0005_0000 | libc::EPERM.cast_unsigned();
const ABSENT: u32 = 0x0005_0000 | libc::ENOSYS.cast_unsigned();

/// Compiles rules, whose order does not matter. `None` where this processor's calls are not known.
pub(super) fn compile(rules: &[Rule]) -> Option<BpfProgram> {
    let listed: BTreeSet<u32> = rules.iter().map(|&(number, _)| number).collect();
    let unlisted = (FIRST_RECENT_CALL..=LAST_CALL).filter(|number| !listed.contains(number));
    let mut rules: Vec<Rule> =
        rules.iter().copied().chain(unlisted.map(|number| (number, Condition::Absent))).collect();
    rules.sort_by_key(|&(number, _)| number);
    let mut program = vec![
        load(ARCH),
        branch(IF_EQUAL, ARCHITECTURE?, 1, 0),
        result(REFUSE),
        load(NUMBER),
        branch(IF_GREATER, LAST_CALL, 0, 1),
        result(ABSENT),
    ];
    search(&leaves(&rules), &mut program);
    Some(program)
}

/// Calls with consecutive numbers and one condition.
struct Leaf {
    first: u32,
    last: u32,
    condition: Condition,
}

fn leaves(rules: &[Rule]) -> Vec<Leaf> {
    let mut leaves: Vec<Leaf> = Vec::new();
    for &(number, condition) in rules {
        match leaves.last_mut() {
            Some(leaf) if leaf.last + 1 == number && leaf.condition == condition => leaf.last = number,
            _ => leaves.push(Leaf { first: number, last: number, condition }),
        }
    }
    leaves
}

/// Appends the search for the number in the accumulator.
fn search(leaves: &[Leaf], program: &mut BpfProgram) {
    match leaves {
        [] => program.push(result(REFUSE)),
        [leaf] => {
            program.extend([
                branch(IF_GREATER_OR_EQUAL, leaf.first, 0, 1),
                branch(IF_GREATER, leaf.last, 0, 1),
                result(REFUSE),
            ]);
            check(leaf.condition, program);
        }
        _ => {
            let (low, high) = leaves.split_at(leaves.len() / 2);
            program.push(branch(IF_GREATER_OR_EQUAL, high[0].first, 0, 1));
            let jump = program.len();
            program.push(always(0));
            search(low, program);
            program[jump] = always(program.len() - jump - 1);
            search(high, program);
        }
    }
}

/// Appends the check of a call whose number was found.
fn check(condition: Condition, program: &mut BpfProgram) {
    match condition {
        Condition::Always => program.push(result(PERMIT)),
        Condition::Absent => program.push(result(ABSENT)),
        Condition::OneOf(argument, values) => {
            program.push(load_argument(argument));
            for &value in values {
                program.extend([branch(IF_EQUAL, value, 0, 1), result(PERMIT)]);
            }
            program.push(result(REFUSE));
        }
        Condition::AllOf(argument, bits) => program.extend([
            load_argument(argument),
            instruction(AND, bits),
            branch(IF_EQUAL, bits, 0, 1),
            result(PERMIT),
            result(REFUSE),
        ]),
        Condition::NoneOf(argument, bits) => program.extend([
            load_argument(argument),
            instruction(AND, bits),
            branch(IF_EQUAL, 0, 0, 1),
            result(PERMIT),
            result(REFUSE),
        ]),
    }
}

const fn instruction(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

const fn load(offset: u32) -> sock_filter {
    instruction(LOAD, offset)
}

/// Loads the low half of an argument: those that are checked are ints of the kernel, or have their flags there. Both supported
/// processors are little-endian.
fn load_argument(argument: u8) -> sock_filter {
    load(ARGUMENTS + 8 * u32::from(argument))
}

const fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn always(skip: usize) -> sock_filter {
    instruction(JUMP, u32::try_from(skip).expect("a filter has less than 4096 instructions"))
}

const fn result(value: u32) -> sock_filter {
    instruction(RETURN, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel does. Returns its result and the number of instructions.
    fn run(program: &BpfProgram, architecture: u32, number: u32, arguments: [u32; 2]) -> (u32, usize) {
        let word = |offset| match offset {
            NUMBER => number,
            ARCH => architecture,
            ARGUMENTS => arguments[0],
            24 => arguments[1],
            _ => panic!("offset {offset}"),
        };
        let (mut accumulator, mut at, mut steps) = (0, 0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at].clone();
            steps += 1;
            let skip = |condition| usize::from(if condition { jt } else { jf });
            at += 1 + match code {
                LOAD => {
                    accumulator = word(k);
                    0
                }
                AND => {
                    accumulator &= k;
                    0
                }
                JUMP => k as usize,
                IF_EQUAL => skip(accumulator == k),
                IF_GREATER => skip(accumulator > k),
                IF_GREATER_OR_EQUAL => skip(accumulator >= k),
                RETURN => return (k, steps),
                _ => panic!("code {code}"),
            };
        }
    }

    fn permits(condition: Condition, arguments: [u32; 2]) -> u32 {
        let argument = |index: u8| arguments[usize::from(index)];
        let permitted = match condition {
            Condition::Always => true,
            Condition::Absent => return ABSENT,
            Condition::OneOf(index, values) => values.contains(&argument(index)),
            Condition::AllOf(index, bits) => argument(index) & bits == bits,
            Condition::NoneOf(index, bits) => argument(index) & bits == 0,
        };
        if permitted { PERMIT } else { REFUSE }
    }

    #[test]
    fn a_filter_does_what_its_rules_say_for_every_call() {
        let mut rules: Vec<Rule> = (0..200).filter(|n| n % 5 != 2).map(|n| (n, Condition::Always)).collect();
        rules.extend([
            (240, Condition::Absent),
            (242, Condition::OneOf(0, &[1, 16, 40])),
            (241, Condition::AllOf(1, 0x10)),
            (400, Condition::NoneOf(1, 0x43)),
            (440, Condition::Always),
        ]);
        let program = compile(&rules).expect("the tests run on a supported processor");
        let architecture = ARCHITECTURE.expect("as above");
        for number in 0..=LAST_CALL {
            let rule = rules.iter().find(|rule| rule.0 == number);
            for arguments in [[0, 0], [1, 0x10], [16, 0x11], [40, 0x8_0000], [2, 0x40], [41, 0x30]] {
                let unlisted = if number < FIRST_RECENT_CALL { REFUSE } else { ABSENT };
                let expected = rule.map_or(unlisted, |&(_, condition)| permits(condition, arguments));
                let (found, steps) = run(&program, architecture, number, arguments);
                assert_eq!(found, expected, "{number} {arguments:?}");
                assert!(steps < 40, "{number} takes {steps} instructions");
            }
        }
        for later in [LAST_CALL + 1, 0x4000_0000] {
            assert_eq!(run(&program, architecture, later, [0; 2]).0, ABSENT);
        }
        assert_eq!(run(&program, architecture ^ 1, 0, [0; 2]).0, REFUSE, "of another architecture");
    }

    #[test]
    fn without_rules_nothing_is_permitted() {
        let program = compile(&[]).expect("the tests run on a supported processor");
        assert_eq!(run(&program, ARCHITECTURE.expect("as above"), 0, [0; 2]).0, REFUSE);
    }
}
