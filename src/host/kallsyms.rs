//! Names of kernel functions by address, from `/proc/kallsyms`.
//!
//! Entry point: [`KernelSymbols::read`]. The table takes some megabytes, so it is kept only while addresses are looked up.

use std::io::{self, BufRead, BufReader, Read};

/// In place of a module: machine code of BPF programs.
const OF_PROGRAMS: &[u8] = b"\t[bpf]";

/// The functions of the kernel and of its modules.
#[derive(Debug, Default)]
pub(crate) struct KernelSymbols {
    /// The names, concatenated.
    names: Vec<u8>,
    /// Address, offset in `names` and length of each name, in ascending order of addresses.
    symbols: Vec<(u64, u32, u16)>,
}

impl KernelSymbols {
    /// Reads `/proc/kallsyms`: `ffffffff81000000 T _text`, and the module after a tab.
    ///
    /// All addresses are 0 for a process without `CAP_SYSLOG` (`kptr_restrict`); such lines and malformed ones are skipped.
    ///
    /// It ends where the machine code of BPF programs begins, behind all modules (`update_iter_mod`, `kernel/kallsyms.c`): for each of
    /// these lines the kernel walks the list of all programs from its start, so that 7,000 programs take it two seconds.
    ///
    /// # Errors
    ///
    /// Returns the error of reading the file.
    pub(crate) fn read(file: impl Read) -> io::Result<Self> {
        let mut symbols = Self::default();
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line)? > 0 && !line.trim_ascii_end().ends_with(OF_PROGRAMS) {
            symbols.add(&line);
            line.clear();
        }
        // A stable sort: several names of one address stay in the order of the file.
        symbols.symbols.sort_by_key(|&(address, ..)| address);
        Ok(symbols)
    }

    /// Returns whether a file has no address but 0. Only its start is read: the symbols of a CPU's data, which come first, have
    /// small addresses.
    ///
    /// # Errors
    ///
    /// Returns the error of reading the file.
    pub(crate) fn are_hidden(file: impl Read) -> io::Result<bool> {
        const ENOUGH: u64 = 1 << 13;
        let mut start = Vec::new();
        file.take(ENOUGH).read_to_end(&mut start)?;
        let lines = start.split(|&byte| byte == b'\n');
        let mut addresses = lines.filter_map(|line| line.split(u8::is_ascii_whitespace).next());
        Ok(addresses.all(|address| address.iter().all(|&digit| digit == b'0')))
    }

    /// Returns every name with its address, in ascending order of addresses.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.symbols.iter().map(|&(address, at, len)| (address, &self.names[at as usize..][..len.into()]))
    }

    /// Returns the first name of the function that begins at an address.
    pub(crate) fn starting_at(&self, address: u64) -> Option<&[u8]> {
        let first = self.symbols.partition_point(|&(other, ..)| other < address);
        let &(_, at, len) = self.symbols.get(first).filter(|&&(start, ..)| start == address)?;
        Some(&self.names[at as usize..][..len.into()])
    }

    fn add(&mut self, line: &[u8]) -> Option<()> {
        let mut fields = line.split(u8::is_ascii_whitespace);
        let address = u64::from_str_radix(str::from_utf8(fields.next()?).ok()?, 16).ok()?;
        let is_code = matches!(fields.next()?, b"t" | b"T" | b"w" | b"W");
        let name = fields.next()?;
        if address != 0 && is_code && !name.is_empty() {
            let symbol = (address, u32::try_from(self.names.len()).ok()?, u16::try_from(name.len()).ok()?);
            self.symbols.push(symbol);
            self.names.extend_from_slice(name);
        }
        Some(())
    }

    /// Returns the first name of the function that contains an address, and the offset into the function.
    ///
    /// Where functions begin with a landing pad for indirect branches (`endbr64`), some kernels place probes after its four
    /// bytes: that is offset 0, too.
    pub(crate) fn find(&self, address: u64) -> Option<(&[u8], u64)> {
        const LANDING_PAD: u64 = 4;
        let after = self.symbols.partition_point(|&(start, ..)| start <= address);
        let (start, ..) = *self.symbols.get(after.checked_sub(1)?)?;
        let first = self.symbols.partition_point(|&(other, ..)| other < start);
        let (_, at, len) = self.symbols[first];
        let name = &self.names[at as usize..][..len.into()];
        let offset = address - start;
        Some((name, if cfg!(target_arch = "x86_64") && offset == LANDING_PAD { 0 } else { offset }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &[u8] = b"ffffffff81000020 T second\nffffffff81000000 T first\n\
        ffffffff81000020 t alias_of_second\nffffffff81000010 D data\n\
        ffffffffc0000000 t in_module\t[module]\n0000000000000000 T hidden\nno line at all\n";

    #[test]
    fn an_address_belongs_to_the_symbol_at_or_before_it() {
        let symbols = KernelSymbols::read(EXAMPLE).expect("memory is readable");
        let find = |address| symbols.find(address).map(|(name, offset)| (str::from_utf8(name), offset));
        assert_eq!(find(0xffff_ffff_8100_0000), Some((Ok("first"), 0)));
        assert_eq!(find(0xffff_ffff_8100_0010), Some((Ok("first"), 0x10)));
        assert_eq!(find(0xffff_ffff_8100_0020), Some((Ok("second"), 0)));
        assert_eq!(find(0xffff_ffff_c000_0005), Some((Ok("in_module"), 5)));
        assert_eq!(find(0xffff), None);
        let starting_at = |address| symbols.starting_at(address).map(str::from_utf8);
        assert_eq!(starting_at(0xffff_ffff_8100_0020), Some(Ok("second")));
        assert_eq!(starting_at(0xffff_ffff_8100_0024), None, "it is within the function");
        assert_eq!(starting_at(u64::MAX), None);
        let names: Vec<_> = symbols.all().map(|(_, name)| str::from_utf8(name).expect("ASCII")).collect();
        assert_eq!(names, ["first", "second", "alias_of_second", "in_module"]);
        assert_eq!(KernelSymbols::read(&b""[..]).expect("memory is readable").find(1), None);
    }

    #[test]
    fn programs_and_what_follows_them_are_not_read() {
        let file = [EXAMPLE, b"ffffffffc0001000 t bpf_prog_1_one\t[bpf]\n", &vec![b'x'; 1 << 20]].concat();
        let mut rest = &file[..];
        let symbols = KernelSymbols::read(&mut rest).expect("memory is readable");
        assert_eq!(symbols.all().count(), 4);
        assert!(rest.len() > 1 << 19, "most is not read");
    }

    #[test]
    fn addresses_are_hidden_if_all_are_zero() {
        let are_hidden = |file: &str| KernelSymbols::are_hidden(file.as_bytes()).expect("memory is readable");
        assert!(are_hidden("0000000000000000 A first\n0000000000000000 T second\n"));
        assert!(!are_hidden("0000000000000000 A first\n0000000000001000 A second\n"));
        assert!(are_hidden(""));
    }

    proptest! {
        #[test]
        fn malformed_lines_do_not_panic(text in "([0-9a-f]{0,17}[ \t][tTdD ]{0,2} [a-z\\[\\]\t]{0,9}\n){0,5}", address: u64) {
            let symbols = KernelSymbols::read(text.as_bytes()).expect("memory is readable");
            symbols.find(address);
        }
    }
}
