//! A program as the kernel loads it: a function of the object together with the functions that it calls.
//!
//! Entry point: [`LinkedProgram::link`].

use std::ptr;

use super::btf_ext::BtfExt;
use super::object::{
    CompiledObject, Function, INSTRUCTION_LEN, ObjectError, PSEUDO_CALL, PSEUDO_FUNCTION, Reference,
};
use crate::sys::bpf::uapi::{CoreRelocation, FunctionInfo, Instruction, LineInfo};

/// The source register of a load of a map by its descriptor; `BPF_PSEUDO_MAP_FD`.
const PSEUDO_MAP_FD: u8 = 1;

/// A program with resolved calls and unresolved maps.
#[derive(Clone, Debug, Default)]
pub(super) struct LinkedProgram<'a> {
    pub(super) instructions: Vec<Instruction>,
    pub(super) functions: Vec<FunctionInfo>,
    pub(super) lines: Vec<LineInfo>,
    pub(super) core_relocations: Vec<CoreRelocation>,
    /// The instructions that load a map, and its name.
    maps: Vec<(usize, &'a str)>,
}

impl<'a> LinkedProgram<'a> {
    /// Links a function with those that it calls, directly or through others, each once. The verifier refuses
    /// unreachable instructions, so only referenced functions are added.
    ///
    /// # Errors
    ///
    /// Those of [`CompiledObject::function`] and [`CompiledObject::reference`].
    pub(super) fn link(object: &'a CompiledObject<'_>, name: &str) -> Result<Self, ObjectError> {
        let main = object.function(name)?;
        let mut program = Self::default();
        let mut placed = vec![(main, program.append(object, main))];
        let mut next = 0;
        while let Some(&(function, start)) = placed.get(next) {
            next += 1;
            for index in function.range.clone() {
                let at = start + index - function.range.start;
                let (callee, source) = match object.reference(function, index)? {
                    None => continue,
                    Some(Reference::Map(name)) => {
                        program.maps.push((at, name));
                        continue;
                    }
                    Some(Reference::Call(callee)) => (callee, PSEUDO_CALL),
                    Some(Reference::Address(callee)) => (callee, PSEUDO_FUNCTION),
                };
                let start = placed.iter().find(|(function, _)| ptr::eq(*function, callee));
                let start = start.map(|&(_, start)| start);
                let target = start.unwrap_or_else(|| {
                    let start = program.append(object, callee);
                    placed.push((callee, start));
                    start
                });
                let position = |index: usize| i32::try_from(index).expect("programs are short");
                program.refer(at, source, position(target) - position(at) - 1);
            }
        }
        Ok(program)
    }

    /// Replaces references to maps by their descriptors.
    ///
    /// # Errors
    ///
    /// Whatever `fd` returns for the name of a map.
    pub(super) fn resolve_maps<E>(&mut self, fd: impl Fn(&str) -> Result<i32, E>) -> Result<(), E> {
        for (at, name) in std::mem::take(&mut self.maps) {
            self.refer(at, PSEUDO_MAP_FD, fd(name)?);
        }
        Ok(())
    }

    /// Appends a function with its descriptions, and returns its start.
    fn append(&mut self, object: &CompiledObject<'_>, function: &Function<'_>) -> usize {
        let start = self.instructions.len();
        let (instructions, section) = object.code(function);
        self.instructions.extend(instructions);
        let bytes =
            |instructions: usize| u32::try_from(instructions * INSTRUCTION_LEN).expect("objects are small");
        let from = bytes(function.range.start)..bytes(function.range.end);
        let to = bytes(start);
        // The kernel counts instructions in the first two, and bytes in the last.
        let in_bytes = |offset: u32| offset - from.start + to;
        let in_instructions = |offset: u32| in_bytes(offset) / bytes(1);
        let BtfExt { functions, lines, core_relocations } = &object.descriptions;
        self.functions.extend(functions.moved(
            section,
            &from,
            |function| &mut function.insn_off,
            in_instructions,
        ));
        self.lines.extend(lines.moved(section, &from, |line| &mut line.insn_off, in_instructions));
        let relocations =
            core_relocations.moved(section, &from, |relocation| &mut relocation.insn_off, in_bytes);
        self.core_relocations.extend(relocations);
        start
    }

    /// Sets the source register and the immediate of an instruction.
    fn refer(&mut self, at: usize, source: u8, immediate: i32) {
        let instruction = &mut self.instructions[at];
        instruction.registers = instruction.registers & 0xf | source << 4;
        instruction.immediate = immediate;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::OBJECT;
    use super::*;

    const PROGRAMS: [&str; 7] = [
        "bpf_metrics_exporter_program",
        "bpf_metrics_exporter_program_pass",
        "bpf_metrics_exporter_map",
        "bpf_metrics_exporter_map_pass",
        "bpf_metrics_exporter_link",
        "bpf_metrics_exporter_files",
        "bpf_metrics_exporter_bpffs",
    ];

    fn object() -> CompiledObject<'static> {
        CompiledObject::parse(OBJECT).expect("the committed object is well-formed")
    }

    /// Where the functions of a program start, and their names.
    fn functions(object: &CompiledObject<'_>, program: &LinkedProgram<'_>) -> Vec<(usize, String)> {
        let name = |type_id| object.types.function(type_id).expect("the type is a function").to_vec();
        let functions = program.functions.iter().map(|function| {
            (function.insn_off as usize, String::from_utf8(name(function.type_id)).expect("names are ASCII"))
        });
        functions.collect()
    }

    #[test]
    fn a_program_is_linked_with_the_functions_that_it_refers_to() {
        let object = object();
        for name in PROGRAMS {
            let program = LinkedProgram::link(&object, name).expect("its references are in the object");
            let functions = functions(&object, &program);
            assert_eq!(functions[0], (0, name.to_owned()));
            assert!(functions.is_sorted(), "{functions:?}");
            let mut referred = BTreeSet::from([0]);
            for (at, instruction) in program.instructions.iter().enumerate() {
                let is_reference = match instruction.code {
                    0x18 => instruction.registers >> 4 == PSEUDO_FUNCTION,
                    0x85 => instruction.registers >> 4 == PSEUDO_CALL,
                    _ => false,
                };
                if is_reference {
                    referred.insert(
                        at.checked_add_signed(instruction.immediate as isize + 1).expect("it is inside"),
                    );
                }
            }
            let starts: BTreeSet<_> = functions.iter().map(|&(start, _)| start).collect();
            assert_eq!(referred, starts, "{name}: each function is referred to, and nothing else");
        }
    }

    #[test]
    fn functions_are_copied_with_their_lines_and_relocations() {
        let object = object();
        for name in PROGRAMS {
            let program = LinkedProgram::link(&object, name).expect("its references are in the object");
            let len = u32::try_from(program.instructions.len()).expect("it is short");
            assert!(program.lines.is_sorted_by_key(|line| line.insn_off));
            for function in &program.functions {
                let starts = |line: &LineInfo| line.insn_off == function.insn_off;
                assert!(
                    program.lines.iter().any(starts),
                    "{name}: the kernel refuses a function without a line"
                );
            }
            assert!(program.lines.iter().all(|line| line.insn_off < len));
            assert!(!program.core_relocations.is_empty());
            for relocation in &program.core_relocations {
                assert!(relocation.insn_off.is_multiple_of(8) && relocation.insn_off / 8 < len);
            }
            for (start, function) in functions(&object, &program) {
                let (instructions, _) = object.code(object.function(&function).expect("it has a symbol"));
                let linked = &program.instructions[start..][..instructions.len()];
                let without_references = |of: &[Instruction]| {
                    of.iter().map(|of| (of.code, of.registers & 0xf, of.offset)).collect::<Vec<_>>()
                };
                assert_eq!(without_references(linked), without_references(instructions));
            }
        }
    }

    #[test]
    fn maps_are_loaded_by_their_descriptors() {
        let object = object();
        let mut program =
            LinkedProgram::link(&object, PROGRAMS[0]).expect("its references are in the object");
        let places = program.maps.clone();
        let names: BTreeSet<_> = places.iter().map(|&(_, name)| name).collect();
        assert!(names.contains("bpfmetrics_cpus") && names.contains("bpfmetrics_req"), "{names:?}");
        let defined: BTreeSet<_> = object.maps.iter().map(|map| &*map.name).collect();
        assert!(names.is_subset(&defined), "{defined:?}");
        let fd = |name: &str| i32::try_from(name.len()).map_err(|_| ());
        program.resolve_maps(fd).expect("names are short");
        for (at, name) in places {
            let instruction = program.instructions[at];
            assert_eq!((instruction.registers >> 4, Ok(instruction.immediate)), (PSEUDO_MAP_FD, fd(name)));
        }
    }

    #[test]
    fn maps_are_defined_as_the_programs_use_them() {
        let maps = object().maps;
        let cpus = maps.iter().find(|map| map.name == "bpfmetrics_cpus").expect("it is in the object");
        assert_eq!((cpus.map_type, cpus.key_size, cpus.value_size, cpus.max_entries), (2, 4, 16, 1));
        assert!(
            maps.iter()
                .all(|map| map.key_size == 4 && map.value_size > 0 && map.key_type_id != map.value_type_id)
        );
    }

    #[test]
    fn the_error_names_a_missing_function() {
        let missing = LinkedProgram::link(&object(), "missing").map(|_| ());
        assert_eq!(missing, Err(ObjectError::NoFunction("missing".to_owned())));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn damaged_objects_do_not_panic(
            damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
            len in prop::option::of(0..OBJECT.len()),
        ) {
            let mut data = OBJECT[..len.unwrap_or(OBJECT.len())].to_vec();
            for (place, byte) in damages.iter().filter(|_| !data.is_empty()).collect::<Vec<_>>() {
                let place = place.index(data.len());
                data[place] = *byte;
            }
            if let Ok(object) = CompiledObject::parse(&data) {
                for name in PROGRAMS {
                    let _result = LinkedProgram::link(&object, name);
                }
            }
        }

        #[test]
        fn damaged_tables_do_not_panic(
            // The symbols, relocations and section headers follow the code.
            damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut data = OBJECT.to_vec();
            let tables = u64::from_le_bytes(data[40..48].try_into().expect("eight bytes"));
            let tables = usize::try_from(tables).expect("it is small");
            for (place, byte) in damages {
                let len = data.len() - tables;
                data[tables + place.index(len)] = byte;
            }
            if let Ok(object) = CompiledObject::parse(&data) {
                for name in PROGRAMS {
                    let _result = LinkedProgram::link(&object, name);
                }
            }
        }
    }
}
