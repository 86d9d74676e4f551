//! The compiled object `bpf/collector.bpf.o`: functions with relocations and descriptions, maps and BTF.
//!
//! Entry point: [`CompiledObject::parse`]. Independent of the kernel that it is loaded into.

use std::collections::HashMap;
use std::ffi::CStr;
use std::ops::Range;

use object::read::elf::{ElfFile64, ElfSection64};
use object::{
    Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex,
    SectionKind, SymbolKind,
};
use zerocopy::FromBytes as _;

use super::btf_ext::BtfExt;
use crate::kernel::btf::Types;
use crate::sys::bpf::MapDefinition;
use crate::sys::bpf::uapi::Instruction;

/// The length of an instruction in bytes.
pub(super) const INSTRUCTION_LEN: usize = size_of::<Instruction>();

/// Loads 8 bytes that follow in this and the next instruction; `BPF_LD | BPF_IMM | BPF_DW`.
const LOAD_IMMEDIATE: u8 = 0x18;
/// `BPF_JMP | BPF_CALL`.
const CALL: u8 = 0x85;
/// The source register of a call to a function of the program; `BPF_PSEUDO_CALL`.
pub(super) const PSEUDO_CALL: u8 = 1;
/// That of a load of the address of such a function; `BPF_PSEUDO_FUNC`.
pub(super) const PSEUDO_FUNCTION: u8 = 4;

/// Why an object cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ObjectError {
    #[error("not a readable ELF file: {0}")]
    Elf(#[from] object::Error),
    #[error("not for the byte order of this machine")]
    Endianness,
    #[error("section {0} is missing")]
    NoSection(&'static str),
    #[error("section {0} is malformed")]
    Section(String),
    #[error("function {0} is missing")]
    NoFunction(String),
    #[error("no function at instruction {index} of section {section}")]
    NoFunctionAt { section: String, index: usize },
    #[error("the reference at instruction {index} of section {section} is not supported")]
    Reference { section: String, index: usize },
    #[error("map {0} is missing")]
    NoMap(String),
}

/// An object, its functions not yet linked.
#[derive(Debug)]
pub(super) struct CompiledObject<'a> {
    pub(super) types: Types,
    pub(super) maps: Vec<MapDefinition>,
    pub(super) license: &'a CStr,
    /// Function info, line info and CO-RE relocations of each section of code.
    pub(super) descriptions: BtfExt,
    code: HashMap<SectionIndex, Code<'a>>,
    functions: Vec<Function<'a>>,
}

/// A section of code.
#[derive(Debug)]
struct Code<'a> {
    name: &'a str,
    instructions: Vec<Instruction>,
    /// The symbols that instructions refer to, by index of the instruction.
    relocations: HashMap<usize, Symbol<'a>>,
}

/// The target of a relocation.
#[derive(Clone, Copy, Debug)]
enum Symbol<'a> {
    Map(&'a str),
    /// An offset in a section of code; the instruction adds a distance to it.
    Code(SectionIndex, i64),
    Other,
}

/// A function of the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function<'a> {
    pub(super) name: &'a str,
    pub(super) section: SectionIndex,
    /// Its instructions in the section.
    pub(super) range: Range<usize>,
}

/// The target of an instruction's reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference<'a> {
    Map(&'a str),
    Call(&'a Function<'a>),
    /// The address of a function.
    Address(&'a Function<'a>),
}

impl<'a> CompiledObject<'a> {
    /// Parses an ELF file.
    ///
    /// # Errors
    ///
    /// [`ObjectError`]; a section of variables is reported where an instruction refers to one.
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, ObjectError> {
        let elf = ElfFile64::<Endianness>::parse(data)?;
        if elf.endianness() != Endianness::default() {
            return Err(ObjectError::Endianness);
        }
        let contents = |name| -> Result<&'a [u8], ObjectError> {
            Ok(elf.section_by_name(name).ok_or(ObjectError::NoSection(name))?.data()?)
        };
        let license = CStr::from_bytes_until_nul(contents("license")?);
        let license = license.map_err(|_| ObjectError::Section("license".to_owned()))?;

        let maps = elf.section_by_name(".maps").map(|section| section.index());
        let mut code = HashMap::new();
        for section in elf.sections().filter(|section| section.kind() == SectionKind::Text) {
            code.insert(section.index(), Code::parse(&elf, &section, maps)?);
        }
        let functions = elf.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
        let functions = functions.filter_map(|symbol| {
            let section = symbol.section_index()?;
            let start = usize::try_from(symbol.address()).ok()?;
            let end = start.checked_add(usize::try_from(symbol.size()).ok()?)?;
            let range = start / INSTRUCTION_LEN..end / INSTRUCTION_LEN;
            code.get(&section)?.instructions.get(range.clone())?;
            Some(Function { name: symbol.name().ok()?, section, range })
        });
        let functions = functions.collect();

        let malformed = || ObjectError::Section(".BTF".to_owned());
        let mut types = Types::parse(contents(".BTF")?.to_vec(), None);
        let section_size = |name: &[u8]| elf.section_by_name_bytes(name)?.size().try_into().ok();
        let variable_offset = |name: &[u8]| {
            let mut symbols = elf.symbols().filter(|symbol| symbol.kind() == SymbolKind::Data);
            symbols.find(|symbol| symbol.name_bytes() == Ok(name))?.address().try_into().ok()
        };
        types.lay_out_sections(section_size, variable_offset).ok_or_else(malformed)?;
        let maps = types.map_definitions().ok_or_else(malformed)?;
        let descriptions = BtfExt::parse(contents(".BTF.ext")?, &types);
        let descriptions = descriptions.ok_or_else(|| ObjectError::Section(".BTF.ext".to_owned()))?;
        Ok(Self { types, maps, license, descriptions, code, functions })
    }

    /// Returns the names of all functions.
    pub(super) fn function_names(&self) -> impl Iterator<Item = &'a str> {
        self.functions.iter().map(|function| function.name)
    }

    pub(super) fn function(&self, name: &str) -> Result<&Function<'a>, ObjectError> {
        let function = self.functions.iter().find(|function| function.name == name);
        function.ok_or_else(|| ObjectError::NoFunction(name.to_owned()))
    }

    /// Returns the instructions of a function, and the name of their section.
    pub(super) fn code(&self, function: &Function<'_>) -> (&[Instruction], &'a str) {
        let code = &self.code[&function.section];
        (&code.instructions[function.range.clone()], code.name)
    }

    /// Returns the reference of the instruction at an index of a function's section, if it has one.
    ///
    /// # Errors
    ///
    /// [`ObjectError::Reference`] for a reference to something other than a map or function; [`ObjectError::NoFunctionAt`].
    pub(super) fn reference(
        &self,
        function: &Function<'_>,
        index: usize,
    ) -> Result<Option<Reference<'_>>, ObjectError> {
        let code = &self.code[&function.section];
        let instruction = code.instructions[index];
        let unsupported = || ObjectError::Reference { section: code.name.to_owned(), index };
        let immediate = i64::from(instruction.immediate);
        let bytes = |instructions: i64| 8 * instructions;
        let relative = || bytes(i64::try_from(index).expect("objects are small") + immediate + 1);
        let source = instruction.registers >> 4;
        let relocation = code.relocations.get(&index).copied();
        let is_load = instruction.code == LOAD_IMMEDIATE;
        if is_load && index + 1 >= function.range.end {
            return Err(unsupported());
        }
        let (section, offset) = match (instruction.code, relocation) {
            (LOAD_IMMEDIATE, Some(Symbol::Map(name))) if immediate == 0 => {
                return Ok(Some(Reference::Map(name)));
            }
            (LOAD_IMMEDIATE, Some(Symbol::Code(section, offset))) => {
                (section, offset.saturating_add(immediate))
            }
            (CALL, Some(Symbol::Code(section, offset))) => {
                (section, offset.saturating_add(bytes(immediate + 1)))
            }
            // Within a section there is no relocation, and the distance is from the next instruction.
            (LOAD_IMMEDIATE, None) if source == PSEUDO_FUNCTION => (function.section, relative()),
            (CALL, None) if source == PSEUDO_CALL => (function.section, relative()),
            (_, None) => return Ok(None),
            (_, Some(_)) => return Err(unsupported()),
        };
        let starts = |callee: &&Function<'_>| {
            callee.section == section && i64::try_from(callee.range.start * INSTRUCTION_LEN) == Ok(offset)
        };
        let callee = self
            .functions
            .iter()
            .find(starts)
            .ok_or_else(|| ObjectError::NoFunctionAt { section: code.name.to_owned(), index })?;
        Ok(Some(if is_load { Reference::Address(callee) } else { Reference::Call(callee) }))
    }
}

impl<'a> Code<'a> {
    fn parse(
        elf: &ElfFile64<'a>,
        section: &ElfSection64<'a, '_>,
        maps: Option<SectionIndex>,
    ) -> Result<Self, ObjectError> {
        let name = section.name()?;
        let instructions = section.data()?.chunks(INSTRUCTION_LEN).map(Instruction::read_from_bytes);
        let instructions = instructions.collect::<Result<_, _>>();
        let instructions = instructions.map_err(|_| ObjectError::Section(name.to_owned()))?;
        let mut relocations = HashMap::new();
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
            let symbol = elf.symbol_by_index(symbol)?;
            let symbol = match symbol.section_index() {
                Some(section) if Some(section) == maps => Symbol::Map(symbol.name()?),
                Some(section) => {
                    let is_code = elf.section_by_index(section)?.kind() == SectionKind::Text;
                    let offset = i64::try_from(symbol.address()).ok().filter(|_| is_code);
                    offset.map_or(Symbol::Other, |offset| Symbol::Code(section, offset))
                }
                None => Symbol::Other,
            };
            relocations.insert(usize::try_from(offset).unwrap_or(usize::MAX) / INSTRUCTION_LEN, symbol);
        }
        Ok(Self { name, instructions, relocations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: SectionIndex = SectionIndex(1);
    const ITERATOR: SectionIndex = SectionIndex(2);

    fn instruction(code: u8, source: u8, immediate: i32) -> Instruction {
        Instruction { code, registers: source << 4, offset: 0, immediate }
    }

    fn function(name: &'static str, section: SectionIndex, range: Range<usize>) -> Function<'static> {
        Function { name, section, range }
    }

    /// Two functions of two instructions in `.text`, and one of these instructions, some of them with relocations.
    fn example(
        instructions: &[Instruction],
        relocations: &[(usize, Symbol<'static>)],
    ) -> CompiledObject<'static> {
        let code = |name, instructions: &[Instruction], relocations: &[(usize, Symbol<'static>)]| Code {
            name,
            instructions: instructions.to_vec(),
            relocations: relocations.iter().copied().collect(),
        };
        let exit = instruction(0x95, 0, 0);
        let types = Types::parse(Vec::new(), None);
        let no_records = [0x0001_eb9f_u32, 32, 0, 0, 0, 0, 0, 0].map(u32::to_ne_bytes);
        CompiledObject {
            descriptions: BtfExt::parse(no_records.as_flattened(), &types).expect("it is well-formed"),
            types,
            maps: Vec::new(),
            license: c"GPL",
            code: HashMap::from([
                (TEXT, code(".text", &[exit; 4], &[])),
                (ITERATOR, code("iter/task", instructions, relocations)),
            ]),
            functions: vec![
                function("first", TEXT, 0..2),
                function("second", TEXT, 2..4),
                function("main", ITERATOR, 0..instructions.len()),
            ],
        }
    }

    /// What the first of two instructions refers to: the kind and the name.
    fn referred(
        first: Instruction,
        relocation: Option<Symbol<'static>>,
    ) -> Result<Option<(&'static str, String)>, ObjectError> {
        let relocations: Vec<_> = relocation.map(|symbol| (0, symbol)).into_iter().collect();
        let object = example(&[first, instruction(0, 0, 0)], &relocations);
        let main = object.function("main")?;
        Ok(object.reference(main, 0)?.map(|reference| match reference {
            Reference::Map(name) => ("map", name.to_owned()),
            Reference::Call(function) => ("call", function.name.to_owned()),
            Reference::Address(function) => ("address", function.name.to_owned()),
        }))
    }

    #[test]
    fn relocations_refer_to_maps_and_functions() {
        let load = |immediate| instruction(LOAD_IMMEDIATE, 0, immediate);
        let call = |immediate| instruction(CALL, PSEUDO_CALL, immediate);
        let found = |kind, name: &str| Ok(Some((kind, name.to_owned())));
        assert_eq!(referred(load(0), Some(Symbol::Map("m"))), found("map", "m"));
        // Relative to the section in bytes, or to the function itself.
        assert_eq!(referred(load(16), Some(Symbol::Code(TEXT, 0))), found("address", "second"));
        assert_eq!(referred(load(0), Some(Symbol::Code(TEXT, 16))), found("address", "second"));
        // In instructions from the next one.
        assert_eq!(referred(call(1), Some(Symbol::Code(TEXT, 0))), found("call", "second"));
        assert_eq!(referred(call(-1), Some(Symbol::Code(TEXT, 0))), found("call", "first"));
        assert_eq!(referred(call(-1), Some(Symbol::Code(TEXT, 16))), found("call", "second"));
    }

    #[test]
    fn references_within_a_section_need_no_relocation() {
        assert_eq!(referred(instruction(CALL, PSEUDO_CALL, -1), None), Ok(Some(("call", "main".to_owned()))));
        let load = instruction(LOAD_IMMEDIATE, PSEUDO_FUNCTION, -1);
        assert_eq!(referred(load, None), Ok(Some(("address", "main".to_owned()))));
        assert_eq!(referred(instruction(CALL, 0, 1), None), Ok(None), "a helper");
        assert_eq!(referred(instruction(LOAD_IMMEDIATE, 0, 1), None), Ok(None), "a number");
    }

    #[test]
    fn other_references_are_refused() {
        let unsupported = Err(ObjectError::Reference { section: "iter/task".to_owned(), index: 0 });
        let nothing = Err(ObjectError::NoFunctionAt { section: "iter/task".to_owned(), index: 0 });
        let load = |immediate| instruction(LOAD_IMMEDIATE, 0, immediate);
        assert_eq!(referred(load(0), Some(Symbol::Other)), unsupported, "a variable");
        assert_eq!(referred(load(8), Some(Symbol::Map("m"))), unsupported, "the middle of a map");
        assert_eq!(referred(instruction(0xb7, 0, 0), Some(Symbol::Map("m"))), unsupported);
        assert_eq!(referred(load(8), Some(Symbol::Code(TEXT, 0))), nothing, "the middle of a function");
        assert_eq!(referred(instruction(CALL, PSEUDO_CALL, 9), None), nothing);
        let object = example(&[load(0)], &[(0, Symbol::Map("m"))]);
        let main = object.function("main").expect("it is there");
        assert!(object.reference(main, 0).is_err(), "half an instruction");
    }
}
