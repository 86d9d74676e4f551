//! The names of the kernel's functions by their addresses, from `/proc/kallsyms`.
//! Holds some megabytes: for the moment in which an address has to be named. Begin at [`Symbols::read`].

use std::io::{self, BufRead, BufReader, Read};

/// The functions of the kernel and of its modules.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    /// The names, one behind the other.
    names: Vec<u8>,
    /// Addresses, ascending, with the place of the name and its length.
    places: Vec<(u64, u32, u16)>,
}

impl Symbols {
    /// Reads `/proc/kallsyms`: `ffffffff81000000 T _text`, and the module behind a tab. Who may not know addresses sees all of
    /// them as 0; such a line names nothing, nor does one that is not well formed.
    ///
    /// # Errors
    ///
    /// Those of reading a file.
    pub(crate) fn read(file: impl Read) -> io::Result<Self> {
        let mut symbols = Self::default();
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut line = Vec::new();
        while file.read_until(b'\n', &mut line)? > 0 {
            symbols.add(&line);
            line.clear();
        }
        // Several names for one address stay in the order of the file.
        symbols.places.sort_by_key(|&(address, ..)| address);
        Ok(symbols)
    }

    fn add(&mut self, line: &[u8]) -> Option<()> {
        let mut fields = line.split(u8::is_ascii_whitespace);
        let address = u64::from_str_radix(str::from_utf8(fields.next()?).ok()?, 16).ok()?;
        let is_code = matches!(fields.next()?, b"t" | b"T" | b"w" | b"W");
        let name = fields.next()?;
        if address != 0 && is_code && !name.is_empty() {
            let place = (address, u32::try_from(self.names.len()).ok()?, u16::try_from(name.len()).ok()?);
            self.places.push(place);
            self.names.extend_from_slice(name);
        }
        Some(())
    }

    /// The first name of the function that an address is in, and how far in.
    ///
    /// Where functions begin with a landing pad for indirect branches (`endbr64`), probes of some kernels stand behind its
    /// four bytes: that is the beginning, too.
    pub(crate) fn find(&self, address: u64) -> Option<(&[u8], u64)> {
        const LANDING_PAD: u64 = 4;
        let behind = self.places.partition_point(|&(begin, ..)| begin <= address);
        let (begin, ..) = *self.places.get(behind.checked_sub(1)?)?;
        let first = self.places.partition_point(|&(other, ..)| other < begin);
        let (_, at, len) = self.places[first];
        let name = &self.names[at as usize..][..len.into()];
        let offset = address - begin;
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
    fn an_address_has_the_symbol_at_or_before_it() {
        let symbols = Symbols::read(EXAMPLE).expect("it can be read");
        let find = |address| symbols.find(address).map(|(name, offset)| (str::from_utf8(name), offset));
        assert_eq!(find(0xffff_ffff_8100_0000), Some((Ok("first"), 0)));
        assert_eq!(find(0xffff_ffff_8100_0010), Some((Ok("first"), 0x10)));
        assert_eq!(find(0xffff_ffff_8100_0020), Some((Ok("second"), 0)));
        assert_eq!(find(0xffff_ffff_c000_0005), Some((Ok("in_module"), 5)));
        assert_eq!(find(0xffff), None);
        assert_eq!(Symbols::read(&b""[..]).expect("nothing can be read").find(1), None);
    }

    proptest! {
        #[test]
        fn damaged_lines_are_read_without_harm(text in "([0-9a-f]{0,17}[ \t][tTdD ]{0,2} [a-z\\[\\]\t]{0,9}\n){0,5}", address: u64) {
            let symbols = Symbols::read(text.as_bytes()).expect("it can be read");
            symbols.find(address);
        }
    }
}
