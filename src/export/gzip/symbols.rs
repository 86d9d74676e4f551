//! The symbols of lengths and distances. Source: RFC 1951, section 3.2.5.

/// Literals, the end of a block, and lengths of matches.
pub(super) const LITERALS: usize = 286;

/// Distances of matches.
pub(super) const DISTANCES: usize = 30;

/// The symbol of the end of a block; those of lengths follow.
pub(super) const END: usize = 256;

/// The longest match.
pub(super) const MAX_MATCH: usize = 258;

/// The order in which the lengths of the code for lengths are written.
pub(super) const LENGTHS_ORDER: [usize; 19] =
    [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// The shortest length of each symbol, and the number of bits behind it.
#[expect(clippy::cast_possible_truncation, reason = "the numbers are below 300")]
const LENGTHS: [(u16, u32); LITERALS - END - 1] = {
    let mut lengths = [(0, 0); LITERALS - END - 1];
    let (mut symbol, mut base) = (0, 3);
    while symbol < lengths.len() {
        let extra = if symbol < 8 { 0 } else { symbol as u32 / 4 - 1 };
        lengths[symbol] = (base, extra);
        base += 1 << extra;
        symbol += 1;
    }
    // The longest has a symbol of its own.
    lengths[lengths.len() - 1] = (MAX_MATCH as u16, 0);
    lengths
};

/// The symbol of each length.
#[expect(clippy::cast_possible_truncation, reason = "there are 29 symbols")]
static SYMBOLS: [u8; MAX_MATCH + 1] = {
    let mut symbols = [0; MAX_MATCH + 1];
    let mut symbol = 0;
    while symbol < LENGTHS.len() {
        let mut length = LENGTHS[symbol].0 as usize;
        while length <= MAX_MATCH {
            symbols[length] = symbol as u8;
            length += 1;
        }
        symbol += 1;
    }
    symbols
};

/// Returns the symbol of a length, counted from the first of lengths.
pub(super) fn length_symbol(length: usize) -> usize {
    SYMBOLS[length].into()
}

/// Returns the shortest length of a symbol, and the number of bits behind it.
pub(super) fn length_base(symbol: usize) -> (u16, u32) {
    LENGTHS[symbol]
}

/// Returns the symbol of a distance, the bits behind it, and their number.
#[expect(clippy::cast_possible_truncation, reason = "there are 13 bits at most")]
pub(super) const fn distance_symbol(distance: usize) -> (usize, u16, u32) {
    let distance = distance - 1;
    if distance < 4 {
        return (distance, 0, 0);
    }
    let log = distance.ilog2();
    let extra_bits = log - 1;
    let symbol = 2 * log as usize + (distance >> extra_bits & 1);
    (symbol, (distance & ((1 << extra_bits) - 1)) as u16, extra_bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables of the RFC.
    #[test]
    fn symbols_are_those_of_the_format() {
        let lengths =
            [(3, 0, 0), (10, 7, 0), (11, 8, 1), (18, 11, 1), (130, 23, 4), (257, 27, 5), (258, 28, 0)];
        for (length, symbol, extra_bits) in lengths {
            assert_eq!(length_symbol(length), symbol, "{length}");
            assert_eq!(length_base(symbol).1, extra_bits, "{length}");
        }
        assert_eq!(length_base(23).0, 115);
        for (distance, expected) in [
            (1, (0, 0, 0)),
            (4, (3, 0, 0)),
            (5, (4, 0, 1)),
            (24, (8, 7, 3)),
            (24577, (29, 0, 13)),
            (32768, (29, 8191, 13)),
        ] {
            assert_eq!(distance_symbol(distance), expected, "{distance}");
        }
    }
}
