//! BPF instructions, as many as a test program needs: numbers in registers and on the stack, maps, calls, one kind of jump.
//! Independent of program types; [`super::program`] knows the return values.

use super::map::Map;
use std::os::fd::AsRawFd;

/// One instruction (`struct bpf_insn`, include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

const MOV64_IMMEDIATE: u8 = 0xb7;
const MOV64_REGISTER: u8 = 0xbf;
const ADD64_IMMEDIATE: u8 = 0x07;
const LOAD_IMMEDIATE_64: u8 = 0x18;
const LOAD_32: u8 = 0x61;
const LOAD_64: u8 = 0x79;
const STORE_IMMEDIATE_64: u8 = 0x7a;
const STORE_IMMEDIATE_8: u8 = 0x72;
const JUMP_IF_ABOVE: u8 = 0x2d;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// In the source register of a 64-bit load: the immediate is the fd of a map.
const PSEUDO_MAP_FD: u8 = 1;
/// In the source register of a call: the immediate is a distance, not the number of a kernel function.
const PSEUDO_CALL: u8 = 1;
/// The same: the immediate is the type id of a function in the kernel's BTF.
const PSEUDO_KFUNC_CALL: u8 = 2;

impl Instruction {
    /// The register that points to the end of the stack.
    pub const STACK: u8 = 10;

    const fn new(code: u8, destination: u8, source: u8, immediate: i32) -> Self {
        // The kernel declares two 4-bit fields, whose order within the byte follows the byte order of the machine.
        let registers = if cfg!(target_endian = "little") {
            destination | source << 4
        } else {
            destination << 4 | source
        };
        Self { code, registers, offset: 0, immediate }
    }

    /// `register = value`.
    #[must_use]
    pub const fn mov(register: u8, value: i32) -> Self {
        Self::new(MOV64_IMMEDIATE, register, 0, value)
    }

    /// `register = other`.
    #[must_use]
    pub const fn copy(register: u8, other: u8) -> Self {
        Self::new(MOV64_REGISTER, register, other, 0)
    }

    /// `register += value`.
    #[must_use]
    pub const fn add(register: u8, value: i32) -> Self {
        Self::new(ADD64_IMMEDIATE, register, 0, value)
    }

    /// `register = *(u64 *)(address + offset)`.
    #[must_use]
    pub const fn load(register: u8, address: u8, offset: i16) -> Self {
        Self { offset, ..Self::new(LOAD_64, register, address, 0) }
    }

    /// `register = *(u32 *)(address + offset)`.
    #[must_use]
    pub const fn load_half(register: u8, address: u8, offset: i16) -> Self {
        Self { offset, ..Self::new(LOAD_32, register, address, 0) }
    }

    /// `*(u64 *)(stack + offset) = value`, where the stack lies below its pointer, register 10.
    #[must_use]
    pub const fn push(offset: i16, value: i32) -> Self {
        Self { offset, ..Self::new(STORE_IMMEDIATE_64, Self::STACK, 0, value) }
    }

    /// `*(u8 *)(address + offset) = value`.
    #[must_use]
    pub const fn store_byte(address: u8, offset: i16, value: i32) -> Self {
        Self { offset, ..Self::new(STORE_IMMEDIATE_8, address, 0, value) }
    }

    /// Goes on `distance` instructions after the next one, if `register` is above `other`.
    #[must_use]
    pub const fn skip_if_above(register: u8, other: u8, distance: i16) -> Self {
        Self { offset: distance, ..Self::new(JUMP_IF_ABOVE, register, other, 0) }
    }

    /// Goes on `distance` instructions after the next one, unless `register` is `value`.
    #[must_use]
    pub const fn skip_unless(register: u8, value: i32, distance: i16) -> Self {
        Self { offset: distance, ..Self::new(JUMP_UNLESS_EQUAL, register, 0, value) }
    }

    /// Calls a function of the kernel, one of [`super::uapi::helper`]: arguments in registers 1 to 5, the answer in 0.
    #[must_use]
    pub const fn call_helper(number: i32) -> Self {
        Self::new(CALL, 0, 0, number)
    }

    /// Calls the function of the kernel with this type id (5.13), as [`Self::call_helper`] does.
    #[must_use]
    pub const fn call_kfunc(type_id: u32) -> Self {
        Self::new(CALL, 0, PSEUDO_KFUNC_CALL, type_id.cast_signed())
    }

    /// `register = map`: the program then counts among the map's users. It takes two slots.
    #[must_use]
    pub fn load_map(register: u8, map: &Map) -> [Self; 2] {
        let first = Self::new(LOAD_IMMEDIATE_64, register, PSEUDO_MAP_FD, map.fd().as_raw_fd());
        [first, Self::new(0, 0, 0, 0)]
    }

    /// Calls the function that begins `distance` instructions after the next one.
    #[must_use]
    pub const fn call_function(distance: i32) -> Self {
        Self::new(CALL, 0, PSEUDO_CALL, distance)
    }

    /// Returns register 0.
    #[must_use]
    pub const fn exit() -> Self {
        Self::new(EXIT, 0, 0, 0)
    }

    /// The shortest program: `return value`.
    #[must_use]
    pub fn returning(value: i32) -> Vec<Self> {
        vec![Self::mov(0, value), Self::exit()]
    }

    /// A program that names each of `maps` and then returns `value`.
    #[must_use]
    pub fn using(maps: &[&Map], value: i32) -> Vec<Self> {
        let mut instructions: Vec<Self> = maps.iter().flat_map(|map| Self::load_map(1, map)).collect();
        instructions.extend(Self::returning(value));
        instructions
    }
}
