//! Translated instructions of a program: which functions of the kernel it calls, and what else its instructions say about it.
//!
//! Entry point: [`Calls::decode`], a function of bytes. Names of functions are not its business, see [`super::capabilities`].
//!
//! The kernel changes the instructions when it verifies a program, and changes some of them back when it shows them
//! (`bpf_insn_prepare_dump`, `kernel/bpf/syscall.c`): calls of helpers have the distance from `__bpf_call_base` for the number, tail
//! calls have their number again, and loads that may fault (`BPF_PROBE_MEM`) look like others.

/// `struct bpf_insn`.
pub(crate) const INSTRUCTION_LEN: usize = 8;

/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// `BPF_JMP | BPF_TAIL_CALL`, which the kernel shows as a call of [`TAIL_CALL_HELPER`].
const TAIL_CALL: u8 = 0xf0;
/// `BPF_FUNC_tail_call`.
const TAIL_CALL_HELPER: i32 = 12;
/// `BPF_PSEUDO_KFUNC_CALL`, in the source register of a call. 1 is a call of a function of the program.
const KFUNC_CALL: u8 = 2;

/// `BPF_CLASS` and `BPF_LDX`.
const CLASS: u8 = 0x07;
const CLASS_LDX: u8 = 0x01;
/// `BPF_MODE`, `BPF_PROBE_MEM` and `BPF_PROBE_MEMSX`.
const MODE: u8 = 0xe0;
const MODE_PROBE_MEM: u8 = 0x20;
const MODE_PROBE_MEMSX: u8 = 0x40;

/// How far into a program the verifier's prologue is looked for: another one may precede it.
const PROLOGUE_WITHIN: usize = 16;

/// One instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decoded {
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
}

/// A call of a kfunc, as the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KfuncCall {
    /// The distance of the function from `__bpf_call_base`, or its type id where the machine has no such distance in 32 bits.
    pub(crate) immediate: i32,
    /// Which BTF object the type id is of: 0 is the kernel's.
    pub(crate) object: i16,
}

/// What the instructions of a program say about it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a sign of its own, and any of them can be there together"
)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    /// Distances of the helpers that it calls from `__bpf_call_base`, ascending.
    pub(crate) helpers: Vec<i32>,
    /// The kfuncs that it calls, ascending.
    pub(crate) kfuncs: Vec<KfuncCall>,
    /// Whether it has a tail call.
    pub(crate) has_tail_call: bool,
    /// Whether a load is shown that may fault.
    pub(crate) has_faulting_load: bool,
    /// Whether it begins as a program that writes to packets directly: the verifier adds code that makes the packet's head writable.
    pub(crate) writes_packet: bool,
    /// Whether the kernel hides which functions are called.
    pub(crate) is_hidden: bool,
}

impl Calls {
    /// Decodes instructions. Incomplete ones at the end are ignored.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let mut calls = Self::default();
        for bytes in instructions(bytes) {
            calls.add(Decoded::from_bytes(*bytes));
        }
        calls.helpers.sort_unstable();
        calls.helpers.dedup();
        calls.kfuncs.sort_unstable();
        calls.kfuncs.dedup();
        let start: Vec<_> =
            instructions(bytes).take(PROLOGUE_WITHIN).map(|bytes| Decoded::from_bytes(*bytes)).collect();
        calls.writes_packet = start.windows(6).any(is_unclone_prologue);
        calls
    }

    /// The second half of a 64-bit load has the code 0, which is none of these.
    fn add(&mut self, instruction: Decoded) {
        let Decoded { code, source, offset, immediate, .. } = instruction;
        match (code, source) {
            (TAIL_CALL, _) | (CALL, 0) if code == TAIL_CALL || immediate == TAIL_CALL_HELPER => {
                self.has_tail_call = true;
            }
            // No function is at the base itself.
            (CALL, 0 | KFUNC_CALL) if immediate == 0 => self.is_hidden = true,
            (CALL, 0) => push(&mut self.helpers, immediate),
            (CALL, KFUNC_CALL) => push(&mut self.kfuncs, KfuncCall { immediate, object: offset }),
            _ => {
                let may_fault = [MODE_PROBE_MEM, MODE_PROBE_MEMSX].contains(&(code & MODE));
                self.has_faulting_load |= code & CLASS == CLASS_LDX && may_fault;
            }
        }
    }
}

/// Adds a call unless it is the same as the one before: the same helper is often called several times in a row.
fn push<T: PartialEq>(calls: &mut Vec<T>, call: T) {
    if calls.last() != Some(&call) {
        calls.push(call);
    }
}

fn instructions(bytes: &[u8]) -> impl Iterator<Item = &[u8; INSTRUCTION_LEN]> {
    bytes.as_chunks().0.iter()
}

impl Decoded {
    fn from_bytes(bytes: [u8; INSTRUCTION_LEN]) -> Self {
        let [code, registers, o0, o1, i0, i1, i2, i3] = bytes;
        let (low, high) = (registers & 0xf, registers >> 4);
        // The kernel declares two 4-bit fields, whose order within the byte follows the byte order of the machine.
        let (destination, source) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
        Self {
            code,
            destination,
            source,
            offset: i16::from_ne_bytes([o0, o1]),
            immediate: i32::from_ne_bytes([i0, i1, i2, i3]),
        }
    }
}

/// Returns whether these are the start of `bpf_unclone_prologue`, `net/core/filter.c`: if the packet is cloned, it calls
/// `bpf_skb_pull_data(ctx, 0)`. No program can read whether a packet is cloned, so that none begins like this itself.
fn is_unclone_prologue(instructions: &[Decoded]) -> bool {
    let [load, and, jump, copy, xor, call] = instructions else { return false };
    let between = |instruction: &Decoded, code, destination, source| {
        (instruction.code, instruction.destination, instruction.source) == (code, destination, source)
    };
    between(load, 0x71, 6, 1)
        && between(and, 0x54, 6, 0)
        && between(jump, 0x15, 6, 0)
        && (jump.offset, jump.immediate) == (7, 0)
        && between(copy, 0xbf, 6, 1)
        && between(xor, 0xaf, 2, 2)
        && between(call, CALL, 0, 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> [u8; 8] {
        let registers = if cfg!(target_endian = "little") {
            destination | source << 4
        } else {
            destination << 4 | source
        };
        let [o0, o1] = offset.to_ne_bytes();
        let [i0, i1, i2, i3] = immediate.to_ne_bytes();
        [code, registers, o0, o1, i0, i1, i2, i3]
    }

    fn call(source: u8, immediate: i32) -> [u8; 8] {
        instruction(CALL, 0, source, 0, immediate)
    }

    fn decode(instructions: &[[u8; 8]]) -> Calls {
        Calls::decode(instructions.as_flattened())
    }

    const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    fn helpers_and_kfuncs_are_told_apart_and_listed_once() {
        let kfunc = |immediate, object| instruction(CALL, 0, KFUNC_CALL, object, immediate);
        let calls = decode(&[call(0, 70), kfunc(9, 1), call(0, -5), call(0, 70), kfunc(9, 0), kfunc(9, 1)]);
        assert_eq!(calls.helpers, [-5, 70]);
        let kfuncs = [(9, 0), (9, 1)].map(|(immediate, object)| KfuncCall { immediate, object });
        assert_eq!(calls, Calls { helpers: vec![-5, 70], kfuncs: kfuncs.to_vec(), ..Calls::default() });
    }

    #[test]
    fn calls_within_the_program_are_none_of_the_kernel() {
        assert_eq!(decode(&[call(1, 5), call(1, 0), EXIT]), Calls::default());
    }

    #[test]
    fn hidden_calls_are_noticed_and_tail_calls_are_never_hidden() {
        let hidden = Calls { is_hidden: true, ..Calls::default() };
        assert_eq!(decode(&[call(0, 0), EXIT]), hidden);
        assert_eq!(decode(&[call(KFUNC_CALL, 0), EXIT]), hidden);
        let tail_call = Calls { has_tail_call: true, ..Calls::default() };
        assert_eq!(decode(&[call(0, TAIL_CALL_HELPER)]), tail_call);
        assert_eq!(decode(&[instruction(TAIL_CALL, 0, 0, 0, 77)]), tail_call);
    }

    #[test]
    fn the_second_half_of_a_64_bit_load_is_no_instruction() {
        let load = instruction(0x18, 1, 0, 0, 1);
        assert_eq!(decode(&[load, instruction(0, 0, 0, 0, 0x85), EXIT]), Calls::default());
    }

    #[test]
    fn loads_that_may_fault_are_noticed() {
        let load = |mode| decode(&[instruction(CLASS_LDX | mode, 1, 2, 8, 0)]).has_faulting_load;
        assert!(load(MODE_PROBE_MEM) && load(MODE_PROBE_MEMSX));
        assert!(!load(0x60), "an ordinary load");
        assert!(!load(0x80), "a load that extends the sign");
    }

    /// What the verifier adds to a program of type `sched_cls`.
    fn prologue() -> Vec<[u8; 8]> {
        vec![
            instruction(0x71, 6, 1, 126, 0),
            instruction(0x54, 6, 0, 0, 1),
            instruction(0x15, 6, 0, 7, 0),
            instruction(0xbf, 6, 1, 0, 0),
            instruction(0xaf, 2, 2, 0, 0),
            call(0, 1234),
            instruction(0x15, 0, 0, 2, 0),
            instruction(0xb4, 0, 0, 0, 2),
            EXIT,
            instruction(0xbf, 1, 6, 0, 0),
            EXIT,
        ]
    }

    #[test]
    fn the_prologue_of_direct_writes_is_recognised() {
        let prologue = prologue();
        assert!(decode(&prologue).writes_packet);
        let after =
            |others: usize| [vec![instruction(0x7a, 10, 0, -8, 0); others], prologue.clone()].concat();
        assert!(decode(&after(2)).writes_packet);
        assert!(!decode(&after(100)).writes_packet, "it is not at the start");
        for changed in 0..6 {
            let mut other = prologue.clone();
            other[changed][0] ^= 0x10;
            assert!(!decode(&other).writes_packet, "without instruction {changed}");
            assert!(!decode(&prologue[..changed]).writes_packet, "with {changed} of its instructions");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded(bytes: Vec<u8>) {
            let calls = Calls::decode(&bytes);
            prop_assert!(calls.helpers.is_sorted_by(|a, b| a < b) && calls.kfuncs.is_sorted_by(|a, b| a < b));
            prop_assert!(!calls.helpers.contains(&0));
            let whole = bytes.len() - bytes.len() % INSTRUCTION_LEN;
            prop_assert_eq!(Calls::decode(&bytes[..whole]), calls);
        }
    }
}
