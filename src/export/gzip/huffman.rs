//! Huffman codes with a longest length. Entry points: [`lengths`], [`codes`]. Source: RFC 1951, section 3.2.2.

/// A symbol's code, in the order of bits in which it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) bits: u16,
    pub(super) len: u8,
}

/// The longest length of any code, and one more.
const LENGTHS: usize = 16;

/// Returns the length of each symbol's code by how often it occurs, `limit` at most; 0 if it does not.
pub(super) fn lengths(counts: &[u32], limit: u8) -> Vec<u8> {
    let mut lengths = vec![0; counts.len()];
    let mut symbols: Vec<usize> = (0..counts.len()).filter(|&symbol| counts[symbol] > 0).collect();
    symbols.sort_unstable_by_key(|&symbol| counts[symbol]);
    if let [only] = symbols[..] {
        lengths[only] = 1;
    }
    if symbols.len() < 2 {
        return lengths;
    }
    let mut of_length = depths(&symbols.iter().map(|&symbol| counts[symbol]).collect::<Vec<_>>(), limit);
    shorten(&mut of_length[..=limit.into()]);
    // The rarest have the longest.
    let mut rarest = symbols.into_iter();
    for length in (1..=limit).rev() {
        for symbol in rarest.by_ref().take(of_length[usize::from(length)]) {
            lengths[symbol] = length;
        }
    }
    lengths
}

/// Returns how many leaves of the tree for these weights, ascending, are at each depth; those deeper than `limit` count as there.
fn depths(weights: &[u32], limit: u8) -> [usize; LENGTHS] {
    // Leaves and inner nodes are two queues in ascending order of weights.
    let leaves = weights.len();
    let mut weights = weights.to_vec();
    let mut parents = vec![0; 2 * leaves - 1];
    let (mut leaf, mut inner) = (0, leaves);
    for node in leaves..2 * leaves - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            let next = if leaf < leaves && (inner == node || weights[leaf] <= weights[inner]) {
                &mut leaf
            } else {
                &mut inner
            };
            parents[*next] = node;
            weight += weights[*next];
            *next += 1;
        }
        weights.push(weight);
    }
    let mut depths = vec![0_u8; parents.len()];
    let mut of_depth = [0; LENGTHS];
    for node in (0..parents.len() - 1).rev() {
        depths[node] = depths[parents[node]].saturating_add(1);
        if node < leaves {
            of_depth[usize::from(depths[node].min(limit))] += 1;
        }
    }
    of_depth
}

/// Makes numbers of codes by length possible: where too many have the longest, others get longer.
fn shorten(of_length: &mut [usize]) {
    let limit = of_length.len() - 1;
    let mut taken: usize = (1..=limit).map(|length| of_length[length] << (limit - length)).sum();
    while taken > 1 << limit {
        // One of the longest takes the place beside a shorter one, which gets a bit longer.
        let shorter = (1..limit).rev().find(|&length| of_length[length] > 0);
        let shorter = shorter.expect("not all have the longest: there are fewer symbols than codes");
        of_length[limit] -= 1;
        of_length[shorter] -= 1;
        of_length[shorter + 1] += 2;
        taken -= 1;
    }
}

/// Returns the codes with these lengths.
pub(super) fn codes(lengths: &[u8]) -> Vec<Code> {
    let mut of_length = [0_u16; LENGTHS];
    for &length in lengths.iter().filter(|&&length| length > 0) {
        of_length[usize::from(length)] += 1;
    }
    let mut next = [0_u16; LENGTHS];
    for length in 1..LENGTHS {
        next[length] = (next[length - 1] + of_length[length - 1]) << 1;
    }
    let code = |&len: &u8| {
        if len == 0 {
            return Code::default();
        }
        let next = &mut next[usize::from(len)];
        let bits = next.reverse_bits() >> (u16::BITS - u32::from(len));
        *next = next.wrapping_add(1);
        Code { bits, len }
    };
    lengths.iter().map(code).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of the RFC.
    #[test]
    fn codes_are_those_of_the_format() {
        let written = |code: &Code| (code.bits.reverse_bits() >> (16 - code.len), code.len);
        let codes: Vec<_> = codes(&[3, 3, 3, 3, 3, 2, 4, 4]).iter().map(written).collect();
        let expected =
            [(0b010, 3), (0b011, 3), (0b100, 3), (0b101, 3), (0b110, 3), (0b00, 2), (0b1110, 4), (0b1111, 4)];
        assert_eq!(codes, expected);
    }

    proptest! {
        #[test]
        fn codes_are_complete_and_limited(counts in prop::collection::vec(0_u32..1 << 20, 2..286)) {
            let counts: Vec<u32> = counts.into_iter().map(|count| count >> (count % 20)).collect();
            for limit in [9, 15] {
                let lengths = lengths(&counts, limit);
                let used = counts.iter().filter(|&&count| count > 0).count();
                prop_assert_eq!(lengths.iter().filter(|&&length| length > 0).count(), used);
                prop_assert!(lengths.iter().all(|&length| length <= limit));
                let taken: usize = lengths.iter().filter(|&&length| length > 0).map(|&length| 1 << (limit - length)).sum();
                prop_assert!(used < 2 || taken == 1 << limit, "{taken}");
                for (one, length) in counts.iter().zip(&lengths) {
                    let is_shorter = |(other, theirs): (&u32, &u8)| *other > 0 && other < one && theirs < length;
                    prop_assert!(*one == 0 || !counts.iter().zip(&lengths).any(is_shorter), "rarer ones are no shorter");
                }
            }
        }
    }
}
