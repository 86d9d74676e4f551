//! Names of the functions of the kernel that programs call, and what calling each means.
//!
//! Entry point: [`Functions::capabilities`]. The symbols of the kernel are read once, and again for kfuncs that were not seen before.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::super::instructions::{Calls, KfuncCall};
use super::super::targets::resolver::Resolver;
use crate::host::kallsyms::KernelSymbols;
use crate::model::program_capability::ProgramCapabilityRow;
use crate::model::{ProgramCapabilities, ProgramCapability};
use crate::sys::{Result, failed};
use crate::text::printable;

/// The name of a kfunc that the kernel does not show: one of a module, on a machine where calls have type ids.
const UNKNOWN: &str = "unknown";

/// Whether a call of a kfunc has the distance of the function. Other machines have its type id instead
/// (`bpf_jit_supports_far_kfunc_call`), but did not in older kernels.
const KFUNCS_HAVE_DISTANCES: bool = cfg!(target_arch = "x86_64");

/// A set of words: a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Words(u16);

const _: () = assert!(ProgramCapability::ALL.len() <= u16::BITS as usize);

impl Words {
    /// Returns the words of which this is true.
    fn of(is: impl Fn(&ProgramCapabilityRow) -> bool) -> Self {
        let words = ProgramCapability::ALL.into_iter().filter(|word| is(word.row()));
        words.fold(Self::default(), Self::with)
    }

    fn with(self, word: ProgramCapability) -> Self {
        Self(self.0 | 1 << word as u16)
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn to_vec(self) -> Vec<ProgramCapability> {
        let has = |word: &ProgramCapability| self.0 >> *word as u16 & 1 == 1;
        ProgramCapability::ALL.into_iter().filter(has).collect()
    }
}

/// The functions of the kernel that matter, by their distance from `__bpf_call_base`.
#[derive(Debug)]
pub(super) struct Functions {
    base: u64,
    helpers: HashMap<i32, Words>,
    /// The kernel's own code, which stays where it is: a module's function may be replaced by another module's.
    text: Range<u64>,
    /// Names of kfuncs of the kernel itself.
    kfuncs: HashMap<KfuncCall, String>,
}

impl Functions {
    /// Finds them among the kernel's symbols; `None` if these are hidden.
    pub(super) fn find(symbols: &KernelSymbols) -> Option<Self> {
        let by_name: HashMap<&[u8], Words> = ProgramCapability::ALL
            .into_iter()
            .flat_map(|word| word.row().helpers)
            .map(|name| (name.as_bytes(), Words::of(|row| row.helpers.contains(name))))
            .collect();
        let (mut base, mut text, mut found) = (None, 0..0, Vec::new());
        for (address, name) in symbols.all() {
            match name {
                b"__bpf_call_base" => base = Some(address),
                b"_stext" => text.start = address,
                b"_etext" => text.end = address,
                _ => found.extend(by_name.get(plain(name)).map(|&words| (address, words))),
            }
        }
        let base = base?;
        let distance = |(address, words)| Some((distance(base, address)?, words));
        let helpers = found.into_iter().filter_map(distance).collect();
        Some(Self { base, helpers, text, kfuncs: HashMap::new() })
    }

    /// Returns what a program of this type with these calls can do.
    ///
    /// # Errors
    ///
    /// That of reading `/proc/kallsyms` or the kernel's types, for a kfunc that was not seen before.
    pub(super) fn capabilities(
        &mut self,
        program_type: u32,
        calls: &Calls,
        names: &mut Resolver,
    ) -> Result<ProgramCapabilities> {
        let mut kfuncs = BTreeSet::new();
        for call in &calls.kfuncs {
            kfuncs.insert(self.kfunc(*call, names)?);
        }
        let helpers = calls.helpers.iter().filter_map(|distance| self.helpers.get(distance).copied());
        let of_kfuncs =
            kfuncs.iter().map(|name| Words::of(|row| row.kfuncs.iter().any(|kfunc| kfunc == name)));
        let words = without_calls(program_type, calls);
        let words = helpers.chain(of_kfuncs).fold(words, Words::and).to_vec();
        let kfuncs = kfuncs.into_iter().take(ProgramCapabilities::MAX_KFUNCS).collect();
        Ok(ProgramCapabilities { words, kfuncs })
    }

    /// Returns the name of a kfunc.
    fn kfunc(&mut self, call: KfuncCall, names: &mut Resolver) -> Result<String> {
        if let Some(name) = self.kfuncs.get(&call) {
            return Ok(name.clone());
        }
        for has_distance in [KFUNCS_HAVE_DISTANCES, !KFUNCS_HAVE_DISTANCES] {
            let found =
                if has_distance { self.kfunc_by_distance(call, names)? } else { kfunc_by_type(call, names)? };
            let Some((name, stays)) = found else { continue };
            if stays {
                self.kfuncs.insert(call, name.clone());
            }
            return Ok(name);
        }
        Ok(UNKNOWN.to_owned())
    }

    /// Returns the name of the function at a distance, and whether it stays there.
    fn kfunc_by_distance(&self, call: KfuncCall, names: &mut Resolver) -> Result<Option<(String, bool)>> {
        let address = self.base.wrapping_add_signed(call.immediate.into());
        let symbols = names.symbols().map_err(failed("/proc/kallsyms"))?;
        let name = symbols.starting_at(address).map(|name| printable(plain(name)));
        Ok(name.map(|name| (name, self.text.contains(&address))))
    }
}

/// Returns the name of the function of the kernel with a type id, which never changes.
fn kfunc_by_type(call: KfuncCall, names: &mut Resolver) -> Result<Option<(String, bool)>> {
    let Some(type_id) = u32::try_from(call.immediate).ok().filter(|_| call.object == 0) else {
        return Ok(None);
    };
    let types = names.btf().kernel()?;
    Ok(types.function(type_id).map(|name| (printable(name), true)))
}

/// Returns what a program of this type can do that calls no function of the kernel.
pub(super) fn of_type(program_type: u32, calls: &Calls) -> ProgramCapabilities {
    ProgramCapabilities { words: without_calls(program_type, calls).to_vec(), kfuncs: Vec::new() }
}

fn without_calls(program_type: u32, calls: &Calls) -> Words {
    let signs = [
        (calls.has_tail_call, ProgramCapability::TailCall),
        (calls.has_faulting_load, ProgramCapability::ReadKernelMemory),
        (calls.writes_packet, ProgramCapability::ChangePacket),
    ];
    let words = Words::of(|row| row.types.contains(&program_type));
    signs.into_iter().filter(|&(is_there, _)| is_there).fold(words, |words, (_, word)| words.with(word))
}

fn distance(base: u64, address: u64) -> Option<i32> {
    i32::try_from(address.wrapping_sub(base).cast_signed()).ok()
}

/// Returns a name without what compilers append to it (`.llvm.123`).
fn plain(name: &[u8]) -> &[u8] {
    name.split(|&byte| byte == b'.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::model::enums::program_type;

    const SYMBOLS: &str = "ffffffff81000000 T _stext\nffffffff81000100 T __bpf_call_base\n\
        ffffffff81000200 T bpf_probe_read_compat\nffffffff81000080 t bpf_send_signal.llvm.77\n\
        ffffffff81000300 T bpf_map_lookup_elem\nffffffff81000400 T bpf_send_signal_task\n\
        ffffffff82000000 T _etext\nffffffffc0000000 t bpf_of_module\t[module]\n";

    fn with(calls: &Calls, symbols: &str) -> (Functions, ProgramCapabilities, TempDir) {
        with_type(program_type::XDP, calls, symbols)
    }

    fn with_type(
        program_type: u32,
        calls: &Calls,
        symbols: &str,
    ) -> (Functions, ProgramCapabilities, TempDir) {
        let root = TempDir::new().expect("a temporary directory can be created");
        fs::create_dir(root.path().join("proc")).expect("the directory is writable");
        fs::write(root.path().join("proc/kallsyms"), symbols).expect("the directory is writable");
        let mut resolver = Resolver::below(root.path());
        let found = Functions::find(resolver.symbols().expect("the file is there"));
        let mut functions = found.expect("addresses are shown");
        let capabilities =
            functions.capabilities(program_type, calls, &mut resolver).expect("the files are there");
        (functions, capabilities, root)
    }

    fn kfunc(immediate: i32) -> KfuncCall {
        KfuncCall { immediate, object: 0 }
    }

    #[test]
    fn helpers_have_the_words_of_their_functions() {
        let calls = Calls { helpers: vec![-0x80, 0x100, 0x200, 0x777], ..Calls::default() };
        let (_, capabilities, _) = with(&calls, SYMBOLS);
        let words = [
            ProgramCapability::SendSignal,
            ProgramCapability::ReadKernelMemory,
            ProgramCapability::ReadUserMemory,
            ProgramCapability::DropPacket,
        ];
        assert_eq!(capabilities, ProgramCapabilities { words: words.to_vec(), kfuncs: Vec::new() });
    }

    #[test]
    #[cfg_attr(not(target_arch = "x86_64"), ignore = "calls have type ids")]
    fn kfuncs_have_names_which_are_kept_unless_a_module_may_be_unloaded() {
        let of_module = 0x3eff_ff00;
        let calls = Calls { kfuncs: [0x300, of_module, -7].map(kfunc).to_vec(), ..Calls::default() };
        let (functions, capabilities, root) = with(&calls, SYMBOLS);
        assert_eq!(
            capabilities.kfuncs,
            ["bpf_of_module", "bpf_send_signal_task", UNKNOWN].map(str::to_owned)
        );
        assert!(capabilities.words.contains(&ProgramCapability::SendSignal));
        assert_eq!(functions.kfuncs.keys().collect::<Vec<_>>(), [&kfunc(0x300)]);
        root.close().expect("the directory is writable");
    }

    #[test]
    fn hidden_symbols_are_no_functions() {
        let hidden = "0000000000000000 T __bpf_call_base\n0000000000000000 T bpf_send_signal\n";
        let symbols = KernelSymbols::read(hidden.as_bytes()).expect("memory is readable");
        assert!(Functions::find(&symbols).is_none());
    }

    #[test]
    fn types_and_signs_have_words_without_a_call() {
        let calls = Calls { has_tail_call: true, writes_packet: true, ..Calls::default() };
        let words = of_type(program_type::SCHED_CLS, &calls).words;
        let expected =
            [ProgramCapability::ChangePacket, ProgramCapability::DropPacket, ProgramCapability::TailCall];
        assert_eq!(words, expected);
        assert_eq!(of_type(program_type::LSM, &Calls::default()).words, [ProgramCapability::Lsm]);
        assert_eq!(of_type(program_type::KPROBE, &Calls::default()).words, []);
    }

    #[test]
    fn every_helper_of_the_table_has_exactly_its_words() {
        let names: BTreeSet<_> =
            ProgramCapability::ALL.into_iter().flat_map(|word| word.row().helpers).copied().collect();
        let of_types = of_type(program_type::KPROBE, &Calls::default()).words;
        assert_eq!(of_types, []);
        for name in names {
            let symbols = format!("ffffffff81000000 T __bpf_call_base\nffffffff81000200 T {name}\n");
            let calls = Calls { helpers: vec![0x200], ..Calls::default() };
            let (_, capabilities, _) = with_type(program_type::KPROBE, &calls, &symbols);
            let expected =
                ProgramCapability::ALL.into_iter().filter(|word| word.row().helpers.contains(&name));
            assert_eq!(capabilities.words, expected.collect::<Vec<_>>(), "{name}");
        }
        let of = |name: &'static str| {
            ProgramCapability::ALL.into_iter().filter(move |word| word.row().helpers.contains(&name))
        };
        assert!(of("bpf_probe_write_user").eq([ProgramCapability::WriteUserMemory]));
        assert!(of("bpf_override_return").eq([ProgramCapability::OverrideReturn]));
    }

    #[test]
    #[cfg_attr(not(target_arch = "x86_64"), ignore = "calls have type ids")]
    fn a_program_has_so_many_kfuncs_at_most() {
        let count = i32::try_from(ProgramCapabilities::MAX_KFUNCS).expect("a few") + 10;
        let lines = (1..=count).map(|number| {
            format!(
                "{:x} T bpf_k{number:03}\n",
                0xffff_ffff_8100_0000_u64 + u64::from(number.cast_unsigned())
            )
        });
        let symbols = format!("ffffffff81000000 T __bpf_call_base\n{}", lines.collect::<String>());
        let calls = Calls { kfuncs: (1..=count).map(kfunc).collect(), ..Calls::default() };
        let (_, capabilities, _) = with(&calls, &symbols);
        assert_eq!(capabilities.kfuncs.len(), ProgramCapabilities::MAX_KFUNCS);
        assert_eq!((&*capabilities.kfuncs[0], &*capabilities.kfuncs[63]), ("bpf_k001", "bpf_k064"));
    }

    #[test]
    fn every_helper_of_the_table_is_a_name_without_a_suffix() {
        for word in ProgramCapability::ALL {
            for name in word.row().helpers {
                assert_eq!(plain(name.as_bytes()), name.as_bytes());
            }
        }
    }
}
